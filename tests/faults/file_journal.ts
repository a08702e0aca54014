// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker's journal: a file of its own, written entry by entry, so that it is
 * there also when the worker is killed.
 *
 * @module
 */

import { isExpected, type Journal } from "./side.ts";

const encoder = new TextEncoder();

/**
 * Opens a journal. What the worker does not catch is written into it, too.
 *
 * @param name What the worker is called.
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
    // A worker whose parent has ended may reject at its top level.
    if (isExpected(event.reason)) return;
    const text = `unhandled rejection: ${Deno.inspect(event.reason)}`;
    journal.add("broken", "", text);
  });
  return journal;
}
