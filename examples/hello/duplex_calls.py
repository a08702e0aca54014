# Copyright 2026 the Duplex authors. MIT license.

"""Calls over a duplex in Python, after "Calls" of PROTOCOL.md.

    from duplex import Duplex
    from duplex_calls import expose

    with Duplex() as main:
        expose({"square": lambda n: n * n}, main)

lets the program at the other end call `square` with `remote`, or run it in a
pool. One call is done after the other. A generator is sent as a list; functions
among arguments are not called back.
"""

from __future__ import annotations

import inspect
import traceback
from typing import Any, Callable, Mapping, Tuple


CALL, BATCH, NOTICE, VALUE, ERROR = 1, 2, 3, 4, 5
ITEMS, PULL, CANCEL, RECALL = 7, 8, 9, 10

#: The method that tells what there is to call.
DESCRIBE = 0

Methods = Mapping[str, Callable[..., Any]]

#: Whether a call failed, and what it gave or the failure.
Outcome = Tuple[bool, Any]


def expose(methods: Methods, duplex: Any) -> None:
    """Answers calls until the far side says goodbye."""
    for message in duplex:
        tag, *rest = message
        if tag == CALL and rest[1] == DESCRIBE:
            duplex.send([VALUE, rest[0], {"methods": list(methods)}])
        elif tag == CALL:
            number, name, args, *places = rest
            answer(duplex, VALUE, number, call(methods, name, args, *places))
        elif tag == BATCH:
            number, name, calls = rest
            for args in calls:
                answer(duplex, ITEMS, number, call(methods, name, args))
        elif tag == NOTICE:
            call(methods, *rest)
        elif tag not in (PULL, CANCEL, RECALL):
            raise ValueError(f"There is no call to answer: {message!r}")


def answer(duplex: Any, tag: int, number: int, outcome: Outcome) -> None:
    """Sends what a call gave, or what it raised, or why that cannot be sent."""
    failed, value = outcome
    if failed:
        duplex.send([ERROR, number, value])
        return
    try:
        duplex.send([tag, number, [value] if tag == ITEMS else value])
    except ValueError as error:
        duplex.send([ERROR, number, failure(error)])


def call(
    methods: Methods, name: Any, args: list[Any], places: Any = None
) -> Outcome:
    """Whether it failed, and what it gave or the failure."""
    try:
        if places:
            raise TypeError("functions and signals are not called back here")
        if name not in methods:
            raise TypeError(f"there is no method {name!r} but {list(methods)}")
        result = methods[name](*args)
        return False, list(result) if inspect.isgenerator(result) else result
    except Exception as error:
        return True, failure(error)


def failure(error: Exception) -> list[Any]:
    """What is sent for an error."""
    name = type(error).__name__
    stack = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    parts = {"class": name, "name": name, "message": str(error), "stack": stack}
    return [True, parts]
