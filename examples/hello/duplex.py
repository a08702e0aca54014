# Copyright 2026 the Duplex authors. MIT license.

"""The worker's end of a duplex in Python, after PROTOCOL.md.

Needs Python 3.8 and nothing beside it. A worker is started with

    openPipe({ command: "python3", args: ["worker.py"] })

and talks to the program that started it:

    from duplex import Duplex

    with Duplex() as main:
        for message in main:
            main.send(message)

Messages are None, bool, int, float, str, bytes, list, tuple and dict. Standard
output carries the messages, so from `Duplex()` on whatever else is printed to
it goes to standard error.
"""

import os
import struct
import sys
import threading
import time
from collections import deque

__all__ = [
    "Aborted",
    "Closed",
    "DeadlockError",
    "Duplex",
    "PeerEnded",
    "ProtocolError",
    "UnsupportedValue",
]

VERSION = 1
MAGIC = b"\x89DUPLEX"
HELLO, DATA, FIRST, NEXT, CREDIT, STALL, GOODBYE, ABORT = (
    0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x09, 0x0A,
)

MAX_CONTROL_SIZE = 4096
PART_SIZE = 256 * 1024
MAX_DEPTH = 500
MAX_TEXT_LENGTH = 200

HELLO_TIMEOUT = 10
STALL_TIMEOUT = 5
ORPHAN_GRACE = 1


class Closed(EOFError):
    """The duplex has been closed, and no message is left."""


class PeerEnded(Closed):
    """The program at the far end is gone, and did not say goodbye."""


class Aborted(Exception):
    """The far side ended the duplex; the text is its reason."""


class ProtocolError(Exception):
    """One side broke the rules of the protocol."""


class DeadlockError(Exception):
    """Both sides wait for the other to receive. The message was not sent."""


class UnsupportedValue(ValueError):
    """A message holds a value that this file has no type for."""


