"""The parameters of Kong's openid-connect plugin: each is declared once, in one group.

A group is a frozen dataclass, one chapter of the plugin.  Names, kinds, defaults and
allowed values are those of Kong Gateway 3.16; ``also`` has the defaults of versions from
3.4 on.  The order of Kong's lists means nothing, and no comparison looks at it.

``PARAMETERS`` is the table of all of them, ``OpenIDConnect`` the values of one plugin.
To add a parameter, declare it in its group; nothing else lists it.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from authz.parameters.access import AccessParameters
from authz.parameters.answers import AnswerParameters
from authz.parameters.browser import LEGACY, LoginParameters, SessionParameters
from authz.parameters.callers import CallerParameters
from authz.parameters.client import ClientParameters
from authz.parameters.declaration import Parameter
from authz.parameters.exchange import ExchangeParameters
from authz.parameters.identity import IdentityParameters
from authz.parameters.introspection import IntrospectionParameters
from authz.parameters.kinds import declared
from authz.parameters.memory import MemoryParameters
from authz.parameters.possession import PossessionParameters
from authz.parameters.provider import ProviderKey, ProviderParameters, ReachParameters
from authz.parameters.token import TokenParameters
from authz.parameters.upstream import UpstreamParameters
from authz.parameters.userinfo import UserinfoParameters
from authz.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self


T = TypeVar("T")
_GROUP = "group"


def _group(owner: type[T]) -> T:
    field: T = dataclasses.field(default_factory=owner, metadata={_GROUP: owner})
    return field


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenIDConnect:
    """The parameters of one ``openid-connect`` plugin, in groups.

    Names and meanings are Kong's.  Times are in seconds unless the name or the group
    says otherwise (``timeout`` is in milliseconds, as in Kong).  A parameter that is not
    done here has Kong's default.
    """

    callers: CallerParameters = _group(CallerParameters)
    provider: ProviderParameters = _group(ProviderParameters)
    reach: ReachParameters = _group(ReachParameters)
    client: ClientParameters = _group(ClientParameters)
    exchange: ExchangeParameters = _group(ExchangeParameters)
    introspection: IntrospectionParameters = _group(IntrospectionParameters)
    userinfo: UserinfoParameters = _group(UserinfoParameters)
    token: TokenParameters = _group(TokenParameters)
    access: AccessParameters = _group(AccessParameters)
    possession: PossessionParameters = _group(PossessionParameters)
    identity: IdentityParameters = _group(IdentityParameters)
    upstream: UpstreamParameters = _group(UpstreamParameters)
    memory: MemoryParameters = _group(MemoryParameters)
    answers: AnswerParameters = _group(AnswerParameters)

    @classmethod
    def of(cls, **parameters: Any) -> Self:  # noqa: ANN401 - each has the type of its declaration
        """Return the plugin with these parameters, by Kong's names, and defaults for the others.

        Raises TypeError for a name that no group has, and where ``issuer`` is missing.
        """
        values: dict[str, dict[str, Any]] = {name: {} for name in GROUPS}
        for name, value in parameters.items():
            if name not in GROUP_OF:
                raise TypeError(f"no group has the parameter {name!r}")
            values[GROUP_OF[name]][name] = value
        return cls(**{name: group(**values[name]) for name, group in GROUPS.items()})

    def replace(self, **parameters: Any) -> Self:  # noqa: ANN401 - as in ``of``
        """Return a copy in which these parameters have other values."""
        return self.of(**{**self.flat(), **parameters})

    def flat(self) -> dict[str, Any]:
        """Return the values by Kong's names."""
        return {name: getattr(getattr(self, group), name) for name, group in GROUP_OF.items()}

    @property
    def provider_key(self) -> ProviderKey:
        """What two plugins must have in common to share a provider."""
        return self.provider, self.reach

    @property
    def exchange_key(self) -> tuple[str, ...]:
        """All that an exchange at the token endpoint and its answer's life depend on.

        Two plugins share a token only if this is equal.  It holds secrets: give it to a
        keyed digest, and to nothing else.
        """
        parts = key_parts(self.provider, self.client, self.exchange, self.token, self.memory)
        # Of the group that says what a good token must hold, what makes one good.
        return (*parts, json.dumps(self.access.audience_claim))

    @property
    def introspection_key(self) -> tuple[str, ...]:
        """All that an introspection and its answer's life depend on, as in ``exchange_key``.

        An answer may have no life of its own: ``cache_ttl`` counts then.
        """
        return key_parts(
            self.provider, self.reach, self.client, self.introspection, self.token, self.memory
        )

    @property
    def userinfo_key(self) -> tuple[str, ...]:
        """All that an answer of the userinfo endpoint and its life depend on, as above.

        Our own client is no part of it: the caller's token is all that is asked with.
        """
        return key_parts(self.provider, self.reach, self.userinfo, self.token, self.memory)


def key_parts(*groups: object) -> tuple[str, ...]:
    """Return one part of a cache key for each group: all of its values, secrets included."""
    return tuple(json.dumps(_content(group), default=_content) for group in groups)


def _content(value: object) -> object:
    if isinstance(value, Secret):
        return value.reveal()
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    raise TypeError(f"a parameter cannot be a {type(value).__name__}")


GROUPS: Mapping[str, type] = {
    field.name: field.metadata[_GROUP] for field in dataclasses.fields(OpenIDConnect)
}
"""The groups by their names in ``OpenIDConnect``."""

_DECLARED: Mapping[str, Mapping[str, Parameter]] = {
    chapter: {field.name: field for field in declared(owner) if isinstance(field, Parameter)}
    for chapter, owner in {**GROUPS, "login": LoginParameters, "session": SessionParameters}.items()
}
GROUP_OF: Mapping[str, str] = {name: group for group in GROUPS for name in _DECLARED[group]}
"""The group of each parameter that takes effect, or may one day."""

CHAPTERS: Mapping[str, Mapping[str, Parameter]] = {**_DECLARED, "legacy": LEGACY}
"""The parameters by chapter, then by Kong's names."""
PARAMETERS: Mapping[str, Parameter] = {
    name: parameter for chapter in CHAPTERS.values() for name, parameter in chapter.items()
}
"""Every parameter by Kong's name."""
