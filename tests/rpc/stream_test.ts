// Copyright 2026 the Duplex authors. MIT license.

/**
 * Methods that give many values: how far they get, how they end, and what ends
 * them.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertLessOrEqual,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { ClosedError } from "@duplex/ipc/duplex";
import { duplexPair } from "@duplex/ipc/pair";
import { expose, notifier, remote, withSignal } from "@duplex/ipc/rpc";
import { aborted, connect, test, withAbort } from "./_ends.ts";

/** A generator that counts its values and reports its end. */
class Counter {
  made = 0;
  readonly left = Promise.withResolvers<void>();

  /** What is exposed of it. */
  get methods() {
    const count = async function* (this: Counter, to: number) {
      try {
        for (let n = 1; n <= to; n++) {
          this.made = n;
          yield n;
        }
        return "end";
      } finally {
        this.left.resolve();
      }
    };
    return { count: count.bind(this), ping: () => {} };
  }
}

test("remote() gives the values of a generator and the last", async () => {
  const { api, main } = connect(new Counter().methods);
  assertEquals(await Array.fromAsync(api.count(100)), [
    ...Array(100).keys().map((index) => index + 1),
  ]);
  const stream = api.count(1);
  assertEquals(await stream.next(), { value: 1, done: false });
  assertEquals(await stream.next(), { value: "end", done: true });
  assertEquals<unknown>(await stream.next(), { value: undefined, done: true });
  const awaited = await api.count(2);
  assertEquals(await Array.fromAsync(awaited), [1, 2]);
  await main.close();
});

test("remote() gives values to those that wait in order", async () => {
  const { main } = connect(new Counter().methods);
  const api = remote<Counter["methods"]>(main, { readAhead: 1 });
  const stream = api.count(5);
  const results = Array.from({ length: 7 }, () => stream.next());
  const ends = { value: undefined, done: true };
  assertEquals<unknown>(await Promise.all(results), [
    ...[1, 2, 3, 4, 5].map((value) => ({ value, done: false })),
    { value: "end", done: true },
    ends,
  ]);
  await main.close();
});

for (const readAhead of [1, 2, 5, 16]) {
  test(`remote() lets a generator get ${readAhead} values ahead`, async () => {
    const counter = new Counter();
    const { api, main } = connect(counter.methods, { readAhead });
    const stream = api.count(1e9);
    // An answer comes behind everything that the generator could give.
    await api.ping();
    assertEquals(counter.made, 0);
    let most = 0;
    for (let taken = 1; taken <= 50; taken++) {
      assertEquals((await stream.next()).value, taken);
      await api.ping();
      await api.ping();
      assertLessOrEqual(counter.made, taken + readAhead);
      most = Math.max(most, counter.made - taken);
    }
    assert(most >= readAhead - 1, `it got ${most} ahead`);
    await stream.return("left");
    await counter.left.promise;
    await main.close();
  });
}

test("remote() stops a generator that is left early", async () => {
  const leave: ((stream: AsyncGenerator<number>) => unknown)[] = [
    async (stream) => {
      for await (const n of stream) if (n === 3) break;
    },
    async (stream) => {
      await stream.next();
      assertEquals(await stream.return(7), { value: 7, done: true });
      assertEquals<unknown>(await stream.next(), {
        value: undefined,
        done: true,
      });
    },
    async (stream) => {
      await stream.next();
      await assertRejects(() => stream.throw(new Error("mine")), Error, "mine");
    },
    async (stream) => {
      await using left = stream;
      await left.next();
    },
    async (stream) => {
      await stream.next();
      const waiting = stream.next();
      await stream.return(0);
      // The one that waited is not kept waiting.
      assertEquals<unknown>(await waiting, { value: undefined, done: true });
    },
  ];
  for (const end of leave) {
    const counter = new Counter();
    const { api, main, served } = connect(counter.methods, { readAhead: 4 });
    await end(api.count(1e9));
    await counter.left.promise;
    await main.close();
    await served;
  }
});

test("withSignal() aborts when a stream is stopped", async () => {
  const over = Promise.withResolvers<unknown>();
  const { api, main } = connect({
    watch: withSignal(async function* (signal) {
      yield 1;
      over.resolve(await aborted(signal));
    }),
  });
  for await (const _ of api.watch()) break;
  const reason = await over.promise;
  assertInstanceOf(reason, DOMException);
  assertEquals(reason.name, "AbortError");
  await main.close();
});

