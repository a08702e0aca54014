// Copyright 2026 the Duplex authors. MIT license.

/**
 * What waits to be written: messages are encoded straight behind one another
 * into a batch; while one batch is written the next fills. A large message
 * leaves in parts, and control frames pass between them. Nothing is copied
 * between the codec and what writes, and nothing is allocated for a message.
 *
 * @module
 */

import { ByteBuffer } from "../_codec/byte_buffer.ts";
import type { Codec } from "../codec.ts";
import {
  DATA_HEADER_SIZE,
  FIRST_HEADER_SIZE,
  INITIAL_BUFFER_SIZE,
  LENGTH_SIZE,
  NEXT_HEADER_SIZE,
  PART_SIZE,
  POSTED_SIZE,
} from "./frame_layout.ts";
import { type Agreement, KIND } from "./wire.ts";

/**
 * Bytes from which on a batch is full: what a pipe takes in one write. A sender
 * that went on without a pause would keep the event loop from writing, and the far
 * side from working meanwhile: waiting here moves log lines a third faster.
 */
const BATCH_SIZE = 64 * 1024;

/**
 * Bytes of messages in parts from which on the queue is full, however large the
 * far side says its window is: twice the default window.
 */
const MAX_QUEUED_SIZE = 8 * 1024 * 1024;

/**
 * Bytes of spare batches that are kept: twice the default window, since messages
 * of a megabyte fill one each while the window is open. They then need no new
 * memory, whose pages the system would have to clear one by one. A message of a
 * gigabyte is let go.
 */
const MAX_SPARES_SIZE = 8 * 1024 * 1024;

/**
 * Bytes left free before a batch's first frame. The header of a first part is
 * that much longer than the header of a whole message, which is what a message
 * gets before its size is known.
 */
export const LEAD = FIRST_HEADER_SIZE - DATA_HEADER_SIZE;

/** A message that leaves in parts, and how far it has got. */
interface Parted {
  readonly buffer: ByteBuffer;
  readonly number: number;
  readonly taken: number;
  /** Where the payload begins and ends in the buffer. */
  readonly start: number;
  readonly end: number;
  /** Where the next part begins. */
  position: number;
}

/** Frames that wait to be written. */
export class FrameQueue {
  #codec: Codec | undefined;
  #maxMessage = 0;
  #encoding = false;
  /** The batch that fills, and batches that were written and are spare. */
  #batch = emptyBatch();
  #spares: ByteBuffer[] = [];
  #sparesSize = 0;
  /**
   * Control frames that go before everything else, at most one of each kind: a
   * newer credit or stall says all that an older one did. So a peer that sends
   * and does not read cannot make them pile up.
   */
  #urgent: Uint8Array<ArrayBuffer>[] = [];
  /** Full batches and parted messages that go before the batch that fills. */
  #queue: (ByteBuffer | Parted)[] = [];
  #queuedSize = 0;
  /** What the bytes that `next` gave belong to. */
  #leaving: ByteBuffer | Parted | undefined;
  #hasDrained = false;

  /** From now on messages travel as both hellos agreed. */
  agree(agreement: Agreement): void {
    this.#codec = agreement.codec;
    this.#maxMessage = agreement.maxMessageBytes;
  }

  /** As `Wire.isFull`. */
  get isFull(): boolean {
    return this.#batch.length >= BATCH_SIZE ||
      this.#queuedSize >= MAX_QUEUED_SIZE;
  }

  /** Whether the batch that fills is all that waits. */
  get isOnlyBatch(): boolean {
    return this.#urgent.length === 0 && this.#queue.length === 0;
  }

  /** Whether control frames wait that go before everything else. */
  get hasUrgent(): boolean {
    return this.#urgent.length > 0;
  }

  /** The batch that fills; its frames begin at {@linkcode LEAD}. */
  get batch(): ByteBuffer {
    return this.#batch;
  }

  /** Everything in the batch that fills was written. */
  emptyBatch(): void {
    this.#batch.length = LEAD;
  }

  /** Whether what was full has room again, since it was last asked. */
  takeDrained(): boolean {
    const drained = this.#hasDrained;
    this.#hasDrained = false;
    return drained;
  }

  /** Queues a message and returns its size. */
  message(number: number, taken: number, message: unknown): number {
    if (this.#encoding) {
      throw new TypeError(
        "Cannot send a message: a getter of another message that is being sent calls send",
      );
    }
    const batch = this.#batch;
    const start = batch.length;
    const size = this.#encode(message, batch, start);
    if (size > PART_SIZE) {
      this.#seal(number, taken, start);
    } else {
      const { view } = batch;
      view.setUint32(start, DATA_HEADER_SIZE - LENGTH_SIZE + size);
      view.setUint8(start + 4, KIND.data);
      view.setUint32(start + 5, number);
      view.setUint32(start + 9, taken);
    }
    return size;
  }

  /** Queues the word that a message was posted beside the stream. */
  posted(number: number, taken: number, size: number): void {
    const batch = this.#batch;
    batch.reserve(POSTED_SIZE);
    const { view, length } = batch;
    view.setUint32(length, POSTED_SIZE - LENGTH_SIZE);
    view.setUint8(length + 4, KIND.posted);
    view.setUint32(length + 5, number);
    view.setUint32(length + 9, taken);
    view.setUint32(length + 13, size);
    batch.length += POSTED_SIZE;
  }

