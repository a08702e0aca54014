// Copyright 2026 the Duplex authors. MIT license.

/**
 * Two rings of bytes in shared memory between two threads, one each way.
 * PROTOCOL.md defines them under "The rings".
 *
 * - A side copies what there is or what there is room for, and publishes it with
 *   one atomic store of its position. Nothing is locked.
 * - A side that has nothing to do writes into its bell what it waits for, checks
 *   again, and only then sleeps, on the bell. The other side reads the bell after
 *   it has published, and rings it if the first side waits. So no wake-up is lost,
 *   and none is made while both sides work.
 * - Closing, from either side, wakes both. No side sleeps on closed rings.
 * - Every word of the header is checked: an impossible position is a
 *   `ProtocolError`, never a copy out of range. A side's own positions are kept
 *   outside of the shared memory.
 *
 * `tests/shm/_ring_model.ts` runs this code through every interleaving of its
 * atomic operations.
 *
 * @module
 */

import { ProtocolError } from "../_base/errors.ts";
import type { Closing } from "../_thread/watch.ts";

/** Memory that threads share, as bytes. */
export type SharedBytes = Uint8Array<SharedArrayBuffer>;

/** The header, and the storage of each ring. */
export interface RingMemory {
  readonly words: Int32Array<SharedArrayBuffer>;
  /** The opener's output, and the acceptor's. */
  readonly rings: readonly [SharedBytes, SharedBytes];
}

/** Which side of the rings: the one that made them is the opener. */
export type RingRole = "opener" | "acceptor";

/** The events that a side waits for; bits of a bell. */
export const INTEREST = {
  /** Bytes to read. */
  bytes: 1,
  /** Room to write. */
  room: 2,
} as const;

/**
 * Indices of the header's words. What one side writes and the other reads has a
 * cache line of its own.
 */
export const WORD = {
  magic: 0,
  capacity: 1,
  closed: 2,
  blocked: 3,
  openerWritten: 16,
  acceptorRead: 32,
  acceptorWritten: 48,
  openerRead: 64,
  openerBell: 80,
  acceptorBell: 96,
} as const;

/** Bytes before the storage: seven cache lines. */
export const HEADER_SIZE = 448;

/** "DPR" and the version of this layout. */
const MAGIC = 0x44505201;

/** The bits of `WORD.closed` and `WORD.blocked`. */
const SIDE = { opener: 1, acceptor: 2 } as const;

/**
 * The largest ring: with positions of 32 bits a full ring differs from a corrupted
 * one as long as they count more than twice as far.
 */
export const MAX_CAPACITY: number = 2 ** 30;

/**
 * Bytes up to which a loop copies: `set` needs a typed array for its source, which
 * costs more than the loop.
 */
const MAX_LOOP_SIZE = 128;

/** Milliseconds of a spin: what waking a sleeping thread costs at most. */
const SPIN_TIME = 0.05;

/** Checks of the rings between two readings of the clock, which costs ten of them. */
const SPIN_LOOKS = 16;

/** Weight of the last spin in the share of spins that were useful. */
const SPIN_WEIGHT = 1 / 8;

/** The share of useful spins at which every wait spins. */
const MIN_PAYING = 1 / 2;

/** Below that share, one wait in so many spins, to find out whether it has changed. */
const PROBE_INTERVAL = 32;

/**
 * Makes two empty rings.
 *
 * @param capacity Bytes of the storage of each; a power of two.
 * @param position Where the positions begin, for tests.
 */
export function makeRings(capacity: number, position = 0): RingMemory {
  const buffer = new SharedArrayBuffer(HEADER_SIZE + 2 * capacity);
  return formatRings(buffer, 0, capacity, position);
}

/** Makes two empty rings in existing memory. */
export function formatRings(
  buffer: SharedArrayBuffer,
  offset: number,
  capacity: number,
  position: number,
): RingMemory {
  const words = new Int32Array(buffer, offset, HEADER_SIZE / 4);
  words.fill(0);
  words[WORD.capacity] = capacity;
  words[WORD.openerWritten] = words[WORD.acceptorRead] = position;
  words[WORD.acceptorWritten] = words[WORD.openerRead] = position;
  Atomics.store(words, WORD.magic, MAGIC);
  return openRings(buffer, offset);
}

