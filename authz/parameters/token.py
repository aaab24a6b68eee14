"""What makes a token valid, whoever brought it."""

from __future__ import annotations

from dataclasses import dataclass

from authz.parameters.common import (
    AUTH_METHODS,
    FILLED,
    FLAG,
    LEEWAY_SECONDS_MAX,
    NUMBER,
    TEXT,
    TEXTS,
    TURNS_AWAY,
    UNSAFE,
    choices,
)
from authz.parameters.declaration import DONE, param, refused
from authz.parameters.kinds import Number


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenParameters:
    """What makes a token valid, whoever brought it.

    ``AccessParameters`` says what a valid token must hold besides.
    """

    audience: tuple[str, ...] = param(
        FILLED, becomes=DONE, about="whom a token must be for; asked of the token endpoint too"
    )
    leeway: float = param(
        Number(minimum=0, maximum=LEEWAY_SECONDS_MAX),
        0,
        becomes=DONE,
        about="seconds by which clocks may differ",
    )
    verify_signature: bool = param(
        FLAG, default=True, becomes=DONE, about="must stay true: signatures are always checked"
    )
    verify_claims: bool = param(
        FLAG, default=True, becomes=DONE, about="must stay true: claims are always checked"
    )
    enable_hs_signatures: bool = param(
        FLAG, default=False, becomes=UNSAFE, about="whether shared secrets may sign tokens"
    )
    ignore_signature: tuple[str, ...] = param(
        choices(*(name for name in AUTH_METHODS if name not in {"bearer", "kong_oauth2"})),
        (),
        becomes=UNSAFE,
        about="methods whose tokens are not verified",
    )
    max_age: float | None = param(
        NUMBER,
        becomes=refused(TURNS_AWAY),
        about="seconds since the user's last login (claim auth_time)",
    )
    domains: tuple[str, ...] = param(
        TEXTS,
        becomes=refused(
            TURNS_AWAY,
            "if scopes_required is free, write scopes_claim: [hd] and the domains under "
            "scopes_required",
        ),
        about="the domains that a token may be for (claim hd)",
    )
    jwt_session_claim: str = param(
        TEXT, "sid", becomes=refused(TURNS_AWAY), about="the claim that a cookie must repeat"
    )
    jwt_session_cookie: str | None = param(
        TEXT, becomes=refused(TURNS_AWAY), about="the cookie that must repeat that claim"
    )
