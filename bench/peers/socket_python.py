# Copyright 2026 the Duplex authors. MIT license.

"""Python's multiprocessing.connection, for bench/socket.ts:
socket_python.py SCENARIO COUNT WARM tcp|unix prints a JSON array. What is sent
waits in the buffers of the operating system, so no side fills the memory of the other.
"""

import json
import multiprocessing
import sys
import time
from multiprocessing.connection import Client, Listener

from _messages import messages_of, rate_of, weigh, weigh_all


def echo(address):
    with Client(address) as end:
        try:
            while True:
                end.send(end.recv())
        except EOFError:
            return


def take(address, receive):
    with Client(address) as end:
        next_message = getattr(end, receive)
        try:
            while True:
                count = end.recv()
                total = 0
                for _ in range(count):
                    total += weigh(next_message())
                end.send(total)
        except EOFError:
            return


class Far:
    """A peer process, and its connection to this one."""

    def __init__(self, form, role, *args):
        listener = (
            Listener(family="AF_UNIX")
            if form == "unix"
            else Listener(("127.0.0.1", 0), family="AF_INET")
        )
        context = multiprocessing.get_context("spawn")
        with listener:
            self.process = context.Process(
                target=role, args=(listener.address, *args)
            )
            self.process.start()
            self.end = listener.accept()

    def __enter__(self):
        return self.end

    def __exit__(self, *_):
        self.end.close()
        self.process.join()


def trips(end, lines, count):
    """Seconds for all messages there and back, one at a time."""
    start = time.perf_counter()
    total = 0
    for trip in range(count):
        end.send(lines[trip % 1000])
        total += weigh(end.recv())
    seconds = time.perf_counter() - start
    assert total == weigh_all(lines, count)
    return seconds


def round_trip(form, count, warm):
    lines = messages_of("lines")
    with Far(form, echo) as end:
        trips(end, lines, warm)
        return [trips(end, lines, count) * 1e6 / count]


def one_way(form, what, count, warm):
    messages = messages_of(what)
    length = len(messages)
    receive = "recv_bytes" if what == "bytes" else "recv"
    with Far(form, take, receive) as end:
        send = end.send_bytes if what == "bytes" else end.send
        for times in (warm, count):
            start = time.perf_counter()
            end.send(times)
            for index in range(times):
                send(messages[index % length])
            total = end.recv()
            seconds = time.perf_counter() - start
            assert total == weigh_all(messages, times)
        return [rate_of(what, count, seconds)]


def measure(scenario, count, warm, form):
    if scenario == "round-trip":
        return round_trip(form, count, warm)
    return one_way(form, scenario, count, warm)


if __name__ == "__main__":
    scenario, count, warm, form = sys.argv[1:5]
    print(json.dumps(measure(scenario, int(count), int(warm), form)))
