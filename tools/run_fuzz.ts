// Copyright 2026 the Duplex authors. MIT license.

/**
 * The campaign of hostile inputs: wrong bytes, messages, posts and arguments for all
 * readers, as many as the time allows.
 *
 * `deno task fuzz [--minutes N] [--seed S|random] [--only NAME]` prints the seed, and
 * for an input that fails the error and the shortest input found with it. It keeps
 * that input in `tests/corpus/fuzz/`, which `deno task test` runs, and exits with
 * code 1.
 *
 * @module
 */

import { deflateRawSync } from "node:zlib";
import type { Bytes } from "../tests/fuzz/draw.ts";
import type { Order, Report } from "../tests/fuzz/runner.ts";
import { TARGETS } from "../tests/fuzz/targets.ts";
import {
  corpusFolder,
  readCampaignOptions,
  runWatched,
  shrink,
} from "./_campaign.ts";

/** Milliseconds within which a group of inputs must have ended. */
const GROUP_LIMIT = 120_000;

/** Milliseconds within which a single input must have ended. */
const INPUT_LIMIT = 30_000;

/** Milliseconds for finding a shorter input that fails. */
const SHRINK_TIME = 60_000;

/** Shorter inputs that one process tries, and their bytes. */
const SHRINK_BATCH = 200;
const MAX_BATCH_SIZE = 4 * 2 ** 20;

/** Failures after which the campaign ends. */
const MAX_FAILURES = 10;

/** MiB of a process's heap: several times the memory limit of a message. */
const MAX_HEAP = 2_048;

/** Bytes above which an input is kept compressed. */
const MAX_PLAIN_SIZE = 4_096;

/** Seeds that one batch may take at most. */
const SEEDS = 2 ** 17;

const RUNNER = new URL("../tests/fuzz/runner.ts", import.meta.url);

/** An input that failed. */
interface Failure {
  readonly target: string;
  readonly input: Bytes;
  readonly error: string;
}

/** The progress of a target. */
interface Account {
  inputs: number;
  bytes: number;
  ms: number;
  longest: number;
}

/** Runs inputs in a process of their own. */
async function runOrder(
  order: Order,
  limit: number,
): Promise<{ reports: Report[]; fault: string | undefined }> {
  const count = order.inputs?.length ?? order.count!;
  // An argument may be too short for it.
  const file = await Deno.makeTempFile({ prefix: "duplex_fuzz_" });
  try {
    await Deno.writeTextFile(file, JSON.stringify(order));
    const { lines, fault } = await runWatched(
      [
        "run",
        "-A",
        "--no-check",
        "--unstable-worker-options",
        `--v8-flags=--expose-gc,--max-old-space-size=${MAX_HEAP}`,
        RUNNER.href,
        file,
      ],
      Math.ceil(count / order.group),
      limit,
    );
    return { reports: lines.map((line) => JSON.parse(line)), fault };
  } finally {
    await Deno.remove(file);
  }
}

/** Finds the input of a group that ended its process. */
async function findCulprit(
  order: Order,
  start: number,
  fault: string,
): Promise<Failure | string> {
  const { target, seed = 0, group } = order;
  const again = { target, seed: seed + start, count: group, group: 1 };
  const { reports, fault: found } = await runOrder(again, INPUT_LIMIT);
  const failed = reports.flatMap(({ failures }) => failures)[0];
  if (failed !== undefined) {
    const input = Uint8Array.fromBase64(failed.input);
    return { target, input, error: failed.error };
  }
  if (found === undefined) {
    return `${target}, seeds ${seed + start} to ${
      seed + start + group - 1
    }: ${fault}\nNo single one of these inputs fails.`;
  }
  const { Draw } = await import("../tests/fuzz/draw.ts");
  const index = Math.min(reports.length, group - 1);
  const input = TARGETS[target]!.make(Draw.seeded(seed + start + index));
  return { target, input, error: found };
}

/** Runs a batch of a target. */
async function runBatch(
  target: string,
  seed: number,
  account: Account,
): Promise<(Failure | string)[]> {
  const { batch, group } = TARGETS[target]!;
  const order: Order = { target, seed, count: batch, group };
  const { reports, fault } = await runOrder(order, GROUP_LIMIT);
  for (const { count, size, ms, longest } of reports) {
    account.inputs += count;
    account.bytes += size;
    account.ms += ms;
    account.longest = Math.max(account.longest, longest);
  }
  const failures: (Failure | string)[] = reports
    .flatMap(({ failures }) => failures)
    .map(({ input, error }) => ({
      target,
      input: Uint8Array.fromBase64(input),
      error,
    }));
  if (fault !== undefined) {
    const start = Math.min(reports.length * group, batch - group);
    failures.push(await findCulprit(order, start, fault));
  }
  return failures;
}

/** The key of a failure: equal for failures of one kind. */
function kindOf(error: string): string {
  return error.split("\n", 1)[0]!.replace(/\d+(\.\d+)?/g, "N").slice(0, 40);
}

