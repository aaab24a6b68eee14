"""Kong's certificates, those of services and those that services are verified by.

authz decides nothing by them; the Envoy that is written needs them.  So a value that cannot
be read here (a ``{vault://…}`` reference, no PEM) is no error: the entity has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from authz.kong.document import MappingNode, Scalar, Unresolved
from authz.model import Certificate
from authz.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PEM = "-----BEGIN "


def read_certificates(mappings: Iterable[MappingNode]) -> Iterator[Certificate]:
    """Yield the entities that have an id: nothing else can name one.

    Of ``certificates`` and of ``ca_certificates``, which have no key.
    """
    for mapping in mappings:
        identity = _text(mapping, "id")
        if identity is not None:
            key = _pem(mapping, "key")
            yield Certificate(
                id=identity,
                position=mapping.position,
                chain=_pem(mapping, "cert"),
                key=None if key is None else Secret(key),
            )


def _pem(mapping: MappingNode, field: str) -> str | None:
    text = _text(mapping, field)
    return text if text is not None and text.lstrip().startswith(_PEM) else None


def _text(mapping: MappingNode, field: str) -> str | None:
    node = mapping.get(field)
    return node.text if isinstance(node, Scalar) and not isinstance(node, Unresolved) else None
