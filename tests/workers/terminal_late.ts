// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker that opens or closes its duplex only when a file exists. Its URL has
 * "?open=" or "?close=" and the file.
 *
 * @module
 */

import { parent } from "@duplex/ipc/parent";

const [[moment, file]] = [...new URL(import.meta.url).searchParams] as [
  [string, string],
];

async function wait(): Promise<void> {
  console.error(`begun ${moment}`);
  for (;;) {
    try {
      return void await Deno.stat(file);
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
}

if (moment === "open") await wait();
await using _main = await parent();
if (moment === "close") await wait();