/**
 * Opens rings that the other side has made.
 *
 * @throws {ProtocolError} If the memory does not contain rings.
 */
export function openRings(buffer: SharedArrayBuffer, offset = 0): RingMemory {
  const room = Math.floor((buffer.byteLength - offset - HEADER_SIZE) / 2);
  if (room < 1) {
    throw new ProtocolError(
      `Cannot open rings: ${buffer.byteLength - offset} bytes hold none`,
    );
  }
  const words = new Int32Array(buffer, offset, HEADER_SIZE / 4);
  const magic = Atomics.load(words, WORD.magic);
  const capacity = Atomics.load(words, WORD.capacity);
  if (magic !== MAGIC) {
    throw new ProtocolError(
      `Cannot open rings: their first word must be ${MAGIC}: current value is ${magic}`,
    );
  }
  if (
    capacity < 1 || capacity > Math.min(room, MAX_CAPACITY) ||
    (capacity & (capacity - 1)) !== 0
  ) {
    throw new ProtocolError(
      `Cannot open rings: their capacity must be a power of two up to ${room}: current value is ${capacity}`,
    );
  }
  const start = offset + HEADER_SIZE;
  const rings = [
    new Uint8Array(buffer, start, capacity),
    new Uint8Array(buffer, start + capacity, capacity),
  ] as const;
  return { words, rings };
}

/**
 * Decides whether to spin, from the results of the last spins. Between two threads
 * that answer each other at once nearly all are useful, and save the cost of waking
 * a thread. If the peer is slow, or both run on one core, where a spin only keeps
 * the other from running, few are; then it is tried from time to time, for less
 * than two microseconds a wait.
 */
export class SpinPolicy {
  #paying = 1;
  #waits = 0;

  /** Returns when a spin that begins now must end, or 0 if it must not begin. */
  begin(): number {
    const isTried = this.#paying >= MIN_PAYING ||
      ++this.#waits % PROBE_INTERVAL === 0;
    return isTried ? performance.now() + SPIN_TIME : 0;
  }

  /** Records whether a spin was useful. */
  end(paid: boolean): void {
    this.#paying += ((paid ? 1 : 0) - this.#paying) * SPIN_WEIGHT;
  }
}

/** One side of both rings. */
export class RingEnd {
  /** Whether an asynchronous wait should spin first; a blocking one does. */
  readonly spin: SpinPolicy | undefined;
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #capacity: number;
  readonly #ownBell: number;
  readonly #peerBell: number;
  readonly #ownBit: number;
  readonly #peerBit: number;
  /** The indices of the words of both directions. */
  readonly #outWritten: number;
  readonly #outRead: number;
  readonly #inWritten: number;
  readonly #inRead: number;
  readonly #out: SharedBytes;
  readonly #in: SharedBytes;
  /** This side's positions; they count on and wrap at 32 bits. */
  #written: number;
  #read: number;
  /** The last known positions of the other side. */
  #peerRead: number;
  #peerWritten: number;

