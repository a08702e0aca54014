// Copyright 2026 the Duplex authors. MIT license.

/**
 * Where a queue keeps its messages: the seam, and the store in memory. A message
 * is appended, taken with a lease, and then acknowledged, which ends it, or
 * handed back to its place. Stores that outlive the process implement the same.
 *
 * @module
 */

import type { ByteBuffer } from "../_codec/byte_buffer.ts";
import type { Parcel } from "../_thread/clone.ts";
import { Deque } from "../_base/waiting.ts";

/** What a message is: bytes of a codec, or what only a thread's clone carries. */
export type Payload =
  | {
    readonly kind: "bytes";
    readonly buffer: ByteBuffer;
    readonly start: number;
    readonly end: number;
  }
  | { readonly kind: "clone"; readonly parcel: Parcel };

/** A message in a store. */
export interface StoredMessage {
  /** Its number, from 1 up; its identity as long as the queue lives. */
  readonly number: number;
  readonly payload: Payload;
  /** Bytes that it counts as. */
  readonly size: number;
  /** How often it was taken by a worker that did not acknowledge it. */
  attempts: number;
}

/** Keeps messages until they are acknowledged. */
export interface MessageStore {
  /** Messages that are kept, waiting or leased, and their bytes. */
  readonly count: number;
  readonly bytes: number;
  /** Messages that wait to be taken, and the first of them. */
  readonly waiting: number;
  readonly next: StoredMessage | undefined;
  /** Keeps a message behind all others. */
  append(message: StoredMessage): void;
  /** Takes the first message that waits, with a lease. There must be one. */
  take(): StoredMessage;
  /** Ends a message that was taken. */
  acknowledge(message: StoredMessage): void;
  /** Puts messages that were taken back to where they were; they wait again. */
  handBack(messages: readonly StoredMessage[]): void;
  /** All messages that are kept, in the order of their numbers. */
  all(): StoredMessage[];
}

/** A store that lives and dies with the process. */
export class MemoryStore implements MessageStore {
  /** Messages that were never taken. */
  readonly #fresh = new Deque<StoredMessage>();
  /**
   * Messages that were handed back: older than all that are fresh. The first is
   * at the end of the array, where it can be taken in constant time.
   */
  #returned: StoredMessage[] = [];
  readonly #leased = new Set<StoredMessage>();
  bytes = 0;

  get count(): number {
    return this.waiting + this.#leased.size;
  }

  get waiting(): number {
    return this.#fresh.length + this.#returned.length;
  }

  get next(): StoredMessage | undefined {
    if (this.#returned.length > 0) return this.#returned.at(-1);
    return this.#fresh.length > 0 ? this.#fresh.first : undefined;
  }

  append(message: StoredMessage): void {
    this.bytes += message.size;
    this.#fresh.push(message);
  }

  take(): StoredMessage {
    const message = this.#returned.pop() ?? this.#fresh.shift();
    this.#leased.add(message);
    return message;
  }

  acknowledge(message: StoredMessage): void {
    if (this.#leased.delete(message)) this.bytes -= message.size;
  }

  handBack(messages: readonly StoredMessage[]): void {
    if (messages.length === 0) return;
    for (const message of messages) this.#leased.delete(message);
    this.#returned = [...this.#returned, ...messages].sort(byNumber).reverse();
  }

  all(): StoredMessage[] {
    const fresh = this.#fresh.toArray();
    return [...this.#leased, ...this.#returned, ...fresh].sort(byNumber);
  }
}

function byNumber(one: StoredMessage, other: StoredMessage): number {
  return one.number - other.number;
}
