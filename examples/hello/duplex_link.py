# Copyright 2026 the Duplex authors. MIT license.

"""The links that carry frames: pipes, and sockets after a handshake."""

from __future__ import annotations

import hashlib
import hmac
import os
import select
import socket
import ssl
import struct
import sys
import threading
import zlib
from typing import Any, Callable
from urllib.parse import urlsplit

from duplex_errors import ProtocolError, Refused
from duplex_frames import (
    ABORT,
    GREETING,
    PING,
    READY,
    VERSION,
    Fields,
    check_version,
    control_fields,
    control_frame,
    read_exactly,
    whole_number,
)

MAX_GREETING_SIZE = 1024
MAX_RECORD_SIZE = 64 * 1024

# Seconds.
LINGER = 1
MIN_HEARTBEAT = 0.05
MAX_MISSED = 3


class Link:
    """A stream of bytes in both directions."""

    # The peer in error texts.
    peer = "the peer"
    is_parent = False
    # The kind of pings, if they are allowed; seconds between those of this side;
    # and seconds that the peer has to end its half.
    ping: int | None = None
    heartbeat: float | None = None
    linger: float = 0

    def read(self, size: int) -> bytes | memoryview:
        """Reads at most `size` bytes; none at the end."""
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        """Writes all bytes."""
        raise NotImplementedError

    def finish(self) -> None:
        """Ends the half of the link that this side writes."""

    def end(self) -> None:
        """Ends the link, and every read and write that waits."""

    def close(self) -> None:
        """Closes the descriptors, after the end."""


class Pipe(Link):
    """Standard input and output, connected to the parent."""

    peer = "the parent"
    is_parent = True

    def __init__(self) -> None:
        self._input, self._output = _take_standard_streams()

    def read(self, size: int) -> bytes:
        return os.read(self._input, size)

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._output, view):]


def _take_standard_streams() -> tuple[int, int]:
    """Moves the frames to other descriptors and redirects prints; returns those."""
    sys.stdout.flush()
    frames_in, frames_out = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    if sys.platform == "win32":
        import msvcrt
        msvcrt.setmode(frames_in, os.O_BINARY)
        msvcrt.setmode(frames_out, os.O_BINARY)
    return frames_in, frames_out


class Socket(Link):
    """A connection. No thread waits while it holds the lock."""

    ping = PING
    linger = LINGER

    def __init__(self, sock: socket.socket, silence: float | None) -> None:
        sock.setblocking(False)
        self._sock = sock
        # Seconds without a byte after which the peer is considered dead.
        self._silence = silence
        # TLS allows one call at a time.
        self._calling = threading.Lock()

    def read(self, size: int) -> bytes | memoryview:
        data: bytes = self._call(
            lambda: self._sock.recv(size), True, self._silence)
        return data

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._call(lambda: self._sock.send(view), False, None):]

    def _call(self, call: Callable[[], Any], reading: bool,
              timeout: float | None) -> Any:
        while True:
            try:
                with self._calling:
                    return call()
            except BlockingIOError:
                pass
            except ssl.SSLWantReadError:
                reading = True
            except ssl.SSLWantWriteError:
                reading = False
            if self._sock.fileno() < 0:
                raise OSError("the connection is closed")
            wanted = [self._sock]
            ready = select.select(wanted if reading else [],
                                  [] if reading else wanted, [], timeout)
            if not ready[0] and not ready[1]:
                raise TimeoutError(
                    "nothing has arrived for %g seconds" % (timeout or 0))

    def finish(self) -> None:
        try:
            with self._calling:
                if isinstance(self._sock, ssl.SSLSocket):
                    self._sock.unwrap()
        except (OSError, ValueError):
            # The thread that reads gets the peer's answer.
            pass
        self._shutdown(socket.SHUT_WR)

    def end(self) -> None:
        self._shutdown(socket.SHUT_RDWR)

    def _shutdown(self, how: int) -> None:
        try:
            # The shutdown of SSLSocket would make later reads skip the decryption.
            socket.socket.shutdown(self._sock, how)
        except OSError:
            pass

    def close(self) -> None:
        self._sock.close()


