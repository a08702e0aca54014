// Copyright 2026 the Duplex authors. MIT license.

/**
 * A queue of tasks of one turn: those of one priority, or of one key.
 *
 * @module
 */

import { Deque } from "../_base/waiting.ts";
import {
  closedError,
  type Job,
  type Task,
  type TaskPlace,
  type TaskSource,
  type Waiting,
} from "./task.ts";

/** Tasks in a queue above which settled ones are removed from its middle. */
const MIN_COMPACTED = 64;

/** What a queue needs of its owner. */
export interface TaskQueueOwner {
  /** Settles a task with an error. */
  reject(task: Task, error: unknown): void;
  /** The queue is empty. */
  onEmpty(queue: TaskQueue): void;
}

/** A first-in, first-out queue of tasks. */
export class TaskQueue implements TaskSource, TaskPlace {
  turn: TaskSource["turn"];
  readonly #priority: number;
  readonly #tasks = new Deque<Task>();
  readonly #owner: TaskQueueOwner;
  /** Waiting tasks without an outcome. */
  #waiting = 0;

  constructor(owner: TaskQueueOwner, priority: number) {
    this.#owner = owner;
    this.#priority = priority;
  }

  get priority(): number {
    return this.#priority;
  }

  get waiting(): number {
    this.#trim();
    return this.#waiting;
  }

  /** The first task; there must be one. */
  protected get first(): Task {
    return this.#tasks.first;
  }

  push(task: Task): void {
    this.#tasks.push(task);
    this.#enter(task);
  }

  /** Adds a task before the others. */
  unshift(task: Task): void {
    this.#tasks.unshift(task);
    this.#enter(task);
  }

  /** Handles a waiting task that was settled; such tasks are removed together. */
  drop(task: Task): void {
    this.#leave(task);
    const { length } = this.#tasks;
    if (length >= MIN_COMPACTED && this.#waiting * 2 <= length) this.clean();
  }

  /** Removes settled tasks. */
  clean(): void {
    this.#tasks.retain((task) => !task.isSettled || this.#leave(task));
    this.#trim();
  }

  prepare(most: number): number {
    return Math.min(most, this.waiting);
  }

  take(mostOf: (job: Job) => number): Task[] {
    this.#trim();
    if (this.#tasks.length === 0) return [];
    const { job } = this.#tasks.first;
    const most = mostOf(job);
    const tasks: Task[] = [];
    while (tasks.length < most && this.#tasks.length > 0) {
      const task = this.#tasks.first;
      if (task.job !== job) break;
      if (!this.mayJoin(task) && tasks.length > 0) break;
      this.#tasks.shift();
      const { isSettled } = task;
      this.#leave(task);
      if (isSettled) continue;
      tasks.push(task);
      if (!this.mayJoin(task)) break;
    }
    if (this.#tasks.length === 0) this.#owner.onEmpty(this);
    return tasks;
  }

  finish(waiting: Waiting): void {
    if (waiting === "reject") this.#rejectAll(closedError);
  }

  fail(error: unknown): void {
    this.#rejectAll(() => error);
  }

  /** Whether a task can share a message with others. */
  protected mayJoin(task: Task): boolean {
    return !task.hasSlots;
  }

  #rejectAll(errorOf: (task: Task) => unknown): void {
    while (this.#tasks.length > 0) {
      const task = this.#tasks.shift();
      this.#leave(task);
      this.#owner.reject(task, errorOf(task));
    }
    this.#owner.onEmpty(this);
  }

  #enter(task: Task): void {
    task.place = this;
    this.#waiting++;
  }

  /** Returns `false`. */
  #leave(task: Task): boolean {
    if (task.place !== this) return false;
    this.#waiting--;
    task.onLeft();
    return false;
  }

  /** Removes settled tasks at the front. */
  #trim(): void {
    while (this.#tasks.length > 0 && this.#tasks.first.isSettled) {
      this.#leave(this.#tasks.shift());
    }
    if (this.#tasks.length === 0) this.#owner.onEmpty(this);
  }
}
