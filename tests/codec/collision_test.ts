// Copyright 2026 the Duplex authors. MIT license.

/**
 * Keys that a peer chose so that they collide in a hash table: to decode them
 * takes no longer than ordinary keys do, or they are refused.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertFalse,
  assertLess,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import { type Codec, json, msgpack } from "../../codec.ts";
import { CollisionGuard } from "../../_codec/collisions.ts";
import { ProtocolError } from "../../_base/errors.ts";
import { StringSample } from "../../_codec/json_scan.ts";
import { header } from "./_kinds.ts";
import { random } from "../_seed.ts";

/** A test that needs no permission. */
function test(name: string, fn: () => void): void {
  Deno.test({ name, permissions: "none", fn });
}

/** Whole numbers whose hash in V8 ends with so many zeros. */
function chosenIntegers(count: number, bits: number): number[] {
  const numbers: number[] = [];
  for (let number = 0; numbers.length < count; number++) {
    let hash = ~number + (number << 15) | 0;
    hash ^= hash >>> 12;
    hash = hash + (hash << 2) | 0;
    hash ^= hash >>> 4;
    hash = Math.imul(hash, 2057);
    if (((hash ^ hash >>> 16) & (2 ** bits - 1)) === 0) numbers.push(number);
  }
  return numbers;
}

/** Milliseconds of the fastest of several runs. */
function fastest(rounds: number, run: () => void): number {
  let shortest = Infinity;
  for (let round = 0; round < rounds; round++) {
    const start = performance.now();
    run();
    shortest = Math.min(shortest, performance.now() - start);
  }
  return shortest;
}

/**
 * Strings whose hashes end with the same bits, however V8 hashes them: each is
 * looked up in a table that has all its keys in the bucket where it would be.
 */
function chosenStrings(count: number, bits: number): string[] {
  const table = new Set<unknown>(chosenIntegers(2 ** (bits + 1) - 96, bits));
  // A microsecond for each 1000 keys in the bucket, half of what it takes.
  const limit = table.size / 1e6;
  let found = 0;
  const timeOf = (texts: string[]) => {
    const start = performance.now();
    for (const text of texts) if (table.has(text)) found++;
    return performance.now() - start;
  };
  const strings: string[] = [];
  const some = new Array<string>(8);
  for (let index = 0; strings.length < count; index += some.length) {
    for (let at = 0; at < some.length; at++) some[at] = `key ${index + at}`;
    if (timeOf(some) > limit) {
      strings.push(
        ...some.filter((text) =>
          timeOf([text]) > limit && timeOf([text]) > limit
        ),
      );
    }
    assertLess(index, 32 * count * 2 ** bits, "V8 hashes in another way");
  }
  assertStrictEquals(found, 0);
  return strings;
}

/** An extension with a payload. */
function extension(type: number, ...parts: Uint8Array[]): Uint8Array {
  const payload = new Uint8Array(parts.flatMap((part) => [...part]));
  return new Uint8Array([...header(0xc9, payload.length), type, ...payload]);
}

/** A set of these as bytes, made without making the set. */
function setOf(keys: unknown[]): Uint8Array {
  return extension(5, msgpack.encode(keys));
}

function mapOf(keys: unknown[]): Uint8Array {
  return extension(4, msgpack.encode(keys.flatMap((key) => [key, 0])));
}

/** A map of MessagePack with a first key that makes a `Map` of it. */
function mixedMapOf(keys: unknown[]): Uint8Array {
  const entries = keys.flatMap((key) => [...msgpack.encode(key), 0]);
  return new Uint8Array([
    ...header(0xdf, keys.length + 1),
    ...[0xc0, 0],
    ...entries,
  ]);
}

function objectOf(keys: unknown[]): Uint8Array {
  const entries = keys.flatMap((key) => [...msgpack.encode(key), 0]);
  return new Uint8Array([...header(0xdf, keys.length), ...entries]);
}

function errorOf(keys: unknown[]): Uint8Array {
  const parts = [0x97, 0xa0, 0xa0, 0xc0, 0xc0, 0x90, 0x90];
  return extension(8, new Uint8Array(parts), objectOf(keys));
}

function jsonObjectOf(keys: unknown[]): Uint8Array {
  const fields = keys.map((key) => `${JSON.stringify(String(key))}:0`);
  return new TextEncoder().encode(`{${fields.join()}}`);
}

function timeOf(codec: Codec, bytes: Uint8Array): number {
  return fastest(2, () => {
    try {
      codec.decode(bytes);
    } catch (error) {
      assert(error instanceof ProtocolError);
    }
  });
}

const next = random(4);

/** Random integers. */
const NUMBERS = Array.from({ length: 30_000 }, () => Math.floor(next() * 4e9));

