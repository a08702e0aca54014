# Copyright 2026 the Duplex authors. MIT license.

"""The messages of the measurements: ../_messages.mjs for Python."""

MIB = 2**20


def log_lines(count):
    """Lines that differ in their text, as those of a log do."""
    return [
        {
            "time": "2026-11-23T06:59:25.123Z",
            "level": "info",
            "message": f"GET /page-{index}.html 200",
            "host": "web-1",
            "pid": 4242 + index,
            "ms": 12.5,
            "bytes": 5120,
            "ok": True,
        }
        for index in range(count)
    ]


def messages_of(what):
    """The messages, which are sent in turn."""
    if what == "bytes":
        return [bytes([7]) * MIB]
    if what == "bytes128":
        return [bytes([7]) * 128]
    if what == "text128":
        return [("GET /index.html 200 " * 7)[:128]]
    return log_lines(1000)


def weigh(message):
    """What a received message adds to the check sum."""
    if isinstance(message, bytes):
        return len(message) + message[-1]
    if isinstance(message, str):
        return len(message) + ord(message[-1])
    return message["pid"]


def weigh_all(messages, count):
    """The check sum of `count` messages."""
    rounds, rest = divmod(count, len(messages))
    weights = [weigh(message) for message in messages]
    return rounds * sum(weights) + sum(weights[:rest])


def rate_of(what, count, seconds):
    """Megabytes per second for messages of a MiB, or messages."""
    return (count * MIB / 1e6 if what == "bytes" else count) / seconds
