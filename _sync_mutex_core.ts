// Copyright 2026 the Duplex authors. MIT license.

/**
 * A mutex that notices that its holder died. Over the queue of `_sync_queue.ts`
 * it keeps two words:
 *
 * | word | what                                                               |
 * | ---- | ------------------------------------------------------------------ |
 * | 10   | the owner: the number of the thread that holds it, 0 for nobody    |
 * | 11   | 1 when an owner died and nobody has recovered the mutex since      |
 *
 * - **To lock:** if there is no owner, become it. If word 11 is 1, who does not
 *   recover is refused, and who does sets it to 0.
 * - **To unlock:** make the first in the queue the owner and grant it, or else
 *   nobody. There is no moment in which another could come between.
 * - **When the owner is found dead** (by anybody who tries or waits): everybody
 *   in the queue before the first who recovers is refused; that one becomes the
 *   owner, or else nobody and word 11 becomes 1.
 *
 * @module
 */

import { OwnerDiedError } from "./_sync_errors.ts";
import { claim, isAlive, ownId, release } from "./_sync_life.ts";
import { FIELDS, type Memory } from "./_sync_memory.ts";
import { MUST_WAIT, Queue } from "./_sync_queue.ts";
import { limitsOf, type WaitLimits } from "./_sync_sleep.ts";

const OWNER = FIELDS;
const DIED = FIELDS + 1;

/** The tag of one who recovers. */
const RECOVER = 1;

/** Results: the mutex, the mutex of a dead owner, not the mutex. */
const LOCKED = 0;
const RECOVERED = 1;
const REFUSED = 2;

/** What this thread has to do with one mutex. */
interface Local {
  guard: Guard | undefined;
  /** How many of its tasks wait. */
  waits: number;
}

/**
 * By the number of the mutex, since the same memory that arrives twice in a
 * thread has two buffers. Only those that the thread holds or waits for.
 */
const locals = new Map<string, Local>();

function stateError(message: string): DOMException {
  return new DOMException(message, "InvalidStateError");
}

/** How a mutex is to be locked. */
export interface LockRequest {
  readonly action: string;
  readonly limits: WaitLimits;
  readonly recover: boolean;
  /** Whether to wait behind another task of this thread. */
  readonly queue: boolean;
}

/** What a mutex does. */
export class MutexCore {
  readonly #memory: Memory;
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #unique: string;
  readonly #queue: Queue;

