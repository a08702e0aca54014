// Copyright 2026 the Duplex authors. MIT license.

/**
 * The worker of this module's measurements, whichever transport it is opened
 * with. The query of its address says what it does: "echo" sends back what comes;
 * "take-…" receives as many messages as it was told and then says what they add
 * up to; "give-…" sends as many as it was told; "spin" is an echo that never
 * gives up its thread, until `null` comes.
 *
 * @module
 */

import { parent } from "../../parent.ts";
import { messagesOf, weigh } from "../_messages.mjs";

async function take(): Promise<void> {
  await using main = await parent<unknown>();
  for await (const count of main) {
    let sum = 0;
    for (let index = 0; index < (count as number); index++) {
      sum += weigh(await main.receive());
    }
    await main.send(sum);
  }
}

async function give(what: string): Promise<void> {
  await using main = await parent<number, unknown>();
  const messages = messagesOf(what);
  for await (const count of main) {
    for (let index = 0; index < count; index++) {
      await main.send(messages[index % messages.length]);
    }
  }
}

async function echo(): Promise<void> {
  await using main = await parent();
  for await (const message of main) await main.send(message);
}

async function spin(): Promise<void> {
  await using main = await parent({ transport: "shm" });
  for (;;) {
    const message = main.receiveSync();
    if (message === null) return;
    main.sendSync(message);
  }
}

const query = new URL(import.meta.url).search.slice(1);
const [role, what = ""] = query.split("-");
if (role === "take") await take();
else if (role === "give") await give(what);
else if (role === "spin") await spin();
else await echo();
