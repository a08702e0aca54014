// Copyright 2026 the Duplex authors. MIT license.

/**
 * Backpressure on calls: a caller that reads no answers has a bounded number of
 * calls begun, and two ends that do read never wait for each other forever.
 *
 * @module
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { type Duplex, ProtocolError } from "@duplex/ipc/duplex";
import { duplexPair } from "@duplex/ipc/pair";
import { expose, notifier, remote } from "@duplex/ipc/rpc";
import { DESCRIBE, MAX_BATCH, SLOT, TAG } from "../../_rpc/messages.ts";
import { MAX_WAITING_ANSWERS } from "../../_rpc/outlet.ts";
import { Gate, numbers, settle } from "../pool/_pools.ts";
import { test, withAbort } from "./_ends.ts";
import { random, seed } from "../_seed.ts";
import { within } from "../workers/_processes.ts";

/** Messages in flight in each direction, in most tests. */
const WINDOW = 64;

/** Turns of the event loop without a message, after which none is expected any more. */
const QUIET_TURNS = 20;

/** Sends messages until the peer receives no more; returns how many it received. */
async function flood(
  duplex: Duplex,
  make: (number: number) => unknown,
  most: number,
): Promise<number> {
  let sent = 0;
  for (let quiet = 0; quiet < QUIET_TURNS && sent < most; quiet++) {
    while (sent < most && duplex.trySend(make(sent + 1))) {
      sent++;
      quiet = 0;
    }
    await settle();
  }
  return sent;
}

/** Reads messages until so many have come that are no answers to other calls. */
async function read(duplex: Duplex, count: number): Promise<unknown[][]> {
  const messages: unknown[][] = [];
  while (messages.length < count) {
    messages.push(await duplex.receive() as unknown[]);
  }
  return messages;
}

/** Calls that a raw caller makes without reading an answer. */
const FLOODS: [name: string, make: (id: number) => unknown][] = [
  ["calls", (id) => [TAG.call, id, "now", []]],
  ["asynchronous calls", (id) => [TAG.call, id, "later", []]],
  ["calls that throw", (id) => [TAG.call, id, "fails", []]],
  ["calls of no method", (id) => [TAG.call, id, "none", []]],
  ["callbacks of none", (id) => [TAG.call, id, id, []]],
  ["descriptions", (id) => [TAG.call, id, DESCRIBE, []]],
  ["batches", (id) => [TAG.batch, id, "now", [[], [], []]]],
  ["batches of no method", (id) => [
    TAG.batch,
    id,
    "none",
    Array.from({ length: MAX_BATCH }, () => []),
  ]],
  [
    "calls and notifications",
    (id) => id % 2 === 0 ? [TAG.notice, "now", []] : [TAG.call, id, "now", []],
  ],
];

for (const [name, make] of FLOODS) {
  for (const alsoCalls of [false, true]) {
    const ends = alsoCalls ? " that calls itself" : "";
    test(`expose() bounds ${name} at an end${ends}`, async () => {
      const [raw, worker] = duplexPair({ windowMessages: WINDOW });
      let begun = 0;
      const value = () => ++begun;
      const served = expose(
        {
          now: value,
          later: () => Promise.resolve().then(value),
          fails: () => Promise.reject(new Error(`${++begun}`)),
        },
        worker,
        { maxCalls: WINDOW },
      );
      const own = alsoCalls
        ? remote<{ f(): void }>(worker).f().catch(() => {})
        : undefined;
      const sent = await flood(raw, make, 10_000);
      // An inbox, what is held, and what was begun before answers waited.
      const held = alsoCalls ? 1024 + WINDOW + 2 : 0;
      const most = 2 * WINDOW + held + MAX_WAITING_ANSWERS + 3 * WINDOW;
      assert(sent < most, `${sent} were received`);
      assert(begun < 6 * WINDOW, `${begun} were begun`);
      // Once the answers are read, all is answered that was sent.
      const before = begun;
      await read(raw, WINDOW);
      await settle();
      assert(raw.trySend(make(sent + 1)), "nothing was read");
      if (name.startsWith("calls and")) assert(begun > before);
      raw.abort(new Error("Enough"));
      await Promise.allSettled([served, own]);
    });
  }
}

