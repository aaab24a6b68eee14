"""Texts that are derived from the code: ``make derived`` writes them, a test holds them equal."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click
from support.configuration import load_files

from authz.cli import main
from authz.envoy.bootstrap import BootstrapOptions, render
from authz.settings import DECLARED
from authz.settings.declared import SWITCH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from authz.settings.declared import Setting

ROOT = Path(__file__).parents[2]
HELP_COLUMNS = 100
KUBERNETES = ROOT / "deploy" / "kubernetes"

SIDECAR_HEAD = """\
# What this prints, with the decK file of ../../base:
#
#   authz envoy -c kong.yaml --authz unix:/run/authz/authz.sock --listen 0.0.0.0:8000 \\
#     --connect-to httpbin.kong.svc.cluster.local:8000:127.0.0.1:8080
#
# The last says that the service's host is this pod: its application, on loopback.
"""

TABLE = re.compile(r"(?<=<!-- settings: make derived -->\n).*?(?=<!-- end -->)", re.DOTALL)


def readme(text: str) -> str:
    """Return the README with the table of the settings that the server has."""
    rows = "".join(map(_row, DECLARED.values()))
    table = f"\n| flag | default | |\n|---|---|---|\n{rows}\n"
    derived, tables = TABLE.subn(lambda _: table, text)
    assert tables == 1
    return derived


def command_help(_text: str) -> str:
    """Return what ``--help`` prints, of every command."""
    return "\n".join(_helps("authz", main, None))


def sidecar_envoy(_text: str) -> str:
    """Return the Envoy that stands beside the application in the same pod."""
    gateway = load_files(KUBERNETES / "base" / "kong.yaml")
    options = BootstrapOptions(
        authz="/run/authz/authz.sock",
        listen=("0.0.0.0", 8000),  # noqa: S104 - the pod's address, which it does not know
        connect_to={("httpbin.kong.svc.cluster.local", 8000): ("127.0.0.1", 8080)},
    )
    return SIDECAR_HEAD + render(gateway, options)


def copied(name: str) -> Callable[[str], str]:
    """Return what gives a file's text: helm reads none from outside its chart."""
    return lambda _text: (ROOT / name).read_text("utf-8")


DERIVED: dict[str, Callable[[str], str]] = {
    "README.md": readme,
    "tests/cli/help.txt": command_help,
    "deploy/kubernetes/overlays/sidecar/envoy.yaml": sidecar_envoy,
    **{
        f"deploy/helm/authz/files/{name}": copied(f"deploy/observability/{name}")
        for name in ("grafana-dashboard.json", "prometheus-rules.yaml")
    },
}
"""What makes each text anew, given the present one."""


def _row(setting: Setting) -> str:
    forms = setting.kind.choices or (setting.kind.metavar,)
    *short, long = setting.flags
    flags = ", ".join(f"`{flag}`" for flag in (*short, f"{long} {'|'.join(forms)}".rstrip()))
    meaning = f"{setting.help} Repeatable." if setting.repeatable else setting.help
    escaped = flags.replace("|", r"\|")
    return f"| {escaped} | {_default(setting)} | {meaning} |\n"


def _default(setting: Setting) -> str:
    if setting.kind is SWITCH:
        return "on" if setting.default else "off"
    return ", ".join(f"`{text}`" for text in setting.default_texts) or setting.unset


def _helps(name: str, command: click.Command, above: click.Context | None) -> Iterator[str]:
    with command.make_context(name, [], above, resilient_parsing=True) as context:
        context.terminal_width = HELP_COLUMNS
        yield f"$ {context.command_path} --help\n{command.get_help(context)}\n"
        if isinstance(command, click.Group):
            for each in sorted(command.commands):
                yield from _helps(each, command.commands[each], context)


if __name__ == "__main__":
    for name, derive in DERIVED.items():
        path = ROOT / name
        before = path.read_text("utf-8") if path.exists() else ""
        path.write_text(derive(before), "utf-8")
