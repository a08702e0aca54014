// Copyright 2026 the Duplex authors. MIT license.

/**
 * Rings in shared memory whose words and bytes another thread overwrites
 * between any two atomic operations. One thread runs both sides.
 *
 * @module
 */

import { ProtocolError } from "../../_base/errors.ts";
import {
  DEFAULT_OPTIONS,
  type SessionOptions,
} from "../../_session/options.ts";
import {
  formatRings,
  HEADER_SIZE,
  INTEREST,
  makeRings,
  openRings,
  RingEnd,
  type RingMemory,
  type RingRole,
  WORD,
} from "../../_shm/ring.ts";
import { ShmSession } from "../../_shm/session.ts";
import { ShmWire } from "../../_shm/shm_wire.ts";
import type { Port } from "../../_thread/scope.ts";
import { ClosedError, PeerExitError } from "../../duplex.ts";
import { type Bytes, concat, Draw, mutate, smallerBytes } from "./draw.ts";
import { equalBytes } from "./equal.ts";
import {
  checkMessage,
  receiveAll,
  show,
  type Target,
  turn,
  Violation,
  within,
} from "./harness.ts";

/** Milliseconds within which each promise must settle. */
const LIMIT = 3_000;

/** Bytes before and after the rings that must not change. */
const MARGIN = 64;

/** The value of such a byte. */
const CANARY = 0xa5;

const INTERESTS = [
  INTEREST.bytes,
  INTEREST.room,
  INTEREST.bytes | INTEREST.room,
];

/** Words of the header that a reader trusts after its checks. */
const POSITIONS: readonly number[] = [
  ...[WORD.openerWritten, WORD.openerRead, WORD.acceptorWritten],
  ...[WORD.acceptorRead],
];
const WORDS: readonly number[] = [
  ...POSITIONS,
  ...POSITIONS,
  ...[WORD.openerBell, WORD.acceptorBell, WORD.closed, WORD.magic],
  ...[WORD.capacity, 3, 17, 111],
];

const real = { load: Atomics.load, store: Atomics.store, or: Atomics.or };

/** Changes shared memory like another thread. */
class Meddler implements Disposable {
  readonly #memory: RingMemory;
  readonly #draw: Draw;
  /**
   * Atomic operations before the next change, and the number of remaining
   * changes.
   */
  #wait: number;
  #left: number;
  /**
   * Whether a position or a byte was changed, so that any result is possible.
   */
  isDirty = false;

  constructor(memory: RingMemory, draw: Draw, changes: number) {
    this.#memory = memory;
    this.#draw = draw;
    this.#left = changes;
    this.#wait = draw.below(200);
    if (changes === 0) return;
    for (const name of ["load", "store", "or"] as const) {
      Object.assign(Atomics, {
        [name]: (words: Int32Array, ...rest: [number, number]) => {
          if (words === memory.words) this.#onOperation();
          return (real[name] as typeof Atomics.or)(words, ...rest);
        },
      });
    }
  }

  /** Changes memory now. */
  change(): void {
    const draw = this.#draw;
    const { words, rings } = this.#memory;
    if (draw.below(5) === 4) {
      const ring = draw.pick(rings);
      ring[draw.below(ring.length)] = draw.below(256);
      this.isDirty = true;
      return;
    }
    const word = draw.pick(WORDS);
    const now = real.load(words, word);
    const values = [
      now + draw.between(-3, 3),
      now + draw.between(-5_000, 5_000),
      now + rings[0].length,
      real.load(words, draw.pick(WORDS)),
      draw.boundary(),
      draw.below(4),
      draw.fraction() * 2 ** 32,
    ];
    const value = draw.pick(values) | 0;
    if (value === now) return;
    real.store(words, word, value);
    if (draw.oneIn(2)) Atomics.notify(words, word);
    // After other changes some bytes may not arrive, but the rest is correct.
    if (POSITIONS.includes(word)) this.isDirty = true;
  }

  #onOperation(): void {
    if (this.#left === 0 || this.#wait-- > 0) return;
    this.#left--;
    this.#wait = this.#draw.below(60);
    this.change();
  }

