// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker that prints through functions that it has stored before it calls `parent`;
 * with the argument "names", also through those imported from `node:fs` by name.
 *
 * @module
 */

import fs, { createWriteStream, writeFileSync, writeSync } from "node:fs";
import { parent } from "@duplex/ipc/parent";

const { log } = console;
const write = Deno.stdout.write.bind(Deno.stdout);
const writeStoredSync = Deno.stdout.writeSync.bind(Deno.stdout);
const writer = Deno.stdout.writable.getWriter();
const bytes = (text: string) => new TextEncoder().encode(`${text}\n`);

log("early log");
await writer.write(bytes("early writer"));

await using main = await parent();

const ways: [string, () => unknown][] = [
  ["log", () => log("log")],
  ["write", () => write(bytes("write"))],
  ["writeSync", () => writeStoredSync(bytes("writeSync"))],
  ["writer", () => writer.write(bytes("writer"))],
  ["fs", () => fs.writeSync(1, "fs\n")],
];
if (Deno.args.includes("names")) {
  ways.push(
    ["fs.writeSync", () => writeSync(1, "fs.writeSync\n")],
    [
      "stream",
      () =>
        new Promise<void>((resolve) =>
          createWriteStream("", { fd: 1 }).end("stream\n", () => resolve())
        ),
    ],
    ["fs.writeFileSync", () => writeFileSync(1, "fs.writeFileSync\n")],
  );
}
for (const [name, print] of ways) {
  await print();
  await main.send(name);
}
