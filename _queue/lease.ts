// Copyright 2026 the Duplex authors. MIT license.

/**
 * How a queue's messages reach a worker and come to be handled: before each
 * message's bytes stand its number in the queue and how often it was tried
 * before, and the worker counts in shared memory what it has taken, asked for and
 * sent. So its parent knows, when the worker dies, which message it died of.
 *
 * @module
 */

import type { ByteBuffer } from "../_codec/byte_buffer.ts";
import type { Codec } from "../codec.ts";
import { Inbox, Outbox } from "../_session/credit.ts";
import { ProtocolError } from "../_base/errors.ts";
import { PostBox } from "../_thread/post_box.ts";
import type { StoredMessage } from "./store.ts";
import { Deque } from "../_base/waiting.ts";

/** Bytes before a message's own: its number in 48 bits, its attempts in 8. */
export const LEASE_SIZE = 7;

/** Bytes of the number; with 48 bits it never begins anew. */
const NUMBER_SIZE = 6;

/** What the low word of a number counts. */
const TWO_32 = 2 ** 32;

/** Attempts are written in a byte. */
export const MAX_RETRIES = 254;

/** Bytes up to which a loop copies faster than `set` with a view made for it. */
const LOOP_COPY_SIZE = 256;

/** How a message came to a worker. */
export interface Delivery {
  /** The message's number in its queue, from 1 up; the same every time. */
  readonly number: number;
  /** 1 for the first delivery, and one more each time that a worker ended without handling it. */
  readonly attempt: number;
}

/** The codec of a queue's end of a link: messages have been encoded already. */
export function queueCodec(codec: Codec): Codec {
  return {
    ...passOn(codec),
    encodeInto(value, target) {
      const { number, attempts, payload } = value as StoredMessage;
      if (payload.kind === "clone") throw new TypeError("It must be posted");
      const { buffer, start, end } = payload;
      target.reserve(LEASE_SIZE + end - start);
      const { view, length } = target;
      view.setUint16(length, number / TWO_32);
      view.setUint32(length + 2, number);
      view.setUint8(length + 6, attempts);
      target.length += LEASE_SIZE;
      copyBytes(buffer, start, end, target);
    },
  };
}

/** The codec of a worker's end of a link. */
export function workerCodec(codec: Codec, deliveries: Deliveries): Codec {
  /** Reads the lease, and gives where the message begins. */
  function readLease(bytes: Uint8Array, start: number, end: number): number {
    if (end - start < LEASE_SIZE) {
      throw new ProtocolError(
        `Cannot take a message of ${end - start} bytes from a queue`,
      );
    }
    // A view made for it would cost as much as all the rest.
    let at = start;
    let number = 0;
    for (let left = NUMBER_SIZE; left > 0; left--) {
      number = number * 256 + bytes[at++]!;
    }
    deliveries.push(number, bytes[at]!);
    return start + LEASE_SIZE;
  }
  return {
    ...passOn(codec),
    decodeRange(bytes, start, end) {
      const payload = readLease(bytes, start, end);
      return codec.decodeRange === undefined
        ? codec.decode(bytes.subarray(payload, end))
        : codec.decodeRange(bytes, payload, end);
    },
    decodeOwned(bytes) {
      const payload = bytes.subarray(readLease(bytes, 0, bytes.length));
      return codec.decodeOwned === undefined
        ? codec.decode(payload)
        : codec.decodeOwned(payload);
    },
  };
}

/** A codec's own methods, as a new object. */
function passOn(codec: Codec): Codec {
  const { name, encodeInto, decodeRange, decodeOwned } = codec;
  return {
    name,
    encode: (value) => codec.encode(value),
    decode: (bytes) => codec.decode(bytes),
    ...encodeInto && { encodeInto: encodeInto.bind(codec) },
    ...decodeRange && { decodeRange: decodeRange.bind(codec) },
    ...decodeOwned && { decodeOwned: decodeOwned.bind(codec) },
  };
}

function copyBytes(
  source: ByteBuffer,
  start: number,
  end: number,
  target: ByteBuffer,
): void {
  const { bytes } = source;
  let at = target.length;
  target.length += end - start;
  if (end - start > LOOP_COPY_SIZE) {
    target.bytes.set(bytes.subarray(start, end), at);
    return;
  }
  const into = target.bytes;
  for (let from = start; from < end;) into[at++] = bytes[from++]!;
}

/** The deliveries of messages that have arrived at a worker and were not taken. */
export class Deliveries {
  /** Number and attempts, in turn. */
  readonly #waiting = new Deque<number>();
  #number = 0;
  #attempts = 0;

  push(number: number, attempts: number): void {
    this.#waiting.push(number);
    this.#waiting.push(attempts);
  }

