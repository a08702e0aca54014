// Copyright 2026 the Duplex authors. MIT license.

/**
 * Ends a Web Worker whose heap grows over its limit, while it still can: Deno 2.9
 * ends the whole process when the heap of a worker is full. What grows between
 * two looks, in one piece of work without a pause, is not noticed.
 *
 * @module
 */

/** Milliseconds between looks: a heap grows by some 100 MiB meanwhile. */
const INTERVAL = 100;

/**
 * Looks at this worker's heap from now on. Ends the worker with an error that
 * nothing catches.
 *
 * @param limit Bytes that the heap may hold.
 */
export async function watchMemory(limit: number): Promise<void> {
  const nothing = new Int32Array(new SharedArrayBuffer(4));
  for (;;) {
    // Where a timer would cost 3 ms to begin with.
    await Atomics.waitAsync(nothing, 0, 0, INTERVAL).value;
    const { heapUsed } = Deno.memoryUsage();
    if (heapUsed <= limit) continue;
    throw new RangeError(
      `The worker is out of memory: its heap holds ${heapUsed} bytes and may hold ${limit}; give it more with "memory", or less to do`,
    );
  }
}
