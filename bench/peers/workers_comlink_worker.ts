// Copyright 2026 the Duplex authors. MIT license.

/**
 * The worker of `workers_comlink.ts`: an object whose methods are called.
 *
 * @module
 */

import { messagesOf, weigh } from "../_messages.mjs";
import { callAll, expose } from "./workers_comlink_shared.ts";

let sum = 0;

/** The methods of the worker. */
export interface Api {
  echo(message: unknown): unknown;
  /** Adds a message to the sum. */
  take(message: unknown): void;
  /** The check sum of the messages since the last call. */
  sum(): number;
  /** Calls back with the requested number of messages. */
  give(
    what: string,
    count: number,
    callback: (message: unknown) => void,
  ): Promise<void>;
}

const api: Api = {
  echo: (message) => message,
  take(message) {
    sum += weigh(message);
  },
  sum() {
    const all = sum;
    sum = 0;
    return all;
  },
  give: (what, count, callback) =>
    // A callback waits for its answer.
    callAll(
      callback as (message: unknown) => Promise<unknown>,
      messagesOf(what),
      count,
    ),
};

expose(api);
