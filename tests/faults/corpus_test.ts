// Copyright 2026 the Duplex authors. MIT license.

/**
 * Runs every plan again that once failed in the campaign of faults.
 *
 * @module
 */

import { runPlan } from "./scenarios.ts";

const FOLDER = new URL("../corpus/faults/", import.meta.url);

const files = [...Deno.readDirSync(FOLDER)]
  .map(({ name }) => name)
  .filter((name) => name.endsWith(".json"))
  .sort();

for (const file of files) {
  const { scenario, error, plan } = JSON.parse(
    Deno.readTextFileSync(new URL(file, FOLDER)),
  );
  Deno.test(`The plan ${file} passes: ${error}`, async () => {
    await runPlan(scenario, plan);
  });
}
