"""What is asked of the userinfo endpoint (OpenID Connect Core section 5.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from authz.parameters import checks
from authz.parameters.common import FILLED, FLAG, SECRETS, URL, choice
from authz.parameters.declaration import DONE, param, partly
from authz.parameters.kinds import Array, SecretText, Text

if TYPE_CHECKING:
    from authz.secret import Secret

_METHOD = frozenset({"userinfo"})


@dataclass(frozen=True, slots=True, kw_only=True)
class UserinfoParameters:
    """What is asked of the userinfo endpoint (OpenID Connect Core section 5.3)."""

    userinfo_endpoint: str | None = param(
        URL,
        becomes=DONE,
        used_by=_METHOD,
        about="the userinfo endpoint, instead of what is discovered",
    )
    userinfo_accept: str = param(
        choice("application/json", "application/jwt"),
        "application/json",
        becomes=partly("application/json", without="the answer is JSON that nobody has signed"),
        used_by=_METHOD,
        about="the kind of answer that is asked for",
    )
    userinfo_headers_names: tuple[str, ...] = param(
        Array(Text(check=checks.header_name)),
        becomes=DONE,
        used_by=_METHOD,
        about="the names of further headers",
    )
    # Values for the provider are API keys, as a rule.
    userinfo_headers_values: tuple[Secret, ...] = param(
        Array(SecretText(check=checks.header_value)),
        becomes=DONE,
        used_by=_METHOD,
        about="their values",
    )
    userinfo_headers_client: tuple[str, ...] = param(
        Array(Text(check=checks.forwarded_header)),
        becomes=DONE,
        used_by=_METHOD,
        about="headers of the caller that are passed on",
    )
    userinfo_query_args_names: tuple[str, ...] = param(
        FILLED, becomes=DONE, used_by=_METHOD, about="the names of further arguments"
    )
    userinfo_query_args_values: tuple[Secret, ...] = param(
        SECRETS, becomes=DONE, used_by=_METHOD, about="their values"
    )
    userinfo_query_args_client: tuple[str, ...] = param(
        Array(Text(check=checks.argument_name)),
        becomes=DONE,
        used_by=_METHOD,
        about="arguments of the caller that are passed on",
    )
    cache_user_info: bool = param(
        FLAG,
        default=True,
        becomes=DONE,
        used_by=_METHOD,
        about="whether answers are kept",
    )