interface Case {
  readonly chosen: unknown[];
  /** As many that were not chosen. */
  readonly ordinary: unknown[];
}

/** Keys of every kind that can be chosen without looking for them. */
const CASES: Record<string, Case> = {
  "integers": { chosen: chosenIntegers(30_000, 14), ordinary: NUMBERS },
  "bigints": {
    // V8 hashes 64 bits of them.
    chosen: NUMBERS.map((_, at) => BigInt(at) << 64n),
    ordinary: NUMBERS.map((key) => BigInt(key) << 64n | BigInt(key)),
  },
  "strings that are indexes": {
    // V8 hashes the low bits of the index.
    chosen: NUMBERS.map((_, at) => String((at + 1) * 2 ** 16)),
    ordinary: NUMBERS.map(String),
  },
  "strings that are small indexes": {
    chosen: NUMBERS.map((_, at) => String(at)),
    ordinary: NUMBERS.map(String),
  },
  "zeros and NaN": {
    chosen: NUMBERS.map((_, at) => [0, -0, NaN][at % 3]),
    ordinary: NUMBERS,
  },
  "floats": {
    chosen: NUMBERS.map((_, at) => at * 2 ** 32 + 0.5),
    ordinary: NUMBERS.map((key) => key + 0.5),
  },
  "booleans": {
    chosen: NUMBERS.map((_, at) => at % 2 === 0),
    ordinary: NUMBERS,
  },
  "dates": {
    chosen: NUMBERS.map(() => new Date(0)).slice(0, 10_000),
    ordinary: NUMBERS.map((key) => new Date(key)).slice(0, 10_000),
  },
  "bytes": {
    chosen: NUMBERS.map(() => new Uint8Array(1)).slice(0, 10_000),
    ordinary: NUMBERS.map((key) => new Uint8Array([key])).slice(0, 10_000),
  },
};

/** Messages that have keys, in every place for them. */
const MESSAGES: Record<string, [Codec, (keys: unknown[]) => Uint8Array]> = {
  "a set": [msgpack, setOf],
  "a map": [msgpack, mapOf],
  "a map of another language": [msgpack, mixedMapOf],
  "an object": [msgpack, objectOf],
  "an error": [msgpack, errorOf],
  "an object in JSON": [json, jsonObjectOf],
};

/**
 * How much longer than ordinary keys chosen ones may take: with the check up to 15
 * times, as a message may waste some milliseconds; without it hundreds of times.
 */
const MAX_RATIO = 60;

for (const [place, [codec, encode]] of Object.entries(MESSAGES)) {
  test(`${codec.name}.decode() takes no longer for chosen keys of ${place}`, () => {
    for (const [kind, { chosen, ordinary }] of Object.entries(CASES)) {
      const isNamed = typeof chosen[0] === "string";
      if (!isNamed && (codec === json || place.endsWith("object"))) continue;
      if (!isNamed && place === "an error") continue;
      const [slow, fast] = [encode(chosen), encode(ordinary)];
      const ratio = timeOf(codec, slow) / timeOf(codec, fast);
      assertLess(ratio, MAX_RATIO, `${kind} in ${place}`);
    }
  });
}

test("msgpack.decode() refuses keys that collide", () => {
  const kinds = {
    integers: CASES.integers!.chosen,
    bigints: CASES.bigints!.chosen,
    indexes: CASES["strings that are indexes"]!.chosen,
  };
  for (const [kind, keys] of Object.entries(kinds)) {
    for (const encode of [setOf, mapOf, mixedMapOf]) {
      const bytes = encode(keys);
      assertThrows(
        () => msgpack.decode(bytes),
        ProtocolError,
        "Cannot decode a message: too many keys collide at byte ",
        kind,
      );
    }
  }
});

test("CollisionGuard detects strings that collide, and no others", () => {
  const chosen = chosenStrings(1900, 10);
  const ordinary = chosen.map((_, at) => `key ${at}`);
  const collide = (strings: string[]) => {
    // More was wasted than a message may.
    const guard = new CollisionGuard({ time: Infinity });
    const table = new Set<unknown>();
    return strings.some((text) => {
      table.add(text);
      return guard.collides(table, text);
    });
  };
  assert(collide(chosen));
  assertFalse(collide(ordinary));
});

test("CollisionGuard distinguishes slow keys from a pause", () => {
  const strings = CASES["strings that are indexes"]!.chosen.slice(0, 1_000);
  const guard = new CollisionGuard({ time: 0 });
  const table = new Set<unknown>();
  for (const [index, text] of strings.entries()) {
    table.add(text);
    // As long as some dozen messages of such strings waste.
    const end = performance.now() + (index % 100 === 50 ? 30 : 0);
    while (performance.now() < end);
    assertFalse(guard.collides(table, text), `at ${index}`);
  }
});

