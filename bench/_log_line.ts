// Copyright 2026 the Duplex authors. MIT license.

/**
 * The small message that the measurements share.
 *
 * @module
 */

/** A line of a log: 8 fields, 131 bytes as MessagePack. */
export const LOG_LINE = {
  time: "2026-11-23T06:59:25.123Z",
  level: "info",
  message: "GET /index.html 200",
  host: "web-1",
  pid: 4242,
  ms: 12.5,
  bytes: 5120,
  ok: true,
};

/**
 * Makes lines that differ in their text, as real ones do.
 *
 * @param count How many.
 * @returns The lines.
 */
export function logLines(count: number): (typeof LOG_LINE)[] {
  return Array.from({ length: count }, (_, index) => ({
    ...LOG_LINE,
    message: `GET /page-${index}.html 200`,
    pid: 4242 + index,
  }));
}
