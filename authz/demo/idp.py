"""A development identity provider: Keycloak's paths, claims and refusals, on loopback.

It has the grants client credentials and password, introspection and userinfo.  It is as
strict about a request as the RFCs allow, so that a client that is only nearly right is
found out here.  Its answers were compared with those of Keycloak 26.5.

Every way in which a provider can misbehave is a value.  Overrides change claims, a
token's header or an answer's members; scripted answers stand in for those of an endpoint.
"""

from __future__ import annotations

import json
import math
import socket
import time
import uuid
from base64 import urlsafe_b64decode
from collections import Counter, deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TextIO

import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from authz.demo.keys import Key
from authz.demo.script import Answer, Recorded, answer_from, take
from authz.demo.token_request import (
    BAD_USER,
    SCOPES,
    Clients,
    OAuthError,
    granted_scope,
    read_form,
)
from authz.net import is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from starlette.requests import Request

ISSUER = "http://keycloak.keycloak:8080/realms/kong"
CLIENTS: Final[Mapping[str, str]] = {
    "kong_id": "RVXO9SOJskjw4LeVupjRbIMJIAyyil8j",
    "other_id": "R8mZ0cYkq3pWvT5nXb7JdL2sFh9GuEaQ",
}
"""The workshop's client, and one that no Kong consumer stands for."""
USERS: Final[Mapping[str, str]] = {"alice": "Wm2yQf5tVb8n"}
"""Who has a password (RFC 6749 section 4.3)."""

TOKEN_LIFETIME_SECONDS = 300
RECORDED_REQUESTS_MAX = 10_000
ENDPOINTS = ("discovery", "token", "certs", "introspection", "userinfo")
ALWAYS_COUNTED = ("discovery", "token", "certs")
"""Shown as 0 before their first request."""

ABSENT: Final = object()
"""As an override: the claim, header parameter or member is left out."""


