// Copyright 2026 the Duplex authors. MIT license.

/**
 * The transport that `parent` reports.
 *
 * @module
 */

import { assertEquals, assertRejects } from "@std/assert";
import { PeerExitError } from "@duplex/ipc/duplex";
import { openPipe } from "@duplex/ipc/pipe";
import { openQueue } from "@duplex/ipc/queue";
import { openShm } from "@duplex/ipc/shm";
import { within } from "../workers/_processes.ts";

/** The permissions of a script that imports this package. */
const permissions = {
  read: [new URL("../..", import.meta.url)],
  run: [Deno.execPath()],
};

function script(source: string): string {
  const url = import.meta.resolve("../../parent.ts");
  const text = `import { parent } from "${url}"; ${source}`;
  return `data:text/javascript,${encodeURIComponent(text)}`;
}

const ROWS = [
  [openPipe, "pipe"],
  [openQueue, "queue"],
  [openShm, "shm"],
] as const;

for (const [open, transport] of ROWS) {
  const other = transport === "shm" ? "queue" : "shm";

  Deno.test({
    name: `parent() has the members of the transport of ${open.name}()`,
    permissions,
    fn: () =>
      within((async () => {
        const worker = await open(script(`
          await using main = await parent({ transport: "${transport}" });
          const names = ["delivery", "sendSync", "receiveSync"];
          await main.send([main.transport, names.filter((name) => name in main)]);
          await main.receive();
        `));
        const members = {
          pipe: [],
          queue: ["delivery"],
          shm: ["sendSync", "receiveSync"],
        };
        assertEquals(await worker.receive(), [transport, members[transport]]);
        await worker.send("Goodbye");
        await worker.close();
      })()),
  });

  Deno.test({
    name: `parent() rejects another transport than that of ${open.name}()`,
    permissions,
    fn: () =>
      within((async () => {
        const worker = await open(script(`
          const main = await parent();
          for (const transport of ["${other}", "none", 1n]) {
            await main.send(await parent({ transport }).catch(String));
          }
          await main.close();
        `));
        const opener = { shm: "openShm", queue: "openQueue" }[other];
        const expected = '"transport" must be "pipe", "queue" or "shm"';
        assertEquals(await Array.fromAsync(worker), [
          `TypeError: Cannot open the parent over "${other}": this program was opened with ${open.name}; open it with ${opener}`,
          `TypeError: Cannot open the parent as ${expected}: current value is "none"`,
          `TypeError: Cannot open the parent as ${expected}: current value is 1n`,
        ]);
        await worker.close();
      })()),
  });

  Deno.test({
    name: `${open.name}() rejects if its worker requires another transport`,
    permissions,
    fn: () =>
      within((async () => {
        const source = script(`await parent({ transport: "${other}" });`);
        await assertRejects(() => open(source), PeerExitError, "open it with");
      })()),
  });
}
