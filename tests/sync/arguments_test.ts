// Copyright 2026 the Duplex authors. MIT license.

/**
 * Every argument of every constructor and method of the locks, with every kind
 * of invalid value: the call fails with an error that names the argument and
 * the value, and the lock is unchanged.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertStrictEquals,
} from "@std/assert";
import {
  AtomicCounter,
  Barrier,
  Condition,
  Mutex,
  type MutexGuard,
  ResetEvent,
  Semaphore,
} from "../../sync.ts";
import { waiting } from "../workers/_sync_acts.ts";

/** Values of all types, and their text in an error. */
const VALUES: Record<string, [value: unknown, text: string]> = {
  null: [null, "null"],
  true: [true, "true"],
  text: ["1", '"1"'],
  symbol: [Symbol("s"), "Symbol(s)"],
  bigint: [1n, "1n"],
  NaN: [NaN, "NaN"],
  negative: [-1, "-1"],
  fraction: [1.5, "1.5"],
  infinity: [Infinity, "Infinity"],
  huge: [2 ** 60, "1152921504606847000"],
  zero: [0, "0"],
  one: [1, "1"],
  function: [() => true, "a function"],
  object: [{}, "an object"],
  bare: [Object.create(null), "an object"],
  array: [[], "an array"],
  date: [new Date(0), "an instance of Date"],
  signal: [new AbortController().signal, "an instance of AbortSignal"],
  controller: [new AbortController(), "an instance of AbortController"],
  bytes: [new ArrayBuffer(8192), "an instance of ArrayBuffer"],
  view: [new Int32Array(2048), "an instance of Int32Array"],
  revoked: [revoked(), "an object"],
};

function revoked(): object {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  return proxy;
}

/** The names of the values that each kind of argument accepts. */
const ACCEPTS = {
  timeout: ["zero", "one", "fraction", "infinity", "huge"],
  signal: ["signal"],
  flag: ["true"],
  threads: ["one"],
  permits: ["zero", "one"],
  parties: ["one"],
  count: ["one", "huge"],
  safe: ["zero", "one", "negative"],
  function: ["function"],
  /** Any object is accepted as options. */
  options: [
    "object",
    "bare",
    "date",
    "controller",
    "bytes",
    "view",
  ],
  nothing: [] as string[],
};

/** Invalid values of these types throw a `TypeError`, others a `RangeError`. */
const NUMBERS = [
  "NaN",
  "negative",
  "fraction",
  "infinity",
  "huge",
  "zero",
  "one",
];

interface Case {
  /** The call, as named in the test. */
  readonly call: string;
  /** The name of the argument in the error. */
  readonly name: string;
  readonly accepts: keyof typeof ACCEPTS;
  /** Whether a number of the wrong size is a `RangeError`. */
  readonly isNumber: boolean;
  run(value: unknown): unknown;
  /** Values that this call interprets differently. */
  readonly except?: string[];
}

/**
 * A lock, its calls with one argument each, and a check that it is unchanged.
 */
interface Subject {
  readonly cases: Case[];
  check(): void;
}

/** Cases for the options of a call. */
function options(
  call: string,
  run: (options: never) => unknown,
  names: Record<string, "timeout" | "signal" | "flag">,
): Case[] {
  const cases: Case[] = [{
    call,
    name: "options",
    accepts: "options",
    isNumber: false,
    run: run as (value: unknown) => unknown,
    // The error of a revoked proxy is thrown as it is.
    except: ["revoked"],
  }];
  for (const [name, accepts] of Object.entries(names)) {
    cases.push({
      call,
      name,
      accepts,
      isNumber: accepts === "timeout",
      run: (value) => run({ [name]: value } as never),
    });
  }
  return cases;
}

function number(
  call: string,
  name: string,
  accepts: "threads" | "permits" | "parties" | "count" | "safe",
  run: (value: never) => unknown,
): Case {
  return {
    call,
    name,
    accepts,
    isNumber: true,
    run: run as (value: unknown) => unknown,
  };
}

/** The only argument of a constructor: options or a buffer. */
function from(
  kind: string,
  run: (value: never) => unknown,
): Case {
  return {
    call: `new ${kind}`,
    name: "buffer",
    accepts: "nothing",
    isNumber: false,
    run: run as (value: unknown) => unknown,
    // An object without any option: all options are omitted.
    except: ["object", "bare"],
  };
}

const LIMITS = { timeout: "timeout", signal: "signal" } as const;
const SYNC = { timeout: "timeout" } as const;

