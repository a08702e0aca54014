// Copyright 2026 the Duplex authors. MIT license.

/**
 * The way in over a stream: one loop that reads it and has it parsed.
 *
 * @module
 */

import type { ByteStream } from "./_byte_stream.ts";
import type { Codec } from "./codec.ts";
import { ProtocolError } from "./_errors.ts";
import type { FrameWireOptions } from "./_frame_layout.ts";
import { FrameParser } from "./_frame_parser.ts";
import type { WireEvents } from "./_wire.ts";

/**
 * Control frames in one read above which a peer babbles: an honest one sends a few.
 * Reading it goes on after a pause, in which everybody else has a turn. What has
 * come already would be read without one, and no promise would wait for others.
 */
const MAX_CONTROLS = 64;

/** Reads frames from a {@linkcode ByteStream}. */
export class FrameReader {
  readonly #stream: ByteStream;
  readonly #events: WireEvents;
  readonly #parser: FrameParser;

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
          parser.resume();
          continue;
        }
        parser.prepare();
        const { into, from, to } = parser;
        const read = await this.#stream.read(into.subarray(from, to));
        if (parser.isStopped) return;
        if (read === null) return this.#events.onLost(parser.endOfStream());
        parser.advance(read.length, read.buffer);
        if (parser.takeControls() > MAX_CONTROLS) await pause();
      }
    } catch (error) {
      if (parser.isStopped) return;
      parser.stop();
      if (error instanceof ProtocolError) this.#events.onFault(error);
      else this.#events.onLost(error);
    }
  }
}

/** Waits until everything else that is due has had its turn. */
function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}
