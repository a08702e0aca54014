// Copyright 2026 the Duplex authors. MIT license.

/**
 * The result of a call that blocks its thread.
 *
 * @module
 */

import { methodLabel, type Settle } from "./caller.ts";
import { RemoteStream } from "./stream.ts";

/** The result of a call, which can be read without the event loop. */
export class SyncResult implements Settle {
  #isSettled = false;
  #value: unknown;
  #failure: { readonly error: unknown } | undefined;

  get isSettled(): boolean {
    return this.#isSettled;
  }

  resolve(value: unknown): void {
    if (this.#isSettled) return;
    this.#isSettled = true;
    this.#value = value;
  }

  reject(error: unknown): void {
    if (this.#isSettled) return;
    this.#isSettled = true;
    this.#failure = { error };
  }

  /** Returns the value, or throws the error. */
  get(): unknown {
    if (this.#failure !== undefined) throw this.#failure.error;
    return this.#value;
  }
}

/** Throws if the result of a call is a stream, which needs the event loop. */
export function refuseStreamSync(method: string, value: unknown): unknown {
  if (!(value instanceof RemoteStream)) return value;
  value.return();
  throw new TypeError(
    `Cannot call ${
      methodLabel(method)
    } in a blocked thread: its result is a stream; call it with "remote", or return an array`,
  );
}
