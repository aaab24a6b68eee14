"""What is kept of tokens, for how long, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from authz.parameters import checks
from authz.parameters.common import FLAG, KEPT, LIFETIME, OWN_MEMORY, SECONDS, choice, choices
from authz.parameters.declaration import DONE, param
from authz.parameters.kinds import Object, SecretText
from authz.parameters.redis import Redis

if TYPE_CHECKING:
    from authz.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryParameters:
    """What is kept of tokens, for how long, and where.

    ``cache_ttl``, for what has no life of its own, stands in ``ReachParameters``.
    """

    cache_tokens: bool = param(
        FLAG, default=True, becomes=DONE, about="whether tokens of the token endpoint are kept"
    )
    cache_tokens_salt: Secret | None = param(
        SecretText(check=checks.filled),
        becomes=DONE,
        about="plugins share tokens only if their salts are equal",
    )
    cache_ttl_max: float | None = param(
        LIFETIME, becomes=DONE, about="seconds: no token is kept longer"
    )
    cache_ttl_min: float | None = param(
        SECONDS, becomes=DONE, about="seconds: a token is kept that long, but not past its end"
    )
    cache_ttl_neg: float | None = param(
        LIFETIME, becomes=DONE, about="seconds for which a refused secret is remembered"
    )
    cache_ttl_resurrect: float | None = param(
        SECONDS, becomes=DONE, about="seconds for which a token serves on while the provider is out"
    )
    token_cache_key_include_scope: bool = param(
        FLAG, default=False, becomes=DONE, about="scopes are always part of the key"
    )
    cache_token_exchange: bool = param(
        FLAG, default=True, becomes=KEPT, about="whether exchanged tokens are kept"
    )
    cluster_cache_strategy: str = param(
        choice("off", "redis"), "off", becomes=OWN_MEMORY, about="where instances share a memory"
    )
    cluster_cache_redis: Redis | None = param(
        Object(Redis), becomes=OWN_MEMORY, about="the Redis that they share"
    )
    cluster_cache_items: tuple[str, ...] = param(
        choices("introspection", "tokens"),
        ("introspection",),
        becomes=OWN_MEMORY,
        about="what they share",
    )
