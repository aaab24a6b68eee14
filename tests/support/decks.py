"""Files for Kong as people write them, in ``tests/decks``: several to a file, each with a name."""

from __future__ import annotations

import re
from pathlib import Path

_DIRECTORY = Path(__file__).parents[1] / "decks"


def decks() -> dict[str, str]:
    """Return the text of each, by its name: the comment in its first line."""
    found: dict[str, str] = {}
    for path in sorted(_DIRECTORY.glob("*.yaml")):
        for text in re.split(r"^---\n", path.read_text("utf-8"), flags=re.MULTILINE):
            name = text.partition("\n")[0].removeprefix("# ")
            assert name not in found, f"two are called {name}"
            found[name] = text
    return found
