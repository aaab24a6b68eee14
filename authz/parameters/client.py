"""The client that we are at the identity provider, where a method needs one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from authz.parameters import checks
from authz.parameters.common import (
    ALGORITHMS,
    ASKED_OTHERWISE,
    CLIENT_AUTH_DONE,
    CLIENT_AUTH_METHODS,
    FILLED,
    FLAG,
    OUR_CLIENT_METHODS,
    SECRET,
    TEXT,
    TEXTS,
    UNSAFE,
    choices,
)
from authz.parameters.declaration import DONE, param
from authz.parameters.kinds import Array, Object, SecretText

if TYPE_CHECKING:
    from authz.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientJwk:
    """A JSON Web Key of our own client (RFC 7517, RFC 7518)."""

    alg: str | None = param(TEXT)
    crv: str | None = param(TEXT)
    e: str | None = param(TEXT)
    issuer: str | None = param(TEXT)
    kid: str | None = param(TEXT)
    kty: str | None = param(TEXT)
    n: str | None = param(TEXT)
    use: str | None = param(TEXT)
    x: str | None = param(TEXT)
    y: str | None = param(TEXT)
    x5t: str | None = param(TEXT)
    x5t_s256: str | None = param(TEXT, name="x5t#S256")
    x5u: str | None = param(TEXT)
    d: Secret | None = param(SECRET, referenceable=True)
    dp: Secret | None = param(SECRET, referenceable=True)
    dq: Secret | None = param(SECRET, referenceable=True)
    k: Secret | None = param(SECRET, referenceable=True)
    oth: Secret | None = param(SECRET, referenceable=True)
    p: Secret | None = param(SECRET, referenceable=True)
    q: Secret | None = param(SECRET, referenceable=True)
    qi: Secret | None = param(SECRET, referenceable=True)
    r: Secret | None = param(SECRET, referenceable=True)
    t: Secret | None = param(SECRET, referenceable=True)
    key_ops: tuple[str, ...] = param(TEXTS)
    x5c: tuple[str, ...] = param(TEXTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientParameters:
    """The client that we are at the identity provider, where a method needs one.

    The lists are parallel: the first of each belongs to the first client.
    """

    client_id: tuple[str, ...] = param(
        FILLED,
        becomes=DONE,
        referenceable=True,
        used_by=OUR_CLIENT_METHODS,
        about="the ids of our own clients",
    )
    client_secret: tuple[Secret, ...] = param(
        Array(SecretText(check=checks.filled)),
        becomes=DONE,
        referenceable=True,
        used_by=OUR_CLIENT_METHODS,
        about="their secrets",
    )
    client_auth: tuple[str, ...] = param(
        choices(*CLIENT_AUTH_METHODS),
        becomes=CLIENT_AUTH_DONE,
        used_by=OUR_CLIENT_METHODS | {"client_credentials"},
        about="how a client proves itself at the provider; else what is discovered",
    )
    client_alg: tuple[str, ...] = param(
        choices(*ALGORITHMS),
        becomes=DONE,
        used_by=OUR_CLIENT_METHODS | {"client_credentials"},
        about="the algorithms that clients sign their assertions with",
    )
    client_jwk: tuple[ClientJwk, ...] = param(
        Array(Object(ClientJwk)),
        becomes=DONE,
        used_by=OUR_CLIENT_METHODS,
        about="the keys that our own clients sign with",
    )
    client_arg: str = param(
        TEXT,
        "client_id",
        becomes=ASKED_OTHERWISE,
        used_by=OUR_CLIENT_METHODS,
        about="the argument by which a caller chooses one of our own clients",
    )
    tls_client_auth_cert_id: str | None = param(
        TEXT, becomes=ASKED_OTHERWISE, about="the certificate that we show the provider"
    )
    tls_client_auth_ssl_verify: bool = param(
        FLAG,
        default=True,
        becomes=UNSAFE,
        about="whether the provider's certificate is checked where we show ours",
    )
