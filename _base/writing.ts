// Copyright 2026 the Duplex authors. MIT license.

/**
 * Writes that are complete: a stream may accept fewer bytes than it was given.
 *
 * @module
 */

/** A sink of bytes, such as `Deno.stdout`. */
export interface ByteSink {
  /** Writes some of the bytes; returns how many. */
  write(bytes: Uint8Array): Promise<number>;
}

/** Writes all bytes, in as many parts as necessary. */
export async function writeAll(
  sink: ByteSink,
  bytes: Uint8Array,
): Promise<void> {
  for (let start = 0; start < bytes.length;) {
    start += await sink.write(bytes.subarray(start));
  }
}

/** As {@linkcode writeAll}, before it returns. */
export function writeAllSync(
  sink: { writeSync(bytes: Uint8Array): number },
  bytes: Uint8Array,
): void {
  for (let start = 0; start < bytes.length;) {
    start += sink.writeSync(bytes.subarray(start));
  }
}
