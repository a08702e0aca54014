# Copyright 2026 the Duplex authors. MIT license.

"""A worker in Python that exposes methods; methods.ts is one in Deno."""

from duplex import Duplex
from duplex_calls import expose

with Duplex() as main:
    expose({
        "square": lambda n: n * n,
        "divide": lambda a, b: a / b,
        "thing": lambda: object(),
    }, main)
