// Copyright 2026 the Duplex authors. MIT license.

/**
 * The way out: messages are encoded straight behind one another into a batch
 * that leaves in one write; while a write is under way the next batch fills.
 * Nothing is copied between the codec and the operating system, and nothing is
 * allocated for a message.
 *
 * @module
 */

import type { ByteStream } from "./_byte_stream.ts";
import { ByteBuffer } from "./_byte_buffer.ts";
import type { Codec } from "./codec.ts";
import {
  DATA_HEADER_SIZE,
  FIRST_HEADER_SIZE,
  LENGTH_SIZE,
  NEXT_HEADER_SIZE,
  PART_SIZE,
  POSTED_SIZE,
} from "./_frame_layout.ts";
import { type Agreement, KIND } from "./_wire.ts";

/**
 * Bytes that a batch has room for at first, and from which on it is full: what a
 * pipe takes in one write. A sender that went on without a pause would keep the
 * event loop from writing, and the far side from working meanwhile: waiting here
 * moves log lines a third faster.
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
 * Bytes in flight up to which a write may be synchronous. A pipe holds 64 KiB,
 * in pages that short writes may fill by half only; a quarter of it always fits.
 */
const SYNC_SIZE = 16 * 1024;

/**
 * Bytes left free before a batch's first frame. The header of a first part is
 * that much longer than the header of a whole message, which is what a message
 * gets before its size is known.
 */
const LEAD = FIRST_HEADER_SIZE - DATA_HEADER_SIZE;

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

/** Writes frames to a {@linkcode ByteStream}. */
export class FrameWriter {
  /** Called when a full writer has room again. */
  onDrain: () => void = () => {};
  /** Called once, when a write fails. */
  onLost: (cause: unknown) => void = () => {};
  readonly #stream: ByteStream;
  #codec: Codec | undefined;
  #maxMessage = 0;
  #encoding = false;
  #writing = false;
  #stopped = false;
  /** The loop that writes. Never rejects. */
  #loop: Promise<void> = Promise.resolve();
  /** The batch that fills, and batches that were written and are spare. */
  #batch = emptyBatch();
  #spares: ByteBuffer[] = [];
  #sparesSize = 0;
  /** Control frames that go before everything else. */
  #urgent: Uint8Array<ArrayBuffer>[] = [];
  /** Full batches and parted messages that go before the batch that fills. */
  #queue: (ByteBuffer | Parted)[] = [];
  #queuedSize = 0;
  #waiting: (() => void)[] = [];

  constructor(stream: ByteStream) {
    this.#stream = stream;
  }

  /** From now on messages travel as both hellos agreed. */
  agree(agreement: Agreement): void {
    this.#codec = agreement.codec;
    this.#maxMessage = agreement.maxMessage;
  }

  /** As `Wire.isFull`. */
  get isFull(): boolean {
    return this.#batch.length >= BATCH_SIZE ||
      this.#queuedSize >= MAX_QUEUED_SIZE;
  }