class Duplex:
    """One end of a duplex. Its methods may be called from any thread."""

    def __init__(self, window=4 << 20, messages=4096, max_message=256 << 20):
        self._window = window
        self._messages = messages
        self._max_message = max_message
        self._input, self._output = _take_standard_streams()

        # Held while one frame is written, and while one message is.
        self._writing = threading.Lock()
        self._sending = threading.Lock()
        # Guards everything below; notified when any of it changes.
        self._changed = threading.Condition()
        self._peer = None
        self._failure = None
        self._said_goodbye = False
        self._heard_goodbye = False

        # Out: the sizes of the messages in flight.
        self._sent = 0
        self._acknowledged = 0
        self._in_flight = deque()
        self._bytes_in_flight = 0
        # In: the messages that have arrived, and what the far side was told.
        self._inbox = deque()
        self._inbox_bytes = 0
        self._received = 0
        self._taken = 0
        self._credited = 0
        self._bytes_to_credit = 0
        self._receiving = 0
        # Whether this side and the far side have stalled, and so both.
        self._stalled = False
        self._peer_stalled = False
        self._deadlock = False
        # Counts what either side has taken.
        self._moves = 0

        self._write_control(HELLO, {
            "version": VERSION,
            "name": "python",
            "codecs": ["msgpack"],
            "window": window,
            "messages": messages,
            "maxMessage": max_message,
        })
        threading.Thread(target=self._read_all, daemon=True).start()
        with self._changed:
            self._changed.wait_for(
                lambda: self._peer or self._failure, HELLO_TIMEOUT)
            if self._failure:
                raise self._failure
            if not self._peer:
                raise TimeoutError("The parent has not said hello")

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if error is None:
            self.close()
        else:
            self.abort("%s: %s" % (kind.__name__, error))

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return self.receive()
        except PeerEnded:
            raise
        except Closed:
            raise StopIteration from None

    # Sending

    def send(self, message):
        """Sends a message; waits while the far side's window is full."""
        payload = pack(message)
        if len(payload) > self._peer["maxMessage"]:
            raise ValueError(
                "Cannot send a message of %d bytes: the far side takes at most %d"
                % (len(payload), self._peer["maxMessage"]))
        with self._sending:
            self._wait_for_room()
            with self._changed:
                self._check_sendable()
                self._sent += 1
                self._in_flight.append(len(payload))
                self._bytes_in_flight += len(payload)
                self._credited = self._taken
                self._bytes_to_credit = 0
                head = struct.pack(
                    ">II", self._sent & 0xFFFFFFFF, self._taken & 0xFFFFFFFF)
            self._write_message(head, payload)

    def _check_sendable(self):
        if self._failure:
            raise self._failure
        if self._said_goodbye:
            raise Closed("Cannot send to a closed duplex")

    def _has_room(self):
        return (len(self._in_flight) < self._peer["messages"]
                and self._bytes_in_flight < self._peer["window"])

    def _wait_for_room(self):
        """Waits for room; says so when nothing has moved for a while."""
        with self._changed:
            self._stalled = self._deadlock = False
        while True:
            with self._changed:
                self._check_sendable()
                if self._deadlock:
                    self._stalled = self._peer_stalled = False
                    raise DeadlockError(
                        "Cannot send: both sides wait for the other to receive")
                if self._has_room():
                    return
                moves = self._moves
                # A side that has said that it stalled waits for news only.
                moved = self._changed.wait_for(
                    lambda: (self._moves != moves or self._failure
                             or self._deadlock),
                    None if self._stalled else STALL_TIMEOUT)
                if moved or self._receiving:
                    continue
                self._stalled = True
                self._deadlock = self._peer_stalled
                known = self._acknowledged
            self._write_control(STALL, {"taken": known})

    def _write_message(self, head, payload):
        if len(payload) <= PART_SIZE:
            self._write_frame(DATA, head + payload)
            return
        view = memoryview(payload)
        total = struct.pack(">I", len(payload))
        for start in range(0, len(payload), PART_SIZE):
            part = view[start:start + PART_SIZE]
            if start == 0:
                self._write_frame(FIRST, b"".join((head, total, part)))
            else:
                self._write_frame(NEXT, part)

    def _write_control(self, kind, fields):
        magic = MAGIC if kind == HELLO else b""
        self._write_frame(kind, magic + pack(fields))

    def _write_frame(self, kind, rest):
        frame = b"".join((struct.pack(">IB", len(rest) + 1, kind), rest))
        view = memoryview(frame)
        with self._writing:
            try:
                while view:
                    view = view[os.write(self._output, view):]
            except OSError:
                self._fail(PeerEnded("The parent does not read any more"))

    # Receiving

    def receive(self):
        """The next message. Raises Closed after the far side's goodbye."""
        with self._changed:
            self._receiving += 1
            try:
                self._changed.wait_for(
                    lambda: self._inbox or self._failure or self._heard_goodbye)
            finally:
                self._receiving -= 1
            if not self._inbox:
                if self._failure:
                    raise self._failure
                raise Closed("The far side has said goodbye")
            payload = self._inbox.popleft()
            self._inbox_bytes -= len(payload)
            credit = self._take(len(payload))
        if credit is not None:
            self._write_control(CREDIT, {"taken": credit})
        try:
            return unpack(payload)
        except ProtocolError as error:
            self._break_off(error, True)
            raise

    def _take(self, size):
        """Counts a message as taken; the count if it must be told now."""
        self._taken += 1
        self._moves += 1
        self._bytes_to_credit += size
        stalled = self._stalled or self._peer_stalled
        self._stalled = self._peer_stalled = False
        if stalled:
            self._changed.notify_all()
        if (stalled
                or (self._taken - self._credited) * 2 >= self._messages
                or self._bytes_to_credit * 2 >= self._window
                or (self._heard_goodbye and not self._inbox)):
            self._credited = self._taken
            self._bytes_to_credit = 0
            return self._taken
        return None

    # Beginning and end

    def close(self):
        """Says goodbye and waits for the far side's. May be called again."""
        with self._sending:
            with self._changed:
                if self._failure or self._said_goodbye:
                    say = False
                else:
                    say = self._said_goodbye = True
                    fields = {"sent": self._sent, "taken": self._taken}
                    self._credited = self._taken
                    self._bytes_to_credit = 0
            if say:
                self._write_control(GOODBYE, fields)
        with self._changed:
            self._changed.wait_for(lambda: self._heard_goodbye or self._failure)
            if not self._heard_goodbye:
                raise self._failure

    def abort(self, reason):
        """Ends the duplex now; the far side gets the reason as its error."""
        self._break_off(Aborted(str(reason)), False)

    def _break_off(self, error, fault):
        if self._fail(error):
            text = str(error)[:MAX_TEXT_LENGTH]
            self._write_control(ABORT, {"text": text, "fault": fault})

    def _fail(self, error):
        """Keeps the first error and wakes whoever waits."""
        with self._changed:
            if self._failure:
                return False
            self._failure = error
            if isinstance(error, Aborted):
                self._inbox.clear()
            self._changed.notify_all()
            return True

    # Reading, in a thread of its own

    def _read_all(self):
        try:
            try:
                while self._read_frame():
                    pass
            except OSError:
                raise
            except Exception as error:
                self._break_off(error, True)
                # What comes now is of no interest, its end is.
                while os.read(self._input, 1 << 16):
                    pass
        except OSError as error:
            self._fail(PeerEnded("The parent cannot be read: %s" % error))
        with self._changed:
            over = self._said_goodbye and self._heard_goodbye
        if not over:
            self._fail(PeerEnded("The parent ended without a goodbye"))
            # The program has a moment to put its house in order.
            time.sleep(ORPHAN_GRACE)
            os._exit(1)

    def _read_frame(self):
        """Reads one frame; False at the end of the stream."""
        head = self._read(5, at_end=True)
        if head is None:
            return False
        length, kind = struct.unpack(">IB", head)
        if kind in (DATA, FIRST):
            self._read_message(kind, length)
        elif (kind in (HELLO, CREDIT, STALL, GOODBYE, ABORT)
              and 0 < length <= MAX_CONTROL_SIZE):
            self._on_control(kind, self._read(length - 1))
        else:
            raise ProtocolError(
                "Cannot read a frame of kind %d and %d bytes here" % (kind, length))
        return True

    def _read(self, size, at_end=False):
        """Reads exactly `size` bytes. Memory grows with what comes."""
        read = bytearray()
        while len(read) < size:
            some = os.read(self._input, min(size - len(read), 1 << 16))
            if not some:
                if at_end and not read:
                    return None
                raise OSError("the stream ended in the middle of a frame")
            read += some
        return bytes(read)

    def _read_message(self, kind, length):
        header = 9 if kind == DATA else 13
        if length < header + (kind == FIRST) or not self._peer:
            raise ProtocolError(
                "Cannot read a frame of kind %d and %d bytes here" % (kind, length))
        number, taken = struct.unpack(">II", self._read(8))
        size = length - header
        total = size if kind == DATA else struct.unpack(">I", self._read(4))[0]
        if total > self._max_message:
            raise ProtocolError(
                "Cannot take a message of %d bytes: the most is %d"
                % (total, self._max_message))
        with self._changed:
            self._check_number(number)
        payload = bytearray(self._read_part(size, total))
        while len(payload) < total:
            length, kind = struct.unpack(">IB", self._read(5))
            if kind == NEXT and length > 1:
                payload += self._read_part(length - 1, total - len(payload))
            elif (kind in (CREDIT, STALL, ABORT)
                  and 0 < length <= MAX_CONTROL_SIZE):
                self._on_control(kind, self._read(length - 1))
            else:
                raise ProtocolError(
                    "Cannot take a frame of kind %d between parts" % kind)
        with self._changed:
            self._on_message(taken, bytes(payload))
            self._changed.notify_all()

    def _read_part(self, size, room):
        if size > room:
            raise ProtocolError(
                "Cannot take a part of %d bytes: %d are missing" % (size, room))
        return self._read(size)

    def _check_number(self, number):
        expected = (self._received + 1) & 0xFFFFFFFF
        if number != expected or self._heard_goodbye:
            raise ProtocolError(
                "Cannot take message %d: the next one must be %d"
                % (number, expected))
        if (self._received - self._credited >= self._messages
                or self._inbox_bytes + self._bytes_to_credit >= self._window):
            raise ProtocolError(
                "Cannot take message %d: it is beyond the window" % number)

    def _on_message(self, taken, payload):
        self._received += 1
        self._inbox.append(payload)
        self._inbox_bytes += len(payload)
        news = (taken - self._acknowledged) & 0xFFFFFFFF
        if news < 1 << 31:
            self._on_taken(self._acknowledged + news)

    def _on_taken(self, count):
        if count > self._sent:
            raise ProtocolError(
                "Cannot take an acknowledgement of message %d: %d were sent"
                % (count, self._sent))
        while self._acknowledged < count:
            self._acknowledged += 1
            self._moves += 1
            self._bytes_in_flight -= self._in_flight.popleft()
            self._stalled = self._peer_stalled = False

    def _on_control(self, kind, body):
        """Acts on a control frame."""
        magic = MAGIC if kind == HELLO else b""
        if not body.startswith(magic):
            raise ProtocolError("Cannot read a hello: it has no magic bytes")
        fields = unpack(body[len(magic):])
        if not isinstance(fields, dict):
            raise ProtocolError("Cannot read a control frame: it holds no map")
        with self._changed:
            if kind == ABORT:
                text = str(fields.get("text", "no reason"))
                broke = fields.get("fault") is True
                self._fail(ProtocolError("The far side broke off: " + text)
                           if broke else Aborted(text))
                return
            if (kind == HELLO) == bool(self._peer):
                raise ProtocolError(
                    "Cannot take a control frame of kind %d here" % kind)
            if kind == HELLO:
                self._on_hello(fields)
            elif kind == CREDIT:
                self._on_taken(_count(fields, "taken"))
            elif kind == STALL:
                # A notice that crossed newer credit is out of date.
                if _count(fields, "taken") == self._credited:
                    self._peer_stalled = True
                    self._deadlock = self._stalled and not self._receiving
            else:
                self._on_goodbye(fields)
            self._changed.notify_all()

    def _on_hello(self, fields):
        if fields.get("version") != VERSION:
            raise ProtocolError(
                "Cannot talk to the far side: it speaks version %s of the "
                "protocol and this side version %d"
                % (fields.get("version"), VERSION))
        codecs = fields.get("codecs")
        if not isinstance(codecs, list) or "msgpack" not in codecs:
            raise ProtocolError(
                'Cannot agree on a codec: the far side has %s and this side '
                '["msgpack"]' % (codecs,))
        limits = ("window", "messages", "maxMessage")
        peer = {name: _count(fields, name) for name in limits}
        if 0 in peer.values():
            raise ProtocolError("Cannot read a hello: a limit is 0")
        self._peer = peer

    def _on_goodbye(self, fields):
        sent = _count(fields, "sent")
        if self._heard_goodbye or sent != self._received:
            raise ProtocolError(
                "Cannot take a goodbye after %d messages: %d have come"
                % (sent, self._received))
        self._on_taken(_count(fields, "taken"))
        self._heard_goodbye = True


