// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker that does not end when it should. Its first argument names how. Those
 * that speak the wire by hand do so because `parent` would end them.
 *
 * @module
 */

import { parent } from "@duplex/ipc/parent";
import {
  control,
  data,
  type Frame,
  frames,
  hello,
  KIND,
  put,
  say,
} from "./_wire.ts";

/** Keeps the process alive, though not when a test has failed. */
function stay(): void {
  setTimeout(() => Deno.exit(1), 60_000);
}

/** Says hello by hand and waits for the parent's; gives what comes after it. */
async function greet(): Promise<AsyncGenerator<Frame>> {
  put(hello());
  const parent = frames();
  await parent.next();
  return parent;
}

const ENDS: Record<string, () => Promise<void>> = {
  async echoes() {
    await using main = await parent();
    for await (const message of main) await main.send(message);
  },

  /** Says goodbye and does not exit. */
  async stays() {
    const main = await parent();
    stay();
    await main.close();
  },

  /** The same, and SIGTERM does not end it. */
  async ignores() {
    Deno.addSignalListener("SIGTERM", () => say("got SIGTERM"));
    await ENDS.stays!();
  },

  /** The same, and SIGTERM has it exit. */
  async obeys() {
    Deno.addSignalListener("SIGTERM", () => Deno.exit(9));
    await ENDS.stays!();
  },

  /** The same, and ends itself with another signal. */
  async crashes() {
    Deno.addSignalListener("SIGTERM", () => Deno.kill(Deno.pid, "SIGQUIT"));
    await ENDS.stays!();
  },

  /** Says hello and exits. */
  async greets() {
    await greet();
  },

  /** Takes one message and never comes to its event loop again. */
  async computes() {
    const main = await parent();
    await main.receive();
    say("computing");
    for (;;);
  },

  /** Never says hello. */
  async silent() {
    stay();
    await new Promise(() => {});
  },

  /** Breaks the protocol and does not exit. */
  async faults() {
    await greet();
    stay();
    put(data(7, "out of order"));
  },

  /** Aborts and does not exit. */
  async aborts() {
    await greet();
    stay();
    put(control(KIND.abort, { text: "enough", fault: false }));
  },

  /** Reads to the end of its input, which is that of its parent, and exits. */
  async reads() {
    const frames = await greet();
    say(`ready ${Deno.pid}`);
    for await (const _ of frames);
  },

  /** Reads nothing after the hello. */
  async neverReads() {
    await greet();
    stay();
    say(`ready ${Deno.pid}`);
  },

  /** Calls `parent` when its parent has ended. */
  async late() {
    await greet();
    say(`ready ${Deno.pid}`);
    const id = Deno.ppid;
    while (Deno.ppid === id) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    stay();
    await parent();
  },

  /** Prints a line once it is open, and does not exit. */
  async prints() {
    await greet();
    stay();
    say("a line");
  },
};

await ENDS[Deno.args[0]!]!();
