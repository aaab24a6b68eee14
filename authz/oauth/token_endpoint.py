"""The client credentials grant (RFC 6749 section 4.4) and what its answers mean."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from authz import strict_json
from authz.errors import IdpOutage, Reason, Refusal, Unauthenticated, Unavailable
from authz.model import AccessToken, Secret
from authz.oauth import client_authentication
from authz.oauth.http import HTTP_OK
from authz.oauth.jwt import TIME_MAX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from authz.clock import Clock
    from authz.model import ClientCredential, OpenIDConnect
    from authz.oauth.client_authentication import Form, Headers
    from authz.oauth.http import Response
    from authz.oauth.provider import Provider
    from authz.telemetry import Telemetry

ANSWER_BYTES_MAX: Final = 64 * 1024
ACCESS_TOKEN_BYTES_MAX: Final = 16 * 1024
RETRY_AFTER_SECONDS: Final = (1, 60)

_B64TOKEN: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*", re.ASCII)
# Verdicts on the caller (RFC 6749 section 5.2).  Keycloak says unauthorized_client
# for a wrong secret and invalid_client for an unknown client.
_ABOUT_THE_CALLER: Final = frozenset(
    ("invalid_client", "unauthorized_client", "invalid_grant", "access_denied")
)
_UNAUTHORIZED: Final = 401
_TOO_MANY_REQUESTS: Final = 429
_SERVER_ERRORS: Final = range(500, 600)


class TokenEndpoint:
    """Where one plugin exchanges its callers' credentials."""

    def __init__(
        self, config: OpenIDConnect, provider: Provider, *, clock: Clock, telemetry: Telemetry
    ) -> None:
        self._config = config
        self._provider = provider
        self._clock = clock
        self._telemetry = telemetry

    async def exchange(self, client: ClientCredential) -> AccessToken:
        """Ask for an access token in the client's name.

        Raises :class:`~authz.errors.Unauthenticated` when the provider refuses
        the client, :class:`~authz.errors.IdpOutage` when it is unreachable or
        overwhelmed, :class:`~authz.errors.Unavailable` when its answer is of no use.
        """
        url, method = await self._where_and_how()
        self._check_pause()
        form: Form = [("grant_type", "client_credentials")]
        headers: Headers = {}
        if self._config.scopes:
            form.append(("scope", " ".join(self._config.scopes)))
        form += [("audience", audience) for audience in self._config.audience]
        client_authentication.CLIENT_AUTH_METHODS[method](client, form, headers)
        with self._telemetry.idp_call("token"):
            answer = await self._provider.http.post_form(
                url, urlencode(form).encode("ascii"), headers, bytes_max=ANSWER_BYTES_MAX
            )
            try:
                return _access_token(answer)
            except IdpOutage as outage:
                self._pause(outage)
                raise

    async def _where_and_how(self) -> tuple[str, str]:
        """Return the endpoint and the client authentication, discovering what is not configured."""
        config = self._config
        url, supported = config.token_endpoint, tuple[str, ...]()
        if url is None or not (config.client_auth or config.token_endpoint_auth_method):
            metadata = await self._provider.metadata()
            url = url or metadata.token_endpoint
            supported = metadata.token_endpoint_auth_methods_supported
        if url is None:
            raise Unavailable(Reason.IDP_ANSWER_INVALID, "discovery: no token_endpoint")
        return url, client_authentication.choose(config, supported)

    def _check_pause(self) -> None:
        left_s = self._provider.paused_until - self._clock.monotonic()
        if left_s > 0:
            raise IdpOutage(
                Reason.IDP_THROTTLED,
                "the provider asked for a pause",
                retry_after=math.ceil(left_s),
            )

    def _pause(self, outage: IdpOutage) -> None:
        """Leave a provider alone that has asked for it: it serves all clients, not one."""
        if outage.reason is Reason.IDP_THROTTLED:
            self._provider.paused_until = self._clock.monotonic() + outage.retry_after


def _access_token(answer: Response) -> AccessToken:
    """Read an answer of the token endpoint (RFC 6749 sections 5.1 and 5.2)."""
    document = _document(answer)
    # An error member wins over the status: some providers answer errors with 200.
    if answer.status != HTTP_OK or "error" in document:
        raise _refusal(answer, document.get("error"))
    token, kind = document.get("access_token"), document.get("token_type")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise Unavailable(Reason.IDP_ANSWER_INVALID, "token endpoint: token_type is not Bearer")
    if (
        not isinstance(token, str)
        or len(token) > ACCESS_TOKEN_BYTES_MAX
        or _B64TOKEN.fullmatch(token) is None
    ):
        raise Unavailable(Reason.IDP_ANSWER_INVALID, "token endpoint: no usable access_token")
    return AccessToken(Secret(token), expires_in=_expires_in(document))


def _document(answer: Response) -> Mapping[str, Any]:
    """Return the JSON object of an answer; an error answer need not have one."""
    try:
        document = strict_json.loads(answer.body)
    except strict_json.InvalidJSONError as error:
        document = str(error)
    if isinstance(document, dict):
        return document
    if answer.status == HTTP_OK:
        raise Unavailable(Reason.IDP_ANSWER_INVALID, "token endpoint: not a JSON object")
    return {}


def _refusal(answer: Response, code: object) -> Refusal:
    """Tell a verdict on the caller from a fault of the provider, or of ours."""
    status = answer.status
    if status == _TOO_MANY_REQUESTS or code == "slow_down":
        return IdpOutage(
            Reason.IDP_THROTTLED,
            "the provider is overwhelmed",
            retry_after=_retry_after(answer.headers.get("retry-after", "")),
        )
    if status in _SERVER_ERRORS:
        return IdpOutage(Reason.IDP_UNAVAILABLE, f"token endpoint: HTTP status {status}")
    if isinstance(code, str) and (code in _ABOUT_THE_CALLER or status == _UNAUTHORIZED):
        return Unauthenticated(Reason.SECRET_REJECTED, "the provider refused the client")
    # A bare 401 may come from a proxy in between: no proof of a wrong secret.
    detail = f"token endpoint: HTTP status {status}"
    if code == "invalid_scope":
        detail += ", invalid_scope: see the plugin's scopes"
    reason = Reason.IDP_REQUEST_REFUSED if isinstance(code, str) else Reason.IDP_ANSWER_INVALID
    return Unavailable(reason, detail)


def _retry_after(value: str) -> int:
    """Return Retry-After (RFC 9110 section 10.2.3) in seconds, bounded; a date counts as none."""
    low, high = RETRY_AFTER_SECONDS
    return min(max(int(value), low), high) if re.fullmatch(r"[0-9]{1,9}", value) else low


def _expires_in(document: Mapping[str, Any]) -> float | None:
    """Return ``expires_in`` in seconds; some providers send a string of digits.

    Anything else is as good as absent: the token's own ``exp`` bounds it anyway.
    """
    value = document.get("expires_in")
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        return float(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(max(-TIME_MAX, min(value, TIME_MAX)))
    return None