  constructor(memory: Memory) {
    this.#memory = memory;
    this.#words = memory.words;
    this.#unique = memory.unique;
    this.#queue = new Queue(memory, {
      attempt: (tag) => this.#attempt(tag),
      revoke: (result) => {
        if (result !== REFUSED) this.#handOver(result === RECOVERED);
      },
      inspect: () => {
        const owner = this.#words[OWNER]!;
        if (owner !== 0 && !isAlive(owner)) this.#handOver(true);
      },
    });
  }

  async lock(request: LockRequest): Promise<Guard> {
    request.limits.signal?.throwIfAborted();
    const { action, limits, recover } = request;
    const local = this.#expect(request);
    let result = REFUSED;
    try {
      result = await this.#queue.wait(limits, recover ? RECOVER : 0);
    } finally {
      this.#settle(local, result);
    }
    return this.#guard(action, local, result);
  }

  lockSync(request: LockRequest): Guard {
    const { action, limits, recover } = request;
    const local = this.#expect(request);
    let result = REFUSED;
    try {
      result = this.#queue.waitSync(limits, recover ? RECOVER : 0);
    } finally {
      this.#settle(local, result);
    }
    return this.#guard(action, local, result);
  }

  tryLock(request: LockRequest): Guard | undefined {
    const local = this.#expect(request);
    let result = MUST_WAIT;
    try {
      result = this.#queue.tryNow(request.recover ? RECOVER : 0);
    } finally {
      this.#settle(local, result);
    }
    if (result === MUST_WAIT) return undefined;
    return this.#guard(request.action, local, result);
  }

  /** Unlocks, if this thread holds the mutex, and through this guard if given. */
  unlock(guard?: Guard): void {
    const local = locals.get(this.#unique);
    if (local?.guard === undefined || (guard && local.guard !== guard)) {
      throw stateError(
        `Cannot unlock the mutex as ${
          guard ? "the guard does not hold it" : "this thread does not hold it"
        }`,
      );
    }
    this.#leave(local);
    this.#drop(local);
  }

  holds(guard: Guard): boolean {
    return locals.get(this.#unique)?.guard === guard;
  }

  /**
   * Throws unless a wait at a condition can unlock the guard's mutex. A thread
   * that blocks must not have tasks that wait for it: they could not go on.
   */
  checkWait(action: string, guard: Guard, blocks: boolean): void {
    const local = locals.get(this.#unique);
    if (local?.guard !== guard) {
      throw stateError(`Cannot ${action} as the guard does not hold its mutex`);
    }
    if (blocks && local.waits > 0) {
      throw stateError(
        `Cannot ${action} as a task of this thread waits for the mutex: it could not go on while the thread is blocked`,
      );
    }
  }

  /** Locks again for a guard whose mutex was unlocked for a wait. */
  async resume(guard: Guard, recover: boolean): Promise<void> {
    this.#adopt(guard, await this.lock(resumption(recover)));
  }

  /** The same with the thread blocked. */
  resumeSync(guard: Guard, recover: boolean): void {
    this.#adopt(guard, this.lockSync(resumption(recover)));
  }

  #adopt(guard: Guard, { ownerDied }: Guard): void {
    guard.ownerDied ||= ownerDied;
    locals.get(this.#unique)!.guard = guard;
  }

  /** Refuses what can never succeed, and says that this thread waits. */
  #expect({ action, queue }: LockRequest): Local {
    let local = locals.get(this.#unique);
    if (local?.guard && !queue) {
      throw stateError(
        `Cannot ${action} as this thread holds it already: unlock it first, or give each task its turn with "queue" set to true`,
      );
    }
    if (local && local.waits > 0 && !queue) {
      throw stateError(
        `Cannot ${action} as a task of this thread waits for it already: give each task its turn with "queue" set to true`,
      );
    }
    // The thread must be known to live before it can be the owner.
    claim();
    if (!local) {
      locals.set(this.#unique, local = { guard: undefined, waits: 0 });
    }
    local.waits++;
    return local;
  }

  /** Says that this thread does not wait any more, and may not hold it. */
  #settle(local: Local, result: number): void {
    local.waits--;
    if (result === LOCKED || result === RECOVERED) return;
    release();
    this.#drop(local);
  }

  #guard(action: string, local: Local, result: number): Guard {
    if (result === REFUSED) {
      throw new OwnerDiedError(
        `Cannot ${action} as the thread that held it has died, and what it protects may be half changed: lock it with "recover" set to true, repair, unlock`,
      );
    }
    return local.guard = new Guard(this, result === RECOVERED);
  }

  /** Unlocks. */
  #leave(local: Local): void {
    local.guard = undefined;
    this.#memory.latched(() => this.#handOver(false));
    release();
  }

  #drop(local: Local): void {
    if (local.guard === undefined && local.waits === 0) {
      locals.delete(this.#unique);
    }
  }

  #attempt(tag: number): number {
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

  /** Makes the next one the owner, or nobody. Under the latch. */
  #handOver(died: boolean): void {
    const words = this.#words;
    words[OWNER] = 0;
    words[DIED] = died ? 1 : 0;
    for (let who; (who = this.#queue.first()) !== undefined;) {
      if (died && who.tag !== RECOVER) {
        this.#queue.grant(who, REFUSED);
        continue;
      }
      words[OWNER] = who.thread;
      words[DIED] = 0;
      return this.#queue.grant(who, died ? RECOVERED : LOCKED);
    }
  }
}

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
  return { action, limits: limitsOf(action, {}), recover, queue: true };
}
