// Copyright 2026 the Duplex authors. MIT license.

/**
 * The acts of `sync_actor.ts`, and helpers of the tests of `sync.ts`.
 *
 * @module
 */

/** An act of a worker. */
export interface Act {
  name: "count" | "hold" | "wait" | "add" | "expire";
  /** The lock. */
  buffer: SharedArrayBuffer;
  /** What to wait for. */
  what?:
    | "mutex"
    | "semaphore"
    | "condition"
    | "barrier"
    | "event"
    | "counter";
  /** The mutex of a condition. */
  mutex?: SharedArrayBuffer;
  /** The data that the lock protects. */
  data?: SharedArrayBuffer;
  /** Whether to block the thread. */
  sync?: boolean;
  rounds?: number;
  recover?: boolean;
  timeout?: number;
  /** How the thread ends while it holds the lock, or does not stay alive. */
  end?: "close" | "throw" | "busy" | "drain";
}

/** A worker and its messages. */
export class Actor implements Disposable {
  readonly #worker: Worker;
  readonly #messages: unknown[] = [];
  #listen: (() => void) | undefined;

  private constructor() {
    const url = new URL("sync_actor.ts", import.meta.url);
    this.#worker = new Worker(url, { type: "module" });
    this.#worker.onmessage = ({ data }) => {
      this.#messages.push(data);
      this.#listen?.();
    };
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.#messages.push("failed");
      this.#listen?.();
    };
  }

  /** Starts a worker and assigns its act. */
  static async start(act: Act): Promise<Actor> {
    const actor = await Actor.ready();
    actor.play(act);
    return actor;
  }

  /** Starts a worker that receives its act later. */
  static async ready(): Promise<Actor> {
    const actor = new Actor();
    await actor.nextMessage();
    return actor;
  }

  /** Sends the act to the worker. */
  play(act: Act): void {
    this.#worker.postMessage(act);
  }

  /** The next message of the worker. */
  async nextMessage(): Promise<unknown> {
    while (this.#messages.length === 0) {
      await new Promise<void>((resolve) => this.#listen = resolve);
    }
    return this.#messages.shift();
  }

  terminate(): void {
    this.#worker.terminate();
  }

  [Symbol.dispose](): void {
    this.terminate();
  }
}

/** The word that counts the waits in the queue of a lock. */
const WAITS = 14;

/**
 * The number of waits in the queue of a lock, including those of dead threads.
 */
export function waiting(buffer: SharedArrayBuffer): number {
  return Atomics.load(new Int32Array(buffer), WAITS);
}

/** The word of the first slot that contains the number of its thread. */
const THREAD = 20;

/** The thread of the first slot of a lock, which must be in use. */
export function threadOfFirst(buffer: SharedArrayBuffer): number {
  return Atomics.load(new Int32Array(buffer), THREAD);
}

/** The word that counts the slots in use. */
const IN_USE = 13;

/** The number of used places in the queue of a lock. */
export function slotsInUse(buffer: SharedArrayBuffer): number {
  return Atomics.load(new Int32Array(buffer), IN_USE);
}

/** The number of pending `Atomics` waits in the memory of a lock; ends them. */
export function sleepersOf(buffer: SharedArrayBuffer): number {
  const words = new Int32Array(buffer);
  let count = 0;
  for (let word = 0; word < words.length; word++) {
    count += Atomics.notify(words, word);
  }
  return count;
}

/** Settles when that many waits are in the queue of a lock. */
export async function untilWaiting(
  buffer: SharedArrayBuffer,
  count: number,
): Promise<void> {
  while (waiting(buffer) !== count) {
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/** A test that may only start workers from this folder. */
export function workerTest(
  name: string,
  fn: (t: Deno.TestContext) => Promise<void>,
  env: string[] = [],
): void {
  const root = new URL("../../", import.meta.url);
  Deno.test({ name, permissions: { read: [root], env }, fn });
}
