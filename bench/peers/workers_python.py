# Copyright 2026 the Duplex authors. MIT license.

"""Python's multiprocessing.Queue, for bench/workers.ts:
workers_python.py SCENARIO COUNT WARM prints a JSON array.
"""

import json
import multiprocessing
import sys
import time

from _messages import messages_of, rate_of, weigh, weigh_all

# The limits with which a queue was fastest, of 16 to 16384 small messages and 2 to
# 64 of a MiB.
BOUND = 4096
BYTES_BOUND = 16


def echo(inbox, outbox, _):
    for message in iter(inbox.get, None):
        outbox.put(message)


def take(inbox, outbox, _):
    for count in iter(inbox.get, None):
        total = 0
        for _ in range(count):
            total += weigh(inbox.get())
        outbox.put(total)


def give(inbox, outbox, what):
    messages = messages_of(what)
    for count in iter(inbox.get, None):
        send(outbox, messages, count)


def send(queue, messages, count):
    length = len(messages)
    for index in range(count):
        queue.put(messages[index % length])


class Child:
    """A child process, the queue to it and the queue from it."""

    def __init__(self, role, what=""):
        context = multiprocessing.get_context("spawn")
        bound = BYTES_BOUND if what == "bytes" else BOUND
        self.outbox = context.Queue(bound)
        self.inbox = context.Queue(bound)
        args = (self.outbox, self.inbox, what)
        self.process = context.Process(target=role, args=args)
        self.process.start()

    def __enter__(self):
        return self.outbox.put, self.inbox.get

    def __exit__(self, *_):
        self.outbox.put(None)
        self.process.join()


def trips(put, get, lines, count):
    """Seconds for all messages there and back, one at a time."""
    start = time.perf_counter()
    total = 0
    for trip in range(count):
        put(lines[trip % 1000])
        total += weigh(get())
    seconds = time.perf_counter() - start
    assert total == weigh_all(lines, count)
    return seconds


def round_trip(count, warm):
    lines = messages_of("lines")
    with Child(echo) as (put, get):
        trips(put, get, lines, warm)
        return [trips(put, get, lines, count) * 1e6 / count]


def one_way_out(what, count, warm):
    messages = messages_of(what)
    child = Child(take, what)
    with child as (put, get):
        for times in (warm, count):
            start = time.perf_counter()
            put(times)
            send(child.outbox, messages, times)
            total = get()
            seconds = time.perf_counter() - start
            assert total == weigh_all(messages, times)
        return [rate_of(what, count, seconds)]


def one_way_in(what, count, warm):
    messages = messages_of(what)
    with Child(give, what) as (put, get):
        for times in (warm, count):
            start = time.perf_counter()
            put(times)
            total = 0
            for _ in range(times):
                total += weigh(get())
            seconds = time.perf_counter() - start
            assert total == weigh_all(messages, times)
        return [rate_of(what, count, seconds)]


def opening(count, warm):
    samples = []
    for index in range(count + warm):
        start = time.perf_counter()
        with Child(echo) as (put, get):
            put("hello")
            answer = get()
            if index >= warm:
                samples.append((time.perf_counter() - start) * 1e3)
            assert answer == "hello"
    return samples


def measure(scenario, count, warm):
    if scenario == "round-trip":
        return round_trip(count, warm)
    if scenario == "open":
        return opening(count, warm)
    what, way = scenario.split("-")
    one_way = one_way_out if way == "out" else one_way_in
    return one_way(what, count, warm)


if __name__ == "__main__":
    scenario, count, warm = sys.argv[1:4]
    print(json.dumps(measure(scenario, int(count), int(warm))))
