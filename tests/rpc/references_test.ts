// Copyright 2026 the Duplex authors. MIT license.

/**
 * Functions that are sent in arguments and results: where they may be, how long
 * they live, and how many there may be.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertRejects,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import { json, msgpack } from "@duplex/ipc/codec";
import { ClosedError } from "@duplex/ipc/duplex";
import { duplexPair } from "@duplex/ipc/pair";
import { Pool } from "@duplex/ipc/pool";
import {
  callStats,
  expose,
  notifier,
  reference,
  remote,
  type RemoteReference,
  withSignal,
} from "@duplex/ipc/rpc";
import { openShm } from "@duplex/ipc/shm";
import { TAG } from "../../_rpc/messages.ts";
import { connect, test, withAbort } from "./_ends.ts";
import type { Acts } from "../workers/_rpc_acts.ts";
import { RUN, workerUrl } from "../workers/_processes.ts";

type Fn = (...args: unknown[]) => Promise<unknown>;

/** Waits until released functions were reported to the peer. */
async function settled(api: { ping(): unknown }): Promise<void> {
  await api.ping();
  await api.ping();
}

test("remote() finds functions anywhere in arguments and results", async () => {
  for (const codec of [msgpack, json]) {
    const [main, worker] = duplexPair({ codec });
    expose({
      echo: (value: unknown) => value,
      async apply(value: unknown) {
        const calls: unknown[] = [];
        const visit = async (value: unknown): Promise<void> => {
          if (typeof value === "function") calls.push(await value());
          if (typeof value !== "object" || value === null) return;
          const parts = value instanceof Map || value instanceof Set
            ? value.values()
            : Object.values(value);
          for (const part of parts) await visit(part);
        };
        await visit(value);
        return calls;
      },
      make: () => ({ list: [{ f: () => "deep" }], g: () => "shallow" }),
    }, worker);
    const api = remote<Record<string, (value?: unknown) => Promise<unknown>>>(
      main,
    );
    const shared = { f: () => "shared" };
    const values = [
      [[[() => "array"]]],
      { a: { b: { c: () => "property" } } },
      { a: [shared, { again: shared }] },
      ["x", { ["__proto__"]: [() => "own"] }],
    ];
    const results = [
      ["array"],
      ["property"],
      ["shared", "shared"],
      ["own"],
    ];
    for (const [index, value] of values.entries()) {
      assertEquals(await api.apply!(value), results[index]);
    }
    const made = await api.make!() as { list: { f: Fn }[]; g: Fn };
    assertEquals(await made.list[0]!.f(), "deep");
    assertEquals(await made.g(), "shallow");
    if (codec === msgpack) {
      const collections = [
        new Map<unknown, unknown>([[1, [() => "map"]], ["x", () => "text"]]),
        new Set([() => "first", [() => "second"], 3, () => "third"]),
      ];
      assertEquals(await api.apply!(collections), [
        ...["map", "text", "first", "second", "third"],
      ]);
      const cycle: unknown[] = [() => "cycle"];
      cycle.push({ cycle });
      const back = await api.echo!([cycle]) as [[unknown, { cycle: unknown }]];
      assertStrictEquals(back[0][1].cycle, back[0]);
      assertStrictEquals(back[0][0], cycle[0]);
    }
    await main.close();
  }
});

test("remote() keeps what is beside a function deep in a value", async () => {
  const { api, main } = connect({ echo: (value: unknown) => value });
  const sparse = Object.assign([1, , [() => 1], , 5], { field: new Date(7) });
  const value = { sparse, bytes: new Uint8Array([1, 2]), at: undefined };
  const echoed = await api.echo(value) as typeof value;
  assertEquals(echoed, value);
  assert(!(1 in echoed.sparse));
  assertStrictEquals(
    (echoed.sparse[2] as unknown[])[0],
    (sparse[2] as unknown[])[0],
  );
  await main.close();
});

