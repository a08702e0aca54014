// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker of many parts: each message names the one to play for it, since any
 * worker of a queue may get it.
 *
 * @module
 */

import { ClosedError, DeadlockError } from "@duplex/ipc/duplex";
import { parent } from "@duplex/ipc/parent";

/** A message. */
export interface Act {
  act: keyof typeof ACTS;
  value?: unknown;
  /** Shared memory, for what must be seen also when the worker is gone. */
  cells?: Int32Array;
}

const main = await parent<Act, unknown>({ transport: "queue" });

function turn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}

/** Says in the first cell that it is here, and waits for the second. */
async function waitAt(cells: Int32Array): Promise<void> {
  Atomics.add(cells, 0, 1);
  while (Atomics.load(cells, 1) === 0) await turn();
}

const ACTS = {
  async echo({ value }: Act) {
    await main.send(value);
  },
  /** Tells how the message came. */
  async delivery({ value }: Act) {
    await main.send([value, main.delivery]);
  },
  /** Counts and says nothing. */
  count({ cells }: Act) {
    Atomics.add(cells!, 0, 1);
  },
  /** Answers once it may. */
  async waits({ value, cells }: Act) {
    await waitAt(cells!);
    await main.send(value);
  },
  /** Answers three times, and waits before the last. */
  async answersSlowly({ value, cells }: Act) {
    await main.send([value, 0]);
    await main.send([value, 1]);
    await waitAt(cells!);
    await main.send([value, 2]);
  },
  /** Dies the first time, and tells how it came the second. */
  async diesOnce({ value }: Act) {
    if (main.delivery!.attempt === 1) Deno.exit(3);
    await main.send([value, main.delivery]);
  },
  /** Dies whenever it comes. */
  dies() {
    throw new Error("The message ended the worker");
  },
  /** Dies once it may. */
  async waitsAndDies({ cells }: Act) {
    await waitAt(cells!);
    self.close();
    await new Promise(() => {});
  },
  /** Sends what only a clone can carry. */
  async sendsClones() {
    const cycle: Record<string, unknown> = { name: "cycle" };
    cycle.self = cycle;
    await main.send(cycle);
    const buffer = new Uint8Array([7, 8]).buffer;
    await main.send(buffer, { transfer: [buffer] });
    await main.send(buffer.detached);
  },
  /** Sends what cannot be sent, and dies of it. */
  async sendsFunction() {
    await main.send(() => {});
  },
  /** Says goodbye, behind its answer. */
  async retires({ value }: Act) {
    await main.send(value);
    await main.close();
  },
  /** Takes nothing more, until the end. */
  async deaf({ cells }: Act) {
    Atomics.add(cells!, 0, 1);
    await main.closed;
  },
  /** Never comes to its event loop again, until it may. */
  spins({ cells }: Act) {
    Atomics.add(cells!, 0, 1);
    Atomics.wait(cells!, 1, 0);
  },
  aborts() {
    main.abort(new RangeError("The worker has had enough"));
  },
  /** Tells in the second cell that it has heard of the abort. */
  async hears({ cells }: Act) {
    await main.send("listening");
    try {
      await main.receive();
    } catch (error) {
      if (String(error) === "Error: Enough") Atomics.store(cells!, 1, 1);
    }
  },
  /** Sends until that is a deadlock. */
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
  // After its goodbye nothing more can be sent.
  if (!(error instanceof ClosedError)) throw error;
}
await main.close();
