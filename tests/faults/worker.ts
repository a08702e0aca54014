// Copyright 2026 the Duplex authors. MIT license.

/**
 * The worker of a plan: its part is in the query of its script's address, and its
 * journal in a file of its own, written entry by entry, so that it is there also
 * when the worker is killed.
 *
 * @module
 */

import { json, msgpack } from "@duplex/ipc/codec";
import { parent } from "@duplex/ipc/parent";
import { duplexOptions } from "./options.ts";
import type { SessionPlan } from "./plan.ts";
import { type AnyDuplex, type Journal, PlannedError, Side } from "./side.ts";

type Part = Pick<SessionPlan, "seed" | "link" | "options" | "peer"> & {
  readonly folder: string;
};

const part: Part = JSON.parse(
  new URL(import.meta.url).searchParams.get("part")!,
);

const name = `peer-${crypto.randomUUID().slice(0, 8)}`;

const encoder = new TextEncoder();

function openJournal(): Journal {
  const file = Deno.openSync(`${part.folder}/${name}.log`, {
    write: true,
    createNew: true,
  });
  return {
    add(entry, message, text = "") {
      const line = JSON.stringify({ entry, message, text });
      file.writeSync(encoder.encode(`${line}\n`));
    },
  };
}

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
  const { seed, options, peer } = part;
  const journal = openJournal();
  globalThis.addEventListener("unhandledrejection", (event) => {
    const text = `unhandled rejection: ${Deno.inspect(event.reason)}`;
    journal.add("broken", "", text);
  });
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
