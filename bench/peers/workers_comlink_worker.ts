// Copyright 2026 the Duplex authors. MIT license.

/**
 * The worker of `workers_comlink.ts`: an object whose methods are called.
 *
 * @module
 */

import { messagesOf, weigh } from "../_messages.mjs";
import { callAll, expose } from "./workers_comlink_shared.ts";

let sum = 0;

/** What the worker offers. */
export interface Api {
  echo(message: unknown): unknown;
  /** Adds a message to the sum. */
  take(message: unknown): void;
  /** What the messages since the last call add up to. */
  sum(): number;
  /** Calls back with as many messages as it is told. */
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
    // To call back is to wait for the answer.
    callAll(
      callback as (message: unknown) => Promise<unknown>,
      messagesOf(what),
      count,
    ),
};

expose(api);
