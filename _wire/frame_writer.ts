// Copyright 2026 the Duplex authors. MIT license.

/**
 * The way out over a stream: what waits leaves in one write, and while a write
 * is under way the next batch fills.
 *
 * @module
 */

import type { ByteStream } from "./byte_stream.ts";
import { FrameQueue, LEAD } from "./frame_queue.ts";
import type { Agreement } from "./wire.ts";

/**
 * Bytes in flight up to which a write may be synchronous. A pipe holds 64 KiB,
 * in pages that short writes may fill by half only; a quarter of it always fits.
 */
const SYNC_SIZE = 16 * 1024;

/** Writes frames to a {@linkcode ByteStream}. */
export class FrameWriter {
  /** Called when a full writer has room again. */
  onDrain: () => void = () => {};
  /** Called once, when a write fails. */
  onLost: (cause: unknown) => void = () => {};
  readonly #stream: ByteStream;
  readonly #queue = new FrameQueue();
  #writing = false;
  /** Whether a write begins inside of the call that queues a frame. */
  #beginning = false;
  #stopped = false;
  /** The loop that writes. Never rejects. */
  #loop: Promise<void> = Promise.resolve();
  #waiting: (() => void)[] = [];

  constructor(stream: ByteStream) {
    this.#stream = stream;
  }

  /** From now on messages travel as both hellos agreed. */
  agree(agreement: Agreement): void {
    this.#queue.agree(agreement);
  }

  /** As `Wire.isFull`. */
  get isFull(): boolean {
    return this.#queue.isFull;
  }

  /** As `Wire.message`. */
  message(
    number: number,
    taken: number,
    message: unknown,
    inFlight: number,
  ): number {
    let size: number;
    try {
      size = this.#queue.message(number, taken, message);
    } catch (error) {
      if (this.#queue.hasUrgent && !this.#writing) this.#begin();
      throw error;
    }
    if (!this.#writing) this.#send(inFlight);
    return size;
  }

  /** Queues the word that a message was posted beside the stream. */
  posted(number: number, taken: number, size: number, inFlight: number): void {
    this.#queue.posted(number, taken, size);
    if (!this.#writing) this.#send(inFlight);
  }

  /** Queues a control frame. */
  control(
    frame: Uint8Array<ArrayBuffer>,
    urgent: boolean,
    inFlight: number,
  ): void {
    if (this.#stopped) return;
    const ready = this.#queue.control(frame, urgent && this.#writing);
    if (ready && !this.#writing) this.#send(inFlight);
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

  /** Writes the batch at once where the link's buffer surely holds it. */
  #send(inFlight: number): void {
    const queue = this.#queue;
    const { bytes, length } = queue.batch;
    if (
      this.#stream.writeSync === undefined || !queue.isOnlyBatch ||
      inFlight + length > SYNC_SIZE
    ) return this.#begin();
    queue.emptyBatch();
    try {
      this.#stream.writeSync(bytes.subarray(LEAD, length));
    } catch (cause) {
      this.#fail(cause);
    }
  }

  #begin(): void {
    this.#beginning = true;
    this.#loop = this.#write();
    this.#beginning = false;
  }

  /** Writes until nothing is queued. */
  async #write(): Promise<void> {
    const queue = this.#queue;
    this.#writing = true;
    try {
      for (;;) {
        const bytes = queue.next(this.#stopped);
        if (bytes === undefined) break;
        const written = this.#stream.write(bytes);
        // The next batch fills while this one is written; but not before the
        // message that began the write is accounted for.
        if (!this.#beginning && queue.takeDrained()) this.onDrain();
        await written;
        queue.written();
        if (queue.takeDrained()) this.onDrain();
      }
    } catch (cause) {
      this.#fail(cause);
    }
    this.#writing = false;
    this.#wake();
  }

  #fail(cause: unknown): void {
    this.#queue.dropUrgent();
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
