// Copyright 2026 the Duplex authors. MIT license.

/**
 * Leases: a lease lends a message of the queue to one worker until the worker has
 * handled it or ended. It is the message's number in the queue and the number of
 * workers that ended after they had received it and before they had handled it; both
 * are sent before the bytes of the message. The worker counts in shared memory the
 * messages that it has received, requested and sent. So the parent knows, when the
 * worker dies, which messages it had received and not handled.
 *
 * @module
 */

import type { ByteBuffer } from "../_base/byte_buffer.ts";
import type { Codec } from "../codec.ts";
import type { SharingRules } from "../_codec/fast_codec.ts";
import { ProtocolError } from "../_base/errors.ts";
import { Flow } from "../_session/flow.ts";
import { receiveClone } from "../_thread/clone.ts";
import type { StoredMessage } from "./store.ts";
import { Deque } from "../_base/waiting.ts";
import { MessageCodec } from "../_wire/message_codec.ts";

/** Bytes before those of the message: its number in 48 bits, its attempts in 8. */
export const LEASE_SIZE = 7;

/** Bytes of the number; 48 bits never overflow. */
const NUMBER_SIZE = 6;

/** The unit of a number's high word. */
const TWO_32 = 2 ** 32;

/** The most retries: attempts are written in a byte. */
export const MAX_RETRIES = 254;

/** Bytes up to which a loop copies faster than `set` with a view made for it. */
const LOOP_COPY_SIZE = 256;

/** How a message was delivered to a worker. */
export interface Delivery {
  /** The message's number in its queue, from 1 up; the same every time. */
  readonly number: number;
  /** 1 for the first delivery, and one more each time that a worker ended without handling it. */
  readonly attempt: number;
}

/** Writes messages of a store, which are bytes already, with their leases. */
export class LeaseWriter extends MessageCodec {
  override encodeInto(message: unknown, target: ByteBuffer): void {
    const { number, attempts, payload } = message as StoredMessage;
    if (payload.kind === "clone") throw new TypeError("It must be posted");
    const { buffer, start, end } = payload;
    target.reserve(LEASE_SIZE + end - start);
    const { view, length } = target;
    view.setUint16(length, number / TWO_32);
    view.setUint32(length + 2, number);
    view.setUint8(length + 6, attempts);
    target.length += LEASE_SIZE;
    copyBytes(buffer, start, end, target);
  }
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

/** Reads messages with their leases. */
export class LeaseReader extends MessageCodec {
  readonly #flow: WorkerFlow;

  constructor(codec: Codec, rules: SharingRules, flow: WorkerFlow) {
    super(codec, rules);
    this.#flow = flow;
  }

  override decode(
    bytes: Uint8Array,
    start: number,
    end: number,
    isOwned: boolean,
  ): unknown {
    if (end - start < LEASE_SIZE) {
      throw new ProtocolError(
        `Cannot read a message of a queue: ${
          end - start
        } bytes cannot hold its lease of ${LEASE_SIZE} bytes`,
      );
    }
    // A view made for it would cost as much as all the rest.
    let at = start;
    let number = 0;
    for (let left = NUMBER_SIZE; left > 0; left--) {
      number = number * 256 + bytes[at++]!;
    }
    this.#flow.onLease(number, bytes[at]!);
    return super.decode(bytes, start + LEASE_SIZE, end, isOwned);
  }
}

/** The places of the counts in the memory that a worker and its parent share. */
const RECEIVED = 0;
const REQUESTED = 1;
const SENT = 2;
const AWAITED = 3;
const COUNTS = 4;

/**
 * Counts of a worker that its parent can read at any time, also when the worker is
 * gone. They are cut to 32 bits, so they are compared by difference.
 */
export class SharedCounts {
  readonly #counts: Int32Array<SharedArrayBuffer>;

