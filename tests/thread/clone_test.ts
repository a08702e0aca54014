// Copyright 2026 the Duplex authors. MIT license.

/**
 * What a clone carries between threads, how its size is measured, and what is
 * rejected.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertFalse,
  assertInstanceOf,
  assertNotStrictEquals,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { ProtocolError } from "../../duplex.ts";
import { SeparateList } from "../../_codec/separate_list.ts";
import { makeCloneable, receiveClone } from "../../_thread/clone.ts";
import { SAMPLE_VALUES } from "../_sample_values.ts";

/** Sends a message through the clone, like a post to a thread. */
function clone<T>(message: T, transfer: Transferable[] = []): T {
  const { cloneable } = makeCloneable(message, transfer);
  return receiveClone(structuredClone(cloneable, { transfer })) as T;
}

Deno.test({
  name: "makeCloneable() carries every value unchanged",
  permissions: {},
  async fn(t) {
    for (const [what, value] of SAMPLE_VALUES) {
      await t.step(what, () => assertEquals(clone(value), value));
    }
  },
});

Deno.test({
  name: "makeCloneable() carries cycles and shared references",
  permissions: {},
  fn() {
    const shared = { n: 1 };
    const map = new Map<unknown, unknown>([[shared, shared]]);
    const message: Record<string, unknown> = { one: shared, map };
    message.self = [message, map];
    const back = clone(message) as {
      one: unknown;
      map: typeof map;
      self: unknown[];
    };
    assertStrictEquals(back.self[0], back);
    assertStrictEquals(back.self[1], back.map);
    assertStrictEquals(back.map.get(back.one), back.one);
  },
});

Deno.test({
  name: "makeCloneable() shares shared memory",
  permissions: {},
  fn() {
    const cells = new Int32Array(new SharedArrayBuffer(8), 4);
    const back = clone({ cells, memory: cells.buffer });
    cells[0] = 42;
    assertEquals([back.cells[0], back.cells.byteOffset], [42, 4]);
    assertEquals(new Int32Array(back.memory)[1], 42);
  },
});

Deno.test({
  name: "makeCloneable() carries arrays with their fields",
  permissions: {},
  fn() {
    const shared = { n: 1 };
    const list = Object.assign([shared, 2], { first: shared, "a b": [3] });
    const back = clone({ list, match: /(?<x>b)/d.exec("ab") });
    assertEquals([...back.list], [{ n: 1 }, 2]);
    assertStrictEquals(back.list.first, back.list[0]);
    assertEquals(back.list["a b"], [3]);
    assertEquals([back.match!.index, back.match!.input], [1, "ab"]);
    assertEquals({ ...back.match!.groups }, { x: "b" });
  },
});

class OwnError extends TypeError {
  override name = "OwnError";
  readonly code = 7;
}

Deno.test({
  name: "makeCloneable() carries errors with class, name, cause and fields",
  permissions: {},
  fn() {
    const inner = new OwnError("Inner", { cause: "the cause" });
    const both = new AggregateError([inner, "text"], "Both");
    const message = Object.assign(new RangeError("Outer", { cause: both }), {
      own: { inner },
    });
    Object.assign(message.own, { message });
    const back = clone(message);
    assertInstanceOf(back, RangeError);
    assertStrictEquals(back.stack, message.stack);
    assertInstanceOf(back.cause, AggregateError);
    const [first, text] = back.cause.errors;
    assertInstanceOf(first, TypeError);
    assertEquals([first.name, first.message, text], [
      "OwnError",
      "Inner",
      "text",
    ]);
    assertEquals([first.cause, (first as OwnError).code], ["the cause", 7]);
    assertStrictEquals(back.own.inner, first);
    assertStrictEquals((back.own as Record<string, unknown>).message, back);
    assertFalse(Object.keys(back).includes("cause"));
    const suppressed = clone(new SuppressedError(inner, 1, "Hidden"));
    assertInstanceOf(suppressed, SuppressedError);
    assertEquals([suppressed.error.code, suppressed.suppressed], [7, 1]);
    const aborted = clone(new DOMException("Stop", "AbortError"));
    assertInstanceOf(aborted, DOMException);
    assertEquals([aborted.name, aborted.message], ["AbortError", "Stop"]);
  },
});

