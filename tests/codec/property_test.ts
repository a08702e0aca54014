// Copyright 2026 the Duplex authors. MIT license.

/**
 * Properties that hold for any value: what comes back equals what was sent,
 * and what was refused is named. `DUPLEX_SEED` repeats a run.
 *
 * @module
 */

import { decode as peerDecode, encode as peerEncode } from "@msgpack/msgpack";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { decode as stdDecode } from "@std/msgpack";
import fc from "fast-check";
import { ByteBuffer } from "../../_base/byte_buffer.ts";
import { json, msgpack } from "./_fast.ts";
import { ProtocolError } from "../../_base/errors.ts";
import { seed } from "../_seed.ts";

/** Checks a property; a failure shows the smallest example. */
function check<T>(
  name: string,
  arbitrary: fc.Arbitrary<T>,
  predicate: (value: T) => void,
  numRuns = 400,
): void {
  Deno.test({
    name,
    permissions: { env: ["DUPLEX_SEED"] },
    fn() {
      const drawn = seed();
      const property = fc.property(arbitrary, (value) => {
        predicate(value);
      });
      const result = fc.check(property, { seed: drawn, numRuns });
      if (result.failed) {
        throw new Error(
          `DUPLEX_SEED=${drawn} fails: ${fc.defaultReportMessage(result)}`,
        );
      }
    },
  });
}

/** Strings of every kind, lone surrogates among them. */
const text = fc.oneof(
  fc.string({ unit: "grapheme-ascii" }),
  fc.string({ unit: "binary", maxLength: 300 }),
  fc.string({ unit: "grapheme", maxLength: 100 }),
  fc.constantFrom("\ud800", "a\udfffb", "__proto__", "constructor", "\ufeff"),
);

const number = fc.oneof(
  fc.double(),
  fc.maxSafeInteger(),
  fc.integer(),
  fc.constantFrom(-0, 2 ** 53, -(2 ** 53), 2 ** 63, 2 ** 64),
);

const bytes = fc.uint8Array({ maxLength: 300 });

const leaf = fc.oneof(
  text,
  number,
  fc.boolean(),
  fc.constant(null),
  fc.constant(undefined),
  fc.bigInt(),
  fc.bigInt({ min: -(2n ** 70n), max: 2n ** 70n }),
  fc.date({ noInvalidDate: false }),
  bytes.map((value) => value.slice()),
  bytes.map((value) => value.slice().buffer),
  fc.float64Array().map((value) => value.slice()),
  fc.int16Array().map((value) => value.slice()),
  fc.bigInt64Array().map((value) => value.slice()),
  text.filter((source) => source.length > 0 && /^\w+$/.test(source))
    .map((source) => new RegExp(source, "gi")),
);

/** Any value that MessagePack carries, apart from errors. */
const { value } = fc.letrec((tie) => ({
  value: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    leaf,
    fc.array(tie("value"), { maxLength: 20 }),
    record(tie("value")),
    fc.array(fc.tuple(tie("value"), tie("value")), { maxLength: 8 })
      .map((entries) => new Map(entries)),
    fc.array(tie("value"), { maxLength: 8 }).map((values) => new Set(values)),
  ),
}));

/** Objects with any key as their own, `__proto__` among them. */
function record(
  values: fc.Arbitrary<unknown>,
): fc.Arbitrary<Record<string, unknown>> {
  return fc.array(fc.tuple(text, values), { maxLength: 20 })
    .map(Object.fromEntries);
}

/** What JSON carries equal. */
const { jsonValue } = fc.letrec((tie) => ({
  jsonValue: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    text,
    number.filter((value) => Number.isFinite(value) && !Object.is(value, -0)),
    fc.boolean(),
    fc.constant(null),
    fc.array(tie("jsonValue"), { maxLength: 20 }),
    record(tie("jsonValue")),
  ),
}));

/** Whether the peers carry a value: well-formed text, no mark, no `__proto__`. */
function isPlain(value: unknown): boolean {
  const written = JSON.stringify(value);
  return !/\\ud[89a-f]|\ufeff|__proto__/i.test(written);
}

check("msgpack.decode() gives any value back", value, (value) => {
  assertEquals(msgpack.decode(msgpack.encode(value)), value);
}, 1000);