  /** @param memory The memory that a worker made; new memory by default. */
  constructor(memory: unknown = new SharedArrayBuffer(4 * COUNTS)) {
    if (
      !(memory instanceof SharedArrayBuffer) || memory.byteLength < 4 * COUNTS
    ) {
      throw new ProtocolError(
        "Cannot read the hello of a worker: its counts in shared memory are missing",
      );
    }
    this.#counts = new Int32Array(memory);
  }

  get memory(): SharedArrayBuffer {
    return this.#counts.buffer;
  }

  /** How many messages the worker has received. */
  get received(): number {
    return Atomics.load(this.#counts, RECEIVED);
  }

  set received(count: number) {
    Atomics.store(this.#counts, RECEIVED, count);
  }

  /** How many it had received when it requested the last one: these are handled. */
  get requested(): number {
    return Atomics.load(this.#counts, REQUESTED);
  }

  set requested(count: number) {
    Atomics.store(this.#counts, REQUESTED, count);
  }

  /** How many messages it has sent. */
  get sent(): number {
    return Atomics.load(this.#counts, SENT);
  }

  set sent(count: number) {
    Atomics.store(this.#counts, SENT, count);
  }

  /** The parent waits for a report once the worker is done with so many messages. */
  get awaited(): number {
    return Atomics.load(this.#counts, AWAITED);
  }

  set awaited(count: number) {
    Atomics.store(this.#counts, AWAITED, count);
  }
}

/**
 * The flow of a worker. A message that was received counts as handled, and is
 * acknowledged, when the next one is requested or something is sent.
 */
export class WorkerFlow extends Flow {
  readonly #counts: SharedCounts;
  /** Number and attempts, in turn, of messages that were not received yet. */
  readonly #leases = new Deque<number>();
  #number = 0;
  #attempts = 0;
  #handled = 0;
  #requested = 0;
  /** The value of `#requested` at the last report to the parent. */
  #requestedAtReport = 0;

  constructor(
    windowBytes: number,
    windowMessages: number,
    counts: SharedCounts,
  ) {
    super(windowBytes, windowMessages);
    this.#counts = counts;
  }

  /** A message has arrived, with this lease. */
  onLease(number: number, attempts: number): void {
    this.#leases.push(number);
    this.#leases.push(attempts);
  }

  /** Returns the message of a post, which contains its lease. */
  receivePost(cloneable: unknown): unknown {
    const [number, attempts, message] = receiveClone(cloneable) as [
      number,
      number,
      unknown,
    ];
    this.onLease(number, attempts);
    return message;
  }

  /** How the message received last was delivered. */
  get delivery(): Delivery | undefined {
    return this.#number === 0
      ? undefined
      : { number: this.#number, attempt: this.#attempts + 1 };
  }

  // A store may hold any number of messages for a worker.
  override get windowBytes(): number {
    return Infinity;
  }

  override get windowMessages(): number {
    return Infinity;
  }

  override beforeReceive(): void {
    this.#handled = this.received;
    if (this.#requested === this.received) return;
    this.#requested = this.received;
    this.#counts.requested = this.received;
  }

  override beforeSend(): void {
    this.#handled = this.received;
  }

  override onSent(message: unknown, size: number): void {
    super.onSent(message, size);
    this.#counts.sent = this.sent;
  }

  override onReceived(size: number): void {
    super.onReceived(size);
    this.#number = this.#leases.shift();
    this.#attempts = this.#leases.shift();
    this.#counts.received = this.received;
  }

  override get acknowledgeable(): number {
    return this.#handled;
  }

  override get isCreditDue(): boolean {
    // At once if the worker has nothing more to do.
    if (this.#handled > this.acknowledgedToPeer) {
      if (this.queued === 0 || super.isCreditDue) return true;
    }
    const { awaited } = this.#counts;
    return ((awaited - this.#requestedAtReport) | 0) > 0 &&
      ((this.#requested - awaited) | 0) >= 0;
  }

  override onAcknowledgedToPeer(): void {
    super.onAcknowledgedToPeer();
    this.#requestedAtReport = this.#requested;
  }
}
