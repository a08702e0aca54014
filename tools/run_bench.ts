// Copyright 2026 the Duplex authors. MIT license.

/**
 * Runs one measurement by its name: `deno task bench pipe` runs
 * `bench/pipe.ts`, with the arguments that follow the name.
 *
 * @module
 */

import { runCommand } from "./_run.ts";

const BENCH = new URL("../bench/", import.meta.url);

/** The measurements there are: the public files in `bench/`. */
async function benches(): Promise<string[]> {
  const names: string[] = [];
  for await (const { name } of Deno.readDir(BENCH)) {
    if (name.endsWith(".ts") && !name.startsWith("_")) {
      names.push(name.slice(0, -".ts".length));
    }
  }
  return names.sort();
}

if (import.meta.main) {
  const [name, ...args] = Deno.args;
  const names = await benches();
  if (name === undefined || !names.includes(name)) {
    console.error(`Usage: deno task bench NAME [ARGUMENT…]`);
    console.error(`NAME is one of: ${names.join(", ")}`);
    Deno.exit(2);
  }
  const script = new URL(`${name}.ts`, BENCH).href;
  Deno.exit(await runCommand("deno", ["run", "-A", script, ...args]));
}
