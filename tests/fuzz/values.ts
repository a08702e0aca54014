// Copyright 2026 the Duplex authors. MIT license.

/**
 * Values of every kind that a program may try to send, including those that
 * cannot be sent.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import type { Draw } from "./draw.ts";
import { TEMPORAL } from "../codec/_value_rows.ts";
import { WORDS } from "./msgpack_bytes.ts";

const NUMBERS: readonly number[] = [
  ...[0, -0, 1, -1, 31, 32, -32, -33, 127, 128, -128, -129, 255, 256, 32_767],
  ...[-32_768, -32_769, 65_535, 65_536, 2 ** 31 - 1, 2 ** 31, -(2 ** 31)],
  ...[-(2 ** 31) - 1, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1, 2 ** 53, -(2 ** 53)],
  ...[1.5, -1e-300, 1e300, 5e-324, NaN, Infinity, -Infinity, 0.1],
];

const BIGINTS: readonly bigint[] = [
  ...[0n, 1n, -1n, 2n ** 53n, -(2n ** 53n), 2n ** 63n - 1n, 2n ** 63n],
  ...[-(2n ** 63n), -(2n ** 63n) - 1n, 2n ** 64n - 1n, 2n ** 64n, 2n ** 255n],
  ...[2n ** 256n, -(3n ** 500n)],
];

const TEXTS: readonly string[] = [
  ...WORDS,
  ...["\ud800", "a\udfff", "x".repeat(99), "y".repeat(100), "z".repeat(101)],
  ...["é".repeat(15), "é".repeat(16), "é".repeat(127), "é".repeat(128)],
  ...["ä".repeat(32_767), "b".repeat(65_535), "c".repeat(65_536)],
];

const VIEWS = [
  Int8Array,
  Uint8ClampedArray,
  Int16Array,
  Uint16Array,
  Int32Array,
  Uint32Array,
  Float16Array,
  Float32Array,
  Float64Array,
  BigInt64Array,
  BigUint64Array,
  DataView,
] as const;

class OwnError extends RangeError {
  override name = "OwnError";
}

class OwnArray extends Array {}

class OwnBytes extends Uint8Array {}

class Point {
  x = 1;
  #hidden = 2;
  get y() {
    return this.#hidden;
  }
}

/** Values that arrive changed, as the plain kind as which they are sent. */
const CHANGED: readonly (() => unknown)[] = [
  () => new Point(),
  () => Object.assign(Object.create(null), { a: 1 }),
  () => Buffer.from("text"),
  () => OwnArray.from([1, 2]),
  () => new OwnBytes(3),
  () => new OwnError("own"),
  () => Object.assign(new Error("m"), { name: 7, message: { a: 1 } }),
  () => Object.assign(new Error("m"), { stack: 5, cause: undefined }),
  () => ({ [Symbol("s")]: 1, a: 2 }),
  () => ({
    get a() {
      return 1;
    },
  }),
  () => Object.assign(/a/g, { lastIndex: 5 }),
  () => new Uint8Array(new ArrayBuffer(8, { maxByteLength: 16 }), 2, 3),
  () => Object.assign(new Map(), { extra: 1 }),
  () => /(?<x>b)/d.exec("abc"),
  () => Object.assign([], { 4294967294: 1, 4294967295: 2 }),
];

/** Values that mostly cannot be sent. */
const UNSENDABLE: readonly (() => unknown)[] = [
  () => () => {},
  () => Symbol("s"),
  () => Promise.resolve(),
  () => new WeakMap(),
  () => new SharedArrayBuffer(8),
  () => new Uint8Array(new SharedArrayBuffer(8)),
  () => detached(),
  () => detachedView(),
  () => outOfBounds(),
  () => new Headers(),
  () => readAsAnother(),
  () => new Proxy({}, {}),
  () => new Proxy([1, 2], {}),
  () => new Proxy(new Map(), {}),
  () => Object(Symbol("boxed")),
  () => new Date(NaN),
  () => ({ toJSON: () => 1 }),
  () => ({ [Symbol.toStringTag]: "Map" }),
  () => (function* () {})(),
  () => new Error("m", { cause: () => {} }),
  () => new AggregateError([Symbol("s")], "m"),
  () => new RegExp("a".repeat(30_000)),
  () => new RegExp("\\p{L}".repeat(700), "v"),
  () => growing(),
];

