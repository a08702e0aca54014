// Copyright 2026 the Duplex authors. MIT license.

/**
 * Calls, and what goes with them: values, functions, signals, notifications, in
 * both directions; a few of them over every transport.
 *
 * @module
 */

import {
  assertEquals,
  assertInstanceOf,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { ClosedError, type Duplex } from "@duplex/ipc/duplex";
import { duplexPair } from "@duplex/ipc/pair";
import { openPipe } from "@duplex/ipc/pipe";
import { openQueue } from "@duplex/ipc/queue";
import {
  expose,
  type ExposeOptions,
  notifier,
  remote,
  RemoteError,
  withSignal,
} from "@duplex/ipc/rpc";
import { openShm } from "@duplex/ipc/shm";
import { aborted, connect, test, withAbort } from "./_ends.ts";
import { ACTS, type Acts } from "../workers/_rpc_acts.ts";
import { RUN, workerUrl } from "../workers/_processes.ts";

/** What the documentation says that Web Workers require, and no more. */
const READ = { read: [new URL("../..", import.meta.url)] };

const OPENERS: [string, Deno.PermissionOptions, () => Promise<Duplex>][] = [
  ["duplexPair()", "none", () => {
    const [main, worker] = duplexPair();
    expose(ACTS, worker);
    return Promise.resolve(main);
  }],
  ["openPipe()", RUN, () => openPipe(workerUrl("rpc_acts"))],
  ["openQueue()", READ, () => openQueue(workerUrl("rpc_acts"))],
  ["openShm()", READ, () => openShm(workerUrl("rpc_acts"))],
];

for (const [name, permissions, open] of OPENERS) {
  test(`remote() calls a worker over ${name}`, async (t) => {
    const main = await open();
    const api = remote<Acts>(main);
    await t.step("values", async () => {
      const value = { a: [1, "two", new Map([[3, new Date(4)]])], b: 5n };
      assertEquals(await api.echo(value), value);
      assertEquals(await api.echo(undefined), undefined);
    });
    await t.step("errors", async () => {
      const error = await assertRejects(() => api.find(), RemoteError, "apple");
      assertEquals(error.name, "MissingError");
      assertEquals({ ...error } as object, { key: "apple" });
      assertInstanceOf(error.cause, RangeError);
    });
    await t.step("streams that are stopped", async () => {
      const seen = [];
      for await (const n of api.count(1e9)) if (seen.push(n) === 40) break;
      assertEquals(seen, Array.from({ length: 40 }, (_, index) => index + 1));
      assertEquals(await api.stopped(), "stopped before 1000000000");
    });
    await t.step("callbacks", async () => {
      const answer = await api.ask((name) => name.toUpperCase());
      assertEquals(answer, "ONE, TWO");
    });
    await t.step("signals and notifications", async () => {
      const { signal, abort } = withAbort();
      const waiting = remote<Acts>(main, { signal }).wait();
      await notifier<Acts>(main).note("noted");
      assertEquals(await api.heard(), ["noted"]);
      abort();
      await assertRejects(() => waiting, RangeError, "Enough");
      assertEquals(await api.heard(), ["noted", "RangeError: Enough"]);
    });
    await t.step("calls under way at the goodbye", async () => {
      const begun = Promise.withResolvers<void>();
      const late = api.late(() => begun.resolve());
      await begun.promise;
      await main.close();
      assertEquals(await late, "late");
    });
  }, permissions);
}

test("remote() has the types of the methods", async () => {
  const { api, main } = connect({
    add: (a: number, b: number) => a + b,
    later: (text: string) => Promise.resolve(text),
    async *many(to: number) {
      yield to;
      return "end";
    },
    *some() {
      yield true;
    },
    json: (text: string) => Promise.resolve(JSON.parse(text)),
    fail: () => Promise.reject(new RangeError("no")),
    throw(): never {
      throw new RangeError("no");
    },
    values: () => [1].values(),
    lines: () => new ReadableStream<string>({ start: (out) => out.close() }),
    visit: (_onItem: (item: Date) => unknown, _o?: { signal: AbortSignal }) =>
      true,
    none() {},
    counter: 3,
  });
  const sum: number = await api.add(1, 2);
  const text: string = await api.later("x");
  // @ts-expect-error the result is a number
  const wrong: string = await api.add(1, 2);
  const items: number[] = await Array.fromAsync(api.many(1));
  const last: IteratorResult<number, string> = await api.many(1).next();
  for await (const item of api.some()) item satisfies boolean;
  const lines: string[] = await Array.fromAsync(api.lines());
  const seen: boolean = await api.visit((item) => item.getTime());
  const nothing: void = await api.none();
  const json: { a: number } = await api.json('{"a":1}');
  await assertRejects((): Promise<never> => api.fail(), RangeError);
  await assertRejects((): Promise<never> => api.throw(), RangeError);
  assertEquals([sum, text, wrong as unknown, items], [3, "x", 3, [1]]);
  assertEquals([last.value, lines, seen, nothing], [1, [], true, undefined]);
  assertEquals(json.a, 1);
  // Not run: these are what the compiler refuses.
  const refused = () => [
    // @ts-expect-error an argument is of the wrong type
    api.add(1, "2"),
    // @ts-expect-error an argument is missing
    api.add(1),
    // @ts-expect-error there is no such method
    api.subtract(1, 2),
    // @ts-expect-error this is no method
    api.counter(),
    // @ts-expect-error a promise is not walked through
    Array.fromAsync(api.add(1, 2)),
    // @ts-expect-error a notification has no value
    notifier<Acts>(main).pid() satisfies Promise<number>,
  ];
  assertEquals(refused.length, 0);
  await main.close();
});

test("remote() gives what methods give", async () => {
  const { api, main } = connect({
    echo: (value: unknown) => value,
    later: async (value: unknown) => (await Promise.resolve(), value),
    count: (...args: unknown[]) => args.length,
  });
  const values = [
    ...[undefined, null, 0, -0, "", false, NaN, 2n ** 80n, [], {}],
    [1, [undefined]],
    new Map([["a", new Set([1])]]),
    new Uint8Array([1, 2]),
    new TypeError("sent, not thrown"),
    { then: 1, __proto__: null },
  ];
  for (const value of values) {
    assertEquals(await api.echo(value), value);
    assertEquals(await api.later(value), value);
  }
  assertEquals(await api.count(), 0);
  assertEquals(await api.count(undefined, undefined), 2);
  await main.close();
});

test("remote() gives values as calls end", async () => {
  const gates = [0, 1, 2].map(() => Promise.withResolvers<number>());
  const { api, main } = connect({
    wait: (n: number) => gates[n]!.promise,
    open: (n: number) => gates[n]!.resolve(n),
  });
  const order: number[] = [];
  const calls = [0, 1, 2].map((n) => api.wait(n).then((n) => order.push(n)));
  for (const n of [2, 0, 1]) await api.open(n);
  await Promise.all(calls);
  assertEquals(order, [2, 0, 1]);
  await main.close();
});

test("expose() calls methods on their object", async () => {
  const methods = {
    total: 1,
    add(n: number) {
      return this.total += n;
    },
    addLater: withSignal(function (this: { total: number }, _, n: number) {
      return this.total += n;
    }),
  };
  const { api, main } = connect(methods);
  assertEquals(await api.add(2), 3);
  assertEquals(await api.addLater(4), 7);
  assertEquals(methods.addLater(1), 8);
  await main.close();
});

test("expose() lets both ends call inside calls", async () => {
  const [left, right] = duplexPair();
  const down = (end: Duplex) => ({
    async down(n: number): Promise<string> {
      return n === 0 ? "" : `${n}${await remote<Down>(end).down(n - 1)}`;
    },
  });
  type Down = { down(n: number): Promise<string> };
  expose(down(left), left);
  expose(down(right), right);
  const both = [remote<Down>(left).down(9), remote<Down>(right).down(8)];
  assertEquals(await Promise.all(both), ["987654321", "87654321"]);
  await Promise.all([left.close(), right.close()]);
});

class Poisoned {
  inherited() {}
  get evil(): never {
    throw new Error("A getter of the prototype was read");
  }
}

const HIDDEN = [
  ...["__proto__", "constructor", "toString", "hasOwnProperty", "valueOf"],
  ...["inherited", "evil", "getter", "data", "nested", "nested.method", ""],
  ...["own ", "OWN", "call", "apply", "__defineGetter__", "0", "then"],
];

test("expose() lets only own methods be called", async () => {
  const reached: string[] = [];
  const methods = Object.assign(
    Object.create(
      new Proxy(new Poisoned(), {
        get(_, name): never {
          throw new Error(`The prototype was asked for ${String(name)}`);
        },
      }),
    ) as Poisoned,
    {
      own: () => "own",
      data: { call: () => reached.push("data") },
      nested: { method: () => reached.push("nested") },
    },
  );
  Object.defineProperty(methods, "getter", {
    enumerable: true,
    get: () => () => reached.push("getter"),
  });
  const { api, main } = connect(methods);
  const names = api as unknown as Record<string, () => Promise<unknown>>;
  assertEquals(await api.own(), "own");
  for (const name of HIDDEN) {
    if (name === "then") continue;
    const error = await assertRejects(() => names[name]!(), TypeError);
    assertStringIncludes(
      error.message,
      `Cannot call ${
        JSON.stringify(name)
      }: the peer exposes no such method, only "own"`,
    );
  }
  assertEquals(names.then, undefined);
  assertEquals(reached, []);
  await main.close();
});

test("expose() bears a poisoned Object.prototype", async () => {
  const poison = Object.prototype as unknown as Record<string, unknown>;
  const reached: string[] = [];
  poison.value = poison.evil = () => reached.push("evil");
  try {
    const { api, main } = connect({
      own: () => 1,
      get getter() {
        return () => reached.push("getter");
      },
    });
    const names = api as unknown as Record<string, () => Promise<unknown>>;
    assertEquals(await api.own(), 1);
    for (const name of ["evil", "value", "getter"]) {
      await assertRejects(() => names[name]!(), TypeError, "no such method");
    }
    await main.close();
  } finally {
    delete poison.value;
    delete poison.evil;
  }
  assertEquals(reached, []);
});

test("expose() refuses what it cannot expose", async () => {
  const [main, worker] = duplexPair();
  const refused: [unknown, ExposeOptions, string][] = [
    [null, {}, '"methods" must be an object with functions: current value is'],
    [{}, {}, "has no own methods"],
    [new Poisoned(), {}, "those of a class are inherited"],
    [{ then: () => {} }, {}, 'one is named "then"'],
    [{ a: () => {} }, { maxCalls: 0 }, '"maxCalls"'],
    [{ a: () => {} }, { onError: 1 as never }, '"onError" must be a function'],
  ];
  for (const [methods, options, text] of refused) {
    assertThrows(() => expose(methods as object, worker, options), Error, text);
  }
  assertThrows(
    () => expose({ a: () => 1 }, {} as never),
    TypeError,
    'Cannot expose methods as "duplex" must be a Duplex',
  );
  expose({ a: () => 1 }, worker);
  assertThrows(() => expose({ b: () => 2 }, worker), TypeError, "already");
  const later = expose({ b: () => 2 }, Promise.resolve(worker));
  await assertRejects(() => later, TypeError, "already");
  for (const options of [{ timeout: 0 }, { readAhead: 65_537 }]) {
    assertThrows(() => remote(main, options), RangeError);
  }
  assertThrows(() => remote(main, { signal: {} as never }), TypeError);
  await main.close();
});

test("expose() refuses more calls than maxCalls", async () => {
  const gate = Promise.withResolvers<void>();
  const { api, main } = connect({ wait: () => gate.promise }, {
    maxCalls: 2,
  });
  const calls = [api.wait(), api.wait()];
  await assertRejects(() => api.wait(), RangeError, "2 calls are running");
  gate.resolve();
  await Promise.all(calls);
  await api.wait();
  await main.close();
});

test("notifier() calls without an answer", async () => {
  const reported: [string, string][] = [];
  const onError = (error: unknown, method: string) =>
    void reported.push([method, String(error)]);
  const seen: unknown[] = [];
  const { api, main } = connect({
    log: (...args: unknown[]) => seen.push(args),
    fail: () => Promise.reject(new RangeError("no")),
    async *count() {
      yield await Promise.resolve(1);
    },
    flush: () => {},
  }, { onError });
  const tell = notifier<typeof api & { absent(): void }>(main);
  await tell.log(1, { two: 2 });
  await tell.log();
  await tell.fail();
  await tell.count();
  await (tell as unknown as { absent(): Promise<void> }).absent();
  await api.flush();
  assertEquals(seen, [[1, { two: 2 }], []]);
  assertEquals(reported.map(([method]) => method).sort(), [
    "absent",
    "count",
    "fail",
  ]);
  const texts = reported.map(([, text]) => text).sort().join();
  assertStringIncludes(texts, "RangeError: no");
  assertStringIncludes(texts, 'Cannot notify "count": its result is a stream');
  assertStringIncludes(texts, 'Cannot call "absent"');
  const error = await assertRejects(() => tell.log(1, Symbol("x")), TypeError);
  assertEquals(
    error.message,
    'Cannot notify "log": the value at "$[1]" is a symbol, which cannot be sent',
  );
  await main.close();
});

test("notifier() aborts when the caller is gone", async () => {
  const over = Promise.withResolvers<unknown>();
  const { main, api } = connect({
    watch: withSignal(async (signal) => over.resolve(await aborted(signal))),
    ping: () => {},
  });
  await notifier<typeof api>(main).watch();
  await api.ping();
  main.abort(new RangeError("Gone"));
  assertInstanceOf(await over.promise, RangeError);
});

test("expose() finishes calls after a goodbye", async () => {
  const gate = Promise.withResolvers<string>();
  const { api, main, served } = connect({ wait: () => gate.promise });
  const call = api.wait();
  const closing = main.close();
  gate.resolve("done");
  assertEquals(await call, "done");
  await closing;
  await served;
  await assertRejects(() => api.wait(), ClosedError, 'the call of "wait"');
});

test("remote() throws unless it is given a duplex", async () => {
  const wrong: [unknown, string][] = [
    [undefined, "current value is undefined"],
    [5, "current value is 5"],
  ];
  for (const [value, text] of wrong) {
    assertThrows(() => remote(value as Duplex), TypeError, text);
    assertThrows(() => notifier(value as Duplex), TypeError, text);
  }
  const methods = { add: (a: number, b: number) => a + b };
  await assertRejects(
    () => expose(methods, Promise.resolve(5 as unknown as Duplex)),
    TypeError,
    "current value is 5",
  );
});
