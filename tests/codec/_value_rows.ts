// Copyright 2026 the Duplex authors. MIT license.

/**
 * The table "What a value may be" of the README as data: for each of its rows, values
 * of that kind, and what arrives over threads, as bytes, and as JSON.
 *
 * @module
 */

import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { Buffer } from "node:buffer";

/** A column of the table. */
export type Column = "threads" | "bytes" | "json";

/** A value, and what arrives. */
export interface Case {
  readonly what: string;
  make(): unknown;
  /** What arrives. Without it, an equal value. */
  arrives?(sent: unknown, column: Column): unknown;
  /** Checks what arrives, in place of a comparison. */
  check?(received: unknown, sent: unknown): void | Promise<void>;
  /** Where the value that is refused is in it. */
  readonly path?: string;
  /** What the error of a column says of the value; overrides that of the row. */
  readonly refused?: Partial<Record<Column, string>>;
}

/** A row of the table. */
export interface Row {
  /** The first cell. */
  readonly name: string;
  /** What the error of each column that refuses the values says. */
  readonly refused: Partial<Record<Column, string>>;
  /** Whether the values are in `transfer`. A queue refuses these. */
  readonly isMoved?: boolean;
  readonly cases: readonly Case[];
}

/** A value that arrives equal. */
function same(what: string, make: () => unknown): Case {
  return { what, make };
}

/** A value that arrives as another one. */
function as(
  what: string,
  make: () => unknown,
  arrives: (sent: never) => unknown,
): Case {
  return { what, make, arrives: arrives as Case["arrives"] & object };
}

const NO_JSON = "which JSON cannot carry";

type View = ArrayBufferView;

type ViewConstructor = new (
  buffer: ArrayBufferLike,
  offset?: number,
  length?: number,
) => View;

const VIEWS: readonly ViewConstructor[] = [
  Int8Array,
  Uint8Array,
  Uint8ClampedArray,
  Int16Array,
  Uint16Array,
  Int32Array,
  Uint32Array,
  ...typeof Float16Array === "undefined" ? [] : [Float16Array],
  Float32Array,
  Float64Array,
  BigInt64Array,
  BigUint64Array,
  DataView,
] as ViewConstructor[];

function filled<T extends ArrayBufferLike>(buffer: T): T {
  new Uint8Array(buffer).set(Array.from({ length: 32 }, (_, at) => at + 1));
  return buffer;
}

/** A view of each kind with an offset. */
function views(make: () => ArrayBufferLike, length?: number): View[] {
  return VIEWS.map((constructor) => {
    const size = length === undefined || constructor !== DataView
      ? length
      : 8 * length;
    return new constructor(filled(make()), 8, size);
  });
}

/** The same elements in memory of their own. */
function copyOf(view: View): View {
  const { buffer, byteOffset, byteLength } = view;
  const bytes = new Uint8Array(buffer, byteOffset, byteLength).slice();
  const constructor = VIEWS.find((constructor) => view instanceof constructor)!;
  return new constructor(bytes.buffer);
}

function copies(views: View[]): View[] {
  return views.map(copyOf);
}

function detached(): ArrayBuffer {
  const buffer = new ArrayBuffer(32);
  buffer.transfer();
  return buffer;
}

/** A view whose buffer is then changed. */
function viewThen(
  constructor: ViewConstructor,
  change: (buffer: ArrayBuffer) => unknown,
): View {
  const buffer = new ArrayBuffer(32, { maxByteLength: 64 });
  const view = new constructor(buffer, 8, 1);
  change(buffer);
  return view;
}

/** Sets a cell of shared memory, which the other side must have. */
function checkShared(received: unknown, sent: unknown): void {
  const [one, other] = [sent, received].map((value) => {
    const memory = value instanceof WebAssembly.Memory ? value.buffer : value;
    return ArrayBuffer.isView(memory)
      ? new Uint8Array(memory.buffer, memory.byteOffset)
      : new Uint8Array(memory as SharedArrayBuffer);
  });
  one![0] = one![0]! + 1;
  assertEquals([other![0], other!.length], [one![0], one!.length]);
  assertStrictEquals(
    Object.getPrototypeOf(received),
    Object.getPrototypeOf(sent),
  );
}

class Point {
  x = 1;
  #hidden = 2;
  get y() {
    return this.#hidden;
  }
  toString() {
    return `${this.x}`;
  }
}

class Dated {
  at = 1;
  toJSON() {
    return "dated";
  }
}

class OwnError extends RangeError {
  override name = "OwnError";
  code = 7;
}

class OwnUrl extends URL {}

class EmptyUrl extends URL {
  constructor() {
    super("a:");
  }
}

