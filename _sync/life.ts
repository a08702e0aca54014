// Copyright 2026 the Duplex authors. MIT license.

/**
 * Who is alive. A thread that holds a mutex or waits has an identity: a random
 * number, and a Web Lock with the number in its name. The runtime frees the Web
 * Lock when the thread ends, however it ends, so whether it is free is whether
 * the thread has died.
 *
 * - Deno grants and refuses a request with `ifAvailable` within the call, not
 *   later, so a thread has its identity before its number gets into shared
 *   memory, and one that is blocked in `Atomics.wait` can still ask.
 * - A thread has the Web Lock while it needs it, not longer, because a thread
 *   with a Web Lock does not end by itself. A number that was given up is not
 *   taken again: who still remembers it is right to take its thread for dead.
 * - Whoever asks asks in shared mode, so that two who ask do not take each other
 *   for the thread they ask about.
 *
 * @module
 */

/** What is used of the Web Locks API. */
interface Locks {
  request(
    name: string,
    options: { ifAvailable: true; mode?: "shared" },
    callback: (lock: unknown) => Promise<void> | void,
  ): Promise<unknown>;
}

/**
 * Read as the module is loaded: Deno loads the Web Locks API when it is first
 * used and runs waiting microtasks meanwhile, which must not happen under a latch.
 */
const { locks } = navigator as unknown as { locks: Locks };

interface Identity {
  readonly id: number;
  /** How many holds and waits need it. */
  users: number;
  /** Frees the Web Lock. */
  readonly end: () => void;
  /** Whether the release is already scheduled. */
  isEnding: boolean;
}

let identity: Identity | undefined;

/** The threads that were looked up in the current look. */
const looked = new Map<number, boolean>();
/** How many looks are nested. */
let looks = 0;

function nameOf(id: number): string {
  return `@duplex/ipc thread ${id}`;
}

/** Asks for the Web Lock of a thread; `keep` tells how long to have it. */
function request(
  id: number,
  mode: "shared" | undefined,
  keep: () => Promise<void> | void,
): boolean {
  let granted: boolean | undefined;
  const options = { ifAvailable: true, ...(mode && { mode }) } as const;
  locks.request(nameOf(id), options, (lock) => {
    granted = lock !== null;
    if (granted) return keep();
  }).catch(() => {});
  if (granted === undefined) {
    throw new Error(
      "Cannot tell whether a thread is alive: this runtime does not answer a request for a Web Lock at once",
    );
  }
  return granted;
}

function identify(): Identity {
  const [random] = crypto.getRandomValues(new Uint32Array(1));
  // From 1 to 2 ** 31 - 1, since 0 means nobody.
  const id = (random! >>> 1) || 1;
  const { promise, resolve } = Promise.withResolvers<void>();
  const granted = request(id, undefined, () => promise);
  return granted ? { id, users: 0, end: resolve, isEnding: false } : identify();
}

/** Gives this thread its number until {@linkcode release} was called as often. */
export function claim(): number {
  identity ??= identify();
  identity.users++;
  return identity.id;
}

/** Gives the number up, unless it is claimed again before the next task. */
export function release(): void {
  const released = identity!;
  if (--released.users > 0 || released.isEnding) return;
  // Once a task, however often: a thread that blocks may never come to its end.
  released.isEnding = true;
  queueMicrotask(() => {
    released.isEnding = false;
    if (released.users > 0 || identity !== released) return;
    identity = undefined;
    released.end();
  });
}

/** The number of this thread, or 0 while it has none. */
export function ownId(): number {
  return identity?.id ?? 0;
}

/**
 * Begins a look: until its end each thread is looked up once, however many locks
 * and places in queues it has.
 */
export function beginLook(): void {
  looks++;
}

/** Ends a look. */
export function endLook(): void {
  if (--looks === 0 && looked.size > 0) looked.clear();
}

/** Whether the thread with this number still runs. */
export function isAlive(id: number): boolean {
  if (id === ownId()) return true;
  const known = looked.get(id);
  if (known !== undefined) return known;
  const alive = !request(id, "shared", () => {});
  if (looks > 0) looked.set(id, alive);
  return alive;
}
