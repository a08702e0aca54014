// Copyright 2026 the Duplex authors. MIT license.

/**
 * The memory of a child process, watched by the child. V8 limits its heap as well.
 *
 * @module
 */

import { MEMORY_INTERVAL, memoryError } from "../_base/memory.ts";
import { writeAllSync } from "../_base/writing.ts";

/** Ends this process, with a report, if its heap and its buffers hold more than `bytes`. */
export function watchMemory(bytes: number): void {
  const limit = { bytes, hasBuffers: true, measure: Deno.memoryUsage };
  const check = async () => {
    const error = await memoryError(limit);
    if (error === undefined) return wait();
    const text = `error: ${error.message}\n`;
    writeAllSync(Deno.stderr, new TextEncoder().encode(text));
    Deno.exit(1);
  };
  const wait = () => Deno.unrefTimer(setTimeout(check, MEMORY_INTERVAL));
  wait();
}
