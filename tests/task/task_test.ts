// Copyright 2026 the Duplex authors. MIT license.

/**
 * The contract of `task`: which functions can run in a worker, their
 * permissions, and their results.
 *
 * @module
 */

import {
  assertEquals,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { ClosedError, PeerExitError } from "@duplex/ipc/duplex";
import { task, type WorkerTaskOptions } from "@duplex/ipc/task";
import { test as anyTest } from "../workers/_processes.ts";

const ROOT = new URL("../..", import.meta.url);

/** A test with the permissions to read the worker's files. */
function test(
  name: string,
  fn: (t: Deno.TestContext) => Promise<void>,
): void {
  anyTest(name, fn, { read: [ROOT] });
}

/** Not visible in a worker. */
const around = 7;

test("task() runs a function in a separate thread", async () => {
  await using where = task((key: string) => {
    const isThread = "DedicatedWorkerGlobalScope" in globalThis;
    const before = (globalThis as Record<string, unknown>)[key];
    (globalThis as Record<string, unknown>)[key] = true;
    return [isThread, before];
  }, { workers: 1 });
  const key = "taskWasHere";
  assertEquals(await where(key), [true, undefined]);
  assertEquals(await where(key), [true, true]);
  assertEquals(key in globalThis, false);
});

test("task() accepts functions in every notation", async (t) => {
  const named = {
    double(n: number) {
      return 2 * n;
    },
    async later(n: number) {
      await undefined;
      return 2 * n;
    },
    classify(n: number) {
      return 2 * n;
    },
    "two words"(n: number) {
      return 2 * n;
    },
    [`comp${"uted"}`]: (n: number) => 2 * n,
    renamed(n: number) {
      return 2 * n;
    },
    nameless(n: number) {
      return 2 * n;
    },
    get(n: number) {
      return 2 * n;
    },
    async(n: number) {
      return 2 * n;
    },
    escaped(n: number) {
      return 2 * n;
    },
    1000(n: number) {
      return 2 * n;
    },
    commented /* super ( [ */(n: number) {
      return "super".length * 0 + 2 * n;
    },
    __proto__(n: number) {
      return 2 * n;
    },
  };
  function declared(n: number) {
    return 2 * n;
  }
  const functions: Record<string, (n: number) => unknown> = {
    arrow: (n) => 2 * n,
    block: (n) => {
      return 2 * n;
    },
    async: async (n) => await 2 * n,
    declared,
    expression: function (n) {
      return 2 * n;
    },
    recursive: function double(n): number {
      return n === 0 ? 0 : 2 + double(n - 1);
    },
    rest: (...[n]) => 2 * n!,
    method: named.double,
    asyncMethod: named.later,
    classLike: named.classify,
    quoted: named["two words"],
    computed: named.computed!,
    renamed: Object.defineProperty(named.renamed, "name", { value: "other" }),
    nameless: Object.defineProperty(named.nameless, "name", {
      value: Symbol("s"),
    }),
    get: named.get,
    asyncName: named.async,
    escaped: named.escaped,
    number: named[1e3]!,
    commented: named.commented,
    proto: Object.getOwnPropertyDescriptor(named, "__proto__")!.value,
    sloppy: new Function("n", "return n + n") as (n: number) => number,
    separators: new Function(
      "n",
      "return '\u2028\u2029'.length * n //# sourceMappingURL=no.js.map\n",
    ) as (n: number) => number,
    comments: (n) => /* } */ 2 * n, // )
    text: (n) => `${"`)}\n"}`.length * 0 + 2 * n,
  };
  await Promise.all(
    Object.entries(functions).map(async ([name, fn]) => {
      await using double = task(fn, { workers: 1 });
      assertEquals([name, await double(21)], [name, 42]);
    }),
  );
  await t.step("and their arguments", async () => {
    await using sum = task(
      (
        { a, b = 10 }: { a: number; b?: number },
        [c]: number[] = [100],
        ...rest: number[]
      ) => a + b + c! + rest.length,
      { workers: 1 },
    );
    assertEquals(await sum({ a: 1 }), 111);
    assertEquals(await sum({ a: 1, b: 2 }, [3], 0, 0), 8);
    await using call = task(async (onStep: (n: number) => number) => {
      return await onStep(20) + 1;
    }, { workers: 1 });
    assertEquals(await call((n) => 2 * n), 41);
  });
});