/** The first of some inputs that fails alike. */
async function firstFailing(
  target: string,
  inputs: readonly Bytes[],
  kind: string,
): Promise<Bytes | undefined> {
  const list = inputs.map((input) => input.toBase64());
  const order = { target, inputs: list, group: 1 };
  const { reports, fault } = await runOrder(order, INPUT_LIMIT);
  const failed = reports.flatMap(({ failures }) => failures)
    .find(({ error }) => kindOf(error) === kind);
  if (failed !== undefined) return inputs[failed.index];
  return fault !== undefined && kindOf(fault) === kind
    ? inputs[reports.length]
    : undefined;
}

/** A shorter input that fails alike. */
async function shorten({ target, input, error }: Failure): Promise<Bytes> {
  const kind = kindOf(error);
  const end = performance.now() + SHRINK_TIME;
  // Each step runs a batch of candidates and continues with the first that fails.
  function* batches(of: Bytes): Generator<Bytes[]> {
    let batch: Bytes[] = [];
    let size = 0;
    for (const candidate of TARGETS[target]!.smaller(of)) {
      batch.push(candidate);
      size += candidate.length;
      if (batch.length < SHRINK_BATCH && size < MAX_BATCH_SIZE) continue;
      yield batch;
      [batch, size] = [[], 0];
    }
    if (batch.length > 0) yield batch;
  }
  let found: Bytes = input;
  const smallest = await shrink<Bytes[]>(
    [input],
    ([of]) => batches(of!),
    async (batch) => {
      const failing = await firstFailing(target, batch, kind);
      if (failing === undefined) return false;
      batch.splice(0, batch.length, failing);
      found = failing;
      return true;
    },
    end,
  );
  return smallest[0] ?? found;
}

/** Shows a failure and a short input that fails, and keeps that. */
async function report(failure: Failure): Promise<void> {
  const { target, error } = failure;
  console.log(`\nFAILED: ${target}, ${failure.input.length} bytes\n${error}`);
  const input = await shorten(failure);
  console.log(`The shortest input found has ${input.length} bytes:`);
  console.log(input.subarray(0, 400).toHex());
  const hash = await crypto.subtle.digest("SHA-256", input);
  const name = new Uint8Array(hash).subarray(0, 4).toHex();
  const folder = corpusFolder("fuzz");
  await Deno.mkdir(folder, { recursive: true });
  const file = new URL(`${target}_${name}.json`, folder);
  const kept = {
    target,
    error: error.split("\n", 1)[0],
    ...(input.length > MAX_PLAIN_SIZE
      ? { deflated: new Uint8Array(deflateRawSync(input)).toBase64() }
      : { input: input.toBase64() }),
  };
  await Deno.writeTextFile(file, `${JSON.stringify(kept, undefined, 2)}\n`);
  console.log(`Kept in ${file.pathname}`);
}

/** A line with the progress of a target. */
function summary(name: string, account: Account): string {
  const { inputs, bytes, ms, longest } = account;
  const rate = Math.round(inputs / Math.max(ms, 1) * 1_000);
  return `  ${name.padEnd(12)} ${
    String(inputs).padStart(9)
  } inputs, ${rate} a second, ${
    Math.round(bytes / Math.max(inputs, 1))
  } bytes each, at most ${longest} ms`;
}

async function main(): Promise<void> {
  const names = Object.keys(TARGETS);
  const { minutes, seed, only } = readCampaignOptions(Deno.args, names);
  console.log(`Seed ${seed}, ${minutes} minutes`);
  const end = performance.now() + minutes * 60_000;
  const chosen = only === undefined ? names : [only];
  const accounts = new Map(chosen.map((name): [string, Account] => [
    name,
    { inputs: 0, bytes: 0, ms: 0, longest: 0 },
  ]));
  const failures: (Failure | string)[] = [];
  let next = 0;
  async function lane(): Promise<void> {
    while (performance.now() < end && failures.length < MAX_FAILURES) {
      const batch = next++;
      const target = chosen[batch % chosen.length]!;
      const account = accounts.get(target)!;
      failures.push(...await runBatch(target, seed + batch * SEEDS, account));
    }
  }
  const lanes = navigator.hardwareConcurrency;
  await Promise.all(Array.from({ length: lanes }, lane));
  const kinds = new Set<string>();
  for (const failure of failures) {
    if (typeof failure === "string") {
      console.log(`\nFAILED: ${failure}`);
      continue;
    }
    const kind = `${failure.target} ${kindOf(failure.error)}`;
    if (kinds.has(kind)) continue;
    kinds.add(kind);
    await report(failure);
  }
  console.log("Inputs:");
  for (const [name, account] of accounts) console.log(summary(name, account));
  console.log(`${failures.length} failed`);
  Deno.exit(failures.length === 0 ? 0 : 1);
}

if (import.meta.main) await main();
