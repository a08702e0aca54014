// Copyright 2026 the Duplex authors. MIT license.

/**
 * The machine of a measurement.
 *
 * @module
 */

import { firstLine } from "./_contender.ts";

async function cpuModel(): Promise<string> {
  try {
    const info = await Deno.readTextFile("/proc/cpuinfo");
    return info.match(/^model name\s*: (.*)$/m)?.[1] ?? "CPU unknown";
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "CPU unknown";
    throw error;
  }
}

/** Prints the machine, and the versions of the runtimes. */
export async function printMachine(): Promise<void> {
  const load = Deno.loadavg()[0]!.toFixed(2);
  console.log(
    `${await cpuModel()}, ${navigator.hardwareConcurrency} cores, ` +
      `${Deno.build.os} ${Deno.osRelease()}, load ${load}`,
  );
  const python = await firstLine("python3", "--version");
  const node = await firstLine("node", "--version");
  console.log(
    `Deno ${Deno.version.deno} (V8 ${Deno.version.v8}), ` +
      `${python ?? "no Python"}, ${node ? `Node ${node.slice(1)}` : "no Node"}`,
  );
}
