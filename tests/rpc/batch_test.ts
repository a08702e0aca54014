// Copyright 2026 the Duplex authors. MIT license.

/**
 * Batches of calls, as a pool sends them: every call of one has its outcome, in
 * the order of the calls.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { json } from "@duplex/ipc/codec";
import { type Duplex, ProtocolError } from "@duplex/ipc/duplex";
import { duplexPair } from "@duplex/ipc/pair";
import { expose, remote, withSignal } from "@duplex/ipc/rpc";
import { Batch, BatchRunner } from "../../_rpc/batch.ts";
import { MAX_BATCH, type Message, TAG } from "../../_rpc/messages.ts";
import { type AnswerHandler, RpcEndpoint } from "../../_rpc/endpoint.ts";
import { aborted, test } from "./_ends.ts";

/** A runner ends its turn of the event loop when it has run for a while. */
function nextTurn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve));
}

/** What came of a batch, in order; errors by their message. */
class Outcomes implements AnswerHandler {
  readonly label = '"batch"';
  readonly all: unknown[] = [];
  readonly #waiting: [count: number, resolve: () => void][] = [];

  /** Waits until so much has come. */
  async until(count: number): Promise<unknown[]> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.push([count, resolve]);
    this.#add();
    await promise;
    return this.all;
  }

  #add(...outcomes: unknown[]): void {
    this.all.push(...outcomes);
    for (const [count, resolve] of this.#waiting) {
      if (this.all.length >= count) resolve();
    }
  }

  onItems(values: unknown[]): void {
    this.#add(...values);
  }
  onError(thrown: unknown): void {
    this.#add(
      thrown instanceof Error ? `${thrown.name}: ${thrown.message}` : [thrown],
    );
  }
  onRecalled(begun: number): void {
    this.#add(`recalled after ${begun}`);
  }
  refuse(error: unknown): void {
    this.#add("refused", String(error));
  }
  fail(error: unknown): void {
    this.#add("failed", String(error));
  }
  onValue(value: unknown): void {
    this.#add(value);
  }
  onStream(): void {
    throw new ProtocolError("A batch has no stream");
  }
  onChunk(): void {
    throw new ProtocolError("A batch has no chunks");
  }
}

/** Runs batches on methods. */
function batches<Methods extends object>(
  methods: Methods,
  windowMessages = 4096,
) {
  const [main, worker] = duplexPair({ windowMessages });
  const served = expose<object>(methods, worker);
  const endpoint = RpcEndpoint.of(main);
  const run = (name: string, list: unknown[][]) => {
    const outcomes = new Outcomes();
    return { batch: endpoint.batch(name, list, outcomes), outcomes };
  };
  return { main, endpoint, run, served, api: remote<Methods>(main) };
}

test("RpcEndpoint.batch() runs one call after the other", async () => {
  const order: string[] = [];
  const { main, run } = batches({
    async work(n: number) {
      order.push(`+${n}`);
      for (let turn = 0; turn < 5 - n; turn++) await Promise.resolve();
      order.push(`-${n}`);
      return n;
    },
  });
  const first = run("work", [[1], [2], [3]]);
  const second = run("work", [[4]]);
  assertEquals(await first.outcomes.until(3), [1, 2, 3]);
  assertEquals(await second.outcomes.until(1), [4]);
  assertEquals(order.join(""), "+1-1+2-2+3-3+4-4");
  await main.close();
});

for (const windowMessages of [4096, 1]) {
  const room = windowMessages === 1 ? " without room" : "";
  test(`RpcEndpoint.batch() keeps the place of outcomes${room}`, async () => {
    const { main, run } = batches({
      work(n: number): unknown {
        if (n % 6 === 1 || n % 6 === 3) throw new RangeError(`no ${n}`);
        if (n % 6 === 0) return { n: Symbol("n") };
        if (n % 6 === 4) return Promise.reject(n);
        return n % 6 === 2 ? Promise.resolve(n) : n;
      },
      // All outcomes are reported together, and then each on its own.
      some: (n: number) => n % 3 === 1 ? Symbol("n") : n,
    }, windowMessages);
    const list = Array.from({ length: 60 }, (_, n) => [n]);
    const work = run("work", list).outcomes;
    const some = run("some", list).outcomes;
    const refusal =
      "Error: Cannot answer with the result: the value at PATH is a symbol, which cannot be sent";
    const path = (at: string) => `Type${refusal.replace("PATH", at)}`;
    assertEquals(
      await work.until(60),
      list.map(([n]) => {
        const thrown = `RangeError: no ${n}`;
        return [path('"$.n"'), thrown, n, thrown, [n], n][n! % 6];
      }),
    );
    assertEquals(
      await some.until(60),
      list.map(([n]) => n! % 3 === 1 ? path('"$"') : n),
    );
    await main.close();
  });
}

