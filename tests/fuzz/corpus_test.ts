// Copyright 2026 the Duplex authors. MIT license.

/**
 * Runs every input again that once failed in the fuzzing campaign. Only the
 * results are checked, since time and memory depend on the load of the machine.
 *
 * @module
 */

import { inflateRawSync } from "node:zlib";
import { attempt } from "./harness.ts";
import { TARGETS } from "./targets.ts";

const FOLDER = new URL("../corpus/fuzz/", import.meta.url);

/** A file of the folder, as written by `tools/run_fuzz.ts`. */
interface KeptInput {
  readonly target: string;
  readonly error: string;
  /** The input in base64, plain or compressed. */
  readonly input?: string;
  readonly deflated?: string;
}

function readInput({ input, deflated }: KeptInput): Uint8Array<ArrayBuffer> {
  if (input !== undefined) return Uint8Array.fromBase64(input);
  return new Uint8Array(inflateRawSync(Uint8Array.fromBase64(deflated!)));
}

const files = [...Deno.readDirSync(FOLDER)]
  .map(({ name }) => name)
  .filter((name) => name.endsWith(".json"))
  .sort();

for (const file of files) {
  const kept: KeptInput = JSON.parse(
    Deno.readTextFileSync(new URL(file, FOLDER)),
  );
  const target = TARGETS[kept.target]!;
  Deno.test({
    name: `The input ${file} passes: ${kept.error}`,
    permissions: target.permissions ?? "none",
    async fn() {
      try {
        await attempt(target, readInput(kept), false);
      } finally {
        await target.end?.();
      }
    },
  });
}
