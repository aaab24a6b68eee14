"""What every transport tells grpcurl."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from grpc_reflection.v1alpha.reflection_pb2 import (
    ServerReflectionRequest,
    ServerReflectionResponse,
)
from support.checks import Echo, channel, unary
from support.transports import serving

from authz.envoy.check import POOL
from authz.transport import AUTHORIZATION

if TYPE_CHECKING:
    from support.transports import Make

    from authz.settings import Address

HEALTH = "grpc.health.v1.Health"
V1, V1ALPHA = "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"
VERSIONS = pytest.mark.parametrize("version", [V1, V1ALPHA])


async def reflect(address: Address, version: str, **question: str) -> ServerReflectionResponse:
    """Ask once; both versions have the same messages."""
    wire = ServerReflectionRequest(**question).SerializeToString()  # type: ignore[arg-type] # one of its strings
    async with channel(address) as opened:
        answers = [answer async for answer in call(opened, version)(iter([wire]))]
    return ServerReflectionResponse.FromString(b"".join(answers))


def call(
    opened: grpc.aio.Channel, version: str
) -> grpc.aio.StreamStreamMultiCallable[bytes, bytes]:
    return opened.stream_stream(f"/{version}/ServerReflectionInfo")


@VERSIONS
async def test_reflection_lists_every_service(make: Make, version: str) -> None:
    async with serving(make(Echo(), pool=POOL)) as transport:
        answer = await reflect(transport.addresses[0], version, list_services="*")

    names = {service.name for service in answer.list_services_response.service}
    assert names == {AUTHORIZATION, HEALTH, V1, V1ALPHA}


@VERSIONS
@pytest.mark.parametrize(
    "symbol", [AUTHORIZATION, "envoy.service.auth.v3.CheckRequest", HEALTH, V1, V1ALPHA]
)
async def test_reflection_describes_what_it_lists(make: Make, version: str, symbol: str) -> None:
    async with serving(make(Echo(), pool=POOL)) as transport:
        answer = await reflect(transport.addresses[0], version, file_containing_symbol=symbol)

    file, *_needed = answer.file_descriptor_response.file_descriptor_proto
    assert symbol.rpartition(".")[2].encode() in file


@VERSIONS
async def test_reflection_hands_out_what_a_file_imports(make: Make, version: str) -> None:
    needed = POOL.FindFileContainingSymbol(AUTHORIZATION).dependencies[0].name
    async with serving(make(Echo(), pool=POOL)) as transport:
        answer = await reflect(transport.addresses[0], version, file_by_filename=needed)

    file, *_needed = answer.file_descriptor_response.file_descriptor_proto
    assert needed.encode() in file


@VERSIONS
async def test_GR_14_without_reflection_its_service_does_not_exist(
    make: Make, version: str
) -> None:
    async with serving(make(Echo())) as transport, channel(transport.addresses[0]) as opened:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await unary(opened, f"/{version}/ServerReflectionInfo")(b"", timeout=10)

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
