# Copyright 2026 the Duplex authors. MIT license.

"""Calls over a duplex in Python, as specified in "Calls" of PROTOCOL.md.

    from duplex import Duplex
    from duplex_calls import expose

    with Duplex() as main:
        expose({"square": lambda n: n * n}, main)

exposes `square`, which the peer calls with `remote` or runs in a pool. The calls
run one after the other. A generator is sent as a list. A call with functions,
signals or streams among its arguments fails, and they are released.
"""

from __future__ import annotations

import inspect
import traceback
from typing import Any, Callable, Mapping, Tuple


CALL, BATCH, NOTICE, VALUE, ERROR = 1, 2, 3, 4, 5
ITEMS, PULL, CANCEL, RECALL = 7, 8, 9, 10
RELEASE = 12

#: The kinds of slots that are released: functions, objects and streams of the peer.
RELEASED_KINDS = (1, 3, 4, 5)

#: The method that describes the peer.
DESCRIBE = 0

Methods = Mapping[str, Callable[..., Any]]

#: Whether a call failed, and its result or failure.
Outcome = Tuple[bool, Any]


def expose(methods: Methods, duplex: Any) -> None:
    """Answers calls until the peer sends goodbye."""
    for message in duplex:
        # The rest of a longer message is a trace, which is not continued here.
        tag, *rest = message
        if tag == CALL and rest[1] == DESCRIBE:
            duplex.send([VALUE, rest[0], {"methods": list(methods)}])
        elif tag == CALL:
            number, name, args, *slots = rest[:4]
            release(duplex, *slots)
            answer(duplex, VALUE, number, call(methods, name, args, *slots))
        elif tag == BATCH:
            number, name, calls = rest[:3]
            for args in calls:
                answer(duplex, ITEMS, number, call(methods, name, args))
        elif tag == NOTICE:
            name, args, *slots = rest[:3]
            release(duplex, *slots)
            call(methods, name, args, *slots)
        elif tag not in (PULL, CANCEL, RECALL, RELEASE):
            raise ValueError(f"Cannot answer a message with an unknown tag: {tag!r}")


def release(duplex: Any, slots: Any = ()) -> None:
    """Releases the functions, objects and streams among arguments: none is used."""
    released = [[number, 1] for _, kind, number in slots if kind in RELEASED_KINDS]
    if released:
        duplex.send([RELEASE, released])


def answer(duplex: Any, tag: int, number: int, outcome: Outcome) -> None:
    """Sends the result of a call or its failure, which may be that of sending."""
    failed, value = outcome
    if failed:
        duplex.send([ERROR, number, value])
        return
    try:
        duplex.send([tag, number, [value] if tag == ITEMS else value])
    except ValueError as error:
        duplex.send([ERROR, number, failure(error)])


def call(
    methods: Methods, name: Any, args: list[Any], slots: Any = ()
) -> Outcome:
    """Calls a method; returns whether it failed, and its result or failure."""
    try:
        if slots:
            raise TypeError("Cannot call a method with functions, signals or streams here")
        if not isinstance(name, str) or name not in methods:
            raise TypeError(
                f"Cannot call {name!r}: the methods are {list(methods)}")
        result = methods[name](*args)
        return False, list(result) if inspect.isgenerator(result) else result
    except Exception as error:
        return True, failure(error)


def failure(error: Exception) -> list[Any]:
    """Returns the failure that is sent for an error."""
    name = type(error).__name__
    stack = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    parts = {"class": name, "name": name, "message": str(error), "stack": stack}
    return [True, parts]