test("task() rejects functions without source text that a worker can run", async () => {
  class Doubler {
    double(n: number) {
      return 2 * n;
    }
    #secret(n: number) {
      return 2 * n;
    }
    get secret() {
      return this.#secret;
    }
    hidden() {
      return this.#secret(1);
    }
  }
  const outer = {
    direct() {
      return super.toString();
    },
    async /* and ( */ spread // [
    (..._: number[]) {
      return await super.toString();
    },
    within() {
      return () => super.toString();
    },
  };
  const [word, other] = ["two words", "later"] as const;
  const named = {
    [word](n: number) {
      return 2 * n;
    },
    async [other](n: number) {
      return await 2 * n;
    },
    get size() {
      return 1;
    },
  };
  const getter = Object.getOwnPropertyDescriptor(named, "size")!.get;
  const wrong: [unknown, string][] = [
    [undefined, "must be a function: current value is undefined"],
    ["n => n", 'must be a function: current value is "n => n"'],
    [Symbol("s"), "must be a function: current value is Symbol(s)"],
    [{ toString: 1 }, "must be a function: current value is an object"],
    [Doubler, 'Cannot make a task of "Doubler"'],
    [class {}, "Cannot make a task of a function: its source cannot be sent"],
    [Math.max, 'Cannot make a task of "max"'],
    [((n: number) => n).bind(null), "it is a bound or a built-in function"],
    [new Proxy((n: number) => n, {}), "it is a bound or a built-in function"],
    [() => import.meta.url, 'it uses "import.meta"'],
    [outer.direct, 'Cannot make a task of "direct": it uses "super"'],
    [outer.spread, 'Cannot make a task of "spread": it uses "super"'],
    [outer.within(), 'it uses "super"'],
    [new Doubler().hidden, "it uses a private name"],
    [new Function("return 010"), "Octal literals are not allowed"],
    [
      (0, eval)("(function await(n) { return n })"),
      'cannot have the name "await"',
    ],
    [
      (0, eval)("(function /* */ * await() {})"),
      'cannot have the name "await"',
    ],
    [new Function("return '\ud83d'"), "half of a surrogate pair"],
    [new Doubler().secret, 'Cannot make a task of "#secret"'],
    [named["two words"], 'Cannot make a task of "two words"'],
    [named.later, 'Cannot make a task of "later"'],
    [getter, 'Cannot make a task of "get size"'],
  ];
  for (const [fn, text] of wrong) {
    assertThrows(() => task(fn as () => void), TypeError, text);
  }
  const text = 'Cannot make a task as "workers" must be';
  assertThrows(() => task(() => 1, { workers: 0 }), RangeError, text);
  const long = new Function(`return "${"x".repeat(2 ** 20)}"`);
  assertThrows(() => task(long as () => void), RangeError, "at most 1048576");
  await using double = task(Doubler.prototype.double, { workers: 1 });
  assertEquals(await double(21), 42);
});

test("task() explains an error caused by a variable outside the function", async () => {
  const hint = "the function of a task can only use its arguments and globals";
  await using sees = task((n: number) => around + n, { workers: 1 });
  const error = await assertRejects(
    () => sees(1),
    ReferenceError,
    "around is not defined",
  );
  assertStringIncludes(error.message, hint);
  await using later = task(async (n: number) => {
    await undefined;
    return around + n;
  }, { workers: 1 });
  await assertRejects(() => later(1), ReferenceError, hint);
});

test("task() rejects with a frozen error unchanged", async () => {
  await using fails = task((isFrozen: boolean) => {
    const error = new ReferenceError("x is not defined");
    throw isFrozen ? Object.freeze(error) : error;
  }, { workers: 1 });
  const error = await assertRejects(() => fails(true), ReferenceError);
  assertEquals(error.message, "x is not defined");
});

