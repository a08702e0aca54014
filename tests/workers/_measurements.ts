// Copyright 2026 the Duplex authors. MIT license.

/**
 * The measurements that a worker makes of its memory.
 *
 * @module
 */

/**
 * Starts to count the measurements of a worker's memory. Must be called before `parent`.
 *
 * @returns A function that waits for a number of further measurements.
 */
export function watchMeasurements(): (count: number) => Promise<void> {
  const { memoryUsage } = Deno;
  let onMeasure = () => {};
  Deno.memoryUsage = () => {
    onMeasure();
    return memoryUsage();
  };
  return (count) =>
    new Promise((resolve) => {
      onMeasure = () => {
        if (--count === 0) resolve();
      };
    });
}

/** Uses large buffers one after the other, and keeps none. */
export function useBuffers(): void {
  for (let count = 0; count < 3; count++) new Uint8Array(300 * 2 ** 20);
}
