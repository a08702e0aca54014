// Copyright 2026 the Duplex authors. MIT license.

/**
 * Messages and control frames to bytes. Messages are encoded behind one another
 * into a batch; while one batch is written the next fills. A large message is
 * sent in parts, and control frames go between them. Nothing is copied between
 * the codec and the write, and nothing is allocated for a message.
 *
 * @module
 */

import { ByteBuffer } from "../_base/byte_buffer.ts";
import {
  DATA_HEADER_SIZE,
  FIRST_HEADER_SIZE,
  INITIAL_BUFFER_SIZE,
  KIND,
  LENGTH_SIZE,
  NEXT_HEADER_SIZE,
  PART_SIZE,
  POSTED_SIZE,
} from "./frame_layout.ts";
import type { MessageCodec } from "./message_codec.ts";
import type { FlowCounts } from "./wire.ts";

/**
 * Bytes at which a batch is full: what a pipe takes in one write. A sender that
 * does not pause here keeps the event loop from writing and the peer from working;
 * with the pause, log lines are sent a third faster.
 */
const BATCH_SIZE = 64 * 1024;

/**
 * Bytes of messages in parts at which the encoder is full, whatever the window of
 * the peer is: twice the default window.
 */
const MAX_QUEUED_SIZE = 8 * 1024 * 1024;

/**
 * Bytes of spare batches that are kept: twice the default window, since messages
 * of a megabyte fill one each while the window is open. They then need no new
 * memory, whose pages the system would have to clear. A larger batch is dropped.
 */
const MAX_SPARES_SIZE = 8 * 1024 * 1024;

/**
 * Free bytes before the first frame of a batch. A message gets the header of a
 * whole message before its size is known; that of a first part is longer by this.
 */
export const LEAD: number = FIRST_HEADER_SIZE - DATA_HEADER_SIZE;

/** A message that is sent in parts, and how much of it was. */
interface Parted {
  readonly buffer: ByteBuffer;
  readonly number: number;
  readonly acknowledged: number;
  /** Where the payload begins and ends in the buffer. */
  readonly start: number;
  readonly end: number;
  /** Where the next part begins. */
  position: number;
}

/** Encodes frames, and holds them until they are written. */
export class FrameEncoder {
  readonly #flow: FlowCounts;
  #codec: MessageCodec | undefined;
  #maxMessageBytes = 0;
  #isEncoding = false;
  /** The batch that fills, and spare ones. */
  #batch = emptyBatch();
  #spares: ByteBuffer[] = [];
  #sparesSize = 0;
  /**
   * Control frames that go before everything else, at most one of each kind: a
   * newer credit or stall says all that an older one did. So they do not
   * accumulate while a peer sends and does not read.
   */
  #urgent: Uint8Array<ArrayBuffer>[] = [];
  /** Control frames that go behind the message that is being encoded. */
  #behind: Uint8Array<ArrayBuffer>[] = [];
  /** Full batches and parted messages that go before the batch that fills. */
  #queue: (ByteBuffer | Parted)[] = [];
  #queuedSize = 0;
  /** The batch or message that is being written, from `next` to `written`. */
  #leaving: ByteBuffer | Parted | undefined;
  #hasDrained = false;

  /** @param flow The counts that messages carry. */
  constructor(flow: FlowCounts) {
    this.#flow = flow;
  }

  /**
   * Sets what both hellos agreed on.
   *
   * @param maxMessageBytes Bytes of the largest message that the peer receives.
   */
  agree(codec: MessageCodec, maxMessageBytes: number): void {
    this.#codec = codec;
    this.#maxMessageBytes = maxMessageBytes;
  }

