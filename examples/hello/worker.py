# Copyright 2026 the Duplex authors. MIT license.

"""A worker in Python; main_python.ts starts it."""

from duplex import Duplex

with Duplex() as main:
    print(main.receive())
    main.send("Hello from worker!")