  [Symbol.dispose](): void {
    Object.assign(Atomics, real);
  }
}

/** Rings inside memory that must not change. */
function framedRings(draw: Draw): { memory: RingMemory; check(): void } {
  const capacity = 2 ** draw.between(0, 12);
  const size = HEADER_SIZE + 2 * capacity;
  const buffer = new SharedArrayBuffer(size + 2 * MARGIN);
  const bytes = new Uint8Array(buffer).fill(CANARY);
  const position = draw.pick([
    0,
    1,
    -1,
    2 ** 31 - 5,
    -(2 ** 31),
    draw.boundary() | 0,
  ]);
  const memory = formatRings(buffer, MARGIN, capacity, position);
  return {
    memory,
    check() {
      for (const start of [0, MARGIN + size]) {
        const margin = bytes.subarray(start, start + MARGIN);
        if (margin.every((byte) => byte === CANARY)) continue;
        throw new Violation("Memory outside of the rings was written");
      }
    },
  };
}

/** Calls a function that may find corrupted rings. */
function attempt<T>(call: () => T, fallback: T): T {
  try {
    return call();
  } catch (error) {
    if (!(error instanceof ProtocolError) || error.cause !== undefined) {
      throw new Violation(`A ring throws an unexpected error: ${show(error)}`);
    }
    checkMessage(error);
    return fallback;
  }
}

/** One side, and the bytes that it has written and the other has not read. */
interface Side {
  readonly end: RingEnd;
  readonly capacity: number;
  written: Bytes;
}

function write(side: Side, draw: Draw, meddler: Meddler): void {
  const bytes = draw.bytes(draw.below(draw.oneIn(5) ? 6_000 : 200));
  const start = draw.below(bytes.length + 1);
  const stop = draw.between(start, bytes.length);
  const room = attempt(() => side.end.room(), 0);
  const size = attempt(() => side.end.write(bytes, start, stop), 0);
  if (size < 0 || size > Math.min(stop - start, side.capacity)) {
    throw new Violation(`A write of ${stop - start} bytes wrote ${size}`);
  }
  if (!meddler.isDirty && size !== Math.min(room, stop - start)) {
    throw new Violation(
      `A write wrote ${size} bytes where there was room for ${room}`,
    );
  }
  side.written = concat(side.written, bytes.subarray(start, start + size));
}

function read(side: Side, from: Side, draw: Draw, meddler: Meddler): void {
  const into = new Uint8Array(draw.below(6_000)).fill(CANARY);
  const start = draw.below(into.length + 1);
  const stop = draw.between(start, into.length);
  const size = attempt(() => side.end.read(into, start, stop), 0);
  // More bytes than a ring holds would be outside of it.
  if (size < 0 || size > Math.min(stop - start, side.capacity)) {
    throw new Violation(`A read into ${stop - start} bytes read ${size}`);
  }
  const outside = [into.subarray(0, start), into.subarray(start + size)];
  if (outside.some((bytes) => bytes.some((byte) => byte !== CANARY))) {
    throw new Violation("A read writes outside of its target");
  }
  if (meddler.isDirty) return;
  const expected = from.written.subarray(0, stop - start);
  if (!equalBytes(into.subarray(start, start + size), expected)) {
    throw new Violation("A ring returns bytes that were not written");
  }
  from.written = from.written.slice(size);
}

/** A random operation of a side. */
function step(
  side: Side,
  other: Side,
  draw: Draw,
  meddler: Meddler,
  waits: Promise<unknown>[],
): void {
  const { end } = side;
  switch (draw.below(12)) {
    case 0:
    case 1:
    case 2:
    case 3:
      return write(side, draw, meddler);
    case 4:
    case 5:
    case 6:
    case 7:
      return read(side, other, draw, meddler);
    case 8: {
      const wait = attempt(() => end.wait(draw.pick(INTERESTS)), undefined);
      if (wait !== undefined) waits.push(wait);
      return;
    }
    case 9:
      attempt(() => end.waitSync(draw.pick(INTERESTS), 0.05), false);
      return;
    case 10:
      attempt(() => end.hasEnded(), true);
      attempt(() => end.isClosed(), true);
      return;
    default:
      if (draw.below(8) !== 7) return meddler.change();
      return draw.oneIn(2) ? end.close() : end.closePeer();
  }
}

