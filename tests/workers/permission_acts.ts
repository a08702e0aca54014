// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker that tries the operations that its parent sends, and answers with
 * the results.
 *
 * @module
 */

import { parent } from "@duplex/ipc/parent";
import { attemptAll, type Verdict } from "./_permission_acts.ts";

await using main = await parent<string[], Verdict[]>();
for await (const acts of main) await main.send(await attemptAll(acts));
