// Copyright 2026 the Duplex authors. MIT license.

/**
 * The worker of this package's measurements, over any transport. With the query
 * "spin" it sends back what arrives without releasing its thread, until `null`
 * arrives.
 *
 * @module
 */

import { serveOrders } from "../../_cli/measure.ts";
import { parent } from "../../parent.ts";
import { loadOf } from "../_messages.mjs";

async function spin(): Promise<void> {
  await using main = await parent({ transport: "shm" });
  for (;;) {
    const message = main.receiveSync();
    if (message === null) return;
    main.sendSync(message);
  }
}

async function serve(): Promise<void> {
  await using main = await parent();
  await serveOrders(main, loadOf);
}

if (new URL(import.meta.url).search === "?spin") await spin();
else await serve();
