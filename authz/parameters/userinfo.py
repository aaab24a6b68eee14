"""What is asked of the userinfo endpoint (OpenID Connect Core section 5.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from authz.parameters.common import (
    ASKED_OTHERWISE,
    FLAG,
    KEPT,
    SECRETS,
    TEXT,
    TEXTS,
    choice,
)
from authz.parameters.declaration import param

if TYPE_CHECKING:
    from authz.secret import Secret

_METHOD = frozenset({"userinfo"})


@dataclass(frozen=True, slots=True, kw_only=True)
class UserinfoParameters:
    """What is asked of the userinfo endpoint (OpenID Connect Core section 5.3)."""

    userinfo_endpoint: str | None = param(
        TEXT,
        becomes=ASKED_OTHERWISE,
        used_by=_METHOD,
        about="the userinfo endpoint, instead of what is discovered",
    )
    userinfo_accept: str = param(
        choice("application/json", "application/jwt"),
        "application/json",
        becomes=ASKED_OTHERWISE,
        used_by=_METHOD,
        about="the kind of answer that is asked for",
    )
    userinfo_headers_names: tuple[str, ...] = param(
        TEXTS, becomes=ASKED_OTHERWISE, used_by=_METHOD, about="the names of further headers"
    )
    userinfo_headers_values: tuple[Secret, ...] = param(
        SECRETS, becomes=ASKED_OTHERWISE, used_by=_METHOD, about="their values"
    )
    userinfo_headers_client: tuple[str, ...] = param(
        TEXTS,
        becomes=ASKED_OTHERWISE,
        used_by=_METHOD,
        about="headers of the caller that are passed on",
    )
    userinfo_query_args_names: tuple[str, ...] = param(
        TEXTS, becomes=ASKED_OTHERWISE, used_by=_METHOD, about="the names of further arguments"
    )
    userinfo_query_args_values: tuple[Secret, ...] = param(
        SECRETS, becomes=ASKED_OTHERWISE, used_by=_METHOD, about="their values"
    )
    userinfo_query_args_client: tuple[str, ...] = param(
        TEXTS,
        becomes=ASKED_OTHERWISE,
        used_by=_METHOD,
        about="arguments of the caller that are passed on",
    )
    cache_user_info: bool = param(
        FLAG,
        default=True,
        becomes=KEPT,
        used_by=_METHOD,
        about="whether answers are kept",
    )