test("RpcEndpoint.batch() gives each call and result objects of its own", async () => {
  const constant = { list: [] as unknown[] };
  const { main, run } = batches({
    change: (
      options: { n: number },
      same: unknown,
    ) => [options.n++, options === same],
    same: () => constant,
  });
  const options = { n: 1 };
  const list = Array.from({ length: 40 }, () => [options, options]);
  const changed = await run("change", list).outcomes.until(40);
  assertEquals(changed, Array(40).fill([1, true]));
  const results = await run("same", [[], [], []]).outcomes.until(3);
  assertEquals(results, Array(3).fill({ list: [] }));
  assertEquals(new Set(results).size, 3);
  await main.close();
});

test("RpcEndpoint.batch() answers every call that cannot be made", async () => {
  const { main, run } = batches({ work: () => 1, async *many() {} });
  const { outcomes } = run("absent", [[], [], []]);
  const text =
    'TypeError: Cannot call "absent": the peer exposes no such method, only "work", "many"';
  assertEquals(await outcomes.until(3), [text, text, text]);
  for (const name of ["many", "toString", "__proto__"]) {
    const all = await run(name, [[], []]).outcomes.until(2);
    for (const outcome of all) assertStringIncludes(outcome as string, name);
  }
  await main.close();
});

test("RpcEndpoint.batch() refuses streams", async () => {
  const left: string[] = [];
  const { main, run } = batches({
    work(n: number): unknown {
      const many = {
        [Symbol.asyncIterator]: () => ({
          next: () => Promise.resolve({ value: n, done: false }),
          return: () => {
            left.push(`left ${n}`);
            return Promise.resolve({ value: undefined, done: true });
          },
        }),
      };
      return n === 0 ? n : n === 1 ? many : Promise.resolve(many);
    },
  });
  const all = await run("work", [[0], [1], [2], [0]]).outcomes.until(4);
  const text =
    'TypeError: Cannot run "work" in a pool: its result is a stream; call it with "remote", or return an array';
  assertEquals(all, [0, text, text, 0]);
  assertEquals(left, ["left 1", "left 2"]);
  await main.close();
});

test("RpcEndpoint.batch() refuses what cannot be sent", async () => {
  const { main, run } = batches({ work: (value: unknown) => value });
  const { outcomes } = run("work", [[1], [{ f() {} }]]);
  assertEquals(await outcomes.until(2), [
    "refused",
    'TypeError: Cannot call "batch": the value at "$[1][0].f" is a function, which cannot be sent',
  ]);
  await main.close();
  assertEquals((await run("work", [[1]]).outcomes.until(2))[0], "failed");
});

/** A method whose calls end when `open` is called. */
function gated() {
  const gates = new Map<number, PromiseWithResolvers<void>>();
  const begun: number[] = [];
  const gate = (n: number) => {
    if (!gates.has(n)) gates.set(n, Promise.withResolvers());
    return gates.get(n)!;
  };
  const methods = {
    // The first one gives its value at once.
    work(n: number) {
      begun.push(n);
      return n === 1 ? n : gate(n).promise.then(() => n);
    },
    open: (n: number) => gate(n).resolve(),
    begun: () => begun,
  };
  return methods;
}

test("SentBatch.recall() recalls the rest of a batch", async () => {
  const { main, run, api } = batches(gated());
  const { batch, outcomes } = run("work", [[1], [2], [3], [4]]);
  const other = run("work", [[5], [6]]);
  batch.recall();
  // What is done and what was not begun are reported at once, a running call when it
  // ends.
  assertEquals(await outcomes.until(2), [1, "recalled after 2"]);
  batch.recall();
  other.batch.recall();
  // Nothing of it was begun, so it is reported at once.
  assertEquals(await other.outcomes.until(1), ["recalled after 0"]);
  await api.open(2);
  assertEquals(await outcomes.until(3), [1, "recalled after 2", 2]);
  assertEquals(await api.begun(), [1, 2]);
  const whole = run("work", [[7]]);
  whole.batch.recall();
  await api.open(7);
  await whole.outcomes.until(1);
  // Nothing of it is left that could be recalled.
  assertEquals(await api.begun(), [1, 2, 7]);
  assertEquals(whole.outcomes.all, [7]);
  assertEquals(await run("work", [[1]]).outcomes.until(1), [1]);
  await main.close();
});