test("remote() cancels a call by a signal deep in its arguments", async () => {
  const begun = Promise.withResolvers<AbortSignal>();
  let calls = 0;
  const { api, main } = connect({
    async wait({ a: [{ signal }] }: { a: [{ signal: AbortSignal }] }) {
      calls++;
      begun.resolve(signal);
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
    },
  });
  const { signal, abort } = withAbort();
  const call = api.wait({ a: [{ signal }] });
  assertInstanceOf(await begun.promise, AbortSignal);
  abort();
  const error = await assertRejects(() => call, RangeError, "Enough");
  assertStrictEquals(error, signal.reason);
  await assertRejects(() => api.wait({ a: [{ signal }] }), RangeError);
  assertEquals(calls, 1);
  await main.close();
});

test("remote() keeps the identity of functions", async () => {
  const own = () => "own";
  const kept: unknown[] = [];
  const { api, main, worker } = connect({
    keep: (f: unknown) => kept.push(f),
    give: (index: number) => kept[index],
    own: () => own,
    isOwn: (f: unknown) => f === own,
    ping() {},
  });
  const sent = () => "sent";
  await api.keep(sent);
  await api.keep({ sent });
  await api.keep([[sent]]);
  assertStrictEquals((kept[1] as { sent: unknown }).sent, kept[0]);
  assertStrictEquals((kept[2] as unknown[][])[0]![0], kept[0]);
  assertStrictEquals(await api.give(0), sent);
  assertEquals(await api.give(1), { sent });
  const received = await api.own() as unknown as Fn;
  assertStrictEquals(await api.own(), received);
  assertEquals(await api.isOwn(received), true);
  assertEquals(await received(), "own");
  assertEquals(callStats(main), { running: 0, sent: 1, held: 1 });
  assertEquals(callStats(worker), { running: 0, sent: 1, held: 1 });
  await main.close();
});

test("[Symbol.dispose]() releases a function at both ends", async () => {
  const errors: [string, string][] = [];
  let kept: (Fn & Disposable) | undefined;
  const { api, main, worker } = connect({
    keep: (f: unknown) => void (kept = f as Fn & Disposable),
    drop: () => kept![Symbol.dispose](),
    ping() {},
  }, { onError: (error, name) => errors.push([`${error}`, name]) });
  const sent = () => "sent";
  await api.keep(sent);
  await api.keep(sent);
  assertEquals(callStats(main).sent, 1);
  await api.drop();
  await api.drop();
  await settled(api);
  assertEquals(callStats(main).sent, 0);
  assertEquals(callStats(worker).held, 0);
  await assertRejects(kept!, ClosedError, "was released");
  assertEquals(errors, [
    [`ClosedError: Cannot call back: the function was released`, "a callback"],
  ]);
  // It is another function for the peer when it is sent again.
  const before = kept;
  await api.keep(sent);
  assert(kept !== before);
  assertEquals(await kept!(), "sent");
  await main.close();
  await assertRejects(kept!, ClosedError);
  assertEquals(errors.length, 2);
});

test("[Symbol.dispose]() releases a function that a call still uses", async () => {
  const [main, worker] = duplexPair({ windowMessages: 1 });
  expose({
    make: () => () => "made",
    isFunction: (f: unknown) => typeof f === "function",
    ping() {},
  }, worker);
  const api = remote<Record<string, Fn>>(main);
  const made = await api.make!() as unknown as Fn & Disposable;
  // They wait for room, and the release is sent behind them.
  const pings = [1, 2, 3].map(() => api.ping!());
  const called = made();
  const isFunction = api.isFunction!(made);
  made[Symbol.dispose]();
  await Promise.all(pings);
  assertEquals([await called, await isFunction], ["made", true]);
  await settled({ ping: () => api.ping!() });
  assertEquals(callStats(worker).sent, 0);
  await main.close();
});

