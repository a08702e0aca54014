// Copyright 2026 the Duplex authors. MIT license.

/**
 * Which threads are alive. A thread that holds a mutex or waits has an identity: a
 * random number, and a Web Lock with the number in its name. The runtime releases
 * the Web Lock when the thread ends for any reason. So the thread is dead if and
 * only if its Web Lock is free.
 *
 * - Deno answers a request with `ifAvailable` within the call, not later. So a
 *   thread has its identity before its number is written to shared memory, and a
 *   thread that is blocked in `Atomics.wait` can check others.
 * - A thread holds the Web Lock only while it needs it, because a thread with a Web
 *   Lock does not end automatically. A released number is never used again: a
 *   thread that still reads it somewhere may treat its thread as dead.
 * - A check requests the lock in shared mode, so that two threads that check a
 *   third at the same time do not find each other.
 *
 * @module
 */

/** The part of the Web Locks API that is used here. */
interface Locks {
  request(
    name: string,
    options: { ifAvailable: true; mode?: "shared" },
    callback: (lock: unknown) => Promise<void> | void,
  ): Promise<unknown>;
}

/**
 * Read when the module is loaded: Deno loads the Web Locks API when it is first
 * used and runs pending microtasks meanwhile, which must not happen under a latch.
 */
const { locks } = navigator as unknown as { locks: Locks };

interface Identity {
  readonly id: number;
  /** The number of holds and waits that need it. */
  users: number;
  /** Releases the Web Lock. */
  readonly end: () => void;
  /** Whether the release is already scheduled. */
  isEnding: boolean;
}

let identity: Identity | undefined;

/** The threads checked since {@linkcode beginCheck}, and whether they are alive. */
const checked = new Map<number, boolean>();
/** The number of nested checks. */
let checks = 0;

/** Requests the Web Lock of a thread; it is held until the callback's promise settles. */
function request(
  id: number,
  mode: "shared" | undefined,
  onGranted: () => Promise<void> | void,
): boolean {
  let granted: boolean | undefined;
  const options = { ifAvailable: true, ...(mode && { mode }) } as const;
  locks.request(`@duplex/ipc thread ${id}`, options, (lock) => {
    granted = lock !== null;
    if (granted) return onGranted();
    // The result is in `granted`; an error leaves it undefined.
  }).catch(() => {});
  if (granted === undefined) {
    throw new Error(
      "Cannot check whether a thread is alive as this runtime does not answer a request for a Web Lock at once",
    );
  }
  return granted;
}

function createIdentity(): Identity {
  const [random] = crypto.getRandomValues(new Uint32Array(1));
  // From 1 to 2 ** 31 - 1, since 0 means no thread.
  const id = (random! >>> 1) || 1;
  const { promise, resolve } = Promise.withResolvers<void>();
  return request(id, undefined, () => promise)
    ? { id, users: 0, end: resolve, isEnding: false }
    : createIdentity();
}

/** Gives this thread a number until {@linkcode releaseId} was called as often. */
export function retainId(): number {
  identity ??= createIdentity();
  identity.users++;
  return identity.id;
}

/** Releases the number, unless it is retained again before the next task. */
export function releaseId(): void {
  const released = identity!;
  if (--released.users > 0 || released.isEnding) return;
  // Once a task, however often: a thread that blocks may never end its task.
  released.isEnding = true;
  queueMicrotask(() => {
    released.isEnding = false;
    if (released.users > 0 || identity !== released) return;
    identity = undefined;
    released.end();
  });
}

/** The number of this thread, or 0 if it has none. */
export function ownId(): number {
  return identity?.id ?? 0;
}

/** Begins a check. Until its end each thread is looked up at most once. */
export function beginCheck(): void {
  checks++;
}

/** Ends a check. */
export function endCheck(): void {
  if (--checks === 0 && checked.size > 0) checked.clear();
}

/** Whether the thread with this number still runs. */
export function isAlive(id: number): boolean {
  if (id === ownId()) return true;
  const known = checked.get(id);
  if (known !== undefined) return known;
  const alive = !request(id, "shared", () => {});
  if (checks > 0) checked.set(id, alive);
  return alive;
}
