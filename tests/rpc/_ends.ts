// Copyright 2026 the Duplex authors. MIT license.

/**
 * What tests of calls share: two ends that call each other, and signals.
 *
 * @module
 */

import { duplexPair } from "@duplex/ipc/pair";
import {
  expose,
  type ExposeOptions,
  remote,
  type RemoteOptions,
} from "@duplex/ipc/rpc";
import { within } from "../workers/_processes.ts";

/**
 * A test that fails by name when it would wait forever, and when it leaves a
 * timer, an operation or a resource behind, which Deno does not look for unasked.
 */
export function test(
  name: string,
  fn: (t: Deno.TestContext) => Promise<void>,
  permissions: Deno.PermissionOptions = "none",
): void {
  Deno.test({
    name,
    permissions,
    sanitizeOps: true,
    sanitizeResources: true,
    fn: (t) => within(fn(t)),
  });
}

/** Methods at one end of a pair and their remote at the other. */
export function connect<Methods extends object>(
  methods: Methods,
  options: RemoteOptions & ExposeOptions = {},
) {
  const { maxCalls, onError, ...rest } = options;
  const [main, worker] = duplexPair();
  const served = expose<object>(methods, worker, {
    ...maxCalls === undefined ? {} : { maxCalls },
    ...onError === undefined ? {} : { onError },
  });
  return { api: remote<Methods>(main, rest), main, worker, served };
}

/** A signal that aborts with a reason. */
export function withAbort(): { signal: AbortSignal; abort: () => void } {
  const controller = new AbortController();
  return {
    signal: controller.signal,
    abort: () => controller.abort(new RangeError("Enough")),
  };
}

/** A signal that counts the listeners that it was given, and those it has. */
export class CountedSignal {
  readonly signal: AbortSignal;
  readonly abort: () => void;
  added = 0;
  count = 0;

  constructor() {
    const { signal, abort } = withAbort();
    this.signal = signal;
    this.abort = abort;
    const add = signal.addEventListener.bind(signal);
    const remove = signal.removeEventListener.bind(signal);
    signal.addEventListener = (...args: Parameters<typeof add>) => {
      this.added++;
      this.count++;
      add(...args);
    };
    signal.removeEventListener = (...args: Parameters<typeof remove>) => {
      this.count--;
      remove(...args);
    };
  }
}

/** Settles when a signal aborts. */
export function aborted(signal: AbortSignal): Promise<unknown> {
  const { promise, resolve } = Promise.withResolvers<unknown>();
  if (signal.aborted) resolve(signal.reason);
  signal.addEventListener("abort", () => resolve(signal.reason));
  return promise;
}
