// Copyright 2026 the Duplex authors. MIT license.

/**
 * Shared by all waiting tasks of this thread: one timer that checks for dead
 * threads, one that keeps the program running, which a pending `Atomics.waitAsync`
 * does not, and one listener for each signal.
 *
 * @module
 */

import { beginCheck, endCheck } from "./liveness.ts";
import type { WaitLimits } from "./options.ts";
import { AbortGroups, MAX_TIMER } from "../_base/waiting.ts";

/** Milliseconds between two checks for dead threads. */
export const CHECK_MS = 20;

/** Whether {@linkcode loadTimers} was called. */
export let areTimersLoaded = false;

/**
 * Makes Deno load its timers, which it does when they are first used. It runs
 * pending microtasks meanwhile, so this must not be called under a latch or in the
 * middle of a change.
 */
export function loadTimers(): void {
  areTimersLoaded = typeof setTimeout === "function";
}

/** A queue in which tasks of this thread wait. */
export interface Watched {
  /** Checks for dead threads; must not throw. */
  tick(): void;
}

const watched = new Set<Watched>();
let timer: ReturnType<typeof setInterval> | undefined;

/** Calls `tick` every {@linkcode CHECK_MS}. */
export function watch(queue: Watched): void {
  if (!areTimersLoaded) loadTimers();
  watched.add(queue);
  timer ??= setInterval(tickAll, CHECK_MS);
}

/** Ends {@linkcode watch}. */
export function unwatch(queue: Watched): void {
  watched.delete(queue);
  if (watched.size > 0) return;
  clearInterval(timer);
  timer = undefined;
}

function tickAll(): void {
  beginCheck();
  try {
    for (const queue of watched) queue.tick();
  } finally {
    endCheck();
  }
}

function nothing(): void {}

/** The number of waits that keep the program running, and the timer that does. */
let refs = 0;
let keeper: ReturnType<typeof setInterval> | undefined;

/**
 * Keeps the program running until {@linkcode unrefProgram} is called as often. The
 * timers must be loaded.
 */
export function refProgram(): void {
  if (refs++ === 0) keeper = setInterval(nothing, MAX_TIMER);
}

/** Ends {@linkcode refProgram}. */
export function unrefProgram(): void {
  if (--refs === 0) clearInterval(keeper);
}

/** The waits with a signal: one listener for each signal, however many wait. */
const signals = new AbortGroups<{ end(reason: unknown): void }>(
  (waits, reason) => {
    for (const wait of waits) wait.end(reason);
  },
);

/** A promise with a timeout and a signal. */
export abstract class TaskWait<T> {
  #limits: WaitLimits | undefined;
  #resolvers: PromiseWithResolvers<T> | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** The attempted action, as "Cannot `action`" names it. */
  get action(): string {
    return this.#limits?.action ?? "wait for the lock";
  }

  /** Creates the promise. Without it, the wait is one of a blocked thread. */
  start(limits: WaitLimits): Promise<T> {
    this.#resolvers = Promise.withResolvers();
    this.#limits = limits;
    if (limits.signal !== undefined) signals.add(this, limits.signal);
    if (limits.deadline !== Infinity) this.#startTimer(limits);
    return this.#resolvers.promise;
  }

  /** Ends the wait at its timeout or abort, unless it has ended. */
  end(reason: unknown): void {
    if (this.#resolvers !== undefined) this.onLimit(reason);
  }

  /** Called at the timeout or abort with the error of the waiting call. */
  protected abstract onLimit(reason: unknown): void;

  /** Resolves the promise, if there is one. */
  resolve(value: T): void {
    this.#finish()?.resolve(value);
  }

  /** Rejects the promise, if there is one. */
  reject(reason: unknown): void {
    this.#finish()?.reject(reason);
  }

  #finish(): PromiseWithResolvers<T> | undefined {
    const resolvers = this.#resolvers;
    this.#resolvers = undefined;
    if (this.#timer !== undefined) clearTimeout(this.#timer);
    const signal = this.#limits?.signal;
    if (signal !== undefined) signals.delete(this, signal);
    return resolvers;
  }

  #startTimer(limits: WaitLimits): void {
    const delay = Math.min(Math.ceil(limits.left), MAX_TIMER);
    this.#timer = setTimeout(() => {
      if (limits.left > 0) this.#startTimer(limits);
      else this.end(limits.timeoutError());
    }, delay);
  }
}
