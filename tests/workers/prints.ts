// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker that prints in every way that goes to standard output, and sends the name
 * of each after it.
 *
 * @module
 */

import fs from "node:fs";
import process from "node:process";
import { promisify } from "node:util";
import { parent } from "@duplex/ipc/parent";

/** A line as bytes. */
function line(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${text}\n`);
}

/** Waits for a function that reports its end by a callback. */
function called(fn: (callback: () => void) => void): Promise<void> {
  return new Promise((resolve) => fn(() => resolve()));
}

function streamOfDescriptor(): fs.WriteStream {
  // The path is not used if there is a descriptor.
  return fs.createWriteStream("", { fd: 1 });
}

// More than a pipe holds, and still being written when the hello is sent.
const early = Deno.stdout.write(line(`early${" ".repeat(200_000)}`));
await using main = await parent();
await early;

const WAYS: Record<string, () => unknown> = {
  "console.log": () => console.log("console.log"),
  "console.group": () => {
    console.group("console.group");
    console.groupEnd();
  },
  "console.table": () => console.table(["console.table"]),
  "console.dir": () => console.dir("console.dir"),
  "console.timeEnd": () => {
    console.time("console.timeEnd");
    console.timeEnd("console.timeEnd");
  },
  "Deno.stdout.write": () => Deno.stdout.write(line("Deno.stdout.write")),
  "Deno.stdout.writeSync": () =>
    Deno.stdout.writeSync(line("Deno.stdout.writeSync")),
  "Deno.stdout.writable.getWriter": async () => {
    const writer = Deno.stdout.writable.getWriter();
    await writer.write(line("Deno.stdout.writable.getWriter"));
    writer.releaseLock();
  },
  "pipeTo Deno.stdout.writable": () =>
    new Blob([line("pipeTo Deno.stdout.writable")]).stream()
      .pipeTo(Deno.stdout.writable),
  "Deno.stdout.close": () => {
    Deno.stdout.close();
    console.log("Deno.stdout.close");
  },
  "process.stdout.write": () => process.stdout.write("process.stdout.write\n"),
  "fs.writeSync": () => fs.writeSync(1, "fs.writeSync\n"),
  "fs.write": () => called((done) => fs.write(1, "fs.write\n", done)),
  "promisify(fs.write)": () =>
    promisify(fs.write)(1, line("promisify(fs.write)")),
  "fs.writevSync": () => fs.writevSync(1, [line("fs.writevSync")]),
  "fs.writeFileSync": () => fs.writeFileSync(1, "fs.writeFileSync\n"),
  "fs.appendFileSync": () => fs.appendFileSync(1, "fs.appendFileSync\n"),
  "fs.createWriteStream": () =>
    called((done) =>
      streamOfDescriptor().on("close", done).end("fs.createWriteStream\n")
    ),
  "fs.closeSync": () => {
    fs.closeSync(1);
    fs.writeSync(1, "fs.closeSync\n");
  },
  "process.stdout.end": () =>
    called((done) => process.stdout.end("process.stdout.end\n", done)),
};

for (const [name, print] of Object.entries(WAYS)) {
  await print();
  await main.send(name);
}
