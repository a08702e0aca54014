// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker with many acts: each message names its act, since any worker of a
 * queue may receive it.
 *
 * @module
 */

import { ClosedError, DeadlockError } from "@duplex/ipc/duplex";
import { parent } from "@duplex/ipc/parent";

/** A message. */
export interface Act {
  act: keyof typeof ACTS;
  value?: unknown;
  /**
   * Shared memory, for values that must remain visible after the worker has
   * ended.
   */
  cells?: Int32Array;
}

const main = await parent<Act, unknown>({ transport: "queue" });

function turn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}

/** Sets the first cell, and waits for the second. */
async function waitAt(cells: Int32Array): Promise<void> {
  Atomics.add(cells, 0, 1);
  while (Atomics.load(cells, 1) === 0) await turn();
}

const ACTS = {
  async echo({ value }: Act) {
    await main.send(value);
  },
  /** Reports how the message arrived. */
  async delivery({ value }: Act) {
    await main.send([value, main.delivery]);
  },
  /** Counts and sends nothing. */
  count({ cells }: Act) {
    Atomics.add(cells!, 0, 1);
  },
  /** Answers after it is released. */
  async waits({ value, cells }: Act) {
    await waitAt(cells!);
    await main.send(value);
  },
  /** Answers three times, and waits before the last answer. */
  async answersSlowly({ value, cells }: Act) {
    await main.send([value, 0]);
    await main.send([value, 1]);
    await waitAt(cells!);
    await main.send([value, 2]);
  },
  /** Dies the first time, and reports the redelivery the second time. */
  async diesOnce({ value }: Act) {
    if (main.delivery!.attempt === 1) Deno.exit(3);
    await main.send([value, main.delivery]);
  },
  /** Dies every time. */
  dies() {
    throw new Error("The message ended the worker");
  },
  /** Dies after it is released. */
  async waitsAndDies({ cells }: Act) {
    await waitAt(cells!);
    self.close();
    await new Promise(() => {});
  },
  /** Sends a value that only a clone can carry. */
  async sendsClones() {
    const cycle: Record<string, unknown> = { name: "cycle" };
    cycle.self = cycle;
    await main.send(cycle);
    const buffer = new Uint8Array([7, 8]).buffer;
    await main.send(buffer, { transfer: [buffer] });
    await main.send(buffer.detached);
  },
  /** Sends a value that cannot be sent, and dies of the error. */
  async sendsFunction() {
    await main.send(() => {});
  },
  /** Sends its goodbye after its answer. */
  async retires({ value }: Act) {
    await main.send(value);
    await main.close();
  },
  /** Receives nothing more, until the end. */
  async deaf({ cells }: Act) {
    Atomics.add(cells!, 0, 1);
    await main.closed;
  },
  /** Does not return to its event loop until it is released. */
  spins({ cells }: Act) {
    Atomics.add(cells!, 0, 1);
    Atomics.wait(cells!, 1, 0);
  },
  aborts() {
    main.abort(new RangeError("The worker has had enough"));
  },
  /** Sets the second cell when it has received the abort. */
  async reportsAbort({ cells }: Act) {
    await main.send("listening");
    try {
      await main.receive();
    } catch (error) {
      if (String(error) === "Error: Enough") Atomics.store(cells!, 1, 1);
    }
  },
  /** Sends until a deadlock is detected. */
  async onlySends() {
    try {
      for (;;) await main.send("more");
    } catch (error) {
      if (!(error instanceof DeadlockError)) throw error;
      await main.send("deadlock");
    }
  },
};

try {
  for await (const act of main) await ACTS[act.act](act);
} catch (error) {
  // Nothing can be sent after the goodbye.
  if (!(error instanceof ClosedError)) throw error;
}
await main.close();
