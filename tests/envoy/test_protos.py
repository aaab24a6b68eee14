"""Our definition of the contract and our bytes, held against an independent implementation."""

from __future__ import annotations

import subprocess
import sys
import warnings
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import descriptor_pb2

from authz.decision import Allow, Deny
from authz.envoy import check
from authz.model import Request
from authz.transport import AUTHORIZATION

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, FieldDescriptor

with warnings.catch_warnings():
    # The package uses a pydantic decorator in a way that pydantic has deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    from envoy_data_plane.envoy.config.core import v3 as core
    from envoy_data_plane.envoy.service.auth import v3 as auth

REPOSITORY = Path(__file__).parents[2]
FileDescriptorSet = descriptor_pb2.FileDescriptorSet
FIELD_TYPES = {
    value.number: value.name
    for value in descriptor_pb2.FieldDescriptorProto.DESCRIPTOR.enum_types_by_name["Type"].values
}


def test_the_tracked_descriptor_set_is_what_protos_compiles_to(tmp_path: Path) -> None:
    fresh = tmp_path / "fresh.binpb"
    compiler = [sys.executable, "-m", "grpc_tools.protoc", "--include_imports"]
    source = ["-I", str(REPOSITORY / "protos"), "envoy/service/auth/v3/external_auth.proto"]
    subprocess.run([*compiler, f"--descriptor_set_out={fresh}", *source], check=True)  # noqa: S603 - our own interpreter
    tracked = resources.files("authz.envoy").joinpath("ext_authz.binpb").read_bytes()
    assert FileDescriptorSet.FromString(tracked) == FileDescriptorSet.FromString(fresh.read_bytes())


def test_the_pool_describes_the_service_for_reflection() -> None:
    [method] = check.POOL.FindServiceByName(AUTHORIZATION).methods
    assert (method.name, method.input_type.full_name, method.output_type.full_name) == (
        "Check",
        "envoy.service.auth.v3.CheckRequest",
        "envoy.service.auth.v3.CheckResponse",
    )


@pytest.mark.parametrize("root", [auth.CheckRequest, auth.CheckResponse])
def test_every_field_of_the_contract_is_ours_by_name_number_and_type(root: type) -> None:
    descriptor = check.POOL.FindMessageTypeByName(f"envoy.service.auth.v3.{root.__name__}")
    compared: set[str] = set()
    compare(descriptor, root, compared)
    assert len(compared) > 5


def compare(ours: Descriptor, theirs: Any, compared: set[str]) -> None:
    """Compare a message and, once each, the messages that it reaches."""
    if ours.full_name in compared:
        return
    compared.add(ours.full_name)
    contract = theirs()._betterproto
    assert {field.name: shape(field) for field in ours.fields} == {
        name: (meta.number, meta.proto_type, meta.group, meta.repeated)
        for name, meta in contract.meta_by_field_name.items()
    }, ours.full_name
    for field in ours.fields:
        value, name = field, field.name
        if field.message_type and kind(field) == "map":
            value, name = field.message_type.fields_by_name["value"], f"{name}.value"
        if value.message_type and value.message_type.file.package != "google.protobuf":
            compare(value.message_type, contract.cls_by_field[name], compared)
        if value.enum_type:
            numbers = {member.value for member in contract.cls_by_field[name]}
            assert set(value.enum_type.values_by_number) == numbers, value.enum_type.full_name


def shape(field: FieldDescriptor) -> tuple[int, str, str | None, bool]:
    group = field.containing_oneof.name if field.containing_oneof else None
    return field.number, kind(field), group, field.is_repeated and kind(field) != "map"


def kind(field: FieldDescriptor) -> str:
    if field.message_type and field.message_type.GetOptions().map_entry:
        return "map"
    return FIELD_TYPES[field.type].removeprefix("TYPE_").lower()


