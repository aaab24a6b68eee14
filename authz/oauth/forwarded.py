"""What of a caller's request goes into the question to the provider, because the file names it.

Kong's ``introspection_headers_client``, ``introspection_post_args_client``,
``introspection_post_args_client_headers``, ``userinfo_headers_client`` and
``userinfo_query_args_client``.  The values are the caller's own text, so they
are bounded; the names are the file's (:mod:`authz.kong.openid_connect` refuses those that
would let a caller write what authz writes).  The answer depends on them: they belong
into the key of whatever keeps it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes

from authz import credentials, strict_json
from authz.errors import MalformedRequest, Reason
from authz.parameters.checks import carried_by_header

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from authz.model import Request

FORWARDED_BYTES_MAX: Final = 4_096
"""Of all values that go with one question; in a query or a form, as they were sent."""

_FORM: Final = "application/x-www-form-urlencoded"
_JSON: Final = "application/json"

_Fields = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What one request has of what the file names: pairs of name and value."""

    headers: _Fields = field(default=(), repr=False)
    arguments: _Fields = field(default=(), repr=False)

    @property
    def values(self) -> tuple[str, ...]:
        """The values that say something; a caller's header may be its secret."""
        return tuple(value for _, value in (*self.headers, *self.arguments) if value)

    @property
    def key(self) -> tuple[str, ...]:
        """What an answer depends on, for a digest that tells its parts from each other."""
        fields = (("header", self.headers), ("argument", self.arguments))
        return tuple(
            part for kind, pairs in fields for name, value in pairs for part in (kind, name, value)
        )


class Forwarding:
    """What one plugin forwards.

    ``headers``, ``arguments``: the names of the caller's that are passed on as they are.
    ``headers_as_arguments``: those of headers that become arguments.  ``reads_body``:
    whether arguments are looked for in the body, too.  They are in the plugin's that read
    credentials there: Envoy sends no other body.
    """

    def __init__(
        self,
        *,
        headers: tuple[str, ...],
        arguments: tuple[str, ...],
        headers_as_arguments: tuple[str, ...] = (),
        reads_body: bool = False,
    ) -> None:
        self._headers = _lower_case(headers)
        self._headers_as_arguments = tuple((name, name.lower()) for name in headers_as_arguments)
        self._arguments = arguments
        self._reads_body = reads_body
        # All that decodes to a name: an upstream knows an argument by any spelling of it.
        names = "|".join(f"({credentials.any_spelling(name)})" for name in self._arguments)
        self._pattern = re.compile(f"&(?:{names})(?=[=&])".encode("ascii"))
        self.is_empty: Final = not (self._headers or self._headers_as_arguments or self._arguments)

    def of(self, request: Request) -> Forwarded:
        """Return what a request has of it; what it has not is not sent.

        Raises :class:`~authz.errors.MalformedRequest` for what cannot be forwarded, or
        stands for two things.
        """
        if self.is_empty:
            return _NOTHING
        headers = _present(request, ((name, name) for name in self._headers))
        as_arguments = _present(request, self._headers_as_arguments)
        arguments = self._of_query_and_body(request) if self._arguments else {}
        found = Forwarded(headers, (*arguments.items(), *as_arguments))
        if sum(len(_encoded(value)) for value in found.values) > FORWARDED_BYTES_MAX:
            raise _too_long()
        return found

    def _of_query_and_body(self, request: Request) -> Mapping[str, str]:
        _, _, query = request.path.partition("?")
        if len(query) > credentials.QUERY_BYTES_MAX:
            raise _malformed("the query is too long")
        in_query = self._of_form(query.encode())
        in_body = self._of_body(request) if self._reads_body and request.body else {}
        if twice := in_query.keys() & in_body.keys():
            raise _malformed(f"{min(twice)} was sent in the query and in the body")
        found = in_query | in_body
        return {name: found[name] for name in self._arguments if name in found}

    def _of_body(self, request: Request) -> dict[str, str]:
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type not in {_FORM, _JSON}:
            return {}
        if credentials.body_is_incomplete(request):
            raise MalformedRequest(Reason.BODY_INCOMPLETE, "the body is too large to search")
        return self._of_form(request.body) if content_type == _FORM else self._of_json(request.body)

    def _of_form(self, encoded: bytes) -> dict[str, str]:
        if credentials.too_many_arguments(encoded.decode("latin-1")):
            raise _malformed(f"more than {credentials.ARGUMENTS_MAX} arguments to search")
        found: dict[str, str] = {}
        text = b"&" + encoded + b"&"
        for match in self._pattern.finditer(text):
            name = self._arguments[(match.lastindex or 0) - 1]  # every alternative is a group
            if name in found:
                raise _malformed(f"{name} was sent twice")
            value = text[match.end() : text.index(b"&", match.end())].removeprefix(b"=")
            found[name] = _decoded(name, value)
        return found

    def _of_json(self, body: bytes) -> dict[str, str]:
        try:
            document: Any = strict_json.loads(body)
        except strict_json.InvalidJSONError as error:
            # It may be JSON all the same, to whoever reads it after us.
            raise _malformed(f"the body: {error}") from None
        members = document if isinstance(document, dict) else {}
        found = {n: v for n in self._arguments if (v := members.get(n)) is not None}
        for name, value in found.items():
            if not isinstance(value, str) or not _is_text(value):
                raise _malformed(f"{name} in the body is no text")
        return found


_NOTHING: Final = Forwarded()


def _lower_case(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name.lower() for name in names)


def _present(request: Request, names: Iterable[tuple[str, str]]) -> _Fields:
    """Return the headers that a request has, under the names that the provider gets."""

    def fields() -> Iterator[tuple[str, str]]:
        for name, header in names:
            value = request.headers.get(header)
            if value is None:
                continue
            if not carried_by_header(value):
                raise _malformed(f"the header {header} is not visible ASCII")
            yield name, value

    return tuple(fields())


def _decoded(name: str, value: bytes) -> str:
    if len(value) > FORWARDED_BYTES_MAX:
        raise _too_long()
    try:
        return unquote_to_bytes(value.replace(b"+", b" ")).decode("utf-8")
    except UnicodeDecodeError:
        raise _malformed(f"{name} is not UTF-8") from None


def _is_text(text: str) -> bool:
    try:
        _encoded(text)
    except UnicodeEncodeError:  # a lone surrogate: legal in JSON, not in UTF-8
        return False
    return True


def _encoded(text: str) -> bytes:
    return text.encode("utf-8")


def _too_long() -> MalformedRequest:
    return _malformed(f"more than {FORWARDED_BYTES_MAX} bytes to forward to the provider")


def _malformed(detail: str) -> MalformedRequest:
    return MalformedRequest(Reason.REQUEST_MALFORMED, detail)
