// Copyright 2026 the Duplex authors. MIT license.

/**
 * Workers over shared memory, most of which never come to their event loop. The
 * query of the address says which.
 *
 * @module
 */

import { parent } from "../../parent.ts";
import type { ShmDuplex } from "../../shm.ts";

/** What the bytes add up to. */
function sum(bytes: Uint8Array): number {
  let total = 0;
  for (const byte of bytes) total += byte;
  return total;
}

/** What a blocking call threw, as the parent can be told. */
function nameOf(call: () => unknown): string {
  try {
    return `no error but ${call()}`;
  } catch (error) {
    return `${(error as Error).name}: ${(error as Error).message}`;
  }
}

/** The workers, by name. */
export const ACTS = {
  /** Sends back what comes until the end, blocking. */
  echo(main: ShmDuplex) {
    for (;;) {
      let message: unknown;
      try {
        message = main.receiveSync();
      } catch {
        return;
      }
      main.sendSync(message);
    }
  },
  /** Takes and sends in every way that there is, and tells what came. */
  async mix(main: ShmDuplex) {
    const first = main.receive();
    const second = main.receive();
    const third = main.receiveSync();
    const sending = main.send("a");
    main.sendSync("b");
    const polled = main.tryReceive();
    main.sendSync([await first, await second, third, polled.state]);
    await sending;
  },
  /** Blocks, and takes nothing. */
  sleep(_main: ShmDuplex) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5_000);
  },
  /** Tells how two blocking calls with a timeout end. */
  timeouts(main: ShmDuplex) {
    main.receiveSync();
    main.sendSync(nameOf(() => main.receiveSync({ timeout: 20 })));
    main.sendSync(nameOf(() => main.receiveSync({ timeout: -1 })));
  },
  /** Waits for a message that comes through the event loop. */
  async posted(main: ShmDuplex) {
    main.sendSync(main.receiveSync());
    main.sendSync(nameOf(() => main.receiveSync()));
    const numbers = await main.receive() as Int32Array;
    numbers[0] = 42;
    main.sendSync(main.receiveSync());
  },
  /** Sends memory in every way that copies nothing. */
  async gives(main: ShmDuplex) {
    const shared = new Uint8Array(new SharedArrayBuffer(8));
    const moved = new Uint8Array(8).fill(7);
    main.sendSync("first");
    main.sendSync({ shared, again: shared.buffer });
    main.sendSync(moved, { transfer: [moved.buffer] });
    main.sendSync([moved.length, "last"]);
    await main.receive();
    main.sendSync([...shared]);
  },
  /** Weighs large messages, blocking. */
  weigh(main: ShmDuplex) {
    for (;;) {
      const bytes = main.receiveSync() as Uint8Array | null;
      if (bytes === null) return;
      main.sendSync(sum(bytes));
      main.sendSync(bytes);
    }
  },
  /** Tells how long what comes is. */
  async lengths(main: ShmDuplex) {
    for await (const message of main as ShmDuplex<string | Uint8Array>) {
      await main.send(message.length);
    }
  },
  /** Tells what ends its blocking receive, in memory that it was given. */
  async ends(main: ShmDuplex) {
    const words = await main.receive() as Int32Array;
    main.sendSync("waiting");
    const text = nameOf(() => main.receiveSync());
    for (let at = 0; at < text.length; at++) {
      words[at + 1] = text.charCodeAt(at);
    }
    Atomics.store(words, 0, text.length);
    Atomics.notify(words, 0);
  },
  /** Only sends, blocking, until that is a deadlock; then takes all there is. */
  onlySend(main: ShmDuplex) {
    const text = nameOf(() => {
      for (;;) main.sendSync("more");
    });
    while (main.receiveSync() !== "go on");
    main.sendSync({ text });
  },
  /** Sends without a pause while a timer is to run. */
  async flood(main: ShmDuplex) {
    let ran = false;
    setTimeout(() => ran = true, 1);
    let count = 0;
    while (!ran) {
      await main.send(count++);
      await main.receive();
    }
    await main.send("ran");
  },
};

const main = await parent({ transport: "shm", deadlockTimeout: 100 });
const act = new URL(import.meta.url).search.slice(1) as keyof typeof ACTS;
await ACTS[act](main);
await main.close();
