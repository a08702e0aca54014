// Copyright 2026 the Duplex authors. MIT license.

/**
 * The keys of a pool's tasks. Each key with tasks is a source with a turn of its own,
 * and has tasks in at most one worker: the next ones are taken after these have ended.
 * A key belongs to the worker that ran its first task, until this worker ends. Its
 * turns are then listed with the worker and not with the pool, so that other workers
 * do not search through them.
 *
 * @module
 */

import type { Job, Task, TaskSource } from "./task.ts";
import { TaskQueue, type TaskQueueOwner } from "./task_queue.ts";
import { isBefore, Turns } from "./turns.ts";
import type { PoolWorker } from "./worker.ts";

/**
 * Keys without tasks whose worker is remembered; those used longest ago are
 * forgotten. With keys of 20 characters they take about 2 MB.
 */
const MAX_IDLE_KEYS = 10_000;

/** The keys of a worker. */
class Lane {
  /** Whether its worker runs. */
  isOpen = true;
  /** Its keys whose tasks may be taken. */
  readonly turns: Turns<KeyQueue> = new Turns();
  /** The keys whose tasks it runs, one after the other. */
  running: KeyQueue[] = [];
  /** Number of its keys, with those that have no tasks. */
  count = 0;
}

/** The tasks of a key. Its turn has the priority of its first task. */
export class KeyQueue extends TaskQueue {
  readonly key: string;
  /** The keys of its worker, if it has one. */
  lane: Lane | undefined;
  /** Whether tasks of the key are running. */
  isRunning = false;
  /** The first task, while it waits for the delay before its next run. */
  delayed: Task | undefined;

  constructor(owner: TaskQueueOwner, key: string, lane: Lane | undefined) {
    super(owner, 0);
    this.key = key;
    this.lane = lane;
  }

  override get priority(): number {
    return this.first.job.priority;
  }

  /** A key can use one worker at most, and none while it has one or is held. */
  override prepare(): number {
    return this.isRunning || this.delayed !== undefined ? 0 : super.prepare(1);
  }

  override take(mostOf: (job: Job) => number): Task[] {
    // It is not released while its last tasks run.
    this.isRunning = true;
    const tasks = super.take(mostOf);
    this.isRunning = tasks.length > 0;
    return tasks;
  }

  /** Whether its first task can share a message with another task. */
  joins(other: Task): boolean {
    return this.waiting > 0 && this.first.job === other.job &&
      this.mayJoin(other) && this.mayJoin(this.first);
  }

  /** A task that is run again must not be behind a later one of its key. */
  protected override mayJoin(task: Task): boolean {
    return super.mayJoin(task) && !task.isAlone &&
      task.job.retryOn === undefined;
  }
}

/** What the keys need of their pool. */
export interface KeyHost {
  /** Settles a task with an error. */
  reject(task: Task, error: unknown): void;
}

/** The keys of a pool. */
export class Keys implements TaskQueueOwner {
  readonly #host: KeyHost;
  readonly #workers: number;
  /** The turns of the pool, and all its sources. */
  readonly #turns: Turns<TaskSource>;
  readonly #sources: Set<TaskSource>;
  /** Keys with tasks that wait or run. */
  readonly #active = new Map<string, KeyQueue>();
  /** Keys without tasks, those used longest ago first. */
  readonly #idle = new Map<string, Lane>();
  readonly #lanes = new Map<PoolWorker, Lane>();
  /** Set if a worker got a further key: with more workers, keys have more room. */
  isCrowded = false;

  /**
   * @param host The pool.
   * @param workers Its maximum number of workers.
   * @param turns The turns of its sources.
   * @param sources Its sources.
   */
  constructor(
    host: KeyHost,
    workers: number,
    turns: Turns<TaskSource>,
    sources: Set<TaskSource>,
  ) {
    this.#host = host;
    this.#workers = workers;
    this.#turns = turns;
    this.#sources = sources;
  }

