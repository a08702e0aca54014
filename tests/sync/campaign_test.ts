// Copyright 2026 the Duplex authors. MIT license.

/**
 * Some plans of the campaign over all locks. `DUPLEX_SYNC_PLANS` sets their
 * number.
 *
 * @module
 */

import { assert } from "@std/assert";
import { seed } from "../_seed.ts";
import { runSyncPlan } from "./_campaign.ts";

/** Plans by default: a few seconds. */
const PLANS = 4;

Deno.test({
  name: "All locks keep their guarantees while threads die at random",
  permissions: {
    read: [new URL("../../", import.meta.url)],
    env: ["DUPLEX_SEED", "DUPLEX_SYNC_PLANS"],
  },
  async fn() {
    const first = seed();
    const plans = Number(Deno.env.get("DUPLEX_SYNC_PLANS") ?? PLANS);
    for (let plan = first; plan < first + plans; plan++) {
      const { operations } = await runSyncPlan(plan);
      assert(operations >= 0);
    }
  },
});
