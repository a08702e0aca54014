// Copyright 2026 the Duplex authors. MIT license.

/**
 * The contract over a child process.
 *
 * @module
 */

import { openPipe } from "@duplex/ipc/pipe";
import { conformance } from "./_conformance.ts";

conformance({
  name: "openPipe()",
  permissions: { run: [Deno.execPath()] },
  open: (options, far) =>
    openPipe(new URL("./_conformance_worker.ts", import.meta.url), {
      ...options,
      args: [JSON.stringify(far)],
    }),
});