  /**
   * @param memory The rings.
   * @param role Which side this is.
   * @param spin Whether to spin before a wait; without it there is none.
   */
  constructor(memory: RingMemory, role: RingRole, spin?: SpinPolicy) {
    const { words, rings } = memory;
    const isOpener = role === "opener";
    this.spin = spin;
    this.#words = words;
    this.#ownBell = isOpener ? WORD.openerBell : WORD.acceptorBell;
    this.#peerBell = isOpener ? WORD.acceptorBell : WORD.openerBell;
    this.#ownBit = isOpener ? SIDE.opener : SIDE.acceptor;
    this.#peerBit = isOpener ? SIDE.acceptor : SIDE.opener;
    this.#outWritten = isOpener ? WORD.openerWritten : WORD.acceptorWritten;
    this.#outRead = isOpener ? WORD.acceptorRead : WORD.openerRead;
    this.#inWritten = isOpener ? WORD.acceptorWritten : WORD.openerWritten;
    this.#inRead = isOpener ? WORD.openerRead : WORD.acceptorRead;
    [this.#out, this.#in] = isOpener ? rings : [rings[1], rings[0]];
    this.#capacity = this.#out.length;
    this.#written = Atomics.load(words, this.#outWritten);
    this.#peerRead = (this.#written - this.#capacity) | 0;
    this.#read = Atomics.load(words, this.#inRead);
    this.#peerWritten = this.#read;
    this.room();
    this.available();
  }

  /** Bytes that can be read now. */
  available(): number {
    const written = Atomics.load(this.#words, this.#inWritten);
    const size = (written - this.#read) >>> 0;
    // The writer only moves forward, and never beyond the room.
    if (
      size > this.#capacity || size < ((this.#peerWritten - this.#read) >>> 0)
    ) throw corrupted("read from", written, this.#read, this.#capacity);
    this.#peerWritten = written;
    return size;
  }

  /** Bytes that can be written now. */
  room(): number {
    const read = Atomics.load(this.#words, this.#outRead);
    const used = (this.#written - read) >>> 0;
    // The reader only moves forward, and never beyond what was written.
    if (used > ((this.#written - this.#peerRead) >>> 0)) {
      throw corrupted("write to", this.#written, read, this.#capacity);
    }
    this.#peerRead = read;
    return this.#capacity - used;
  }

  /** Whether either side has closed: what is written now is lost. */
  isClosed(): boolean {
    return this.#closed() !== 0;
  }

  /** Whether nothing more will arrive, and everything was read. */
  hasEnded(): boolean {
    // The closed word comes first: bytes may be written and the rings closed
    // after a look that found nothing.
    const closed = this.#closed();
    return (closed & this.#ownBit) !== 0 ||
      closed !== 0 && this.available() === 0;
  }

  /**
   * Copies out all that there is, or as much as fits, and frees its room.
   *
   * @returns How many bytes; 0 if there are none.
   */
  read(into: Uint8Array, start: number, end: number): number {
    const size = Math.min(this.available(), end - start);
    if (size === 0) return 0;
    const at = this.#read & (this.#capacity - 1);
    const first = Math.min(size, this.#capacity - at);
    copy(this.#in, at, into, start, first);
    if (first < size) copy(this.#in, 0, into, start + first, size - first);
    this.#read = (this.#read + size) | 0;
    // From here on the writer may write over these bytes.
    Atomics.store(this.#words, this.#inRead, this.#read);
    this.#ring(INTEREST.room);
    return size;
  }

  /**
   * Copies in as many bytes as there is room for and publishes them.
   *
   * @returns How many; 0 if there is no room.
   */
  write(bytes: Uint8Array, start: number, end: number): number {
    const wanted = end - start;
    let room = this.#capacity - ((this.#written - this.#peerRead) >>> 0);
    if (room < wanted) room = this.room();
    const size = Math.min(room, wanted);
    if (size === 0) return 0;
    const at = this.#written & (this.#capacity - 1);
    const first = Math.min(size, this.#capacity - at);
    copy(bytes, start, this.#out, at, first);
    if (first < size) copy(bytes, start + first, this.#out, 0, size - first);
    this.#written = (this.#written + size) | 0;
    // A thread that sees this position sees the bytes.
    Atomics.store(this.#words, this.#outWritten, this.#written);
    this.#ring(INTEREST.bytes);
    return size;
  }

  /** Whether there is something of interest to do, including an end. */
  isReady(interest: number): boolean {
    return (interest & INTEREST.bytes) !== 0 && this.available() > 0 ||
      (interest & INTEREST.room) !== 0 && this.room() > 0 || this.isClosed();
  }

  /**
   * Waits without blocking. Returns a promise to wait for, or `undefined` if
   * there is something to do now. In both cases check again, and wait again if there
   * is nothing: the bell may have rung for something else.
   *
   * The promise does not keep the event loop alive, even when it is about to settle.
   */
  wait(interest: number): Promise<unknown> | undefined {
    const bell = this.#arm(interest);
    if (bell === 0) return undefined;
    const sleep = Atomics.waitAsync(this.#words, this.#ownBell, bell);
    return sleep.async ? sleep.value : undefined;
  }

  /** Whether there is something of interest, at the end of a short spin. */
  isReadySoon(interest: number): boolean {
    return this.isReady(interest) || this.#spinSync(interest);
  }

  /**
   * Blocks the thread until there is something of interest, after a short spin.
   *
   * @param interest What to wait for.
   * @param timeout Milliseconds to wait at most.
   * @returns Whether there is something to do.
   */
  waitSync(interest: number, timeout: number = Infinity): boolean {
    return this.isReadySoon(interest) || this.sleepSync(interest, timeout);
  }

  /** As {@linkcode RingEnd.waitSync}, without the spin. */
  sleepSync(interest: number, timeout: number): boolean {
    const deadline = performance.now() + timeout;
    for (;;) {
      const bell = this.#arm(interest);
      if (bell === 0) return true;
      const left = deadline - performance.now();
      if (!(left > 0)) return false;
      Atomics.wait(this.#words, this.#ownBell, bell, left);
    }
  }

  /**
   * Declares that this thread will be blocked until the other side writes, unless it
   * has a timeout.
   *
   * @returns Whether that cannot happen, because the other side has declared it and
   *   has read everything. Of two sides, only the second finds this.
   */
  block(hasTimeout: boolean): boolean {
    const before = hasTimeout
      ? Atomics.load(this.#words, WORD.blocked)
      : Atomics.or(this.#words, WORD.blocked, this.#ownBit);
    if ((before & this.#peerBit) === 0) return false;
    const isIdle = this.room() === this.#capacity && this.available() === 0 &&
      !this.isClosed();
    // The other side withdraws its bit before it reads what has woken it.
    return isIdle &&
      (Atomics.load(this.#words, WORD.blocked) & this.#peerBit) !== 0;
  }

  /** Withdraws {@linkcode RingEnd.block}. */
  unblock(): void {
    Atomics.and(this.#words, WORD.blocked, ~this.#ownBit);
  }

  /** What another thread needs for {@linkcode RingEnd.closePeer}. */
  get closing(): Closing {
    const bells = [this.#ownBell, this.#peerBell];
    return {
      words: this.#words,
      closed: WORD.closed,
      bit: this.#peerBit,
      bells,
    };
  }

  /** Closes this side, behind what it has written. */
  close(): void {
    this.#closeWith(this.#ownBit);
  }

  /** Closes for the other side, which is gone; what it has written can still be read. */
  closePeer(): void {
    this.#closeWith(this.#peerBit);
  }

  /**
   * Publishes what this side waits for, then checks again: the order matters.
   * Returns what to sleep on, or 0 if there is something to do.
   */
  #arm(interest: number): number {
    // The interest of an asynchronous wait under way stays, also if there is
    // something to do after all.
    const before = Atomics.or(this.#words, this.#ownBell, interest);
    return this.isReady(interest) ? 0 : before | interest;
  }

  /** Rings the other side's bell if it waits for this. Called after publishing. */
  #ring(interest: number): void {
    if ((Atomics.load(this.#words, this.#peerBell) & interest) === 0) return;
    Atomics.store(this.#words, this.#peerBell, 0);
    Atomics.notify(this.#words, this.#peerBell);
  }

  #spinSync(interest: number): boolean {
    const { spin } = this;
    const end = spin?.begin() ?? 0;
    if (end === 0) return false;
    do {
      for (let look = 0; look < SPIN_LOOKS; look++) {
        if (this.isReady(interest)) {
          spin!.end(true);
          return true;
        }
      }
    } while (performance.now() < end);
    spin!.end(false);
    return false;
  }

  #closeWith(bit: number): void {
    Atomics.or(this.#words, WORD.closed, bit);
    for (const bell of [this.#ownBell, this.#peerBell]) {
      Atomics.store(this.#words, bell, 0);
      // Whatever the bell says: a peer that died may have been about to ring.
      Atomics.notify(this.#words, bell);
    }
  }

  #closed(): number {
    const closed = Atomics.load(this.#words, WORD.closed);
    if ((closed & ~(this.#ownBit | this.#peerBit)) === 0) return closed;
    throw new ProtocolError(
      `Cannot use rings: their closed word must be 0 to 3: current value is ${closed}`,
    );
  }
}

function copy(
  from: Uint8Array,
  start: number,
  to: Uint8Array,
  at: number,
  size: number,
): void {
  if (size <= MAX_LOOP_SIZE) {
    for (let index = 0; index < size; index++) {
      to[at + index] = from[start + index]!;
    }
  } else {
    to.set(from.subarray(start, start + size), at);
  }
}

function corrupted(
  action: string,
  written: number,
  read: number,
  capacity: number,
): ProtocolError {
  return new ProtocolError(
    `Cannot ${action} a ring of ${capacity} bytes: its write position ${
      written >>> 0
    } and its read position ${read >>> 0} cannot be`,
  );
}