function mutexSubject(): Subject {
  const mutex = new Mutex();
  const guard = mutex.lockSync();
  return {
    cases: [
      from("Mutex", (value) => new Mutex(value)),
      number(
        "new Mutex",
        "threads",
        "threads",
        (threads) => new Mutex({ threads }),
      ),
      ...options("mutex.lock", (o) => mutex.lock(o), {
        ...LIMITS,
        recover: "flag",
        queue: "flag",
      }),
      ...options("mutex.lockSync", (o) => mutex.lockSync(o), {
        ...SYNC,
        recover: "flag",
      }),
      ...options("mutex.tryLock", (o) => mutex.tryLock(o), { recover: "flag" }),
    ],
    check() {
      assertEquals(waiting(mutex.buffer), 0);
      guard.unlock();
      mutex.lockSync().unlock();
    },
  };
}

function conditionSubject(): Subject {
  const mutex = new Mutex();
  const condition = new Condition();
  const guard = mutex.lockSync();
  const guardCase = (call: string, run: (guard: MutexGuard) => unknown) => ({
    call,
    name: "guard",
    accepts: "nothing" as const,
    isNumber: false,
    run: run as (value: unknown) => unknown,
  });
  return {
    cases: [
      from("Condition", (value) => new Condition(value)),
      number(
        "new Condition",
        "threads",
        "threads",
        (threads) => new Condition({ threads }),
      ),
      guardCase("condition.wait", (guard) => condition.wait(guard)),
      guardCase("condition.waitSync", (guard) => condition.waitSync(guard)),
      ...options("condition.wait", (o) => condition.wait(guard, o), {
        ...LIMITS,
        recover: "flag",
      }),
      ...options("condition.waitSync", (o) => condition.waitSync(guard, o), {
        ...SYNC,
        recover: "flag",
      }),
      number(
        "condition.notify",
        "count",
        "count",
        (count) => condition.notify(count),
      ),
    ],
    check() {
      assertEquals([waiting(condition.buffer), waiting(mutex.buffer)], [0, 0]);
      // The guard still holds the mutex.
      guard.unlock();
    },
  };
}

function semaphoreSubject(): Subject {
  const semaphore = new Semaphore({ permits: 1 });
  const make = (options: object) => new Semaphore(options as never);
  return {
    cases: [
      from("Semaphore", (value) => new Semaphore(value)),
      number(
        "new Semaphore",
        "permits",
        "permits",
        (permits) => new Semaphore({ permits }),
      ),
      number(
        "new Semaphore",
        "threads",
        "threads",
        (threads) => make({ permits: 1, threads }),
      ),
      ...options("semaphore.acquire", (o) => semaphore.acquire(o), LIMITS),
      ...options(
        "semaphore.acquireSync",
        (o) => semaphore.acquireSync(o),
        SYNC,
      ),
      {
        ...number(
          "semaphore.release",
          "count",
          "count",
          (count) => semaphore.release(count),
        ),
        // More permits than may be free.
        except: ["huge"],
      },
    ],
    check() {
      assertEquals([semaphore.available, waiting(semaphore.buffer)], [1, 0]);
    },
  };
}

function barrierSubject(): Subject {
  const barrier = new Barrier({ parties: 2 });
  return {
    cases: [
      from("Barrier", (value) => new Barrier(value)),
      number(
        "new Barrier",
        "parties",
        "parties",
        (parties) => new Barrier({ parties }),
      ),
      number(
        "new Barrier",
        "threads",
        "threads",
        (threads) => new Barrier({ parties: 1, threads }),
      ),
      ...options("barrier.wait", (o) => barrier.wait(o), LIMITS),
      ...options("barrier.waitSync", (o) => barrier.waitSync(o), SYNC),
    ],
    check() {
      assertEquals([barrier.broken, waiting(barrier.buffer)], [false, 0]);
    },
  };
}

function eventSubject(): Subject {
  const event = new ResetEvent();
  const flag = (name: "automatic" | "set"): Case => ({
    call: "new ResetEvent",
    name,
    accepts: "flag",
    isNumber: false,
    run: (value) => new ResetEvent({ [name]: value as boolean }),
  });
  return {
    cases: [
      from("ResetEvent", (value) => new ResetEvent(value)),
      flag("automatic"),
      flag("set"),
      number(
        "new ResetEvent",
        "threads",
        "threads",
        (threads) => new ResetEvent({ threads }),
      ),
      ...options("event.wait", (o) => event.wait(o), LIMITS),
      ...options("event.waitSync", (o) => event.waitSync(o), SYNC),
    ],
    check() {
      assertEquals([event.isSet, waiting(event.buffer)], [false, 0]);
    },
  };
}