  /**
   * Queues a control frame, before everything else or behind it.
   *
   * @returns Whether there is something to write now: not while a message is
   *   being encoded, whose getters may receive, and so give credit.
   */
  control(frame: Uint8Array<ArrayBuffer>, urgent: boolean): boolean {
    if (urgent || this.#encoding) {
      const kind = frame[LENGTH_SIZE];
      const older = this.#urgent.findIndex((other) =>
        other[LENGTH_SIZE] === kind
      );
      if (older >= 0) this.#urgent.splice(older, 1);
      this.#urgent.push(frame);
      return !this.#encoding;
    }
    const batch = this.#batch;
    batch.reserve(frame.length);
    batch.bytes.set(frame, batch.length);
    batch.length += frame.length;
    return true;
  }

  /**
   * The bytes to write next, if there are any. They stay as they are until
   * {@linkcode FrameQueue.written}, before which there must be no other call.
   *
   * @param onlyUrgent Whether only what goes before everything else still goes.
   */
  next(onlyUrgent: boolean): Uint8Array<ArrayBuffer> | undefined {
    const urgent = this.#urgent.shift();
    if (urgent !== undefined || onlyUrgent) return urgent;
    const first = this.#queue[0];
    if (first !== undefined) {
      this.#leaving = first;
      if (!(first instanceof ByteBuffer)) return nextPart(first);
      this.#queue.shift();
      return first.bytes.subarray(LEAD, first.length);
    }
    const batch = this.#batch;
    if (batch.length === LEAD) return undefined;
    this.#leaving = batch;
    this.#batch = this.#takeSpare();
    this.#hasDrained = true;
    return batch.bytes.subarray(LEAD, batch.length);
  }

  /** What `next` gave was written. */
  written(): void {
    const item = this.#leaving;
    this.#leaving = undefined;
    if (item === undefined) return;
    if (item instanceof ByteBuffer) return this.#giveSpare(item);
    if (item.position < item.end) return;
    this.#queue.shift();
    if (this.isFull) this.#hasDrained = true;
    this.#queuedSize -= item.end;
    this.#giveSpare(item.buffer);
  }

  /** Drops what goes before everything else. */
  dropUrgent(): void {
    this.#urgent = [];
  }

  /** Encodes behind an empty header; after a throw the batch is what it was. */
  #encode(message: unknown, batch: ByteBuffer, start: number): number {
    const codec = this.#codec!;
    this.#encoding = true;
    try {
      batch.reserve(DATA_HEADER_SIZE);
      batch.length += DATA_HEADER_SIZE;
      if (codec.encodeInto !== undefined) {
        codec.encodeInto(message, batch);
      } else {
        const payload = codec.encode(message);
        batch.reserve(payload.length);
        batch.bytes.set(payload, batch.length);
        batch.length += payload.length;
      }
      const size = batch.length - start - DATA_HEADER_SIZE;
      checkSize(size, this.#maxMessage);
      return size;
    } catch (error) {
      batch.length = start;
      throw error;
    } finally {
      this.#encoding = false;
    }
  }

  /** Queues the batch up to `start`, and the message behind it in parts. */
  #seal(number: number, taken: number, start: number): void {
    const buffer = this.#batch;
    const end = buffer.length;
    if (start > LEAD) {
      const before = new ByteBuffer(start);
      before.bytes.set(buffer.bytes.subarray(0, start));
      before.length = start;
      this.#queue.push(before);
    }
    const position = start + DATA_HEADER_SIZE;
    this.#queue.push({ buffer, number, taken, start: position, end, position });
    this.#queuedSize += end;
    this.#batch = this.#takeSpare();
  }

  #takeSpare(): ByteBuffer {
    const spare = this.#spares.pop();
    if (spare === undefined) return emptyBatch();
    this.#sparesSize -= spare.bytes.length;
    return spare;
  }

  #giveSpare(buffer: ByteBuffer): void {
    const size = this.#sparesSize + buffer.bytes.length;
    if (size > MAX_SPARES_SIZE || buffer.bytes.length < INITIAL_BUFFER_SIZE) {
      return;
    }
    buffer.length = LEAD;
    this.#spares.push(buffer);
    this.#sparesSize = size;
  }
}

/** Refuses a message that is larger than the far side takes. */
export function checkSize(size: number, maxMessage: number): void {
  if (size <= maxMessage) return;
  throw new RangeError(
    `Cannot send a message of ${size} bytes: the far side takes at most ${maxMessage}; raise its "maxMessageBytes" or send less at a time`,
  );
}

function emptyBatch(): ByteBuffer {
  const batch = new ByteBuffer(INITIAL_BUFFER_SIZE);
  batch.length = LEAD;
  return batch;
}

/**
 * The next part with its header. The header is written over the bytes before
 * the part, which have left already, so that no part is copied.
 */
function nextPart(parted: Parted): Uint8Array<ArrayBuffer> {
  const { buffer, position, start, end } = parted;
  const first = position === start;
  const rest = end - position;
  // A short last part would cost a write of its own.
  const size = rest <= PART_SIZE * 1.25 ? rest : PART_SIZE;
  const head = position - (first ? FIRST_HEADER_SIZE : NEXT_HEADER_SIZE);
  const { view } = buffer;
  view.setUint32(head, position - head - LENGTH_SIZE + size);
  view.setUint8(head + 4, first ? KIND.first : KIND.next);
  if (first) {
    view.setUint32(head + 5, parted.number);
    view.setUint32(head + 9, parted.taken);
    view.setUint32(head + 13, end - start);
  }
  parted.position = position + size;
  return buffer.bytes.subarray(head, parted.position);
}
