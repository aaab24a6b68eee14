"""What a page of docs/ shows: the files, and the commands in their order."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

from authz.demo.parts import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

COMMAND_SECONDS = 120


class Page:
    """A page in which a file is a fence whose first line names it, and a command is indented."""

    def __init__(self, name: str) -> None:
        text = (CHECKOUT / "docs" / name).read_text("utf-8")
        fence = re.compile(r"^```yaml\n# (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
        self.files: dict[str, str] = dict(fence.findall(text))
        self.commands: list[str] = re.findall(r"^    (\S.*)$", fence.sub("", text), re.MULTILINE)


def run(command: str, directory: Path, environment: Mapping[str, str]) -> str:
    """Run a command as a reader would, and return what it says; it may not fail or warn."""
    done = subprocess.run(  # noqa: S602 - the page's commands are for a shell
        command,
        shell=True,
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert "arning" not in done.stderr, f"{command}\n{done.stderr}"
    return done.stdout
