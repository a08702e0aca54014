# Copyright 2026 the Duplex authors. MIT license.

"""Python's multiprocessing.Pipe, for bench/pipe.ts:
pipe_python.py SCENARIO COUNT WARM prints a JSON array.
"""

import json
import multiprocessing
import sys
import time

from _messages import MIB, log_lines


def echo(end):
    while True:
        try:
            message = end.recv()
        except EOFError:
            return
        end.send(message)


def take_lines(end):
    while True:
        try:
            count = end.recv()
        except EOFError:
            return
        total = 0
        for _ in range(count):
            total += end.recv()["level"] == "info"
        end.send(total)


def take_bytes(end):
    while True:
        try:
            count = end.recv()
        except EOFError:
            return
        total = 0
        for _ in range(count):
            total += len(end.recv_bytes())
        end.send(total)


def give_lines(end):
    lines = log_lines(1000)
    while True:
        try:
            count = end.recv()
        except EOFError:
            return
        for index in range(count):
            end.send(lines[index % 1000])


def give_bytes(end):
    data = bytes([7]) * MIB
    while True:
        try:
            count = end.recv()
        except EOFError:
            return
        for _ in range(count):
            end.send_bytes(data)


class Child:
    """A child process and the end of the pipe to it."""

    def __init__(self, role):
        context = multiprocessing.get_context("spawn")
        self.end, far = context.Pipe()
        self.process = context.Process(target=role, args=(far,))
        self.process.start()
        far.close()

    def __enter__(self):
        return self.end

    def __exit__(self, *_):
        self.end.close()
        self.process.join()


def round_trip(count, warm):
    lines = log_lines(1000)
    with Child(echo) as end:
        for trip in range(-warm, count):
            if trip == 0:
                start = time.perf_counter()
            end.send(lines[trip % 1000])
            end.recv()
        return [(time.perf_counter() - start) * 1e6 / count]


def lines_out(count, warm):
    lines = log_lines(1000)
    with Child(take_lines) as end:
        for times in (warm, count):
            start = time.perf_counter()
            end.send(times)
            for index in range(times):
                end.send(lines[index % 1000])
            assert end.recv() == times
        return [count / (time.perf_counter() - start)]


def lines_in(count, warm):
    with Child(give_lines) as end:
        for times in (warm, count):
            start = time.perf_counter()
            end.send(times)
            for _ in range(times):
                end.recv()
        return [count / (time.perf_counter() - start)]


def bytes_out(count, warm):
    data = bytes([7]) * MIB
    with Child(take_bytes) as end:
        for times in (warm, count):
            start = time.perf_counter()
            end.send(times)
            for _ in range(times):
                end.send_bytes(data)
            assert end.recv() == times * MIB
        return [count * MIB / 1e6 / (time.perf_counter() - start)]


def bytes_in(count, warm):
    with Child(give_bytes) as end:
        for times in (warm, count):
            start = time.perf_counter()
            end.send(times)
            for _ in range(times):
                end.recv_bytes()
        return [count * MIB / 1e6 / (time.perf_counter() - start)]


def opening(count, warm):
    samples = []
    for index in range(count + warm):
        start = time.perf_counter()
        with Child(echo) as end:
            end.send("hello")
            end.recv()
            if index >= warm:
                samples.append((time.perf_counter() - start) * 1e3)
    return samples


SCENARIOS = {
    "round-trip": round_trip,
    "lines-out": lines_out,
    "lines-in": lines_in,
    "bytes-out": bytes_out,
    "bytes-in": bytes_in,
    "open": opening,
}

if __name__ == "__main__":
    scenario, count, warm = sys.argv[1:4]
    print(json.dumps(SCENARIOS[scenario](int(count), int(warm))))
