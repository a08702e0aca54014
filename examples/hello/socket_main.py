# Copyright 2026 the Duplex authors. MIT license.

"""A peer in Python; socket_main.ts listens for it and prints the command."""

import sys

from duplex import connect

address = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:9000"
with connect(address, secret="Only we two know") as peer:
    peer.send("Hello from Python!")
    print(peer.receive())