test("RpcEndpoint.batch() reports outcomes while a call takes long", async () => {
  const { main, run, api } = batches(gated());
  const { outcomes } = run("work", [[1], [2], [1]]);
  assertEquals(await outcomes.until(1), [1]);
  await api.open(2);
  assertEquals(await outcomes.until(3), [1, 2, 1]);
  await main.close();
});

test("Caller.cancel() takes a batch back", async () => {
  const begun: number[] = [];
  const reasons: unknown[] = [];
  const { main, run, served } = batches({
    work: withSignal(async (signal, n: number) => {
      begun.push(n);
      if (n === 1) return n;
      reasons.push(await aborted(signal));
      throw signal.reason;
    }),
    hang: () => new Promise(() => {}),
  });
  const { batch, outcomes } = run("work", [[1], [2], [3]]);
  const other = run("work", [[4]]);
  await outcomes.until(1);
  other.batch.cancel(new RangeError("Enough"));
  batch.cancel(new RangeError("Enough"));
  assertEquals(await outcomes.until(3), [
    1,
    "recalled after 2",
    "RangeError: Enough",
  ]);
  assertEquals(await other.outcomes.until(1), ["recalled after 0"]);
  assertEquals(begun, [1, 2]);
  assertInstanceOf(reasons[0], RangeError);
  // One that hangs is not waited for either.
  const hanging = run("hang", [[], []]);
  hanging.batch.cancel(undefined);
  await main.close();
  await served;
});

for (const how of ["recall", "cancel"] as const) {
  test(`BatchRunner.${how}() keeps nothing of a batch that was not begun`, async () => {
    const answers: Message[] = [];
    let [done, cancelled] = [0, 0];
    const runner = new BatchRunner((answer) => void answers.push(answer), {
      onCancelled: (count) => cancelled += count,
      onDone: (_isCancelled, count) => done += count,
    });
    const batchOf = (id: number, invoke: () => unknown) =>
      new Batch(id, Array.from({ length: MAX_BATCH }, () => []), invoke);
    const { promise, resolve } = Promise.withResolvers<void>();
    const first = batchOf(1, () => promise);
    runner.add(first);
    const kept = batchOf(2, () => 0);
    runner.add(kept);
    const count = 3000;
    for (let id = 3; id < count + 3; id++) {
      const batch = batchOf(id, () => 0);
      runner.add(batch);
      runner[how](id, undefined);
      assertEquals(batch.held, 0);
      // The one that waits, and as many void places at most.
      assert(runner.queueLength <= 3, `${runner.queueLength} batches wait`);
    }
    assertEquals(done, count * MAX_BATCH);
    assertEquals(kept.held, MAX_BATCH);
    runner[how](1, undefined);
    assertEquals(first.held, 0);
    assertEquals(answers.map(([tag, id]) => [tag, id]), [
      ...Array.from({ length: count }, (_, n) => [TAG.recalled, n + 3]),
      [TAG.recalled, 1],
    ]);
    resolve();
    while (done < (count + 2) * MAX_BATCH) await nextTurn();
    assertEquals([kept.begun, runner.queueLength], [MAX_BATCH, 0]);
    assertEquals(cancelled, how === "cancel" ? 1 : 0);
  });
}

test("BatchRunner.recall() removes batches that wait among others", async () => {
  let begun = 0;
  const { promise, resolve } = Promise.withResolvers<void>();
  const runner = new BatchRunner(() => undefined, {
    onCancelled() {},
    onDone() {},
  });
  const count = 1000;
  for (let id = 1; id <= count; id++) {
    runner.add(new Batch(id, [[]], () => (begun++, id === 1 ? promise : 0)));
  }
  for (let id = 2; id <= count; id++) if (id % 10 !== 0) runner.recall(id);
  assert(
    runner.queueLength <= 2 * count / 10,
    `${runner.queueLength} are in the queue`,
  );
  resolve();
  while (runner.queueLength > 0) await nextTurn();
  assertEquals(begun, 1 + count / 10);
});

test("RpcEndpoint.batch() fails when the duplex ends", async () => {
  const { main, run, served } = batches(gated());
  const { outcomes } = run("work", [[2], [3]]);
  main.abort(new RangeError("Broken"));
  assertEquals(await outcomes.until(2), ["failed", "RangeError: Broken"]);
  await assertRejects(() => served, Error, "Broken");
  const late = await run("work", [[2]]).outcomes.until(2);
  assert(late[0] === "failed");
});

