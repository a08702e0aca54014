// Copyright 2026 the Duplex authors. MIT license.

/**
 * Queues whose workers die by lot, and a checker that counts what was lost, what
 * came twice and what nobody had asked for.
 *
 * @module
 */

import { PeerExitError } from "@duplex/ipc/duplex";
import {
  type FailedMessage,
  openQueue,
  type QueueOptions,
} from "@duplex/ipc/queue";
import { workerUrl } from "../workers/_processes.ts";
import type { Done, How, Job, Where } from "../workers/queue_dies.ts";

const HOWS: How[] = ["throw", "close", "exit", "reject"];
const WHERES: Where[] = [
  "taken",
  "inHand",
  "answered",
  "answering",
  "later",
  "goodbye",
];

/** Draws one of a list. */
export function pick<T>(draw: () => number, items: readonly T[]): T {
  return items[Math.floor(draw() * items.length)]!;
}

/**
 * Lets workers die at their start by lot, until it is disposed of. A worker can
 * receive nothing before its hello but its URL, to which a drawn part is added.
 */
export class Fates implements Disposable {
  readonly #worker = globalThis.Worker;
  /** Workers started. */
  started = 0;

  /** @param rate How many of all workers die at their start, from 0 to 1. */
  constructor(draw: () => number, rate: number) {
    const next = () => {
      this.started++;
      return draw() >= rate
        ? ""
        : `fate-${pick(draw, ["start", "hello"])}-${pick(draw, HOWS)}`;
    };
    globalThis.Worker = class extends this.#worker {
      constructor(specifier: string | URL, options?: WorkerOptions) {
        const url = new URL(specifier);
        url.hash = next();
        super(url, options);
      }
    };
  }

  [Symbol.dispose](): void {
    globalThis.Worker = this.#worker;
  }
}

/** What one run is drawn to be. */
export interface Plan {
  options: QueueOptions;
  jobs: Job[];
  /** Whether `onFailed` is given. */
  takesFailed: boolean;
}

/** Draws a plan. Every second one counts in shared memory what was taken. */
export function drawPlan(draw: () => number): Plan {
  const count = 3 + Math.floor(draw() * 10);
  const retries = pick(draw, [0, 1, 2]);
  const log = draw() < 0.5
    ? new Int32Array(new SharedArrayBuffer(8 * count))
    : undefined;
  const jobs = Array.from({ length: count }, (_, id): Job => {
    const size = () => draw() < 0.05 ? 600_000 : Math.floor(draw() * 2000);
    const deaths = draw() < 0.8 ? [] : Array.from(
      { length: draw() < 0.3 ? retries + 1 : 1 },
      (): [Where, How] => [pick(draw, WHERES), pick(draw, HOWS)],
    );
    const isLarge = deaths.some(([where]) => where === "answering");
    return {
      id,
      answers: pick(draw, [0, 1, 1, 1, 2]),
      padding: new Uint8Array(size()).fill(id),
      answerSize: isLarge ? 900_000 : size(),
      deaths,
      log,
    };
  });
  const options: QueueOptions = {
    workers: pick(draw, [1, 1, 2, 3]),
    ordered: draw() < 0.5,
    retries,
    restart: draw() >= 0.1,
    permissions: { read: [new URL("../..", import.meta.url)] },
  };
  if (draw() < 0.5) options.capacity = 1 + Math.floor(draw() * count);
  if (draw() < 0.3) options.windowMessages = 1 + Math.floor(draw() * 4);
  return { options, jobs, takesFailed: draw() < 0.7 };
}

/** What came of a run. */
export interface Outcome {
  /** What was accepted by the queue. */
  accepted: Set<number>;
  answers: Done[];
  failed: FailedMessage[];
  /** How the queue ended, where it was not in good order. */
  error: unknown;
}

/** Plays a plan to its end, with everything settled. */
export async function play(plan: Plan): Promise<Outcome> {
  const outcome: Outcome = {
    accepted: new Set(),
    answers: [],
    failed: [],
    error: undefined,
  };
  const options = plan.takesFailed
    ? {
      ...plan.options,
      onFailed: (failed: FailedMessage) => outcome.failed.push(failed),
    }
    : plan.options;
  try {
    const queue = await openQueue<Done, Job>(workerUrl("queue_dies"), options);
    const sends = plan.jobs.map(async (job) => {
      await queue.send(job);
      outcome.accepted.add(job.id);
    });
    const receiving = (async () => {
      for await (const answer of queue) outcome.answers.push(answer);
    })();
    const closing = queue.close({ timeout: 15_000 });
    await Promise.allSettled([...sends, receiving, closing, queue.closed]);
    await closing;
  } catch (error) {
    outcome.error = error;
  }
  return outcome;
}

/** Everything that is wrong with an outcome. */
export function faultsOf(plan: Plan, outcome: Outcome): string[] {
  const { accepted, answers, failed, error } = outcome;
  const faults: string[] = [];
  const unsent = error instanceof PeerExitError
    ? error.unsent.map((job) => (job as Job).id)
    : [];
  if (error !== undefined && !(error instanceof PeerExitError)) {
    faults.push(`ended with ${error}`);
  }
  const answered = new Map<number, number>();
  const seen = new Set<string>();
  for (const { id, part, attempt, padding } of answers) {
    answered.set(id, (answered.get(id) ?? 0) + 1);
    const key = `${id}/${part}`;
    if (seen.has(key)) faults.push(`${key} came twice, attempt ${attempt}`);
    seen.add(key);
    const { answerSize } = plan.jobs[id]!;
    if (padding.length !== answerSize || padding.some((byte) => byte !== id)) {
      faults.push(`${key} came damaged`);
    }
  }
  const failedIds = failed.map(({ message }) => (message as Job).id);
  for (const { id, answers, deaths, log } of plan.jobs) {
    const fates =
      [answered.has(id), failedIds.includes(id), unsent.includes(id)]
        .filter((is) => is).length;
    if (fates > 1) faults.push(`${id} ended in more than one way`);
    if (accepted.has(id) && answers > 0 && fates === 0) {
      faults.push(`${id} is lost`);
    }
    if (!accepted.has(id) && fates > 0) faults.push(`${id} was not sent`);
    const isInnocent = deaths.length === 0 && plan.options.retries !== 0;
    if (isInnocent && failedIds.includes(id)) faults.push(`${id} is innocent`);
    if (log === undefined) continue;
    const unmarked = log[2 * id]!;
    const times = unmarked + log[2 * id + 1]!;
    if (unmarked > 1) faults.push(`${id} came ${unmarked} times unmarked`);
    if (times > plan.options.retries! + 1) {
      faults.push(`${id} came ${times} times`);
    }
    if (accepted.has(id) && error === undefined && times === 0) {
      faults.push(`${id} was never taken`);
    }
  }
  for (const { attempts } of failed) {
    if (attempts !== plan.options.retries! + 1) faults.push("failed too early");
  }
  if (plan.options.ordered) {
    const order = answers.map(({ id, part }) => id * 10 + part);
    if (order.some((key, index) => index > 0 && key < order[index - 1]!)) {
      faults.push(`out of order: ${order}`);
    }
  }
  return faults;
}
