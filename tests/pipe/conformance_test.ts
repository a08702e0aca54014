// Copyright 2026 the Duplex authors. MIT license.

/**
 * The contract over a child process.
 *
 * @module
 */

import { openPipe } from "@duplex/ipc/pipe";
import { conformance, conformanceWorker } from "../_conformance.ts";

conformance({
  name: "openPipe()",
  permissions: { run: [Deno.execPath()] },
  open: (options, far) => openPipe(conformanceWorker(far), options),
});