check("msgpack.encode() is stable", value, (value) => {
  const encoded = msgpack.encode(value);
  assertEquals(msgpack.encode(msgpack.decode(encoded)), encoded);
});

check("msgpack.encodeInto() appends what encode() gives", value, (value) => {
  const buffer = new ByteBuffer(1);
  buffer.reserve(3);
  buffer.length = 3;
  msgpack.encodeInto(value, buffer);
  assertEquals(buffer.toBytes().subarray(3), msgpack.encode(value));
});

check("msgpack.decode() takes bytes within others", value, (value) => {
  const encoded = msgpack.encode(value);
  const around = new Uint8Array(encoded.length + 14).fill(0xc1);
  around.set(encoded, 7);
  const within = around.subarray(7, 7 + encoded.length);
  assertEquals(msgpack.decode(within), value);
  around.fill(0xc1);
});

check(
  "msgpack.decode() gives any error back",
  fc.tuple(text, text, value, record(value), fc.array(value)),
  ([name, message, cause, fields, errors]) => {
    const error = new AggregateError(errors, message, { cause });
    error.name = name;
    const own = Object.entries(fields).filter(([key]) =>
      !["name", "message", "stack", "cause", "errors"].includes(key)
    );
    for (const [key, value] of own) {
      Object.defineProperty(error, key, { value, enumerable: true });
    }
    const decoded = msgpack.decode(msgpack.encode(error)) as AggregateError;
    assert(decoded instanceof AggregateError);
    assertEquals(decoded.name, name);
    assertEquals(decoded.message, message);
    assertEquals(decoded.stack, error.stack);
    assertEquals(decoded.cause, cause);
    assertEquals(decoded.errors, errors);
    assertEquals(Object.fromEntries(Object.entries(decoded)), {
      ...Object.fromEntries(own),
    });
  },
  100,
);

check("msgpack.encode() agrees with the peers", jsonValue, (value) => {
  if (!isPlain(value)) return;
  assertEquals(msgpack.encode(value), peerEncode(value));
  assertEquals(peerDecode(msgpack.encode(value)), value);
  assertEquals(msgpack.decode(peerEncode(value)), value);
});

check("msgpack.encode() agrees with @std/msgpack", text, (value) => {
  if (isPlain(value)) assertEquals(stdDecode(msgpack.encode([value])), [value]);
});

check("json.decode() gives any JSON value back", jsonValue, (value) => {
  assertEquals(json.decode(json.encode(value)), value);
  assertEquals(
    json.decode(json.encode(value)),
    JSON.parse(JSON.stringify(value)),
  );
});

check("json.encode() refuses what JSON changes", value, (value) => {
  let encoded: Uint8Array;
  try {
    encoded = json.encode(value);
  } catch (error) {
    assert(error instanceof TypeError);
    assert(
      error.message.startsWith('Cannot encode a message: the value at "$'),
    );
    return;
  }
  assertEquals(json.decode(encoded), value);
  const text = new TextDecoder().decode(encoded);
  if (!text.includes("-0.0")) assertEquals(text, JSON.stringify(value));
});

check(
  "msgpack.decode() gives a value or a ProtocolError for any bytes",
  fc.uint8Array({ maxLength: 200 }),
  (bytes) => {
    for (const codec of [msgpack, json]) {
      try {
        codec.decode(bytes);
      } catch (error) {
        assert(error instanceof ProtocolError, String(error));
      }
    }
  },
  5000,
);

check(
  "msgpack.encode() names the path to what it refuses",
  fc.tuple(fc.array(fc.oneof(fc.nat(5), fc.stringMatching(/^[a-z]+$/)))),
  ([steps]) => {
    let message: unknown = () => {};
    let path = "";
    for (const step of steps) {
      if (typeof step === "number") {
        message = [...Array(step).fill(0), message];
        path = `[${step}]${path}`;
      } else {
        message = { before: [1], [step]: message };
        path = `.${step}${path}`;
      }
    }
    for (const codec of [msgpack, json]) {
      assertThrows(
        () => codec.encode(message),
        TypeError,
        `Cannot encode a message: the value at "$${path}" is a function, ` +
          "which cannot be sent",
      );
    }
  },
);
