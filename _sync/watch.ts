// Copyright 2026 the Duplex authors. MIT license.

/**
 * One timer for all tasks of this thread that wait for locks: it looks for dead
 * threads, and it keeps the program running, which a pending `Atomics.waitAsync`
 * does not.
 *
 * @module
 */

import { beginLook, endLook } from "./life.ts";
import { AbortGroups, MAX_TIMER } from "../_base/waiting.ts";

/** Milliseconds between two looks for dead threads. */
export const CHECK_MS = 20;

let areTimersLoaded = false;

/** Whether {@linkcode loadTimers} was called. */
export function hasTimers(): boolean {
  return areTimersLoaded;
}

/**
 * Has Deno load its timers, which it does when they are first used. It runs the
 * waiting microtasks meanwhile, so this must not be called under a latch or in the
 * middle of a change.
 */
export function loadTimers(): void {
  areTimersLoaded = typeof setTimeout === "function";
}

/** A queue in which tasks of this thread wait. */
export interface Watched {
  /** Looks for dead threads; must not throw. */
  tick(): void;
}

/** A wait that a signal may end. */
export interface Abortable {
  abort(reason: unknown): void;
}

/** The waits with a signal: one listener for each signal, however many wait. */
export const aborts: AbortGroups<Abortable> = new AbortGroups(
  (waits, reason) => {
    for (const wait of waits) wait.abort(reason);
  },
);

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
  beginLook();
  try {
    for (const queue of watched) queue.tick();
  } finally {
    endLook();
  }
}

function nothing(): void {}

/** How many waits keep the program running, and the timer that does. */
let kept = 0;
let keeper: ReturnType<typeof setInterval> | undefined;

/**
 * Keeps the program running until {@linkcode unkeep} is called as often. The
 * timers must be loaded.
 */
export function keep(): void {
  if (kept++ === 0) keeper = setInterval(nothing, MAX_TIMER);
}

/** Ends {@linkcode keep}. */
export function unkeep(): void {
  if (--kept === 0) clearInterval(keeper);
}