def test_parse_reads_a_request_of_the_independent_encoder() -> None:
    sent = auth.CheckRequest(
        attributes=auth.AttributeContext(
            source=peer("10.0.0.1", 51_000),
            destination=peer("10.0.0.2", 8443),
            request=auth.AttributeContextRequest(
                time=datetime(2026, 1, 1, tzinfo=UTC),
                http=auth.AttributeContextHttpRequest(
                    id="1",
                    method="POST",
                    headers={"authorization": "Basic aWQ6c2VjcmV0", ":path": "/a?x=é"},
                    path="/a?x=é",
                    host="api.example.com:8443",
                    scheme="https",
                    size=-1,
                    protocol="HTTP/2",
                    raw_body=b"\xff\x00",
                ),
            ),
            context_extensions={"route": "oidc-route"},
            metadata_context=core.Metadata(),
            tls_session=auth.AttributeContextTlsSession(sni="api.example.com"),
        )
    )
    assert check.parse(bytes(sent)) == Request(
        method="POST",
        scheme="https",
        host="api.example.com:8443",
        path="/a?x=é",
        headers={"authorization": "Basic aWQ6c2VjcmV0", ":path": "/a?x=é"},
        body=b"\xff\x00",
        context_extensions={"route": "oidc-route"},
        server_name="api.example.com",
        source_address="10.0.0.1",
    )


def test_parse_reads_raw_headers_of_the_independent_encoder() -> None:
    line = core.HeaderValue(key="authorization", raw_value=b"Basic \xff")
    http = auth.AttributeContextHttpRequest(header_map=core.HeaderMap(headers=[line]))
    request = auth.AttributeContextRequest(http=http)
    sent = auth.CheckRequest(attributes=auth.AttributeContext(request=request))
    assert check.parse(bytes(sent)).headers == {"authorization": "Basic \xff"}


def peer(address: str, port: int) -> auth.AttributeContextPeer:
    socket_address = core.SocketAddress(address=address, port_value=port)
    return auth.AttributeContextPeer(address=core.Address(socket_address=socket_address))


def test_HS_15_the_independent_decoder_reads_an_allow() -> None:
    decision = Allow(
        headers={"authorization": "Bearer x", "x-consumer-username": "kong_id"},
        headers_to_remove=("x-consumer-id", "x_consumer_id"),
        query_parameters_to_remove=("client_id", "client_secret"),
        reason="allowed",
        metadata={"consumer": "kong_id"},
        expires_at=1_754_944_513,
    )
    assert auth.CheckResponse.parse(check.render(decision)).to_dict() == {
        "status": {},
        "okResponse": {
            "headers": [
                overwrite("authorization", "Bearer x"),
                overwrite("x-consumer-username", "kong_id"),
            ],
            "headersToRemove": ["x-consumer-id", "x_consumer_id"],
            "queryParametersToRemove": ["client_id", "client_secret"],
        },
        "dynamicMetadata": {
            "consumer": "kong_id",
            "reason": "allowed",
            "expires_at": 1_754_944_513,
        },
    }


def test_GR_15_the_independent_decoder_reads_a_denial() -> None:
    decision = Deny(
        code=16,
        status=401,
        headers=(("www-authenticate", 'Bearer realm="idp"'), ("content-type", "application/json")),
        body='{"message":"Unauthorized"}',
        reason="credential_missing",
    )
    assert auth.CheckResponse.parse(check.render(decision)).to_dict() == {
        "status": {"code": 16},
        "deniedResponse": {
            "status": {"code": "Unauthorized"},
            "headers": [
                overwrite("www-authenticate", 'Bearer realm="idp"'),
                overwrite("content-type", "application/json"),
            ],
            "body": '{"message":"Unauthorized"}',
        },
        "dynamicMetadata": {"reason": "credential_missing"},
    }


def overwrite(name: str, value: str) -> dict[str, Any]:
    return {
        "header": {"key": name, "value": value},
        "appendAction": "OVERWRITE_IF_EXISTS_OR_ADD",
    }
