// Copyright 2026 the Duplex authors. MIT license.

/**
 * The contract over a queue with one worker that is not replaced.
 *
 * @module
 */

import { openQueue } from "@duplex/ipc/queue";
import { conformance, conformanceWorker } from "../_conformance.ts";

conformance({
  name: "openQueue()",
  permissions: { read: [new URL("../..", import.meta.url)] },
  open: (options, peer) =>
    openQueue(conformanceWorker(peer), { ...options, restart: false }),
});
