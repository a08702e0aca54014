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
import type { ShmDuplex } from "../../shm.ts";
import { loadOf } from "../_messages.mjs";

function spin(main: ShmDuplex<unknown>): void {
  for (;;) {
    const message = main.receiveSync();
    if (message === null) return;
    main.sendSync(message);
  }
}

await using main = await parent();
if (new URL(import.meta.url).search !== "?spin") {
  await serveOrders(main, loadOf);
} else spin(main as ShmDuplex<unknown>);