test("StringSample detects that the strings of a text collide", () => {
  const strings = Array.from({ length: 40_000 }, (_, at) => `s${at}`);
  const bytes = new TextEncoder().encode(JSON.stringify(strings));
  const sample = new StringSample(bytes);
  let end = 0;
  for (const string of strings) {
    const start = bytes.indexOf(0x22, end) + 1;
    end = start + string.length;
    sample.add(start, end);
    end++;
  }
  const countOf = (text: string) => text.split(",").length;
  const isOwn = (text: string) => /^\["s\d+","s\d+","s/.test(text);
  // As long as V8 takes for strings that are compared with all before them.
  const colliding = (text: string) =>
    isOwn(text) ? 2e-6 * countOf(text) ** 2 : 1e-4 * countOf(text);
  assert(sample.collide(colliding));
  assertFalse(sample.collide((text) => 1e-4 * countOf(text)));
  // A slow machine, and pauses that end.
  assertFalse(sample.collide((text) => 1e-2 * countOf(text)));
  let pause = 50;
  assertFalse(sample.collide((text) => {
    const time = 1e-4 * countOf(text) + pause;
    pause = 0;
    return time;
  }));
  // A busy machine interrupts one of them several times in a row.
  let interruptions = 6;
  assertFalse(sample.collide((text) => {
    const isInterrupted = isOwn(text) && interruptions-- > 0;
    return 1e-4 * countOf(text) + (isInterrupted ? 5 : 0);
  }));
  assertFalse(sample.collide());
});

test("json.decode() takes strings that collide by chance", () => {
  const values = [
    Array.from({ length: 60_000 }, (_, at) => String(at * 1024)),
    Array.from({ length: 10_000 }, (_, at) => String(at * 65_536)),
    Array.from({ length: 20_000 }, (_, at) => ({ at: `${at * 4096}`, n: "1" })),
    Array.from({ length: 60_000 }, (_, at) => `\\"${at}\u4e2d`),
  ];
  for (const value of values) {
    assertEquals(json.decode(json.encode(value)), value);
  }
});

test("decode() takes records that leave out some of many fields", () => {
  const draw = random(7);
  const records = Array.from({ length: 60_000 }, (_, id) => {
    const record: Record<string, unknown> = { id };
    for (let at = 0; at < 40; at++) {
      if (draw() < 0.3) record[`field${at}`] = "a value";
    }
    return record;
  });
  for (const codec of [msgpack, json]) {
    const decoded = codec.decode(codec.encode(records)) as unknown[];
    assertEquals(decoded.slice(-9), records.slice(-9));
  }
});

test("decode() takes millions of empty arrays, and objects with an index", () => {
  const values = [
    Array.from({ length: 3_000_000 }, () => []),
    Array.from({ length: 300_000 }, (_, at) => ({ [at]: at })),
  ];
  for (const value of values) {
    for (const codec of [msgpack, json]) {
      const decoded = codec.decode(codec.encode(value)) as unknown[];
      assertEquals(decoded.length, value.length);
    }
  }
});

test("msgpack.decode() takes large maps and sets of ordinary keys", () => {
  const count = 50_000;
  const makers: ((index: number) => unknown)[] = [
    (index) => index,
    (index) => -index,
    (index) => index * 65_536,
    (index) => index * 2 ** 33,
    (index) => index / 8,
    () => next(),
    (index) => BigInt(index),
    (index) => BigInt(index) << 20n,
    (index) => `key ${index}`,
    (index) => String(index),
    (index) => ({ index }),
  ];
  for (const make of makers) {
    const set = new Set(Array.from({ length: count }, (_, at) => make(at)));
    const decoded = msgpack.decode(msgpack.encode(set)) as Set<unknown>;
    assertStrictEquals(decoded.size, set.size);
  }
});

test("decode() takes a thousand strings that collide by chance", () => {
  const strings = CASES["strings that are indexes"]!.chosen.slice(0, 1_000);
  assertEquals(msgpack.decode(setOf(strings)), new Set(strings));
});

test("decode() takes large objects of ordinary names", () => {
  const names: ((index: number) => string)[] = [
    (index) => `key ${index}`,
    (index) => String(index),
    (index) => String(index * 65_536),
    (index) => "x".repeat(100) + index,
  ];
  for (const name of names) {
    const object = Object.fromEntries(
      Array.from({ length: 20_000 }, (_, at) => [name(at), at]),
    );
    for (const codec of [msgpack, json]) {
      assertEquals(codec.decode(codec.encode(object)), object);
    }
  }
});
