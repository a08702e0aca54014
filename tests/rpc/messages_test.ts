// Copyright 2026 the Duplex authors. MIT license.

/**
 * Far sides that write their messages by hand: what is refused, and what is not
 * left pending.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
} from "@std/assert";
import { ClosedError, type Duplex, ProtocolError } from "@duplex/ipc/duplex";
import { duplexPair } from "@duplex/ipc/pair";
import { callStats, expose, reference, remote } from "@duplex/ipc/rpc";
import { MAX_BATCH, MAX_PULL, TAG } from "../../_rpc/messages.ts";
import { test } from "./_ends.ts";

const METHODS = {
  a: (value: unknown) => value,
  async *count() {
    for (let n = 0;; n++) yield n;
  },
  wait: () => new Promise<number>(() => {}),
};

const CALL = [TAG.call, 1, "a", [1]];
const PLACES = Array.from({ length: 257 }, () => [[0], 1, 1]);
const PARTS = { class: "Error", name: "Error", message: "no" };

/** What the peer sends, and the error that is reported. Call number 1 is pending. */
const FAULTS: [string, unknown[], string][] = [
  ["a number", [7], "a message: it is not an array"],
  ["a string", ["call"], "it is not an array"],
  ["null", [null], "it is not an array"],
  ["undefined", [undefined], "it is not an array"],
  ["an object", [{ 0: 1 }], "it is not an array"],
  ["an empty array", [[]], "its tag undefined is unknown"],
  ["a tag that is none", [[0]], "its tag 0 is unknown"],
  ["a tag that is not whole", [[1.5]], "its tag 1.5 is unknown"],
  ["a tag of text", [["1"]], 'its tag "1" is unknown'],
  ["a short call", [[1, 1, "a"]], 'a message "call": it has 3 items'],
  ["a long call", [[...CALL, [], {}, 1]], "it has 7 items"],
  ["a trace that is none", [[...CALL, [], 1]], "1 is not a trace"],
  ["a trace of a number", [[...CALL, [], { traceparent: 1 }]], "a trace has"],
  ["a long trace", [[...CALL, [], { a: "x".repeat(8193) }]], "a trace has"],
  ["many traces", [[
    ...CALL,
    [],
    Object.fromEntries(Array.from({ length: 9 }, (_, n) => [n, "x"])),
  ]], "a trace has at most 8 fields"],
  ["a notice with no trace", [[3, "a", [], [], 1]], "1 is not a trace"],
  ["a batch with no traces", [[2, 1, "a", [[]], {}]], "is not an array"],
  ["a batch with a bad trace", [[2, 1, "a", [[]], [1]]], "is not a trace"],
  ["a call 0", [[1, 0, "a", []]], "0 is not the number of a call"],
  ["a negative call", [[1, -1, "a", []]], "-1 is not the number"],
  ["half a call", [[1, 0.5, "a", []]], "0.5 is not the number"],
  ["a call past numbers", [[1, 2 ** 53, "a", []]], "is not the number"],
  ["a call by text", [[1, "1", "a", []]], '"1" is not the number'],
  ["no method", [[1, 1, null, []]], "null is not the name of a method"],
  ["a negative method", [[1, 1, -1, []]], "-1 is not the name of a method"],
  ["half a method", [[1, 1, 1.5, []]], "1.5 is not the name of a method"],
  ["arguments that are none", [[1, 1, "a", {}]], "an object is not an array"],
  ["places that are none", [[...CALL, {}]], "an object is not an array"],
  ["a place that is none", [[...CALL, [1]]], "1 is not a slot"],
  ["a place too far", [[...CALL, [[[1], 1, 1]]]], "not a slot of its"],
  ["a place of no kind", [[...CALL, [[[0], 99, 1]]]], "not a slot"],
  ["a place of no number", [[...CALL, [[[0], 1, -1]]]], "not a slot"],
  ["a place without a path", [[...CALL, [[0, 1, 1]]]], "not a slot"],
  ["a place with a bad path", [[...CALL, [[[null], 1, 1]]]], "not a slot"],
  ["a short place", [[...CALL, [[[0], 1]]]], "not a slot"],
  ["a place in a number", [[...CALL, [[[0, "x"], 1, 1]]]], "not a slot"],
  ["a place by number", [[1, 1, "a", [{}], [[[0, 5], 1, 1]]]], "not a slot"],
  ["a place in an array", [[1, 1, "a", [[]], [[[0, "x"], 1, 1]]]], "slot"],
  ["a place of a length", [[...CALL, [[["length"], 1, 1]]]], "not a slot"],
  ["a place of a prototype", [
    [1, 1, "a", [{}], [[[0, "__proto__"], 1, 1]]],
  ], "not a slot"],
  ["a place of an inherited", [
    [1, 1, "a", [{}], [[[0, "toString"], 1, 1]]],
  ], "not a slot"],
  [
    "a place in a map",
    [[1, 1, "a", [new Map()], [[[0, 0], 1, 1]]]],
    "not a slot",
  ],
  ["a place in a set", [
    [1, 1, "a", [new Set([1])], [[[0, 1], 1, 1]]],
  ], "not a slot"],
  ["a place in a slot", [[...CALL, [[[0], 1, 1], [[0, "x"], 1, 2]]]], "slot"],
  ["a place of all arguments", [[1, 1, "a", [1], [[[], 1, 1]]]], "not a slot"],
  ["a place of all items", [[6, 1], [7, 1, [1], [[[], 1, 1]]]], "not a slot"],
  ["what was not sent", [[...CALL, [[[0], 6, 1]]]], "function 1 was not sent"],
  ["too many places", [[...CALL, PLACES]], "at most 256 functions"],
  ["a method of no object", [[1, 1, ["a", 1], []]], "is not the name"],
  ["a signal in an answer", [[4, 1, null, [[[], 2, 0]]]], "a signal is in it"],
  ["a place in no result", [[4, 1, null, [[[0], 1, 1]]]], "not a slot"],
  ["a release of no list", [[12, 1]], "1 is not an array"],
  ["a release of no number", [[12, [["1", 1]]]], "not a released function"],
  ["a release of nothing", [[12, [[1, 1]]]], "it was sent 0 times"],
  ["a call twice", [CALL, CALL], "Cannot run call 1: call 1 came before it"],
  ["an older call", [[1, 5, "a", []], CALL], "call 5 came before it"],
  ["a batch of nothing", [[2, 1, "a", []]], "this one 0"],
  [
    "a batch of too many",
    [[2, 1, "a", Array.from({ length: MAX_BATCH + 1 }, () => [])]],
    `this one ${MAX_BATCH + 1}`,
  ],
  ["a batch of callbacks", [[2, 1, 1, [[]]]], "1 is not the name of a method"],
  ["a batch of values", [[2, 1, "a", [[], 7]]], "7 is not an array"],
  ["a batch after its call", [CALL, [2, 1, "a", [[]]]], "came before it"],
  ["a short notice", [[3, "a"]], 'a message "notice": it has 2 items'],
  ["a notice by number", [[3, 1, []]], "1 is not the name of a method"],
  ["a notice of a value", [[3, "a", 1]], "1 is not an array"],
  ["a short value", [[4]], "it has 1 items"],
  ["a long value", [[4, 1, 2, [], 3]], "it has 5 items"],
  ["an answer to nothing", [[4, 2, "x"]], "an answer to call 2: there were 1"],
  ["an error of nothing", [[5, 9, [false]]], "an answer to call 9"],
  ["a short error", [[5, 1]], "it has 2 items"],
  ["an error that is none", [[5, 1, 7]], "7 is not a failure"],
  ["an error of no kind", [[5, 1, [1, 2]]], "an array is not a failure"],
  ["an error without parts", [[5, 1, [true]]], "an array is not a failure"],
  ["an error of null", [[5, 1, [true, null]]], "are not those of an error"],
  ["an error of text", [[5, 1, [true, "no"]]], "are not those of an error"],
  ["an error of no class", [[5, 1, [true, { ...PARTS, class: 1 }]]], "parts"],
  ["an error of no name", [[5, 1, [true, { ...PARTS, name: null }]]], "parts"],
  ["an error of no words", [[5, 1, [true, { ...PARTS, message: 1 }]]], "parts"],
  ["a stack of 1", [[5, 1, [true, { ...PARTS, stack: 1 }]]], "parts"],
  ["fields of 1", [[5, 1, [true, { ...PARTS, fields: 1 }]]], "parts"],
  ["errors of 1", [[5, 1, [true, { ...PARTS, errors: 1 }]]], "parts"],
  ["a cause of 1", [[5, 1, [true, { ...PARTS, cause: 1 }]]], "parts"],
  ["causes too deep", [[5, 1, causes(18)]], "parts are not those"],
  ["values of no stream", [[7, 1, [1]]], '"wait": it is out of place'],
  ["values that are none", [[7, 1, 1]], "1 is not an array"],
  ["a stream twice", [[6, 1], [6, 1]], "it is out of place"],
  [
    "values too many",
    [[6, 1], [7, 1, [1]]],
    "1 more arrived than were requested",
  ],
  ["a chunk of a call", [[13, 1, 64, 1]], '"wait": it is out of place'],
  ["a chunk of values", [[6, 1], [13, 1, 64, 1]], "is not a web stream"],
  ["a cheap chunk", [[13, 1, 63, 1]], "63 is not the cost of a chunk"],
  ["a dear chunk", [[13, 1, 1025, 1]], "1025 is not the cost of a chunk"],
  ["a short chunk", [[13, 1]], 'a message "chunk": it has 2 items'],
  ["a long stream", [[6, 1, 1]], 'a message "stream": it has 3 items'],
  ["a recall of a call", [[11, 1, 0]], "it is out of place"],
  ["a pull of nothing", [[8, 1, 0]], "it requests 0 values"],
  ["a pull of too many", [[8, 1, MAX_PULL + 1]], `requests ${MAX_PULL + 1}`],
  ["a pull of text", [[8, 1, "1"]], 'it requests "1" values'],
  [
    "pulls of too many",
    [[1, 1, "count", []], [8, 1, MAX_PULL], [8, 1, MAX_PULL]],
    `at most ${MAX_PULL} may be requested`,
  ],
  ["a short cancel", [[9, 1]], "it has 2 items"],
  ["a cancel of no kind", [[9, 1, []]], "an array is not a failure"],
  ["a cancel of no error", [[9, 1, [true, 7]]], "are not those of an error"],
  ["a short recall", [[10]], "it has 1 items"],
  ["a short end of a recall", [[11, 1]], "it has 2 items"],
  ["a long end of a recall", [[11, 1, 1, 1, 1]], "it has 5 items"],
  ["a recall with a part of a time", [[11, 1, 1, 0.5]], "0.5 is not a time"],
  ["items with a time of text", [[7, 1, [1], [], "1"]], '"1" is not a time'],
  ["an error with a time below 0", [[5, 1, [false], -1]], "-1 is not a time"],
  [
    "an end of a recall of text",
    [[11, 1, "1"]],
    '"1" is not a number of calls',
  ],
];