Deno.test({
  name: "makeCloneable() moves transferred buffers and copies the rest",
  permissions: {},
  fn() {
    const [moved, copied] = [new Uint8Array([1]), new Uint8Array([2])];
    const back = clone({ moved, copied }, [moved.buffer]);
    assertEquals(back, { moved: new Uint8Array([1]), copied });
    assert(moved.buffer.detached);
    assertFalse(copied.buffer.detached);
  },
});

Deno.test({
  name:
    "makeCloneable() rejects values that cannot be sent and names their place",
  permissions: {},
  async fn(t) {
    const detached = new ArrayBuffer(1);
    detached.transfer();
    const shrunk = new ArrayBuffer(8, { maxByteLength: 8 });
    const beyond = new Uint8Array(shrunk, 4, 4);
    shrunk.resize(0);
    const view = new Uint8Array(4);
    const bytes = [view.buffer, view.buffer];
    const { port1, port2 } = new MessageChannel();
    const locked = new ReadableStream();
    locked.getReader();
    let deep: unknown = 1;
    for (let depth = 0; depth < 600; depth++) deep = [deep];
    const cases: [string, unknown, Transferable[], string][] = [
      ["a function", { a: [() => 1] }, [], '"$.a[0]" is a function'],
      ["a symbol", new Map([["k", Symbol()]]), [], '"$.get("k")" is a symbol'],
      ["a promise", [Promise.resolve()], [], '"$[0]" is a Promise'],
      [
        "Headers",
        { at: new Headers() },
        [],
        '"$.at" is a Headers, which cannot',
      ],
      [
        "a port that is not transferred",
        { ports: [port1] },
        [],
        '"$.ports[0]" is a MessagePort, which cannot be sent; it can be moved',
      ],
      ["a locked stream", 1, [locked], "Cannot transfer [object Readable"],
      [
        "a function in an error",
        Object.assign(new Error(), { run() {} }),
        [],
        '"$.run" is a function',
      ],
      [
        "a function in a field of an array",
        [Object.assign([1], { run() {} })],
        [],
        '"$[0].run" is a function',
      ],
      ["a view out of bounds", { v: beyond }, [], '"$.v" is a view beyond'],
      [
        "a buffer that was transferred",
        [detached],
        [],
        '"$[0]" is a detached ArrayBuffer',
      ],
      ["a value that is too deep", deep, [], "nested too deep"],
      ["transferring a buffer twice", view, bytes, "only once"],
      [
        "transferring a detached buffer",
        1,
        [detached],
        "Cannot transfer [object Array",
      ],
      [
        "transferring a view",
        view,
        [view as unknown as ArrayBuffer],
        "Cannot transfer [object Uint8Array]",
      ],
    ];
    for (const [name, value, transfer, text] of cases) {
      await t.step(name, () => {
        const error = assertThrows(
          () => makeCloneable(value, transfer),
          TypeError,
        );
        assertStringIncludes(error.message, text);
      });
    }
    assertFalse(view.buffer.detached);
    port1.close();
    port2.close();
  },
});

Deno.test({
  name: "makeCloneable() carries proxies, and reads getters once",
  permissions: {},
  fn() {
    let reads = 0;
    const value = {
      get once() {
        return ++reads;
      },
      list: new Proxy([1, { a: 2 }], {}),
    };
    const record = new Proxy(value, {});
    const back = clone({ record, memory: new SharedArrayBuffer(1) });
    assertEquals(back.record, { once: 1, list: [1, { a: 2 }] });
    assertEquals(reads, 1);
  },
});

Deno.test({
  name: "makeCloneable() keeps the items of a SeparateList apart",
  permissions: {},
  fn() {
    const memory = new SharedArrayBuffer(1);
    const [options, bytes] = [{ n: 1 }, new Uint8Array([1])];
    const item = [options, options, bytes, memory];
    const back = clone(["batch", SeparateList.from([item, item])]);
    const [one, two] = back[1] as [unknown[], unknown[]];
    assertEquals(one, [options, options, bytes, memory]);
    assertEquals(one, two);
    assertStrictEquals(two[0], two[1]);
    assertNotStrictEquals(one[0], two[0]);
    assertNotStrictEquals(
      (one[2] as Uint8Array).buffer,
      (two[2] as Uint8Array).buffer,
    );
  },
});

