"""Who vouches for a token: the accepted issuers of one provider, and whose keys are whose.

The issuer is chosen by ``iss`` before any key is looked for.  A key set belongs to one
issuer, also where one plugin accepts several (``issuers_allowed``) and names further key
sets (``extra_jwks_uris``): a key of one never vouches for a token of another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from authz import strict_json
from authz.errors import Reason, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from authz.model import Claims
    from authz.oauth.jwks import Key
    from authz.oauth.key_source import KeySource

PRIMARY: Final = 0
"""The place of the primary key set, before those of ``extra_jwks_uris`` in their order."""


class UndecidedKeysError(ValueError):
    """It cannot be told whose keys one of ``extra_jwks_uris`` has."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """One accepted ``iss`` and the key sets that may vouch for its tokens."""

    name: str
    sources: tuple[KeySource, ...]

    def fitting(self, kid: str | None, algorithm: str) -> tuple[Key, ...]:
        """Return the keys that may have signed a token with this header, in order."""
        fitting: tuple[Key, ...] = ()
        for source in self.sources:
            if (keys := source.keys) is not None:
                fitting += keys.fitting(kid, algorithm)
        return fitting

    def has(self, key: Key, kid: str | None, algorithm: str) -> bool:
        """Whether a key that has signed a token with this header is still the issuer's."""
        return any(key.numbers == one.numbers for one in self.fitting(kid, algorithm))

    @property
    def has_keys(self) -> bool:
        """Whether there is any key to verify with."""
        return any(source.keys for source in self.sources)

    @property
    def expires_at(self) -> float:
        """Until when its keys vouch if nobody answers any more, in monotonic seconds."""
        return min((one.expires_at for one in self.sources if one.keys), default=0.0)


@dataclass(frozen=True, slots=True, repr=False)
class SignedToken:
    """A token that a key of its issuer has signed; nobody has judged its claims yet."""

    claims: Claims
    marked: bool
    kid: str | None
    algorithm: str
    issuer: Issuer
    key: Key

    @property
    def is_vouched_for(self) -> bool:
        """Whether the key is still one of the issuer's."""
        return self.issuer.has(self.key, self.kid, self.algorithm)


class Issuers:
    """The accepted issuers, by the names that tokens carry.

    Names are compared exactly, but for one trailing slash.
    """

    def __init__(self, issuers: Sequence[Issuer]) -> None:
        self._by_name = {_bare(issuer.name): issuer for issuer in issuers}

    @property
    def names(self) -> tuple[str, ...]:
        """The accepted values of ``iss``, as they are configured or discovered."""
        return tuple(issuer.name for issuer in self._by_name.values())

    def find(self, name: object) -> Issuer | None:
        """Return the issuer that ``iss`` names, if it is accepted."""
        return self._by_name.get(_bare(name)) if isinstance(name, str) else None

    def refusal(self, claims: Claims, *, trusted: bool) -> Unauthenticated:
        """Return the refusal of a token that none of them has issued.

        ``trusted``: a provider has given the token to us, so its words may be repeated.
        """
        tell = strict_json.quoted if trusted else strict_json.kind
        found = tell(claims["iss"]) if "iss" in claims else "absent"
        wanted = strict_json.quoted(self.names[0] if len(self.names) == 1 else self.names)
        return Unauthenticated(
            Reason.TOKEN_ISSUER_REFUSED,
            f"token: iss is {found}, wanted {wanted}; see issuer and issuers_allowed",
        )


def _bare(name: str) -> str:
    return name.removesuffix("/")


# --- Whose keys are whose -------------------------------------------------------------


def owners(
    issuer: str,
    accepted: Sequence[str],
    extra_jwks_uris: Sequence[str],
    jwks_endpoint: str | None = None,
) -> Mapping[str, tuple[int, ...]]:
    """Return which key sets vouch for which accepted issuer, by their places.

    ``issuer`` is the configured URL, which the primary set is discovered from, if it does
    not have the URL ``jwks_endpoint``.

    One issuer, or no extra set: every set vouches for every name, for they are names of
    one provider.  Else an extra set belongs to the issuer whose URL it is nearest to: of
    the same scheme, host and port, with most segments of the path in common.  One that
    is near to none belongs to the only issuer that would have no keys without it.  The
    primary set belongs to the issuer nearest to the configured URL, and to those that
    no extra set belongs to; one that is an extra set too belongs to whom that belongs.

    Raises :class:`UndecidedKeysError` where two issuers are equally near, or several
    could have a set that is near to none, or an issuer has no keys.
    """
    names = tuple({_bare(name): name for name in accepted}.values())
    places = range(1 + len(extra_jwks_uris))
    if len(names) == 1 or not extra_jwks_uris:
        return {name: tuple(places) for name in names}
    configured = _nearest(issuer, names)
    own = configured[0] if len(configured) == 1 else None
    owner = _owners_of_extra(names, own, extra_jwks_uris)
    if jwks_endpoint in extra_jwks_uris:
        of_primary = {owner[extra_jwks_uris.index(jwks_endpoint)]}
        if not set(names) <= {*owner}:
            raise UndecidedKeysError(jwks_endpoint)
    else:
        of_primary = {name for name in names if name == own or name not in owner}
    return {
        name: (
            *((PRIMARY,) if name in of_primary else ()),
            *(place for place in places[1:] if owner[place - 1] == name),
        )
        for name in names
    }


def _owners_of_extra(names: Sequence[str], own: str | None, urls: Sequence[str]) -> Sequence[str]:
    near = [_nearest(url, names) for url in urls]
    with_keys = {name for found in near if len(found) == 1 for name in found} | {own}
    without = tuple(name for name in names if name not in with_keys)
    owner: list[str] = []
    for url, found in zip(urls, near, strict=True):
        candidates = found or without
        if len(candidates) != 1:
            raise UndecidedKeysError(url)
        owner += candidates
    return owner


def _nearest(url: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the URL's own origin that have most of its path in common."""
    origin, path = _origin_and_path(url)
    common: dict[str, int] = {}
    for name in names:
        its_origin, its_path = _origin_and_path(name)
        if origin is not None and its_origin == origin:
            pairs = zip(path, its_path, strict=False)
            differs = (at for at, (one, other) in enumerate(pairs) if one != other)
            common[name] = next(differs, min(len(path), len(its_path)))
    most = max(common.values(), default=0)
    return tuple(name for name in common if common[name] == most)


def _origin_and_path(url: str) -> tuple[tuple[str, str, int | None] | None, Sequence[str]]:
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
        origin = (parts.scheme, parts.hostname, port) if parts.hostname else None
    except ValueError:
        return None, ()
    return origin, [segment for segment in parts.path.split("/") if segment]
