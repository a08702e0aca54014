// Copyright 2026 the Duplex authors. MIT license.

/**
 * Links for tests of the session: one that splits its reads at any place, and
 * one whose peer is written by hand.
 *
 * @module
 */

import type { ByteStream } from "../../_wire/byte_stream.ts";
import { FrameWire } from "../../_wire/frame_wire.ts";
import {
  DEFAULT_OPTIONS,
  type SessionOptions,
} from "../../_session/options.ts";
import { memoryStreams } from "../../_session/memory_stream.ts";
import { Session } from "../../_session/session.ts";

/** A stream whose reads return between one byte and `most` bytes. */
export function splitReads(
  stream: ByteStream,
  random: () => number,
  most: number,
): ByteStream {
  return {
    read(into) {
      const size = 1 + Math.floor(random() * Math.min(into.length, most));
      return stream.read(into.subarray(0, Math.min(size, into.length)));
    },
    write: (bytes) => stream.write(bytes),
    diagnose: (cause, unsent) => stream.diagnose(cause, unsent),
    close: (timeout, unsent) => stream.close(timeout, unsent),
    destroy: () => stream.destroy(),
  };
}

/** A session, and the raw end of its link. */
export function sessionAndRawEnd(
  options: Partial<SessionOptions> = {},
): { session: Session; raw: ByteStream } {
  const [stream, raw] = memoryStreams();
  const own = { ...DEFAULT_OPTIONS, ...options };
  return { session: new Session(new FrameWire(stream), own), raw };
}

/** Reads and drops the output of the session, until its end. */
export async function drain(raw: ByteStream): Promise<void> {
  const into = new Uint8Array(65_536);
  while (await raw.read(into) !== null);
}
