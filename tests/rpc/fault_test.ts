// Copyright 2026 the Duplex authors. MIT license.

/**
 * What goes wrong with calls: what is thrown and how it crosses, what cannot be
 * sent, ends that go away.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
} from "@std/assert";
import { type Codec, json, msgpack } from "@duplex/ipc/codec";
import { ClosedError, type Duplex, PeerExitError } from "@duplex/ipc/duplex";
import { duplexPair } from "@duplex/ipc/pair";
import { openPipe } from "@duplex/ipc/pipe";
import { openQueue } from "@duplex/ipc/queue";
import { expose, notifier, remote, RemoteError } from "@duplex/ipc/rpc";
import { openShm } from "@duplex/ipc/shm";
import { RpcEndpoint } from "../../_rpc/endpoint.ts";
import { connect, test, withAbort } from "./_ends.ts";
import type { Acts } from "../workers/_rpc_acts.ts";
import { RUN, workerUrl } from "../workers/_processes.ts";

/** What a call rejects with whose method throws this. */
async function crossed(
  thrown: unknown,
  codec: Codec = msgpack,
  maxMessage = 2 ** 20,
): Promise<unknown> {
  const [main, worker] = duplexPair({ codec, maxMessageBytes: maxMessage });
  const methods = {
    now() {
      throw thrown;
    },
    later: () => Promise.reject(thrown),
  };
  expose(methods, worker);
  const api = remote<typeof methods>(main);
  const ends = await Promise.allSettled([api.now(), api.later()]);
  await main.close();
  const [now, later] = ends.map((end) => {
    assert(end.status === "rejected", "it was fulfilled");
    return end.reason;
  });
  assertEquals(Deno.inspect(now), Deno.inspect(later));
  return now;
}

class MissingError extends Error {
  key = "apple";
  errors = [1, 2];
  #hidden = 1;
  get hidden() {
    return this.#hidden;
  }
}

