// Copyright 2026 the Duplex authors. MIT license.

/**
 * Compares the codecs with other packages: nanoseconds for a call, the median of
 * several rounds. `deno task bench codec`
 *
 * @module
 */

import {
  Decoder as PeerDecoder,
  Encoder as PeerEncoder,
} from "@msgpack/msgpack";
import { decode as stdDecode, encode as stdEncode } from "@std/msgpack";
import { median } from "../_cli/measure.ts";
import { ByteBuffer } from "../_base/byte_buffer.ts";
import { json, msgpack } from "../tests/codec/_fast.ts";
import { LOG_LINE, logLines } from "./_messages.mjs";

/** The milliseconds of a round, and the number of rounds. */
const ROUND_MS = 60;
const ROUNDS = 9;

/** Uses the results, so that no call is optimized away. */
let sink: unknown;

/** The median nanoseconds of a call. */
function measure(run: () => unknown): number {
  const warmUntil = performance.now() + ROUND_MS * 2;
  let calls = 0;
  while (performance.now() < warmUntil) {
    sink = run();
    calls++;
  }
  const count = Math.max(1, Math.round(calls / 2));
  const rounds: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const start = performance.now();
    for (let call = 0; call < count; call++) sink = run();
    rounds.push((performance.now() - start) * 1e6 / count);
  }
  return median(rounds);
}

/** Prints a table's row. */
function row(what: string, ...figures: number[]): void {
  const cells = figures.map((figure) =>
    Math.round(figure).toLocaleString("en").padStart(12)
  );
  console.log(what.padEnd(34) + cells.join(""));
}

/** Measures every codec with one value. */
function compare(title: string, value: unknown): void {
  console.log(`\n${title}`.padEnd(35) + "   encode ns   decode ns");
  const buffer = new ByteBuffer(1 << 16);
  for (const codec of [msgpack, json]) {
    buffer.length = 0;
    codec.encodeInto(value, buffer);
    // Within other bytes, as in a session.
    const bytes = new Uint8Array(buffer.length + 64);
    bytes.set(buffer.toBytes(), 32);
    const length = buffer.length;
    row(
      `${codec.name}, encodeInto, decode`,
      measure(() => {
        buffer.length = 0;
        codec.encodeInto(value, buffer);
      }),
      measure(() => codec.decode(bytes.subarray(32, 32 + length))),
    );
    row(`${codec.name}, encode`, measure(() => codec.encode(value)));
  }
  const encoder = new PeerEncoder();
  const decoder = new PeerDecoder();
  const packed = msgpack.encode(value);
  row(
    "@msgpack/msgpack, reused",
    measure(() => encoder.encode(value)),
    measure(() => decoder.decode(packed)),
  );
  row(
    "@std/msgpack",
    measure(() => stdEncode(value as Parameters<typeof stdEncode>[0])),
    measure(() => stdDecode(packed)),
  );
  const textEncoder = new TextEncoder();
  const textDecoder = new TextDecoder();
  const text = textEncoder.encode(JSON.stringify(value));
  row(
    "JSON, TextEncoder, TextDecoder",
    measure(() => textEncoder.encode(JSON.stringify(value))),
    measure(() => JSON.parse(textDecoder.decode(text))),
  );
}

/** Compares a byte array with a copy of it. */
function compareBytes(bytes: Uint8Array): void {
  console.log(
    `\n${bytes.length} bytes`.padEnd(35) + "   encode ns   decode ns",
  );
  const buffer = new ByteBuffer(bytes.length + 16);
  const packed = msgpack.encode(bytes);
  row(
    "msgpack, encodeInto, decode",
    measure(() => {
      buffer.length = 0;
      msgpack.encodeInto(bytes, buffer);
    }),
    measure(() => msgpack.decode(packed)),
  );
  row(
    "msgpack, encode, decodeOwned",
    measure(() => msgpack.encode(bytes)),
    measure(() => msgpack.decodeOwned(packed)),
  );
  row(
    "msgpack, encode in an object",
    measure(() => msgpack.encode({ id: 1, bytes })),
  );
  row(
    "set() into reused, slice()",
    measure(() => buffer.bytes.set(bytes)),
    measure(() => bytes.slice()),
  );
  row(
    "@msgpack/msgpack, decode aliases",
    measure(() => new PeerEncoder().encode(bytes)),
    measure(() => new PeerDecoder().decode(packed)),
  );
}

compare("A log line", LOG_LINE);
compare("1000 log lines", logLines(1000));
compareBytes(new Uint8Array(1 << 20).fill(7));
compareBytes(new Uint8Array(64).fill(7));
// The last result is used as well.
if (sink === LOG_LINE) console.log("The codec returned its argument");
