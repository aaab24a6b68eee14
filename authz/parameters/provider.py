"""The identity provider: who it is, how it is reached, and how long its word is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from authz.parameters.common import (
    ASKED_OTHERWISE,
    FILLED,
    FLAG,
    LIFETIME,
    MILLISECONDS_MAX,
    NO_PROXY,
    NUMBER,
    SECONDS,
    SECRET,
    SECRETS,
    TEXT,
    TEXTS,
    URL,
)
from authz.parameters.declaration import DONE, noticed, param, required
from authz.parameters.kinds import Array, Whole

if TYPE_CHECKING:
    from authz.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderParameters:
    """The identity provider: who it is, and whose keys and tokens are accepted."""

    issuer: str = required(
        URL, becomes=DONE, referenceable=True, about="the URL of the identity provider"
    )
    using_pseudo_issuer: bool = param(
        FLAG,
        default=False,
        becomes=DONE,
        about="whether nothing is discovered: the issuer is then only a name",
    )
    issuers_allowed: tuple[str, ...] = param(
        FILLED,
        becomes=DONE,
        referenceable=True,
        about="the issuers that a token may name; else the provider's own",
    )
    jwks_endpoint: str | None = param(
        URL, becomes=DONE, about="where the keys are, instead of what is discovered"
    )
    extra_jwks_uris: tuple[str, ...] = param(
        Array(URL),
        becomes=DONE,
        referenceable=True,
        about="further key sets, asked where the first one lacks a key",
    )
    ssl_verify: bool = param(
        FLAG,
        default=True,
        also=(False,),
        becomes=DONE,
        about="whether the provider's certificate is checked",
    )
    discovery_headers_names: tuple[str, ...] = param(
        TEXTS, becomes=ASKED_OTHERWISE, about="the names of headers sent with discovery"
    )
    discovery_headers_values: tuple[Secret, ...] = param(
        SECRETS, becomes=ASKED_OTHERWISE, about="their values"
    )
    verify_parameters: bool = param(
        FLAG,
        default=False,
        # A look at the file, and no check of a caller: nobody gets in without it.
        becomes=noticed("the parameters are not compared with what is discovered"),
        about="whether the parameters are compared with what is discovered",
    )

    @property
    def primary_jwks_uri(self) -> str | None:
        """Where the first key set is; None: where discovery says.

        With nothing to discover, the first of the extra sets is the first one.
        """
        pseudo = self.extra_jwks_uris[:1] if self.using_pseudo_issuer else ()
        return self.jwks_endpoint or next(iter(pseudo), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReachParameters:
    """How the provider is reached, and how long its word is kept.

    A token does not depend on this group.
    """

    timeout: int = param(
        Whole(minimum=1, maximum=MILLISECONDS_MAX),
        10_000,
        becomes=DONE,
        about="milliseconds for one exchange with the provider",
    )
    rediscovery_lifetime: float = param(
        SECONDS,
        30,
        becomes=DONE,
        about="seconds between two looks for a key that is not in the set",
    )
    cache_ttl: float = param(
        LIFETIME,
        3600,
        becomes=DONE,
        about="seconds for which an answer is kept that has no life of its own",
    )
    http_version: float = param(
        NUMBER,
        1.1,
        # Who serves another version serves this one, too; else its callers get 503.
        becomes=noticed("the provider is asked in HTTP/1.1"),
        about="the HTTP version that the provider is asked in",
    )
    keepalive: bool = param(
        FLAG,
        default=True,
        # A call that meets a kept connection that has ended is repeated on a new one.
        becomes=noticed("connections to the provider are kept"),
        about="whether connections are kept",
    )
    # URLs that may hold a password.
    http_proxy: Secret | None = param(SECRET, becomes=NO_PROXY, about="a proxy for http")
    http_proxy_authorization: Secret | None = param(
        SECRET, becomes=NO_PROXY, referenceable=True, about="the credential for that proxy"
    )
    https_proxy: Secret | None = param(SECRET, becomes=NO_PROXY, about="a proxy for https")
    https_proxy_authorization: Secret | None = param(
        SECRET, becomes=NO_PROXY, referenceable=True, about="the credential for that proxy"
    )
    no_proxy: str | None = param(
        TEXT, becomes=NO_PROXY, about="hosts that are reached without a proxy"
    )

    @property
    def timeout_s(self) -> float:
        """``timeout`` in seconds."""
        return self.timeout / 1000


ProviderKey = tuple[ProviderParameters, ReachParameters]
"""What two plugins must have in common to share a provider, its connections and its keys."""