class Records(Socket):
    """A connection in records with checksums."""

    def __init__(self, sock: socket.socket, silence: float | None) -> None:
        super().__init__(sock, silence)
        self._records_read = 0
        self._records_written = 0
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes | memoryview:
        if not self._rest:
            head = read_exactly(super().read, 9, at_end=True)
            if not head:
                return head
            length, flags, checksum = struct.unpack(">IBI", head)
            if flags != 0 or not 0 < length <= MAX_RECORD_SIZE:
                raise ProtocolError(
                    "Cannot read a record of %d bytes with flags %d"
                    % (length, flags))
            body = read_exactly(super().read, length)
            if checksum != _checksum(self._records_read, body):
                raise ProtocolError(
                    "Cannot read record %d: its checksum does not match its bytes"
                    % self._records_read)
            self._records_read += 1
            self._rest = memoryview(body)
        some, self._rest = self._rest[:size], self._rest[size:]
        return some

    def write(self, data: bytes) -> None:
        for start in range(0, len(data), MAX_RECORD_SIZE):
            body = data[start:start + MAX_RECORD_SIZE]
            checksum = _checksum(self._records_written, body)
            self._records_written += 1
            super().write(struct.pack(">IBI", len(body), 0, checksum) + body)


def _checksum(number: int, body: bytes) -> int:
    head = struct.pack(">IIB", number & 0xFFFFFFFF, len(body), 0)
    return zlib.crc32(body, zlib.crc32(head))


# The handshake

def open_socket(address: str, timeout: float,
                context: ssl.SSLContext | None) -> socket.socket:
    """Connects a socket to the address of a listener."""
    if address.startswith("unix:"):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(timeout)
        try:
            sock.connect(address[len("unix:"):])
        except BaseException:
            sock.close()
            raise
        return sock
    url = urlsplit(address)
    if url.scheme not in ("tcp", "tls") or not url.hostname or not url.port:
        raise ValueError(
            'Cannot connect as the address must be "tcp://host:port", '
            '"tls://host:port" or "unix:/path": current value is "%s"' % address)
    sock = socket.create_connection((url.hostname, url.port), timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if url.scheme == "tcp":
        return sock
    context = context or ssl.create_default_context()
    return context.wrap_socket(sock, server_hostname=url.hostname)


def greet(sock: socket.socket, timeout: float, secret: bytes | None,
          heartbeat: float, checksum: bool) -> Link:
    """Performs the handshake of an opener; both sides prove the secret."""
    link = Socket(sock, timeout)
    ours = control_frame(GREETING, {
        "version": VERSION,
        "nonce": os.urandom(32),
        "secret": secret is not None,
        "heartbeat": round(heartbeat * 1000),
        "checksum": checksum,
        "compression": False,
        "resume": False,
    })
    link.write(ours)
    theirs, fields = _read_greeting(link, GREETING)
    check_version(fields)
    if (fields.get("secret") is True) != (secret is not None):
        raise Refused("Cannot connect: only one of the two sides holds a secret")
    if fields.get("compression") is True:
        raise ProtocolError(
            "Cannot connect: the peer compresses, which this side did not ask for")
    beat = min((max(MIN_HEARTBEAT, wish) for wish in
                (heartbeat, whole_number(fields, "heartbeat") / 1000) if wish > 0),
               default=None)
    proof = _proof(secret, b"opener", 0, ours + theirs)
    link.write(control_frame(READY, {"received": 0, "proof": proof}))
    _, ready = _read_greeting(link, READY)
    received = whole_number(ready, "received")
    said = ready.get("proof")
    expected = _proof(secret, b"acceptor", received, ours + theirs)
    if not (isinstance(said, bytes) and hmac.compare_digest(said, expected)):
        raise Refused("Cannot connect: the peer does not hold the same secret, or "
                      "the handshake was changed in transit")
    kind = Records if checksum or fields.get("checksum") is True else Socket
    chosen = kind(sock, beat and MAX_MISSED * beat)
    chosen.heartbeat = beat
    return chosen


def _read_greeting(link: Link, wanted: int) -> tuple[bytes, Fields]:
    """Reads one frame of the handshake, and no byte after it."""
    head = read_exactly(link.read, 5)
    length, kind = struct.unpack(">IB", head)
    if kind not in (wanted, ABORT) or not 2 <= length <= MAX_GREETING_SIZE:
        raise ProtocolError(
            "Cannot read a frame of kind %d and %d bytes here: does the peer "
            "speak this protocol?" % (kind, length))
    body = read_exactly(link.read, length - 1)
    fields = control_fields(kind, body)
    if kind == ABORT:
        text = "Cannot connect: the peer rejected it: %s" % fields.get("text")
        raise ProtocolError(text) if fields.get("fault") is True else Refused(text)
    return head + body, fields


def _proof(secret: bytes | None, role: bytes, received: int,
           greetings: bytes) -> bytes:
    key = hashlib.sha256(secret or b"").digest()
    data = b"@duplex/ipc 1 %s\0" % role + struct.pack(">Q", received) + greetings
    return hmac.new(key, data, "sha256").digest()
