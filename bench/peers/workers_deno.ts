// Copyright 2026 the Duplex authors. MIT license.

/**
 * Deno's Web Workers without this package, for `bench/workers.ts`:
 * `workers_deno.ts SCENARIO COUNT WARM [moved | none]` prints a JSON array. With
 * `moved`, byte arrays are copied and the copy transferred; with `none`, the
 * worker has no permissions, which is the default of this package.
 *
 * @module
 */

import { measure, moving } from "./_threads.mjs";

const [scenario = "", count = "", warm = "", how = ""] = Deno.args;
const options: WorkerOptions = how === "none"
  ? { type: "module", deno: { permissions: "none" } }
  : { type: "module" };

function open(role: string) {
  const script = `./workers_deno_worker.ts?${role}-${how}`;
  const worker = new Worker(new URL(script, import.meta.url), options);
  return {
    end: {
      post: how === "moved"
        ? moving((message, transfer) => worker.postMessage(message, transfer))
        : (message: unknown) => worker.postMessage(message),
      listen(callback: (message: unknown) => void) {
        worker.onmessage = ({ data }) => callback(data);
      },
    },
    stop: () => worker.terminate(),
  };
}

await measure(open, [scenario, count, warm]);