test("a release that crosses a new sending does not release it", async () => {
  const [near, raw] = duplexPair();
  const kept = () => "kept";
  expose({ kept: () => kept, ping() {} }, near);
  await raw.send([TAG.call, 1, "kept", []]);
  assertEquals(await raw.receive(), [TAG.value, 1, null, [[[], 1, 1]]]);
  await raw.send([TAG.call, 2, "kept", []]);
  await raw.send([TAG.release, [[1, 1]]]);
  await raw.send([TAG.call, 3, 1, []]);
  assertEquals(await raw.receive(), [TAG.value, 2, null, [[[], 1, 1]]]);
  assertEquals(await raw.receive(), [TAG.value, 3, "kept"]);
  await raw.send([TAG.release, [[1, 1]]]);
  await raw.send([TAG.call, 4, "kept", []]);
  assertEquals(await raw.receive(), [TAG.value, 4, null, [[[], 1, 2]]]);
  await raw.close();
});

test("a release is handled behind the calls that are held", async () => {
  const [raw, near] = duplexPair({ windowMessages: 4 });
  const made = () => "made";
  expose({
    make: () => made,
    isMade: (f: unknown) => f === made,
    ping: () => 1,
  }, near);
  // From now on it reads while it holds calls.
  const asked = remote<{ ask(): number }>(near).ask();
  assertEquals(await raw.receive(), [TAG.call, 1, "ask", []]);
  await raw.send([TAG.call, 1, "make", []]);
  assertEquals(await raw.receive(), [TAG.value, 1, null, [[[], 1, 1]]]);
  const pings = 40;
  for (let id = 2; id < 2 + pings; id++) {
    await raw.send([TAG.call, id, "ping", []]);
  }
  await raw.send([TAG.call, 50, 1, []]);
  await raw.send([TAG.call, 51, "isMade", [null], [[[0], 6, 1]]]);
  await raw.send([TAG.release, [[1, 1]]]);
  await raw.send([TAG.call, 52, 1, []]);
  await raw.send([TAG.value, 1, 7]);
  // It has read everything.
  assertEquals(await asked, 7);
  for (let id = 2; id < 2 + pings; id++) {
    assertEquals(await raw.receive(), [TAG.value, id, 1]);
  }
  assertEquals(await raw.receive(), [TAG.value, 50, "made"]);
  assertEquals(await raw.receive(), [TAG.value, 51, true]);
  const [tag, id] = await raw.receive() as number[];
  assertEquals([tag, id], [TAG.error, 52]);
  assertEquals(callStats(near).sent, 0);
  await Promise.all([near.close(), raw.close()]);
});

test("expose() releases the functions of calls that it does not run", async () => {
  const { api, main, worker } = connect({ ping() {}, wait: () => wait });
  const wait = new Promise(() => {});
  const other = api as unknown as Record<string, Fn>;
  await assertRejects(() => other.absent!(() => 1), TypeError, "absent");
  await notifier<Record<string, Fn>>(main).absent!(() => 1);
  const { signal, abort } = withAbort();
  const cancelled = remote<Record<string, Fn>>(main, { signal }).wait!();
  abort();
  await assertRejects(() => cancelled);
  // Never sent.
  await assertRejects(() => other.ping!(() => 1, [Symbol("x")]), TypeError);
  await settled(api);
  assertEquals(callStats(main).sent, 0);
  assertEquals(callStats(worker).held, 0);
  await main.close();
});

test("remote() releases the functions of answers that are late", async () => {
  const gate = Promise.withResolvers<void>();
  const { main, worker } = connect({
    async make() {
      await gate.promise;
      return { f: () => 1 };
    },
    ping() {},
  });
  const { signal, abort } = withAbort();
  const api = remote<{ make(): unknown; ping(): void }>(main);
  const call = remote<{ make(): unknown }>(main, { signal }).make();
  await api.ping();
  gate.resolve();
  abort();
  await assertRejects(async () => await call);
  await settled(api);
  assertEquals(callStats(worker).sent, 0);
  assertEquals(callStats(main).held, 0);
  await main.close();
});

