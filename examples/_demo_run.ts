// Copyright 2026 the Duplex authors. MIT license.

/**
 * One run of the demonstration: the workers of one transport describe all files,
 * and the answers are checked.
 *
 * @module
 */

import type { Duplex } from "@duplex/ipc/duplex";
import {
  describeFile,
  type FileFacts,
  type Unreadable,
} from "./_demo_files.ts";

/** The answer of a worker. */
export type Answer = FileFacts | Unreadable;

/** The main process's end of the duplex to a worker. */
export type WorkerDuplex = Duplex<Answer, string>;

/** A way to open a worker. */
export interface Transport {
  /** The name in the table. */
  readonly name: string;
  /** Prepares for workers that may only read the folder. */
  setUp?(folder: string, workers: number): Promise<void>;
  /** Opens a worker that may only read the folder. */
  open(folder: string): Promise<WorkerDuplex>;
  /** Undoes `setUp`, including one that failed. */
  tearDown?(): Promise<void>;
}

/** The task of a run. */
export interface Job {
  /** The folder that the workers may read. */
  folder: string;
  /** Number of workers. */
  workers: number;
  /** The descriptions of the main process, by path. */
  expected: ReadonlyMap<string, FileFacts>;
  /** A file outside the folder that workers must not read, if there is one. */
  outside: string | undefined;
}

/** The result of a run. */
export interface Outcome {
  transport: string;
  workers: number;
  files: number;
  bytes: number;
  /** Messages in both directions. */
  messages: number;
  /** Milliseconds until all workers had sent hello. */
  startMs: number;
  /** Milliseconds from the first request to the last answer. */
  ms: number;
  /** The problems, one line each. */
  problems: string[];
  /** The error of a worker for the file outside the folder. */
  denial: string | undefined;
}

/**
 * Number of paths that a worker has at a time. The next paths arrive while it
 * handles one, so it does not wait for the main process.
 */
const IN_FLIGHT = 16;

/**
 * Has the workers of a transport describe all files.
 *
 * @param transport How to open a worker.
 * @param job The files and the number of workers.
 * @returns The result.
 */
export async function runTransport(
  transport: Transport,
  job: Job,
): Promise<Outcome> {
  try {
    // A server starts before its peers do, so the start time does not include it.
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
      problems.push(
        `${job.outside}: a worker could read it although it must not`,
      );
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

/** Opens all workers. If one fails, the others are aborted. */
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

/** Sends paths to one worker until all are sent and answered. */
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

/** Requests a file that the worker must not read; returns the error. */
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
 * Compares the answers of the workers with the descriptions of the main process.
 *
 * @param answers The answers.
 * @param expected The descriptions of the main process, by path.
 * @returns The problems, one line each.
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
      problems.push(`${path}: answered but not requested`);
    } else if ("error" in answer) {
      problems.push(`${path}: ${answer.error.name}: ${answer.error.message}`);
    } else if (!isSame(answer, expected.get(path)!)) {
      // The file may have changed since.
      const now = await describeFile(path).catch(() => undefined);
      if (now !== undefined && isSame(answer, now)) continue;
      problems.push(
        `${path}: the worker has ${factsAsText(answer)}; the main process has ${
          factsAsText(expected.get(path)!)
        }`,
      );
    }
  }
  for (const path of missing) problems.push(`${path}: no answer`);
  return problems;
}

function isSame(one: FileFacts, other: FileFacts): boolean {
  return one.size === other.size && one.lines === other.lines &&
    one.sha256 === other.sha256;
}

function factsAsText({ size, lines, sha256 }: FileFacts): string {
  return `${size} bytes, ${lines} lines, ${sha256}`;
}
