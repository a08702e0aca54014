// Copyright 2026 the Duplex authors. MIT license.

/**
 * The memory of a worker, measured by the worker itself, and the error of a worker
 * that has used too much.
 *
 * @module
 */

/** Milliseconds between checks of the memory, which grows by some 100 MiB meanwhile. */
const INTERVAL = 100;

/** The beginning of the error with which a worker ends itself. */
const OUT_OF_MEMORY = "The worker is out of memory";

/** The ends of V8, and of this package, for lack of memory. */
const REPORT = new RegExp(
  `JavaScript (?:heap )?out of memory|${OUT_OF_MEMORY}`,
);

const MIB = 2 ** 20;

/** A size in MiB, for errors. */
function mebibytes(bytes: number): string {
  return `${Math.round(bytes / MIB * 10) / 10} MiB`;
}

/** What a worker may use, and how it is measured. */
export interface MemoryLimit {
  readonly bytes: number;
  /** Whether buffers count in addition to the heap. */
  readonly hasBuffers: boolean;
  /** The memory in use, as reported by Deno. */
  measure(): { heapUsed: number; external: number };
}

/**
 * Waits until this worker uses more than its limit, and returns the error for that. Does
 * not keep the process alive.
 */
export async function watchMemory(limit: MemoryLimit): Promise<RangeError> {
  const word = new Int32Array(new SharedArrayBuffer(4));
  for (;;) {
    // The first timer of a thread costs 3 ms.
    await Atomics.waitAsync(word, 0, 0, INTERVAL).value;
    const error = await memoryError(limit);
    if (error !== undefined) return error;
  }
}

/** The error of a worker that uses more than its limit; `undefined` if it does not. */
async function memoryError(
  limit: MemoryLimit,
): Promise<RangeError | undefined> {
  const { bytes, hasBuffers } = limit;
  const used = () => {
    const { heapUsed, external } = limit.measure();
    return hasBuffers ? heapUsed + external : heapUsed;
  };
  if (used() <= bytes) return undefined;
  const collect = await loadCollector();
  collect();
  // V8 may release buffers that one collection found only at the next one.
  if (used() > bytes) collect();
  const rest = used();
  if (rest <= bytes) return undefined;
  return new RangeError(
    `${OUT_OF_MEMORY}: its heap${
      hasBuffers ? " and its buffers hold" : " holds"
    } ${mebibytes(rest)} of ${
      mebibytes(bytes)
    }; give it more with "memory", or less to do`,
  );
}

let collector: (() => void) | undefined;

/**
 * Loads the function of V8 that frees unused memory, of which V8 may keep hundreds of
 * megabytes.
 */
async function loadCollector(): Promise<() => void> {
  if (collector !== undefined) return collector;
  try {
    const [{ setFlagsFromString }, { runInNewContext }] = await Promise.all([
      import("node:v8"),
      import("node:vm"),
    ]);
    setFlagsFromString("--expose-gc");
    collector = runInNewContext("gc") as () => void;
  } catch {
    // Without it unused memory counts as used.
    collector = () => {};
  }
  return collector;
}

/**
 * How a worker ended, if it was for lack of memory.
 *
 * @param report What the worker reported of its end.
 * @param limit The bytes that it may use, if they are limited here.
 */
export function describeMemoryEnd(
  report: string,
  limit: number | undefined,
): string | undefined {
  if (!REPORT.test(report)) return undefined;
  return limit === undefined
    ? "ended: it ran out of memory"
    : `ended: it used more than its memory of ${mebibytes(limit)}`;
}