test("notifier() sends functions", async () => {
  const kept: Fn[] = [];
  const { api, main } = connect({
    keep: (f: Fn, { deep: [{ g }] }: { deep: [{ g: Fn }] }) =>
      void kept.push(f, g),
    ping() {},
  });
  const tell = notifier<Record<string, Fn>>(main);
  await tell.keep!(() => "f", { deep: [{ g: () => "g" }] });
  await api.ping();
  assertEquals([await kept[0]!(), await kept[1]!()], ["f", "g"]);
  await assertRejects(
    () => tell.keep!(new AbortController().signal) as Promise<unknown>,
    TypeError,
    "an AbortSignal",
  );
  await main.close();
});

test("expose() refuses more functions than maxReferences", async () => {
  const kept: (Fn & Disposable)[] = [];
  const [main, worker] = duplexPair();
  expose(
    {
      keep: (...fs: unknown[]) => kept.push(...fs as typeof kept),
      make: () => () => 1,
      list: () => [() => 1, () => 2],
      drop: () => kept.splice(0).forEach((f) => f[Symbol.dispose]()),
      ping() {},
    },
    worker,
    { maxReferences: 3 },
  );
  const api = remote<Record<string, Fn>>(main);
  await api.keep!(() => 1, () => 2);
  const two = () => api.keep!(() => 3, () => 4);
  await assertRejects(two, RangeError, '"maxReferences"');
  assertEquals(callStats(worker).held, 2);
  await api.drop!();
  await two();
  assertEquals(callStats(worker).held, 2);
  // What the peer makes this end keep is limited as well.
  await api.make!();
  const [, second] = await api.list!() as (Fn & Disposable)[];
  await assertRejects(() => api.make!(), RangeError, '"maxReferences"');
  assertEquals(callStats(worker).sent, 3);
  second![Symbol.dispose]();
  await settled({ ping: () => api.ping!() });
  await api.make!();
  await main.close();
});

test("remote() refuses more functions than maxReferences", async () => {
  const { api, main, worker } = connect({
    make: () => () => 1,
    keep(..._fs: Fn[]) {},
    async *stream() {
      for (;;) yield () => 1;
    },
    ping() {},
  }, { maxReferences: 2 });
  const made = [await api.make(), await api.make()];
  await assertRejects(async () => await api.make(), RangeError, "Cannot");
  const stream = api.stream();
  await assertRejects(() => stream.next(), RangeError, '"stream"');
  await settled(api);
  // The stream of the peer has ended.
  assertEquals(callStats(worker), { running: 0, sent: 2, held: 0 });
  assertEquals(callStats(main).held, made.length);
  await Promise.all([api.keep(async () => {}), api.keep(async () => {})]);
  const keep = () => api.keep(async () => {});
  await assertRejects(keep, RangeError, 'Cannot call "keep": the peer uses 2');
  await main.close();
});

test("reference() calls the methods of an object", async () => {
  const counter = {
    count: 0,
    add(n: number) {
      return this.count += n;
    },
    async *upTo(n: number) {
      while (this.count < n) yield this.count++;
    },
    stop: withSignal(async (signal) => {
      stopping.resolve();
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
      stopped.resolve();
    }),
    get hidden() {
      return () => "hidden";
    },
  };
  Object.setPrototypeOf(counter, { inherited: () => "inherited" });
  const stopping = Promise.withResolvers<void>();
  const stopped = Promise.withResolvers<void>();
  const { api, main, worker } = connect({
    open: () => reference(counter),
    list: () => [{ deep: reference(counter) }],
    isCounter: (value: unknown) => value === counter,
    ping() {},
  });
  {
    using remoteCounter = await api.open();
    assertEquals(await remoteCounter.add(2), 2);
    assertEquals(await Array.fromAsync(remoteCounter.upTo(4)), [2, 3]);
    assertStrictEquals(await api.open(), remoteCounter);
    const [{ deep }] = await api.list() as unknown as [
      { deep: RemoteReference<typeof counter> },
    ];
    assertStrictEquals(deep, remoteCounter);
    assertEquals(await api.isCounter(remoteCounter), true);
    assertEquals(callStats(worker).sent, 1);
    const others = remoteCounter as unknown as Record<string, Fn>;
    for (const name of ["hidden", "inherited", "count", "toString"]) {
      await assertRejects(() => others[name]!(), TypeError, `"${name}"`);
    }
    assertEquals(others.then, undefined);
    const { signal, abort } = withAbort();
    const stop = remoteCounter.stop();
    await stopping.promise;
    main.abort(new RangeError("Enough"));
    await assertRejects(() => stop, RangeError, "Enough");
    await stopped.promise;
    abort();
    assert(signal.aborted);
    await assertRejects(() => remoteCounter.add(1), RangeError, "Enough");
  }
  assertEquals(callStats(main).held, 0);
});

