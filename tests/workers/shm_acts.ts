// Copyright 2026 the Duplex authors. MIT license.

/**
 * Workers over shared memory, most of which never return to their event loop.
 * The query of the URL names the worker.
 *
 * @module
 */

import { parent } from "../../parent.ts";
import type { ShmDuplex } from "../../shm.ts";

/** The sum of the bytes. */
function sum(bytes: Uint8Array): number {
  let total = 0;
  for (const byte of bytes) total += byte;
  return total;
}

/** A description of the error of a blocking call. */
function nameOf(call: () => unknown): string {
  try {
    return `no error but ${call()}`;
  } catch (error) {
    return `${(error as Error).name}: ${(error as Error).message}`;
  }
}

/** The workers, by name. */
export const ACTS = {
  /** Ends without a goodbye after one message. */
  async exit(main: ShmDuplex) {
    await main.receive();
    self.close();
  },
  /** Receives by blocking, and reports the error of that. */
  deadlock(main: ShmDuplex) {
    main.sendSync("begun");
    const text = nameOf(() => main.receiveSync());
    main.sendSync(text);
  },
  /** Sends every message back until the end, blocking. */
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
  /**
   * Receives and sends in every possible way, and reports the received
   * messages.
   */
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
  /** Blocks, and receives nothing. */
  sleep(_main: ShmDuplex) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5_000);
  },
  /** Reports how two blocking calls with a timeout end. */
  timeouts(main: ShmDuplex) {
    main.receiveSync();
    main.sendSync(nameOf(() => main.receiveSync({ timeout: 20 })));
    main.sendSync(nameOf(() => main.receiveSync({ timeout: -1 })));
  },
  /** Waits for a message that arrives through the event loop. */
  async posted(main: ShmDuplex) {
    main.sendSync(main.receiveSync());
    main.sendSync(nameOf(() => main.receiveSync()));
    const numbers = await main.receive() as Int32Array;
    numbers[0] = 42;
    main.sendSync(main.receiveSync());
  },
  /** Sends memory in every way without a copy. */
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
  /** Measures large messages, blocking. */
  weigh(main: ShmDuplex) {
    for (;;) {
      const bytes = main.receiveSync() as Uint8Array | null;
      if (bytes === null) return;
      main.sendSync(sum(bytes));
      main.sendSync(bytes);
    }
  },
  /** Reports the length of every message. */
  async lengths(main: ShmDuplex) {
    for await (const message of main as ShmDuplex<string | Uint8Array>) {
      await main.send(message.length);
    }
  },
  /** Reports the end of its blocking receive in shared memory. */
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
  /**
   * Sends, blocking, until a deadlock is detected; then receives everything.
   */
  onlySend(main: ShmDuplex) {
    const text = nameOf(() => {
      for (;;) main.sendSync("more");
    });
    while (main.receiveSync() !== "go on");
    main.sendSync({ text });
  },
  /** Sends without a pause while a timer is due. */
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
