from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.decision import Allow, Decision, Deny, Respond
from authz.envoy import check
from authz.errors import Reason, Unavailable
from authz.model import Request
from bench.messages import CheckRequest, CheckResponse

APPEND, OVERWRITE = 0, 2  # HeaderValueOption.HeaderAppendAction


def wire(**attributes: Any) -> bytes:
    encoded: bytes = CheckRequest(attributes=attributes).SerializeToString()
    return encoded


def http(**fields: Any) -> bytes:
    return wire(request={"http": fields})


def raw_headers(*lines: dict[str, Any]) -> bytes:
    return http(header_map={"headers": lines})


def encode(request: Request) -> bytes:
    return wire(
        source={"address": socket_address(request.source_address, 51_000)},
        request={
            "http": {
                "method": request.method,
                "scheme": request.scheme,
                "host": request.host,
                "path": request.path,
                "headers": request.headers,
                "raw_body": request.body,
            }
        },
        context_extensions=request.context_extensions,
        tls_session={"sni": request.server_name},
    )


def socket_address(address: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": address, "port_value": port}}


def rendered(decision: Decision) -> Any:
    return CheckResponse.FromString(check.render(decision))


def allow(response: Any) -> Allow:
    ok = response.ok_response
    return Allow(
        headers={option.header.key: option.header.value for option in ok.headers},
        headers_to_remove=tuple(ok.headers_to_remove),
        query_parameters_to_remove=tuple(ok.query_parameters_to_remove),
        expires_at=expiry(response),
        **told(response),
    )


def deny(response: Any) -> Deny:
    denied = response.denied_response
    return Deny(
        code=response.status.code,
        status=denied.status.code,
        headers=tuple((option.header.key, option.header.value) for option in denied.headers),
        body=denied.body,
        **told(response),
    )


def metadata(response: Any) -> dict[str, str]:
    fields = response.dynamic_metadata.fields
    return {
        key: value.string_value for key, value in fields.items() if value.HasField("string_value")
    }


def expiry(response: Any) -> int | None:
    fields = response.dynamic_metadata.fields
    value = fields.get("expires_at")
    return int(value.number_value) if value and value.HasField("number_value") else None


def told(response: Any) -> dict[str, Any]:
    fields = metadata(response)
    return {"reason": fields.pop("reason"), "metadata": fields}


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.from_regex(r"[a-z0-9_.-]{1,20}", fullmatch=True).filter(lambda name: name != "host")
values = st.text(st.sampled_from([chr(code) for code in range(0x20, 0x7F)] + ["\t"]), max_size=20)

requests = st.builds(
    Request,
    method=text,
    scheme=text,
    host=text,
    path=text,
    headers=st.dictionaries(text.filter(lambda name: name == name.lower()), text),
    body=st.binary(max_size=20),
    context_extensions=st.dictionaries(text | st.sampled_from(["route", "service"]), text),
    server_name=text,
    source_address=text,
)
allows = st.builds(
    Allow,
    headers=st.dictionaries(names, values),
    headers_to_remove=st.lists(names, unique=True).map(tuple),
    query_parameters_to_remove=st.lists(text).map(tuple),
    reason=text,
    metadata=st.dictionaries(text, text),
    expires_at=st.none() | st.integers(0, 2**53),
).map(
    lambda made: dataclasses.replace(
        made,
        headers_to_remove=tuple(n for n in made.headers_to_remove if n not in made.headers),
    )
)
denies = st.builds(
    Deny,
    code=st.integers(1, 16),
    status=st.integers(400, 599),
    headers=st.lists(st.tuples(names, values)).map(tuple),
    body=text,
    reason=text,
    metadata=st.dictionaries(text, text),
)


class TestParse:
    @given(requests)
    def test_gives_back_every_value_that_was_sent(self, request_: Request) -> None:
        assert check.parse(encode(request_)) == request_

    @given(st.binary(max_size=200))
    def test_GR_02_random_bytes_raise_nothing_but_unavailable(self, garbage: bytes) -> None:
        with contextlib.suppress(Unavailable):
            check.parse(garbage)

    @given(requests, st.data())
    def test_GR_02_a_flipped_byte_raises_nothing_but_unavailable(
        self, request_: Request, data: st.DataObject
    ) -> None:
        damaged = bytearray(encode(request_))
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
        with contextlib.suppress(Unavailable):
            check.parse(bytes(damaged))

    @pytest.mark.parametrize(
        "empty",
        [
            CheckRequest(),
            CheckRequest(attributes={}),
            CheckRequest(attributes={"request": {}}),
            CheckRequest(attributes={"request": {"http": {}}}),
        ],
        ids=["nothing", "attributes", "request", "http"],
    )
    def test_GR_01_what_is_absent_is_empty(self, empty: Any) -> None:
        assert check.parse(empty.SerializeToString()) == Request()

    @pytest.mark.parametrize("field", ["path", "header", "name"])
    def test_GR_02_text_that_is_no_utf_8_is_unreadable_and_not_repeated(self, field: str) -> None:
        sent = http(path="/path", headers={"x-name": "header"})
        with pytest.raises(Unavailable) as caught:
            check.parse(sent.replace(field.encode(), b"\xff" * len(field)))
        assert caught.value.reason is Reason.REQUEST_UNREADABLE
        assert caught.value.__suppress_context__
        assert "xff" not in str(caught.value)
        assert check.parse(sent).path == "/path"

    def test_GR_03_fields_newer_than_the_contract_are_ignored(self) -> None:
        newer = bytes([0xF8, 0x7F, 0x01])  # field 2047, a varint
        known = http(path="/a", headers={"authorization": "Basic aWQ6eA=="})
        # A message field that comes twice is merged, so this adds to all four levels.
        http_request = bytes([0x12, len(newer)]) + newer
        request = bytes([0x22, len(http_request) + len(newer)]) + http_request + newer
        attributes = bytes([0x0A, len(request) + len(newer)]) + request + newer
        assert check.parse(known + attributes + newer) == check.parse(known)

    def test_GR_05_a_big_headers_map_and_a_big_body_are_only_carried(self) -> None:
        value = "v" * 39_000
        sent = http(headers={f"x-{n}": value for n in range(100)}, body="b" * 10_000_000)
        request = check.parse(sent)
        assert len(request.headers) == 100
        assert request.body == b"b" * 10_000_000

    @pytest.mark.parametrize("field", [{"body": "é"}, {"raw_body": b"\xc3\xa9"}])
    def test_GR_05_the_body_comes_as_text_or_as_bytes(self, field: dict[str, Any]) -> None:
        assert check.parse(http(**field)).body == b"\xc3\xa9"

    def test_GR_06_odd_headers_do_not_hide_the_credential(self) -> None:
        odd = {f"x-{n}": "v" for n in range(500)} | {"n" * 8_000: "v", "": "v", "x": "v" * 60_000}
        headers = odd | {"authorization": "Basic aWQ6eA=="}
        assert check.parse(http(headers=headers)).headers == headers

    @pytest.mark.parametrize(
        ("lines", "value"),
        [
            ([{"raw_value": b"Basic A,Bearer x"}], "Basic A,Bearer x"),
            ([{"raw_value": b"Basic A"}, {"raw_value": b"Basic B"}], "Basic A,Basic B"),
            ([{"raw_value": b"Basic \xff"}], "Basic \xff"),
            ([{"value": "Basic A"}], "Basic A"),
            ([{"value": "Basic A", "raw_value": b"Basic B"}], "Basic B"),
            ([{}], ""),
        ],
        ids=["one joined", "two lines", "not ASCII", "value", "raw_value first", "neither"],
    )
    def test_CP_22_raw_header_lines_read_as_the_joined_map(
        self, lines: list[dict[str, Any]], value: str
    ) -> None:
        sent = raw_headers(*({"key": "authorization", **line} for line in lines))
        assert check.parse(sent).headers == {"authorization": value}

    def test_CP_22_raw_header_lines_stand_in_the_place_of_the_map(self) -> None:
        sent = http(
            headers={"authorization": "Basic A"},
            header_map={"headers": [{"key": "authorization", "raw_value": b"Basic B"}]},
        )
        assert check.parse(sent).headers == {"authorization": "Basic B"}

    def test_CP_23_no_headers_in_either_field_are_no_headers(self) -> None:
        assert check.parse(http(headers={}, header_map={})).headers == {}

    @pytest.mark.parametrize(
        "sent",
        [
            http(headers={"Authorization": "Basic A", "AUTHORIZATION": "Basic B"}),
            raw_headers({"key": "Authorization", "raw_value": b"Basic A"}),
        ],
        ids=["headers", "header_map"],
    )
    def test_CP_23_a_name_that_is_not_lower_case_is_not_ours(self, sent: bytes) -> None:
        assert check.parse(sent).headers == {}

    @pytest.mark.parametrize(
        "path",
        ["/a?x=1", "/a#f", "/a%2e%2e/b", "//a", "/a;x=1/b", "*", "http://h/a", "", "/" * 16_000],
    )
    def test_HS_19_a_path_stays_as_envoy_sent_it(self, path: str) -> None:
        assert check.parse(http(path=path)).path == path

    @pytest.mark.parametrize(
        ("path", "query", "joined"),
        [("/a", "x=1", "/a?x=1"), ("/a?x=1", "y=2", "/a?x=1"), ("/a", "", "/a")],
    )
    def test_a_query_apart_from_its_path_is_joined_once(
        self, path: str, query: str, joined: str
    ) -> None:
        assert check.parse(http(path=path, query=query)).path == joined

    def test_a_unix_socket_peer_has_no_address(self) -> None:
        sent = wire(source={"address": {"pipe": {"path": "/run/envoy.sock"}}})
        assert check.parse(sent) == Request()


class TestGlance:
    @given(requests)
    def test_sees_what_parse_sees(self, request_: Request) -> None:
        sent = encode(request_)
        seen, parsed = check.peek(sent), check.parse(sent)
        assert seen is not None
        extensions, http = seen
        assert dict(extensions) == parsed.context_extensions
        assert (http.method, http.path) == (parsed.method, parsed.path)
        for name in [*parsed.headers, "absent"]:
            assert http.headers.get(name) == parsed.headers.get(name)

    @given(st.binary(max_size=200))
    def test_never_raises(self, garbage: bytes) -> None:
        check.peek(garbage)

    @pytest.mark.parametrize(
        "sent",
        [
            b"\xff",
            http(path="/a", query="x=1"),
            raw_headers({"key": "authorization", "raw_value": b"Basic A"}),
            http(header_map={}),
        ],
        ids=["garbage", "query apart", "raw lines", "no raw lines"],
    )
    def test_leaves_the_unusual_to_parse(self, sent: bytes) -> None:
        assert check.peek(sent) is None


class TestRender:
    @given(allows)
    def test_an_allow_reads_back_whole(self, decision: Allow) -> None:
        assert allow(rendered(decision)) == decision

    @given(denies)
    def test_a_deny_reads_back_whole(self, decision: Deny) -> None:
        assert deny(rendered(decision)) == decision

    @given(denies)
    def test_GR_15_a_denial_is_a_denial_on_the_wire(self, decision: Deny) -> None:
        response = rendered(decision)
        assert response.status.code != 0
        assert response.WhichOneof("http_response") == "denied_response"
        assert 400 <= response.denied_response.status.code <= 599

    @given(allows)
    def test_GR_15_HS_15_an_allow_overwrites_on_the_wire(self, decision: Allow) -> None:
        response = rendered(decision)
        assert response.HasField("status")
        assert response.status.code == 0
        assert response.WhichOneof("http_response") == "ok_response"
        for option in response.ok_response.headers:
            assert option.append_action == OVERWRITE
            assert not option.HasField("append")

    def test_only_the_second_line_of_a_denials_header_is_appended(self) -> None:
        challenges = (("www-authenticate", "Bearer"), ("x", "1"), ("www-authenticate", "Basic"))
        headers = rendered(Deny(16, 401, challenges, "{}")).denied_response.headers
        assert [option.append_action for option in headers] == [OVERWRITE, OVERWRITE, APPEND]
        assert not any(option.HasField("append") for option in headers)

    @pytest.mark.parametrize("decision", [Allow(reason="r"), Deny(16, 401, (), "", "r")])
    def test_the_reason_is_in_the_metadata(self, decision: Decision) -> None:
        assert metadata(rendered(decision)) == {"reason": "r"}

    def test_equal_decisions_are_equal_bytes(self) -> None:
        keys = [f"key {number}" for number in range(50)]
        forward = Allow(metadata=dict.fromkeys(keys, "v"))
        backward = Allow(metadata=dict.fromkeys(reversed(keys), "v"))
        assert check.render(forward) == check.render(backward)

    def test_HS_14_a_header_both_set_and_removed_is_refused(self) -> None:
        both = Allow(headers={"authorization": "Bearer x"}, headers_to_remove=("authorization",))
        with pytest.raises(ValueError, match="set and removed at once: authorization"):
            check.render(both)

    def test_GR_15_a_denial_with_code_0_is_refused(self) -> None:
        with pytest.raises(ValueError, match="code 0"):
            check.render(Deny(0, 401, (), ""))

    @pytest.mark.parametrize("status", [0, 200, 302, 399, 600])
    def test_GR_15_a_denial_without_an_error_status_is_refused(self, status: int) -> None:
        with pytest.raises(ValueError, match=f"HTTP {status}"):
            check.render(Deny(16, status, (), ""))

    @pytest.mark.parametrize("status", [200, 302, 410, 599])
    def test_C_08_an_answer_of_the_files_own_is_a_denial_on_the_wire(self, status: int) -> None:
        response = rendered(Respond(status, (("content-type", "a/b"),), "later", "r"))
        assert response.WhichOneof("http_response") == "denied_response"
        assert response.status.code != 0
        assert (response.denied_response.status.code, response.denied_response.body) == (
            status,
            "later",
        )

    @pytest.mark.parametrize(
        "decision", [Respond(199, (), ""), Respond(600, (), ""), Respond(200, (), "", code=0)]
    )
    def test_C_08_an_answer_that_ends_no_request_is_refused(self, decision: Respond) -> None:
        with pytest.raises(ValueError, match=r"HTTP 199|HTTP 600|code 0"):
            check.render(decision)

    @pytest.mark.parametrize("name", ["host", ":path", "X-Name", "", "x y", "x\r\ny", "é", "x\n"])
    @pytest.mark.parametrize("position", ["allow", "remove", "deny"])
    def test_a_name_that_is_not_ours_to_write_is_refused(self, name: str, position: str) -> None:
        decision: dict[str, Decision] = {
            "allow": Allow(headers={name: "v"}),
            "remove": Allow(headers_to_remove=(name,)),
            "deny": Deny(16, 401, ((name, "v"),), ""),
        }
        with pytest.raises(ValueError, match="not a header to write or remove"):
            check.render(decision[position])

    @pytest.mark.parametrize(
        "value", ["a\r\nx-admin: 1", "a\x00b", "\ud800", "é", "\x7f", "a\n"], ids=ascii
    )
    def test_a_value_that_is_not_visible_ascii_is_refused_and_not_repeated(
        self, value: str
    ) -> None:
        for decision in (
            Allow(headers={"x-consumer-id": value}),
            Deny(16, 401, (("x-consumer-id", value),), ""),
        ):
            with pytest.raises(ValueError, match=r"x-consumer-id is not visible ASCII$"):
                check.render(decision)