  /** As `Wire.message`. */
  message(
    number: number,
    taken: number,
    message: unknown,
    inFlight: number,
  ): number {
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
    if (!this.#writing) this.#send(inFlight);
    return size;
  }

  /** Queues the word that a message was posted beside the stream. */
  posted(number: number, taken: number, size: number, inFlight: number): void {
    const batch = this.#batch;
    batch.reserve(POSTED_SIZE);
    const { view, length } = batch;
    view.setUint32(length, POSTED_SIZE - LENGTH_SIZE);
    view.setUint8(length + 4, KIND.posted);
    view.setUint32(length + 5, number);
    view.setUint32(length + 9, taken);
    view.setUint32(length + 13, size);
    batch.length += POSTED_SIZE;
    if (!this.#writing) this.#send(inFlight);
  }

  /** Queues a control frame. */
  control(
    frame: Uint8Array<ArrayBuffer>,
    urgent: boolean,
    inFlight: number,
  ): void {
    if (this.#stopped) return;
    // A getter of a message may receive, and credit must not fall into the
    // message that is being encoded.
    if (this.#encoding || (urgent && this.#writing)) {
      this.#urgent.push(frame);
      return;
    }
    const batch = this.#batch;
    batch.reserve(frame.length);
    batch.bytes.set(frame, batch.length);
    batch.length += frame.length;
    if (!this.#writing) this.#send(inFlight);
  }

  /** Settles when everything queued so far was written, or never will be. */
  flushed(): Promise<void> {
    if (!this.#writing || this.#stopped) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /**
   * Writes nothing more but the control frames that go before everything else,
   * an abort among them. Settles when they were written, or never will be.
   */
  stop(): Promise<void> {
    this.#stopped = true;
    this.#wake();
    return this.#loop;
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
      if (size > this.#maxMessage) {
        throw new RangeError(
          `Cannot send a message of ${size} bytes: the far side takes at most ${this.#maxMessage}; raise its "maxMessage" or send less at a time`,
        );
      }
      return size;
    } catch (error) {
      batch.length = start;
      throw error;
    } finally {
      this.#encoding = false;
      if (this.#urgent.length > 0 && !this.#writing) this.#loop = this.#write();
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

  /** Writes the batch at once where the link's buffer surely holds it. */
  #send(inFlight: number): void {
    const { bytes, length } = this.#batch;
    if (
      this.#stream.writeSync === undefined || this.#queue.length > 0 ||
      inFlight + length > SYNC_SIZE
    ) {
      this.#loop = this.#write();
      return;
    }
    this.#batch.length = LEAD;
    try {
      this.#stream.writeSync(bytes.subarray(LEAD, length));
    } catch (cause) {
      this.#fail(cause);
    }
  }

  /** Writes until nothing is queued. */
  async #write(): Promise<void> {
    this.#writing = true;
    try {
      for (;;) {
        const urgent = this.#urgent.shift();
        if (urgent !== undefined) {
          await this.#stream.write(urgent);
        } else if (this.#stopped) {
          break;
        } else if (this.#queue.length > 0) {
          await this.#writeQueued(this.#queue[0]!);
        } else if (this.#batch.length > LEAD) {
          const full = this.#batch;
          this.#batch = this.#takeSpare();
          const written = this.#stream.write(
            full.bytes.subarray(LEAD, full.length),
          );
          // The next batch fills while this one is written.
          this.onDrain();
          await written;
          this.#giveSpare(full);
        } else {
          break;
        }
      }
    } catch (cause) {
      this.#fail(cause);
    }
    this.#writing = false;
    this.#wake();
  }

  async #writeQueued(item: ByteBuffer | Parted): Promise<void> {
    if (item instanceof ByteBuffer) {
      this.#queue.shift();
      await this.#stream.write(item.bytes.subarray(LEAD, item.length));
      return;
    }
    await this.#stream.write(nextPart(item));
    if (item.position < item.end) return;
    this.#queue.shift();
    const wasFull = this.isFull;
    this.#queuedSize -= item.end;
    this.#giveSpare(item.buffer);
    if (wasFull) this.onDrain();
  }

  #takeSpare(): ByteBuffer {
    const spare = this.#spares.pop();
    if (spare === undefined) return emptyBatch();
    this.#sparesSize -= spare.bytes.length;
    return spare;
  }

  #giveSpare(buffer: ByteBuffer): void {
    const size = this.#sparesSize + buffer.bytes.length;
    if (size > MAX_SPARES_SIZE) return;
    buffer.length = LEAD;
    this.#spares.push(buffer);
    this.#sparesSize = size;
  }

  #fail(cause: unknown): void {
    this.#urgent = [];
    if (this.#stopped) return;
    this.stop();
    this.onLost(cause);
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }
}

function emptyBatch(): ByteBuffer {
  const batch = new ByteBuffer(BATCH_SIZE);
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
