"""The kinds, names and bounds that several groups of parameters share."""

from __future__ import annotations

from authz.parameters import checks
from authz.parameters.declaration import partly, refused
from authz.parameters.kinds import Array, Boolean, Number, SecretText, Text, Whole

METHODS_BY_DEFAULT = ("bearer", "client_credentials")
"""Those that act where ``auth_methods`` is not set."""
METHODS_BY_DEFAULT_WITH_OUR_CLIENT = ("introspection", "password")
"""Those that act there too if the file gives a client of our own; any other must be named."""
METHODS_FOR_BROWSERS = frozenset({"authorization_code", "session"})
AUTH_METHODS = (
    "authorization_code", "bearer", "client_credentials", "introspection", "kong_oauth2",
    "password", "refresh_token", "session", "userinfo",
)  # fmt: skip
"""All of Kong's."""
GRANT_METHODS = frozenset({"authorization_code", "client_credentials", "password", "refresh_token"})
"""Those that ask the token endpoint."""
OUR_CLIENT_METHODS = frozenset(AUTH_METHODS) - {
    "bearer", "client_credentials", "kong_oauth2", "session", "userinfo",
}  # fmt: skip
"""Those that need a client of our own at the provider."""

CREDENTIAL_LOCATIONS = ("header", "query", "body")
LOCATIONS_BY_DEFAULT = ("header", "query")
"""Where credentials are looked for unless the file says otherwise; Kong reads the body too."""
CLIENT_AUTH_METHODS = (
    "client_secret_basic", "client_secret_post", "client_secret_jwt", "private_key_jwt",
    "tls_client_auth", "self_signed_tls_client_auth", "none",
)  # fmt: skip
ALGORITHMS = (
    *(f"{family}{bits}" for family in ("HS", "RS", "PS", "ES") for bits in (256, 384, 512)),
    "EdDSA",
)

SECONDS_MAX = 315_360_000
"""Ten years: a longer time is a mistake in the unit."""
LEEWAY_SECONDS_MAX = 120
MILLISECONDS_MAX = 2_147_483_646
PORT_MAX = 65_535

TEXT = Text()
TEXTS = Array(TEXT)
FILLED = Array(Text(check=checks.filled))
CLAIM = Array(Text(check=checks.filled), at_least=1)
"""A path to a claim: the names of the members that lead to it."""
SECRET = SecretText()
SECRETS = Array(SECRET)
URL = Text(check=checks.url)
FLAG = Boolean()
NUMBER = Number()
WHOLE = Whole()
MILLISECONDS = Whole(minimum=0, maximum=MILLISECONDS_MAX)
SECONDS = Number(minimum=0, maximum=SECONDS_MAX)
LIFETIME = Number(above=0, maximum=SECONDS_MAX)
PORT = Whole(minimum=0, maximum=PORT_MAX)
CLIENT_AUTH = Text(allowed=CLIENT_AUTH_METHODS)
LOCATIONS = Array(Text(allowed=CREDENTIAL_LOCATIONS))


def choice(*allowed: str) -> Text:
    """Return the kind of one of these texts."""
    return Text(allowed=allowed)


def choices(*allowed: str) -> Array[str]:
    """Return the kind of a list of these texts."""
    return Array(Text(allowed=allowed))


CLIENT_AUTH_DONE = partly(
    "client_secret_basic",
    "client_secret_post",
    "client_secret_jwt",
    "private_key_jwt",
    without="the provider must take the client's secret itself, or its key",
)
TURNS_AWAY = "callers whom it turns away would get in"
FINDS_FEWER = "callers whom it lets in would be refused"
UNSAFE = refused("nothing gets weaker, for it only switches a check off")
STOLEN_TOKENS = refused("whoever holds a stolen token could use it")
ASKED_OTHERWISE = refused("the provider would be asked without it, and may answer otherwise")
UPSTREAM_MISSES = "the upstream would not get what it says"
CALLER_MISSES = refused("the caller would not get what it says")
OWN_MEMORY = refused("each instance would keep what it has fetched in its own memory")
KEPT = refused("the provider's answers would be kept, and be used for as long as they are good")
NO_PROXY = refused(
    "the provider would be reached without the proxy",
    "give the server a direct way to the provider",
)
