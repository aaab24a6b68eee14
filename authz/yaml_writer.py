"""Values as YAML that Envoy and Kubernetes read as they were written.

PyYAML decides by its own reader which texts need quotes.  Envoy's reader (yaml-cpp) and
Go's take a few more texts for a boolean or a number, so these are quoted too.
"""

from __future__ import annotations

import re
from typing import Any

import yaml


class _Dumper(yaml.CSafeDumper):
    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the signature is PyYAML's
        """Write a value that is used twice in full: an anchor is hard to read."""
        return True


_BOOLEAN = re.compile("[yYnN]$")
_NUMBER = re.compile(
    r"[-+]?(?:0[oO][0-7_]+|0[xX][0-9a-fA-F_]+|0[bB][01_]+|[0-9]+"
    r"|(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)[eE][-+]?[0-9]+)$"
)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:bool", _BOOLEAN, list("yYnN"))
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER, list("-+.0123456789"))


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    """Write a text of several lines as it stands, where YAML can: files within a file."""
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def write(value: Any) -> str:  # noqa: ANN401 - any value that JSON has
    """Return ``value`` (what JSON can say) as one YAML document in block style."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=-1)
    return text
