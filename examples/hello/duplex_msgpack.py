# Copyright 2026 the Duplex authors. MIT license.

"""MessagePack, for messages and for the fields of control frames."""

from __future__ import annotations

import struct
from typing import Any

from duplex_errors import ProtocolError, UnsupportedValue

MAX_DEPTH = 500


# Extension types, and the bytes that a reference may have.
MAP, GRAPH, REFERENCE = 0x04, 0x0C, 0x0D
REFERENCE_SIZES = (1, 2, 4)


def pack(value: Any, graph: bool = True, limit: int = (1 << 32) - 1) -> bytes:
    """Encodes a value as MessagePack.

    A list, tuple or dict that occurs again makes it graph form. If `graph` is False
    it is encoded as a copy, in a message of at most `limit` bytes.
    """
    try:
        return bytes(_Packer().pack(value))
    except _Repeat:
        pass
    if graph:
        return bytes(_extension(GRAPH, _GraphPacker().pack(value)))
    return bytes(_CopyPacker(limit).pack(value))


class _Repeat(Exception):
    """A container occurs again."""


class _Packer:
    """Packs values without repeated containers."""

    # Whether dicts with keys other than strings need the extension for maps.
    only_text_keys = False

    def __init__(self) -> None:
        # The containers met so far, by id, with their numbers.
        self.numbers: dict[int, int] = {}

    def pack(self, value: Any) -> bytearray:
        out = bytearray()
        self._pack(value, out, 0)
        return out

    def _enter(self, value: Any, out: bytearray, depth: int) -> bool:
        """Begins a container; False if it was written as a reference."""
        if id(value) in self.numbers:
            raise _Repeat
        self.numbers[id(value)] = len(self.numbers)
        return True

    def _step(self, key: Any, depth: int) -> None:
        """Begins an item of the container at this depth."""

    def _pack(self, value: Any, out: bytearray, depth: int) -> None:
        if isinstance(value, (list, tuple, dict)):
            # There is only one empty tuple in Python.
            if value == () or self._enter(value, out, depth):
                self._pack_container(value, out, depth)
        else:
            _pack_scalar(value, out)

    def _pack_container(self, value: Any, out: bytearray, depth: int) -> None:
        if depth == MAX_DEPTH:
            raise UnsupportedValue(
                "Cannot pack more than %d nested containers" % MAX_DEPTH)
        if not isinstance(value, dict):
            _pack_head(len(value), out, 0x90, 16, None, 0xDC, 0xDD)
            for index, item in enumerate(value):
                self._step(index, depth)
                self._pack(item, out, depth + 1)
        elif self.only_text_keys and not all(isinstance(key, str) for key in value):
            entries = bytearray()
            _pack_head(2 * len(value), entries, 0x90, 16, None, 0xDC, 0xDD)
            self._pack_items(value, entries, depth)
            out += _extension(MAP, entries)
        else:
            _pack_head(len(value), out, 0x80, 16, None, 0xDE, 0xDF)
            self._pack_items(value, out, depth)

    def _pack_items(self, value: dict[Any, Any], out: bytearray, depth: int) -> None:
        for key, item in value.items():
            self._step(key, depth)
            self._pack(key, out, depth + 1)
            self._pack(item, out, depth + 1)


class _GraphPacker(_Packer):
    """Packs the content of graph form."""

    only_text_keys = True

    def __init__(self) -> None:
        super().__init__()
        # Containers that have started; an empty tuple has no entry in `numbers`.
        self.count = 0

    def _enter(self, value: Any, out: bytearray, depth: int) -> bool:
        number = self.numbers.get(id(value))
        if number is None:
            self.numbers[id(value)] = self.count
            return True
        size = 1 if number < 1 << 8 else 2 if number < 1 << 16 else 4
        out += _extension(REFERENCE, number.to_bytes(size, "big"))
        return False

    def _pack_container(self, value: Any, out: bytearray, depth: int) -> None:
        self.count += 1
        super()._pack_container(value, out, depth)


