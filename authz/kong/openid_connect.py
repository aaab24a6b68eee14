"""One openid-connect plugin: from its ``config`` to ``parameters.OpenIDConnect``.

``authz.parameters`` declares each parameter.  This module checks what they mean
together, and reports those that do not take effect.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from authz import header_names
from authz.errors import Reason
from authz.kong import environment, schema
from authz.kong.document import ListNode, MappingNode, Node, Scalar, Unresolved
from authz.kong.slots import LOCATION_PARAMETERS
from authz.parameters import PARAMETERS, OpenIDConnect
from authz.parameters.browser import LEGACY
from authz.parameters.checks import plain_http_host
from authz.parameters.common import (
    AUTH_METHODS,
    CREDENTIAL_LOCATIONS,
    LOCATIONS_BY_DEFAULT,
    METHODS_BY_DEFAULT,
    METHODS_BY_DEFAULT_WITH_OUR_CLIENT,
    METHODS_FOR_BROWSERS,
    OUR_CLIENT_METHODS,
    URL,
)
from authz.parameters.declaration import Status
from authz.parameters.kinds import Array, Object

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from authz.kong.problems import Problems
    from authz.model import SourcePosition
    from authz.parameters.declaration import Parameter
    from authz.parameters.kinds import Field

_CLIENT_NAMES = ("client_id", "client_secret", "client_jwk")
_WITH_SECRET = frozenset({"client_secret_basic", "client_secret_post", "client_secret_jwt"})
_WITH_KEY = frozenset({"private_key_jwt"})
# The methods that ask in our own client's name, and what says how it proves itself there.
_OWN_AUTHENTICATION = {
    "introspection": "introspection_endpoint_auth_method",
    "password": "token_endpoint_auth_method",
}
_ENDPOINTS = {
    "token_endpoint": frozenset({"client_credentials", "password"}),
    "introspection_endpoint": frozenset({"introspection"}),
    "userinfo_endpoint": frozenset({"userinfo"}),
}
# What authz itself writes into an introspection request.
_OWN_ARGUMENTS = frozenset(
    {
        "token_type_hint", "client_id", "client_secret", "client_assertion",
        "client_assertion_type",
    }
)  # fmt: skip
# What no caller may write into one, whatever the file calls the token there.
_NO_CALLERS_ARGUMENTS = _OWN_ARGUMENTS | {"token", "grant_type"}
# How a token can stand in a query (RFC 6750 section 2.3); ours stands in the header alone.
_NO_ARGUMENT_OF_USERINFO = frozenset({"access_token"})
# What of the caller's request goes with a question: the headers, then what becomes arguments.
_INTROSPECTION_FORWARDED = (
    "introspection_headers_client",
    "introspection_post_args_client",
    "introspection_post_args_client_headers",
)
_USERINFO_FORWARDED = ("userinfo_headers_client", "userinfo_query_args_client")
# With one question.
FORWARDED_NAMES_MAX = 16
_URLS = tuple(
    name
    for name, parameter in PARAMETERS.items()
    if parameter.kind in {URL, Array(URL)} and parameter.status is Status.DONE
)


def read(
    config: MappingNode,
    position: SourcePosition,
    vaults: environment.Vaults,
    problems: Problems,
    *,
    methods: tuple[str, ...],
    enabled: bool = True,
) -> OpenIDConnect | None:
    """Read the ``config`` of the plugin at ``position``.

    ``methods``: those of Kong's that are done, in its order.  None if it is not
    ``enabled`` (then only its grammar is checked), or if it lacks what everything else
    needs, which has been reported.
    """
    acting = _acting_methods(config, methods) if enabled else None
    config = _with_references(config, acting, vaults, problems)
    values = schema.read_fields(config, PARAMETERS, problems)
    if acting is None:
        return None
    return _Reading(config, values, position, problems, acting, done=methods).result()


# --- {vault://…} ------------------------------------------------------------------


def _acting_methods(config: MappingNode, done: tuple[str, ...]) -> tuple[str, ...]:
    """Return the methods that are done and that ``config`` names.

    Where it names none, or all of Kong's, those act that Kong's default stands for here.

    A method that needs our own client acts unasked only where the file gives that client:
    a machine's secret is not tried as a user's password for nothing.
    """
    node = config.get("auth_methods")
    items = node.items if isinstance(node, ListNode) else [] if node is None else [node]
    named = {item.text for item in items if isinstance(item, Scalar)}
    if node is not None and named != set(AUTH_METHODS):
        return tuple(method for method in done if method in named)
    given = {name for name in _CLIENT_NAMES if not schema.is_empty(config.get(name))}
    has_client = "client_id" in given and len(given) > 1
    unasked = METHODS_BY_DEFAULT + (METHODS_BY_DEFAULT_WITH_OUR_CLIENT if has_client else ())
    return tuple(method for method in done if method in unasked)


def _with_references(
    config: MappingNode,
    acting: tuple[str, ...] | None,
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
        if _takes_effect(parameter, acting):
            replaced[name] = _with_values(entry.value, name, parameter, vaults, problems)
        else:
            replaced[name] = _each_reference(entry.value, Scalar.unresolved)
    return config.replace(replaced)


def _with_values(
    node: Node, name: str, field: Field, vaults: environment.Vaults, problems: Problems
) -> Node:
    """Return ``node`` with its references resolved, as far as ``field`` takes any."""
    kind = field.kind.of if isinstance(field.kind, Array) else field.kind
    if isinstance(kind, Object):
        if isinstance(node, ListNode):
            items = [_with_values(item, name, field, vaults, problems) for item in node.items]
            return node.replace(items)
        if not isinstance(node, MappingNode):
            return node
        return node.replace(
            {
                key: _with_values(entry.value, f"{name}.{key}", inner, vaults, problems)
                for key, entry in node.entries.items()
                if (inner := kind.fields.get(key)) is not None
            }
        )
    if not field.referenceable:
        return node
    return _each_reference(node, partial(_resolved, name=name, vaults=vaults, problems=problems))


def _takes_effect(parameter: Parameter, acting: tuple[str, ...] | None) -> bool:
    if acting is None or parameter.status is not Status.DONE:
        return False
    # What every method uses stays in effect where none acts: such a plugin turns all away.
    return not parameter.used_by or not parameter.used_by.isdisjoint(acting)


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


def _composed(config: MappingNode, values: Mapping[str, object]) -> OpenIDConnect:
    """Return the parameters that are done, as the file has them; the issuer may be empty.

    What is left of a reference that nobody follows is its own text, which is no value.
    """
    done = {
        name: value
        for name, value in values.items()
        if PARAMETERS[name].status is Status.DONE and not _is_unresolved(config.entries[name].value)
    }
    return OpenIDConnect.of(**{"issuer": "", **done})


def _is_unresolved(node: Node) -> bool:
    if isinstance(node, ListNode):
        return any(map(_is_unresolved, node.items))
    if isinstance(node, MappingNode):
        return any(_is_unresolved(entry.value) for entry in node.entries.values())
    return isinstance(node, Unresolved)


def _lacks_value(node: Node | None) -> bool:
    """Whether the variable of a text in it has no value, which has been reported."""
    if isinstance(node, ListNode):
        return any(map(_lacks_value, node.items))
    if isinstance(node, MappingNode):
        return any(_lacks_value(entry.value) for entry in node.entries.values())
    return isinstance(node, Scalar) and node.text is None


def _not_done(parameter: Parameter) -> str:
    """Say what it would mean to remove a parameter, and what to write instead."""
    outcome = parameter.becomes
    instead = f". Instead: {outcome.instead}" if outcome.instead else ""
    return (
        f"is not done here. Without it, {outcome.without}: remove it only if that is right{instead}"
    )


class _Reading:
    """The parameters of one plugin, and what is to be said about them."""

    def __init__(
        self,
        config: MappingNode,
        values: dict[str, Any],
        position: SourcePosition,
        problems: Problems,
        methods: tuple[str, ...],
        *,
        done: tuple[str, ...],
    ) -> None:
        self._config = config
        self._values = values
        self._position = position
        self._problems = problems
        self._said = _composed(config, values)
        # Of those for browsers it has been said that they are not done.
        self._named_methods = frozenset(self._as_kong("auth_methods")) - METHODS_FOR_BROWSERS
        self._methods = methods
        self._done = done

    def result(self) -> OpenIDConnect | None:
        """Apply every rule, so that all problems are said at once; then build."""
        self._check_methods()
        self._say_what_takes_no_effect()
        self._check_login_action()
        self._check_verification()
        self._check_values()
        self._check_client()
        self._check_own_client()
        self._check_introspection()
        self._check_userinfo()
        self._notice_client()
        self._check_issuer()
        self._check_cache()
        self._notice_plain_http()
        self._notice_audience()
        read = self._said.replace(
            auth_methods=self._methods,
            **self._all_locations(),
            scopes=tuple(filter(None, self._said.exchange.scopes)),  # "" asks for none
            consumer_claims=self._consumer_claims(),
            consumer_claim=(),
        )
        return read if read.provider.issuer else None

    def _as_kong(self, name: str) -> Any:  # noqa: ANN401 - any parameter's value
        """Return the file's value, else Kong's default, also where it is another one here."""
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
                self._error(name, _not_done(parameter))
            elif parameter.status is Status.NOTICED:
                self._notice(name, f"has no effect here: {parameter.becomes.without}")
            elif parameter.status is Status.BROWSER:
                browser.append(name)
        if idle := [name for name in idle if name not in _CLIENT_NAMES]:  # these have their own
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

    def _check_values(self) -> None:
        """Refuse the values of a choice that are not done, where a method uses them."""
        for name, said in self._values.items():
            parameter = PARAMETERS[name]
            outcome = parameter.becomes
            if not outcome.values or not _takes_effect(parameter, self._methods):
                continue
            for value in (said,) if isinstance(said, str) else said:
                if value not in {*outcome.values, "none"}:  # of which more is said elsewhere
                    self._error(
                        name,
                        f"'{value}' is not done here. Without it, {outcome.without}: write "
                        f"{' or '.join(outcome.values)}, if that is right",
                    )

    def _check_login_action(self) -> None:
        """Refuse an answer in the upstream's place: Kong would give the token to the caller."""
        if self._as_kong("login_action") == "upstream":
            return
        if concerned := [name for name in self._as_kong("login_methods") if name in self._methods]:
            self._error(
                "login_action",
                f"other than upstream is not done here for {', '.join(concerned)}. Without it, "
                "requests go to the upstream, and callers do not get the token: remove it only if "
                "that is right",
            )

    # --- Methods and credentials ---

    def _check_methods(self) -> None:
        named = self._values.get("auth_methods")
        if named is None or PARAMETERS["auth_methods"].is_default(named):
            self._notice(
                "auth_methods",
                "Kong's default is all of its methods; here it means "
                f"{' and '.join(self._methods)}",
            )
            return
        browser = sorted(METHODS_FOR_BROWSERS.intersection(named))
        if browser and METHODS_FOR_BROWSERS.issuperset(named):
            self._notice(
                "auth_methods",
                f"{', '.join(browser)}: for browsers, not done here, and nothing else is named: "
                f"every request gets 401 {Reason.METHODS_FOR_BROWSERS}",
            )
        elif browser:
            self._notice("auth_methods", f"{', '.join(browser)}: for browsers, not done here")
        for item in self._items("auth_methods"):
            name = item.text
            if name in AUTH_METHODS and name not in {*self._done, *METHODS_FOR_BROWSERS}:
                message = (
                    f"'{name}' is not done here. Without it, callers who prove who they are that "
                    "way get 401: remove it only if that is right"
                )
                self._problems.error(item.position, "auth_methods", message)
        if not self._methods and not browser:
            self._error("auth_methods", f"lets nobody in: name {' or '.join(self._done)}")

    def _all_locations(self) -> dict[str, tuple[str, ...]]:
        """Return where credentials may stand, by parameter; some have several methods."""
        asked = {LOCATION_PARAMETERS[m] for m in self._methods}
        return {
            name: self._locations(name) if name in asked else LOCATIONS_BY_DEFAULT
            for name in dict.fromkeys(LOCATION_PARAMETERS.values())
        }

    def _locations(self, name: str) -> tuple[str, ...]:
        """Return where credentials may stand, of which ``name`` says it.

        Kong's default reads the body too.  Envoy sends bodies only when told
        to, and ext_authz cannot take a credential out of one, so the body is
        read only where the file asks for it and leaves the credential there.
        """
        named: tuple[str, ...] | None = self._values.get(name)
        hidden = self._said.upstream.hide_credentials
        if named is None or (hidden and set(named) == set(CREDENTIAL_LOCATIONS)):
            self._notice(
                name,
                "header and query are read, not the body; "
                f"write {name}: [header] to say where callers put it",
            )
            return LOCATIONS_BY_DEFAULT
        if not named:
            self._error(name, "must name a place: header or query")
        if "body" in named and hidden:
            self._error(
                name,
                "body cannot be hidden from the upstream, for ext_authz cannot change a body: "
                "set hide_credentials: false, or remove body, and callers who put it there get 401",
            )
        return tuple(dict.fromkeys(named))

    def _check_client(self) -> None:
        """Refuse a client that does not prove itself: callers' secrets are checked by that."""
        if "client_credentials" not in self._methods:
            return
        exchange, client = self._said.exchange, self._said.client
        for name, methods in (
            ("client_auth", client.client_auth),
            ("token_endpoint_auth_method", (exchange.token_endpoint_auth_method,)),
        ):
            if "none" in methods:
                self._error(
                    name,
                    "none would let the provider skip the caller's secret, and let anybody in: "
                    "remove it, and the way that the provider lists is taken",
                )

        name, method = self._chosen("token_endpoint_auth_method")
        if method in _WITH_KEY:
            self._error(
                name,
                f"'{method}' proves our own client and no caller, and client_credentials is for "
                "callers' secrets: write token_endpoint_auth_method: "
                f"{' or '.join(sorted(_WITH_SECRET))}",
            )

    def _chosen(self, name: str) -> tuple[str, str | None]:
        """Return the client authentication in effect at an endpoint, and where the file names it.

        ``name``: the parameter of that endpoint; it goes before ``client_auth``.
        """
        if (own := self._values.get(name)) is not None:
            return name, own
        return "client_auth", next(iter(self._said.client.client_auth), None)

    def _check_own_client(self) -> None:
        """Refuse a client of our own that cannot prove itself where a method needs one."""
        asking = [method for method in _OWN_AUTHENTICATION if method in self._methods]
        if not asking:
            return
        given = {name for name in _CLIENT_NAMES if self._is_given(name)}
        if "client_id" not in given or len(given) == 1:
            self._error(
                "client_id",
                f"is required with client_secret or client_jwk, for {' and '.join(asking)}: the "
                "client in whose name the provider is asked",
            )
            return
        possible = frozenset[str]()
        possible |= _WITH_SECRET if "client_secret" in given else frozenset()
        possible |= _WITH_KEY if "client_jwk" in given else frozenset()
        for name, method in dict.fromkeys(self._chosen(_OWN_AUTHENTICATION[m]) for m in asking):
            self._check_own_authentication(name, method, possible)

    def _is_given(self, name: str) -> bool:
        """Whether the file gives a parameter, also if its variable has no value now.

        That has been reported; nothing else is wrong with it.
        """
        return bool(self._said.flat()[name]) or _lacks_value(self._config.get(name))

    def _check_own_authentication(
        self, name: str, method: str | None, possible: frozenset[str]
    ) -> None:
        if method == "none":
            self._error(
                name,
                "none would let the provider answer anybody in our name: write "
                f"{' or '.join(sorted(possible))}",
            )
        elif method in _WITH_SECRET | _WITH_KEY and method not in possible:
            lacks = "client_jwk" if method in _WITH_KEY else "client_secret"
            self._error(name, f"'{method}' needs {lacks}, which the file does not have")
        algorithm = next(iter(self._said.client.client_alg), None)
        if algorithm is None:
            return
        is_hmac = algorithm.startswith("HS")
        if (method == "client_secret_jwt" and not is_hmac) or (method in _WITH_KEY and is_hmac):
            self._error("client_alg", f"'{algorithm}' does not go with {method}")

    def _check_introspection(self) -> None:
        """Refuse what would weaken introspection, or could not be asked."""
        said = self._said.introspection
        if "introspection" not in self._methods:
            if said.introspect_jwt_tokens:
                self._error(
                    "introspect_jwt_tokens",
                    "needs introspection in auth_methods, and a client of our own: else a token "
                    "that was revoked would be accepted until it expires",
                )
            return
        own = _OWN_ARGUMENTS | {said.introspection_token_param_name}
        self._check_pairs("introspection_headers")
        self._check_pairs("introspection_post_args", own)
        self._check_forwarded(
            _INTROSPECTION_FORWARDED,
            headers=said.introspection_headers_names,
            arguments=(*_NO_CALLERS_ARGUMENTS, *own, *said.introspection_post_args_names),
        )

    def _check_userinfo(self) -> None:
        """Refuse what the userinfo endpoint could not be asked with."""
        if "userinfo" not in self._methods:
            return
        said = self._said.userinfo
        in_url = (name for name, _ in parse_qsl(urlsplit(said.userinfo_endpoint or "").query))
        self._check_pairs("userinfo_headers")
        self._check_pairs("userinfo_query_args", _NO_ARGUMENT_OF_USERINFO)
        self._check_forwarded(
            _USERINFO_FORWARDED,
            headers=said.userinfo_headers_names,
            arguments=(*_NO_ARGUMENT_OF_USERINFO, *said.userinfo_query_args_names, *in_url),
        )

    def _check_pairs(self, what: str, own: Collection[str] = ()) -> None:
        """Refuse names and values that do not pair, and names that authz writes itself."""
        values = self._said.flat()
        names, count = values[f"{what}_names"], len(values[f"{what}_values"])
        if len(names) != count:
            self._error(
                f"{what}_names",
                f"has {len(names)} items, {what}_values {count}: each name has one value",
            )
        for name in names:
            if name in own:
                self._error(f"{what}_names", f"'{name}' is an argument that authz writes")

    def _check_forwarded(
        self, parameters: Sequence[str], *, headers: Iterable[str], arguments: Iterable[str]
    ) -> None:
        """Refuse what would let a caller write what authz or the file writes.

        ``parameters``: the one of headers first.  ``headers``, ``arguments``: what is
        written already.
        """
        names = {parameter: self._said.flat()[parameter] for parameter in parameters}
        count = sum(map(len, names.values()))
        if count > FORWARDED_NAMES_MAX:
            self._error(
                next(parameter for parameter in parameters if names[parameter]),
                f"{' and '.join(parameters)} name {count} in all; at most {FORWARDED_NAMES_MAX}",
            )
        of_headers = parameters[0]
        self._check_written_once({of_headers: names.pop(of_headers)}, headers)
        self._check_written_once(names, arguments)

    def _check_written_once(
        self, names: Mapping[str, Iterable[str]], written: Iterable[str]
    ) -> None:
        """Refuse a name that is written already: some providers take one spelling for another."""
        seen = {header_names.folded(name.lower()) for name in written}
        for parameter, of_callers in names.items():
            for name in of_callers:
                folded = header_names.folded(name.lower())
                if folded in seen:
                    self._error(
                        parameter,
                        f"'{name}' is written already, by authz or by the file: a caller must not "
                        "write it, too; choose another",
                    )
                seen.add(folded)

    def _notice_client(self) -> None:
        if OUR_CLIENT_METHODS.intersection(self._methods):
            return
        if names := [name for name in _CLIENT_NAMES if self._values.get(name)]:
            self._notice(
                names[0],
                f"no method that acts here uses a client of our own ({', '.join(names)}): "
                "callers present theirs",
            )

    # --- The provider ---

    def _check_issuer(self) -> None:
        provider = self._said.provider
        if self._config.get("issuer") is None:
            self._error("issuer", "is required: the URL of the identity provider")
        if not provider.using_pseudo_issuer:
            return
        # Nothing is discovered then, so the file has to say where things are.
        for name, methods in _ENDPOINTS.items():
            if methods.intersection(self._methods) and self._config.get(name) is None:
                self._error("using_pseudo_issuer", f"needs {name}: nothing is discovered")
        if self._config.get("jwks_endpoint") is None and not provider.extra_jwks_uris:
            self._error(
                "using_pseudo_issuer", "needs jwks_endpoint or extra_jwks_uris for the keys"
            )

    def _check_verification(self) -> None:
        token = self._said.token
        checks = {"verify_signature": token.verify_signature, "verify_claims": token.verify_claims}
        for name, verifies in checks.items():
            if not verifies:
                self._error(
                    name,
                    "must stay true: an unverified token proves nothing, and anybody would get in; "
                    "remove the line",
                )

    def _notice_plain_http(self) -> None:
        exposed: dict[str, str] = {}
        for name in _URLS:
            value = self._values.get(name) or ()
            for url in (value,) if isinstance(value, str) else value:
                if host := plain_http_host(url):
                    exposed.setdefault(name, host)
        if exposed:
            names = ", ".join(exposed)
            self._notice(
                next(iter(exposed)),
                f"plain http: secrets and tokens cross the network readable ({names}); use https",
            )

    def _notice_audience(self) -> None:
        required = self._said.token.audience or self._said.access.audience_required
        if self._methods and not required:
            self._notice(
                "audience",
                "is not set: a token that this issuer made for another service is accepted too",
            )

    # --- Tokens and consumers ---

    def _consumer_claims(self) -> tuple[tuple[str, ...], ...]:
        """Return the paths; ``consumer_claim`` is the older way to write a single one."""
        identity = self._said.identity
        one = identity.consumer_claim
        if not one:
            return identity.consumer_claims
        if identity.consumer_claims not in {(), (one,)}:
            self._error("consumer_claim", "says something else than consumer_claims; keep that one")
        return (one,)

    def _check_cache(self) -> None:
        shortest, longest = self._said.memory.cache_ttl_min, self._said.memory.cache_ttl_max
        if shortest is not None and longest is not None and shortest > longest:
            self._error("cache_ttl_min", "must not be greater than cache_ttl_max")
        if self._values.get("token_cache_key_include_scope") is False:
            self._notice("token_cache_key_include_scope", "scopes are part of the key all the same")
