// Copyright 2026 the Duplex authors. MIT license.

/**
 * What the worker exposes that is called over every transport.
 *
 * @module
 */

import { withSignal } from "../../rpc.ts";

/** An error of a class that only the worker knows. */
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
  /** Answers only after it has called back, and other tasks have had their turn. */
  async late(onBegin: () => unknown) {
    onBegin();
    await new Promise((resolve) => setTimeout(resolve, 20));
    return "late";
  },
  note: (text: string) => heard.push(text),
  heard: () => heard,
  /** Says that it is there, and never ends. */
  async hang(onBegin: () => unknown) {
    await onBegin();
    await new Promise(() => {});
  },
  never: () => new Promise<never>(() => {}),
  exit: (code: number) => Deno.exit(code),
};

/** Their type, for the one who calls them. */
export type Acts = typeof ACTS;
