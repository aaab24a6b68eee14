"""HTTP/2 by the byte (RFC 9113): its frames, and a unary call of gRPC in them."""

from __future__ import annotations

import struct
from typing import Final

CHECK: Final = "/envoy.service.auth.v3.Authorization/Check"

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    *(0x0, 0x1, 0x3, 0x4, 0x6, 0x7, 0x8, 0x9),
)
END_STREAM, ACK, END_HEADERS = 0x1, 0x1, 0x4
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 0x3, 0x4

FRAME_BYTES: Final = 16_384
"""As much as a frame may hold without a word from the other side."""
MESSAGE_HEAD_BYTES: Final = 5
"""What gRPC puts before a message: whether it is compressed, and how long it is."""

# An integer of RFC 7541 section 5.1 with a prefix of seven bits.
_PREFIX_MAX, _MORE = 0x7F, 0x80


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame (section 4.1)."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def fields(*pairs: tuple[bytes, bytes]) -> bytes:
    """Return header fields as literals that are not indexed (RFC 7541 section 6.2.2)."""
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in pairs)


def _text(text: bytes) -> bytes:
    """Return a string without Huffman (RFC 7541 section 5.2), its length as in section 5.1."""
    rest = len(text) - _PREFIX_MAX
    if rest < 0:
        return bytes([len(text)]) + text
    length = bytes([_PREFIX_MAX])
    while rest >= _MORE:
        length += bytes([rest % _MORE + _MORE])
        rest //= _MORE
    return length + bytes([rest]) + text


def call_fields(*more: tuple[bytes, bytes], method: str = CHECK) -> bytes:
    """Return the header fields of a gRPC call."""
    return fields(
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", method.encode()),
        (b":authority", b"localhost"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
        *more,
    )


def call_headers(stream: int, *more: tuple[bytes, bytes], method: str = CHECK) -> bytes:
    """Return the HEADERS frame of a gRPC call."""
    return frame(HEADERS, END_HEADERS, stream, call_fields(*more, method=method))


def message(stream: int, wire: bytes) -> bytes:
    """Return the DATA frames of a gRPC call's only message, which is not compressed."""
    content = b"\0" + struct.pack(">I", len(wire)) + wire
    *first, last = [content[at : at + FRAME_BYTES] for at in range(0, len(content), FRAME_BYTES)]
    frames = [frame(DATA, 0, stream, part) for part in first]
    return b"".join([*frames, frame(DATA, END_STREAM, stream, last)])
