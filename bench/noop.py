"""The peer: the least that a grpc.aio server can do.  ``python -m bench.noop PORT FILE``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import grpc
import uvloop

from bench.frames import CHECK


async def serve(port: int, answer: bytes) -> None:
    """Answer every call with the same bytes, and read none."""

    async def check(_request: bytes, _context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return answer

    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(check)
    service, _, method = CHECK.strip("/").partition("/")
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {method: handler}),)
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1]), Path(sys.argv[2]).read_bytes()))