test("task() rejects arguments that cannot be sent", async () => {
  await using echo = task((value: unknown) => value, { workers: 1 });
  await assertRejects(
    () => echo(Symbol("s")),
    TypeError,
    'Cannot call "run": the value at "$[0]" is a symbol',
  );
  await assertRejects(
    () => echo.run(null as never),
    TypeError,
    "its arguments must be an array: current value is null",
  );
});

test("task() rejects with the error that the function throws", async () => {
  await using fails = task((what: string) => {
    if (what === "error") throw new RangeError("Too far");
    throw what === "undefined" ? undefined : 0;
  }, { workers: 1 });
  await assertRejects(() => fails("error"), RangeError, "Too far");
  const thrown: unknown[] = [];
  await fails("undefined").catch((error) => thrown.push(error));
  await fails("zero").catch((error) => thrown.push(error));
  assertEquals(thrown, [undefined, 0]);
  await using many = task(function* (n: number) {
    yield n;
  }, { workers: 1 });
  await assertRejects(() => many(1), TypeError, "its result is a stream");
});

test("task() grants no permission by default", async () => {
  const path = new URL("deno.json", ROOT);
  const read = async (path: string) => {
    const text = await Deno.readTextFile(new URL(path));
    return JSON.parse(text).name as string;
  };
  await using none = task(read, { workers: 1 });
  const error = await assertRejects(() => none(path.href));
  assertStringIncludes(`${error}`, "Requires read access");
  await using some = task(read, { workers: 1, permissions: { read: [path] } });
  assertEquals(await some(path.href), "@duplex/ipc");
  const other = new URL("LICENSE", ROOT);
  await assertRejects(() => some(other.href), Error, "Requires read access");
});

test("task() accepts the options of a pool", async () => {
  await using never = task((_n: number) => new Promise<never>(() => {}), {
    workers: 1,
    timeout: 20,
    isolate: "thread",
  });
  await assertRejects(() => never(1), DOMException, "longer than 20 ms");
  const { signal } = new AbortController();
  await assertRejects(
    () => never.run([1], { signal, timeout: 10 }),
    DOMException,
    "longer than 10 ms",
  );
  const reason = new Error("No need");
  const aborted = AbortSignal.abort(reason);
  const error = await assertRejects(() => never.run([1], { signal: aborted }));
  assertStrictEquals(error, reason);
  await using exits = task((_n: number) => Deno.exit(3), {
    workers: 1,
    retry: 0,
  });
  await assertRejects(
    () => exits(1),
    PeerExitError,
    "was begun and its worker ended",
  );
});

test("task() maps a list", async () => {
  await using root = task((n: number) => {
    if (n < 0) throw new RangeError(`No root of ${n}`);
    return Math.sqrt(n);
  }, { workers: 2 });
  assertEquals(await Array.fromAsync(root.map([1, 4, 9])), [1, 2, 3]);
  await assertRejects(
    () => Array.fromAsync(root.map([1, -1], { ordered: false })),
    RangeError,
    "No root of -1",
  );
  const outcomes = await Array.fromAsync(root.mapSettled([4, -4]));
  assertEquals(
    outcomes.map(({ status, item, attempts: runs }) => [status, item, runs]),
    [["fulfilled", 4, 1], ["rejected", -4, 1]],
  );
  const { done, failed } = root.stats;
  assertEquals([done >= 4, failed], [true, 2]);
});

test('task().close() rejects tasks that wait, if `waiting` is "reject"', async () => {
  const callBack = task(
    async (step: () => Promise<number>) => await step(),
    { workers: 1 },
  );
  const begun = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<number>();
  const first = callBack(() => {
    begun.resolve();
    return gate.promise;
  });
  const second = callBack(() => Promise.resolve(2));
  await begun.promise;
  const closing = callBack.close({ waiting: "reject" });
  gate.resolve(1);
  await assertRejects(() => second, ClosedError, "before the task was begun");
  assertEquals(await first, 1);
  await closing;
});

