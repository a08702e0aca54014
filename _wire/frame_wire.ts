// Copyright 2026 the Duplex authors. MIT license.

/**
 * Frames over a stream of bytes, as PROTOCOL.md defines them: the loop that
 * writes what a `FrameEncoder` holds, and the loop that reads for a
 * `FrameDecoder`.
 *
 * @module
 */

import type { ByteStream } from "./byte_stream.ts";
import {
  abortFrame,
  creditFrame,
  goodbyeFrame,
  helloFrame,
  stallFrame,
} from "./control_frames.ts";
import { ClosedError, ProtocolError, toFault } from "../_base/errors.ts";
import { FrameDecoder, type FrameOptions } from "./frame_decoder.ts";
import { FrameEncoder, LEAD } from "./frame_encoder.ts";
import { checkTransfer, detach } from "./transfer.ts";
import { settlesWithin } from "../_base/waiting.ts";
import type { FlowCounts, OwnHello, Wire, WireEvents } from "./wire.ts";

/**
 * Bytes in flight up to which a write may be synchronous. A pipe holds 64 KiB,
 * in pages that short writes may fill by half only; a quarter of it always fits.
 */
const SYNC_SIZE = 16 * 1024;

/**
 * Milliseconds for an abort to be written before the link is ended. A write that
 * the peer does not read may block it.
 */
const LAST_FRAMES_TIMEOUT = 500;

/** Milliseconds for which a link is still read when it cannot be written any more. */
const LAST_READ_TIMEOUT = 1_000;

/**
 * Frames and short reads without a message after which reading pauses. A peer that
 * keeps to the protocol sends a few. Other tasks run in the pause, so that one peer
 * cannot starve the others; they would not run between promises alone.
 */
const MAX_FRAMES_WITHOUT_MESSAGE = 64;

/** Bytes below which a read is short. */
const SHORT_READ = 1024;

/** A {@linkcode Wire} over a {@linkcode ByteStream}. */
export class FrameWire implements Wire {
  readonly #stream: ByteStream;
  readonly #options: FrameOptions;
  #events!: WireEvents;
  #flow!: FlowCounts;
  #encoder!: FrameEncoder;
  #decoder: FrameDecoder | undefined;
  /** Whether a loop writes what is encoded. */
  #isWriting = false;
  /** Whether the call that adds a frame has just started the loop. */
  #isStarting = false;
  #isStopped = false;
  /** The loop that writes. Never rejects. */
  #writes: Promise<void> = Promise.resolve();
  #flushers: (() => void)[] = [];
  #lastRead: ReturnType<typeof setTimeout> | undefined;
  /** Frames and short reads since the last message. */
  #framesWithoutMessage = 0;
  #endPause: (() => void) | undefined;
  /** Whether bytes are being decoded, so that an error is the peer's fault. */
  #isDecoding = false;

  constructor(stream: ByteStream, options: FrameOptions = {}) {
    this.#stream = stream;
    this.#options = options;
  }