for (const [name, codec] of [["msgpack", msgpack], ["json", json]] as const) {
  const isJson = codec === json;

  test(`remote() throws what is no error over ${name}`, async () => {
    const same = [null, 0, "", false, "text", { a: [1] }, undefined];
    for (const thrown of same) {
      assertEquals(await crossed(thrown, codec), thrown);
    }
    const texts: [unknown, string][] = [
      [Symbol("a"), "Symbol(a)"],
      [{ f() {} }, "an object"],
      [
        Object.create(null, { f: { value() {}, enumerable: true } }),
        "an object",
      ],
      ...isJson ? [[NaN, "NaN"], [5n, "5n"]] as [unknown, string][] : [],
    ];
    for (const [thrown, text] of texts) {
      assertEquals(await crossed(thrown, codec), text);
    }
    if (!isJson) assertEquals(await crossed(NaN, codec), NaN);
  });

  test(`remote() throws errors of standard classes over ${name}`, async () => {
    const dom = new DOMException("stop", "AbortError");
    const named = new TypeError("renamed");
    named.name = "OddError";
    for (
      const thrown of [
        new Error("a"),
        new RangeError(""),
        new URIError("b"),
        dom,
        named,
      ]
    ) {
      const error = await crossed(thrown, codec);
      assert(error instanceof Error);
      assertStrictEquals(error.constructor, thrown.constructor);
      assertEquals(error.name, thrown.name);
      assertEquals(error.message, thrown.message);
      assertEquals(error.stack, thrown.stack);
      assertEquals(Object.keys(error), []);
      assert(!Object.hasOwn(error, "cause"));
    }
  });

  test(`remote() throws a RemoteError over ${name}`, async () => {
    const thrown = new MissingError("no apple", { cause: new TypeError("x") });
    const error = await crossed(thrown, codec);
    assertInstanceOf(error, RemoteError);
    assertEquals(error.message, "no apple");
    assertEquals([error.name, error.className], [
      "MissingError",
      "MissingError",
    ]);
    assertEquals(error.stack, thrown.stack);
    assertEquals({ ...error } as unknown, { key: "apple", errors: [1, 2] });
    assertInstanceOf(error.cause, TypeError);
    // One that is thrown on keeps what it was.
    const again = await crossed(error, codec);
    assertInstanceOf(again, RemoteError);
    assertEquals(again.className, "MissingError");
  });

  test(`remote() throws errors within errors over ${name}`, async () => {
    const shared = new MissingError("shared");
    const inner = new RangeError("inner", { cause: shared });
    const thrown = new AggregateError([inner, 7, shared], "all", {
      cause: null,
    });
    const error = await crossed(thrown, codec);
    assertInstanceOf(error, AggregateError);
    assertStrictEquals(error.cause, null);
    const [first, second, third] = error.errors;
    assertInstanceOf(first, RangeError);
    assertInstanceOf(first.cause, RemoteError);
    assertStrictEquals(second, 7);
    assertInstanceOf(third, RemoteError);
    assertEquals(first.cause === third, codec.name === "msgpack");
    class Failures extends AggregateError {}
    const own = await crossed(new Failures([inner], "own"), codec);
    assertInstanceOf(own, RemoteError);
    assertInstanceOf((own as unknown as AggregateError).errors[0], RangeError);
    const both = new SuppressedError(inner, thrown, "both");
    const suppressed = await crossed(both, codec) as SuppressedError;
    assertInstanceOf(suppressed, SuppressedError);
    assertInstanceOf(suppressed.error, RangeError);
    assertInstanceOf(suppressed.suppressed, AggregateError);
  });

  test(`remote() throws errors in a circle over ${name}`, async () => {
    const ring = new Error("ring");
    ring.cause = new RangeError("between", { cause: ring });
    const error = await crossed(ring, codec) as Error;
    const between = error.cause as Error;
    assertInstanceOf(between, RangeError);
    const hasGraph = codec.name === "msgpack";
    assertStrictEquals(between.cause, hasGraph ? error : "Error: ring");
    const self = Object.assign(new MissingError("self"), { list: [1] });
    self.cause = self;
    const back = await crossed(self, codec) as MissingError & typeof self;
    assertStrictEquals(back.cause, hasGraph ? back : "Error: self");
    assertEquals(back.list, [1]);
    const all: unknown[] = [];
    const aggregate = new AggregateError(all, "all");
    aggregate.errors.push(aggregate, new Error("other"));
    const whole = await crossed(aggregate, codec) as AggregateError;
    const { errors } = whole;
    assertStrictEquals(errors[0], hasGraph ? whole : "AggregateError: all");
    assertEquals(errors[1].message, "other");
    // A chain is sent up to a limit, and the rest as text.
    let chain = new Error("0");
    for (let n = 1; n < 40; n++) chain = new Error(`${n}`, { cause: chain });
    let last = await crossed(chain, codec);
    let depth = 0;
    for (; last instanceof Error; depth++) last = last.cause;
    assertEquals([depth, last], [16, "Error: 23"]);
    const wide = Array.from({ length: 3000 }, () => new Error("wide"));
    for (const one of wide.slice(0, 9)) one.cause = new AggregateError(wide);
    const arrived = await crossed(new AggregateError(wide), codec, 2 ** 24);
    assertEquals((arrived as AggregateError).errors.length, 3000);
  });

  test(`remote() throws errors without odd parts over ${name}`, async () => {
    const thrown = Object.assign(
      new MissingError("odd", { cause: Symbol("why") }),
      { f() {}, self: null as unknown },
    );
    thrown.self = thrown;
    const error = await crossed(thrown, codec) as RemoteError;
    assertInstanceOf(error, RemoteError);
    assertEquals([error.message, error.className], ["odd", "MissingError"]);
    assertEquals([error.stack, error.cause], [thrown.stack, "Symbol(why)"]);
    const outer = new Error("outer", { cause: thrown });
    const cause = (await crossed(outer, codec) as Error).cause as Error;
    assertInstanceOf(cause, RemoteError);
    assertEquals(cause.stack, thrown.stack);
  });

  test(`remote() throws errors that are too large over ${name}`, async () => {
    const large = "x".repeat(5000);
    const thrown = new MissingError(large);
    const error = await crossed(thrown, codec, 4000) as RemoteError;
    assertInstanceOf(error, RemoteError);
    assertEquals(error.message, large.slice(0, 1000));
    assertEquals(await crossed(large, codec, 4000), large.slice(0, 1000));
    const deep = Object.assign(new RangeError("fields"), { large });
    const without = await crossed(deep, codec, 4000) as Error;
    assertEquals([without.message, without.stack], ["fields", deep.stack]);
    assertEquals(await crossed(new Error("tiny"), codec, 40), undefined);
  });
}

