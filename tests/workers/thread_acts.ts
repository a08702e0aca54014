// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker that ends in the way that its first message names, after it has
 * announced it.
 *
 * @module
 */

import { parent } from "../../parent.ts";

const kept: unknown[] = [];

/** The ways in which a worker ends that the parent does not cause. */
export const ACTS = {
  close: () => self.close(),
  throw: () => {
    throw new Error("The worker broke");
  },
  reject: () => {
    Promise.reject(new Error("The worker's promise broke"));
  },
  exit: () => Deno.exit(3),
  /** Fills its heap step by step, like a memory leak. */
  grow: () => {
    kept.push(new Array(100_000).fill(1.5));
    setTimeout(ACTS.grow);
  },
  /** Handles rejections with large reasons, then reports it. */
  handle: async () => {
    self.addEventListener("unhandledrejection", (event) => {
      // Not the error of a worker whose heap is too large.
      if (Array.isArray(event.reason)) event.preventDefault();
    });
    for (let count = 0; count < 500; count++) {
      Promise.reject(new Array(100_000).fill(1.5));
      await new Promise((resolve) => setTimeout(resolve));
    }
    await main.send("handled");
  },
  /** Never returns to its event loop. */
  spin: () => {
    for (;;);
  },
  /** Waits for its end. */
  wait: () => {},
};

const main = await parent<keyof typeof ACTS, string>();
const act = await main.receive();
await main.send("about to");
// After the message has left, and in a place without an await.
setTimeout(ACTS[act]);
await new Promise(() => {});
