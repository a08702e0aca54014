// Copyright 2026 the Duplex authors. MIT license.

/**
 * How a queue's messages reach a worker and come to be handled: before each
 * message's bytes stand its number in the queue and how often it was tried
 * before, and the worker counts in shared memory how many it has taken. So its
 * parent knows, when the worker dies, which message it died of.
 *
 * @module
 */

import type { ByteBuffer } from "./_byte_buffer.ts";
import type { Codec } from "./codec.ts";
import { Inbox } from "./_credit.ts";
import { ProtocolError } from "./_errors.ts";
import { PostBox } from "./_port.ts";
import type { StoredMessage } from "./_queue_store.ts";
import { Deque } from "./_waiting.ts";

/** Bytes before a message's own: its number in 32 bits, its attempts in 8. */
const LEASE_SIZE = 5;

/** Attempts are written in a byte. */
export const MAX_ATTEMPTS = 255;

/** Bytes up to which a loop copies faster than `set` with a view made for it. */
const LOOP_COPY_SIZE = 256;

/** How a message came to a worker. */
export interface Delivery {
  /** The message's number in its queue, from 1 up; the same every time. */
  readonly number: number;
  /** How often workers had taken it before and died without handling it. */
  readonly attempts: number;
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
      target.view.setUint32(target.length, number);
      target.view.setUint8(target.length + 4, attempts);
      target.length += LEASE_SIZE;
      copyBytes(buffer, start, end, target);
    },
  };
}

/** The codec of a worker's end of a link. */
export function workerCodec(codec: Codec, deliveries: Deliveries): Codec {
  const decodeRange = (bytes: Uint8Array, start: number, end: number) => {
    if (end - start < LEASE_SIZE) {
      throw new ProtocolError(
        `Cannot take a message of ${end - start} bytes from a queue`,
      );
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset + start);
    deliveries.push(view.getUint32(0), view.getUint8(4));
    const payload = start + LEASE_SIZE;
    return codec.decodeRange === undefined
      ? codec.decode(bytes.subarray(payload, end))
      : codec.decodeRange(bytes, payload, end);
  };
  return {
    ...passOn(codec),
    decodeRange,
    decodeOwned: (bytes) => decodeRange(bytes, 0, bytes.length),
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
      : { number: this.#number, attempts: this.#attempts };
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

/**
 * A worker's messages. One that was taken counts as handled, and is acknowledged,
 * when the next one is asked for or something is sent.
 */
export class LeasedInbox extends Inbox {
  readonly #deliveries: Deliveries;
  /** How many were taken, for the parent to see at any time. */
  readonly #shared: Int32Array<SharedArrayBuffer>;
  #handled = 0;

  constructor(
    window: number,
    windowMessages: number,
    deliveries: Deliveries,
    shared: Int32Array<SharedArrayBuffer>,
  ) {
    super(window, windowMessages);
    this.#deliveries = deliveries;
    this.#shared = shared;
  }

  override onAsk(): void {
    this.#handled = this.taken;
  }

  override onAnswer(): void {
    this.#handled = this.taken;
  }

  override get acknowledgeable(): number {
    return this.#handled;
  }

  override get isCreditDue(): boolean {
    // A worker that has nothing more to do says so at once.
    return this.#handled > this.credited &&
      (this.length === 0 || super.isCreditDue);
  }

  override onTaken(size: number): void {
    super.onTaken(size);
    this.#deliveries.shift();
    Atomics.store(this.#shared, 0, this.taken);
  }
}
