// Copyright 2026 the Duplex authors. MIT license.

/**
 * Runs the tests and the examples of the documentation in groups of files, one on each
 * core: `deno task test`. The output of a group is printed at its end, and the last
 * line has the total.
 *
 * With arguments it runs one `deno test` with them, which traces leaks:
 * `deno task test tests/pool/pool_test.ts --filter map`.
 *
 * @module
 */

import { passSignals, runCommand } from "./_run.ts";

const ROOT = new URL("../", import.meta.url);

const FLAGS = [
  "test",
  "-A",
  "--doc",
  "--no-check",
  "--sanitize-ops",
  "--sanitize-resources",
];

/** Says where a leak began, and makes tests with many operations slower by a third. */
const TRACE_LEAKS = "--trace-leaks";

/** Files that one `deno test` takes: few, so that the last ones end together. */
const GROUP_SIZE = 8;

/** A group takes up to a minute; a test that never ends must not stop the others. */
const GROUP_TIMEOUT_MS = 10 * 60_000;

/** How a group ended. */
interface Outcome {
  readonly success: boolean;
  readonly passed: number;
  readonly failed: number;
}

/** The files in a folder, and in those inside it, whose names end in this way. */
function filesIn(folder: string, ending: string): string[] {
  return [...Deno.readDirSync(new URL(folder, ROOT))].flatMap((entry) => {
    const { name, isFile, isDirectory } = entry;
    if (isDirectory) return filesIn(`${folder}${name}/`, ending);
    return isFile && name.endsWith(ending) ? [`${folder}${name}`] : [];
  }).sort();
}

/** The code of the package: the files at the root, and the folders of private ones. */
function codeFiles(): string[] {
  return [...Deno.readDirSync(ROOT)].flatMap(
    ({ name, isFile, isDirectory }) => {
      if (isFile && name.endsWith(".ts")) return [name];
      return isDirectory && name.startsWith("_")
        ? filesIn(`${name}/`, ".ts")
        : [];
    },
  ).sort();
}

function hasExample(file: string): boolean {
  return Deno.readTextFileSync(new URL(file, ROOT)).includes(" * ```ts");
}

/**
 * The files in groups. Neighbours in the alphabet, which often take equally long, are in
 * different groups.
 */
function groups(): string[][] {
  const files = [
    ...filesIn("tests/", "_test.ts"),
    ...filesIn("tools/", "_test.ts"),
    // Other files have no examples.
    ...codeFiles().filter(hasExample),
  ];
  const count = Math.ceil(files.length / GROUP_SIZE);
  return Array.from(
    { length: count },
    (_, group) => files.filter((_, index) => index % count === group),
  );
}

/** The groups that run. */
const RUNNING = new Set<Deno.ChildProcess>();

/** Runs a group and prints its output. */
async function run(files: readonly string[]): Promise<Outcome> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [...FLAGS, ...files],
    cwd: ROOT,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  RUNNING.add(child);
  const output = collect(child.stdout);
  const errors = collect(child.stderr);
  const timer = setTimeout(() => child.kill("SIGKILL"), GROUP_TIMEOUT_MS);
  const { success, signal } = await child.status;
  clearTimeout(timer);
  RUNNING.delete(child);
  // Processes of a killed group may keep its streams open.
  const end = signal === null ? undefined : AbortSignal.timeout(1000);
  const [stdout, stderr] = [await output(end), await errors(end)];
  write(Deno.stderr, stderr);
  write(Deno.stdout, stdout);
  if (signal === "SIGKILL") {
    const minutes = GROUP_TIMEOUT_MS / 60_000;
    console.log(`Ended after ${minutes} minutes: ${files.join(" ")}`);
  }
  const text = new TextDecoder().decode(stdout)
    // deno-lint-ignore no-control-regex
    .replaceAll(/\x1b\[[\d;]*m/g, "");
  // The last one, because the output of a test may look the same.
  const [, passed = 0, failed = 0] = [
    ...text.matchAll(/^(?:ok|FAILED) \| (\d+) passed.* \| (\d+) failed/gm),
  ].at(-1) ?? [];
  // A group without a summary has failed as well.
  const least = success ? 0 : 1;
  return {
    success,
    passed: Number(passed),
    failed: Math.max(least, Number(failed)),
  };
}

/**
 * Reads a stream.
 *
 * @returns The text, when the stream has ended or the signal is aborted.
 */
function collect(
  stream: ReadableStream<Uint8Array>,
): (signal?: AbortSignal) => Promise<Uint8Array<ArrayBuffer>> {
  const parts: Uint8Array[] = [];
  const reader = stream.getReader();
  const end = (async () => {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      parts.push(value);
    }
  })();
  return async (signal) => {
    signal?.addEventListener("abort", () => reader.cancel());
    await end;
    return new Uint8Array(await new Blob(parts as BlobPart[]).arrayBuffer());
  };
}

/** Writes all of it; a pipe may take a part at a time. */
function write(stream: typeof Deno.stdout, bytes: Uint8Array): void {
  for (let start = 0; start < bytes.length;) {
    start += stream.writeSync(bytes.subarray(start));
  }
}

/** Runs all groups, and says whether all went well. */
async function runAll(): Promise<boolean> {
  const start = performance.now();
  const waiting = groups();
  const outcomes: Outcome[] = [];
  // A group that a signal ends has failed; no other group begins.
  passSignals(RUNNING, () => waiting.length = 0);
  await Promise.all(
    Array.from({ length: navigator.hardwareConcurrency }, async () => {
      let files: string[] | undefined;
      while ((files = waiting.shift()) !== undefined) {
        outcomes.push(await run(files));
      }
    }),
  );
  const sum = (of: (outcome: Outcome) => number) =>
    outcomes.reduce((total, outcome) => total + of(outcome), 0);
  const success = outcomes.every(({ success }) => success);
  const seconds = Math.round((performance.now() - start) / 1000);
  console.log(
    `${success ? "ok" : "FAILED"} | ${sum(({ passed }) => passed)} passed | ${
      sum(({ failed }) => failed)
    } failed (${Math.floor(seconds / 60)}m ${seconds % 60}s)`,
  );
  return success;
}

if (import.meta.main) {
  if (Deno.args.length > 0) {
    Deno.exit(await runCommand("deno", [...FLAGS, TRACE_LEAKS, ...Deno.args]));
  }
  Deno.exit(await runAll() ? 0 : 1);
}
