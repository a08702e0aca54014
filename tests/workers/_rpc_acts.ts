// Copyright 2026 the Duplex authors. MIT license.

/**
 * The methods of the worker that tests call over every transport.
 *
 * @module
 */

import { withSignal } from "../../rpc.ts";

/** An error of a class that only the worker has. */
class MissingError extends Error {
  key = "apple";
}

const stopped = Promise.withResolvers<string>();
const heard: string[] = [];

/** The methods. */
export const ACTS = {
  pid: () => Deno.pid,
  echo: (value: unknown) => value,
  find(): never {
    throw new MissingError("There is no apple", {
      cause: new RangeError("empty"),
    });
  },
  async *count(to: number) {
    try {
      for (let n = 1; n <= to; n++) yield n;
    } finally {
      stopped.resolve(`stopped before ${to}`);
    }
  },
  stopped: () => stopped.promise,
  async ask(question: (name: string) => unknown) {
    return `${await question("one")}, ${await question("two")}`;
  },
  wait: withSignal((signal) =>
    new Promise<never>((_, reject) => {
      signal.addEventListener("abort", () => {
        heard.push(String(signal.reason));
        reject(signal.reason);
      });
    })
  ),
  /** Returns after the callback has returned and other tasks have run. */
  async late(onBegin: () => unknown) {
    onBegin();
    await new Promise((resolve) => setTimeout(resolve, 20));
    return "late";
  },
  note: (text: string) => heard.push(text),
  heard: () => heard,
  /** Reports its start, and never ends. */
  async hang(onBegin: () => unknown) {
    await onBegin();
    await new Promise(() => {});
  },
  never: () => new Promise<never>(() => {}),
  exit: (code: number) => Deno.exit(code),
};

/** Their type, for the caller. */
export type Acts = typeof ACTS;
