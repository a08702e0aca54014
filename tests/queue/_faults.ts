// Copyright 2026 the Duplex authors. MIT license.

/**
 * Queues whose workers die at random, and a checker for lost, repeated and
 * unexpected messages.
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
  "received",
  "inHand",
  "answered",
  "answering",
  "later",
  "goodbye",
];

/** Picks a random item of a list. */
export function pick<T>(draw: () => number, items: readonly T[]): T {
  return items[Math.floor(draw() * items.length)]!;
}

/**
/**
 * Lets workers die at their start at random, until it is disposed of. Before
 * its hello a worker receives nothing but its URL, so the random choice is
 * the URL's fragment.
 */
export class RandomDeaths implements Disposable {
  readonly #worker = globalThis.Worker;
  /** Workers started. */
  started = 0;

  /**
   * @param rate The fraction of workers that die at their start, from 0 to 1.
   */
  constructor(draw: () => number, rate: number) {
    const next = () => {
      this.started++;
      return draw() >= rate
        ? ""
        : `death-${pick(draw, ["start", "hello"])}-${pick(draw, HOWS)}`;
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

/** The plan of a run. */
export interface Plan {
  options: QueueOptions;
  jobs: Job[];
  /** Whether `onFailed` is given. */
  handlesFailed: boolean;
}

/**
 * Makes a random plan. Every second plan counts the received messages in shared
 * memory.
 */
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
  return { options, jobs, handlesFailed: draw() < 0.7 };
}

/** The outcome of a run. */
export interface Outcome {
  /** The messages that the queue accepted. */
  accepted: Set<number>;
  answers: Done[];
  failed: FailedMessage[];
  /** The error with which the queue ended, if any. */
  error: unknown;
}

/** Runs a plan until everything has settled. */
export async function play(plan: Plan): Promise<Outcome> {
  const outcome: Outcome = {
    accepted: new Set(),
    answers: [],
    failed: [],
    error: undefined,
  };
  const options = plan.handlesFailed
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

/** Lists all violations in an outcome. */
export function violationsOf(plan: Plan, outcome: Outcome): string[] {
  const { accepted, answers, failed, error } = outcome;
  const violations: string[] = [];
  const unsent = error instanceof PeerExitError
    ? error.unsent.map((job) => (job as Job).id)
    : [];
  if (error !== undefined && !(error instanceof PeerExitError)) {
    violations.push(`ended with ${error}`);
  }
  const answered = new Map<number, number>();
  const seen = new Set<string>();
  for (const { id, part, attempt, padding } of answers) {
    answered.set(id, (answered.get(id) ?? 0) + 1);
    const key = `${id}/${part}`;
    if (seen.has(key)) {
      violations.push(`${key} was received twice, attempt ${attempt}`);
    }
    seen.add(key);
    const { answerSize } = plan.jobs[id]!;
    if (padding.length !== answerSize || padding.some((byte) => byte !== id)) {
      violations.push(`${key} arrived damaged`);
    }
  }
  const failedIds = failed.map(({ message }) => (message as Job).id);
  for (const { id, answers, deaths, log } of plan.jobs) {
    const outcomes =
      [answered.has(id), failedIds.includes(id), unsent.includes(id)]
        .filter((is) => is).length;
    if (outcomes > 1) violations.push(`${id} ended in more than one way`);
    if (accepted.has(id) && answers > 0 && outcomes === 0) {
      violations.push(`${id} is lost`);
    }
    if (!accepted.has(id) && outcomes > 0) {
      violations.push(`${id} was not sent`);
    }
    const isHarmless = deaths.length === 0 && plan.options.retries !== 0;
    if (isHarmless && failedIds.includes(id)) {
      violations.push(`${id} failed although no worker died of it`);
    }
    if (log === undefined) continue;
    const unmarked = log[2 * id]!;
    const times = unmarked + log[2 * id + 1]!;
    if (unmarked > 1) {
      violations.push(`${id} was received ${unmarked} times unmarked`);
    }
    if (times > plan.options.retries! + 1) {
      violations.push(`${id} was received ${times} times`);
    }
    if (accepted.has(id) && error === undefined && times === 0) {
      violations.push(`${id} was never received`);
    }
  }
  for (const { attempts } of failed) {
    if (attempts !== plan.options.retries! + 1) {
      violations.push("failed too early");
    }
  }
  if (plan.options.ordered) {
    const order = answers.map(({ id, part }) => id * 10 + part);
    if (order.some((key, index) => index > 0 && key < order[index - 1]!)) {
      violations.push(`out of order: ${order}`);
    }
  }
  return violations;
}