test("reference() goes with the arguments of a call", async () => {
  interface Observer {
    next(n: number): Promise<void>;
    done(): Promise<string>;
  }
  const errors: unknown[] = [];
  let kept: RemoteReference<Observer> | undefined;
  const { api, main } = connect({
    async observe({ observer }: { observer: RemoteReference<Observer> }) {
      using used = observer;
      for (const n of [1, 2]) await used.next(n);
      return await used.done();
    },
    keep(observer: RemoteReference<Observer>) {
      kept = observer;
    },
    ping() {},
  }, { onError: (...args) => errors.push(args[1]) });
  const seen: number[] = [];
  const observer = {
    async next(n: number) {
      await Promise.resolve();
      seen.push(n);
    },
    done: () => Promise.resolve("done"),
  };
  const result = await api.observe({ observer: reference(observer) });
  assertEquals([result, seen], ["done", [1, 2]]);
  await settled(api);
  assertEquals(callStats(main).sent, 0);
  await api.keep(reference(observer));
  // A method keeps its object.
  const { next } = kept!;
  await next(3);
  kept![Symbol.dispose]();
  // The promise is not awaited: its rejection is reported, and not unhandled.
  next(4);
  await settled(api);
  assertEquals<unknown>([seen, errors], [[1, 2, 3], ["next"]]);
  await main.close();
});

test("reference() passes an object on to another peer", async () => {
  const first = connect({
    open: () => reference({ text: () => "first", f: () => () => "inner" }),
    ping() {},
  });
  const second = connect({
    use: async (value: RemoteReference<{ text(): string; f(): Fn }>, g: Fn) => [
      await value.text(),
      await (await value.f())(),
      await g(),
    ],
    ping() {},
  });
  const opened = await first.api.open();
  const f = await opened.f();
  assertEquals(
    await second.api.use(opened as never, f as never),
    ["first", "inner", "inner"],
  );
  assertEquals(callStats(second.main).sent, 3);
  await second.main.close();
  await first.main.close();
});

test("remote() can be sent to another peer", async () => {
  const sums = { add: (a: number, b: number) => a + b };
  const [near, far] = duplexPair();
  expose(sums, far);
  for (const codec of [msgpack, json]) {
    const [main, worker] = duplexPair({ codec });
    const other = {
      sum: (api: typeof sums, a: number, b: number) => api.add(a, b),
    };
    expose<object>(other, worker);
    const api = remote<typeof sums>(near);
    const caller = remote<{ sum(api: unknown, ...n: number[]): number }>(main);
    assertEquals(await caller.sum(api, 1, 2), 3);
    await main.close();
  }
  const [plain] = duplexPair();
  await assertRejects(
    () => plain.send({ api: remote<typeof sums>(near) }),
    TypeError,
    "$.api",
  );
  plain.abort("done");
  await near.close();
});

test("remote() has no method that JSON.stringify() would call", async () => {
  const [near, far] = duplexPair();
  expose({ add: (a: number) => a }, far);
  assertEquals(JSON.stringify({ api: remote(near) }), '{"api":{}}');
  await near.close();
});