for (const isLater of [false, true]) {
  const kind = isLater ? "asynchronous calls" : "calls";
  test(`expose() bounds the bytes of answers to ${kind}`, async () => {
    const [raw, worker] = duplexPair();
    const size = 0x1_0000;
    let begun = 0;
    const now = () => {
      begun++;
      return new Uint8Array(size);
    };
    const large = isLater ? () => Promise.resolve().then(now) : now;
    const served = expose({ large }, worker);
    await flood(raw, (id) => [TAG.call, id, "large", []], 5000);
    // A window, those that wait, and those that are begun between two looks.
    const most = 64 + MAX_WAITING_ANSWERS + (isLater ? 2 * 256 : 2);
    assert(begun <= most, `${begun} answers of ${size} bytes are held`);
    raw.abort(new Error("Enough"));
    await served.catch(() => {});
  });
}

test("expose() bounds streams whose values are not read", async () => {
  const [raw, worker] = duplexPair({ windowMessages: WINDOW });
  let begun = 0;
  const served = expose({
    *values() {
      begun++;
      for (;;) yield 1;
    },
  }, worker);
  const make = (number: number) => {
    const id = Math.ceil(number / 2);
    return number % 2 === 1
      ? [TAG.call, id, "values", []]
      : [TAG.pull, id, WINDOW];
  };
  const sent = await flood(raw, make, 10_000);
  assert(sent < 4 * WINDOW, `${sent} were received`);
  assert(begun < 3 * WINDOW, `${begun} were begun`);
  raw.abort(new Error("Enough"));
  await served.catch(() => {});
});

test("expose() bounds answers to recalls that are not read", async () => {
  const [raw, worker] = duplexPair({ windowMessages: WINDOW });
  const served = expose({ now: () => 1 }, worker);
  // The window is full, and the report of a batch is the one answer that waits.
  const calls = await flood(raw, (id) => [TAG.call, id, "now", []], WINDOW);
  await raw.send([TAG.batch, calls + 1, "now", [[]]]);
  const make = (number: number) => {
    const id = calls + 1 + Math.ceil(number / 2);
    return number % 2 === 1 ? [TAG.batch, id, "now", [[]]] : [TAG.recall, id];
  };
  const sent = await flood(raw, make, 10_000);
  assert(sent < 4 * WINDOW, `${sent} were received`);
  raw.abort(new Error("Enough"));
  await served.catch(() => {});
});

test("expose() counts functions among arguments in maxCalls", async () => {
  const [raw, worker] = duplexPair();
  const gate = new Gate();
  const served = expose({ wait: () => gate.opened }, worker, { maxCalls: 10 });
  const places = numbers(9).map((
    index,
  ) => [[0, index], SLOT.callback, index + 1]);
  await raw.send([TAG.call, 1, "wait", [numbers(9)], places]);
  await raw.send([TAG.call, 2, "wait", []]);
  await raw.send([TAG.call, 3, DESCRIBE, []]);
  for (const [tag, id] of await read(raw, 2)) {
    assertEquals(tag, TAG.error, `${id}`);
  }
  gate.open();
  assertEquals(await raw.receive(), [TAG.value, 1]);
  await raw.send([TAG.call, 4, "wait", []]);
  assertEquals(await raw.receive(), [TAG.value, 4]);
  await raw.close();
  await served;
});

test("expose() lists few of its methods in an error", async () => {
  const methods = Object.fromEntries(
    numbers(1000).map((n) => [`method${n}`, () => n]),
  );
  const [main, worker] = duplexPair();
  const served = expose(methods, worker);
  const error = await assertRejects(
    () => remote<{ none(): void }>(main).none(),
    TypeError,
    "and 980 more",
  );
  assert(error.message.length < 500);
  await main.close();
  await served;
});