/** A URL whose text is read as one without a host. */
function readAsAnother(): URL {
  const url = new URL("file://a/b");
  url.pathname = "C:/x";
  return url;
}

function detached(): ArrayBuffer {
  const buffer = new ArrayBuffer(8);
  buffer.transfer();
  return buffer;
}

function detachedView(): Uint8Array {
  const view = new Uint8Array(8);
  view.buffer.transfer();
  return view;
}

function outOfBounds(): Uint8Array {
  const buffer = new ArrayBuffer(16, { maxByteLength: 16 });
  const view = new Uint8Array(buffer, 8, 8);
  buffer.resize(4);
  return view;
}

function cycle(): unknown {
  const list: unknown[] = [];
  list.push({ list });
  return list;
}

function shared(): unknown {
  const part = { a: 1 };
  return [part, new Map([[part, 1]]), new Error("m", { cause: part })];
}

/** An error, a set and an array with a field, each of which contains itself. */
function cycles(): unknown {
  const error = new Error("m", { cause: 1 });
  error.cause = error;
  const set = new Set<unknown>([error]);
  const list = Object.assign([set], { list: [set] as unknown });
  set.add(set).add(list);
  return Object.assign(list, { list });
}

/** A map that grows while it is encoded. */
function growing(): unknown {
  const map = new Map<unknown, unknown>();
  map.set("a", {
    get a() {
      map.set({}, 1);
      return 1;
    },
  });
  return map;
}

/** Values with objects that occur again, which JSON cannot carry. */
const REPEATS: readonly (() => unknown)[] = [
  () => cycle(),
  () => shared(),
  () => cycles(),
];

/** The kinds of values to generate. */
export interface Kinds {
  /** Whether to include values that arrive changed. */
  readonly changed: boolean;
  /** Whether to include values that cannot be sent. */
  readonly unsendable: boolean;
  /** Whether to include only values that JSON supports. */
  readonly json: boolean;
  /** Whether to include only values that `structuredClone` carries. */
  readonly cloned?: boolean;
  /** Whether values may be nested too deep. */
  readonly deep: boolean;
}

/** Generates values. */
export class ValueMaker {
  readonly #draw: Draw;
  readonly #kinds: Kinds;
  #left = 80;

  constructor(draw: Draw, kinds: Kinds) {
    this.#draw = draw;
    this.#kinds = kinds;
  }

  value(depth = 0): unknown {
    const draw = this.#draw;
    const { changed, unsendable, json } = this.#kinds;
    this.#left--;
    if (unsendable && draw.oneIn(60)) return draw.pick(UNSENDABLE)();
    if (changed && draw.oneIn(30)) return draw.pick(CHANGED)();
    const isLeaf = this.#left <= 0 || depth > 8;
    const kind = draw.below(isLeaf ? 4 : 10);
    switch (kind) {
      case 0:
        return draw.pick([null, true, false, json ? null : undefined]);
      case 1:
        return this.#number();
      case 2:
        return this.text();
      case 3:
        return json ? this.text() : this.#leaf();
      case 4:
      case 5:
        return this.#list(depth);
      case 6:
      case 7:
        return this.record(depth);
      default:
        return json ? this.#list(depth) : this.#container(depth);
    }
  }

  text(): string {
    return this.#draw.pick(this.#draw.oneIn(8) ? TEXTS : WORDS);
  }