test("reference() refuses what has no methods", () => {
  for (const value of [null, 5, {}, new Map(), () => 1]) {
    assertThrows(
      () => reference(value as object),
      TypeError,
      "Cannot make a reference",
    );
  }
  return Promise.resolve();
});

test(
  "Pool ends a worker whose task is cancelled by a signal deep in it",
  async () => {
    let opened = 0;
    await using pool = new Pool<Acts>(() => {
      opened++;
      return openShm(workerUrl("rpc_acts"));
    }, { workers: 1 });
    const begun = Promise.withResolvers<void>();
    const { signal, abort } = withAbort();
    const hang = pool.run as (name: string, args: unknown[]) => Promise<void>;
    const run = hang.call(pool, "hang", [() => begun.resolve(), [[{
      signal,
    }]]]);
    await begun.promise;
    abort();
    await assertRejects(() => run, RangeError, "Enough");
    assertEquals(await pool.run("echo", [[{ deep: 1 }]]), [{ deep: 1 }]);
    assertEquals(opened, 2);
    const late = hang.call(pool, "echo", [[[signal]]]);
    await assertRejects(() => late, RangeError, "Enough");
  },
  { read: [new URL("../..", import.meta.url)] },
);

test("functions that are dropped are released at both ends", async () => {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--allow-read",
      "--no-check",
      "--unstable-worker-options",
      "--v8-flags=--expose-gc",
      workerUrl("reference_leaks").href,
    ],
    env: { NO_COLOR: "1" },
  }).output();
  const text = new TextDecoder();
  assertEquals(code, 0, text.decode(stderr));
  type Ends = { left: number; near: number; far: number };
  const [before, after]: [Ends, Ends] = JSON.parse(text.decode(stdout));
  assertEquals([before.left, after.left], [0, 0]);
  // 100 000 functions would take 13 MB at their end, and more at the other.
  for (const end of ["near", "far"] as const) {
    const growth = after[end] - before[end];
    assert(growth < 6_000_000, `${growth} bytes more at the ${end} end`);
  }
}, { ...RUN, env: ["NO_COLOR"] });

test("expose() refuses a peer that sends functions without end", async () => {
  const [raw, near] = duplexPair();
  let received = 0;
  const kept: unknown[] = [];
  const served = expose(
    {
      keep: (...fs: unknown[]) => {
        received += fs.length;
        kept.push(fs);
      },
    },
    near,
    { maxReferences: 1_000 },
  );
  const list = Array.from({ length: 200 }, () => null);
  let refused = 0;
  for (let id = 1; id <= 100; id++) {
    const slots = list.map((_, index) => [[index], 1, id * 200 + index]);
    await raw.send([TAG.call, id, "keep", list, slots]);
    let [tag] = await raw.receive() as number[];
    // What a refused call brings is released.
    if (tag === TAG.release) [tag] = await raw.receive() as number[];
    if (tag === TAG.error) refused++;
  }
  assertEquals([received, refused], [1_000, 95]);
  assertEquals(callStats(near).held, 1_000);
  await raw.close();
  await served;
  assertEquals(callStats(near).held, 0);
});

test("expose() handles the promise of a function that a result had as well", async () => {
  const [main, worker] = duplexPair();
  const fail = () => {
    throw new RangeError("not handled");
  };
  const failed = Promise.withResolvers<void>();
  const work = (run: () => unknown, done: () => unknown) => {
    run();
    done();
  };
  const back = remote<{ work: typeof work }>(worker);
  expose<object>({
    give: () => fail,
    call: () => back.work(fail, failed.resolve),
  }, worker);
  expose<object>({ work }, main);
  const api = remote<{ give(): () => unknown; call(): void }>(main);
  const given = await api.give();
  await api.call();
  await failed.promise;
  // Its rejection would be reported before this answer.
  await assertRejects(() => Promise.resolve(given()), RangeError);
  await Promise.all([main.close(), worker.closed]);
});
