"""File descriptors: how many the bounds may need, and whether the process may have as many."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

from authz import admin, transport

if TYPE_CHECKING:
    from authz.settings import Settings

SPARE = 128
"""For what has no bound of its own: logs, listeners, the loop, files that are read."""


def allow_enough(settings: Settings) -> str | None:
    """Raise the process's soft limit as far as the bounds may need; say so if that is too little.

    Without the privilege a process may raise its soft limit up to the hard one (setrlimit(2)).
    Workers inherit it.
    """
    callers, operators = transport.LIMITS.connections, admin.LIMITS.connections
    needed = callers + operators + settings.idp.concurrency + SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _reaches(soft, needed):
        return None
    allowed = needed if _reaches(hard, needed) else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed == needed:
        return None
    return (
        f"the process may have {allowed} files open (ulimit -n), and its bounds need {needed}: "
        f"{callers} connections of callers, {operators} of operators, "
        f"{settings.idp.concurrency} to each identity provider, {SPARE} others; "
        f"when it has none left, new connections fail: raise the limit (LimitNOFILE= in systemd)"
    )


def _reaches(limit: int, wanted: int) -> bool:
    return limit == resource.RLIM_INFINITY or limit >= wanted