test("expose() begins calls while streams fill the window", async () => {
  const [main, worker] = duplexPair({ windowMessages: 1 });
  const methods = {
    async *values() {
      for (;;) yield await 1;
    },
    add: (a: number, b: number) => a + b,
  };
  const served = expose(methods, worker);
  const api = remote<typeof methods>(main);
  let read = 0;
  let isOver = false;
  const ahead = remote<typeof methods>(main, { readAhead: 1000 });
  const count = 2 * MAX_WAITING_ANSWERS;
  const streams = numbers(count).map(async () => {
    for await (const _value of ahead.values()) if (++read && isOver) break;
  });
  for (const n of numbers(20)) assertEquals(await api.add(n, 1), n + 1);
  isOver = true;
  // A call waits for the values that were there before it, a few for each stream.
  assert(read < 20 * count * 4, `${read} values came first`);
  await Promise.all(streams);
  // Behind all that the streams still send.
  assertEquals(await api.add(1, 1), 2);
  await main.close();
  await served;
});

test("remote() sends calls that wait before the goodbye", async () => {
  const [main, worker] = duplexPair({ windowMessages: 1 });
  const seen: number[] = [];
  const methods = { note: (n: number) => seen.push(n), add: (n: number) => n };
  const served = expose(methods, worker);
  const calls = numbers(50).map((n) => remote<typeof methods>(main).add(n));
  const notes = numbers(50).map((n) => notifier<typeof methods>(main).note(n));
  const closing = main.close();
  assertEquals(await Promise.all(calls), numbers(50));
  await Promise.all(notes);
  await Promise.all([closing, served]);
  assertEquals(seen, numbers(50));
});

test("remote() keeps the order of calls and notifications", async () => {
  const [main, worker] = duplexPair({ windowMessages: 2 });
  const seen: number[] = [];
  const methods = { note: (n: number) => void seen.push(n) };
  const served = expose(methods, worker);
  await Promise.all(
    numbers(100).map((n) =>
      n % 3 === 0
        ? notifier<typeof methods>(main).note(n)
        : remote<typeof methods>(main).note(n)
    ),
  );
  await main.close();
  await served;
  assertEquals(seen, numbers(100));
});

test("remote() does not send a call that was cancelled before", async () => {
  const [main, worker] = duplexPair({ windowMessages: 1 });
  const gate = new Gate();
  const methods = { wait: () => gate.opened, add: (n: number) => n };
  const { signal, abort } = withAbort();
  const first = remote<typeof methods>(main).wait();
  const api = remote<typeof methods>(main, { signal });
  const cancelled = numbers(1000).map((n) => api.add(n));
  abort();
  const outcomes = await Promise.allSettled(cancelled);
  assert(outcomes.every(({ status }) => status === "rejected"));
  const served = expose(methods, worker);
  gate.open();
  await first;
  assertEquals(await remote<typeof methods>(main).add(7), 7);
  // Before, and after the cancelled ones.
  assertEquals(main.stats.sent, 2);
  await main.close();
  await served;
});

/** What one end offers to the other in a random conversation. */
function offers(other: () => Both) {
  return {
    add: (a: number, b: number) => a + b,
    async later(n: number) {
      for (let turn = n % 5; turn > 0; turn--) await undefined;
      return n;
    },
    fails(n: number): never {
      throw new RangeError(`${n}`);
    },
    bytes: (n: number) => new Uint8Array(n),
    async nested(depth: number): Promise<number> {
      return depth === 0 ? 0 : 1 + await other().nested(depth - 1);
    },
    async sum(n: number, get: (n: number) => unknown) {
      let sum = 0;
      for (let i = 1; i <= n; i++) sum += await get(i) as number;
      return sum;
    },
    async *count(n: number) {
      for (let i = 1; i <= n; i++) yield i;
    },
  };
}

