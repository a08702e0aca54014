// Copyright 2026 the Duplex authors. MIT license.

/**
 * A program that opens a Web Worker and reports the result; its arguments are
 * the transport and the permissions. It must run without the configuration
 * file.
 *
 * @module
 */

import { openQueue } from "../../queue.ts";
import { openShm } from "../../shm.ts";

const [transport, permissions] = Deno.args;
const open = transport === "queue" ? openQueue : openShm;
try {
  const worker = await open(new URL("./thread_facts.ts", import.meta.url), {
    permissions: permissions as "none" | "inherit",
  });
  await worker.close();
  console.log("opened");
} catch (error) {
  console.log(String(error));
}
