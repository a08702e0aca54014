// Copyright 2026 the Duplex authors. MIT license.

/**
 * One run of the demonstration: all files go through the workers of one
 * transport, and what comes back is checked.
 *
 * @module
 */

import type { Duplex } from "@duplex/ipc/duplex";
import {
  describeFile,
  type FileFacts,
  type Unreadable,
} from "./_demo_files.ts";

/** What a worker answers. */
export type Answer = FileFacts | Unreadable;

/** The main process's end of the duplex to a worker. */
export type WorkerDuplex = Duplex<Answer, string>;

/** A way to open a worker. */
export interface Transport {
  /** What the table calls it. */
  readonly name: string;
  /** Makes ready what workers need that may read the folder and nothing else. */
  setUp?(folder: string, workers: number): Promise<void>;
  /** Opens a worker that may read the folder and do nothing else. */
  open(folder: string): Promise<WorkerDuplex>;
  /** Ends what `setUp` has begun, also where it has failed. */
  tearDown?(): Promise<void>;
}

/** What there is to do. */
export interface Job {
  /** The folder that the workers may read. */
  folder: string;
  /** How many workers there are. */
  workers: number;
  /** What the main process found out about each file, by path. */
  expected: ReadonlyMap<string, FileFacts>;
  /** A file outside of the folder, if there is one to ask for. */
  outside: string | undefined;
}

/** What a run has shown. */
export interface Outcome {
  transport: string;
  workers: number;
  files: number;
  bytes: number;
  /** Messages, both ways. */
  messages: number;
  /** Milliseconds until all workers had said hello. */
  startMs: number;
  /** Milliseconds from the first question to the last answer. */
  ms: number;
  /** What went wrong, a line each. */
  problems: string[];
  /** What a worker said when it was asked for the file outside. */
  denial: string | undefined;
}

/**
 * Paths that a worker has at a time. One answers while the next wait at its
 * door, so it never waits for the main process.
 */
const IN_FLIGHT = 16;

/**
 * Lets the workers of a transport describe all files.
 *
 * @param transport How to open a worker.
 * @param job The files and how many workers there are.
 * @returns What it has shown.
 */
export async function runTransport(
  transport: Transport,
  job: Job,
): Promise<Outcome> {
  try {
    // A server is there before its peers are, so it has no part in their start.
    await transport.setUp?.(job.folder, job.workers);
    return await run(transport, job);
  } finally {
    await transport.tearDown?.();
  }
}

async function run(transport: Transport, job: Job): Promise<Outcome> {
  const { folder, workers, expected } = job;
  const start = performance.now();
  const duplexes = await openAll(transport, folder, workers);
  const opened = performance.now();
  try {
    const answers: Answer[] = [];
    const paths = expected.keys();
    await Promise.all(duplexes.map((duplex) => drive(duplex, paths, answers)));
    const done = performance.now();
    const denial = await askOutside(duplexes[0]!, job.outside);
    const problems = await checkAnswers(answers, expected);
    if (job.outside !== undefined && denial === undefined) {
      problems.push(`${job.outside}: a worker could read it, and must not`);
    }
    let bytes = 0;
    for (const { size } of expected.values()) bytes += size;
    await Promise.all(duplexes.map((duplex) => duplex.close()));
    return {
      transport: transport.name,
      workers,
      files: expected.size,
      bytes,
      messages: expected.size + answers.length,
      startMs: opened - start,
      ms: done - opened,
      problems,
      denial,
    };
  } catch (error) {
    for (const duplex of duplexes) duplex.abort(error);
    throw error;
  } finally {
    await Promise.allSettled(duplexes.map((duplex) => duplex.closed));
  }
}

/** Opens all workers, or none. */
async function openAll(
  transport: Transport,
  folder: string,
  workers: number,
): Promise<WorkerDuplex[]> {
  const results = await Promise.allSettled(
    Array.from({ length: workers }, () => transport.open(folder)),
  );
  const duplexes = results.flatMap((result) =>
    result.status === "fulfilled" ? [result.value] : []
  );
  const failed = results.find((result) => result.status === "rejected");
  if (failed === undefined) return duplexes;
  for (const duplex of duplexes) duplex.abort(failed.reason);
  await Promise.allSettled(duplexes.map((duplex) => duplex.closed));
  throw failed.reason;
}

/** Keeps one worker supplied until no path is left and all are answered. */
async function drive(
  duplex: WorkerDuplex,
  paths: Iterator<string>,
  answers: Answer[],
): Promise<void> {
  let waiting = 0;
  const ask = async () => {
    const { value, done } = paths.next();
    if (done) return;
    waiting++;
    await duplex.send(value);
  };
  for (let count = 0; count < IN_FLIGHT; count++) await ask();
  while (waiting > 0) {
    answers.push(await duplex.receive());
    waiting--;
    await ask();
  }
}

/** Asks for a file that the worker may not read; returns how it was refused. */
async function askOutside(
  duplex: WorkerDuplex,
  path: string | undefined,
): Promise<string | undefined> {
  if (path === undefined) return undefined;
  await duplex.send(path);
  const answer = await duplex.receive();
  return "error" in answer && answer.error.name === "NotCapable"
    ? `${answer.error.name}: ${answer.error.message}`
    : undefined;
}

/**
 * Holds what the workers answered against what the main process found out.
 *
 * @param answers The answers.
 * @param expected What the main process found out about each file, by path.
 * @returns What is wrong, a line each.
 */
export async function checkAnswers(
  answers: readonly Answer[],
  expected: ReadonlyMap<string, FileFacts>,
): Promise<string[]> {
  const problems: string[] = [];
  const missing = new Set(expected.keys());
  for (const answer of answers) {
    const { path } = answer;
    if (!missing.delete(path)) {
      problems.push(`${path}: answered and not asked for`);
    } else if ("error" in answer) {
      problems.push(`${path}: ${answer.error.name}: ${answer.error.message}`);
    } else if (!isSame(answer, expected.get(path)!)) {
      // The file may have been written to since.
      const now = await describeFile(path).catch(() => undefined);
      if (now !== undefined && isSame(answer, now)) continue;
      problems.push(
        `${path}: the worker says ${factsAsText(answer)} and the main process ${
          factsAsText(expected.get(path)!)
        }`,
      );
    }
  }
  for (const path of missing) problems.push(`${path}: no answer came`);
  return problems;
}

function isSame(one: FileFacts, other: FileFacts): boolean {
  return one.size === other.size && one.lines === other.lines &&
    one.sha256 === other.sha256;
}

function factsAsText({ size, lines, sha256 }: FileFacts): string {
  return `${size} bytes, ${lines} lines, ${sha256}`;
}
