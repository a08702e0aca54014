// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker over shared memory for blocking calls in both directions.
 *
 * @module
 */

import { parent } from "../../parent.ts";
import { expose, remote, remoteSync, withSignal } from "../../rpc.ts";

/** The methods of the program that opened the worker. */
export interface MainMethods {
  double(n: number): number | Promise<number>;
  never(): Promise<void>;
  depth(n: number): number;
  mark(n: number): void;
}

// A small window, so that calls have to wait for room.
const main = await parent({ transport: "shm", windowMessages: 8 });
const asked = remoteSync<MainMethods>(main);
const api = remote<MainMethods>(main);

const gate = Promise.withResolvers<void>();
const cancelled = Promise.withResolvers<string>();
const log: unknown[] = [];

/** Ways for this worker to end. */
const ENDS = {
  throw: () => {
    throw new RangeError("Ended by a test");
  },
  close: () => self.close(),
  exit: () => Deno.exit(1),
};

export const METHODS = {
  add: (a: number, b: number) => a + b,
  echo: (value: unknown) => value,
  later: async (value: unknown) => {
    await new Promise((resolve) => setTimeout(resolve, 1));
    return value;
  },
  fail: (): never => {
    throw new RangeError("Refused by a test");
  },
  throwValue: (): never => {
    throw { code: 7 };
  },
  nothing: () => {},
  *stream() {
    yield 1;
  },
  shared: () => new Int32Array(new SharedArrayBuffer(4)),
  /** Waits for `open`. */
  gated: async (n: number) => {
    await gate.promise;
    return n;
  },
  open: (n: number) => {
    gate.resolve();
    return n;
  },
  /** Never answers, and reports its cancellation. */
  hang: withSignal((signal) => {
    signal.addEventListener("abort", () => {
      cancelled.resolve((signal.reason as Error).name);
    });
    return new Promise<void>(() => {});
  }),
  cancellation: () => cancelled.promise,
  /** Answers while the caller does not wait for it any more. */
  lateAnswer: async (n: number) => {
    await gate.promise;
    return n;
  },
  each: async (
    items: number[],
    call: (n: number) => number | Promise<number>,
  ) => {
    const results: number[] = [];
    for (const item of items) results.push(await call(item));
    return results;
  },
  /** Calls the parent by blocking. */
  ask: (n: number) => asked.double(n),
  askDepth: (n: number): number => n === 0 ? 0 : 1 + asked.depth(n - 1),
  /** Blocks on a method that needs the event loop of the parent. */
  askNever: () => asked.never(),
  /** Calls the parent many times at once, and answers after that. */
  marks: async (count: number) => {
    await Promise.all(Array.from({ length: count }, (_, n) => api.mark(n)));
    return count;
  },
  note: (value: unknown) => void log.push(value),
  notes: () => log,
  end: (how: keyof typeof ENDS) => {
    setTimeout(ENDS[how]);
    return new Promise<void>(() => {});
  },
  abort: () => {
    main.abort(new RangeError("Aborted by a test"));
  },
  leave: () => {
    main.close().catch(() => {});
    return new Promise<void>(() => {});
  },
};

expose(METHODS, main);
