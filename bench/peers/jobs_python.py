# Copyright 2026 the Duplex authors. MIT license.

"""Python's pools, for bench/jobs.ts: jobs_python.py SCENARIO COUNT WARM CHUNK POOL
prints a JSON array. POOL is "multiprocessing" for multiprocessing.Pool, or the name
of an executor of concurrent.futures. The jobs, and how they are timed, are those of
../_jobs.mjs.
"""

import concurrent.futures
import json
import multiprocessing
import sys
import time
from collections import deque

from _messages import messages_of, weigh, weigh_all

WORKERS = 2
IN_FLIGHT = 64
TASKS = 10_000
NUMBER = 12


def echo(line):
    return line


def fib(number):
    return number if number < 2 else fib(number - 1) + fib(number - 2)


def call(pool, chunk, lines, count):
    """The answers of calls one at a time; chunks make no difference."""
    return (pool.apply(echo, (lines[index % 1000],)) for index in range(count))


def calls64(pool, chunk, lines, count):
    """The answers of calls with a number of them in flight."""
    if chunk > 1:
        # The number of lines that may be in flight, repeatedly. Feeding them to
        # imap_unordered() as answers arrive is a quarter slower.
        for start in range(0, count, IN_FLIGHT):
            end = min(start + IN_FLIGHT, count)
            some = [lines[index % 1000] for index in range(start, end)]
            yield from pool.map(echo, some, chunk)
        return
    # A callback for each is slower, and imap_unordered() as fast.
    waiting = deque()
    for index in range(count):
        if len(waiting) == IN_FLIGHT:
            yield waiting.popleft().get()
        waiting.append(pool.apply_async(echo, (lines[index % 1000],)))
    for answer in waiting:
        yield answer.get()


class Executor:
    """An executor of concurrent.futures, with the methods of a Pool used here."""

    def __init__(self, name, workers):
        kind = getattr(concurrent.futures, name)
        # As for a Pool.
        more = ({"mp_context": multiprocessing.get_context("fork")}
                if name == "ProcessPoolExecutor" else {})
        self.executor = kind(workers, **more)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.executor.shutdown()

    def apply(self, run, args):
        return self.executor.submit(run, *args).result()

    def apply_async(self, run, args):
        future = self.executor.submit(run, *args)
        future.get = future.result
        return future

    def map(self, run, items, chunk):
        return list(self.executor.map(run, items, chunksize=chunk))


def pool_of(name, workers):
    if name == "multiprocessing":
        # Calls are as fast or a little faster than with "spawn" and "forkserver".
        return multiprocessing.get_context("fork").Pool(workers)
    return Executor(name, workers)


def timed(run, pool, chunk, lines, count):
    """Seconds for a number of calls with a line."""
    start = time.perf_counter()
    total = sum(map(weigh, run(pool, chunk, lines, count)))
    seconds = time.perf_counter() - start
    assert total == weigh_all(lines, count)
    return seconds


def mapping(pool, chunk):
    """Seconds for a map. The lazy imap_unordered() is a little slower."""
    numbers = [NUMBER] * TASKS
    start = time.perf_counter()
    results = pool.map(fib, numbers, chunk)
    seconds = time.perf_counter() - start
    assert sum(results) == TASKS * fib(NUMBER)
    return seconds


def measure(scenario, count, warm, chunk, name):
    with pool_of(name, WORKERS if scenario == "map" else 1) as pool:
        if scenario == "map":
            samples = [mapping(pool, chunk) for _ in range(warm + count)]
            return [seconds * 1e3 for seconds in samples[warm:]]
        lines = messages_of("lines")
        run = call if scenario == "call" else calls64
        timed(run, pool, chunk, lines, warm)
        seconds = timed(run, pool, chunk, lines, count)
        return [seconds * 1e6 / count if run is call else count / seconds]


if __name__ == "__main__":
    scenario, count, warm, chunk, name = sys.argv[1:6]
    print(json.dumps(measure(scenario, int(count), int(warm), int(chunk), name)))
