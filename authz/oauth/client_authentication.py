"""How a client proves itself at the token endpoint (RFC 6749 section 2.3.1)."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final
from urllib.parse import quote_plus

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from authz.model import ClientCredential, OpenIDConnect

Form = list[tuple[str, str]]
Headers = dict[str, str]


def client_secret_basic(client: ClientCredential, _form: Form, headers: Headers) -> None:
    """Put the client into an Authorization header.

    Both halves are form-encoded first: a bare ``%`` or ``+`` would be decoded
    into another secret by a provider that follows the RFC.
    """
    pair = f"{quote_plus(client.client_id)}:{quote_plus(client.client_secret.reveal())}"
    headers["authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()


def client_secret_post(client: ClientCredential, form: Form, _headers: Headers) -> None:
    """Put the client into the form."""
    form += [
        ("client_id", client.client_id),
        ("client_secret", client.client_secret.reveal()),
    ]


CLIENT_AUTH_METHODS: Final[dict[str, Callable[[ClientCredential, Form, Headers], None]]] = {
    "client_secret_basic": client_secret_basic,
    "client_secret_post": client_secret_post,
}


def choose(config: OpenIDConnect, supported: Sequence[str]) -> str:
    """Return the method to use, in Kong's order of precedence.

    ``token_endpoint_auth_method``, else the first ``client_auth``, else the
    first that we share with the provider's metadata, else client_secret_basic
    (the default of RFC 8414 section 2).
    """
    if config.token_endpoint_auth_method is not None:
        return config.token_endpoint_auth_method
    if config.client_auth:
        return config.client_auth[0]
    return next(
        (method for method in CLIENT_AUTH_METHODS if method in supported), "client_secret_basic"
    )