function counterSubject(): Subject {
  const counter = new AtomicCounter({ value: 5 });
  const never = () => false;
  const functionCase = (call: string, run: (value: never) => unknown) => ({
    call,
    name: "isWanted",
    accepts: "function" as const,
    isNumber: false,
    run: run as (value: unknown) => unknown,
  });
  return {
    cases: [
      from("AtomicCounter", (value) => new AtomicCounter(value)),
      number(
        "new AtomicCounter",
        "value",
        "safe",
        (value) => new AtomicCounter({ value }),
      ),
      number("counter.add", "amount", "safe", (amount) => counter.add(amount)),
      number("counter.set", "value", "safe", (value) => counter.set(value)),
      number(
        "counter.compareExchange",
        "expected",
        "safe",
        (value) => counter.compareExchange(value, 1),
      ),
      number(
        "counter.compareExchange",
        "value",
        "safe",
        (value) => counter.compareExchange(5, value),
      ),
      functionCase("counter.until", (value) => counter.until(value)),
      functionCase("counter.untilSync", (value) => counter.untilSync(value)),
      ...options("counter.until", (o) => counter.until(never, o), LIMITS),
      ...options("counter.untilSync", (o) => counter.untilSync(never, o), SYNC),
    ],
    check() {
      assertEquals(counter.value, 5);
    },
  };
}

const SUBJECTS: [string, () => Subject][] = [
  ["Mutex", mutexSubject],
  ["Condition", conditionSubject],
  ["Semaphore", semaphoreSubject],
  ["Barrier", barrierSubject],
  ["ResetEvent", eventSubject],
  ["AtomicCounter", counterSubject],
];

/** The error that a call throws or rejects with. */
async function errorOf(run: () => unknown): Promise<unknown> {
  try {
    await run();
  } catch (error) {
    return error;
  }
  return undefined;
}

Deno.test({
  name: "A lock throws for every invalid argument and is unchanged",
  permissions: "none",
  async fn(t) {
    for (const [kind, make] of SUBJECTS) {
      await t.step(kind, async () => {
        const { cases, check } = make();
        for (const { call, name, accepts, isNumber, run, except } of cases) {
          for (const [label, [value, text]] of Object.entries(VALUES)) {
            const isRight = ACCEPTS[accepts].includes(label) ||
              except?.includes(label);
            if (isRight) continue;
            const where = `${call} with "${name}" ${label}`;
            const error = await errorOf(() => run(value));
            assert(error instanceof Error, `${where} threw ${typeof error}`);
            const Kind = isNumber && NUMBERS.includes(label)
              ? RangeError
              : TypeError;
            assertInstanceOf(error, Kind, `${where}: ${error}`);
            assert(error.message.startsWith("Cannot "), error.message);
            assert(error.message.includes(`"${name}"`), error.message);
            assert(error.message.endsWith(`value is ${text}`), error.message);
          }
        }
        check();
      });
    }
  },
});

Deno.test({
  name: "A lock throws if a required argument is missing",
  permissions: "none",
  async fn() {
    const unsafe = (make: () => unknown, name: string) =>
      errorOf(make).then((error) => {
        assertInstanceOf(error, TypeError);
        assert(error.message.includes(`"${name}"`), error.message);
        assert(error.message.endsWith("value is undefined"), error.message);
      });
    await unsafe(() => new Semaphore({} as never), "permits");
    await unsafe(() => new Semaphore(undefined as never), "buffer");
    await unsafe(() => new Barrier({} as never), "parties");
    await unsafe(() => new Barrier(undefined as never), "buffer");
    await unsafe(
      () => new AtomicCounter().until(undefined as never),
      "isWanted",
    );
    const counter = new AtomicCounter();
    await unsafe(() => counter.set(undefined as never), "value");
    await unsafe(() => counter.compareExchange(0, undefined as never), "value");
    await unsafe(() => new Condition().wait(undefined as never), "guard");
  },
});

Deno.test({
  name: "A lock is unchanged if reading an option throws",
  permissions: "none",
  async fn() {
    const mutex = new Mutex();
    const guard = mutex.lockSync();
    const reason = new Error("The getter's own");
    const hostile = {
      get timeout(): number {
        throw reason;
      },
    };
    const condition = new Condition();
    const semaphore = new Semaphore({ permits: 1 });
    const runs = [
      () => mutex.lock(hostile),
      () => condition.wait(guard, hostile),
      () => condition.waitSync(guard, hostile),
      () => semaphore.acquire(hostile),
      () => semaphore.acquireSync(hostile),
      () => new Barrier({ parties: 2 }).wait(hostile),
      () => new ResetEvent().wait(hostile),
      () => new AtomicCounter().until(() => true, hostile),
    ];
    for (const run of runs) assertStrictEquals(await errorOf(run), reason);
    guard.unlock();
    assertEquals(semaphore.available, 1);
    assertEquals(waiting(condition.buffer), 0);
  },
});