/** An error with so many causes, one in the other. */
function causes(depth: number): unknown[] {
  return [true, depth === 0 ? PARTS : { ...PARTS, cause: causes(depth - 1) }];
}

/** Waits for the end of a call, of a stream if it gives one. */
async function outcomeOf(call: Promise<unknown>): Promise<void> {
  const value = await call;
  assert(typeof value === "object" && value !== null);
  for await (const _ of value as AsyncIterable<unknown>);
}

for (const [what, messages, text] of FAULTS) {
  test(`expose() refuses ${what}`, async () => {
    const [near, raw] = duplexPair();
    const served = expose(METHODS, near);
    const api = remote<typeof METHODS>(near);
    const call = outcomeOf(api.wait());
    for (const message of messages) await raw.send(message);
    const error = await assertRejects(() => call, ProtocolError);
    assertStringIncludes(error.message, text);
    await assertRejects(() => served, ProtocolError, text);
    await assertRejects(() => raw.closed, Error, text);
    await assertRejects(() => api.wait(), ProtocolError, text);
  });
}

/** An end with {@linkcode METHODS}, and one that is written by hand. */
function rawEnd(): { raw: Duplex; near: Duplex } {
  const [near, raw] = duplexPair();
  expose(METHODS, near);
  return { raw, near };
}

