// Copyright 2026 the Duplex authors. MIT license.

/**
 * Resources that a run leaks in this process: open files, child processes,
 * threads and memory. Linux only; on other systems nothing is checked.
 *
 * @module
 */

/** Milliseconds within which the resources of a run must be released. */
const LIMIT = 5_000;

/** A run has leaked resources. */
export class LeakError extends Error {
  override name = "LeakError";
}

/** The resources of this process. */
interface Resources {
  readonly files: number;
  readonly children: number;
  readonly workers: number;
}

function isLinux(): boolean {
  return Deno.build.os === "linux";
}

/** Counts the resources of this process. */
export function resourcesInUse(): Resources {
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
      // The thread has just ended.
    }
  }
  const files = [...Deno.readDirSync("/proc/self/fd")].length;
  return { files, children, workers };
}

/**
 * Waits until this process uses no more resources than before.
 *
 * @throws {LeakError} If it still does after {@linkcode LIMIT}.
 */
export async function checkLeaks(before: Resources): Promise<void> {
  const end = performance.now() + LIMIT;
  for (;;) {
    const now = resourcesInUse();
    const more = (["files", "children", "workers"] as const)
      .filter((what) => now[what] > before[what]);
    if (more.length === 0) return;
    if (performance.now() > end) {
      const list = more.map((what) =>
        `${before[what]} ${what}, then ${now[what]}`
      );
      throw new LeakError(
        `The run has left something behind: ${list.join("; ")}`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Bytes of memory in use after a garbage collection. */
export function memoryInUse(): number {
  const { gc } = globalThis as { gc?: () => void };
  gc?.();
  const { heapUsed, external } = Deno.memoryUsage();
  return heapUsed + external;
}
