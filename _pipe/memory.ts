// Copyright 2026 the Duplex authors. MIT license.

/**
 * The memory of a child process, watched by the child. V8 limits its heap as well.
 *
 * @module
 */

import { watchMemory } from "../_base/memory.ts";
import { writeAllSync } from "../_base/writing.ts";

/** Ends this process, with a report, if its heap and its buffers hold more than `bytes`. */
export async function endAtLimit(bytes: number): Promise<void> {
  const measure = Deno.memoryUsage;
  const { message } = await watchMemory({ bytes, hasBuffers: true, measure });
  writeAllSync(Deno.stderr, new TextEncoder().encode(`error: ${message}\n`));
  Deno.exit(1);
}