async function runEnds(draw: Draw): Promise<void> {
  const { memory, check } = framedRings(draw);
  const ends = (["opener", "acceptor"] as const).map((
    role: RingRole,
  ): Side => ({
    end: new RingEnd(memory, role),
    capacity: memory.rings[0].length,
    written: new Uint8Array(),
  }));
  const waits: Promise<unknown>[] = [];
  {
    using meddler = new Meddler(memory, draw, draw.below(4));
    for (let left = draw.below(80); left > 0; left--) {
      const index = draw.below(2);
      step(ends[index]!, ends[1 - index]!, draw, meddler, waits);
      check();
    }
  }
  // A wait for a changed word ends when its own side closes.
  for (const { end } of ends) end.close();
  await within(Promise.all(waits), LIMIT, "a wait for a ring");
}

/** Opens rings in memory that may not contain valid ones. */
function runHeader(draw: Draw): void {
  const size = draw.pick([
    0,
    3,
    447,
    448,
    450,
    512,
    576,
    4_544,
    draw.below(9_000),
  ]);
  const buffer = new SharedArrayBuffer(size);
  if (size >= 12) {
    const words = new Int32Array(buffer, 0, 3);
    const { words: right } = makeRings(64);
    words[WORD.magic] = right[WORD.magic]! + (draw.oneIn(8) ? 1 : 0);
    words[WORD.capacity] = draw.oneIn(2)
      ? 2 ** draw.between(0, 31)
      : draw.boundary() * draw.pick([1, -1]);
  }
  const memory = attempt(() => openRings(buffer), undefined);
  if (memory === undefined) return;
  const { length } = memory.rings[0];
  const isPower = length > 0 && (length & length - 1) === 0;
  if (!isPower || memory.rings[1].byteOffset + length > size) {
    throw new Violation(`Rings of ${length} bytes are opened in ${size} bytes`);
  }
  const end = new RingEnd(memory, "acceptor");
  attempt(() => end.write(new Uint8Array(10), 0, 10), 0);
  attempt(() => end.read(new Uint8Array(10), 0, 10), 0);
}

/** Two ports that post to each other. */
function ports(): [Port, Port] {
  const listeners: ((message: unknown) => void)[] = [() => {}, () => {}];
  const port = (index: number): Port => ({
    postMessage(message, transfer) {
      const clone = structuredClone(message, { transfer });
      setImmediate(() => listeners[1 - index]!(clone));
    },
    listen: (listener) => void (listeners[index] = listener),
  });
  return [port(0), port(1)];
}

/** Two sessions through rings. */
function sessions(
  memory: RingMemory,
): { session: ShmSession; wire: ShmWire }[] {
  return ports().map((port, index) => {
    const role = index === 0 ? "opener" : "acceptor";
    const options: SessionOptions = {
      ...DEFAULT_OPTIONS,
      role,
      name: role,
      deadlockTimeout: Infinity,
      closeTimeout: 50,
    };
    const exitError = (cause: unknown, unsent: readonly unknown[]) =>
      new PeerExitError("The campaign has ended the rings", { cause, unsent });
    const wire = new ShmWire(new RingEnd(memory, role), {
      port,
      end: {
        diagnose: (cause, unsent) => Promise.resolve(exitError(cause, unsent)),
        close: () => Promise.resolve(),
        destroy: () => Promise.resolve(),
      },
      exitError,
    });
    return { session: new ShmSession(wire, options), wire };
  });
}

/** Checks the reason of a failed session. */
function checkFailure(error: unknown): void {
  const isKnown = error === undefined || error === STOP ||
    error instanceof ProtocolError || error instanceof ClosedError ||
    error instanceof PeerExitError;
  if (!isKnown) {
    throw new Violation(
      `A session fails with an unexpected error: ${show(error)}`,
    );
  }
  if (error !== undefined) checkMessage(error as Error);
}

const STOP = new Error("The campaign has ended");

interface Sent {
  readonly messages: Bytes[];
  readonly results: Promise<unknown>[];
}