type Both = ReturnType<typeof remote<ReturnType<typeof offers>>>;

/** One thing that an end does with the other, chosen by a number. */
async function act(api: Both, random: () => number): Promise<void> {
  const n = Math.floor(random() * 8);
  switch (Math.floor(random() * 8)) {
    case 0:
      return assertEquals(await api.add(n, 1), n + 1);
    case 1:
      return assertEquals(await api.later(n), n);
    case 2:
      return void await assertRejects(() => api.fails(n), RangeError, `${n}`);
    case 3:
      return assertEquals((await api.bytes(n * 100)).length, n * 100);
    case 4:
      return assertEquals(await api.nested(n), n);
    case 5:
      return assertEquals(
        await api.sum(n, (i: number) => Promise.resolve(i)),
        n * (n + 1) / 2,
      );
    case 6:
      return assertEquals((await Array.fromAsync(api.count(n))).length, n);
    default: {
      // Leaves the stream early.
      for await (const i of api.count(n)) if (i === 2) break;
    }
  }
}

for (const [windowMessages, window, count] of [[1, 1, 300], [4, 400, 1500]]) {
  Deno.test({
    name: `remote() never deadlocks two ends with windows of ${windowMessages}`,
    permissions: { env: ["DUPLEX_SEED"] },
    async fn() {
      const next = random(seed());
      const options = { windowMessages: windowMessages!, windowBytes: window! };
      const [one, other] = duplexPair(options);
      const [api, back]: [Both, Both] = [remote(one), remote(other)];
      const served = [expose(offers(() => api), one)];
      served.push(expose(offers(() => back), other));
      await within(Promise.all(
        numbers(2 * count!).map((n) => act(n % 2 === 0 ? api : back, next)),
      ));
      await Promise.all([one.close(), other.close(), ...served]);
    },
  });
}

test("remote() sends no call while many of the peer are held", async () => {
  const windowMessages = 512;
  const [raw, worker] = duplexPair({ windowMessages });
  const methods = { echo: (n: number) => n };
  const served = expose(methods, worker);
  const api = remote<{ f(): void }>(worker);
  const calls = [api.f()];
  // Since its first call this end holds calls in place of reading no further.
  const [first] = await read(raw, 1);
  assertEquals(first![0], TAG.call);
  const sent = await flood(raw, (id) => [TAG.call, id, "echo", [id]], 10_000);
  calls.push(api.f());
  let answers = 0;
  for (;;) {
    const [tag] = await raw.receive() as unknown[];
    if (tag === TAG.call) break;
    answers++;
  }
  // Those in its window, those that waited, and those of which too many were held.
  assert(answers > sent - 1024 - windowMessages, `${answers} came first`);
  raw.abort(new Error("Enough"));
  await Promise.allSettled([served, ...calls]);
});

test("expose() answers calls that are held after a goodbye", async () => {
  const [raw, worker] = duplexPair({ windowMessages: WINDOW });
  const notes: number[] = [];
  const served = expose({
    echo: (n: number) => n,
    note: (n: number) => void notes.push(n),
  }, worker);
  const sent = await flood(
    raw,
    (id) =>
      id % 2 === 0 ? [TAG.notice, "note", [id]] : [TAG.call, id, "echo", [id]],
    1000,
  );
  const closing = raw.close();
  const answers = await Array.fromAsync(raw) as unknown[][];
  const calls = numbers(sent).map((n) => n + 1).filter((n) => n % 2 === 1);
  assertEquals(answers, calls.map((id) => [TAG.value, id, id]));
  assertEquals(notes.length, Math.floor(sent / 2));
  await Promise.all([closing, served]);
});