test("remote() rejects with errors whose getters throw", async () => {
  const names = ["name", "message", "stack", "cause", "constructor", "field"];
  const failing = {
    enumerable: true,
    get() {
      throw new TypeError("A getter threw");
    },
  };
  for (const name of names) {
    const thrown = new RangeError("odd");
    Object.defineProperty(thrown, name, failing);
    const error = await crossed(thrown);
    assert(error instanceof Error, name);
    assertEquals(error.message, name === "message" ? "" : "odd");
    assertEquals(error.name, "RangeError");
    assertEquals(error instanceof RangeError, name !== "constructor");
  }
  const aggregate = new AggregateError([1], "odd");
  Object.defineProperty(aggregate, "errors", failing);
  assertEquals((await crossed(aggregate) as Error).message, "odd");
  const every = Object.fromEntries(
    ["getPrototypeOf", "get", "ownKeys", "has", "getOwnPropertyDescriptor"]
      .map((trap) => [trap, failing.get]),
  );
  assertEquals(await crossed(new Proxy(new Error("x"), every)), "an object");
  const { proxy, revoke } = Proxy.revocable(new Error("x"), {});
  revoke();
  assertEquals(await crossed(proxy), "an object");
});

test("remote() keeps fields from standing in for parts", async () => {
  const [main, raw] = duplexPair();
  const call = remote<{ x(): void }>(main).x();
  const parts = { class: "Odd", name: "Odd", message: "m", stack: "s" };
  const fields = { name: 1, message: 2, stack: 3, cause: 4, className: 5 };
  const own = { ["__proto__"]: { evil: 1 }, errors: [6], constructor: 7 };
  await raw.send([5, 1, [true, { ...parts, fields: { ...fields, ...own } }]]);
  const error = await assertRejects(() => call, RemoteError);
  assertEquals([error.name, error.message, error.stack], ["Odd", "m", "s"]);
  assertEquals([error.className, error.cause], ["Odd", undefined]);
  assertEquals((error as unknown as { evil?: number }).evil, undefined);
  assertEquals(Object.keys(error), ["__proto__", "errors", "constructor"]);
  await Promise.all([main.close(), raw.close()]);
});

test("remote() refuses arguments that cannot be sent", async () => {
  const [main, worker] = duplexPair({ maxMessageBytes: 10_000 });
  const methods = {
    take: (...args: unknown[]) => args.length,
    give: (what: string) => what === "symbol" ? { a: [Symbol("x")] } : large,
    giveLater: (what: string) => Promise.resolve(methods.give(what)),
  };
  const large = "x".repeat(20_000);
  expose(methods, worker);
  const api = remote<typeof methods>(main);
  const where = 'the value at "$[1].a.b" is a symbol, which cannot be sent';
  const deep = () => api.take(1, { a: { b: Symbol("x") } });
  const error = await assertRejects(deep, TypeError);
  assertEquals(error.message, `Cannot call "take": ${where}`);
  await assertRejects(() => api.take(Symbol("x")), TypeError, '"$[0]"');
  const tooLarge = () => api.take(large);
  await assertRejects(tooLarge, RangeError, '"maxMessageBytes"');
  for (const give of [api.give, api.giveLater]) {
    const unsent = await assertRejects(() => give("symbol"), TypeError);
    assertEquals(
      unsent.message,
      'Cannot answer with the result: the value at "$.a[0]" is a symbol, which cannot be sent',
    );
    await assertRejects(() => give("large"), RangeError, '"maxMessageBytes"');
  }
  const poisoned = {
    get a() {
      throw new URIError("A getter threw");
    },
  };
  await assertRejects(() => api.take(poisoned), URIError, "A getter threw");
  await assertRejects(() => api.take([poisoned]), URIError, "A getter threw");
  const many = Array.from({ length: 257 }, () => () => {});
  await assertRejects(() => api.take(...many), RangeError, "257 functions");
  assertEquals(await api.take(...many.slice(1)), 256);
  await main.close();
});

test("remote() refuses without room what cannot be sent", async () => {
  const [main, worker] = duplexPair({ windowMessages: 1 });
  expose({ echo: (value: unknown) => value }, worker);
  const api = remote<{ echo(value: unknown): unknown }>(main);
  const values = [1, Symbol("x"), 2, { f: { f: Symbol("x") } }, 3];
  const ends = await Promise.allSettled(values.map((value) => api.echo(value)));
  assertEquals(
    ends.map((end) => end.status === "fulfilled" ? end.value : end.reason.name),
    [1, "TypeError", 2, "TypeError", 3],
  );
  await main.close();
});