  /** Number of keys with tasks, and of those without whose workers are remembered. */
  get counts(): { active: number; idle: number } {
    return { active: this.#active.size, idle: this.#idle.size };
  }

  /** Number of waiting tasks. */
  get waiting(): number {
    let waiting = 0;
    for (const queue of this.#active.values()) waiting += queue.waiting;
    return waiting;
  }

  /** Whether any task waits. */
  get hasWaiting(): boolean {
    for (const queue of this.#active.values()) {
      if (queue.waiting > 0) return true;
    }
    return false;
  }

  /** Whether any worker has keys. */
  get isUsed(): boolean {
    return this.#lanes.size > 0;
  }

  /** Adds a task at the end of its key. */
  push(key: string, task: Task): void {
    task.key = key;
    let queue = this.#active.get(key);
    if (queue === undefined) {
      queue = new KeyQueue(this, key, this.#idle.get(key));
      this.#idle.delete(key);
      this.#active.set(key, queue);
      this.#sources.add(queue);
    }
    queue.push(task);
    this.#list(queue);
  }

  /** Adds tasks that were given to a worker before the others of their keys. */
  putBack(tasks: readonly Task[]): void {
    for (const task of tasks.toReversed()) {
      // A key is active while its tasks run.
      if (task.key !== undefined) this.#active.get(task.key)!.unshift(task);
    }
  }

  /** Holds a key during the delay of a task; returns whether it was not held before. */
  hold(task: Task): boolean {
    const queue = this.#active.get(task.key!)!;
    if (queue.delayed !== undefined) return false;
    queue.delayed = task;
    return true;
  }

  /** Ends the delay of a task. */
  release(task: Task): void {
    const queue = this.#active.get(task.key!);
    if (queue?.delayed !== task) return;
    queue.delayed = undefined;
    this.#list(queue);
  }

  /** The next source of a worker. */
  first(worker: PoolWorker): TaskSource | undefined {
    const other = this.#turns.first;
    if (this.#lanes.size === 0) return other;
    const own = this.#lanes.get(worker)?.turns.first;
    if (own === undefined) return other;
    return other === undefined || isBefore(own, other) ? own : other;
  }

  /**
   * The worker for a key: its own one, or for a new key that with the fewest keys of
   * those that are free.
   */
  workerFor(
    { lane }: KeyQueue,
    worker: PoolWorker,
    workers: Iterable<PoolWorker>,
  ): PoolWorker {
    if (lane?.isOpen) return worker;
    let fewest = this.#lanes.get(worker)?.count ?? 0;
    for (const other of workers) {
      if (fewest === 0) break;
      const count = this.#lanes.get(other)?.count ?? 0;
      if (count >= fewest || !other.isFree) continue;
      [worker, fewest] = [other, count];
    }
    return worker;
  }

  /** Handles that tasks of a key are given to a worker. */
  onGiven(queue: KeyQueue, worker: PoolWorker): void {
    let lane = this.#lanes.get(worker);
    if (lane === undefined) this.#lanes.set(worker, lane = new Lane());
    if (queue.lane !== lane) {
      queue.lane = lane;
      if (++lane.count > 1) this.isCrowded = true;
    }
    lane.running.push(queue);
  }

  /**
   * Adds tasks of the keys whose turns are next to a batch; new keys only until the
   * worker has its share of all keys.
   */
  join(tasks: Task[], most: number, worker: PoolWorker): void {
    const [task] = tasks as [Task];
    const lane = this.#lanes.get(worker)!;
    const share = (this.#active.size + this.#idle.size) / this.#workers;
    while (tasks.length < most) {
      const next = this.first(worker);
      if (!(next instanceof KeyQueue) || !next.joins(task)) return;
      if (!next.lane?.isOpen && lane.count >= share) return;
      next.turn!.list!.delete(next);
      tasks.push(...next.take(() => most - tasks.length));
      this.onGiven(next, worker);
    }
  }

  /** Handles that a worker has no more tasks. */
  onFree(worker: PoolWorker): void {
    const lane = this.#lanes.get(worker);
    if (lane !== undefined) this.#end(lane);
  }

  /** Handles that a worker has ended: its keys move to others. */
  onRetired(worker: PoolWorker): void {
    const lane = this.#lanes.get(worker);
    if (lane === undefined) return;
    this.#lanes.delete(worker);
    lane.isOpen = false;
    for (let queue; (queue = lane.turns.first) !== undefined;) {
      lane.turns.delete(queue);
      this.#list(queue);
    }
    this.#end(lane);
  }

  reject(task: Task, error: unknown): void {
    this.#host.reject(task, error);
  }

  onEmpty(queue: TaskQueue): void {
    if (!(queue as KeyQueue).isRunning) this.#release(queue as KeyQueue);
  }

  /** Releases a key that has no tasks; its worker is remembered. */
  #release(queue: KeyQueue): void {
    const { key, lane } = queue;
    if (this.#active.get(key) !== queue) return;
    this.#active.delete(key);
    this.#sources.delete(queue);
    queue.turn?.list?.delete(queue);
    if (!lane?.isOpen) return;
    this.#idle.set(key, lane);
    if (this.#idle.size <= MAX_IDLE_KEYS) return;
    const [oldest, { count }] = this.#idle.entries().next().value!;
    this.#idle.get(oldest)!.count = count - 1;
    this.#idle.delete(oldest);
  }

  /** Handles that the tasks of a worker have ended. */
  #end(lane: Lane): void {
    const { running } = lane;
    lane.running = [];
    for (const queue of running) {
      queue.isRunning = false;
      this.#list(queue);
    }
  }

  /** Lists a key if its tasks may be taken. */
  #list(queue: KeyQueue): void {
    // Without tasks it is released.
    if (queue.isRunning || queue.waiting === 0) return;
    if (queue.delayed !== undefined) return;
    if (queue.lane?.isOpen) queue.lane.turns.add(queue);
    else this.#turns.add(queue);
  }
}