test("expose() answers with arrays", async () => {
  const { raw } = rawEnd();
  const exchanges: [sent: unknown[], answer: unknown[]][] = [
    [[1, 1, "a", ["x"]], [4, 1, "x"]],
    [[1, 2, "a", []], [4, 2]],
    [[2, 3, "a", [["y"], [], [null]]], [7, 3, ["y", undefined, null], []]],
    [[1, 4, "count", []], [6, 4]],
    [[8, 4, 1], [7, 4, [0]]],
    [[9, 4, [false]], []],
    [[1, 70, "a", [5]], [4, 70, 5]],
    // Without tracing, traces are ignored.
    [[1, 71, "a", [6], [], { traceparent: "00-1" }], [4, 71, 6]],
    [[2, 72, "a", [[7], [8]], [null, {}]], [7, 72, [7, 8], []]],
    [[3, "a", [], [], {}], []],
  ];
  for (const [sent, answer] of exchanges) {
    await raw.send(sent);
    if (answer.length === 0) continue;
    const received = await raw.receive() as unknown[];
    // The answer to a batch ends with the time that it has taken.
    const time = sent[0] === 2 ? received.pop() as number : 0;
    assert(Number.isSafeInteger(time) && time >= 0);
    assertEquals(received, answer);
  }
  await raw.close();
});