class DevelopmentIdp:
    """The provider's whole state.  Everything public may be changed while it runs.

    The first of ``keys`` signs; all of them are published.  ``client_keys``: the keys of
    clients that sign assertions.  ``opaque``: what each opaque token stands for.
    ``revoked``: tokens that are no longer active.

    Overrides, by what they change: ``claims`` and ``header``, those of tokens;
    ``members``, token answers; ``metadata``, the discovery document; ``introspected``,
    introspection answers; ``told``, userinfo answers.
    """

    def __init__(
        self,
        *,
        issuer: str = ISSUER,
        clients: Mapping[str, str] = CLIENTS,
        keys: Iterable[Key] = (),
        now: Callable[[], float] = time.time,
    ) -> None:
        self.issuer = issuer
        self.clients = dict(clients)
        self.users = dict(USERS)
        self.client_keys: dict[str, Key] = {}
        self.keys = list(keys) or [Key.generate(), Key.generate("RSA-OAEP")]
        self.now = now
        self.reset()

    def reset(self) -> None:
        """Forget faults, overrides, recorded requests and counts; clients and keys stay."""
        self.token_lifetime_s = TOKEN_LIFETIME_SECONDS
        self.claims: dict[str, Any] = {}
        self.header: dict[str, Any] = {}
        self.members: dict[str, Any] = {}
        self.metadata: dict[str, Any] = {}
        self.introspected: dict[str, Any] = {}
        self.told: dict[str, Any] = {}
        self.opaque: dict[str, Mapping[str, Any]] = {}
        self.revoked: set[str] = set()
        self._assertions_seen: set[str] = set()
        self.introspection_answers: deque[Answer] = deque()
        self.userinfo_answers: deque[Answer] = deque()
        self.discovery_answers: deque[Answer] = deque()
        self.token_answers: deque[Answer] = deque()
        self.certs_answers: deque[Answer] = deque()
        self.requests: deque[Recorded] = deque(maxlen=RECORDED_REQUESTS_MAX)
        self.counters: Counter[str] = Counter(dict.fromkeys(ALWAYS_COUNTED, 0))

    # --- Tokens --------------------------------------------------------------

    def rotate(self, algorithm: str = "RS256", *, retire: bool = False) -> Key:
        """Sign with a new key from now on; ``retire``: the old ones are published no longer."""
        key = Key.generate(algorithm)
        self.keys = [key] if retire else [key, *self.keys]
        return key

    def issue(
        self,
        client_id: str = "kong_id",
        /,
        *,
        key: Key | None = None,
        header: Mapping[str, Any] | None = None,
        **claims: Any,  # noqa: ANN401 - a claim is any JSON, right or wrong
    ) -> str:
        """Return an access token as the token endpoint gives it, with these overrides."""
        return self.sign(
            header or {},
            _override(self.access_claims(client_id, "openid email profile"), claims),
            key=key,
        )

    def sign(
        self,
        header: Mapping[str, Any] | bytes,
        payload: Mapping[str, Any] | bytes,
        *,
        key: Key | None = None,
    ) -> str:
        """Return a compact JWS of ``payload``; a header given as bytes is used as it is."""
        key = key or self.keys[0]
        if not isinstance(header, bytes):
            own = {"typ": "JWT", "alg": key.algorithm, "kid": key.kid}
            header = _override(_override(own, self.header), header)
        return key.sign(header, payload)

    def access_claims(
        self,
        client_id: str,
        scope: str,
        address: str = "127.0.0.1",
        *,
        user: str | None = None,
    ) -> dict[str, Any]:
        """Return the claims that Keycloak gives a service account, overrides included.

        ``user``: the token is a user's, who has asked through this client.
        """
        claims = self._claims(client_id) | {
            "jti": f"trrtcc:{uuid.uuid4()}",
            "aud": "account",
            "typ": "Bearer",
            "allowed-origins": ["/*"],
            "realm_access": {"roles": ["offline_access", "uma_authorization", self._default_role]},
            "resource_access": {
                "account": {"roles": ["manage-account", "manage-account-links", "view-profile"]}
            },
            "scope": scope,
            "clientHost": address,
            "clientAddress": address,
        }
        if user is not None:
            subject = uuid.uuid5(uuid.NAMESPACE_URL, f"{self.issuer}#user#{user}")
            claims |= {"preferred_username": user, "sub": str(subject)}
            for name in ("client_id", "clientHost", "clientAddress"):
                del claims[name]
        return _override(claims, self.claims)

    def _claims(self, client_id: str) -> dict[str, Any]:
        """Return the claims that access and ID tokens share."""
        issued_at = int(self.now())
        return {
            "exp": issued_at + self.token_lifetime_s,
            "iat": issued_at,
            "jti": str(uuid.uuid4()),
            "iss": self.issuer,
            "aud": client_id,
            "sub": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.issuer}#{client_id}")),
            "typ": "ID",
            "azp": client_id,
            "acr": "1",
            "email_verified": False,
            "preferred_username": f"service-account-{client_id}",
            "client_id": client_id,
        }

    @property
    def realm(self) -> str:
        """The realm's name: the last part of the issuer."""
        return self.issuer.rstrip("/").rpartition("/")[2]

    @property
    def _default_role(self) -> str:
        return f"default-roles-{self.realm}"

    # --- Endpoints -----------------------------------------------------------

    def app(self) -> Starlette:
        """Return the ASGI application."""
        realm = "/realms/{realm}"
        protocol = f"{realm}/protocol/openid-connect"
        return Starlette(
            routes=[
                Route(f"{realm}/.well-known/openid-configuration", self._discovery),
                Route(f"{protocol}/token", self._token, methods=["POST"]),
                Route(f"{protocol}/token/introspect", self._introspection, methods=["POST"]),
                Route(f"{protocol}/userinfo", self._userinfo, methods=["GET", "POST"]),
                Route(f"{protocol}/certs", self._certs),
                Route("/control", self._control, methods=["GET", "POST"]),
            ],
            exception_handlers={404: _not_found, 405: _method_not_allowed, OAuthError: _refusal},
        )

    async def _discovery(self, request: Request) -> Response:
        return await self._answer("discovery", request, self._discovery_document)

    async def _certs(self, request: Request) -> Response:
        return await self._answer("certs", request, self._key_set)

    async def _token(self, request: Request) -> Response:
        return await self._answer("token", request, self._token_answer)

    async def _introspection(self, request: Request) -> Response:
        return await self._answer("introspection", request, self._introspection_answer)

    async def _userinfo(self, request: Request) -> Response:
        return await self._answer("userinfo", request, self._userinfo_answer)

    async def _answer(
        self, endpoint: str, request: Request, own: Callable[[Recorded, str], Response]
    ) -> Response:
        """Record the request, then answer it: by the script if there is one."""
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        headers = tuple(request.headers.items())
        recorded = Recorded(endpoint, request.method, target, headers, await request.body())
        self.requests.append(recorded)
        self.counters[endpoint] += 1
        scripted = take(getattr(self, f"{endpoint}_answers"))
        if scripted is not None:
            await scripted.wait()
            if scripted.status is not None:
                return scripted.response()
        if request.path_params["realm"] != self.realm:
            return JSONResponse({"error": "Realm does not exist"}, 404)
        return own(recorded, request.client.host if request.client else "127.0.0.1")

    def _discovery_document(self, _request: Recorded, _address: str) -> Response:
        protocol = f"{self.issuer.rstrip('/')}/protocol/openid-connect"
        document = {
            "issuer": self.issuer,
            "token_endpoint": f"{protocol}/token",
            "jwks_uri": f"{protocol}/certs",
            "introspection_endpoint": f"{protocol}/token/introspect",
            "userinfo_endpoint": f"{protocol}/userinfo",
            "grant_types_supported": ["client_credentials", "password"],
            "response_types_supported": ["none"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": sorted({k.algorithm for k in self.keys}),
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "scopes_supported": sorted(SCOPES),
        }
        return JSONResponse(_override(document, self.metadata))

    def _key_set(self, _request: Recorded, _address: str) -> Response:
        keys = {"keys": [key.jwk for key in self.keys]}
        return JSONResponse(keys, headers={"cache-control": "no-cache"})

    def _token_answer(self, request: Recorded, address: str) -> Response:
        form = read_form(request)
        if "grant_type" not in form:
            raise OAuthError(400, "invalid_request", "Missing form parameter: grant_type")
        if form["grant_type"] not in {"client_credentials", "password"}:
            raise OAuthError(400, "unsupported_grant_type", "Unsupported grant_type")
        client_id = self._authenticated(request, form)
        user = self._user(form) if form["grant_type"] == "password" else None
        scope = granted_scope(form.get("scope", ""))
        claims = self.access_claims(client_id, scope, address, user=user)
        answer = {
            "access_token": self.sign({}, claims),
            "expires_in": self.token_lifetime_s,
            "refresh_expires_in": 0,
            "token_type": "Bearer",
            "not-before-policy": 0,
            "scope": scope,
        }
        if "openid" in scope.split():
            answer["id_token"] = self.sign({}, self._claims(client_id))
        return JSONResponse(_override(answer, self.members), headers=_NO_STORE)

    def _authenticated(self, request: Recorded, form: Mapping[str, str]) -> str:
        """Return the id of the client that has authenticated itself."""
        clients = Clients(
            self.clients, self.client_keys, self.issuer, self.now(), self._assertions_seen
        )
        return clients.authenticated(request.header("authorization"), form)

    def _user(self, form: Mapping[str, str]) -> str:
        """Return the user whose password is right."""
        name = form.get("username", "")
        if name not in self.users or self.users[name] != form.get("password"):
            raise OAuthError(401, "invalid_grant", BAD_USER)
        return name

    def _introspection_answer(self, request: Recorded, _address: str) -> Response:
        """Say what a token stands for, as Keycloak does (RFC 7662 section 2.2)."""
        form = read_form(request)
        self._authenticated(request, form)
        known = self._known(form.get("token", ""))
        if known is None:
            return JSONResponse(_override({"active": False}, self.introspected), headers=_NO_STORE)
        answer = {"token_type": "Bearer", **known, "active": True}
        return JSONResponse(_override(answer, self.introspected), headers=_NO_STORE)

    def _userinfo_answer(self, request: Recorded, _address: str) -> Response:
        """Say whose the token is that was brought, as Keycloak does (RFC 6750 section 3)."""
        scheme, _, token = (request.header("authorization") or "").partition(" ")
        if scheme.lower() != "bearer":
            return self._challenge(401)
        known = self._known(token)
        if known is None:
            return self._challenge(401, "invalid_token", "Token verification failed")
        if "openid" not in str(known.get("scope", "openid")).split():
            return self._challenge(403, "insufficient_scope", "Missing openid scope")
        names = known.keys() - {"exp", "scope"} if token in self.opaque else _TOLD
        told = {name: known[name] for name in known if name in names}
        return JSONResponse(_override(told, self.told), headers={"cache-control": "no-cache"})

    def _challenge(self, status: int, error: str = "", description: str = "") -> Response:
        more = f', error="{error}", error_description="{description}"' if error else ""
        return PlainTextResponse(
            "", status, headers={"www-authenticate": f'Bearer realm="{self.realm}"{more}'}
        )

    def _known(self, token: str) -> Mapping[str, Any] | None:
        """Return the claims of a token that is active."""
        claims = self.opaque.get(token) or self._of_own_token(token)
        if claims is None or token in self.revoked or claims.get("exp", math.inf) <= self.now():
            return None
        return claims

    def _of_own_token(self, token: str) -> Mapping[str, Any] | None:
        """Return the claims of a JWT that one of our keys has signed."""
        signed, _, signature = token.rpartition(".")
        try:
            made = urlsafe_b64decode(signature + "==")
            _, payload = signed.split(".")
            if any(key.verifies(key.algorithm, key.kid, signed, made) for key in self._signing):
                claims: dict[str, Any] = json.loads(urlsafe_b64decode(payload + "=="))
                return claims
        except ValueError:
            pass
        return None

    @property
    def _signing(self) -> list[Key]:
        return [key for key in self.keys if key.algorithm != "RSA-OAEP"]

    # --- Control -------------------------------------------------------------

    async def _control(self, request: Request) -> Response:
        if request.method == "POST":
            try:
                self.control(await request.json())
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                return JSONResponse({"error": f"{type(error).__name__}: {error}"}, 400)
        return JSONResponse({"requests": dict(self.counters), "kid": self.keys[0].kid})

    def control(self, changes: Mapping[str, Any]) -> None:
        """Apply what ``POST /control`` carries.

        ``reset``: true · ``rotate``: an algorithm · ``claims``, ``header``,
        ``members``, ``metadata``, ``introspected``, ``told``: overrides, merged (null:
        left out) · ``token_answers``, ``discovery_answers``, ``certs_answers``,
        ``introspection_answers``, ``userinfo_answers``: lists of scripted answers with
        ``Answer``'s fields, ``headers`` an object and ``body`` a string.

        Raises ``ValueError`` or ``TypeError`` for anything else.
        """
        for name, change in changes.items():
            if name == "reset":
                self.reset()
            elif name == "rotate":
                self.rotate(change)
            elif name in {"claims", "header", "members", "metadata", "introspected", "told"}:
                given = {key: ABSENT if value is None else value for key, value in change.items()}
                getattr(self, name).update(given)
            elif name in {f"{endpoint}_answers" for endpoint in ENDPOINTS}:
                getattr(self, name).extend(answer_from(fields) for fields in change)
            else:
                raise ValueError(f"{name} is nothing that can be changed")


_NO_STORE = {"cache-control": "no-store", "pragma": "no-cache"}  # RFC 6749 section 5.1

# What the userinfo endpoint says of a service account.
_TOLD = frozenset({"sub", "email_verified", "preferred_username"})


def _override(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in {**values, **overrides}.items() if v is not ABSENT}


async def _refusal(_request: Request, error: Exception) -> Response:
    assert isinstance(error, OAuthError)  # noqa: S101 - registered for this class alone
    return JSONResponse(error.body, error.status, headers=_NO_STORE)


async def _not_found(_request: Request, _error: Exception) -> Response:
    return JSONResponse({"error": "Unable to find matching target resource method"}, 404)


async def _method_not_allowed(_request: Request, _error: Exception) -> Response:
    return JSONResponse({"error": "HTTP 405 Method Not Allowed"}, 405)


def serve(
    host: str,
    port: int,
    *,
    out: TextIO,
    issuer: str | None = None,
    clients: Mapping[str, str] = CLIENTS,
) -> int:
    """Run the provider until a signal ends it (``authz idp``); return the exit code.

    ``port`` 0 takes a free one.  ``issuer``, like Keycloak's ``--hostname``, is what
    tokens and endpoints carry wherever the provider listens; by default its own address.
    """
    if not is_loopback(host):
        print(f"authz idp is for development: it listens on loopback, not on {host}", file=out)
        return 2
    try:
        listener = socket.create_server((host, port), family=_family(host))
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as in background.py
    except OSError as error:
        print(f"authz idp cannot listen on {host} port {port}: {error.strerror}", file=out)
        return 1
    url = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
    idp = DevelopmentIdp(issuer=issuer or f"{url}/realms/kong", clients=clients)
    print(_greeting(idp, url), file=out, flush=True)
    config = uvicorn.Config(idp.app(), lifespan="off", log_config=None, access_log=False)
    with suppress(KeyboardInterrupt):  # uvicorn ends in order, then passes the signal on
        uvicorn.Server(config).run(sockets=[listener])
    return 0


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _greeting(idp: DevelopmentIdp, url: str) -> str:
    path = f"/realms/{idp.realm}/protocol/openid-connect/token"
    client_id, secret = next(iter(idp.clients.items()))
    return "\n".join(
        [
            "authz idp: for development only, its secrets are public",
            f"issuer   {idp.issuer}",
            *(f"client   {name}:{value}" for name, value in idp.clients.items()),
            f"token    curl -u {client_id}:{secret} -d grant_type=client_credentials {url}{path}",
            f"control  curl {url}/control",
        ]
    )