  /** The codec that both hellos agreed on. */
  get codec(): MessageCodec | undefined {
    return this.#codec;
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

  /** Whether anything waits that `next` would return first or as a batch. */
  get hasPending(): boolean {
    return this.#urgent.length > 0 || this.#batch.length > LEAD;
  }

  /** The batch that fills; its frames begin at {@linkcode LEAD}. */
  get batch(): ByteBuffer {
    return this.#batch;
  }

  /** Empties the batch that fills, since all of it was written. */
  emptyBatch(): void {
    this.#batch.length = LEAD;
  }

  /** Returns whether there is room again since the last call. */
  takeDrained(): boolean {
    const drained = this.#hasDrained;
    this.#hasDrained = false;
    return drained;
  }

  /** Throws unless the peer receives a message of this size. */
  checkSize(size: number): void {
    checkSize(size, this.#maxMessageBytes);
  }

  /** The number of the next message, as a frame has it. */
  get nextNumber(): number {
    return (this.#flow.sent + 1) >>> 0;
  }

  /** Encodes a message and returns its size. */
  message(message: unknown): number {
    if (this.#isEncoding) throw nestedSend();
    const batch = this.#batch;
    const start = batch.length;
    const size = this.#encode(message, batch, start);
    if (size > PART_SIZE) {
      this.#seal(start);
    } else {
      const { view } = batch;
      view.setUint32(start, DATA_HEADER_SIZE - LENGTH_SIZE + size);
      view.setUint8(start + 4, KIND.data);
      view.setUint32(start + 5, this.#flow.sent + 1);
      view.setUint32(start + 9, this.#flow.acknowledgeable);
    }
    if (this.#behind.length > 0) this.#appendBehind();
    return size;
  }

  /** Adds the frame of a message that is posted separately. */
  posted(size: number): void {
    const batch = this.#batch;
    batch.reserve(POSTED_SIZE);
    const { view, length } = batch;
    view.setUint32(length, POSTED_SIZE - LENGTH_SIZE);
    view.setUint8(length + 4, KIND.posted);
    view.setUint32(length + 5, this.#flow.sent + 1);
    view.setUint32(length + 9, this.#flow.acknowledgeable);
    view.setUint32(length + 13, size);
    batch.length += POSTED_SIZE;
  }

  /**
   * Adds a control frame, behind everything else unless it may go first.
   *
   * @param mayOvertake Whether it may go before what waits.
   * @param isWriting Whether a write is under way, so that something may wait.
   * @returns Whether it may be written now: not while a message is being encoded,
   *   whose getters may receive, and so give credit.
   */
  control(
    frame: Uint8Array<ArrayBuffer>,
    mayOvertake: boolean,
    isWriting: boolean,
  ): boolean {
    if (mayOvertake && (isWriting || this.#isEncoding)) {
      const kind = frame[LENGTH_SIZE];
      const older = this.#urgent.findIndex((other) =>
        other[LENGTH_SIZE] === kind
      );
      if (older >= 0) this.#urgent.splice(older, 1);
      this.#urgent.push(frame);
      return !this.#isEncoding;
    }
    if (this.#isEncoding) {
      this.#behind.push(frame);
      return false;
    }
    this.#append(frame);
    return true;
  }

  #append(frame: Uint8Array<ArrayBuffer>): void {
    const batch = this.#batch;
    batch.reserve(frame.length);
    batch.bytes.set(frame, batch.length);
    batch.length += frame.length;
  }

  /** Adds the control frames that were made while a message was encoded. */
  #appendBehind(): void {
    for (const frame of this.#behind) this.#append(frame);
    this.#behind = [];
  }

  /**
   * Returns the bytes to write next, if there are any. They do not change until
   * {@linkcode written} is called, which must come before the next call.
   *
   * @param onlyUrgent Whether only the urgent control frames are still written.
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

  /** Must be called when what `next` returned was written. */
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

  /** Drops the urgent control frames. */
  dropUrgent(): void {
    this.#urgent = [];
  }

  /** Encodes behind an empty header. Leaves the batch as it was if it throws. */
  #encode(message: unknown, batch: ByteBuffer, start: number): number {
    const codec = this.#codec!;
    this.#isEncoding = true;
    try {
      batch.reserve(DATA_HEADER_SIZE);
      batch.length += DATA_HEADER_SIZE;
      codec.encodeInto(message, batch);
      const size = batch.length - start - DATA_HEADER_SIZE;
      checkSize(size, this.#maxMessageBytes);
      return size;
    } catch (error) {
      batch.length = start;
      this.#appendBehind();
      throw error;
    } finally {
      this.#isEncoding = false;
    }
  }

  /** Queues the batch up to `start`, and the message behind it in parts. */
  #seal(start: number): void {
    const buffer = this.#batch;
    const end = buffer.length;
    if (start > LEAD) {
      const before = new ByteBuffer(start);
      before.bytes.set(buffer.bytes.subarray(0, start));
      before.length = start;
      this.#queue.push(before);
    }
    const position = start + DATA_HEADER_SIZE;
    this.#queue.push({
      buffer,
      number: this.#flow.sent + 1,
      acknowledged: this.#flow.acknowledgeable,
      start: position,
      end,
      position,
    });
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

/** Throws unless the peer receives a message of this size. */
export function checkSize(size: number, maxMessageBytes: number): void {
  if (size <= maxMessageBytes) return;
  throw new RangeError(
    `Cannot send a message of ${size} bytes: the peer takes at most ${maxMessageBytes}; raise its "maxMessageBytes" or send less at a time`,
  );
}

/** The error of a `send` that is called while another message is encoded. */
export function nestedSend(): TypeError {
  return new TypeError(
    "Cannot send a message: a getter of another message that is being sent calls send",
  );
}

function emptyBatch(): ByteBuffer {
  const batch = new ByteBuffer(INITIAL_BUFFER_SIZE);
  batch.length = LEAD;
  return batch;
}

/**
 * Returns the next part with its header. The header overwrites the bytes before
 * the part, which were written already, so no part is copied.
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
    view.setUint32(head + 9, parted.acknowledged);
    view.setUint32(head + 13, end - start);
  }
  parted.position = position + size;
  return buffer.bytes.subarray(head, parted.position);
}
