// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker that performs one act in a test of `sync.ts`. It posts "ready",
 * receives the act in a message, and posts the result.
 *
 * @module
 */

/// <reference no-default-lib="true" />
/// <reference lib="deno.worker" />

import {
  AtomicCounter,
  Barrier,
  Condition,
  Mutex,
  type MutexGuard,
  ResetEvent,
  Semaphore,
} from "../../sync.ts";
import type { Act } from "./_sync_acts.ts";

function lock(
  mutex: Mutex,
  { sync, ...options }: Act,
): Promise<MutexGuard> | MutexGuard {
  return sync ? mutex.lockSync(options) : mutex.lock(options);
}

/**
 * Increments the first number in separate steps, so that a race can be
 * detected.
 */
async function count(act: Act): Promise<void> {
  const mutex = new Mutex(act.buffer);
  const data = new Int32Array(act.data!);
  for (let round = 0; round < act.rounds!; round++) {
    using _guard = await lock(mutex, act);
    const before = data[0]!;
    data[1] = round;
    if (!act.sync && round % 3 === 0) await Promise.resolve();
    for (let index = 2; index < 50; index++) data[index] = before;
    data[0] = before + 1;
  }
}

/**
 * Holds the mutex while the data is inconsistent, and stays or ends as told.
 */
async function hold(act: Act): Promise<void> {
  await lock(new Mutex(act.buffer), act);
  const data = new Int32Array(act.data!);
  data[0]!++;
  postMessage("held");
  if (act.end === "close") self.close();
  if (act.end === "throw") throw new Error("The holder's end");
  if (act.end === "busy") {
    // Runs until it is told to stop: a running thread does not end.
    while (Atomics.load(data, 1) === 0);
    data[0]!--;
  }
  if (act.end === "drain") self.onmessage = null;
}

async function waitFor(act: Act): Promise<unknown> {
  const { sync, buffer, rounds = 1, ...options } = act;
  switch (act.what) {
    case "mutex": {
      using guard = await lock(new Mutex(buffer), act);
      return guard.ownerDied;
    }
    case "semaphore": {
      const semaphore = new Semaphore(buffer);
      // Kept, not released.
      if (sync) semaphore.acquireSync(options);
      else await semaphore.acquire(options);
      return "acquired";
    }
    case "event": {
      const event = new ResetEvent(buffer);
      return sync ? event.waitSync(options) : await event.wait(options);
    }
    case "barrier": {
      const barrier = new Barrier(buffer);
      const numbers: number[] = [];
      for (let round = 0; round < rounds; round++) {
        numbers.push(
          sync ? barrier.waitSync(options) : await barrier.wait(options),
        );
      }
      return numbers;
    }
    case "counter": {
      const counter = new AtomicCounter(buffer);
      const isWanted = (value: number) => value >= 3;
      return sync
        ? counter.untilSync(isWanted, options)
        : await counter.until(isWanted, options);
    }
    case "condition": {
      const condition = new Condition(buffer);
      const data = new Int32Array(act.data!);
      using guard = await lock(new Mutex(act.mutex!), {
        ...act,
        what: "mutex",
      });
      while (data[0] === 0) {
        if (sync) condition.waitSync(guard, options);
        else await condition.wait(guard, options);
      }
      return data[0]!--;
    }
  }
}

/**
 * Waits in a task, and ends in the same task of the thread once word 1 of the
 * data is set, so it cannot accept a grant meanwhile.
 */
function expire(act: Act): void {
  const data = new Int32Array(act.data!);
  if (act.what === "condition") {
    const guard = new Mutex(act.mutex!).lockSync();
    new Condition(act.buffer).wait(guard).catch(() => {});
  } else {
    for (let wait = 0; wait < (act.rounds ?? 1); wait++) {
      waitFor(act).catch(() => {});
    }
  }
  postMessage("waits");
  while (Atomics.load(data, 1) === 0);
  self.close();
}

async function add(act: Act): Promise<void> {
  const counter = new AtomicCounter(act.buffer);
  for (let round = 0; round < act.rounds!; round++) counter.add();
  await Promise.resolve();
}

async function play(act: Act): Promise<unknown> {
  switch (act.name) {
    case "count":
      return await count(act);
    case "hold":
      return await hold(act);
    case "wait":
      return await waitFor(act);
    case "add":
      return await add(act);
    case "expire":
      return expire(act);
  }
}

self.onmessage = async ({ data: act }: MessageEvent<Act>) => {
  try {
    postMessage({ result: await play(act) });
  } catch (error) {
    if (act.end === "throw") throw error;
    postMessage({ failed: (error as Error).name });
  }
};
postMessage("ready");
