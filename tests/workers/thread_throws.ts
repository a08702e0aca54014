// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker that throws what its URL names, at once or when its first message
 * arrives.
 *
 * @module
 */

import { parent } from "../../parent.ts";

class OrderError extends Error {}

/** What is thrown; the line numbers are in `tests/thread/failure_test.ts`. */
const THROWS: Record<string, () => void> = {
  error: () => {
    throw new RangeError("Too many", { cause: new TypeError("No list") });
  },
  rejection: () => {
    Promise.reject(new OrderError("No such order"));
  },
  text: () => {
    throw "a text";
  },
  proxy: () => {
    throw new Proxy(new Error("hidden"), {
      get() {
        throw new Error("not readable");
      },
    });
  },
  /** An error that the script handles comes before the one that ends it. */
  second: () => {
    addEventListener("unhandledrejection", (event) => {
      if (event.reason.message === "Handled") event.preventDefault();
    });
    Promise.reject(new Error("Handled"));
    setTimeout(THROWS.error!);
  },
  parse: () => {
    import("data:application/typescript,const a: = 1;");
  },
  syntax: () => {
    const source = `const a = 1;\nconst a = 2;`;
    import(`data:text/javascript,${encodeURIComponent(source)}`);
  },
};

const [, when, what] = /^#(load|open|later)-(\w+)$/.exec(location.hash)!;
const act = THROWS[what!]!;
if (when === "load") act();
const main = await parent<string>();
if (when === "open") act();
// Where nothing awaits what is thrown.
for await (const _ of main) setTimeout(act);
