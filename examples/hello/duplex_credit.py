# Copyright 2026 the Duplex authors. MIT license.

"""The messages in flight in both directions, and the credit for them."""

from __future__ import annotations

import struct
from collections import deque

from duplex_errors import ProtocolError


class Credit:
    """Counts messages. The caller must hold a lock."""

    def __init__(self, window: int, messages: int) -> None:
        self._window = window
        self._messages = messages
        # The limits of the peer, from its hello.
        self.peer: dict[str, int] | None = None
        self.heard_goodbye = False

        # Sending: the sizes of the messages in flight.
        self.sent = 0
        self.acknowledged = 0
        self._in_flight: deque[int] = deque()
        self._bytes_in_flight = 0
        # Receiving: the messages that have arrived, and the credit that was sent.
        self.inbox: deque[bytes] = deque()
        self._inbox_bytes = 0
        self._received = 0
        self._taken = 0
        self._credited = 0
        self._bytes_to_credit = 0
        # Whether this side and the peer have stalled.
        self.stalled = False
        self.peer_stalled = False
        # Counts the messages that either side has received.
        self.moves = 0

    # Sending

    def has_room(self) -> bool:
        """Whether the peer's window has room for one more message."""
        assert self.peer
        return (len(self._in_flight) < self.peer["messages"]
                and self._bytes_in_flight < self.peer["window"])

    def send(self, size: int) -> bytes:
        """Counts a message as sent; returns the numbers that precede its bytes."""
        self.sent += 1
        self._in_flight.append(size)
        self._bytes_in_flight += size
        return struct.pack(
            ">II", self.sent & 0xFFFFFFFF, self.tell() & 0xFFFFFFFF)

    def on_taken(self, count: int) -> None:
        """Counts the messages that the peer has received since the beginning."""
        if count > self.sent:
            raise ProtocolError(
                "Cannot receive an acknowledgement of message %d: %d were sent"
                % (count, self.sent))
        while self.acknowledged < count:
            self.acknowledged += 1
            self.moves += 1
            self._bytes_in_flight -= self._in_flight.popleft()
            self.stalled = self.peer_stalled = False

    # Receiving

    def check_number(self, number: int) -> None:
        """Checks that the message is in order and within the window."""
        expected = (self._received + 1) & 0xFFFFFFFF
        if number != expected or self.heard_goodbye:
            raise ProtocolError(
                "Cannot receive message %d: the next one must be %d"
                % (number, expected))
        if (self._received - self._credited >= self._messages
                or self._inbox_bytes + self._bytes_to_credit >= self._window):
            raise ProtocolError(
                "Cannot receive message %d: it exceeds the window" % number)

    def on_message(self, taken: int, payload: bytes) -> None:
        """Adds a message that arrived, with `taken` mod 2^32."""
        self._received += 1
        self.inbox.append(payload)
        self._inbox_bytes += len(payload)
        news = (taken - self.acknowledged) & 0xFFFFFFFF
        if news < 1 << 31:
            self.on_taken(self.acknowledged + news)

    def take(self) -> tuple[bytes, int | None]:
        """Removes a message; returns it, and the count to send if credit is due."""
        payload = self.inbox.popleft()
        self._inbox_bytes -= len(payload)
        self._taken += 1
        self.moves += 1
        self._bytes_to_credit += len(payload)
        stalled = self.stalled or self.peer_stalled
        self.stalled = self.peer_stalled = False
        if (stalled
                or (self._taken - self._credited) * 2 >= self._messages
                or self._bytes_to_credit * 2 >= self._window
                or (self.heard_goodbye and not self.inbox)):
            return payload, self.tell()
        return payload, None

    def tell(self) -> int:
        """Returns the count of messages received. The caller sends it to the peer."""
        self._credited = self._taken
        self._bytes_to_credit = 0
        return self._taken

    def on_stall(self, taken: int) -> bool:
        """Handles a stall of the peer; returns False if it is out of date."""
        if taken != self._credited:
            return False
        self.peer_stalled = True
        return True

    def on_goodbye(self, sent: int, taken: int) -> None:
        """Handles the goodbye of the peer."""
        if self.heard_goodbye or sent != self._received:
            raise ProtocolError(
                "Cannot receive a goodbye after %d messages: %d have arrived"
                % (sent, self._received))
        self.on_taken(taken)
        self.heard_goodbye = True
