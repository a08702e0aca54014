// Copyright 2026 the Duplex authors. MIT license.

/**
 * Counts of open files, on Linux only. They need every permission.
 *
 * @module
 */

import { until } from "./_peers.ts";

/** Whether open files can be counted here. */
export const COUNTS_FILES: boolean = Deno.build.os === "linux";

/** How many files a process has open; by default this one. */
export function openFiles(pid: number = Deno.pid): number {
  return [...Deno.readDirSync(`/proc/${pid}/fd`)].length;
}

/** Waits until no more files than these are open. */
export async function untilFiles(most: number): Promise<void> {
  await until(() => openFiles() <= most);
}
