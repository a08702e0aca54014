// Copyright 2026 the Duplex authors. MIT license.

/**
 * Compares streams of 64 KiB chunks through calls with the same chunks as plain
 * messages, over a pipe and over shared memory: `deno task bench streams`. `--quick`
 * does a fifth of it; arguments select scenarios by name.
 *
 * Each figure is the median of several rounds in which the contenders take turns. In
 * every round each one is a new program with a new worker; it warms up, measures
 * itself and ends. A megabyte has 1 000 000 bytes.
 *
 * @module
 */

import { type Contender, deno } from "./_contender.ts";
import { runScenarios, type Scenario } from "./_scenario.ts";

const TRANSPORTS = ["pipe", "shm"];
const MESSAGES = "plain messages";
const GENERATOR = "a generator";
const READABLE = "a ReadableStream";
const WRITABLE = "a WritableStream";

/** Chunks one way, in one of the given forms. */
function scenario(
  name: string,
  title: string,
  forms: readonly string[],
): Scenario {
  return {
    name,
    title,
    unit: "megabytes/s",
    isRate: true,
    count: 4_000,
    warm: 1_000,
    who: TRANSPORTS.flatMap((transport) =>
      [MESSAGES, ...forms].map((form) => `${transport}, ${form}`)
    ),
    targets: TRANSPORTS.flatMap((transport) =>
      forms.map((form) => ({
        label: `${transport}, ${form}`,
        text: `${transport}, ${form}, at least 0.80 times plain messages`,
        against: [`${transport}, ${MESSAGES}`],
        bound: 0.8,
      }))
    ),
  };
}

/** The scenarios with streams. */
export const STREAM_SCENARIOS: readonly Scenario[] = [
  scenario("chunks-out", "Chunks of 64 KiB one way, to the worker", [
    READABLE,
    WRITABLE,
  ]),
  scenario("chunks-in", "Chunks of 64 KiB one way, from the worker", [
    GENERATOR,
    READABLE,
  ]),
];

/** Their contenders. */
export const STREAM_CONTENDERS: readonly Contender[] = TRANSPORTS.flatMap((
  transport,
) =>
  [MESSAGES, GENERATOR, READABLE, WRITABLE].map((form) =>
    deno(`${transport}, ${form}`, "workers/streams_main.ts", {
      // Deno ends a process that starts a Web Worker with permissions without it.
      flags: ["--unstable-worker-options"],
      more: [transport, form],
    })
  )
);

if (import.meta.main) {
  await runScenarios(STREAM_SCENARIOS, STREAM_CONTENDERS);
}
