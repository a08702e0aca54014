// Copyright 2026 the Duplex authors. MIT license.

/**
 * Functions and signals that go with calls: what is called back and what takes
 * calls back.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertRejects,
  assertStrictEquals,
} from "@std/assert";
import { json, msgpack } from "@duplex/ipc/codec";
import { ClosedError } from "@duplex/ipc/duplex";
import { duplexPair } from "@duplex/ipc/pair";
import { expose, remote, withSignal } from "@duplex/ipc/rpc";
import { aborted, connect, CountedSignal, test, withAbort } from "./_ends.ts";

test("expose() refuses more callbacks than maxCalls", async () => {
  const [main, worker] = duplexPair();
  expose({ unused() {} }, main, { maxCalls: 1 });
  const methods = {
    async ask(question: () => unknown) {
      return await Promise.allSettled([question(), question()]);
    },
  };
  expose(methods, worker);
  const { promise, resolve } = Promise.withResolvers<void>();
  const asked = remote<typeof methods>(main).ask(() => promise);
  // Its answer comes behind that of the second.
  await remote<{ unused(): void }>(worker).unused().catch(() => {});
  resolve();
  const [first, second] = await asked;
  assertEquals(first!.status, "fulfilled");
  assertInstanceOf((second as PromiseRejectedResult).reason, RangeError);
  await Promise.all([main.close(), worker.close()]);
});

test("remote() lets functions be called back", async () => {
  const { api, main } = connect({
    async top(f: (n: number) => unknown, n: number) {
      return await f(n);
    },
    async option({ f, m, text }: Record<string, unknown>) {
      const call = f as (n: number) => unknown;
      return [await call(1), m, text, typeof f];
    },
    async twice(f: (n: number) => unknown) {
      return await Promise.all([1, 2, 3].map((n) => f(n)));
    },
    async inner(f: (g: (text: string) => unknown) => unknown) {
      return await f((text) => `inner ${text}`);
    },
    async *stream(f: (n: number) => unknown) {
      for (let n = 0; n < 3; n++) yield await f(n);
    },
  });
  assertEquals(await api.top((n) => n + 1, 1), 2);
  assertEquals(await api.top((n) => Promise.resolve(n * 2), 4), 8);
  const options = { f: (n: number) => n + 5, m: new Map([[1, 2]]), text: "x" };
  assertEquals(await api.option(options), [6, options.m, "x", "function"]);
  assertEquals(options.f(1), 6);
  // The first is answered last: they are under way together.
  const gates = [1, 2, 3].map(() => Promise.withResolvers<void>());
  const answers = await api.twice(async (n) => {
    gates[n - 1]!.resolve();
    await gates[2]!.promise;
    return n;
  });
  assertEquals(answers, [1, 2, 3]);
  const inner = await api.inner(async (g) => `${await g("a")}!`);
  assertEquals(inner, "inner a!");
  assertEquals(await Array.fromAsync(api.stream((n) => n * n)), [0, 1, 4]);
  await main.close();
});

test("remote() keeps an argument with a function that occurs twice", async () => {
  const methods = {
    same: async (
      one: { f(): Promise<number> },
      two: { f(): Promise<number> },
    ) => [one === two, await one.f(), await two.f()],
  };
  for (const codec of [msgpack, json]) {
    const [main, worker] = duplexPair({ codec });
    expose(methods, worker);
    const options = { f: () => 7 };
    const result = await remote<typeof methods>(main).same(options, options);
    assertEquals(result, [codec === msgpack, 7, 7]);
    await main.close();
  }
});

test("remote() throws what a callback throws", async () => {
  const caught: unknown[] = [];
  const { api, main } = connect({
    async ask(f: () => unknown) {
      await f();
    },
    async swallow(f: () => unknown) {
      await Promise.resolve(f()).catch((error) => caught.push(error));
    },
  });
  const sync = () => {
    throw new RangeError("no");
  };
  await assertRejects(() => api.ask(sync), RangeError, "no");
  await assertRejects(() =>
    api.ask(() => Promise.reject(0)).catch((error) => {
      assertStrictEquals(error, 0);
      throw new Error("It was 0");
    })
  );
  await api.swallow(sync);
  await api.swallow(() => Promise.reject(undefined));
  assertInstanceOf(caught[0], RangeError);
  assertEquals(caught.slice(1), [undefined]);
  await main.close();
});

test("remote() lets functions be called until the duplex ends", async () => {
  let kept: () => Promise<unknown> = () => Promise.resolve();
  const begun = Promise.withResolvers<AbortSignal>();
  const { api, main } = connect({
    keep(f: () => unknown) {
      kept = f as typeof kept;
    },
    hold: withSignal(async (signal, f: () => unknown) => {
      kept = f as typeof kept;
      begun.resolve(signal);
      await aborted(signal);
    }),
  });
  let calls = 0;
  await api.keep(() => calls++);
  assertEquals(await kept(), 0);
  const { signal, abort } = withAbort();
  const call = remote<typeof api>(main, { signal }).hold(() => calls++);
  const held = await begun.promise;
  assertEquals(await kept(), 1);
  abort();
  await assertRejects(() => call, RangeError);
  await aborted(held);
  assertEquals(await kept(), 2);
  await main.close();
  await assertRejects(kept, ClosedError, "a callback");
  assertEquals(calls, 3);
});

test("withSignal() aborts with the caller's signal", async () => {
  const seen: unknown[] = [];
  const begun = Promise.withResolvers<void>();
  const { main } = connect({
    wait: withSignal(async (signal, text: string) => {
      begun.resolve();
      seen.push(text, await aborted(signal));
      over.resolve();
    }),
  });
  const over = Promise.withResolvers<void>();
  const { signal, abort } = withAbort();
  type Wait = { wait(text: string): Promise<void> };
  const call = remote<Wait>(main, { signal }).wait("x");
  await begun.promise;
  abort();
  const error = await assertRejects(() => call, RangeError, "Enough");
  assertStrictEquals(error, signal.reason);
  await over.promise;
  assertEquals(seen[0], "x");
  assertInstanceOf(seen[1], RangeError);
  // One that has aborted already calls nothing.
  await assertRejects(() => remote<Wait>(main, { signal }).wait("y"));
  assertEquals(seen.length, 2);
  await main.close();
});

test("withSignal() aborts at the timeout", async () => {
  const over = Promise.withResolvers<unknown>();
  const { api, main } = connect({
    wait: withSignal(async (signal) => over.resolve(await aborted(signal))),
    quick: () => 1,
  }, { timeout: 1 });
  const error = await assertRejects(() => api.wait(), DOMException, "1 ms");
  assertEquals(error.name, "TimeoutError");
  assertEquals((await over.promise as Error).name, "TimeoutError");
  await main.close();
});

test("remote() takes a call back by its argument", async () => {
  const signals: AbortSignal[] = [];
  const { api, main } = connect({
    async wait(signal: AbortSignal) {
      signals.push(signal);
      await aborted(signal);
    },
    async option({ signal, n }: { signal: AbortSignal; n: number }) {
      signals.push(signal);
      await aborted(signal);
      return n;
    },
    ping: () => signals.length,
  });
  for (
    const call of [
      api.wait,
      (s: AbortSignal) => api.option({ signal: s, n: 1 }),
    ]
  ) {
    const { signal, abort } = withAbort();
    const waiting = call(signal);
    const begun = await api.ping();
    const own = signals[begun - 1]!;
    assertInstanceOf(own, AbortSignal);
    abort();
    await assertRejects(() => waiting, RangeError, "Enough");
    assertInstanceOf(await aborted(own), RangeError);
    await assertRejects(() => call(signal), RangeError, "Enough");
  }
  await main.close();
});

test("withSignal() aborts when the caller is gone", async () => {
  for (const side of ["main", "worker"] as const) {
    const begun = Promise.withResolvers<void>();
    const over = Promise.withResolvers<unknown>();
    const { api, ...ends } = connect({
      wait: withSignal(async (signal) => {
        begun.resolve();
        over.resolve(await aborted(signal));
      }),
    });
    const call = api.wait();
    await begun.promise;
    ends[side].abort(new RangeError("Broken"));
    await assertRejects(() => call, RangeError, "Broken");
    assertInstanceOf(await over.promise, RangeError);
  }
});

test("remote() leaves no listener on a signal", async () => {
  const counter = new CountedSignal();
  const { api, main } = connect({
    echo: (value: unknown) => value,
    take: (_options: unknown) => {},
    fail: () => Promise.reject(new Error("no")),
    async *count() {
      for (let n = 0; n < 3; n++) yield n;
    },
  }, { signal: counter.signal });
  await Promise.all([1, 2, 3].map((n) => api.echo(n)));
  // Nor a timer.
  await remote<typeof api>(main, { timeout: 60_000 }).echo(1);
  await assertRejects(() => api.fail());
  await Array.fromAsync(api.count());
  for await (const _ of api.count()) break;
  await assertRejects(() => api.echo(Symbol("unsendable")), TypeError);
  await api.take({ signal: counter.signal, f() {} });
  assertEquals(counter.count, 0);
  assert(counter.added > 0);
  const pending = api.echo(1);
  main.abort(new Error("Over"));
  await assertRejects(() => pending, Error, "Over");
  assertEquals(counter.count, 0);
});

test("remote() takes back 10 000 calls with one listener", async () => {
  const counter = new CountedSignal();
  const { main, served } = connect({ wait: () => new Promise(() => {}) });
  const api = remote<{ wait(): Promise<void> }>(main, {
    signal: counter.signal,
  });
  const calls = Array.from({ length: 10_000 }, () => api.wait());
  assertEquals(counter.added, 1);
  counter.abort();
  const ends = await Promise.allSettled(calls);
  const reasons = new Set(
    ends.map((end) => end.status === "rejected" ? end.reason : end),
  );
  assertEquals([...reasons], [counter.signal.reason]);
  // The close does not wait for cancelled calls.
  await main.close();
  await served;
});

test("expose() outlives callbacks whose promises are not awaited", async () => {
  const ticked = Promise.withResolvers<void>();
  let timer: ReturnType<typeof setInterval> | undefined;
  const { main, api } = connect({
    each(count: number, onItem: (n: number) => unknown) {
      for (let n = 0; n < count; n++) onItem(n);
      return count;
    },
    tick(onTick: (n: number) => unknown) {
      let ticks = 0;
      timer = setInterval(() => {
        onTick(1);
        if (++ticks === 3) ticked.resolve();
      });
      return "started";
    },
  });
  // It throws here, and its promise is not awaited there.
  const thrower = () => {
    throw new RangeError("Enough");
  };
  assertEquals(await api.each(3, thrower), 3);
  // The call that brought the function has ended.
  assertEquals(await api.tick(() => {}), "started");
  await ticked.promise;
  clearInterval(timer);
  await main.close();
});

test("expose() takes a stream that a callback gives", async () => {
  const { main, api } = connect({
    async sum(items: () => AsyncGenerator<number>) {
      let sum = 0;
      for await (const item of items()) sum += item;
      return sum;
    },
  });
  const sum = await api.sum(async function* () {
    yield 1;
    yield 2;
  });
  assertEquals(sum, 3);
  await main.close();
});
