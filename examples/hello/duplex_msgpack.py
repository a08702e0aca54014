# Copyright 2026 the Duplex authors. MIT license.

"""MessagePack, for messages and for the fields of control frames."""

from __future__ import annotations

import struct
from typing import Any, NoReturn

from duplex_errors import ProtocolError, UnsupportedValue

MAX_DEPTH = 500


def pack(value: Any) -> bytes:
    """Encodes a value as MessagePack."""
    out = bytearray()
    _pack(value, out, 0)
    return bytes(out)


def _pack(value: Any, out: bytearray, depth: int) -> None:
    if value is None:
        out.append(0xC0)
    elif value is True or value is False:
        out.append(0xC3 if value else 0xC2)
    elif isinstance(value, int):
        _pack_int(value, out)
    elif isinstance(value, float):
        out += struct.pack(">Bd", 0xCB, value)
    elif isinstance(value, str):
        text = value.encode("utf-8")
        _pack_head(len(text), out, 0xA0, 32, 0xD9, 0xDA, 0xDB)
        out += text
    elif isinstance(value, (bytes, bytearray, memoryview)):
        data = bytes(value)
        _pack_head(len(data), out, 0, 0, 0xC4, 0xC5, 0xC6)
        out += data
    elif isinstance(value, (list, tuple, dict)):
        if depth == MAX_DEPTH:
            raise UnsupportedValue(
                "Cannot pack more than %d nested containers" % MAX_DEPTH)
        if isinstance(value, dict):
            _pack_head(len(value), out, 0x80, 16, None, 0xDE, 0xDF)
            for key, item in value.items():
                _pack(key, out, depth + 1)
                _pack(item, out, depth + 1)
        else:
            _pack_head(len(value), out, 0x90, 16, None, 0xDC, 0xDD)
            for item in value:
                _pack(item, out, depth + 1)
    else:
        raise UnsupportedValue(
            "Cannot pack a value of the type %s" % type(value).__name__)


def _pack_head(size: int, out: bytearray, fix: int, fix_limit: int,
               byte: int | None, short: int, long: int) -> None:
    if size < fix_limit:
        out.append(fix | size)
    elif size < 1 << 8 and byte is not None:
        out += struct.pack(">BB", byte, size)
    elif size < 1 << 16:
        out += struct.pack(">BH", short, size)
    elif size < 1 << 32:
        out += struct.pack(">BI", long, size)
    else:
        raise UnsupportedValue("Cannot pack %d bytes or items in one value" % size)


def _pack_int(value: int, out: bytearray) -> None:
    if -0x20 <= value < 0x80:
        out.append(value & 0xFF)
        return
    formats = "BHIQ" if value >= 0 else "bhiq"
    first = 0xCC if value >= 0 else 0xD0
    for index, letter in enumerate(formats):
        try:
            out += struct.pack(">B" + letter, first + index, value)
            return
        except struct.error:
            pass
    raise UnsupportedValue("Cannot pack an integer beyond 64 bits")


def unpack(data: bytes) -> Any:
    """Decodes one value from MessagePack bytes."""
    try:
        value, end = _unpack(data, 0, 0)
    except (struct.error, IndexError):
        raise ProtocolError(
            "Cannot decode a message: it ends in the middle of a value") from None
    except UnicodeDecodeError as error:
        raise ProtocolError("Cannot decode a message: %s" % error) from None
    if end != len(data):
        raise ProtocolError(
            "Cannot decode a message: %d bytes follow its value"
            % (len(data) - end))
    return value


# The formats with a fixed size, and those with a length before their bytes.
_NUMBERS = {
    0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q",
    0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q",
}
_SIZES = {
    0xC4: ">B", 0xC5: ">H", 0xC6: ">I", 0xD9: ">B", 0xDA: ">H", 0xDB: ">I",
    0xDC: ">H", 0xDD: ">I", 0xDE: ">H", 0xDF: ">I",
}
_EXTENSIONS = {
    0x01: "undefined", 0x02: "bigint", 0x03: "RegExp", 0x04: "Map",
    0x05: "Set", 0x06: "ArrayBuffer", 0x07: "typed array", 0x08: "error",
    0x09: "Date", 0x0A: "string", -1: "Date",
}


def _unpack(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    """Returns a value and its end. One level of calls for a level of depth."""
    byte = data[at]
    at += 1
    if byte < 0x80:
        return byte, at
    if byte >= 0xE0:
        return byte - 0x100, at
    if byte in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[byte], at
    if byte in _NUMBERS:
        kind = _NUMBERS[byte]
        return (struct.unpack_from(kind, data, at)[0],
                at + struct.calcsize(kind))
    if 0xC7 <= byte <= 0xC9 or 0xD4 <= byte <= 0xD8:
        _refuse_extension(data, byte, at)
    if byte in _SIZES:
        kind = _SIZES[byte]
        size = struct.unpack_from(kind, data, at)[0]
        at += struct.calcsize(kind)
    elif byte == 0xC1:
        raise ProtocolError("Cannot decode a message: 0xc1 is not a valid format")
    else:
        size = byte & (0x1F if byte >= 0xA0 else 0x0F)
    if size > len(data) - at:
        raise IndexError
    if 0xC4 <= byte <= 0xC6:
        return data[at:at + size], at + size
    if 0xA0 <= byte <= 0xBF or 0xD9 <= byte <= 0xDB:
        return data[at:at + size].decode("utf-8"), at + size
    if depth == MAX_DEPTH:
        raise ProtocolError(
            "Cannot decode a message: more than %d containers are nested"
            % MAX_DEPTH)
    if 0x90 <= byte <= 0x9F or byte in (0xDC, 0xDD):
        items = []
        for _ in range(size):
            item, at = _unpack(data, at, depth + 1)
            items.append(item)
        return items, at
    fields = {}
    for _ in range(size):
        key, at = _unpack(data, at, depth + 1)
        item, at = _unpack(data, at, depth + 1)
        if isinstance(key, (list, dict)):
            raise UnsupportedValue("Cannot unpack a map with a container as key")
        fields[key] = item
    return fields, at


def _refuse_extension(data: bytes, byte: int, at: int) -> NoReturn:
    position = at + (1 << (byte - 0xC7) if byte <= 0xC9 else 0)
    number = struct.unpack_from(">b", data, position)[0]
    raise UnsupportedValue(
        "Cannot unpack extension type %d (%s)"
        % (number, _EXTENSIONS.get(number, "unknown")))