test("expose() takes no notice of what is over", async () => {
  const { raw, near } = rawEnd();
  const first = remote<{ x(): string }>(near).x();
  assertEquals(await raw.receive(), [1, 1, "x", []]);
  await raw.send([4, 1, "answer"]);
  assertEquals(await first, "answer");
  const late: unknown[] = [
    ...[[4, 1, "again"], [5, 1, [false]], [6, 1], [7, 1, [1]], [11, 1, 0]],
    ...[[8, 1, 5], [9, 1, [false, "x"]], [10, 1], [8, 99, 1], [10, 99]],
  ];
  for (const message of late) await raw.send(message);
  await raw.send([1, 7, "a", ["still here"]]);
  assertEquals(await raw.receive(), [4, 7, "still here"]);
  await raw.close();
});

test("expose() answers where nothing is exposed", async () => {
  const [near, raw] = duplexPair();
  remote(near);
  await raw.send([1, 1, "a", []]);
  const [tag, id, [isError, parts]] = await raw.receive() as [
    number,
    number,
    [boolean, { class: string; message: string }],
  ];
  assertEquals([tag, id, isError, parts.class], [5, 1, true, "TypeError"]);
  assertStringIncludes(parts.message, "the peer exposes no methods");
  await Promise.all([near.close(), raw.close()]);
});

test("remote() answers callbacks until they are released", async () => {
  const [near, raw] = duplexPair();
  let calls = 0;
  const call = remote<{ x(f: () => number): string }>(near).x(() => ++calls);
  const sent = await raw.receive() as number[][][];
  assertEquals(sent.slice(3), [[null], [[[0], 1, 1]]]);
  const id = sent[4]![0]![2]!;
  await raw.send([1, 1, id, []]);
  assertEquals(await raw.receive(), [4, 1, 1]);
  await raw.send([4, 1, "answer"]);
  assertEquals(await call, "answer");
  await raw.send([1, 2, id, []]);
  assertEquals(await raw.receive(), [4, 2, 2]);
  await raw.send([12, [[id, 1]]]);
  for (const [key, n] of [[id, 3], [id + 1, 4]] as const) {
    await raw.send([1, n, key, []]);
    const [tag, to, [, parts]] = await raw.receive() as [
      number,
      number,
      [boolean, { message: string }],
    ];
    assertEquals([tag, to], [5, n]);
    assertStringIncludes(
      parts.message,
      "Cannot call a callback: it is not a function",
    );
  }
  assertEquals(calls, 2);
  await Promise.all([near.close(), raw.close()]);
});

test("expose() refuses a slot in an object that the peer sends back", async () => {
  const [near, raw] = duplexPair();
  const pay = () => "paid";
  const account = { pay };
  expose({ open: () => reference(account), take() {} }, near);
  await raw.send([1, 1, "open", []]);
  assertEquals(await raw.receive(), [4, 1, null, [[[], 3, 1]]]);
  await raw.send([1, 2, "take", [{ pay: null }], [
    [[0], 6, 1],
    [[0, "pay"], 1, 9],
    [[0, "other"], 1, 10],
  ]]);
  await assertRejects(() => near.closed, ProtocolError, "not a slot");
  // A path that is found in the placeholder does not lead into the object either.
  const [near2, raw2] = duplexPair();
  expose({ open: () => reference(account), take() {} }, near2);
  await raw2.send([1, 1, "open", []]);
  await raw2.receive();
  const slots = [[[0], 6, 1], [[0, "pay"], 1, 9]];
  await raw2.send([1, 2, "take", [{ pay: null }], slots]);
  assertEquals(await raw2.receive(), [4, 2]);
  assertStrictEquals(account.pay, pay);
  assertEquals(callStats(near).running, 0);
  await raw2.close();
});

test("expose() aborts a writable whose stream fails at once", async () => {
  const { promise, resolve } = Promise.withResolvers<unknown>();
  const [near, raw] = duplexPair();
  expose({ give: () => [new WritableStream({ abort: resolve })] }, near);
  await raw.send([1, 1, "give", []]);
  await raw.receive();
  await raw.send([1, 2, 1, [9]]);
  assertEquals(await raw.receive(), [1, 1, 9, []]);
  // Both are read before the writable is opened.
  const sends = [raw.send([6, 1]), raw.send([5, 1, [false, "stop"]])];
  await Promise.all(sends);
  assertEquals(await promise, "stop");
  assertEquals(await raw.receive(), [4, 2]);
  await raw.close();
});