test("task() starts no thread until it is called, and ends all threads", async () => {
  const unused = task((n: number) => n);
  assertEquals([unused.stats.workers, unused.stats.starting], [0, 0]);
  await unused.close();
  await assertRejects(() => unused(1), ClosedError, "the pool is closed");
  const closed = task((n: number) => n, { workers: 2 });
  const echo = closed(1);
  await closed.close();
  assertEquals(await echo, 1);
  assertEquals(closed.stats.workers, 0);
  const aborted = task((_n: number) => new Promise<never>(() => {}), {
    workers: 1,
  });
  const reason = new Error("Enough");
  const never = assertRejects(() => aborted(1), Error, "Enough");
  await aborted.abort(reason);
  await never;
  assertStrictEquals(await assertRejects(() => aborted(1)), reason);
});

Deno.test({
  name: "task() names a file that it may not read",
  permissions: "none",
  fn() {
    assertThrows(
      () => task((n: number) => n),
      Deno.errors.NotCapable,
      "run it again with --allow-read=",
    );
  },
});

test("task() rejects permissions that it cannot grant before it starts", () => {
  const fn = (n: number) => n;
  assertThrows(() => task(fn, { memory: 0 }), RangeError, '"memory"');
  assertThrows(
    () => task(fn, { permissions: { net: true } }),
    Deno.errors.NotCapable,
    "--allow-net",
  );
  assertThrows(() => task(fn, { permissions: 7 as never }), TypeError);
  return Promise.resolve();
});

/** A test whose tasks may run in processes. */
function processTest(name: string, fn: () => Promise<void>): void {
  anyTest(name, fn, { read: [ROOT], run: true });
}

processTest("task() runs in processes if there is a timeout", async () => {
  const isThread = () => "WorkerGlobalScope" in globalThis;
  const cases: [options: WorkerTaskOptions, expected: boolean][] = [
    [{}, true],
    [{ timeout: Infinity }, true],
    [{ timeout: 60_000 }, false],
    [{ timeout: 60_000, isolate: "thread" }, true],
    [{ isolate: "process" }, false],
  ];
  for (const [options, expected] of cases) {
    await using run = task(isThread, { workers: 1, ...options });
    assertEquals(await run(), expected);
  }
});

processTest(
  "task() ends a function that never returns, and its program ends",
  async () => {
    const { code, stdout } = await new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "--allow-run",
        new URL("tests/workers/task_loops.ts", ROOT).href,
      ],
      stdin: "null",
      stderr: "null",
    }).output();
    const text = new TextDecoder().decode(stdout);
    assertEquals([code, text], [0, "TimeoutError\nthe end\n"]);
  },
);

processTest(
  "task() outlives a process that fills its heap in one step",
  async () => {
    await using fill = task((size: number) => {
      const kept: number[][] = [];
      while (size > 0) kept.push(new Array(100_000).fill(size));
      return kept.length;
    }, { workers: 1, retry: 0, isolate: "process", memory: 64 * 2 ** 20 });
    await assertRejects(() => fill(1), PeerExitError);
    assertEquals(await fill(0), 0);
  },
);

test("task() says what a process needs", async () => {
  const noop = () => {};
  const error = assertThrows(
    () => task(noop, { timeout: 500 }),
    Deno.errors.NotCapable,
    "Cannot make a task in a process, as this program may not run Deno; run it again with --allow-run=",
  );
  assertStringIncludes(error.message, 'or set isolate: "thread"');
  assertThrows(
    () => task(noop, { isolate: "fiber" as "thread" }),
    TypeError,
    'as "isolate" must be "thread" or "process": current value is "fiber"',
  );
  const source = `return "${"x".repeat(150_000)}"`;
  assertThrows(
    () => task(new Function(source) as () => string, { isolate: "process" }),
    RangeError,
    'can be sent to a process; set isolate: "thread"',
  );
  await using run = task(new Function(source) as () => string, { workers: 1 });
  assertEquals((await run()).length, 150_000);
});
