# Copyright 2026 the Duplex authors. MIT license.

"""One end of a duplex in Python, as specified in PROTOCOL.md.

Requires Python 3.9, and `duplex_credit.py`, `duplex_errors.py`,
`duplex_frames.py`, `duplex_link.py` and `duplex_msgpack.py` in the same folder:
copy all six files to the folder of your program, and import this one. A worker
is started with

    openPipe({ command: "python3", args: ["worker.py"] })

and exchanges messages with the program that started it:

    from duplex import Duplex

    with Duplex() as main:
        for message in main:
            main.send(message)

Standard output carries the messages, so `Duplex()` redirects everything that is
printed to standard error. A program connects to a listener with

    from duplex import connect

    with connect("tcp://127.0.0.1:9000", secret="Only we two know") as peer:
        peer.send("Hello!")

Messages are None, bool, int, float, str, bytes, list, tuple and dict. A list or
dict that occurs twice in a message, or contains itself, is received likewise.
"""

from __future__ import annotations

import os
import ssl
import struct
import threading
import time
from typing import Any

from duplex_credit import Credit
from duplex_errors import (
    Aborted,
    Closed,
    DeadlockError,
    PeerEnded,
    ProtocolError,
    Refused,
    UnsupportedValue,
)
from duplex_frames import (
    ABORT,
    CREDIT,
    DATA,
    FIRST,
    GOODBYE,
    HELLO,
    NEXT,
    PING,
    STALL,
    VERSION,
    Fields,
    control_fields,
    control_frame,
    hello_limits,
    message_frames,
    read_exactly,
    whole_number,
)
from duplex_link import LINGER, Link, Pipe, greet, open_socket
from duplex_msgpack import pack, unpack

__all__ = [
    "Aborted",
    "Closed",
    "DeadlockError",
    "Duplex",
    "PeerEnded",
    "ProtocolError",
    "Refused",
    "UnsupportedValue",
    "connect",
]

MAX_CONTROL_SIZE = 4096
MAX_TEXT_LENGTH = 200

# Seconds.
HELLO_TIMEOUT = 10
STALL_TIMEOUT = 5
ORPHAN_GRACE = 1
ORPHAN_CHECK = 0.25


def connect(address: str, secret: str | bytes | None = None, *,
            heartbeat: float = 5, checksum: bool = False,
            context: ssl.SSLContext | None = None,
            timeout: float = 10, **limits: int) -> Duplex:
    """Connects to a listener at "tcp://host:port", "tls://host:port" or "unix:/path".

    `heartbeat` and `timeout` are in seconds; a heartbeat of 0 disables heartbeats.
    `context` sets the trusted certificates. The limits are those of Duplex.
    """
    key = secret.encode("utf-8") if isinstance(secret, str) else secret
    if key is not None and not key:
        raise ValueError(
            "Cannot connect as the secret must have at least one byte: it is empty")
    sock = open_socket(address, timeout, context)
    try:
        link = greet(sock, timeout, key, heartbeat, checksum)
    except BaseException:
        sock.close()
        raise
    return Duplex(link=link, **limits)