class OwnMap extends Map<unknown, unknown> {}

/** An error of a standard class with the parts of another error. */
function standard(
  error: Error,
  constructor: ErrorConstructor,
  { name, ...fields }: Record<string, unknown> = {},
): Error {
  const options = Object.hasOwn(error, "cause") ? { cause: error.cause } : {};
  const copy = new constructor(error.message, options);
  copy.stack = error.stack!;
  if (name !== copy.name) {
    Object.defineProperty(copy, "name", { value: name });
  }
  return Object.assign(copy, fields);
}

function withCauseItself(): Error {
  const error = new Error("m", { cause: 1 });
  error.cause = error;
  return error;
}

function sparse(): unknown[] {
  const list: unknown[] = [1];
  list[5] = undefined;
  list.length = 8;
  return list;
}

function shared(): unknown {
  const part = { a: 1 };
  return { part, list: [part, part], map: [[part]] };
}

function cycle(): unknown {
  const tree = { name: "root", children: [] as unknown[] };
  tree.children.push({ name: "child", parent: tree });
  return tree;
}

/** A small module with an export. */
export const MODULE = new WebAssembly.Module(
  Uint8Array.fromHex(
    "0061736d010000000105016000017f03020100070501016600000a06010400412a0b",
  ),
);

/** A `CryptoKey`, which only a promise returns. */
const KEY = await crypto.subtle.generateKey(
  { name: "AES-GCM", length: 256 },
  false,
  ["encrypt"],
);

/** A class of `Temporal`, for which TypeScript may have no types. */
interface TemporalClass {
  new (...parts: readonly unknown[]): object;
  from(text: unknown): object;
}

const { Temporal } = globalThis as unknown as {
  Temporal: Record<string, TemporalClass>;
};

/** Objects of the classes of `Temporal`, also with parts that `toString` omits. */
export const TEMPORAL: readonly (() => object)[] = [
  ...([
    ["Instant", "2020-01-01T00:00:00.123456789Z"],
    ["Instant", "-271821-04-20T00:00:00Z"],
    ["ZonedDateTime", "2020-11-01T01:30:00-05:00[America/New_York]"],
    ["ZonedDateTime", "2020-11-01T01:30:00-04:00[America/New_York]"],
    ["ZonedDateTime", "1960-01-01T00:00:00[Africa/Monrovia][u-ca=hebrew]"],
    ["ZonedDateTime", "2020-01-01T00:00[-23:59]"],
    ["PlainDate", "2020-02-29"],
    ["PlainDate", "+275760-09-13[u-ca=japanese]"],
    ["PlainTime", "23:59:59.999999999"],
    ["PlainDateTime", "2020-02-29T12:00[u-ca=chinese]"],
    ["PlainYearMonth", "2020-02"],
    ["PlainYearMonth", "-271821-04"],
    ["PlainMonthDay", "02-29"],
    ["Duration", "-P1Y2M3W4DT5H6M7.000008S"],
    ["Duration", "PT0S"],
  ] as const).map(([name, text]) => () => Temporal[name]!.from(text)),
  () => new Temporal.PlainYearMonth!(2019, 11, "hebrew", 29),
  () => new Temporal.PlainYearMonth!(2019, 11, "gregory", 15),
  () => new Temporal.PlainMonthDay!(2, 29, "chinese", 1980),
  () => Temporal.Duration!.from({ milliseconds: 1500, microseconds: 7e9 }),
  () => Temporal.Duration!.from({ nanoseconds: -(2 ** 53) * 1e8 }),
];

function writtenCases(): Case[] {
  const url = "http://user:p%40@xn--bcher-kva.example:81/a%20b?c=d#e";
  return [
    same("a URL", () => new URL(url)),
    {
      ...same("URLs of other schemes", () =>
        [
          ...["data:text/plain,a b", "file:///C:/a", "blob:http://a/b", "a:"],
        ].map((text) => new URL(text))),
      path: "[0]",
    },
    as(
      "a class of a URL, with a field",
      () => Object.assign(new OwnUrl(url), { x: 1 }),
      () => new URL(url),
    ),
    ...TEMPORAL.map((make) => same(tagOf(make()), make)),
    {
      ...same("within containers", () => {
        const url = () => new URL("a:b");
        const [time, other] = [TEMPORAL[0]!, TEMPORAL[6]!];
        return Object.assign([url(), [url()]], {
          map: new Map<unknown, unknown>([[time(), url()], [other(), 1]]),
          set: new Set([[time()], url()]),
          error: Object.assign(new Error("m", { cause: url() }), {
            at: time(),
          }),
          errors: new AggregateError([other(), new Error("m")]),
        });
      }),
      refused: { json: "an array with fields" },
    },
  ];
}

