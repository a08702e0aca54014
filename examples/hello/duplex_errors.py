# Copyright 2026 the Duplex authors. MIT license.

"""What the ends of a duplex raise. `duplex.py` has these names too."""

from __future__ import annotations


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


class Refused(ConnectionError):
    """The two sides of a socket do not let each other in."""


class UnsupportedValue(ValueError):
    """A message holds a value that this file has no type for."""
