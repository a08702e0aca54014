// Copyright 2026 the Duplex authors. MIT license.

/**
 * Deno's sockets without this package, for `bench/socket.ts`:
 * `socket_deno.ts SCENARIO COUNT WARM tcp|unix [opaque]` prints a JSON array. With
 * `opaque`, the round trip sends the bytes of a log line without decoding them.
 *
 * @module
 */

import { checkSum, messagesOf, rateOf, weigh } from "../_messages.mjs";
import {
  checkHosts,
  CONNECTIONS,
  Far,
  type Line,
  LINES,
  Order,
  Place,
  residentMemory,
} from "../workers/socket_shared.ts";
import { bind, Frames } from "./socket_deno_frames.ts";

const SCRIPT = new URL("./socket_deno_far.ts", import.meta.url);

/** The bytes of a log line with its frame, as in `pipe_deno.ts`. */
const LINE_SIZE = 140;

/** The bytes of a buffer if there are many connections. */
const SMALL_BUFFER = 8 * 1024;

const [scenario = "", countText, warmText, form = "tcp", how] = Deno.args;

type Accept = () => Promise<Deno.Conn>;

/** Listens, starts the peer process, and waits for its end. */
async function withFar(
  role: string,
  run: (accept: Accept) => Promise<number[]>,
): Promise<number[]> {
  await using place = await Place.make(form);
  const bound = bind(place.address);
  using _listener = bound.listener;
  const far = new Far(SCRIPT, role, bound.address);
  const samples = await run(bound.accept);
  await far.ended();
  return samples;
}

async function trips(
  frames: Frames,
  messages: unknown[],
  count: number,
): Promise<number> {
  const start = performance.now();
  let sum = 0;
  for (let trip = 0; trip < count; trip++) {
    await frames.send(messages[trip % messages.length]);
    sum += weigh(await frames.receive());
  }
  const ms = performance.now() - start;
  checkSum(sum, messages, count);
  return ms;
}

function roundTrip(count: number, warm: number): Promise<number[]> {
  const lines = messagesOf("lines");
  return withFar("echo", async (accept) => {
    using frames = new Frames(await accept());
    await trips(frames, lines, warm);
    return [await trips(frames, lines, count) * 1e3 / count];
  });
}

async function opaqueTrips(conn: Deno.Conn, count: number): Promise<number> {
  const line = new Uint8Array(LINE_SIZE).fill(7);
  const buffer = new Uint8Array(LINE_SIZE);
  const start = performance.now();
  for (let trip = 0; trip < count; trip++) {
    await conn.write(line);
    for (let left = LINE_SIZE; left > 0;) {
      const read = await conn.read(buffer.subarray(0, left));
      if (read === null || buffer[0] !== 7) throw new Error("No line came");
      left -= read;
    }
  }
  return performance.now() - start;
}

function opaqueRoundTrip(count: number, warm: number): Promise<number[]> {
  return withFar("opaque", async (accept) => {
    using conn = await accept();
    await opaqueTrips(conn, warm);
    return [await opaqueTrips(conn, count) * 1e3 / count];
  });
}

async function out(
  frames: Frames,
  messages: unknown[],
  count: number,
): Promise<number> {
  const { length } = messages;
  const [first] = messages;
  const start = performance.now();
  await frames.send(count);
  if (first instanceof Uint8Array) {
    for (let index = 0; index < count; index++) await frames.sendBytes(first);
  } else await frames.sendAll(count, (index) => messages[index % length]);
  const sum = await frames.receive();
  const ms = performance.now() - start;
  checkSum(sum, messages, count);
  return ms;
}

function oneWay(count: number, warm: number): Promise<number[]> {
  const messages = messagesOf(scenario);
  return withFar(`take-${scenario}`, async (accept) => {
    using frames = new Frames(await accept());
    await out(frames, messages, warm);
    return [rateOf(scenario, count, await out(frames, messages, count))];
  });
}

/** Requests lines, and checks them. */
async function takeLines(frames: Frames, order: Order): Promise<void> {
  order.restart();
  await frames.send(LINES);
  for (let left = LINES; left > 0;) {
    const line = frames.next();
    if (line !== undefined) {
      order.take(line as Line);
      left--;
    } else if (!await frames.fill()) {
      throw new Error(`The peer ended, ${left} lines early`);
    }
  }
}

function many(count: number, warm: number): Promise<number[]> {
  return withFar("many", async (accept) => {
    const all: { frames: Frames; order: Order }[] = [];
    while (all.length < CONNECTIONS) {
      const frames = new Frames(await accept(), SMALL_BUFFER);
      all.push({ frames, order: new Order() });
    }
    const run = async (times: number) => {
      for (let time = 0; time < times; time++) {
        await Promise.all(
          all.map(({ frames, order }) => takeLines(frames, order)),
        );
      }
    };
    await run(warm);
    const start = performance.now();
    await run(count);
    const ms = performance.now() - start;
    checkHosts(all.map(({ order }) => order));
    // Only the end follows: no line arrives twice.
    for (const { frames } of all) await frames.send(0);
    for (const { frames } of all) {
      const rest = await frames.receive();
      if (rest !== undefined) throw new Error(`There is more: ${rest}`);
      frames[Symbol.dispose]();
    }
    return [count * LINES * CONNECTIONS * 1e3 / ms];
  });
}

/** Exchanges a greeting, and receives until the end. */
async function greet(accept: Accept): Promise<Frames> {
  const frames = new Frames(await accept(), SMALL_BUFFER);
  if (await frames.receive() !== "hello") throw new Error("No greeting came");
  await frames.send("hello");
  return frames;
}

function idle(count: number, warm: number): Promise<number[]> {
  return withFar("idle", async (accept) => {
    using control = new Frames(await accept());
    const waiting: Promise<unknown>[] = [];
    const add = async (connections: number) => {
      await control.send(connections);
      for (let left = connections; left > 0; left--) {
        const frames = await greet(accept);
        waiting.push(
          frames.receive().finally(() => frames[Symbol.dispose]()),
        );
      }
      await control.receive();
      return await residentMemory();
    };
    const before = await add(warm);
    const after = await add(count);
    await control.send(0);
    await Promise.all(waiting);
    return [(after - before) / count];
  });
}

const SCENARIOS: Record<
  string,
  (count: number, warm: number) => Promise<number[]>
> = {
  "round-trip": how === "opaque" ? opaqueRoundTrip : roundTrip,
  lines: oneWay,
  bytes: oneWay,
  many,
  idle,
};

const run = SCENARIOS[scenario];
if (run === undefined) throw new Error(`There is no scenario "${scenario}"`);
console.log(JSON.stringify(await run(Number(countText), Number(warmText))));
