"""One openid-connect plugin: from its ``config`` to ``model.OpenIDConnect``.

``parameters`` says what each parameter is; here is what they mean together,
and what is said about those that do not take effect.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from authz.errors import Reason
from authz.kong import checks, environment, schema
from authz.kong.document import ListNode, MappingNode, Node, Scalar, Unresolved
from authz.kong.parameters import AUTH_METHODS, CREDENTIAL_LOCATIONS, LEGACY, PARAMETERS, Status
from authz.model import OpenIDConnect, Secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from authz.kong.parameters import Parameter
    from authz.kong.problems import Problems
    from authz.model import SourcePosition

METHODS_DONE = ("bearer", "client_credentials")
"""In the order in which Kong looks for their credentials."""

_BROWSER_METHODS = frozenset({"authorization_code", "session"})
_CLIENT_AUTH_DONE = frozenset({"client_secret_basic", "client_secret_jwt", "client_secret_post"})
_OUR_CLIENT = frozenset({"client_id", "client_secret"})
_DEFAULT_LOCATIONS = ("header", "query")
_ENDPOINTS = ("issuer", "token_endpoint", "jwks_endpoint", "extra_jwks_uris")
# Parameters whose explicit null is a value: "none", not "Kong's default".
_NULL_IS_NONE = frozenset({"scopes", "upstream_access_token_header"})
# Parameters that go into the model as they stand in the file.
_VERBATIM = (
    "audience", "audience_claim", "audience_required", "by_username_ignore_case", "cache_tokens",
    "cache_ttl", "cache_ttl_max", "cache_ttl_min", "cache_ttl_neg", "cache_ttl_resurrect",
    "client_auth", "client_id", "consumer_by", "consumer_optional", "credential_claim",
    "display_errors", "expose_error_code", "extra_jwks_uris", "forbidden_error_message",
    "hide_credentials", "issuer", "issuers_allowed", "jwks_endpoint", "leeway",
    "rediscovery_lifetime", "run_on_preflight", "scopes_claim", "scopes_required", "ssl_verify",
    "timeout", "token_endpoint", "token_endpoint_auth_method", "unauthorized_error_message",
    "using_pseudo_issuer",
)  # fmt: skip


def read(
    config: MappingNode,
    position: SourcePosition,
    vaults: environment.Vaults,
    problems: Problems,
    *,
    enabled: bool = True,
) -> OpenIDConnect | None:
    """Read the ``config`` of the plugin at ``place``.

    None if it is not ``enabled`` (then only its grammar is checked), or if it
    lacks what everything else needs, which has been reported.
    """
    acting = _acting_methods(config) if enabled else None
    config = _with_references(config, acting, vaults, problems)
    values = schema.read_fields(config, PARAMETERS, problems)
    return _Reading(config, values, position, problems).result() if enabled else None


# --- {vault://…} ------------------------------------------------------------------


def _acting_methods(config: MappingNode) -> frozenset[str]:
    """Return the methods that are done here and that ``config`` does not leave out."""
    node = config.get("auth_methods")
    if node is None:
        return frozenset(METHODS_DONE)
    items = node.items if isinstance(node, ListNode) else [node]
    named = {item.text for item in items if isinstance(item, Scalar)}
    return frozenset(method for method in METHODS_DONE if method in named)


def _with_references(
    config: MappingNode,
    acting: frozenset[str] | None,
    vaults: environment.Vaults,
    problems: Problems,
) -> MappingNode:
    """Resolve the references that take effect, where Kong resolves them; mark the others.

    One that takes no effect is never followed: its vault may be one that cannot
    be read from here.  ``acting`` is None for a plugin that is switched off.
    """
    replaced: dict[str, Node] = {}
    for name, entry in config.entries.items():
        parameter = PARAMETERS.get(name)
        if parameter is None:
            continue
        if not _takes_effect(parameter, acting):
            replaced[name] = _each_reference(entry.value, Scalar.unresolved)
        elif parameter.referenceable:
            resolve = partial(_resolved, name=name, vaults=vaults, problems=problems)
            replaced[name] = _each_reference(entry.value, resolve)
    return config.replace(replaced)


def _takes_effect(parameter: Parameter, acting: frozenset[str] | None) -> bool:
    if acting is None or parameter.status is not Status.DONE:
        return False
    # What every method uses stays in effect where none acts: such a plugin turns all away.
    return not parameter.used_by or bool(parameter.used_by & acting)


def _each_reference(node: Node, change: Callable[[Scalar], Node]) -> Node:
    """Return ``node`` with each reference in it changed."""
    if isinstance(node, ListNode):
        return node.replace([_each_reference(item, change) for item in node.items])
    if isinstance(node, MappingNode):
        return node.replace(
            {name: _each_reference(e.value, change) for name, e in node.entries.items()}
        )
    if isinstance(node, Scalar) and (node.text or "").startswith(environment.REFERENCE_START):
        return change(node)
    return node


def _resolved(node: Scalar, *, name: str, vaults: environment.Vaults, problems: Problems) -> Scalar:
    try:
        variable, value = vaults.value(node.text or "")
    except LookupError as error:
        problems.error(node.position, name, str(error))
        return node.filled(None, "")
    return node.filled(value, variable)


# --- What the parameters mean together --------------------------------------------


class _Reading:
    """The parameters of one plugin, and what is to be said about them."""

    def __init__(
        self,
        config: MappingNode,
        values: dict[str, Any],
        position: SourcePosition,
        problems: Problems,
    ) -> None:
        self._config = config
        self._values = values
        self._position = position
        self._problems = problems
        # Of those for browsers it has been said that they are not done.
        self._named_methods = frozenset(self._get("auth_methods")) - _BROWSER_METHODS
        self._methods = self._auth_methods()

    def result(self) -> OpenIDConnect | None:
        """Apply every rule, so that all problems are said at once; then build."""
        self._say_what_takes_no_effect()
        self._check_login_action()
        self._check_verification()
        self._check_client()
        self._notice_client()
        self._check_issuer()
        self._check_cache()
        self._notice_plain_http()
        self._notice_audience()
        # What is left of a reference that nobody follows is its own text, which is no value.
        self._values = {n: v for n, v in self._values.items() if not self._is_unresolved(n)}
        built: dict[str, Any] = {
            "auth_methods": self._methods,
            "bearer_token_param_type": self._locations("bearer"),
            "client_credentials_param_type": self._locations("client_credentials"),
            "consumer_claims": self._consumer_claims(),
            **self._scopes(),
            **self._upstream_access_token_header(),
            **self._secrets(),
        }
        if "issuer" not in self._values:
            return None
        verbatim = {name: self._values[name] for name in _VERBATIM if name in self._values}
        return OpenIDConnect(**verbatim, **built)

    def _get(self, name: str) -> Any:  # noqa: ANN401 - any parameter's value
        """Return the file's value, else Kong's default."""
        return self._values.get(name, PARAMETERS[name].default)

    def _error(self, name: str, message: str) -> None:
        self._problems.error(self._where(name), name, message)

    def _notice(self, name: str, message: str) -> None:
        self._problems.notice(self._where(name), name, message)

    def _where(self, name: str) -> SourcePosition:
        entry = self._config.entries.get(name)
        return self._position if entry is None else entry.value.position

    def _items(self, name: str) -> list[Scalar]:
        node = self._config.entries[name].value
        items = node.items if isinstance(node, ListNode) else [node]
        return [item for item in items if isinstance(item, Scalar)]

    def _is_unresolved(self, name: str) -> bool:
        return any(isinstance(item, Unresolved) for item in self._items(name))

    # --- Not done ---

    def _say_what_takes_no_effect(self) -> None:
        browser, idle = [], []
        for name, value in self._values.items():
            parameter = PARAMETERS[name]
            if parameter.is_default(value):
                continue
            if parameter.used_by and not parameter.used_by & self._named_methods:
                idle.append(name)
            elif parameter.status is Status.REFUSED:
                self._error(
                    name,
                    f"is not done here. Without it, {parameter.without}: remove it only if that is "
                    "right",
                )
            elif parameter.status is Status.BROWSER:
                browser.append(name)
        if idle := [name for name in idle if name not in _OUR_CLIENT]:  # these have their own
            self._notice(
                idle[0],
                "no effect, for only methods that are not named in auth_methods, or are for "
                f"browsers, use it: {', '.join(idle)}",
            )
        if browser:
            names = ", ".join(name for name in browser if name not in LEGACY) or "legacy names"
            legacy = sum(name in LEGACY for name in browser)
            more = f" and {legacy} of older versions" if legacy and legacy < len(browser) else ""
            self._problems.notice(
                self._config.key_position(browser[0]),
                browser[0],
                f"of logins and sessions, changes nothing for machine callers: {names}{more}",
            )

    def _check_login_action(self) -> None:
        """Refuse an answer in the upstream's place: Kong would give the token to the caller."""
        if self._get("login_action") == "upstream":
            return
        if concerned := [name for name in self._get("login_methods") if name in self._methods]:
            self._error(
                "login_action", f"other than upstream is not done here for {', '.join(concerned)}"
            )

    # --- Methods and credentials ---

    def _auth_methods(self) -> tuple[str, ...]:
        named = self._values.get("auth_methods")
        if named is None or PARAMETERS["auth_methods"].is_default(named):
            self._notice(
                "auth_methods",
                f"Kong's default is all of its methods; here it means {' and '.join(METHODS_DONE)}",
            )
            return METHODS_DONE
        browser = [name for name in AUTH_METHODS if name in named and name in _BROWSER_METHODS]
        if browser and _BROWSER_METHODS.issuperset(named):
            self._notice(
                "auth_methods",
                f"{', '.join(browser)}: for browsers, not done here, and nothing else is named: "
                f"every request gets 401 {Reason.METHODS_FOR_BROWSERS}",
            )
        elif browser:
            self._notice("auth_methods", f"{', '.join(browser)}: for browsers, not done here")
        for item in self._items("auth_methods"):
            name = item.text
            if name in AUTH_METHODS and name not in METHODS_DONE and name not in _BROWSER_METHODS:
                message = (
                    f"'{name}' is not done here. Without it, callers who prove who they are that "
                    "way get 401: remove it only if that is right"
                )
                self._problems.error(item.position, "auth_methods", message)
        methods = tuple(name for name in METHODS_DONE if name in named)
        if not methods and not browser:
            self._error("auth_methods", f"lets nobody in: name {' or '.join(METHODS_DONE)}")
        return methods

    def _locations(self, method: str) -> tuple[str, ...]:
        """Return where the credentials of ``method`` may stand.

        Kong's default reads the body too.  Envoy sends bodies only when told
        to, and ext_authz cannot take a credential out of one, so the body is
        read only where the file asks for it and leaves the credential there.
        """
        name = f"{'bearer_token' if method == 'bearer' else method}_param_type"
        named: tuple[str, ...] | None = self._values.get(name)
        if method not in self._methods:
            return _DEFAULT_LOCATIONS
        hidden = self._get("hide_credentials")
        if named is None or (hidden and set(named) == set(CREDENTIAL_LOCATIONS)):
            self._notice(
                name,
                "header and query are read, not the body; "
                f"write {name}: [header] to say where callers put it",
            )
            return _DEFAULT_LOCATIONS
        if not named:
            self._error(name, "must name a place: header or query")
        if "cookie" in named:
            self._error(name, "cookie is not done here; use header or query")
        if "body" in named and hidden:
            self._error(
                name,
                "body cannot be hidden from the upstream: remove it, or set "
                "hide_credentials: false",
            )
        return tuple(dict.fromkeys(named))

    def _check_client(self) -> None:
        exchanging = "client_credentials" in self._methods
        for name in ("client_auth", "token_endpoint_auth_method"):
            value = self._get(name) or ()
            for method in (value,) if isinstance(value, str) else value:
                if method == "none" and exchanging:
                    self._error(
                        name, "none would let the provider skip the caller's secret; remove it"
                    )
                elif exchanging and method != "none" and method not in _CLIENT_AUTH_DONE:
                    done = " or ".join(sorted(_CLIENT_AUTH_DONE))
                    self._error(name, f"'{method}' is not done here; write {done}")

    def _notice_client(self) -> None:
        if names := [name for name in ("client_id", "client_secret") if self._get(name)]:
            self._notice(
                names[0],
                f"no method that is done here uses a client of our own ({', '.join(names)}): "
                "callers present theirs",
            )

    def _secrets(self) -> dict[str, Any]:
        salt = self._values.get("cache_tokens_salt")
        return {
            "client_secret": tuple(map(Secret, self._values.get("client_secret", ()))),
            "cache_tokens_salt": None if salt is None else Secret(salt),
        }

    # --- The provider ---

    def _check_issuer(self) -> None:
        if self._config.get("issuer") is None:
            self._error("issuer", "is required: the URL of the identity provider")
        if not self._get("using_pseudo_issuer"):
            return
        # Nothing is discovered then, so the file has to say where things are.
        if "client_credentials" in self._methods and self._config.get("token_endpoint") is None:
            self._error("using_pseudo_issuer", "needs token_endpoint: nothing is discovered")
        if self._config.get("jwks_endpoint") is None and not self._get("extra_jwks_uris"):
            self._error(
                "using_pseudo_issuer", "needs jwks_endpoint or extra_jwks_uris for the keys"
            )

    def _check_verification(self) -> None:
        for name in ("verify_signature", "verify_claims"):
            if not self._get(name):
                self._error(name, "must stay true: an unverified token proves nothing")

    def _notice_plain_http(self) -> None:
        exposed: dict[str, str] = {}
        for name in _ENDPOINTS:
            value = self._values.get(name) or ()
            for url in (value,) if isinstance(value, str) else value:
                if host := checks.plain_http_host(url):
                    exposed.setdefault(name, host)
        if exposed:
            names = ", ".join(exposed)
            self._notice(
                next(iter(exposed)),
                f"plain http: secrets and tokens cross the network readable ({names}); use https",
            )

    def _notice_audience(self) -> None:
        if self._methods and not self._get("audience") and not self._get("audience_required"):
            self._notice(
                "audience",
                "is not set: a token that this issuer made for another service is accepted too",
            )

    # --- Tokens and consumers ---

    def _scopes(self) -> dict[str, Any]:
        if self._is_explicit_null("scopes"):
            return {"scopes": ()}
        scopes = self._get("scopes")
        return {"scopes": tuple(scope for scope in scopes if scope)}

    def _upstream_access_token_header(self) -> dict[str, Any]:
        name = "upstream_access_token_header"
        value = None if self._is_explicit_null(name) else self._get(name)
        return {name: value or None}

    def _is_explicit_null(self, name: str) -> bool:
        entry = self._config.entries.get(name)
        return name in _NULL_IS_NONE and entry is not None and entry.value.is_null

    def _consumer_claims(self) -> tuple[tuple[str, ...], ...]:
        """Return the paths; ``consumer_claim`` is the older way to write a single one."""
        one = self._values.get("consumer_claim")
        many: tuple[tuple[str, ...], ...] | None = self._values.get("consumer_claims")
        if one is None:
            return many or ()
        if many is not None and many != (one,):
            self._error("consumer_claim", "says something else than consumer_claims; keep that one")
        return (one,)

    def _check_cache(self) -> None:
        shortest, longest = self._get("cache_ttl_min"), self._get("cache_ttl_max")
        if shortest is not None and longest is not None and shortest > longest:
            self._error("cache_ttl_min", "must not be greater than cache_ttl_max")
        if self._values.get("token_cache_key_include_scope") is False:
            self._notice("token_cache_key_include_scope", "scopes are part of the key all the same")
