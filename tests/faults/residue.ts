// Copyright 2026 the Duplex authors. MIT license.

/**
 * What a run leaves behind in this process: open files, child processes, threads
 * and memory. Linux only; elsewhere there is nothing to compare.
 *
 * @module
 */

/** Milliseconds within which what a run used must be gone. */
const LIMIT = 30_000;

/** A run that has left something behind. */
export class ResidueError extends Error {
  override name = "ResidueError";
}

/** What this process holds. */
interface Holdings {
  readonly files: number;
  readonly children: number;
  readonly workers: number;
}

function isLinux(): boolean {
  return Deno.build.os === "linux";
}

/** What this process holds now. */
export function holdings(): Holdings {
  if (!isLinux()) return { files: 0, children: 0, workers: 0 };
  let children = 0;
  let workers = 0;
  for (const { name } of Deno.readDirSync("/proc/self/task")) {
    try {
      const task = `/proc/self/task/${name}`;
      const name_ = Deno.readTextFileSync(`${task}/comm`);
      if (name_.startsWith("worker-")) workers++;
      const list = Deno.readTextFileSync(`${task}/children`);
      children += list.split(" ").filter((id) => id !== "").length;
    } catch {
      // The thread has ended meanwhile.
    }
  }
  const files = [...Deno.readDirSync("/proc/self/fd")].length;
  return { files, children, workers };
}

/**
 * Waits until this process holds no more than it did.
 *
 * @throws {ResidueError} If it still does after {@linkcode LIMIT}; the error names what.
 */
export async function checkHoldings(before: Holdings): Promise<void> {
  const end = performance.now() + LIMIT;
  for (;;) {
    const now = holdings();
    const more = (["files", "children", "workers"] as const)
      .filter((what) => now[what] > before[what]);
    if (more.length === 0) return;
    if (performance.now() > end) {
      const list = more.map((what) =>
        `${before[what]} ${what}, then ${now[what]}`
      );
      throw new ResidueError(
        `The run has left something behind: ${list.join("; ")}`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Bytes of memory that are in use, after garbage was collected. */
export function memoryInUse(): number {
  const { gc } = globalThis as { gc?: () => void };
  gc?.();
  const { heapUsed, external } = Deno.memoryUsage();
  return heapUsed + external;
}
