"""Who may ask, and where their credentials stand."""

from __future__ import annotations

from dataclasses import dataclass

from authz.parameters.common import (
    AUTH_METHODS,
    CREDENTIAL_LOCATIONS,
    FINDS_FEWER,
    FLAG,
    LOCATIONS,
    LOCATIONS_BY_DEFAULT,
    METHODS_BY_DEFAULT,
    TEXT,
    choices,
)
from authz.parameters.declaration import DONE, param, partly, refused


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerParameters:
    """Who may ask, and where their credentials stand."""

    auth_methods: tuple[str, ...] = param(
        choices(*AUTH_METHODS),
        AUTH_METHODS,
        here=METHODS_BY_DEFAULT,
        becomes=DONE,
        about="the ways in which callers may prove who they are",
    )
    run_on_preflight: bool = param(
        FLAG, default=True, becomes=DONE, about="whether OPTIONS requests need a credential too"
    )
    anonymous: str | None = param(
        TEXT,
        becomes=refused(FINDS_FEWER),
        about="the consumer that stands for callers without a good credential",
    )
    client_credentials_param_type: tuple[str, ...] = param(
        LOCATIONS,
        CREDENTIAL_LOCATIONS,
        here=LOCATIONS_BY_DEFAULT,
        becomes=DONE,
        used_by=frozenset({"client_credentials"}),
        about="where a client's id and secret may stand",
    )
    password_param_type: tuple[str, ...] = param(
        LOCATIONS,
        CREDENTIAL_LOCATIONS,
        here=LOCATIONS_BY_DEFAULT,
        becomes=DONE,
        used_by=frozenset({"password"}),
        about="where a user's name and password may stand",
    )
    bearer_token_param_type: tuple[str, ...] = param(
        choices(*CREDENTIAL_LOCATIONS, "cookie"),
        CREDENTIAL_LOCATIONS,
        here=LOCATIONS_BY_DEFAULT,
        becomes=partly(
            *CREDENTIAL_LOCATIONS, without="callers who send their token in a cookie get 401"
        ),
        used_by=frozenset({"bearer", "introspection", "kong_oauth2", "userinfo"}),
        about="where a bearer token may stand",
    )
    bearer_token_header_name: str | None = param(
        TEXT,
        becomes=refused(FINDS_FEWER, "let callers send the token in the Authorization header"),
        used_by=frozenset({"bearer"}),
        about="the only header that a bearer token is read from",
    )
    bearer_token_cookie_name: str | None = param(
        TEXT,
        becomes=refused(FINDS_FEWER, "let callers send the token in the Authorization header"),
        used_by=frozenset({"bearer"}),
        about="the cookie that a bearer token is read from",
    )
    id_token_param_name: str | None = param(
        TEXT, becomes=refused(FINDS_FEWER), about="the name under which an ID token is sent"
    )
    id_token_param_type: tuple[str, ...] = param(
        LOCATIONS,
        CREDENTIAL_LOCATIONS,
        becomes=refused(FINDS_FEWER),
        about="where an ID token may stand",
    )
    refresh_token_param_name: str | None = param(
        TEXT,
        becomes=refused(FINDS_FEWER),
        used_by=frozenset({"refresh_token"}),
        about="the name under which a refresh token is sent",
    )
    refresh_token_param_type: tuple[str, ...] = param(
        LOCATIONS,
        CREDENTIAL_LOCATIONS,
        becomes=refused(FINDS_FEWER),
        used_by=frozenset({"refresh_token"}),
        about="where a refresh token may stand",
    )
