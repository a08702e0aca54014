// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker with many acts: its first argument names the act.
 *
 * @module
 */

import type { Duplex } from "@duplex/ipc/duplex";
import { parent } from "@duplex/ipc/parent";
import { useBuffers, watchMeasurements } from "./_measurements.ts";

const encoder = new TextEncoder();

/** Runs a function and reports "ok" or the error's message. */
async function attempt(fn: () => unknown): Promise<string> {
  try {
    await fn();
    return "ok";
  } catch (error) {
    return String(error);
  }
}

/** Receives 0, 1, 2 and so on up to an end, and reports the count. */
async function countInOrder(main: Duplex, end: string): Promise<number> {
  let count = 0;
  for (;; count++) {
    const message = await main.receive();
    if (message === end) return count;
    if (message !== count) throw new Error(`got ${message} for ${count}`);
  }
}

const ACTS: Record<string, () => Promise<void>> = {
  async echo() {
    await using main = await parent();
    for await (const message of main) await main.send(message);
  },

  async probe() {
    await using main = await parent();
    const here = new URL(import.meta.url).pathname;
    await main.send({
      read: await attempt(() => Deno.readTextFileSync(here)),
      write: await attempt(() => Deno.writeTextFileSync(`${here}.new`, "")),
      fetch: await attempt(() => fetch("http://127.0.0.1:8099/")),
      connect: await attempt(() => Deno.connect({ port: 8099 })),
      listen: await attempt(() => Deno.listen({ port: 0 })),
      env: await attempt(() => Deno.env.get("PATH")),
      run: await attempt(() => new Deno.Command(Deno.execPath()).spawn()),
      sys: await attempt(() => Deno.hostname()),
      ffi: await attempt(() => Deno.dlopen("/lib/libc.so.6", {})),
      kill: await attempt(() => Deno.kill(Deno.ppid, "SIGCONT")),
      import: await attempt(() => import("http://127.0.0.1:8099/" + here)),
    });
  },

  async held() {
    await using main = await parent();
    const [, kind, ...items] = Deno.args;
    const states: string[] = [];
    for (const path of items) {
      const name = kind as "read";
      states.push((await Deno.permissions.query({ name, path })).state);
    }
    await main.send(states);
  },

  async environment() {
    await using main = await parent();
    await main.send(Deno.env.toObject());
  },

  async context() {
    await using main = await parent();
    const { args, cwd, env } = Deno;
    await main.send([args, cwd(), env.get("DUPLEX_TEST")]);
  },

  async stderr() {
    await using main = await parent();
    Deno.stderr.writeSync(encoder.encode("one\ntwo\r\n\n"));
    const snow = encoder.encode("snow ☃ man\n");
    for (const byte of snow) {
      Deno.stderr.writeSync(new Uint8Array([byte]));
      // When the parent answers, it has read the byte.
      await main.send("byte");
      await main.receive();
    }
    Deno.stderr.writeSync(encoder.encode(`${"x".repeat(150_000)}\nlast`));
  },

  async prints() {
    Deno.stdout.writeSync(encoder.encode("before, and 1/"));
    Deno.stdout.writeSync(encoder.encode("2 of a line\n\0\0\0\x05\x01DUP\n"));
    await ACTS.echo!();
  },

  async console() {
    await using main = await parent();
    console.log("a log");
    console.info("an info");
    console.debug("a debug");
    console.warn("a warn");
    console.error("an error");
    console.dir({ a: "dir" });
    console.dirxml("a dirxml");
    console.table([{ a: "table" }]);
    console.count("a count");
    console.countReset("a count");
    console.count("a count");
    console.assert(false, "an assert");
    console.trace("a trace");
    console.group("a group");
    console.log("inside");
    console.groupEnd();
    console.groupCollapsed("a collapsed group");
    console.groupEnd();
    console.time("a time");
    console.timeLog("a time", "and more");
    console.timeEnd("a time");
    console.clear();
    console.timeStamp("a time stamp");
    await main.send("sound");
  },

  async hog() {
    const main = await parent();
    await main.receive();
    const hoard: number[][] = [];
    for (;;) hoard.push(new Array(1000).fill(hoard.length));
  },

  /** Keeps 1000 MB in buffers, which are not part of its heap. */
  async buffers() {
    const main = await parent();
    await main.receive();
    const hoard: Uint8Array[] = [];
    for (let count = 0; count < 20; count++) {
      hoard.push(new Uint8Array(50 * 2 ** 20));
    }
    await main.receive();
  },

  /** Uses large buffers one after the other; reports when its memory was measured. */
  async discards() {
    const measurements = watchMeasurements();
    await using main = await parent();
    useBuffers();
    await measurements(4);
    await main.send("discarded");
  },

  /**
   * Answers at length after the goodbye, sends its own goodbye, and continues
   * for a while.
   */
  async lingers() {
    const main = await parent();
    for await (const _ of main);
    for (let count = 0; count < 10; count++) {
      await main.send(new Uint8Array(200_000));
    }
    await main.close();
    // Longer than a process may continue to run after its parent has ended.
    await new Promise((resolve) => setTimeout(resolve, 1_500));
  },

  /** Sends its goodbye, receives one message, and stops reading. */
  async deaf() {
    const main = await parent();
    await main.writable.close();
    await main.receive();
    for (;;);
  },

  /** Sends its goodbye and receives nothing. */
  async done() {
    const main = await parent({ windowMessages: 4 });
    await main.close();
  },

  /** Passes its output to a process that keeps running, and exits. */
  async bequeaths() {
    const main = await parent();
    new Deno.Command("sleep", { args: ["30"] }).spawn();
    await main.send("gone");
    await main.receive();
    Deno.exit(3);
  },

  /** Polls for room to answer after the goodbye, and then ends. */
  async polls() {
    const main = await parent();
    for await (const _ of main);
    for (let sent = 0; sent < 100;) {
      if (main.trySend(sent)) sent++;
      else await new Promise((resolve) => setTimeout(resolve, 0));
    }
  },

  /** Answers at length after the goodbye, and then ends. */
  async pours() {
    const main = await parent();
    for await (const _ of main);
    for (let count = 0; count < 10; count++) {
      await main.send(new Uint8Array(20_000));
    }
  },

  async leaves() {
    const main = await parent();
    console.log("about to leave");
    await main.send("first");
    await main.send("last");
  },

  /** Prints a line after both goodbyes. */
  async partsWithALine() {
    const main = await parent();
    await main.close();
    console.error("the last line");
  },

  async exits() {
    const main = await parent();
    await main.send("before the exit");
    // The answer proves that the message has left.
    await main.receive();
    Deno.exit(Number(Deno.args[1]));
  },

  async lastWord() {
    const main = await parent();
    await main.receive();
    await main.receive();
    // The message acknowledges two others.
    await main.send("two");
    console.error("the disk is full\nand so am I");
    Deno.exit(3);
  },

  async throws() {
    const main = await parent();
    await main.receive();
    throw new RangeError("out of cheese");
  },

  async late() {
    await using main = await parent();
    for await (const _message of main);
    for (let index = 0; index < 3; index++) await main.send(index);
  },

  /** Counts up, and checks that the parent counts in the same way. */
  async flood() {
    await using main = await parent();
    const sending = (async () => {
      for (let index = 0; index < 20_000; index++) await main.send(index);
    })();
    const count = await countInOrder(main, "end");
    await sending;
    await main.send(`${count} in order`);
  },

  /** Sends until a deadlock is detected. */
  async insists() {
    await using main = await parent({
      windowMessages: 8,
      deadlockTimeout: 200,
    });
    try {
      for (let index = 0;; index++) await main.send(index);
    } catch (error) {
      console.error(`${error}`);
      console.error((error as Error).name);
    }
    const count = await countInOrder(main, "receive");
    await main.send(`${count} in order`);
  },

  async stubborn() {
    await parent();
    setInterval(() => {}, 1000);
  },

  async aborts() {
    const main = await parent();
    await main.receive();
    main.abort(Object.assign(new RangeError("too much"), { limit: 5 }));
  },

  async hears() {
    const main = await parent();
    try {
      for await (const message of main) await main.send(message);
    } catch (error) {
      const { name, message, limit } = error as Error & { limit?: number };
      console.error(`${name}: ${message}, limit ${limit}`);
    }
  },
};

await ACTS[Deno.args[0]!]!();