test("remote() ends a stream that can ask for no more", async () => {
  const [near, raw] = duplexPair();
  const api = remote<typeof METHODS>(near, { readAhead: 2 });
  const stream = api.count();
  const first = stream.next();
  await raw.receive();
  await raw.send([6, 1]);
  assertEquals(await raw.receive(), [8, 1, 2]);
  await raw.send([7, 1, [0, 1]]);
  assertEquals(await first, { value: 0, done: false });
  const closing = near.close();
  assertEquals(await stream.next(), { value: 1, done: false });
  // The peer has not sent its goodbye yet.
  await assertRejects(() => stream.next(), ClosedError, "a closed duplex");
  await raw.close();
  await closing;
});

/** An end that reads and writes streams, and one that is written by hand. */
function rawStreams() {
  const [near, raw] = duplexPair();
  const written = Promise.withResolvers<unknown>();
  expose({
    read: (body: ReadableStream) => Array.fromAsync(body),
    write: async (sink: WritableStream) => {
      const writer = sink.getWriter();
      await writer.write("a");
      await writer.close();
    },
    give: () => [
      ReadableStream.from(["b"]),
      new WritableStream({ write: written.resolve }),
    ],
  }, near);
  return { near, raw, written: written.promise };
}

/** Sends messages, and receives the expected ones in turn. */
async function converse(
  raw: Duplex,
  messages: readonly (["send" | "receive", ...unknown[]])[],
): Promise<void> {
  for (const [direction, ...message] of messages) {
    if (direction === "send") await raw.send(message);
    else assertEquals(await raw.receive(), message);
  }
}

test("expose() reads and writes streams of the peer as calls", async () => {
  const { raw } = rawStreams();
  await converse(raw, [
    ["send", 1, 1, "read", [null], [[[0], 4, 7]]],
    ["receive", 1, 1, 7, []],
    ["send", 6, 1],
    ["receive", 12, [[7, 1]]],
    ["receive", 8, 1, 1024],
    ["send", 13, 1, 600, "x"],
    ["receive", 8, 1, 600],
    ["send", 13, 1, 64],
    ["send", 4, 1],
    ["receive", 4, 1, ["x", undefined]],
    ["send", 1, 2, "write", [null], [[[0], 5, 8]]],
    ["receive", 1, 2, 8, [1]],
    ["send", 1, 3, 1, []],
    ["receive", 6, 3],
    ["send", 8, 3, 1024],
    ["receive", 13, 3, 64, "a"],
    ["receive", 4, 3],
    ["send", 4, 2],
    ["receive", 12, [[8, 1]]],
    ["receive", 4, 2],
  ]);
  await raw.close();
});

test("expose() gives its streams to calls of the peer", async () => {
  const { raw, written } = rawStreams();
  await converse(raw, [
    ["send", 1, 1, "give", []],
    ["receive", 4, 1, [null, null], [[[0], 4, 1], [[1], 5, 2]]],
    ["send", 1, 2, 1, []],
    ["receive", 6, 2],
    ["send", 8, 2, 1024],
    ["receive", 13, 2, 64, "b"],
    ["receive", 4, 2],
    ["send", 1, 3, 2, [9]],
    ["receive", 1, 1, 9, []],
    ["send", 6, 1],
    ["receive", 8, 1, 1024],
    ["send", 13, 1, 64, "c"],
  ]);
  assertEquals(await written, "c");
  await converse(raw, [["send", 4, 1], ["receive", 4, 3]]);
  await raw.close();
});

test("expose() refuses a stream of the peer that breaks the rules", async () => {
  const sends: [string, unknown[][], string][] = [
    ["values", [[6, 1], [7, 1, [1]]], "they have no cost"],
    ["a chunk too many", [[6, 1], [13, 1, 1024], [13, 1, 64]], "not requested"],
  ];
  for (const [what, messages, text] of sends) {
    const { raw, near } = rawStreams();
    await raw.send([1, 1, "give", []]);
    await raw.receive();
    await raw.send([1, 2, 2, [9]]);
    assertEquals(await raw.receive(), [1, 1, 9, []], what);
    for (const message of messages) await raw.send(message);
    await assertRejects(() => near.closed, ProtocolError, text);
  }
  // Only the stream fails, and it can be used once.
  for (const args of [[], ["a"], [0]]) {
    const { raw } = rawStreams();
    await raw.send([1, 1, "give", []]);
    await raw.receive();
    await raw.send([1, 2, 2, args]);
    assertEquals(await raw.receive(), [4, 2]);
    await raw.send([1, 3, 2, [9]]);
    assertStringIncludes(JSON.stringify(await raw.receive()), "used before");
    await raw.close();
  }
});
