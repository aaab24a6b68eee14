"""Debian's lighttpd with one CGI program, which prints the environment that it was given."""

from __future__ import annotations

import shutil
from collections import defaultdict
from typing import TYPE_CHECKING

from authz.demo.parts import LOOPBACK, Process, answers, free_port

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = "/environment.cgi"

_CONFIGURATION = """
server.bind = "{host}"
server.port = {port}
server.document-root = "{directory}"
server.modules = ("mod_cgi")
cgi.assign = (".cgi" => "")
"""
# Not env: of a variable that stands there twice it would tell one value.
_SCRIPT = """#!/bin/sh
printf 'Content-Type: application/octet-stream\\r\\n\\r\\n'
exec cat /proc/$$/environ
"""


class Lighttpd(Process):
    """A real CGI server: many names of headers become one variable there (RFC 3875)."""

    name = "lighttpd"

    def __init__(self) -> None:
        super().__init__()
        self.port = free_port()

    def command(self, directory: Path) -> list[str]:
        """Write the program and the configuration; return the command line."""
        binary = shutil.which("lighttpd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
        assert binary, "lighttpd is missing: apt-get install lighttpd"
        program = directory / PROGRAM[1:]
        program.write_text(_SCRIPT)
        program.chmod(0o755)
        configuration = directory / "lighttpd.conf"
        configuration.write_text(
            _CONFIGURATION.format(host=LOOPBACK, port=self.port, directory=directory)
        )
        return [binary, "-D", "-f", str(configuration)]

    def is_ready(self) -> bool:
        """Whether the program answers."""
        return answers(f"http://{LOOPBACK}:{self.port}{PROGRAM}")


def variable(header: str) -> str:
    """Return the variable that a header becomes (RFC 3875 section 4.1.18)."""
    return "HTTP_" + header.upper().replace("-", "_")


def environment(body: bytes) -> dict[str, list[str]]:
    """Read what the program has printed: each variable, and every value that it has."""
    variables: dict[str, list[str]] = defaultdict(list)
    for line in body.decode("latin-1").split("\0"):
        name, _, value = line.partition("=")
        variables[name].append(value)
    return variables
