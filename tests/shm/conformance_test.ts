// Copyright 2026 the Duplex authors. MIT license.

/**
 * The contract over shared memory.
 *
 * @module
 */

import { openShm } from "@duplex/ipc/shm";
import { conformance, conformanceWorker } from "../_conformance.ts";

conformance({
  name: "openShm()",
  permissions: { read: [new URL("../..", import.meta.url)] },
  open: (options, peer) => openShm(conformanceWorker(peer), options),
});
