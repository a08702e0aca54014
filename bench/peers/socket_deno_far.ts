// Copyright 2026 the Duplex authors. MIT license.

/**
 * The peer process of `socket_deno.ts`, `socket_deno_far.ts ROLE ADDRESS`, in
 * the roles "echo", "take-…" (as in `_threads.mjs`), "many" and "idle" (as in
 * `workers/socket_far.ts`).
 *
 * @module
 */

import { weigh } from "../_messages.mjs";
import { CONNECTIONS, lineOf, openMany } from "../workers/socket_shared.ts";
import { connect, Frames } from "./socket_deno_frames.ts";

const [role = "", address = ""] = Deno.args;

async function echo(): Promise<void> {
  using frames = new Frames(await connect(address));
  for (;;) {
    const message = await frames.receive();
    if (message === undefined) return;
    await frames.send(message);
  }
}

/** Sends bytes back. */
async function opaque(): Promise<void> {
  using conn = await connect(address);
  const buffer = new Uint8Array(64 * 1024);
  for (;;) {
    const read = await conn.read(buffer);
    if (read === null) return;
    for (let start = 0; start < read;) {
      start += await conn.write(buffer.subarray(start, read));
    }
  }
}

async function takeLines(): Promise<void> {
  using frames = new Frames(await connect(address));
  for (;;) {
    const count = await frames.receive();
    if (count === undefined) return;
    let sum = 0;
    for (let left = count as number; left > 0;) {
      const message = frames.next();
      if (message !== undefined) {
        sum += weigh(message);
        left--;
      } else if (!await frames.fill()) throw new Error("The peer ended");
    }
    await frames.send(sum);
  }
}

async function takeBytes(): Promise<void> {
  using frames = new Frames(await connect(address));
  for (;;) {
    const count = await frames.receive();
    if (count === undefined) return;
    let sum = 0;
    for (let index = 0; index < (count as number); index++) {
      sum += weigh(await frames.receiveBytes());
    }
    await frames.send(sum);
  }
}

/** Sends the requested number of lines, until it is 0. */
async function give(frames: Frames, connection: number): Promise<void> {
  for (;;) {
    const count = await frames.receive();
    if (count === 0) break;
    await frames.sendAll(count as number, (index) => lineOf(connection, index));
  }
  frames[Symbol.dispose]();
}

async function many(): Promise<void> {
  const all = await openMany(
    CONNECTIONS,
    async () => new Frames(await connect(address)),
  );
  await Promise.all(all.map(give));
}

async function greet(): Promise<Frames> {
  const frames = new Frames(await connect(address));
  await frames.send("hello");
  if (await frames.receive() !== "hello") throw new Error("No greeting came");
  return frames;
}

/** Opens the requested number of connections, until it is 0. */
async function idle(): Promise<void> {
  using control = new Frames(await connect(address));
  const all: Frames[] = [];
  for (;;) {
    const count = await control.receive();
    if (count === 0) break;
    all.push(...await openMany(count as number, greet));
    await control.send(count);
  }
  for (const frames of all) frames[Symbol.dispose]();
}

if (role === "take-lines") await takeLines();
else if (role === "take-bytes") await takeBytes();
else if (role === "many") await many();
else if (role === "idle") await idle();
else if (role === "opaque") await opaque();
else await echo();
