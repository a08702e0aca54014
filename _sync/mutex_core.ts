// Copyright 2026 the Duplex authors. MIT license.

/**
 * A mutex that notices that its holder died. Over the queue of `_sync/queue.ts`
 * it keeps two words:
 *
 * | word | content                                                           |
 * | ---- | ----------------------------------------------------------------- |
 * | 16   | the owner: the number of the thread that holds the mutex, or 0    |
 * | 17   | 1 after an owner died, until the mutex is recovered               |
 *
 * - **To lock:** if there is no owner, become it. If word 17 is 1, a call that
 *   does not recover is refused, and one that does sets it to 0.
 * - **To unlock:** make the first in the queue the owner and grant it; if the queue
 *   is empty, there is no owner. No other call can come in between.
 * - **When the owner is found dead** by a thread that tries or waits: all in the
 *   queue before the first that recovers are refused; that one becomes the owner.
 *   If there is none, word 17 becomes 1. An owner that died before it took over
 *   what was granted to it had not begun, so the mutex goes to the next.
 *
 * @module
 */

import { OwnerDiedError } from "./errors.ts";
import { claim, isAlive, ownId, release } from "./life.ts";
import { WaitLimits } from "./limits.ts";
import { FIELDS, LATCH_LIMIT_MS, latchError, type Memory } from "./memory.ts";
import { DISTINCT, FullError, Queue } from "./queue.ts";
import { type Core, Registry } from "./registry.ts";
import { MUST_WAIT, NONE, type Rules } from "./slots.ts";
import type { Wait } from "./wait.ts";
import { CHECK_MS } from "./watch.ts";

const OWNER = FIELDS;
const DIED = FIELDS + 1;

/** The tag of a call that recovers. */
const RECOVER = 1;

/** Results: the mutex, the mutex of a dead owner, not the mutex. */
const LOCKED = 0;
const RECOVERED = 1;
const REFUSED = 2;

function stateError(message: string): DOMException {
  return new DOMException(message, "InvalidStateError");
}

/** How a mutex is to be locked. */
export interface LockRequest {
  readonly limits: WaitLimits;
  readonly recover: boolean;
  /** Whether to wait behind another task of this thread. */
  readonly queue: boolean;
}

/**
 * The mutexes that this thread holds or waits for: what it remembers about them
 * must not be collected.
 */
const active = new Set<MutexCore>();

/** What a mutex does. */
export class MutexCore implements Core, Rules {
  readonly memory: Memory;
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #queue: Queue;
  /** The guard through which this thread holds the mutex. */
  #guard: Guard | undefined;
  /** How many calls of this thread wait. */
  #waits = 0;

  constructor(memory: Memory) {
    this.memory = memory;
    this.#words = memory.words;
    this.#queue = new Queue(memory, this, DISTINCT);
  }

  lock(request: LockRequest): Promise<Guard> | Guard {
    const { limits, recover } = request;
    limits.signal?.throwIfAborted();
    this.#expect(request);
    let wait: Wait | number;
    try {
      wait = this.#queue.begin(limits, recover ? RECOVER : 0, false);
    } catch (error) {
      this.#settle(REFUSED);
      throw error;
    }
    return typeof wait === "number"
      ? this.#enter(request, wait)
      : this.#finish(request, wait);
  }

  lockSync(request: LockRequest): Guard {
    const { limits, recover } = request;
    this.#expect(request);
    let result: number;
    try {
      result = this.#queue.waitSync(limits, recover ? RECOVER : 0);
    } catch (error) {
      this.#settle(REFUSED);
      throw error;
    }
    return this.#enter(request, result);
  }

  tryLock(request: LockRequest): Guard | undefined {
    const { limits, recover } = request;
    this.#expect(request);
    let result: number;
    try {
      result = this.#queue.tryNow(limits.action, recover ? RECOVER : 0);
    } catch (error) {
      this.#settle(REFUSED);
      throw error;
    }
    if (result !== MUST_WAIT) return this.#enter(request, result);
    this.#settle(REFUSED);
    return undefined;
  }

  /** Unlocks, if this thread holds the mutex, and through this guard if given. */
  unlock(guard?: Guard): void {
    if (this.#guard === undefined || (guard && this.#guard !== guard)) {
      throw stateError(
        `Cannot unlock the mutex as ${
          guard ? "the guard does not hold it" : "this thread does not hold it"
        }`,
      );
    }
    const { slots } = this.#queue;
    if (!slots.enter(LATCH_LIMIT_MS)) throw latchError("unlock the mutex");
    try {
      this.#handOver(false);
    } finally {
      slots.leave();
    }
    this.#guard = undefined;
    release();
    this.#rest();
  }

  holds(guard: Guard): boolean {
    return this.#guard === guard;
  }

  /**
   * Throws unless a wait at a condition can unlock the guard's mutex. A thread
   * that blocks must not have tasks that wait for it: they could not go on.
   */
  checkWait(action: string, guard: Guard, blocks: boolean): void {
    if (this.#guard !== guard) {
      throw stateError(`Cannot ${action} as the guard does not hold its mutex`);
    }
    if (blocks && this.#waits > 0) {
      throw stateError(
        `Cannot ${action} as a task of this thread waits for the mutex: it could not go on while the thread is blocked`,
      );
    }
  }