/** Sends some messages, a few of them by blocking. */
function sendSome(session: ShmSession, draw: Draw): Sent {
  const messages: Bytes[] = [];
  const results: Promise<unknown>[] = [];
  for (let left = draw.below(6); left > 0; left--) {
    const message = draw.bytes(draw.below(draw.oneIn(4) ? 9_000 : 300));
    if (draw.below(8) === 7) {
      try {
        session.sendSync(message, { timeout: 2 });
        messages.push(message);
      } catch (error) {
        if (!(error instanceof DOMException)) checkFailure(error);
      }
      continue;
    }
    messages.push(message);
    const transfer = draw.below(6) === 5 ? [message.slice().buffer] : [];
    results.push(
      session.send(message, { transfer }).then(
        () => undefined,
        (error) => error,
      ),
    );
  }
  return { messages, results };
}

async function runSessions(draw: Draw): Promise<void> {
  const memory = makeRings(2 ** draw.between(8, 12));
  const ends = sessions(memory);
  const changes = draw.below(5);
  const opened = ends.map(({ session }) =>
    session.open().catch((error) => error)
  );
  const found: unknown[][] = [[], []];
  const sent: Sent[] = [];
  const receiving = ends.map(({ session }, index) =>
    receiveAll(session, found[index]!)
  );
  let isDirty: boolean;
  {
    using meddler = new Meddler(memory, draw, changes);
    await turn();
    for (const { session } of ends) sent.push(sendSome(session, draw));
    for (let left = draw.below(6); left > 0; left--) {
      if (changes > 0 && draw.oneIn(3)) meddler.change();
      await turn();
    }
    if (changes === 0) await awaitAll(ends, sent, found);
    isDirty = meddler.isDirty;
  }
  for (const { session, wire } of ends) {
    session.abort(STOP);
    wire.onPeerGone();
  }
  const all = Promise.all([
    ...receiving,
    ...opened,
    ...sent.flatMap(({ results }) => results),
  ]);
  for (const error of await within(all, LIMIT, "a session")) {
    checkFailure(error);
  }
  for (const { session } of ends) {
    await within(session.closed.catch(checkFailure), LIMIT, "closed");
  }
  if (isDirty) return;
  for (const [index, messages] of found.entries()) {
    const expected = sent[1 - index]!.messages;
    for (const [place, message] of messages.entries()) {
      if (
        message instanceof Uint8Array && expected[place] !== undefined &&
        equalBytes(message, expected[place])
      ) continue;
      throw new Violation(`Message ${place} arrives changed`);
    }
  }
}

/** Waits until everything has arrived, if nothing was changed. */
async function awaitAll(
  ends: readonly { readonly session: ShmSession }[],
  sent: readonly Sent[],
  found: readonly unknown[][],
): Promise<void> {
  const results = await within(
    Promise.all(sent.flatMap(({ results }) => results)),
    LIMIT,
    "a send",
  );
  const failed = results.find((result) => result !== undefined);
  if (failed !== undefined) {
    throw new Violation(`A send fails: ${show(failed)}`);
  }
  const end = performance.now() + LIMIT;
  for (const [index, { messages }] of sent.entries()) {
    while (found[1 - index]!.length < messages.length) {
      if (performance.now() > end) {
        throw new Violation(
          `Messages do not arrive: ${show(ends[index]!.session.stats)}`,
        );
      }
      await turn();
    }
  }
}

const ring: Target = {
  batch: 8_000,
  group: 200,
  isAsync: true,
  make(draw) {
    const bytes = draw.bytes(draw.between(20, 600));
    return draw.oneIn(3) ? mutate(bytes, draw) : bytes;
  },
  async run(input) {
    const draw = Draw.from(input);
    const mode = draw.below(8);
    if (mode === 7) runHeader(draw);
    else if (mode < 5) await runEnds(draw);
    else await runSessions(draw);
  },
  // A session has time to settle twice.
  budget: () => ({ ms: 1_500, bytes: 24 * 2 ** 20 }),
  smaller: smallerBytes,
};

/** The targets of this file. */
export const RING_TARGETS: Readonly<Record<string, Target>> = { ring };
