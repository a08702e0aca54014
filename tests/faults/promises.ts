// Copyright 2026 the Duplex authors. MIT license.

/**
 * The promises of a plan: each must settle, and with an error that the plan
 * expects.
 *
 * @module
 */

/**
 * Names of errors that a program may receive without a fault of the package.
 */
const EXPECTED = new Set([
  "AbortError",
  "ClosedError",
  "DeadlockError",
  "PeerExitError",
  "PlannedError",
  "TimeoutError",
  "InvalidStateError",
]);

/** Text in the reason of every planned abort. */
export const ABORTS = "aborts as planned";

/** Text of an abort whose reason arrives as text, as over JSON. */
const ABORTED = /^The peer aborted: /;

/** Whether a program may receive an error without a fault of the package. */
export function isExpected(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return EXPECTED.has(error.name) || ABORTED.test(error.message);
}

/** The reason of planned aborts. */
export class PlannedError extends Error {
  override name = "PlannedError";
}

/** The promises of one end, or of a pool. */
export class TrackedPromises {
  readonly #pending = new Map<symbol, string>();
  readonly #settled: Promise<unknown>[] = [];
  readonly #check: (what: string, error: unknown) => void;

  /** @param check Called with the description and the error of a promise. */
  constructor(check: (what: string, error: unknown) => void) {
    this.#check = check;
  }

  /** Descriptions of the promises that are pending. */
  get pending(): string[] {
    return [...this.#pending.values()];
  }

  /** Settles when every promise so far has settled. */
  async allSettled(): Promise<void> {
    for (const promise of this.#settled) await promise;
  }

  /**
   * Tracks a promise until it settles, and checks its error. The promise that is
   * returned never rejects.
   */
  track<T>(what: string, promise: Promise<T>): Promise<T | undefined> {
    const key = Symbol();
    this.#pending.set(key, what);
    const settled = promise.catch((error) => {
      this.#check(what, error);
      return undefined;
    }).finally(() => this.#pending.delete(key));
    this.#settled.push(settled);
    return settled;
  }

  /** A signal that aborts after so many turns of the event loop. */
  signal(turns: number | undefined): AbortSignal | undefined {
    if (turns === undefined) return undefined;
    const controller = new AbortController();
    const abort = async () => {
      for (let turn = 0; turn < turns; turn++) await sleep(0);
      controller.abort(new PlannedError("The plan's signal aborts"));
    };
    this.track("signal", abort());
    return controller.signal;
  }
}

/** Waits for a promise until a timeout; ignores its error. */
export async function settleOrTimeout<T>(
  promise: Promise<T>,
  ms: number,
): Promise<T | undefined> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), ms);
  });
  try {
    return await Promise.race([promise.catch(() => undefined), late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Waits. */
export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
