// Copyright 2026 the Duplex authors. MIT license.

/**
 * The tasks that wait for the delay before they are run again. They hold no worker.
 *
 * @module
 */

import type { Job, Task } from "./task.ts";

type Timer = ReturnType<typeof setTimeout>;

/** Tasks that wait for the delay before their next run. */
export class Delays {
  readonly #onDue: (task: Task) => void;
  readonly #timers = new Map<Job, Map<Task, Timer>>();
  #size = 0;

  /** @param onDue Called after the delay of a task, or when it is removed. */
  constructor(onDue: (task: Task) => void) {
    this.#onDue = onDue;
  }

  /** Number of tasks. */
  get size(): number {
    return this.#size;
  }

  /** Number of tasks without a key: the others wait in the queue of their key. */
  get withoutKey(): number {
    let count = 0;
    for (const timers of this.#timers.values()) {
      for (const { key } of timers.keys()) if (key === undefined) count++;
    }
    return count;
  }

  /** Adds a task for some milliseconds. */
  add(task: Task, ms: number): void {
    let timers = this.#timers.get(task.job);
    if (timers === undefined) this.#timers.set(task.job, timers = new Map());
    timers.set(task, setTimeout(() => this.delete(task), ms));
    this.#size++;
  }

  /** Ends the delay of a task, if it has one. */
  delete(task: Task): void {
    if (this.#size === 0) return;
    const timers = this.#timers.get(task.job);
    const timer = timers?.get(task);
    if (timer === undefined) return;
    clearTimeout(timer);
    timers!.delete(task);
    if (timers!.size === 0) this.#timers.delete(task.job);
    this.#size--;
    this.#onDue(task);
  }

  /** Ends the delays of the tasks of a job. */
  deleteJob(job: Job): void {
    for (const task of [...this.#timers.get(job)?.keys() ?? []]) {
      this.delete(task);
    }
  }

  /** Ends all delays. */
  clear(): void {
    for (const job of [...this.#timers.keys()]) this.deleteJob(job);
  }
}
