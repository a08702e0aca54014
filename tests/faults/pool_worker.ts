// Copyright 2026 the Duplex authors. MIT license.

/**
 * The worker of a plan for a pool: the argument of a task names its kind, and
 * the start of each task is recorded in a journal.
 *
 * @module
 */

import { expose } from "@duplex/ipc/rpc";
import { openFileJournal } from "./file_journal.ts";
import type { TaskName } from "./pool_plan.ts";
import { PlannedError, sleep } from "./promises.ts";

const { folder }: { folder: string } = JSON.parse(
  new URL(import.meta.url).searchParams.get("part")!,
);

const journal = openFileJournal(
  folder,
  `worker-${crypto.randomUUID().slice(0, 8)}`,
);

/** A task: its kind and its id. */
export type Task = [name: TaskName, id: string];

/** Ends the worker like a crash. */
function die(): void {
  if ("WorkerGlobalScope" in globalThis) {
    (globalThis as unknown as { close(): void }).close();
  } else {
    Deno.exit(1);
  }
}

const methods = {
  async work([name, id]: Task): Promise<[string, unknown]> {
    journal.add("received", id);
    switch (name) {
      case "quick":
        return [id, null];
      case "slow":
        await sleep(3);
        return [id, null];
      case "fails":
        throw new PlannedError(`fail ${id}`);
      case "large":
        return [id, "x".repeat(200_000)];
      case "exits":
        if ("WorkerGlobalScope" in globalThis) die();
        else Deno.exit(5);
        return [id, await new Promise(() => {})];
      case "throwsLater":
        setTimeout(() => {
          throw new PlannedError(`later ${id}`);
        });
        return [id, await new Promise(() => {})];
      case "closes":
        die();
        return [id, await new Promise(() => {})];
      case "busy":
        for (const end = performance.now() + 20; performance.now() < end;);
        return [id, null];
    }
  },
};

export type Methods = typeof methods;

expose(methods);