  #number(): number {
    const draw = this.#draw;
    const number = draw.oneIn(2)
      ? draw.pick(NUMBERS)
      : draw.between(-1000, 1000) * 10 ** draw.between(-3, 12);
    if (!this.#kinds.json) return number;
    return Number.isFinite(number) ? number : 0;
  }

  #list(depth: number): unknown[] {
    const draw = this.#draw;
    const count = draw.oneIn(100) ? draw.below(3_000) : draw.size(12);
    const list = Array.from({ length: count }, () => this.value(depth + 1));
    if (!this.#kinds.json && draw.oneIn(12)) {
      list[`field ${draw.below(3)}` as unknown as number] = this.value(
        depth + 1,
      );
    }
    if (!this.#kinds.json && draw.oneIn(12)) delete list[draw.below(6)];
    return list;
  }

  /** An object with fields. */
  record(depth: number): Record<string, unknown> {
    const record: Record<string, unknown> = {};
    const { length } = { length: this.#draw.size(25) };
    for (let left = length; left > 0; left--) {
      Object.defineProperty(record, this.text(), {
        value: this.value(depth + 1),
        configurable: true,
        enumerable: true,
        writable: true,
      });
    }
    return record;
  }

  #leaf(): unknown {
    const draw = this.#draw;
    switch (draw.below(this.#kinds.cloned ? 7 : 8)) {
      case 7:
        return draw.oneIn(2) ? draw.pick(TEMPORAL)() : new URL(
          draw.pick(["a:b", "http://u:p@h:1/p?q#f", "data:,x", "file:///ä"]),
        );
      case 0:
        return draw.pick(BIGINTS);
      case 6:
        return Object(draw.pick([1, -0, "boxed", "\udc00", true, ...BIGINTS]));
      case 1:
        return new Date(
          draw.pick([
            0,
            1,
            -1,
            NaN,
            8.64e15,
            -8.64e15,
            1e12,
            4294967296e3,
            draw.below(1e9),
          ]),
        );
      case 2:
        return new RegExp(
          draw.pick(["", "a+", "\\p{L}", "中", "/"]),
          draw.pick(["", "gi", "u"]),
        );
      case 3:
        return draw.bytes(draw.oneIn(30) ? 66_000 : draw.size(60));
      case 4:
        return draw.bytes(draw.size(20)).buffer;
      default: {
        const bytes = draw.bytes(8 * (1 + draw.below(4)));
        const Kind: new (buffer: ArrayBuffer, offset?: number) => unknown = draw
          .pick(VIEWS);
        return new Kind(bytes.buffer, draw.oneIn(2) ? 0 : 8);
      }
    }
  }

  #container(depth: number): unknown {
    const draw = this.#draw;
    const some = () =>
      Array.from({ length: draw.size(8) }, () => this.value(depth + 1));
    switch (draw.below(5)) {
      case 4:
        return draw.pick(REPEATS)();
      case 0:
        return new Map(some().map((key) => [key, this.value(depth + 1)]));
      case 1:
        return new Set(some());
      case 2:
        return this.#error(depth);
      default: {
        let value: unknown = 1;
        const levels = this.#kinds.deep && draw.oneIn(10)
          ? draw.between(480, 510)
          : draw.below(20);
        for (let level = 0; level < levels; level++) {
          value = level % 2 === 0 ? [value] : { value };
        }
        return value;
      }
    }
  }

  #error(depth: number): Error {
    const draw = this.#draw;
    const options = draw.oneIn(2) ? {} : { cause: this.value(depth + 1) };
    const text = this.text();
    const error = draw.pick<() => Error>([
      () => new Error(text, options),
      () => new TypeError(text, options),
      () => new AggregateError([this.value(depth + 1)], text, options),
      () => new SuppressedError(this.value(depth + 1), 2, text),
      () => new DOMException(text, "AbortError"),
    ])();
    if (draw.oneIn(4)) {
      Object.assign(error, {
        errno: draw.below(9),
        detail: this.value(depth + 1),
      });
    }
    return error;
  }
}
