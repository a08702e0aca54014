// Copyright 2026 the Duplex authors. MIT license.

/**
 * The messages of a queue. A packer converts a message to bytes or to a clone when it
 * is sent, and a store keeps it. A message is appended, taken with a lease, and then
 * acknowledged, which ends it, or put back to its place. A store that outlives the
 * process would implement the same interface.
 *
 * @module
 */

import { ByteBuffer } from "../_base/byte_buffer.ts";
import {
  type Cloneable,
  isBulk,
  makeCloneable,
  receiveClone,
} from "../_thread/clone.ts";
import { cloning } from "../_thread/post_box.ts";
import type { Codec } from "../codec.ts";
import { Deque } from "../_base/waiting.ts";
import { checkSize, nestedSend } from "../_wire/frame_encoder.ts";
import { isTransferable } from "../_wire/transfer.ts";
import { MessageCodec, sharingRules } from "../_wire/message_codec.ts";

/** A message as bytes of a codec, or as a clone if bytes cannot carry it. */
export type Payload =
  | {
    readonly kind: "bytes";
    readonly buffer: ByteBuffer;
    readonly start: number;
    readonly end: number;
  }
  | { readonly kind: "clone"; readonly cloneable: Cloneable };

/** A message in a store. */
export interface StoredMessage {
  /** Its number, from 1 up; its identity as long as the queue lives. */
  readonly number: number;
  readonly payload: Payload;
  /** Bytes that it counts as. */
  readonly size: number;
  /** How many workers ended after they had received it and before they had handled it. */
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
  putBack(messages: readonly StoredMessage[]): void;
  /** All messages that are kept, in the order of their numbers. */
  all(): StoredMessage[];
}

/** A store in the memory of this process. */
export class MemoryStore implements MessageStore {
  /** Messages that were never taken. */
  readonly #fresh = new Deque<StoredMessage>();
  /**
   * Messages that were put back: older than all that were never taken. The first
   * is at the end of the array, where it can be taken in constant time.
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

  putBack(messages: readonly StoredMessage[]): void {
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

/** Bytes of messages that are kept in one piece of memory. */
const SEGMENT_SIZE = 64 * 1024;

/** A message as a store keeps it. */
interface Packed {
  readonly payload: Payload;
  readonly size: number;
}

/** Packs messages, and unpacks those that are returned to their sender. */
export class Packer {
  readonly #codec: MessageCodec;
  readonly #maxMessage: number;
  #segment = new ByteBuffer(SEGMENT_SIZE);
  #isPacking = false;

  /**
   * @param maxMessage Bytes of the largest message.
   * @param graph Whether all workers read graph form.
   */
  constructor(codec: Codec, maxMessage: number, graph = true) {
    const rules = sharingRules({ graph, maxMessageBytes: maxMessage }, false);
    this.#codec = new MessageCodec(codec, rules);
    this.#maxMessage = maxMessage;
  }

  /** Packs a message as it is now; later changes do not affect it. */
  pack(message: unknown, transfer: readonly Transferable[]): Packed {
    if (this.#isPacking) throw nestedSend();
    this.#isPacking = true;
    try {
      if (transfer.length > 0) return this.#packClone(message, transfer);
      if (isBulk(message)) return this.#packBulk(message);
      try {
        return this.#packBytes(message);
      } catch (error) {
        if (!(error instanceof TypeError)) throw error;
        return this.#packClone(message, transfer);
      }
    } finally {
      this.#isPacking = false;
    }
  }

  /** Unpacks a message that is returned to its sender. */
  unpack(payload: Payload): unknown {
    if (payload.kind === "clone") return receiveClone(payload.cloneable);
    const { buffer, start, end } = payload;
    return this.#codec.decode(buffer.bytes, start, end, false);
  }

  #packBytes(message: unknown): Packed {
    if (this.#segment.length >= SEGMENT_SIZE) {
      this.#segment = new ByteBuffer(SEGMENT_SIZE);
    }
    const buffer = this.#segment;
    const start = buffer.length;
    try {
      this.#codec.encodeInto(message, buffer);
      const end = buffer.length;
      checkSize(end - start, this.#maxMessage);
      const payload: Payload = { kind: "bytes", buffer, start, end };
      return { payload, size: end - start };
    } catch (error) {
      buffer.length = start;
      // A message that was refused may have made it grow.
      if (buffer.bytes.length > 2 * SEGMENT_SIZE) {
        this.#segment = new ByteBuffer(SEGMENT_SIZE);
      }
      throw error;
    }
  }

  /** Packs a large byte array as a clone, which is faster. */
  #packBulk(message: Uint8Array<ArrayBuffer>): Packed {
    const { length: size } = message;
    checkSize(size, this.#maxMessage);
    return {
      payload: { kind: "clone", cloneable: [message.slice(), [], []] },
      size,
    };
  }

  /** Packs a message as a clone; buffers move into it. */
  #packClone(message: unknown, transfer: readonly Transferable[]): Packed {
    const single = transfer.find(isTransferable);
    if (single !== undefined) {
      const tag = Object.prototype.toString.call(single).slice(8, -1);
      throw new TypeError(
        `Cannot transfer a ${tag} through a queue: it can be delivered only once, and a message may have to be delivered again`,
      );
    }
    const { cloneable, size } = makeCloneable(message, transfer);
    checkSize(size, this.#maxMessage);
    const kept = cloning(() =>
      structuredClone(cloneable, { transfer: [...transfer] })
    );
    return { payload: { kind: "clone", cloneable: kept }, size };
  }
}