def _count(fields, name):
    value = fields.get(name)
    if (isinstance(value, (int, float)) and not isinstance(value, bool)
            and 0 <= value < 1 << 53 and value == int(value)):
        return int(value)
    raise ProtocolError(
        'Cannot read a control frame: "%s" must be a whole number, got %r'
        % (name, value))


def _take_standard_streams():
    """The descriptors of the frames, moved out of the way of prints."""
    sys.stdout.flush()
    frames_in, frames_out = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    if os.name == "nt":
        import msvcrt
        msvcrt.setmode(frames_in, os.O_BINARY)
        msvcrt.setmode(frames_out, os.O_BINARY)
    return frames_in, frames_out


# MessagePack

def pack(value):
    """A value as MessagePack."""
    out = bytearray()
    _pack(value, out, 0)
    return bytes(out)


def _pack(value, out, depth):
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


def _pack_head(size, out, fix, fix_limit, byte, short, long):
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


def _pack_int(value, out):
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


def unpack(data):
    """The value that MessagePack bytes hold."""
    try:
        value, end = _unpack(data, 0, 0)
    except (struct.error, IndexError):
        raise ProtocolError("Cannot decode a message: it ends too soon") from None
    except UnicodeDecodeError as error:
        raise ProtocolError("Cannot decode a message: %s" % error) from None
    if end != len(data):
        raise ProtocolError(
            "Cannot decode a message: there are %d bytes too many"
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


def _unpack(data, at, depth):
    """A value and where it ends. One level of calls for a level of depth."""
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
        raise ProtocolError("Cannot decode a message: 0xc1 is no format")
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


def _refuse_extension(data, byte, at):
    position = at + (1 << (byte - 0xC7) if byte <= 0xC9 else 0)
    number = struct.unpack_from(">b", data, position)[0]
    raise UnsupportedValue(
        "Cannot unpack extension type %d (%s)"
        % (number, _EXTENSIONS.get(number, "unknown")))