  /** Locks again for a guard whose mutex was unlocked for a wait. */
  async resume(guard: Guard, recover: boolean): Promise<void> {
    for (;;) {
      try {
        return this.#adopt(guard, await this.lock(resumption(recover)));
      } catch (error) {
        if (!(error instanceof FullError)) throw error;
      }
      // There is no place in the queue. This wait must not fail, so it tries again.
      await new Promise((resolve) => setTimeout(resolve, CHECK_MS));
    }
  }

  /** The same with the thread blocked. */
  resumeSync(guard: Guard, recover: boolean): void {
    for (;;) {
      try {
        return this.#adopt(guard, this.lockSync(resumption(recover)));
      } catch (error) {
        if (!(error instanceof FullError)) throw error;
      }
      Atomics.wait(this.#words, FIELDS + 2, 0, CHECK_MS);
    }
  }

  attempt(tag: number): number {
    const words = this.#words;
    if (words[OWNER] !== 0) return MUST_WAIT;
    if (words[DIED] === 0) {
      words[OWNER] = ownId();
      return LOCKED;
    }
    if (tag !== RECOVER) return REFUSED;
    words[OWNER] = ownId();
    words[DIED] = 0;
    return RECOVERED;
  }

  revoke(result: number): void {
    if (result !== REFUSED) this.#handOver(result === RECOVERED);
  }

  suspects(): boolean {
    const owner = Atomics.load(this.#words, OWNER);
    return owner !== 0 && !isAlive(owner);
  }

  inspect(): void {
    // It may have died before it took over what was granted to it.
    const owner = this.#words[OWNER];
    this.#queue.slots.sweep();
    if (this.#words[OWNER] === owner) this.#handOver(true);
  }

  async #finish(request: LockRequest, wait: Wait): Promise<Guard> {
    let result = REFUSED;
    try {
      result = await this.#queue.finish(wait, request.limits);
    } catch (error) {
      this.#settle(REFUSED);
      throw error;
    }
    return this.#enter(request, result);
  }

  #adopt(guard: Guard, { ownerDied }: Guard): void {
    guard.ownerDied ||= ownerDied;
    this.#guard = guard;
  }

  /** Throws if the call cannot succeed, and notes that this thread waits. */
  #expect({ limits: { action }, queue }: LockRequest): void {
    if (!queue && this.#guard !== undefined) {
      throw stateError(
        `Cannot ${action} as this thread holds it already: unlock it first, or give each task its turn with "queue" set to true`,
      );
    }
    if (!queue && this.#waits > 0) {
      throw stateError(
        `Cannot ${action} as a task of this thread waits for it already: give each task its turn with "queue" set to true`,
      );
    }
    // The thread must be known to live before it can be the owner.
    claim();
    this.#waits++;
    active.add(this);
  }

  /** Notes that this thread does not wait any more. */
  #settle(result: number): void {
    this.#waits--;
    if (result !== REFUSED) return;
    release();
    this.#rest();
  }

  #rest(): void {
    if (this.#guard === undefined && this.#waits === 0) active.delete(this);
  }

  #enter({ limits }: LockRequest, result: number): Guard {
    this.#settle(result);
    if (result === REFUSED) {
      throw new OwnerDiedError(
        `Cannot ${limits.action} as the thread that held it has died, and what it protects may be half changed: lock it with "recover" set to true, repair, unlock`,
      );
    }
    return this.#guard = new Guard(this, result === RECOVERED);
  }

  /** Makes the next one the owner, or no thread. Under the latch. */
  #handOver(died: boolean): void {
    const words = this.#words;
    const { slots } = this.#queue;
    words[OWNER] = 0;
    words[DIED] = died ? 1 : 0;
    for (let slot; (slot = slots.first()) !== NONE;) {
      if (died && slots.tagOf(slot) !== RECOVER) {
        slots.grant(slot, REFUSED, slots.countOf(slot));
        continue;
      }
      words[OWNER] = slots.threadOf(slot);
      words[DIED] = 0;
      return slots.grant(slot, died ? RECOVERED : LOCKED);
    }
  }
}

/** The mutexes that this thread knows. */
export const mutexes: Registry<MutexCore> = new Registry(
  "Mutex",
  (memory) => new MutexCore(memory),
);

/** A mutex that is held. */
export class Guard implements Disposable {
  readonly core: MutexCore;
  ownerDied: boolean;

  constructor(core: MutexCore, ownerDied: boolean) {
    this.core = core;
    this.ownerDied = ownerDied;
  }

  unlock(): void {
    this.core.unlock(this);
  }

  [Symbol.dispose](): void {
    if (this.core.holds(this)) this.core.unlock(this);
  }
}

/** What a wait at a condition asks for at its end: the mutex, without limits. */
function resumption(recover: boolean): LockRequest {
  const action = "lock the mutex again after a wait";
  const limits = new WaitLimits(action, Infinity, undefined);
  return { limits, recover, queue: true };
}