Deno.test({
  name: "makeCloneable() carries a URL once, and reads its note with a check",
  permissions: "none",
  fn() {
    const url = new URL("a:b");
    const error = new Error("m", { cause: url });
    const { cloneable } = makeCloneable([url, { url }, error, new Set([url])]);
    const cloned = structuredClone(cloneable);
    const [one, { url: two }, { cause }, set] = receiveClone(cloned) as [
      URL,
      { url: URL },
      Error,
      Set<URL>,
    ];
    assertInstanceOf(one, URL);
    assertEquals(one.href, "a:b");
    assert(one === two && one === cause && set.has(one) && set.size === 1);
    const root = clone<URL>(url);
    assertEquals(root.href, "a:b");
    for (const note of [[{}, 0, "a:b"], [{}, 1, "A:b"], [{}, 2, "now"], 1]) {
      assertThrows(
        () => receiveClone([null, [], [note]]),
        ProtocolError,
        "its note of a text is not valid",
      );
    }
    assertThrows(() => receiveClone([null, []]), ProtocolError, "no message");
  },
});

Deno.test({
  name: "makeCloneable() carries objects that the runtime clones",
  permissions: {},
  async fn() {
    const blob = new Blob(["text"], { type: "text/plain" });
    const memory = new WebAssembly.Memory({
      initial: 1,
      maximum: 1,
      shared: true,
    });
    const back = clone({ blob, memory, boxed: Object("a") });
    assertEquals(await back.blob.text(), "text");
    assertInstanceOf(back.memory, WebAssembly.Memory);
    assertEquals(back.boxed, Object("a"));
    // Memory that is not shared cannot be cloned.
    assertThrows(
      () => makeCloneable([new WebAssembly.Memory({ initial: 1 })]),
      TypeError,
      '"$[0]" is a WebAssembly.Memory, which cannot be sent',
    );
  },
});

Deno.test({
  name: "makeCloneable() counts the bytes of a message",
  permissions: {},
  async fn(t) {
    const size = 100_000;
    const buffer = new ArrayBuffer(size);
    const cases: [string, unknown, Transferable[], number][] = [
      ["text", "x".repeat(size), [], size],
      ["a name", { ["x".repeat(size)]: 1 }, [], size],
      [
        "a field of an array",
        Object.assign([], { x: "x".repeat(size) }),
        [],
        size,
      ],
      [
        "an error without texts",
        Object.assign(new Error(), { message: {}, stack: Symbol(), x: buffer }),
        [],
        size,
      ],
      ["an integer", 1n << BigInt(8 * size), [], size],
      ["a buffer", [buffer], [], size],
      ["a transferred buffer", buffer, [buffer], size],
      ["a part of a buffer", new Uint8Array(buffer, 0, 1), [], size],
      [
        "a buffer seen often",
        [
          buffer,
          new Uint8Array(buffer),
          new DataView(buffer),
        ],
        [],
        size,
      ],
      ["an error", new Error("x".repeat(size)), [], 2 * size],
      ["shared memory", new SharedArrayBuffer(size), [], 0],
    ];
    for (const [name, value, transfer, expected] of cases) {
      await t.step(name, () => {
        const { size } = makeCloneable(value, transfer);
        assert(size >= expected && size < expected + 1000, `${size}`);
      });
    }
  },
});

Deno.test({
  name: "makeCloneable() rethrows the error of a getter",
  permissions: {},
  fn() {
    const thrown = new TypeError("Mine");
    const message = {
      get bad() {
        throw thrown;
      },
    };
    assertStrictEquals(assertThrows(() => makeCloneable(message)), thrown);
  },
});

Deno.test({
  name: "receiveClone() rejects posts that the package never sends",
  permissions: {},
  async fn(t) {
    const error = new Error("x");
    const cases: [string, unknown[]][] = [
      ["a message without its errors", [1, 1]],
      ["an error entry that is not a list", [1, [5]]],
      ["an error entry for a value that is not an error", [1, [[
        5,
        "TypeError",
        "n",
        [],
        undefined,
        {},
      ]]]],
      ["fields that are not an object", [1, [[
        error,
        "Error",
        "n",
        [],
        undefined,
        null,
      ]]]],
    ];
    for (const [name, cloneable] of cases) {
      await t.step(name, () => {
        assertThrows(() => receiveClone([...cloneable, []]), ProtocolError);
      });
    }
    assertThrows(() => receiveClone("text"), ProtocolError);
    const record = {};
    const notes = [[record, "Array", undefined, [], undefined, {}]];
    assertThrows(() => receiveClone([record, notes, []]), ProtocolError);
    assertStrictEquals(Object.getPrototypeOf(record), Object.prototype);
  },
});
