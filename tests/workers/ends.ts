// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker that does not end when it should. Its first argument names the
 * fault. Some faults use the wire by hand, since `parent` would end them.
 *
 * @module
 */

import { parent } from "@duplex/ipc/parent";
import { expose, notifier } from "@duplex/ipc/rpc";
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

/** Keeps the process running, but not after a failed test. */
function stay(): void {
  setTimeout(() => Deno.exit(1), 60_000);
}

/**
 * Sends a hello by hand and waits for the parent's; returns the frames after
 * it.
 */
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

  /** Receives everything, sends its goodbye, and its script does not end. */
  async stays() {
    const main = await parent();
    stay();
    await main.receive().catch(() => {});
    await main.close();
    await new Promise(() => {});
  },

  /** Sends its goodbye and receives nothing; its script does not end. */
  async leaves() {
    const main = await parent();
    stay();
    await main.close();
    await new Promise(() => {});
  },

  /** The same as `stays`, and never returns to its event loop. */
  async computesAfter() {
    const main = await parent();
    await main.receive();
    await main.close();
    for (;;);
  },

  /** Ends its script with a timer. */
  async aTimer() {
    await using main = await parent();
    setInterval(() => {}, 10);
    for await (const _ of main);
  },

  /** The same, and does not close its duplex. */
  async aTimerAlone() {
    const main = await parent();
    setInterval(() => {}, 10);
    for await (const _ of main);
  },

  /** The same with a server. */
  async aListener() {
    await using main = await parent();
    Deno.serve({ hostname: "127.0.0.1", port: 0 }, () => new Response());
    for await (const _ of main);
  },

  /** The same with a watcher of files. */
  async aWatcher() {
    await using main = await parent();
    Deno.watchFs(new URL(".", import.meta.url).pathname)[Symbol.asyncIterator]()
      .next();
    for await (const _ of main);
  },

  /** The same with notifications that go on. */
  async notifies() {
    const main = await parent();
    const events = notifier<{ tick(): void }>(main);
    setInterval(() => events.tick(), 1);
    expose({ none() {} }, main);
  },

  /** The same, and exposes nothing. */
  async notifiesAlone() {
    const events = notifier<{ tick(): void }>(await parent());
    setInterval(() => events.tick(), 1);
  },

  /** The same with a timer and an exit code. */
  async fails() {
    Deno.exitCode = 7;
    await ENDS.aTimer!();
  },

  /** Awaits more after both goodbyes than a timer would be given, and cleans up. */
  async cleansUp() {
    addEventListener("unload", () => say("unload"));
    setInterval(() => {}, 10);
    const main = await parent();
    await main.close();
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    say("cleaned up");
  },

  /** The same, and ignores SIGTERM. */
  async ignores() {
    Deno.addSignalListener("SIGTERM", () => say("got SIGTERM"));
    await ENDS.stays!();
  },

  /** The same, and exits on SIGTERM. */
  async obeys() {
    Deno.addSignalListener("SIGTERM", () => {
      say("got SIGTERM");
      Deno.exit(9);
    });
    await ENDS.stays!();
  },

  /** Sends its hello and exits. */
  async greets() {
    await greet();
  },

  /** Receives one message and never returns to its event loop. */
  async computes() {
    const main = await parent();
    await main.receive();
    say("computing");
    for (;;);
  },

  /** Never sends its hello. */
  async silent() {
    stay();
    await new Promise(() => {});
  },

  /** Violates the protocol and does not exit. */
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

  /** Reads to the end of its input, which its parent closes, and exits. */
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

  /** Calls `parent` after its parent has ended. */
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

  /** Prints a line after it has opened, and does not exit. */
  async prints() {
    await greet();
    stay();
    say("a line");
  },
};

await ENDS[Deno.args[0]!]!();
