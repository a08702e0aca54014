// Copyright 2026 the Duplex authors. MIT license.

/**
 * A duplex that is ended at any moment, by any side, over every transport, while both
 * sides notify, call, stream and call back: neither side has an uncaught error, and
 * every promise settles as documented.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { random, seed } from "../_seed.ts";
import { test, workerUrl } from "../workers/_processes.ts";
import type { Kind, Plan } from "../workers/ending.ts";

const KINDS: Kind[] = [
  "notify",
  "calls",
  "slowCalls",
  "stream",
  "readable",
  "callback",
  "kept",
];
const SIDES: Plan["by"][] = ["main", "worker", "both"];
const WAYS: Plan["how"][] = ["close", "using", "abort"];
/** At the first event, in the middle, and after batches of events. */
const MOMENTS = [1, 7, 60];

const EXEC = Deno.execPath();
/** Runs a program; fails if it prints anything but a number. */
async function run(name: string, args: string[], count: number) {
  const { code, stdout, stderr } = await new Deno.Command(EXEC, {
    args: [
      ...["run", "--quiet", "--no-prompt", "--unstable-worker-options"],
      ...["--allow-read", "--allow-write", "--allow-net"],
      `--allow-run=${EXEC}`,
      ...[workerUrl(name).href, ...args],
    ],
    env: { NO_COLOR: "1" },
  }).output();
  const decoder = new TextDecoder();
  assertEquals(
    [code, decoder.decode(stderr), decoder.decode(stdout)],
    [0, "", `${count}\n`],
  );
}

function runPlans(transport: string, plans: Plan[]): Promise<void> {
  const args = [transport, JSON.stringify(plans)];
  return run("ending_main", args, plans.length);
}

const SEED = seed();

/** The plans with every way to end, by every side. */
function table(moments: number[], lists: Kind[][]): Plan[] {
  return SIDES.flatMap((by) =>
    WAYS.flatMap((how) =>
      moments.flatMap((at) => lists.map((kinds) => ({ kinds, by, how, at })))
    )
  );
}

/** Plans that a seed draws. */
function randomPlans(count: number): Plan[] {
  const draw = random(SEED);
  const pick = <T>(list: readonly T[]): T =>
    list[Math.floor(draw() * list.length)]!;
  return Array.from({ length: count }, () => ({
    kinds: KINDS.filter(() => draw() < 0.5).concat(pick(KINDS)),
    by: pick(SIDES),
    how: pick(WAYS),
    at: 1 + Math.floor(draw() * draw() * 300),
  }));
}

const ALONE = KINDS.map((kind) => [kind]);
// A worker takes 20 ms to open, so its actions run together at most moments.
const FEW = [
  ...table([1, 60], [KINDS]),
  ...table([7], ALONE).filter(({ by, how }) =>
    by !== "both" && how !== "using"
  ),
];
const ALL = table(MOMENTS, [KINDS, ...ALONE]);

for (
  const [transport, plans] of Object.entries({
    pair: ALL,
    tcp: ALL,
    unix: ALL,
    pipe: FEW,
    queue: FEW,
    shm: FEW,
  })
) {
  test(
    `Duplex.close() and abort() leave no uncaught error at any moment: ${transport}`,
    async (t) => {
      if (transport === "unix" && Deno.build.os === "windows") return;
      const folder = transport === "unix"
        ? await Deno.makeTempDir()
        : undefined;
      try {
        const address = folder ?? transport;
        await t.step("table", () => runPlans(address, plans));
        await t.step("random", () => runPlans(address, randomPlans(8)));
      } finally {
        if (folder !== undefined) {
          await Deno.remove(folder, { recursive: true });
        }
      }
    },
    { run: [EXEC], read: true, write: true },
  );
}

test(
  "Pool.close() and abort() leave no uncaught error while workers notify",
  () => run("ending_pool", ["main"], 20),
  { run: [EXEC] },
);