test("expose() runs notifications that are held when the peer is gone", async () => {
  const [raw, worker] = duplexPair({ windowMessages: WINDOW });
  let notes = 0;
  const methods = { note: () => void notes++, echo: (n: number) => n };
  const served = expose(methods, worker);
  const own = remote<{ f(): void }>(worker).f();
  await read(raw, 1);
  const sent = await flood(
    raw,
    (id) =>
      id % 2 === 0 ? [TAG.notice, "note", []] : [TAG.call, id, "echo", [id]],
    600,
  );
  assert(notes < sent / 2 - WINDOW, "none was held");
  raw.abort(new Error("Enough"));
  await Promise.allSettled([served, own]);
  assertEquals(notes, Math.floor(sent / 2));
});

test("expose() takes what concerns calls that are held", async () => {
  const [raw, worker] = duplexPair({ windowMessages: WINDOW });
  const begun: unknown[] = [];
  const served = expose({
    note: (value: unknown) => void begun.push(value),
    *count() {
      for (let n = 1;; n++) yield n;
    },
  }, worker);
  const own = remote<{ f(): void }>(worker).f();
  await read(raw, 1);
  const first = await flood(raw, (id) => [TAG.call, id, "note", [id]], 300);
  const held: unknown[][] = [
    [TAG.call, first + 1, "count", []],
    [TAG.pull, first + 1, 2],
    [TAG.pull, first + 1, 1],
    [TAG.call, first + 2, "note", ["cancelled"]],
    [TAG.cancel, first + 2, [false]],
    [TAG.batch, first + 3, "note", [["recalled"], ["recalled"]]],
    [TAG.recall, first + 3],
    [TAG.batch, first + 4, "note", [["cancelled"]]],
    [TAG.cancel, first + 4, [false]],
    [TAG.notice, "note", ["noticed"]],
    [TAG.call, first + 5, "note", ["last"]],
  ];
  for (const message of held) await raw.send(message);
  assert(begun.length < first);
  const answers: unknown[][] = [];
  // The stream and its three values, two recalls, and the last call.
  while (answers.length < 7) {
    const [message] = await read(raw, 1);
    if (message![1] as number > first) answers.push(message!);
  }
  assertEquals(begun, [...numbers(first).map((n) => n + 1), "noticed", "last"]);
  const of = (id: number) =>
    answers.filter((answer) => answer[1] === first + id);
  assertEquals(of(1).flatMap(([tag, , values]) => tag === 7 ? values : []), [
    1,
    2,
    3,
  ]);
  assertEquals(of(2), []);
  assertEquals(of(3), [[TAG.recalled, first + 3, 0]]);
  assertEquals(of(4), [[TAG.recalled, first + 4, 0]]);
  raw.abort(new Error("Enough"));
  await Promise.allSettled([served, own]);
});

test("expose() refuses more values ahead of a call that is held", async () => {
  const [raw, worker] = duplexPair({ windowMessages: WINDOW });
  const served = expose({ f() {} }, worker);
  const own = remote<{ f(): void }>(worker).f();
  await read(raw, 1);
  const first = await flood(raw, (id) => [TAG.call, id, "f", []], 300);
  await raw.send([TAG.call, first + 1, "f", []]);
  await raw.send([TAG.pull, first + 1, 65_536]);
  await raw.send([TAG.pull, first + 1, 1]);
  await assertRejects(() => served, ProtocolError, "at most 65536");
  await Promise.allSettled([own, raw.closed]);
});

test("remote() never deadlocks two ends that make many calls at once", async () => {
  const [one, other] = duplexPair({ deadlockTimeout: 1000 });
  const methods = { echo: (n: number) => n };
  const served = [expose(methods, one), expose(methods, other)];
  const ends = [one, other].map((end) => remote<typeof methods>(end));
  // They fill several windows, and are many more than either end holds.
  const calls = ends.map((api) => numbers(30_000).map((n) => api.echo(n)));
  for (const list of calls) {
    assertEquals((await Promise.all(list)).length, 30_000);
  }
  await Promise.all([one.close(), other.close(), ...served]);
});
