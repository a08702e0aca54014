// Copyright 2026 the Duplex authors. MIT license.

/**
 * The way in over a stream: one loop that reads it and has it parsed.
 *
 * @module
 */

import type { ByteStream } from "./byte_stream.ts";
import type { Codec } from "../codec.ts";
import { ProtocolError, toFault } from "../_base/errors.ts";
import type { FrameWireOptions } from "./frame_layout.ts";
import { FrameParser } from "./frame_parser.ts";
import type { WireEvents } from "./wire.ts";

/**
 * Frames and short reads without a message above which a peer babbles: an honest
 * one sends a few. Reading it goes on after a pause, in which everybody else has a
 * turn. What has come already would be read without one, since no promise waits for
 * others.
 */
const MAX_BABBLE = 64;

/** Bytes below which a read is short. */
const SHORT_READ = 1024;

/** Reads frames from a {@linkcode ByteStream}. */
export class FrameReader {
  readonly #stream: ByteStream;
  readonly #events: WireEvents;
  readonly #parser: FrameParser;
  /** How much has come since the last message, and its own frames. */
  #babble = 0;
  #endPause: (() => void) | undefined;
  /** Whether what was read is being handled, so that an error is the peer's fault. */
  #isParsing = false;

  constructor(
    stream: ByteStream,
    events: WireEvents,
    options: FrameWireOptions,
  ) {
    this.#stream = stream;
    this.#events = events;
    this.#parser = new FrameParser(events, options, stream.posts);
  }

  /** From now on messages may arrive, in this codec. */
  agree(codec: Codec): void {
    this.#parser.agree(codec);
  }

  /** Hands on nothing more; a read that is under way is left to its end. */
  stop(): void {
    this.#parser.stop();
    this.#endPause?.();
  }

  /** Reads until the stream ends or {@linkcode FrameReader.stop}. */
  async run(): Promise<void> {
    const parser = this.#parser;
    try {
      while (!parser.isStopped) {
        if (parser.awaitsPost) {
          const came = await this.#stream.posts!.arrival();
          if (parser.isStopped) return;
          if (!came) return this.#events.onLost(undefined);
          this.#isParsing = true;
          parser.resume();
          this.#isParsing = false;
          continue;
        }
        parser.prepare();
        const { into, from, to } = parser;
        const read = await this.#stream.read(into.subarray(from, to));
        if (parser.isStopped) return;
        if (read === null) return this.#events.onLost(parser.endOfStream());
        this.#isParsing = true;
        parser.advance(read.length, read.buffer);
        this.#isParsing = false;
        if (this.#isBabble(read.length)) await this.#pause();
      }
    } catch (error) {
      if (parser.isStopped) return;
      parser.stop();
      if (this.#isParsing || error instanceof ProtocolError) {
        this.#events.onFault(toFault(error));
      } else {
        this.#events.onLost(error);
      }
    }
  }

  /** Whether a read of so many bytes was babble too much. */
  #isBabble(size: number): boolean {
    if (this.#parser.takeMessages() > 0) this.#babble = 0;
    this.#babble += this.#parser.takeControls();
    if (size < SHORT_READ) this.#babble++;
    if (this.#babble <= MAX_BABBLE) return false;
    this.#babble = 0;
    return true;
  }

  /** Waits until everything else that is due has had its turn, or the end. */
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
