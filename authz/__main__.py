"""``python -m authz``."""

from __future__ import annotations

from authz.cli import main

main(prog_name="authz")
