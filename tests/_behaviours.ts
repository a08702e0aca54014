// Copyright 2026 the Duplex authors. MIT license.

/**
 * What the peer does in the conformance suite. Its first message names one of
 * these functions. They run in this process, in a child process and in a
 * thread.
 *
 * @module
 */

import { DeadlockError, type Duplex } from "@duplex/ipc/duplex";

/** The first message: the behaviour and its parameters. */
export interface Command {
  do: keyof typeof BEHAVIOURS;
  count?: number;
  size?: number;
}

/** Ends the peer without a goodbye, as a crash does. */
export type Die = () => void;

const BEHAVIOURS = {
  /** Sends every message back. */
  async echo(main: Duplex) {
    for await (const message of main) await main.send(message);
  },
  /** Sends all messages back in one array, after the other side's goodbye. */
  async collect(main: Duplex) {
    await main.send(await Array.fromAsync(main));
  },
  /** Sends numbers, receives nothing, and closes. */
  async flood(main: Duplex, { count = 0 }: Command) {
    for (let number = 1; number <= count; number++) await main.send(number);
  },
  /** Receives some messages, reports it, and then receives nothing more. */
  async receive(main: Duplex, { count = 0 }: Command) {
    for (let number = 1; number <= count; number++) await main.receive();
    await main.send("received");
    await main.closed;
  },
  /** Receives some messages, reports it, and dies. */
  async die(main: Duplex, { count = 0 }: Command, die: Die) {
    for (let number = 1; number <= count; number++) await main.receive();
    await main.send("dying");
    // The next message is the signal to die; it is not received.
    while (main.stats.queued === 0) {
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    die();
  },
  /** Receives to the end, and ends without a goodbye. */
  async leave(main: Duplex, _: Command, die: Die) {
    for await (const _ of main);
    die();
  },
  /** Sends numbers and a goodbye, and aborts after the next message. */
  async abortAfterGoodbye(main: Duplex, { count = 0 }: Command) {
    for (let number = 1; number <= count; number++) await main.send(number);
    await main.writable.close();
    await main.receive();
    main.abort(new RangeError("Aborted after the goodbye"));
  },
  /** Aborts while one write is in progress and another one waits. */
  async abort(main: Duplex) {
    await main.send("aborting");
    await main.receive();
    // The reason must pass both writes.
    main.send(new Uint8Array(2 ** 20)).catch(() => {});
    main.abort(new RangeError("The worker aborts"));
  },
  /** Sends numbers, then how many messages had arrived by then. */
  async floodAndReport(main: Duplex, { count = 0 }: Command) {
    for (let number = 1; number <= count; number++) await main.send(number);
    await main.send({ received: main.stats.arrived });
    for await (const _ of main);
  },
  /**
   * Sends until a deadlock is detected, then reports it and receives the rest.
   */
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
  /** Ends at once. */
  async close() {},
};

/** Runs the peer of one test. */
export async function behave(main: Duplex, die: Die): Promise<void> {
  const command = await main.receive() as Command;
  await BEHAVIOURS[command.do](main, command, die);
  await main.close();
}
