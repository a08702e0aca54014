// Copyright 2026 the Duplex authors. MIT license.

/**
 * The worker of a plan for calls.
 *
 * @module
 */

import { json, msgpack } from "@duplex/ipc/codec";
import { parent } from "@duplex/ipc/parent";
import type { CallPlan } from "./call_plan.ts";
import { CallSide } from "./call_side.ts";
import { openFileJournal } from "./file_journal.ts";
import { duplexOptions } from "./options.ts";

type Part = Pick<CallPlan, "options" | "peer"> & { readonly folder: string };

const part: Part = JSON.parse(
  new URL(import.meta.url).searchParams.get("part")!,
);

async function main(): Promise<void> {
  const { options, peer, folder } = part;
  const name = `peer-${crypto.randomUUID().slice(0, 8)}`;
  const journal = openFileJournal(folder, name);
  const duplex = await parent({
    ...duplexOptions(options, { json, msgpack }),
    ...options.closeTimeout === undefined && { closeTimeout: Infinity },
  });
  const side = new CallSide(name, duplex, journal, peer);
  await side.run(peer);
  await side.finish(peer.finale);
}

main();
