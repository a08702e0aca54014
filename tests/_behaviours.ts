// Copyright 2026 the Duplex authors. MIT license.

/**
 * What the far side does in the conformance suite. Its first message names one
 * of these; the same functions run in this process, in a child, in a thread.
 *
 * @module
 */

import { DeadlockError, type Duplex } from "@duplex/ipc/duplex";

/** The first message: what to do, with numbers for it. */
export interface Command {
  do: keyof typeof BEHAVIOURS;
  count?: number;
  size?: number;
}

/** Ends the far side as a crash would, without a goodbye. */
export type Die = () => void;

const BEHAVIOURS = {
  /** Sends back whatever comes. */
  async echo(main: Duplex) {
    for await (const message of main) await main.send(message);
  },
  /** Answers after the goodbye with all that came before it. */
  async collect(main: Duplex) {
    await main.send(await Array.fromAsync(main));
  },
  /** Sends numbers, reading nothing, and closes. */
  async flood(main: Duplex, { count = 0 }: Command) {
    for (let number = 1; number <= count; number++) await main.send(number);
  },
  /** Takes some messages, says so, and then nothing more. */
  async take(main: Duplex, { count = 0 }: Command) {
    for (let number = 1; number <= count; number++) await main.receive();
    await main.send("taken");
    await main.closed;
  },
  /** Takes some messages, says so, and dies. */
  async die(main: Duplex, { count = 0 }: Command, die: Die) {
    for (let number = 1; number <= count; number++) await main.receive();
    await main.send("dying");
    // The next message is the word; it is not taken.
    while (main.stats.queued === 0) {
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    die();
  },
  /** Reads to the end, and ends without a goodbye. */
  async leave(main: Duplex, _: Command, die: Die) {
    for await (const _ of main);
    die();
  },
  /** Sends numbers, sends goodbye, and aborts when told to. */
  async regret(main: Duplex, { count = 0 }: Command) {
    for (let number = 1; number <= count; number++) await main.send(number);
    await main.writable.close();
    await main.receive();
    main.abort(new RangeError("Forget it"));
  },
  /** Aborts. */
  async abort(main: Duplex) {
    await main.send("aborting");
    await main.receive();
    // The reason must pass a write that is under way and one that waits.
    main.send(new Uint8Array(2 ** 20)).catch(() => {});
    main.abort(new RangeError("The worker has had enough"));
  },
  /** Sends numbers, and tells how many messages had come when they were sent. */
  async floodAndTell(main: Duplex, { count = 0 }: Command) {
    for (let number = 1; number <= count; number++) await main.send(number);
    await main.send({ received: main.stats.arrived });
    for await (const _ of main);
  },
  /** Only sends until that is a deadlock, then tells and takes all that came. */
  async onlySend(main: Duplex) {
    try {
      for (;;) await main.send("more");
    } catch (error) {
      if (!(error instanceof DeadlockError)) throw error;
      for await (const message of main) {
        if (message === "go on") await main.send({ deadlock: error.message });
      }
    }
  },
  /** Says nothing and ends at once. */
  async close() {},
};

/** Runs the far side of one test. */
export async function behave(main: Duplex, die: Die): Promise<void> {
  const command = await main.receive() as Command;
  await BEHAVIOURS[command.do](main, command, die);
  await main.close();
}
