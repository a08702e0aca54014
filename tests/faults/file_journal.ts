// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker's journal: a file that is written entry by entry, so that it
 * survives when the worker is killed.
 *
 * @module
 */

import { isExpected } from "./promises.ts";
import type { Journal } from "./side.ts";

const encoder = new TextEncoder();

/**
 * Opens a journal. It also records errors that the worker does not catch.
 *
 * @param name The name of the worker.
 */
export function openFileJournal(folder: string, name: string): Journal {
  const file = Deno.openSync(`${folder}/${name}.log`, {
    write: true,
    createNew: true,
  });
  const journal: Journal = {
    add(entry, message, text = "") {
      const line = JSON.stringify({ entry, message, text });
      file.writeSync(encoder.encode(`${line}\n`));
    },
  };
  globalThis.addEventListener("unhandledrejection", (event) => {
    // The top level of a worker may reject after its parent has ended.
    if (isExpected(event.reason)) return;
    const text = `unhandled rejection: ${Deno.inspect(event.reason)}`;
    journal.add("violation", "", text);
  });
  return journal;
}
