// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker whose calls are traced, if `OTEL_DENO` is set.
 *
 * @module
 */

import { expose, withSignal } from "@duplex/ipc/rpc";

/** The active span of this program makes a span as its child. */
function mark(name: string): void {
  const api = Reflect.get(globalThis, Symbol.for("opentelemetry.js.api.1"));
  api.trace.getTracer("test").startSpan(name).end();
}

const methods = {
  add(a: number, b: number) {
    mark("inside");
    return a + b;
  },
  async later(value: number) {
    await undefined;
    mark("later inside");
    return value;
  },
  async *count(to: number) {
    for (let n = 0; n < to; n++) {
      mark(`value ${n}`);
      yield await Promise.resolve(n);
    }
  },
  fail(): never {
    throw new RangeError("It fails");
  },
  back: async (call: (n: number) => Promise<number>) => await call(1),
  signalled: withSignal((signal, value: number) => signal.aborted ? 0 : value),
  note() {},
};

export type Methods = typeof methods;
expose(methods);
