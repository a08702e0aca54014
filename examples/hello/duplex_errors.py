# Copyright 2026 the Duplex authors. MIT license.

"""The exceptions of a duplex. `duplex.py` exports them as well."""

from __future__ import annotations


class Closed(EOFError):
    """The duplex is closed, and all messages have been received."""


class PeerEnded(Closed):
    """The peer ended without a goodbye."""


class Aborted(Exception):
    """The peer aborted the duplex; the text is its reason."""


class ProtocolError(Exception):
    """One side violated the protocol."""


class DeadlockError(Exception):
    """Each side waits for the other to receive. The message was not sent."""


class Refused(ConnectionError):
    """One side of a socket rejected the other."""


class UnsupportedValue(ValueError):
    """A message contains a value of a type that is not supported here."""