test("remote() rejects callbacks into a duplex that was closed", async () => {
  const begun = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<void>();
  const caught = Promise.withResolvers<unknown>();
  const { api, main, worker, served } = connect({
    async ask(f: () => unknown) {
      begun.resolve();
      await gate.promise;
      await Promise.resolve(f()).catch(caught.resolve);
      return "answer";
    },
  });
  const call = api.ask(() => "called");
  await begun.promise;
  const closing = main.close();
  await RpcEndpoint.of(worker).ended;
  gate.resolve();
  // The answer still arrives, since only the caller has sent its goodbye.
  assertEquals(await call, "answer");
  const error = await caught.promise;
  assertInstanceOf(error, ClosedError);
  assertStringIncludes(error.message, "the call of a callback");
  await closing;
  await served;
});

test("remote() rejects what is pending when the peer closes", async () => {
  const { api, main, worker } = connect({
    ask: async (f: () => unknown) => await f(),
    leave: () => void worker.close(),
  });
  const never = new Promise(() => {});
  // Its own answer comes too late as well.
  const calls = [api.ask(() => never), api.leave()];
  for (const end of await Promise.allSettled(calls)) {
    assert(end.status === "rejected");
    assertInstanceOf(end.reason, ClosedError);
    assertStringIncludes(end.reason.message, "Cannot finish the call of");
    assertStringIncludes(end.reason.message, "peer has sent its goodbye");
  }
  await assertRejects(() => api.leave(), ClosedError);
  await main.close();
});

test("remote() rejects once what an abort ends", async () => {
  const { api, main } = connect({ wait: () => new Promise<void>(() => {}) });
  let ends = 0;
  const calls = Array.from({ length: 100 }, () => api.wait());
  const settled = calls.map((call) => call.catch((error) => (ends++, error)));
  const reason = new RangeError("Broken");
  main.abort(reason);
  for (const error of await Promise.all(settled)) {
    assertStrictEquals(error, reason);
  }
  assertEquals(ends, 100);
  await assertRejects(() => api.wait(), RangeError, "Broken");
});

/** Calls that wait when their worker dies. */
async function dieWith(main: Duplex, kill: () => unknown): Promise<void> {
  const api = remote<Acts>(main);
  const { signal } = withAbort();
  const begun = Promise.withResolvers<void>();
  const calls: Promise<unknown>[] = [
    api.hang(begun.resolve),
    ...Array.from(
      { length: 999 },
      () => remote<Acts>(main, { signal }).never(),
    ),
  ];
  const stream = api.count(1e9);
  await stream.next();
  await begun.promise;
  let ends = 0;
  const settled = calls.map((call) => call.catch((error) => (ends++, error)));
  await kill();
  for (const error of await Promise.all(settled)) {
    assertInstanceOf(error, PeerExitError);
  }
  assertEquals(ends, 1000);
  await assertRejects(async () => {
    for await (const _ of stream);
  }, PeerExitError);
  await assertRejects(() => api.never(), PeerExitError);
  await assertRejects(() => main.closed, PeerExitError);
}

const READ = { read: [new URL("../..", import.meta.url)] };

test("remote() rejects every call when a process is killed", async () => {
  const main = await openPipe(workerUrl("rpc_acts"));
  const pid = await remote<Acts>(main).pid();
  await dieWith(main, () => Deno.kill(pid, "SIGKILL"));
}, { run: true });

test("remote() rejects every call when a queue's worker ends", async () => {
  const main = await openQueue(workerUrl("rpc_acts"));
  await dieWith(main, () => notifier<Acts>(main).exit(3));
}, READ);

test("remote() rejects every call when a worker with shm ends", async () => {
  const main = await openShm(workerUrl("rpc_acts"));
  await dieWith(main, () => notifier<Acts>(main).exit(3));
}, READ);

test("remote() throws an error with the fields that can be sent", async () => {
  const { main, api } = connect({
    fail(): never {
      throw Object.assign(new RangeError("Enough"), {
        code: "E1",
        status: 404,
        response: () => 1,
      });
    },
  });
  const error = await assertRejects(() => api.fail(), RangeError, "Enough");
  assertEquals({ ...error } as object, { code: "E1", status: 404 });
  await main.close();
});

test(
  "remote() takes an answer that came while this thread was busy",
  async () => {
    const main = await openPipe(workerUrl("rpc_acts"));
    // The worker has been through it once, and answers at once.
    await remote<Acts>(main).echo(6);
    const answer = remote<Acts>(main, { timeout: 20 }).echo(7);
    // Long enough for the answer to arrive on a busy machine.
    const end = performance.now() + 500;
    while (performance.now() < end);
    assertEquals(await answer, 7);
    await main.close();
  },
  RUN,
);
