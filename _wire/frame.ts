// Copyright 2026 the Duplex authors. MIT license.

/**
 * Frames over a stream of bytes, as PROTOCOL.md lays down: `FrameWire` joins a
 * writer and a reader into the {@linkcode Wire} that a session runs on.
 *
 * @module
 */

import type { ByteStream } from "./byte_stream.ts";
import { encodeControl, type FrameWireOptions } from "./frame_layout.ts";
import { ClosedError } from "../_base/errors.ts";
import { settlesWithin } from "../_base/waiting.ts";
import { FrameReader } from "./frame_reader.ts";
import { FrameWriter } from "./frame_writer.ts";
import {
  type Agreement,
  type ControlFields,
  type ControlKind,
  KIND,
  type Wire,
  type WireEvents,
} from "./wire.ts";

/**
 * Milliseconds that an abort has to leave before the link is ended. A write that
 * the far side does not read may be in its way.
 */
const LAST_FRAMES_TIMEOUT = 500;

/** Milliseconds for which a link is read on when it can no longer be written. */
const LAST_READ_TIMEOUT = 1_000;

/** Frames over a {@linkcode ByteStream}. */
export class FrameWire implements Wire {
  readonly #stream: ByteStream;
  readonly #options: FrameWireOptions;
  readonly #writer: FrameWriter;
  #reader: FrameReader | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(stream: ByteStream, options: FrameWireOptions) {
    this.#stream = stream;
    this.#options = options;
    this.#writer = new FrameWriter(stream);
  }

  get isFull(): boolean {
    return this.#writer.isFull;
  }

  start(events: WireEvents): void {
    this.#writer.onDrain = () => events.onDrain();
    this.#writer.onLost = (cause) => {
      // What the far side wrote before it stopped reading may still come; its
      // end is then the reader's to tell.
      this.#timer = setTimeout(() => events.onLost(cause), LAST_READ_TIMEOUT);
    };
    this.#reader = new FrameReader(this.#stream, events, this.#options);
    this.#reader.run();
  }

  agree(agreement: Agreement): void {
    this.#writer.agree(agreement);
    this.#reader?.agree(agreement.codec);
  }

  message(
    number: number,
    taken: number,
    message: unknown,
    inFlight: number,
    transfer?: readonly Transferable[],
  ): number {
    const buffers = checkTransfer(transfer);
    const size = this.#writer.message(number, taken, message, inFlight);
    // Bytes were copied into the frame; giving the buffers up all the same
    // makes a program behave alike over every link.
    for (const buffer of buffers) detach(buffer);
    return size;
  }

  /**
   * Queues the word that a message was posted beside the stream, for wires whose
   * stream can post.
   */
  protected posted(
    number: number,
    taken: number,
    size: number,
    inFlight: number,
  ): void {
    this.#writer.posted(number, taken, size, inFlight);
  }

  hold(held: boolean): void {
    this.#stream.hold?.(held);
  }

  control(kind: ControlKind, fields: ControlFields, inFlight: number): void {
    const frame = encodeControl(kind, fields);
    this.#writer.control(frame, kind !== KIND.goodbye, inFlight);
  }

  flushed(): Promise<void> {
    return this.#writer.flushed();
  }

  diagnose(cause: unknown, unsent: readonly unknown[]): Promise<Error> {
    this.#stop();
    return this.#stream.diagnose(cause, unsent);
  }

  async close(timeout: number, unsent: readonly unknown[]): Promise<void> {
    const flushed = await settlesWithin(this.#writer.flushed(), timeout);
    const delivered = flushed &&
      (await this.#stream.delivered?.(timeout) ?? true);
    this.#stop();
    if (delivered || (flushed && unsent.length === 0)) {
      return await this.#stream.close(timeout, unsent);
    }
    await this.#stream.destroy();
    throw new ClosedError(
      flushed
        ? "Cannot close a link in good order: the far side has not acknowledged what was sent last, which may not have arrived"
        : `Cannot close a link in good order: the far side did not read what was sent within ${timeout} ms`,
      { unsent },
    );
  }

  async destroy(): Promise<void> {
    const stopped = this.#stop();
    await settlesWithin(stopped, LAST_FRAMES_TIMEOUT);
    await this.#stream.destroy();
  }

  #stop(): Promise<void> {
    clearTimeout(this.#timer);
    this.#reader?.stop();
    return this.#writer.stop();
  }
}

const NO_BUFFERS: readonly ArrayBuffer[] = [];

function checkTransfer(
  transfer: readonly Transferable[] | undefined,
): readonly ArrayBuffer[] {
  if (transfer === undefined) return NO_BUFFERS;
  for (const [index, item] of transfer.entries()) {
    if (
      !(item instanceof ArrayBuffer) || item.detached ||
      transfer.indexOf(item) !== index
    ) {
      throw new TypeError(
        `Cannot transfer ${
          Object.prototype.toString.call(item)
        }: only an ArrayBuffer that is not detached can be given up to another process, and only once`,
      );
    }
  }
  return transfer as readonly ArrayBuffer[];
}

function detach(buffer: ArrayBuffer): void {
  try {
    buffer.transfer();
  } catch {
    // The memory of a WebAssembly module cannot be given up. The message has
    // its copy, so nothing is wrong but that the caller keeps it too.
  }
}
