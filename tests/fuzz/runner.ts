// Copyright 2026 the Duplex authors. MIT license.

/**
 * Passes inputs to one target in turn, in a separate process. The campaign thus
 * also detects what ends the process, fills its memory or never returns.
 *
 * Its argument is a file with an {@linkcode Order} as JSON. It prints a
 * {@linkcode Report} per group of inputs as a line of JSON, and exits
 * automatically.
 *
 * @module
 */

import { type Bytes, Draw } from "./draw.ts";
import { attempt, show, type Target, turn, Violation } from "./harness.ts";
import { TARGETS } from "./targets.ts";

/** The inputs to run. */
export interface Order {
  readonly target: string;
  /** Seeds of inputs: the first one, and their number. */
  readonly seed?: number;
  readonly count?: number;
  /** Inputs in base64, instead of seeds. */
  readonly inputs?: readonly string[];
  /** Inputs per line of output. */
  readonly group: number;
}

/** An input that failed. */
export interface FailedInput {
  /** Its index in the order. */
  readonly index: number;
  readonly error: string;
  /** The input in base64. */
  readonly input: string;
}

/** The result of a group of inputs. */
export interface Report {
  /** The number of inputs. */
  readonly count: number;
  /** Their bytes. */
  readonly size: number;
  /** Their total time in milliseconds, and the longest time. */
  readonly ms: number;
  readonly longest: number;
  readonly failures: readonly FailedInput[];
}

/** Failures after which the rest of an order is skipped. */
const MAX_FAILURES = 3;

let unhandled: { readonly reason: unknown } | undefined;

globalThis.addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  unhandled ??= { reason: event.reason };
});

globalThis.addEventListener("error", (event) => {
  event.preventDefault();
  unhandled ??= { reason: event.error };
});

function textOf(error: unknown): string {
  return error instanceof Violation ? error.message : show(error);
}

/** Runs an input; returns the failure, if any. */
async function findFault(
  target: Target,
  input: Bytes,
): Promise<{ ms: number; error: string | undefined }> {
  let ms = 0;
  let error: string | undefined;
  try {
    ms = await attempt(target, input, true);
    // A rejection is reported as unhandled one turn later.
    if (target.isAsync) await turn();
  } catch (thrown) {
    error = textOf(thrown);
  }
  if (unhandled !== undefined) {
    error ??= `Unhandled: ${show(unhandled.reason)}`;
    unhandled = undefined;
  }
  return { ms, error };
}

async function main(): Promise<void> {
  const order: Order = JSON.parse(await Deno.readTextFile(Deno.args[0]!));
  const { inputs, seed = 0, group } = order;
  const target = TARGETS[order.target]!;
  const count = inputs?.length ?? order.count!;
  let failed = 0;
  for (let start = 0; start < count; start += group) {
    const end = failed < MAX_FAILURES ? Math.min(start + group, count) : start;
    const failures: FailedInput[] = [];
    const begun = performance.now();
    let size = 0;
    let longest = 0;
    for (let index = start; index < end; index++) {
      const input = inputs === undefined
        ? target.make(Draw.seeded(seed + index))
        : Uint8Array.fromBase64(inputs[index]!);
      size += input.length;
      const { ms, error } = await findFault(target, input);
      longest = Math.max(longest, ms);
      if (error !== undefined) {
        failures.push({ index, error, input: input.toBase64() });
      }
    }
    failed += failures.length;
    const report: Report = {
      count: end - start,
      size,
      ms: Math.round(performance.now() - begun),
      longest: Math.round(longest * 10) / 10,
      failures,
    };
    console.log(JSON.stringify(report));
  }
  await target.end?.();
}

main();
