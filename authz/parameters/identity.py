"""Who the caller is to the upstream: consumer, credential and groups."""

from __future__ import annotations

from dataclasses import dataclass

from authz.parameters.common import CLAIM, FINDS_FEWER, FLAG, TEXT, TEXTS, TURNS_AWAY, UNSAFE
from authz.parameters.declaration import DONE, param, refused
from authz.parameters.kinds import Array, Object, Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Principals:
    """Kong Identity's directory."""

    directory: str = param(TEXT, "default")
    enabled: bool = param(FLAG, default=False)
    error_on_miss: bool = param(FLAG, default=True)
    match_consumer: bool = param(FLAG, default=True)
    match_consumer_groups: bool = param(FLAG, default=True)
    principal_by: str | None = param(TEXT)
    principal_claim: tuple[str, ...] = param(TEXTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityParameters:
    """Who the caller is to the upstream: consumer, credential and groups."""

    consumer_claims: tuple[tuple[str, ...], ...] = param(
        Array(CLAIM), becomes=DONE, about="paths to the claim that names the consumer, in order"
    )
    consumer_claim: tuple[str, ...] = param(
        CLAIM, becomes=DONE, about="one such path, as it was written up to 3.13"
    )
    consumer_by: tuple[str, ...] = param(
        Array(Text(allowed=("username", "custom_id", "id")), at_least=1),
        ("username", "custom_id"),
        becomes=DONE,
        about="what of a consumer that claim names",
    )
    by_username_ignore_case: bool = param(
        FLAG, default=False, becomes=DONE, about="whether case does not matter in user names"
    )
    consumer_optional: bool = param(
        FLAG, default=False, becomes=DONE, about="whether callers without a consumer may pass"
    )
    credential_claim: tuple[str, ...] = param(
        CLAIM, ("sub",), becomes=DONE, about="the path to the caller's id, where no consumer is"
    )
    consumer_groups_claim: tuple[str, ...] = param(
        TEXTS, becomes=refused(TURNS_AWAY), about="the path to the caller's consumer groups"
    )
    consumer_groups_optional: bool = param(
        FLAG, default=False, becomes=UNSAFE, about="whether callers without such a group may pass"
    )
    authenticated_groups_claim: tuple[str, ...] = param(
        TEXTS,
        becomes=refused("the acl plugin and the upstream would see no groups"),
        about="the path to the groups for the acl plugin",
    )
    search_user_info: bool = param(
        FLAG,
        default=False,
        becomes=refused(FINDS_FEWER),
        about="whether claims are looked for at the userinfo endpoint too",
    )
    resolve_distributed_claims: bool = param(
        FLAG,
        default=False,
        becomes=refused(FINDS_FEWER),
        about="whether claims that stand elsewhere are fetched",
    )
    principals: Principals | None = param(
        Object(Principals),
        becomes=refused(TURNS_AWAY),
        about="the lookup of callers in Kong Identity",
    )
