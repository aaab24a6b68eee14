"""What a page of docs/ shows: the files, and the commands in their order."""

from __future__ import annotations

import re

from authz.demo.parts import CHECKOUT


class Page:
    """A page in which a file is a fence whose first line names it, and a command is indented."""

    def __init__(self, name: str) -> None:
        text = (CHECKOUT / "docs" / name).read_text("utf-8")
        fence = re.compile(r"^```yaml\n# (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
        self.files: dict[str, str] = dict(fence.findall(text))
        self.commands: list[str] = re.findall(r"^    (\S.*)$", fence.sub("", text), re.MULTILINE)