  /** The next message is taken. */
  shift(): void {
    this.#number = this.#waiting.shift();
    this.#attempts = this.#waiting.shift();
  }

  /** That of the message taken last. */
  get current(): Delivery | undefined {
    return this.#number === 0
      ? undefined
      : { number: this.#number, attempt: this.#attempts + 1 };
  }
}

/** What a queue posts beside the stream: the message with its delivery. */
export class LeasedPostBox extends PostBox {
  readonly #deliveries: Deliveries;

  constructor(deliveries: Deliveries) {
    super();
    this.#deliveries = deliveries;
  }

  override take(number: number): unknown {
    const [queued, attempts, message] = super.take(number) as [
      number,
      number,
      unknown,
    ];
    this.#deliveries.push(queued, attempts);
    return message;
  }
}

/** Where each count stands in the memory that a worker and its parent share. */
const TAKEN = 0;
const ASKED = 1;
const SENT = 2;
const WANTED = 3;
const COUNTS = 4;

/**
 * What a worker has done, for its parent to see at any time, also when the worker
 * is gone. The counts are cut to 32 bits, so they are compared by difference.
 */
export class SharedCounts {
  readonly #counts: Int32Array<SharedArrayBuffer>;

  /** @param memory What the worker made. Without it, new memory. */
  constructor(memory: unknown = new SharedArrayBuffer(4 * COUNTS)) {
    if (
      !(memory instanceof SharedArrayBuffer) || memory.byteLength < 4 * COUNTS
    ) {
      throw new ProtocolError(
        "Cannot read the hello of a worker: it brought no counts",
      );
    }
    this.#counts = new Int32Array(memory);
  }

  get memory(): SharedArrayBuffer {
    return this.#counts.buffer;
  }

  /** How many messages the worker has taken. */
  get taken(): number {
    return Atomics.load(this.#counts, TAKEN);
  }

  set taken(count: number) {
    Atomics.store(this.#counts, TAKEN, count);
  }

  /** How many it had taken when it asked for one last: these are handled. */
  get asked(): number {
    return Atomics.load(this.#counts, ASKED);
  }

  set asked(count: number) {
    Atomics.store(this.#counts, ASKED, count);
  }

  /** How many it has sent. */
  get sent(): number {
    return Atomics.load(this.#counts, SENT);
  }

  set sent(count: number) {
    Atomics.store(this.#counts, SENT, count);
  }

  /** The count of messages whose end the parent waits to be told of. */
  get wanted(): number {
    return Atomics.load(this.#counts, WANTED);
  }

  set wanted(count: number) {
    Atomics.store(this.#counts, WANTED, count);
  }
}

/** What a worker has sent, for its parent to see. */
export class LeasedOutbox extends Outbox {
  readonly #counts: SharedCounts;

  constructor(counts: SharedCounts) {
    super();
    this.#counts = counts;
  }

  override add(message: unknown, size: number): void {
    super.add(message, size);
    this.#counts.sent = this.sent;
  }
}

/**
 * A worker's messages. One that was taken counts as handled, and is acknowledged,
 * when the next one is asked for or something is sent.
 */
export class LeasedInbox extends Inbox {
  readonly #deliveries: Deliveries;
  readonly #counts: SharedCounts;
  #handled = 0;
  #asked = 0;
  /** What was asked when the parent was told of anything last. */
  #told = 0;

  constructor(
    window: number,
    windowMessages: number,
    deliveries: Deliveries,
    counts: SharedCounts,
  ) {
    super(window, windowMessages);
    this.#deliveries = deliveries;
    this.#counts = counts;
  }

  // A store may hold any number of messages for a worker.
  override get window(): number {
    return Infinity;
  }

  override get windowMessages(): number {
    return Infinity;
  }

  override onAsk(): void {
    this.#handled = this.taken;
    if (this.#asked === this.taken) return;
    this.#asked = this.taken;
    this.#counts.asked = this.taken;
  }

  override onAnswer(): void {
    this.#handled = this.taken;
  }

  override get acknowledgeable(): number {
    return this.#handled;
  }

  override get isCreditDue(): boolean {
    // A worker that has nothing more to do says so at once.
    if (this.#handled > this.credited) {
      if (this.length === 0 || super.isCreditDue) return true;
    }
    const { wanted } = this.#counts;
    return ((wanted - this.#told) | 0) > 0 && ((this.#asked - wanted) | 0) >= 0;
  }

  override onCredited(): void {
    super.onCredited();
    this.#told = this.#asked;
  }

  override onTaken(size: number): void {
    super.onTaken(size);
    this.#deliveries.shift();
    this.#counts.taken = this.taken;
  }
}