test("RpcEndpoint.batch() aborts when the caller is gone", async () => {
  const over = Promise.withResolvers<unknown>();
  const begun = Promise.withResolvers<void>();
  const { main, run, served } = batches({
    work: withSignal(async (signal) => {
      begun.resolve();
      over.resolve(await aborted(signal));
      await new Promise(() => {});
    }),
  });
  run("work", [[], []]);
  await begun.promise;
  main.abort(new RangeError("Broken"));
  assertInstanceOf(await over.promise, RangeError);
  await assertRejects(() => served, RangeError, "Broken");
});

test("RpcEndpoint.batch() fails while it waits for room", async () => {
  const ends: [(main: Duplex) => void, string][] = [
    [(main) => main.abort(new RangeError("Broken")), "RangeError: Broken"],
    [(main) => void main.close().catch(() => {}), "closed duplex"],
  ];
  for (const [end, text] of ends) {
    const [main, raw] = duplexPair({ windowMessages: 1 });
    const endpoint = RpcEndpoint.of(main);
    const outcomes = [new Outcomes(), new Outcomes(), new Outcomes()];
    for (const one of outcomes) endpoint.batch("work", [[1]], one);
    await raw.receive();
    end(main);
    if (text === "closed duplex") endpoint.batch("work", [[1]], outcomes[2]!);
    const [what, why] = await outcomes[2]!.until(2);
    assertEquals(what, "failed");
    assertStringIncludes(why as string, text);
    raw.abort();
  }
});

test("RpcEndpoint.batch() gives values that hold the same object", async () => {
  const same = { a: 1 };
  const { main, run } = batches({ work: () => same });
  const { outcomes } = run("work", [[], [], []]);
  assertEquals(await outcomes.until(3), [same, same, same]);
  await main.close();
});

test("RpcEndpoint.describe() gives the names of methods and the memory", async () => {
  const { main, endpoint, served } = batches({ work: () => 1, rest: () => 2 });
  const description = endpoint.describe();
  // The goodbye waits for the answer.
  const closing = main.close();
  const { methods, memory } = await description;
  assertEquals(methods, ["work", "rest"]);
  assert(memory > 0);
  await closing;
  await served;
});

test("remote() does not repeat a name of any length", async () => {
  const { main, api } = batches({ work: () => 1 });
  const names = api as unknown as Record<string, () => Promise<void>>;
  const call = names["x".repeat(100_000)]!;
  const error = await assertRejects(call, TypeError, "no such method");
  assert(error.message.length < 500);
  await main.close();
});

test("RpcEndpoint.batch() refuses a batch beyond maxCalls", async () => {
  const [main, worker] = duplexPair();
  const gate = Promise.withResolvers<void>();
  const methods = {
    async work(n: number) {
      await gate.promise;
      return n;
    },
  };
  expose(methods, worker, { maxCalls: 4 });
  const endpoint = RpcEndpoint.of(main);
  // A batch is taken while there is room for a call of it, and each call counts.
  const fits = [new Outcomes(), new Outcomes()];
  for (const outcomes of fits) {
    endpoint.batch("work", [[1], [2], [3]], outcomes);
  }
  const refused = new Outcomes();
  endpoint.batch("work", [[1], [2], [3]], refused);
  for (const outcome of await refused.until(3)) {
    assertStringIncludes(outcome as string, 'a larger "maxCalls"');
  }
  gate.resolve();
  for (const outcomes of fits) {
    assertEquals(await outcomes.until(3), [1, 2, 3]);
  }
  await main.close();
});

test("RpcEndpoint.batch() gives each call a signal of its own", async () => {
  const aborted: number[] = [];
  const begun = Promise.withResolvers<void>();
  const { main, run } = batches({
    work: withSignal((signal, n: number) => {
      signal.addEventListener("abort", () => aborted.push(n));
      if (n < 3) return n;
      begun.resolve();
      return new Promise<number>((_, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason));
      });
    }),
  });
  const { batch, outcomes } = run("work", [[1], [2], [3]]);
  await begun.promise;
  batch.cancel(new RangeError("Enough"));
  await outcomes.until(3);
  assertEquals(aborted, [3]);
  await main.close();
});

test("RpcEndpoint.batch() gives what JSON cannot carry in an array", async () => {
  const [main, worker] = duplexPair({ codec: json });
  expose({ work: (n: number) => n === 2 ? undefined : n }, worker);
  const outcomes = new Outcomes();
  RpcEndpoint.of(main).batch("work", [[1], [2], [3], [2]], outcomes);
  assertEquals(await outcomes.until(4), [1, undefined, 3, undefined]);
  await main.close();
});
