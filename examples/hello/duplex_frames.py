# Copyright 2026 the Duplex authors. MIT license.

"""The frames that two ends exchange, and the fields of control frames."""

from __future__ import annotations

import struct
from typing import Any, Callable, Iterator

from duplex_errors import ProtocolError
from duplex_msgpack import pack, unpack

VERSION = 1
MAGIC = b"\x89DUPLEX"
HELLO, DATA, FIRST, NEXT, CREDIT, STALL = range(0x01, 0x07)
PING, GOODBYE, ABORT, GREETING, READY = 0x08, 0x09, 0x0A, 0x0C, 0x0D

PART_SIZE = 256 * 1024

Fields = dict[str, Any]


def frame(kind: int, *parts: bytes | memoryview) -> bytes:
    """Returns a frame with these parts as its body."""
    size = sum(len(part) for part in parts)
    return b"".join((struct.pack(">IB", size + 1, kind), *parts))


def message_frames(numbers: bytes, payload: bytes) -> Iterator[bytes]:
    """Yields the frames of a message. Control frames may be sent between them."""
    if len(payload) <= PART_SIZE:
        yield frame(DATA, numbers, payload)
        return
    view = memoryview(payload)
    total = struct.pack(">I", len(payload))
    for start in range(0, len(payload), PART_SIZE):
        part = view[start:start + PART_SIZE]
        if start == 0:
            yield frame(FIRST, numbers, total, part)
        else:
            yield frame(NEXT, part)


def control_frame(kind: int, fields: Fields) -> bytes:
    """Returns a frame with one map, and magic bytes if the kind requires them."""
    magic = MAGIC if kind in (HELLO, GREETING) else b""
    return frame(kind, magic, pack(fields))


def control_fields(kind: int, body: bytes) -> Fields:
    """Returns the map in the body of a control frame."""
    magic = MAGIC if kind in (HELLO, GREETING) else b""
    if not body.startswith(magic):
        raise ProtocolError(
            "Cannot read a hello: it does not begin with the magic bytes")
    fields = unpack(body[len(magic):])
    if not isinstance(fields, dict):
        raise ProtocolError(
            "Cannot read a control frame of kind %d: it does not contain a map" % kind)
    return fields


def check_version(fields: Fields) -> None:
    """Checks the version of the peer."""
    version = fields.get("version")
    if version != VERSION:
        raise ProtocolError(
            "Cannot talk to the peer: it speaks version %r of the protocol and "
            "this side version %d" % (version, VERSION))


def hello_limits(fields: Fields) -> dict[str, int]:
    """Checks a hello; returns the limits of the peer, and if it reads graph form."""
    check_version(fields)
    codecs = fields.get("codecs")
    if not isinstance(codecs, list) or "msgpack" not in codecs:
        raise ProtocolError(
            'Cannot agree on a codec: the peer has %r and this side ["msgpack"]'
            % (codecs,))
    limits = {name: whole_number(fields, name)
              for name in ("window", "messages", "maxMessage")}
    if 0 in limits.values():
        raise ProtocolError(
            "Cannot read a hello: a limit must be positive: current values are %r"
            % (limits,))
    limits["graph"] = fields.get("graph") is True
    return limits


def whole_number(fields: Fields, name: str) -> int:
    """Returns a field that must be a count."""
    value = fields.get(name)
    if (isinstance(value, (int, float)) and not isinstance(value, bool)
            and 0 <= value < 1 << 53 and value == int(value)):
        return int(value)
    raise ProtocolError(
        'Cannot read a control frame as "%s" must be an integer from 0 on: '
        'current value is %r'
        % (name, value))


def read_exactly(read: Callable[[int], bytes | memoryview], size: int,
                 at_end: bool = False) -> bytes:
    """Reads exactly `size` bytes. Memory grows with what arrives."""
    data = bytearray()
    while len(data) < size:
        some = read(min(size - len(data), 1 << 16))
        if not some:
            if at_end and not data:
                break
            raise OSError("the stream ended in the middle of a frame")
        data += some
    return bytes(data)
