// Copyright 2026 the Duplex authors. MIT license.

/**
 * The worker of a plan. The query of its script's URL contains its part.
 *
 * @module
 */

import { json, msgpack } from "@duplex/ipc/codec";
import { parent } from "@duplex/ipc/parent";
import { duplexOptions } from "./options.ts";
import type { SessionPlan } from "./plan.ts";
import { openFileJournal } from "./file_journal.ts";
import { PlannedError } from "./promises.ts";
import { type AnyDuplex, Side } from "./side.ts";

type Part = Pick<SessionPlan, "seed" | "options" | "peer"> & {
  readonly folder: string;
};

const part: Part = JSON.parse(
  new URL(import.meta.url).searchParams.get("part")!,
);

function exit(how: "code" | "throw" | "close"): void {
  if (how === "code") Deno.exit(3);
  if (how === "close") {
    if ("WorkerGlobalScope" in globalThis) {
      (globalThis as unknown as { close(): void }).close();
    } else {
      Deno.exit(0);
    }
  }
  setTimeout(() => {
    throw new PlannedError("The plan has the worker throw");
  });
}

async function main(): Promise<void> {
  const { seed, options, peer, folder } = part;
  const name = `peer-${crypto.randomUUID().slice(0, 8)}`;
  const journal = openFileJournal(folder, name);
  const duplex: AnyDuplex = await parent({
    ...duplexOptions(options, { json, msgpack }),
    ...options.closeTimeout === undefined && { closeTimeout: Infinity },
  });
  journal.add("opened", "");
  const isPlain = options.codec === "json";
  const side = new Side(name, duplex, journal, seed, isPlain, exit);
  await side.run(peer);
  await side.finish(peer.finale);
  journal.add("left", "");
}

main();