class Duplex:
    """One end of a duplex. Its methods may be called from any thread."""

    def __init__(self, window: int = 4 << 20, messages: int = 4096,
                 max_message: int = 256 << 20, link: Link | None = None):
        self._max_message = max_message
        self._link = link or Pipe()
        # Read before the hello, while the parent is known to be alive.
        self._parent_id = os.getppid()

        # Held while one frame is written, and while one message is sent.
        self._writing = threading.Lock()
        self._sending = threading.Lock()
        # Guards all attributes below; notified when any of them changes.
        self._changed = threading.Condition()
        self._failure: Exception | None = None
        self._said_goodbye = False
        self._credit = Credit(window, messages)
        # Threads in receive(). If there are none, two stalled sides are a deadlock.
        self._receiving = 0
        self._deadlock = False
        # Bytes of the stream that have arrived.
        self._bytes_received = 0

        self._write_control(HELLO, {
            "version": VERSION,
            "name": "python",
            "codecs": ["msgpack"],
            "window": window,
            "messages": messages,
            "maxMessage": max_message,
            "graph": True,
        })
        self._reader = threading.Thread(target=self._read_all, daemon=True)
        self._reader.start()
        if self._link.heartbeat:
            threading.Thread(target=self._beat, daemon=True).start()
        with self._changed:
            self._changed.wait_for(
                lambda: self._credit.peer or self._failure, HELLO_TIMEOUT)
            if self._failure:
                raise self._failure
            if not self._credit.peer:
                self._link.end()
                raise TimeoutError(
                    "Cannot open a duplex: %s has not sent a hello within %d seconds"
                    % (self._link.peer, HELLO_TIMEOUT))

    def __enter__(self) -> Duplex:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if error is None:
            self.close()
        else:
            self.abort("%s: %s" % (kind.__name__, error))

    def __iter__(self) -> Duplex:
        return self

    def __next__(self) -> Any:
        try:
            return self.receive()
        except PeerEnded:
            raise
        except Closed:
            raise StopIteration from None

    # Sending

    def send(self, message: Any) -> None:
        """Sends a message; waits while the peer's window is full."""
        assert self._credit.peer
        payload = pack(message, bool(self._credit.peer["graph"]),
                       self._credit.peer["maxMessage"])
        if len(payload) > self._credit.peer["maxMessage"]:
            raise ValueError(
                "Cannot send a message of %d bytes: the peer accepts at most %d"
                % (len(payload), self._credit.peer["maxMessage"]))
        with self._sending:
            self._wait_for_room()
            with self._changed:
                self._check_sendable()
                numbers = self._credit.send(len(payload))
            written = all(map(self._write, message_frames(numbers, payload)))
        if not written and self._failure:
            raise self._failure

    def _check_sendable(self) -> None:
        if self._failure:
            raise self._failure
        if self._said_goodbye:
            raise Closed("Cannot send to a closed duplex")

    def _wait_for_room(self) -> None:
        """Waits for room; sends a stall if it makes no progress for a while."""
        with self._changed:
            self._credit.stalled = self._deadlock = False
        while True:
            with self._changed:
                self._check_sendable()
                if self._deadlock:
                    self._credit.stalled = self._credit.peer_stalled = False
                    raise DeadlockError(
                        "Cannot send: both sides wait for the other to receive")
                if self._credit.has_room():
                    return
                moves = self._credit.moves
                # A side that has sent a stall waits without a timeout.
                moved = self._changed.wait_for(
                    lambda: (self._credit.moves != moves or self._failure
                             or self._deadlock),
                    None if self._credit.stalled else STALL_TIMEOUT)
                if moved or self._receiving:
                    continue
                self._credit.stalled = True
                self._deadlock = self._credit.peer_stalled
                known = self._credit.acknowledged
            self._write_control(STALL, {"taken": known})

    def _write_control(self, kind: int, fields: Fields) -> None:
        self._write(control_frame(kind, fields))

    def _write(self, frame: bytes) -> bool:
        """Writes a frame; False if the link is closed for writing."""
        try:
            with self._writing:
                self._link.write(frame)
            return True
        except OSError:
            # What the peer wrote before it stopped reading may give the reason.
            with self._changed:
                self._changed.wait_for(lambda: self._failure, LINGER)
            self._fail(PeerEnded(
                "Cannot write: %s no longer reads" % self._link.peer))
            return False

    # Receiving

    def receive(self) -> Any:
        """Returns the next message. Raises Closed after the peer's goodbye."""
        with self._changed:
            self._receiving += 1
            try:
                self._changed.wait_for(
                    lambda: (self._credit.inbox or self._failure
                             or self._credit.heard_goodbye))
            finally:
                self._receiving -= 1
            if not self._credit.inbox:
                if self._failure:
                    raise self._failure
                raise Closed("Cannot receive: the peer has sent goodbye")
            payload, taken = self._credit.take()
            if taken is not None:
                # A send that has stalled is no longer in a deadlock.
                self._changed.notify_all()
        if taken is not None:
            self._write_control(CREDIT, {"taken": taken})
        try:
            return unpack(payload)
        except ProtocolError as error:
            self._break_off(error, True)
            self._await_end()
            raise

    # Beginning and end

    def close(self) -> None:
        """Sends goodbye and waits for the peer's. May be called again."""
        with self._sending:
            with self._changed:
                if self._failure or self._said_goodbye:
                    say = False
                else:
                    say = self._said_goodbye = True
                    fields = {"sent": self._credit.sent,
                              "taken": self._credit.tell()}
            if say:
                self._write_control(GOODBYE, fields)
        with self._changed:
            self._changed.wait_for(
                lambda: self._credit.heard_goodbye or self._failure)
            failure = None if self._credit.heard_goodbye else self._failure
        if not failure:
            self._link.finish()
        self._await_end()
        if failure:
            raise failure

    def abort(self, reason: object) -> None:
        """Ends the duplex at once; the reason becomes the peer's error."""
        self._break_off(Aborted(str(reason)), False)
        self._await_end()

    def _break_off(self, error: Exception, fault: bool) -> None:
        if self._fail(error):
            # The link ends after a second if the peer does not read.
            timer = threading.Timer(LINGER, self._link.end)
            timer.daemon = True
            timer.start()
            text = str(error)[:MAX_TEXT_LENGTH]
            self._write_control(ABORT, {"text": text, "fault": fault})
            self._link.finish()

    def _await_end(self) -> None:
        """Gives the peer time to read all that was written."""
        self._reader.join(self._link.linger)
        self._link.end()

    def _is_over(self) -> bool:
        return self._said_goodbye and self._credit.heard_goodbye

    def _fail(self, error: Exception) -> bool:
        """Keeps the first error and wakes the threads that wait."""
        with self._changed:
            if self._failure or self._is_over():
                return False
            self._failure = error
            if isinstance(error, Aborted):
                self._credit.inbox.clear()
            self._changed.notify_all()
            return True

    # Heartbeats and reading, each in a thread of its own

    def _beat(self) -> None:
        def done() -> bool:
            return self._failure is not None or self._is_over()

        while True:
            with self._changed:
                if self._changed.wait_for(done, self._link.heartbeat):
                    return
                received = self._bytes_received
            self._write_control(PING, {"received": received})

    def _read_all(self) -> None:
        try:
            try:
                while self._read_frame():
                    pass
            except OSError:
                raise
            except Exception as error:
                self._break_off(error, True)
                # Ignore what arrives from now on, up to the end of the stream.
                while self._link.read(1 << 16):
                    pass
        except OSError as error:
            self._fail(PeerEnded(
                "Cannot read from %s: %s" % (self._link.peer, error)))
        except ProtocolError:
            pass
        with self._changed:
            over = self._is_over()
        if not over:
            self._fail(PeerEnded(
                "Cannot read from %s: it ended without a goodbye" % self._link.peer))
        if self._link.is_parent:
            # After both goodbyes the parent closes the pipe and waits for the
            # program, which may continue without its duplex.
            while over and os.getppid() == self._parent_id:
                time.sleep(ORPHAN_CHECK)
            # The parent has ended. The program has a second to clean up.
            time.sleep(ORPHAN_GRACE)
            os._exit(1)
        self._link.finish()
        self._link.end()
        # Wait for a write that is in progress.
        with self._writing:
            self._link.close()

    def _read_frame(self) -> bool:
        """Reads one frame; False at the end of the stream."""
        head = self._read(5, at_end=True)
        if not head:
            return False
        length, kind = struct.unpack(">IB", head)
        if kind in (DATA, FIRST):
            self._read_message(kind, length)
        elif (kind in (HELLO, CREDIT, STALL, GOODBYE, ABORT, self._link.ping)
              and 0 < length <= MAX_CONTROL_SIZE):
            self._on_control(kind, self._read(length - 1))
        else:
            raise ProtocolError(
                "Cannot read a frame of kind %d and %d bytes here" % (kind, length))
        return True

    def _read(self, size: int, at_end: bool = False) -> bytes:
        """Reads exactly `size` bytes, or none at an end of the stream if `at_end`."""
        data = read_exactly(self._link.read, size, at_end)
        self._bytes_received += len(data)
        return data

    def _read_message(self, kind: int, length: int) -> None:
        header = 9 if kind == DATA else 13
        if length < header + (kind == FIRST) or not self._credit.peer:
            raise ProtocolError(
                "Cannot read a frame of kind %d and %d bytes here" % (kind, length))
        number, taken = struct.unpack(">II", self._read(8))
        size = length - header
        total = size if kind == DATA else struct.unpack(">I", self._read(4))[0]
        if total > self._max_message:
            raise ProtocolError(
                "Cannot receive a message of %d bytes: the limit is %d"
                % (total, self._max_message))
        with self._changed:
            self._credit.check_number(number)
        payload = bytearray(self._read_part(size, total))
        while len(payload) < total:
            length, kind = struct.unpack(">IB", self._read(5))
            if kind == NEXT and length > 1:
                payload += self._read_part(length - 1, total - len(payload))
            elif (kind in (CREDIT, STALL, ABORT, self._link.ping)
                  and 0 < length <= MAX_CONTROL_SIZE):
                self._on_control(kind, self._read(length - 1))
            else:
                raise ProtocolError(
                    "Cannot receive a frame of kind %d between the parts of a message"
                    % kind)
        with self._changed:
            self._credit.on_message(taken, bytes(payload))
            self._changed.notify_all()

    def _read_part(self, size: int, room: int) -> bytes:
        if size > room:
            raise ProtocolError(
                "Cannot receive a part of %d bytes: its message lacks %d"
                % (size, room))
        return self._read(size)

    def _on_control(self, kind: int, body: bytes) -> None:
        """Handles a control frame."""
        fields = control_fields(kind, body)
        with self._changed:
            if kind == ABORT:
                text = str(fields.get("text", "no reason"))
                broke = fields.get("fault") is True
                self._fail(ProtocolError("The peer reported a violation: " + text)
                           if broke else Aborted(text))
                return
            if kind == PING:
                whole_number(fields, "received")
                return
            if (kind == HELLO) == bool(self._credit.peer):
                raise ProtocolError(
                    "Cannot receive a control frame of kind %d here" % kind)
            if kind == HELLO:
                self._credit.peer = hello_limits(fields)
            elif kind == CREDIT:
                self._credit.on_taken(whole_number(fields, "taken"))
            elif kind == STALL:
                if self._credit.on_stall(whole_number(fields, "taken")):
                    self._deadlock = (
                        self._credit.stalled and not self._receiving)
            else:
                self._credit.on_goodbye(whole_number(fields, "sent"),
                                        whole_number(fields, "taken"))
            self._changed.notify_all()