class _CopyPacker(_Packer):
    """Packs containers that occur again as copies, and refuses cycles."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        # The containers around the current one, with their items on the way to it.
        self.path: list[tuple[Any, Any]] = []

    def pack(self, value: Any) -> bytearray:
        # Copies of copies may be more than memory holds.
        if _least_size(value, 0, {}) > self.limit:
            raise self._too_large()
        return super().pack(value)

    def _too_large(self) -> UnsupportedValue:
        return UnsupportedValue(
            "Cannot pack a message of more than %d bytes: objects in it occur "
            "several times, and this peer needs a copy of each" % self.limit)

    def _enter(self, value: Any, out: bytearray, depth: int) -> bool:
        if any(value is container for container, _ in self.path[:depth]):
            raise UnsupportedValue(
                "Cannot pack the value at %s: it contains itself, which this peer "
                "does not read" % self._path(depth))
        if len(out) > self.limit:
            raise self._too_large()
        return True

    def _pack_container(self, value: Any, out: bytearray, depth: int) -> None:
        self.path[depth:] = [(value, None)]
        super()._pack_container(value, out, depth)

    def _step(self, key: Any, depth: int) -> None:
        self.path[depth:] = [(self.path[depth][0], key)]

    def _path(self, depth: int) -> str:
        return "$" + "".join("[%r]" % (key,) for _, key in self.path[:depth])


def _least_size(value: Any, depth: int, sizes: dict[int, int]) -> int:
    """Bytes that a value has at least; visits each container once."""
    if not isinstance(value, (list, tuple, dict)) or depth > MAX_DEPTH:
        return 1
    if id(value) not in sizes:
        # A cycle adds nothing here; packing finds it.
        sizes[id(value)] = 0
        items = value.values() if isinstance(value, dict) else value
        size = 1
        for item in items:
            size += _least_size(item, depth + 1, sizes)
        sizes[id(value)] = size
    return sizes[id(value)]


def _pack_scalar(value: Any, out: bytearray) -> None:
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
    else:
        raise UnsupportedValue(
            "Cannot pack a value of the type %s" % type(value).__name__)


def _extension(kind: int, payload: bytes | bytearray) -> bytearray:
    """An extension with its payload."""
    out = bytearray()
    if len(payload) in REFERENCE_SIZES:
        out.append(0xD4 + REFERENCE_SIZES.index(len(payload)))
    else:
        _pack_head(len(payload), out, 0, 0, 0xC7, 0xC8, 0xC9)
    out.append(kind)
    out += payload
    return out


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
        start = _graph_start(data)
        value, end = (_unpack(data, 0, 0, None) if start is None
                      else _unpack(data, start, 0, []))
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
    0x09: "Date", 0x0A: "string", 0x0B: "array with fields",
    0x0E: "boxed value", 0x0F: "URL or Temporal", -1: "Date",
}


def _graph_start(data: bytes) -> int | None:
    """Returns where the content of graph form begins, if the message is in it."""
    byte = data[0]
    if not (0xC7 <= byte <= 0xC9 or 0xD4 <= byte <= 0xD8):
        return None
    kind, start, size = _extension_head(data, byte, 1)
    if kind != GRAPH:
        return None
    if size != len(data) - start:
        raise ProtocolError(
            "Cannot decode a message: its graph form has %d bytes and not %d"
            % (len(data) - start, size))
    return start


def _extension_head(data: bytes, byte: int, at: int) -> tuple[int, int, int]:
    """Returns the type of an extension, the start of its payload, and its size."""
    if byte >= 0xD4:
        size = 1 << (byte - 0xD4)
    else:
        kind = ">" + "BHI"[byte - 0xC7]
        size = struct.unpack_from(kind, data, at)[0]
        at += struct.calcsize(kind)
    number: int = struct.unpack_from(">b", data, at)[0]
    return number, at + 1, size


def _unpack(data: bytes, at: int, depth: int,
            graph: list[Any] | None) -> tuple[Any, int]:
    """Returns a value and its end. One level of calls for a level of depth.

    `graph` has the containers of graph form that have started.
    """
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
        return _unpack_extension(data, byte, at, graph)
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
        items: list[Any] = []
        if graph is not None:
            graph.append(items)
        for _ in range(size):
            item, at = _unpack(data, at, depth + 1, graph)
            items.append(item)
        return items, at
    fields: dict[Any, Any] = {}
    if graph is not None:
        graph.append(fields)
    for _ in range(size):
        key, at = _unpack(data, at, depth + 1, graph)
        item, at = _unpack(data, at, depth + 1, graph)
        if graph is not None and not isinstance(key, str):
            raise ProtocolError(
                "Cannot decode a message: a map in graph form has a key that is not "
                "a string")
        if isinstance(key, (list, dict)):
            raise UnsupportedValue("Cannot unpack a map with a container as key")
        fields[key] = item
    return fields, at


def _unpack_extension(data: bytes, byte: int, at: int,
                      graph: list[Any] | None) -> tuple[Any, int]:
    """Returns the container of a reference; refuses other extensions."""
    kind, start, size = _extension_head(data, byte, at)
    if kind == GRAPH:
        raise ProtocolError(
            "Cannot decode a message: graph form does not begin the message")
    if kind != REFERENCE:
        raise UnsupportedValue(
            "Cannot unpack extension type %d (%s)"
            % (kind, _EXTENSIONS.get(kind, "unknown")))
    if graph is None or size not in REFERENCE_SIZES:
        raise ProtocolError(
            "Cannot decode a message: a reference is malformed, or in a message "
            "without graph form")
    if size > len(data) - start:
        raise IndexError
    number = int.from_bytes(data[start:start + size], "big")
    if number >= len(graph):
        raise ProtocolError(
            "Cannot decode a message: container %d has not started" % number)
    return graph[number], start + size