test("remote() ends a stream with its signal and its timeout", async () => {
  const counter = new Counter();
  const { main } = connect(counter.methods);
  const { signal, abort } = withAbort();
  const limits = { signal, readAhead: 2 };
  const stream = remote<Counter["methods"]>(main, limits).count(1e9);
  await stream.next();
  abort();
  // Values that have arrived can still be read.
  await assertRejects(() => Array.fromAsync(stream), RangeError, "Enough");
  await counter.left.promise;
  // The stream is not read, so the generator waits.
  const late = remote<Counter["methods"]>(main, { timeout: 5, readAhead: 1 });
  const error = await assertRejects(async () => {
    for await (const _ of late.count(1e9)) {
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }, DOMException);
  assertEquals(error.name, "TimeoutError");
  await main.close();
});

test("remote() throws what a generator throws behind its values", async () => {
  for (const thrown of [new RangeError("no"), undefined, 0, "", false, null]) {
    const { api, main } = connect({
      async *fail() {
        yield 1;
        yield 2;
        throw thrown;
      },
    });
    const stream = api.fail();
    const seen = [(await stream.next()).value, (await stream.next()).value];
    const [end] = await Promise.allSettled([stream.next()]);
    assertEquals(seen, [1, 2]);
    assert(end.status === "rejected");
    assertEquals(end.reason, thrown);
    assertEquals<unknown>(await stream.next(), {
      value: undefined,
      done: true,
    });
    await main.close();
  }
});

test("remote() walks through whatever can be walked through", async () => {
  const cancelled = Promise.withResolvers<unknown>();
  const { api, main } = connect({
    *sync() {
      yield* [1, 2];
    },
    // deno-lint-ignore require-await
    later: async () => new Counter().methods.count(2),
    readable: () =>
      new ReadableStream<number>({
        pull: (out) => out.enqueue(1),
        cancel: (reason) => cancelled.resolve(reason),
      }),
    own: () => ({
      [Symbol.asyncIterator]: () => {
        let n = 0;
        return { next: () => Promise.resolve({ value: ++n, done: n > 2 }) };
      },
    }),
    array: () => [1, 2],
    map: () => new Map([[1, 2]]),
    value: () => 7,
  });
  assertEquals(await Array.fromAsync(api.sync()), [1, 2]);
  assertEquals(await Array.fromAsync(api.later()), [1, 2]);
  assertEquals(
    await Array.fromAsync(api.own() as unknown as AsyncGenerator<number>),
    [1, 2],
  );
  for await (const item of api.readable()) if (item === 1) break;
  await cancelled.promise;
  assertEquals(await api.array(), [1, 2]);
  assertEquals(await api.map(), new Map([[1, 2]]));
  const value = api.value() as unknown as AsyncGenerator;
  await assertRejects(
    () => value.next(),
    TypeError,
    "of type number; await it",
  );
  await main.close();
});

test("expose() answers with what an iterator throws", async () => {
  const { api, main, served } = connect({
    open: (): AsyncIterable<number> => ({
      [Symbol.asyncIterator]: () => {
        throw new RangeError("cannot be opened");
      },
    }),
    // deno-lint-ignore require-await
    openLater: async (): Promise<AsyncIterable<number>> => ({
      get [Symbol.asyncIterator](): never {
        throw new RangeError("cannot be asked");
      },
    }),
    next: (): AsyncIterable<number> => ({
      [Symbol.asyncIterator]: () => ({
        next: () => {
          throw new RangeError("cannot go on");
        },
      }),
    }),
    value: () => ({
      get then() {
        throw new RangeError("cannot be awaited");
      },
    }),
  });
  await assertRejects(() => api.open().next(), RangeError, "cannot be opened");
  await assertRejects(() => api.openLater().next(), RangeError, "be asked");
  await assertRejects(() => api.next().next(), RangeError, "cannot go on");
  await assertRejects(async () => await api.value(), RangeError, "be awaited");
  await main.close();
  await served;
});

test("remote() throws where a value of a stream cannot be sent", async () => {
  const counter = new Counter();
  const { api, main } = connect({
    async *items(last: boolean) {
      try {
        yield { a: 1 };
        if (!last) yield { a: [Symbol("x")] };
        return { end: Symbol("x") };
      } finally {
        await Promise.resolve();
        counter.left.resolve();
      }
    },
  });
  for (
    const [last, path] of [[false, '"$.a[0]"'], [true, '"$.end"']] as const
  ) {
    const stream = api.items(last);
    assertEquals(await stream.next(), { value: { a: 1 }, done: false });
    const error = await assertRejects(() => stream.next(), TypeError);
    assertStringIncludes(error.message, `Cannot answer with the result`);
    assertStringIncludes(error.message, path);
  }
  await counter.left.promise;
  await main.close();
});

test("remote() stops a stream whose call was taken back before", async () => {
  const gate = Promise.withResolvers<void>();
  const left = [0, 1].map(() => Promise.withResolvers<void>());
  const slow = async (index: number) => {
    await gate.promise;
    return new ReadableStream<number>({ cancel: left[index]!.resolve });
  };
  const { api, main, served } = connect({
    slow: () => slow(0),
    withOwn: withSignal(() => slow(1)),
    ping: () => {},
  });
  const { signal, abort } = withAbort();
  const own = remote<typeof api>(main, { signal });
  const calls = [own.slow().next(), own.withOwn().next()];
  await api.ping();
  abort();
  for (const call of calls) {
    await assertRejects(() => call, RangeError, "Enough");
  }
  gate.resolve();
  for (const { promise } of left) await promise;
  await main.close();
  await served;
});

test("expose() stops a stream whose caller is gone before", async () => {
  const gate = Promise.withResolvers<void>();
  const left = Promise.withResolvers<void>();
  const { api, main, served } = connect({
    async slow() {
      await gate.promise;
      return new ReadableStream<number>({ cancel: () => left.resolve() });
    },
    hang: () => new Promise(() => {}),
    ping: () => {},
  });
  const call = api.slow().next();
  await notifier<typeof api>(main).hang();
  await api.ping();
  main.abort(new RangeError("Broken"));
  await assertRejects(() => call, RangeError, "Broken");
  // What hangs is not waited for.
  await assertRejects(() => served, RangeError, "Broken");
  gate.resolve();
  await left.promise;
});

test("remote() ends open streams when this side sends goodbye", async () => {
  const counter = new Counter();
  const { api, main, served } = connect(counter.methods, { readAhead: 4 });
  const stream = api.count(1e9);
  await stream.next();
  const unread = api.count(1e9);
  await api.ping();
  const closing = main.close();
  const error = await assertRejects(async () => {
    for await (const _ of stream);
  }, ClosedError);
  assertStringIncludes(error.message, 'Cannot finish the call of "count"');
  await assertRejects(() => unread.next(), ClosedError);
  await counter.left.promise;
  await closing;
  await served;
});

test("remote() ends a stream that begins after its goodbye", async () => {
  const gate = Promise.withResolvers<void>();
  const { api, main, served } = connect({
    async slow() {
      await gate.promise;
      return new Counter().methods.count(3);
    },
  });
  const first = api.slow().next();
  const closing = main.close();
  gate.resolve();
  await assertRejects(() => first, ClosedError);
  await closing;
  await served;
});

test("remote() ends open streams when the peer sends goodbye", async () => {
  const { api, main, worker } = connect(new Counter().methods);
  const stream = api.count(1e9);
  await stream.next();
  const closing = worker.close();
  await assertRejects(
    async () => {
      for await (const _ of stream);
    },
    ClosedError,
    "the peer has sent its goodbye",
  );
  await Promise.all([closing, main.close()]);
});

for (const side of ["main", "worker"] as const) {
  test(`remote() ends open streams when the ${side} aborts`, async () => {
    const counter = new Counter();
    const { api, served, ...ends } = connect(counter.methods);
    const stream = api.count(1e9);
    await stream.next();
    ends[side].abort(new RangeError("Broken"));
    await assertRejects(
      async () => {
        for await (const _ of stream);
      },
      RangeError,
      "Broken",
    );
    await counter.left.promise;
    await assertRejects(() => served, RangeError, "Broken");
  });
}

test("expose() closes although a stopped generator hangs", async () => {
  const { api, main, served } = connect({
    async *watch() {
      yield 1;
      await new Promise(() => {});
    },
    hang: () => new Promise(() => {}),
    ping: () => {},
  });
  const stream = api.watch();
  await stream.next();
  await api.ping();
  await stream.return();
  const { signal, abort } = withAbort();
  const hanging = remote<typeof api>(main, { signal }).hang();
  abort();
  await assertRejects(() => hanging, RangeError, "Enough");
  await main.close();
  await served;
});

test("remote() streams from a callback", async () => {
  const [main, worker] = duplexPair();
  const counter = new Counter();
  const methods = {
    async take(items: () => unknown) {
      const seen = [];
      for await (const n of await items() as AsyncIterable<number>) {
        if (seen.push(n) === 3) break;
      }
      return seen;
    },
  };
  expose(methods, worker);
  const api = remote<typeof methods>(main);
  const seen = await api.take(() => counter.methods.count(1e9));
  assertEquals(seen, [1, 2, 3]);
  await counter.left.promise;
  await main.close();
});