function tagOf(value: object): string {
  return Object.prototype.toString.call(value);
}

async function imageBitmap(): Promise<Case[]> {
  const runtime = globalThis as unknown as {
    createImageBitmap?(image: unknown): Promise<unknown>;
    ImageData: new (width: number, height: number) => unknown;
  };
  if (runtime.createImageBitmap === undefined) return [];
  const image = await runtime.createImageBitmap(new runtime.ImageData(2, 2));
  return [same("an ImageBitmap", () => image)];
}

/** A buffer, view or error whose kind the error names. */
function named(what: string, make: () => unknown, text: string): Case {
  return { what, make, refused: { threads: text, bytes: text, json: text } };
}

const ALL = (text: string): Row["refused"] => ({
  threads: text,
  bytes: text,
  json: text,
});

const BYTES_ONLY = "which cannot be sent";

/** The rows in the order of the README. */
export const ROWS: readonly Row[] = [
  {
    name: "strings, finite numbers, booleans, `null`",
    refused: {},
    cases: [
      same("text", () => ["", "ä𝄞\0", "\ud800", "a\udfff\ud800", "\ufeff"]),
      same("integers", () => [0, -1, 2 ** 31, 2 ** 53 + 2, -(2 ** 63), 1e300]),
      same("-0 and fractions", () => [-0, 0, 0.1, 5e-324, -1.5]),
      same("others", () => [true, false, null]),
    ],
  },
  {
    name: "`undefined`, `NaN`, infinities, bigints",
    refused: { json: NO_JSON },
    cases: [
      same("undefined", () => undefined),
      {
        ...same("undefined in a field and an array", () => ({
          a: undefined,
          b: [undefined],
        })),
        path: ".a",
      },
      same("NaN", () => NaN),
      same("Infinity", () => Infinity),
      same("-Infinity", () => -Infinity),
      same("a bigint", () => 7n),
      same("a bigint of 64 bits", () => -(2n ** 63n)),
      same("a bigint beyond 64 bits", () => 3n ** 500n),
    ],
  },
  {
    name: "plain objects and arrays",
    refused: {},
    cases: [
      same("an object", () => ({ a: { b: [{}, []] }, "": 1, "two words": 2 })),
      same(
        "other keys",
        () => ({ "-0": 1, 7: 2, constructor: 3, "\ud800": 4 }),
      ),
      same("__proto__ as a key", () => JSON.parse('{"__proto__":{"a":1}}')),
      as("a getter", () => ({
        get a() {
          return 1;
        },
      }), () => ({ a: 1 })),
      as("a symbol key", () => ({ [Symbol("s")]: 1, a: 2 }), () => ({ a: 2 })),
      as(
        "a key that is not enumerable",
        () => Object.defineProperty({ a: 1 }, "b", { value: 2 }),
        () => ({ a: 1 }),
      ),
      as("a proxy", () => new Proxy({ a: [1] }, {}), () => ({ a: [1] })),
      as("a proxy of an array", () => new Proxy([1], {}), () => [1]),
    ],
  },
  {
    name: "instances of your classes, objects without a prototype",
    refused: {},
    cases: [
      as("an instance", () => new Point(), () => ({ x: 1 })),
      as("an inherited field", () => Object.create({ a: 1 }), () => ({})),
      as(
        "an object without a prototype",
        () => Object.assign(Object.create(null), { a: 1 }),
        () => ({ a: 1 }),
      ),
      {
        ...as("an instance with toJSON", () => new Dated(), () => ({ at: 1 })),
        refused: { json: 'an object with a method "toJSON"' },
      },
    ],
  },
  {
    name: "an object that occurs again",
    refused: {},
    cases: [
      {
        ...same("a shared object", shared),
        arrives: (sent, column) =>
          column === "json" ? JSON.parse(JSON.stringify(sent)) : sent,
      },
    ],
  },
  {
    name: "an object that contains itself",
    refused: { json: "that contains it: a cycle cannot be sent" },
    cases: [{ ...same("a cycle", cycle), path: ".children[0].parent" }],
  },
  {
    name: "arrays with missing items or additional fields",
    refused: { json: NO_JSON },
    cases: [
      { ...same("missing items", sparse), path: "[1]" },
      { ...same("only missing items", () => new Array(3)), path: "[0]" },
      same("a field", () => Object.assign([1], { x: [2] })),
      {
        ...as(
          "a match",
          () => /(?<x>b)/.exec("abc"),
          (match: RegExpExecArray) =>
            Object.assign([...match], {
              index: 1,
              input: "abc",
              groups: { x: "b" },
            }),
        ),
      },
    ],
  },
  {
    name: "`Map`, `Set`",
    refused: { json: NO_JSON },
    cases: [
      same("a Map", () =>
        new Map<unknown, unknown>([
          [NaN, 1],
          [-0, 2],
          [undefined, 3],
          [{ a: 1 }, 4],
          [new Map([[new Set(), 5]]), new Map()],
        ])),
      same("a Set", () => new Set([NaN, -0, "a", [1], new Set()])),
      as(
        "a class of a Map",
        () => new OwnMap([[1, 2]]),
        () => new Map([[1, 2]]),
      ),
    ],
  },
  {
    name: "`Date`, `RegExp`, boxed primitives",
    refused: { json: NO_JSON },
    cases: [
      same("a Date", () => new Date(-1)),
      same("an invalid Date", () => new Date(NaN)),
      as(
        "a RegExp",
        () => Object.assign(/a+[b"]/giu, { lastIndex: 3 }),
        () => /a+[b"]/giu,
      ),
      same("a Number", () => Object(-0)),
      same("a String", () => Object("\ud800")),
      same("a Boolean", () => Object(false)),
      same("a BigInt", () => Object(2n ** 70n)),
    ].map((one) => ({
      ...one,
      ...one.what.endsWith("Date") &&
        { refused: { json: "of the class Date, which JSON cannot carry" } },
    })),
  },
  {
    name: "`URL`, the classes of `Temporal`",
    refused: { json: NO_JSON },
    cases: writtenCases(),
  },
  {
    name: "`ArrayBuffer`, typed arrays, `DataView`",
    refused: { json: NO_JSON },
    cases: [
      same("a buffer", () => filled(new ArrayBuffer(32))),
      same(
        "a resizable buffer",
        () => filled(new ArrayBuffer(32, { maxByteLength: 64 })),
      ),
      ...[
        as("views", () => views(() => new ArrayBuffer(40), 1), copies),
        as("views to the end", () => views(() => new ArrayBuffer(32)), copies),
        as(
          "views of a resizable buffer",
          () => views(() => new ArrayBuffer(32, { maxByteLength: 64 }), 1),
          copies,
        ),
        as(
          "views that track the length",
          () => views(() => new ArrayBuffer(32, { maxByteLength: 64 })),
          copies,
        ),
      ].map((one) => ({ ...one, path: "[0]" })),
      as(
        "a Buffer of Node",
        () => Buffer.from("text"),
        () => new Uint8Array([116, 101, 120, 116]),
      ),
    ],
  },
  {
    name: "errors",
    refused: { json: NO_JSON },
    cases: [
      same("an Error", () => new Error("m", { cause: { a: 1 } })),
      same("a TypeError", () => Object.assign(new TypeError(), { code: 1 })),
      same(
        "a RangeError",
        () => new RangeError("m", { cause: new URIError("c") }),
      ),
      same("an AggregateError", () => new AggregateError([new Error("a"), 1])),
      same("a SuppressedError", () => new SuppressedError(1, new Error("b"))),
      same("a DOMException", () => new DOMException("m", "AbortError")),
      same(
        "a cause that is undefined",
        () => new Error("m", { cause: undefined }),
      ),
      same("a cause that is the error", withCauseItself),
      as(
        "an error of Deno",
        () => new Deno.errors.NotFound("m"),
        (error: Error) => standard(error, Error, { name: "NotFound" }),
      ),
      as(
        "an error of a class of the program",
        () => new OwnError("m", { cause: 1 }),
        (error: Error) =>
          standard(error, RangeError, { name: "OwnError", code: 7 }),
      ),
    ],
  },
  {
    name: "`SharedArrayBuffer`, views of it, shared `WebAssembly.Memory`",
    refused: { bytes: "cannot be sent", json: "cannot be sent" },
    cases: [
      same("a SharedArrayBuffer", () => new SharedArrayBuffer(8)),
      same(
        "a growable one",
        () => new SharedArrayBuffer(8, { maxByteLength: 16 }),
      ),
      ...VIEWS.flatMap((constructor) => [
        same(
          `a ${constructor.name} of one`,
          () => new constructor(new SharedArrayBuffer(32), 8, 2),
        ),
        same(
          `a ${constructor.name} of a growable one`,
          () =>
            new constructor(
              new SharedArrayBuffer(32, { maxByteLength: 64 }),
              8,
            ),
        ),
      ]),
      same(
        "shared memory of WebAssembly",
        () => new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true }),
      ),
    ].map((one) => ({ ...one, check: checkShared })),
  },
  {
    name: "`Blob`, `File`, `CryptoKey`, `WebAssembly.Module`",
    refused: { bytes: BYTES_ONLY, json: BYTES_ONLY },
    cases: [
      {
        ...same("a Blob", () => new Blob(["text"], { type: "text/plain" })),
        async check(received) {
          assert(received instanceof Blob);
          assertEquals([await received.text(), received.type], [
            "text",
            "text/plain",
          ]);
        },
      },
      {
        ...same("a File", () => new File(["text"], "a.txt")),
        async check(received) {
          assert(received instanceof File);
          assertEquals([await received.text(), received.name], [
            "text",
            "a.txt",
          ]);
        },
      },
      {
        ...same("a CryptoKey", () => KEY),
        async check(received) {
          const algorithm = { name: "AES-GCM", iv: new Uint8Array(12) };
          const bytes = new Uint8Array(1);
          const both = await Promise.all(
            [KEY, received as CryptoKey].map((key) =>
              crypto.subtle.encrypt(algorithm, key, bytes)
            ),
          );
          assertEquals(both[0], both[1]);
        },
      },
      {
        ...same("a WebAssembly.Module", () => MODULE),
        check(received) {
          const { exports } = new WebAssembly.Instance(
            received as WebAssembly.Module,
          );
          assertEquals((exports.f as () => number)(), 42);
        },
      },
    ],
  },
  {
    name: "streams and `MessagePort` in `transfer`",
    refused: { bytes: "Cannot transfer", json: "Cannot transfer" },
    isMoved: true,
    cases: [
      {
        ...same("a ReadableStream", () => ReadableStream.from(["a", { b: 1 }])),
        check: (received) => assertEquals(received, ["a", { b: 1 }]),
      },
      {
        what: "a WritableStream",
        make: () => new WritableStream(),
        check: (received) => assertEquals(received, "written"),
      },
      {
        what: "a TransformStream",
        make: () =>
          new TransformStream({
            transform: (chunk, controller) =>
              controller.enqueue(`${chunk}, and back`),
          }),
        check: (received) => assertEquals(received, ["text, and back"]),
      },
    ],
  },
  {
    name: "detached buffers, views out of bounds",
    refused: {},
    cases: [
      named("a detached buffer", detached, "a detached ArrayBuffer"),
      ...VIEWS.flatMap((constructor) => [
        named(
          `a ${constructor.name} of one`,
          () => viewThen(constructor, (buffer) => buffer.transfer()),
          "a view of a detached ArrayBuffer",
        ),
        named(
          `a ${constructor.name} out of bounds`,
          () => viewThen(constructor, (buffer) => buffer.resize(8)),
          "a view beyond the end of a resized ArrayBuffer",
        ),
      ]),
    ],
  },
  {
    name: "functions, symbols, and all other objects of the language and Deno",
    refused: ALL("which cannot be sent"),
    cases: [
      same("a function", () => () => 1),
      same("a class", () => class {}),
      same("a symbol", () => Symbol("s")),
      same("a boxed symbol", () => Object(Symbol())),
      {
        ...same("a method toJSON", () => ({ toJSON: () => 1 })),
        path: ".toJSON",
        refused: { json: 'an object with a method "toJSON"' },
      },
      {
        ...same(
          "a function in an error",
          () => Object.assign(new Error("m"), { f() {} }),
        ),
        path: ".f",
        refused: { json: "of the class Error" },
      },
      {
        ...same(
          "a symbol in a cause",
          () => new Error("m", { cause: [Symbol("s")] }),
        ),
        path: ".cause[0]",
        refused: { json: "of the class Error" },
      },
      same("a promise", () => Promise.resolve()),
      same("a WeakMap", () => new WeakMap()),
      same("a WeakRef", () => new WeakRef({})),
      same("a generator", () => (function* () {})()),
      same("an iterator", () => [1][Symbol.iterator]()),
      same("Headers", () => new Headers()),
      same("a Response", () => new Response("text")),
      same("an AbortSignal", () => new AbortController().signal),
      same("an Event", () => new Event("a")),
      same("a ReadableStream outside of transfer", () => new ReadableStream()),
      same(
        "memory of WebAssembly that is not shared",
        () => new WebAssembly.Memory({ initial: 1 }),
      ),
      ...await imageBitmap(),
      ...([Map, Set, Date, EmptyUrl] as (new () => object)[]).map((
        constructor,
      ) =>
        named(
          `a proxy of a ${constructor.name}`,
          () => new Proxy(new constructor(), {}),
          "a proxy of a built-in object",
        )
      ),
    ],
  },
];
