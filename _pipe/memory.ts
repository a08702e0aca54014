// Copyright 2026 the Duplex authors. MIT license.

/**
 * The memory of a child process that runs Deno. V8 limits the heap; the child itself
 * watches the heap and its buffers.
 *
 * The child learns its limit from the name of a function: V8 makes the function that
 * frees unused memory under the name that a flag gives. A variable of the environment
 * would require a permission, and other flags of V8 are shown only by `node:v8`, which
 * takes 10 ms to load.
 *
 * @module
 */

import { MEMORY_INTERVAL, memoryError } from "../_base/memory.ts";
import { writeAllSync } from "../_base/writing.ts";

const MIB = 2 ** 20;

/** The name of the function, before the number of bytes. */
const NAME = "duplexIpcMemory";

/** The flag that limits the memory of a child. */
export function memoryFlag(bytes: number): string {
  const heap = Math.ceil(bytes / MIB);
  return `--v8-flags=--max-old-space-size=${heap},--expose-gc-as=${NAME}${
    Math.ceil(bytes)
  }`;
}

/** Ends this process if it uses more memory than its parent has set, if it has. */
export function watchMemory(): void {
  const name = Object.getOwnPropertyNames(globalThis)
    .find((name) => name.startsWith(NAME));
  if (name === undefined) return;
  const scope = globalThis as unknown as Record<string, () => void>;
  const limit = {
    bytes: Number(name.slice(NAME.length)),
    hasBuffers: true,
    measure: Deno.memoryUsage,
    collect: scope[name]!,
  };
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