  start(events: WireEvents, hello: OwnHello): void {
    this.#events = events;
    this.#flow = events.flow;
    const encoder = new FrameEncoder(events.flow);
    this.#encoder = encoder;
    const { posts } = this.#stream;
    const options = this.#options;
    this.#decoder = new FrameDecoder({
      events,
      hello,
      encoder,
      options,
      posts,
    });
    this.#read(this.#decoder);
    this.#control(helloFrame(hello));
  }

  get isFull(): boolean {
    return this.#encoder.isFull;
  }

  message(message: unknown, transfer?: readonly Transferable[]): number {
    if (transfer === undefined) return this.encode(message);
    checkTransfer(transfer, "another process");
    const size = this.encode(message);
    // The bytes were copied; the buffers are detached all the same, so that a
    // program behaves alike over every link.
    for (const buffer of transfer) detach(buffer as ArrayBuffer);
    return size;
  }

  /** The encoder of the frames, once the wire was started. */
  protected get encoder(): FrameEncoder {
    return this.#encoder;
  }

  /** Sends a message as bytes and returns its size. */
  protected encode(message: unknown): number {
    let size: number;
    try {
      size = this.#encoder.message(message);
    } catch (error) {
      if (this.#encoder.hasPending) this.write();
      throw error;
    }
    this.write();
    return size;
  }

  /** Writes what was encoded, now or behind the write that is under way. */
  protected write(): void {
    if (!this.#isWriting) this.#write();
  }

  credit(): void {
    this.#control(creditFrame(this.#flow), !this.#options.isCreditOrdered);
  }

  stall(isAnswer: boolean): void {
    this.#control(stallFrame(this.#flow, isAnswer));
  }

  goodbye(): void {
    this.#control(goodbyeFrame(this.#flow), false);
  }

  abort(reason: unknown): void {
    this.#control(abortFrame(reason, this.#encoder.codec));
  }

  pauseReading(isPaused: boolean): void {
    this.#stream.pauseReading?.(isPaused);
  }

  flushed(): Promise<void> {
    if (!this.#isWriting || this.#isStopped) return Promise.resolve();
    return new Promise((resolve) => this.#flushers.push(resolve));
  }

  diagnose(cause: unknown, unsent: readonly unknown[]): Promise<Error> {
    this.#stop();
    return this.#stream.diagnose(cause, unsent);
  }

  async close(timeout: number, unsent: readonly unknown[]): Promise<void> {
    const isFlushed = await settlesWithin(this.flushed(), timeout);
    const isDelivered = isFlushed &&
      (await this.#stream.delivered?.(timeout) ?? true);
    this.#stop();
    if (isDelivered || (isFlushed && unsent.length === 0)) {
      return await this.#stream.close(timeout, unsent);
    }
    await this.#stream.destroy();
    throw new ClosedError(
      isFlushed
        ? "Cannot close a link cleanly: the peer has not acknowledged what was sent last, which may not have arrived"
        : `Cannot close a link cleanly: the peer did not read what was sent within ${timeout} ms`,
      { unsent },
    );
  }

  async destroy(): Promise<void> {
    this.#stop();
    // Only urgent control frames are still written, an abort among them.
    await settlesWithin(this.#writes, LAST_FRAMES_TIMEOUT);
    await this.#stream.destroy();
  }

  #stop(): void {
    // The first use of a timer costs a thread 4 ms.
    if (this.#lastRead !== undefined) clearTimeout(this.#lastRead);
    this.#decoder?.stop();
    this.#endPause?.();
    this.#stopWriting();
  }

  // Writing

  #control(frame: Uint8Array<ArrayBuffer>, mayOvertake = true): void {
    if (this.#isStopped) return;
    const isWriting = this.#isWriting;
    const isReady = this.#encoder.control(frame, mayOvertake, isWriting);
    if (isReady && !isWriting) this.#write();
  }

  /** Writes the batch synchronously if the link's buffer holds it. */
  #write(): void {
    const encoder = this.#encoder;
    const { bytes, length } = encoder.batch;
    if (
      this.#stream.writeSync === undefined || !encoder.isOnlyBatch ||
      this.#flow.bytesInFlight + length > SYNC_SIZE
    ) return this.#startWriting();
    encoder.emptyBatch();
    try {
      this.#stream.writeSync(bytes.subarray(LEAD, length));
    } catch (cause) {
      this.#onWriteError(cause);
    }
  }

  #startWriting(): void {
    this.#isStarting = true;
    this.#writes = this.#writeAll();
    this.#isStarting = false;
  }

  async #writeAll(): Promise<void> {
    const encoder = this.#encoder;
    this.#isWriting = true;
    try {
      for (;;) {
        const bytes = encoder.next(this.#isStopped);
        if (bytes === undefined) break;
        const written = this.#stream.write(bytes);
        // The next batch fills while this one is written, but not before the
        // session has counted the message that started the write.
        if (!this.#isStarting && encoder.takeDrained()) this.#events.onDrain();
        await written;
        encoder.written();
        if (encoder.takeDrained()) this.#events.onDrain();
      }
    } catch (cause) {
      this.#onWriteError(cause);
    }
    this.#isWriting = false;
    this.#onFlushed();
  }

  #onWriteError(cause: unknown): void {
    this.#encoder.dropUrgent();
    if (this.#isStopped) return;
    this.#stopWriting();
    // What the peer wrote before it stopped reading may still arrive; its end is
    // then found by reading.
    this.#lastRead = setTimeout(
      () => this.#events.onLost(cause),
      LAST_READ_TIMEOUT,
    );
  }

  #stopWriting(): void {
    this.#isStopped = true;
    this.#onFlushed();
  }

  #onFlushed(): void {
    const flushers = this.#flushers;
    this.#flushers = [];
    for (const resolve of flushers) resolve();
  }

  // Reading

  /** Reads until the stream ends or the decoder is stopped. Never rejects. */
  async #read(decoder: FrameDecoder): Promise<void> {
    const stream = this.#stream;
    try {
      while (!decoder.isStopped) {
        if (decoder.awaitsPost) {
          const hasArrived = await stream.posts!.arrival();
          if (decoder.isStopped) return;
          if (!hasArrived) return this.#events.onLost(undefined);
          this.#isDecoding = true;
          decoder.resume();
          this.#isDecoding = false;
          continue;
        }
        decoder.prepare();
        const { into, from, to } = decoder;
        const read = await stream.read(into.subarray(from, to));
        if (decoder.isStopped) return;
        if (read === null) {
          return this.#events.onLost(decoder.endOfStream());
        }
        this.#isDecoding = true;
        decoder.advance(read.length, read.buffer);
        this.#isDecoding = false;
        if (this.#needsPause(decoder, read.length)) await this.#pause();
      }
    } catch (error) {
      this.#onReadError(decoder, error);
    }
  }

  #onReadError(decoder: FrameDecoder, error: unknown): void {
    if (decoder.isStopped) return;
    decoder.stop();
    if (this.#isDecoding || error instanceof ProtocolError) {
      this.#events.onFault(toFault(error));
    } else {
      this.#events.onLost(error);
    }
  }

  /** Whether there is a reason to pause after a read of so many bytes. */
  #needsPause(decoder: FrameDecoder, size: number): boolean {
    if (decoder.takeMessages() > 0) this.#framesWithoutMessage = 0;
    this.#framesWithoutMessage += decoder.takeControls();
    if (size < SHORT_READ) this.#framesWithoutMessage++;
    if (this.#framesWithoutMessage <= MAX_FRAMES_WITHOUT_MESSAGE) return false;
    this.#framesWithoutMessage = 0;
    return true;
  }

  /** Waits for one turn of the event loop, or until the wire is stopped. */
  #pause(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, 0);
      this.#endPause = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
