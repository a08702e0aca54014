// Copyright 2026 the Duplex authors. MIT license.

/**
 * Plans for two ends of a duplex: the steps of each end, and the faults of the
 * link. A plan follows from a seed, is plain JSON, and can be made smaller.
 *
 * @module
 */

import { random } from "../_seed.ts";

/** The links that plans use. */
export const LINKS = [
  "pair",
  "pipe",
  "queue",
  "shm",
  "tcp",
  "tls",
  "unix",
  "proxy",
] as const;

export type LinkName = typeof LINKS[number];

/** How a call is made: awaited, not awaited, non-blocking, or blocking. */
export type Manner = "wait" | "float" | "try" | "sync";

/** One step of an end. */
export type Step =
  | {
    readonly do: "send";
    readonly count: number;
    readonly size: number;
    readonly manner: Manner;
    /** Turns of the event loop after which the sends are aborted. */
    readonly abortAfter?: number;
  }
  | {
    readonly do: "receive";
    readonly count: number;
    readonly manner: Manner | "iterate" | "readable";
    readonly abortAfter?: number;
  }
  | { readonly do: "write"; readonly count: number; readonly size: number }
  | { readonly do: "endWritable" }
  | { readonly do: "turn"; readonly count: number }
  | { readonly do: "pause"; readonly ms: number }
  | { readonly do: "busy"; readonly ms: number }
  | { readonly do: "close"; readonly timeout: number; readonly waits: boolean }
  | { readonly do: "abort" }
  | { readonly do: "cancel" }
  | { readonly do: "exit"; readonly how: "code" | "throw" | "close" };

/** How an end leaves after its steps. */
export type Finale = "drain" | "close" | "dispose" | "abort" | "leave";

/** The steps of one end. */
export interface SidePlan {
  readonly steps: readonly Step[];
  readonly finale: Finale;
}

/** A fault of the link, or of the worker. */
export interface Fault {
  readonly after: number;
  readonly do: "kill" | "stop" | "cut" | "delay";
}

/** Options of both ends, if the transport has them. */
export interface PlanOptions {
  readonly windowBytes?: number;
  readonly windowMessages?: number;
  readonly deadlockTimeout?: number;
  readonly closeTimeout?: number;
  readonly codec?: "json" | "msgpack";
  /** Only for sockets. */
  readonly secret?: boolean;
  readonly resume?: boolean;
  readonly checksum?: boolean;
  readonly compression?: boolean;
  /** Only for a queue. */
  readonly workers?: number;
  readonly ordered?: boolean;
  readonly capacity?: number;
  readonly retries?: number;
  readonly isRestarted?: boolean;
  /** Bytes of a ring. */
  readonly ringBytes?: number;
}

/** A plan for a session. */
export interface SessionPlan {
  readonly seed: number;
  readonly link: LinkName;
  readonly options: PlanOptions;
  /** The opening end, in this program. */
  readonly main: SidePlan;
  /** The other end: in this program, or in a worker. */
  readonly peer: SidePlan;
  readonly faults: readonly Fault[];
}

/** Whether the other end of a link is in a worker. */
export function hasWorker(link: LinkName): boolean {
  return link === "pipe" || link === "queue" || link === "shm";
}

/** Random choices that follow from a seed. */
export class Random {
  readonly draw: () => number;

  constructor(seed: number) {
    this.draw = random(seed);
  }

  chance(odds: number): boolean {
    return this.draw() < odds;
  }

  pick<T>(items: readonly T[]): T {
    return items[Math.floor(this.draw() * items.length)]!;
  }

  /** An integer from 1 to `max`; small numbers are more likely. */
  small(max: number): number {
    return 1 + Math.floor(this.draw() ** 3 * max);
  }

  /** An object with some of the entries of another one. */
  some<T extends object>(odds: number, entries: T): Partial<T> {
    return Object.fromEntries(
      Object.entries(entries).filter(() => this.chance(odds)),
    ) as Partial<T>;
  }
}

/**
 * Sizes of payloads: in one frame, near the limits of batches, in several
 * parts.
 */
const SIZES = [0, 1, 30, 100, 100, 1000, 1000, 9_000, 70_000, 300_000];

export function makeOptions(random: Random, link: LinkName): PlanOptions {
  const common = {
    // Short, since many plans wait for these timeouts.
    deadlockTimeout: random.pick([10, 50, 200, 1_000]),
    closeTimeout: random.pick([1, 20, 200, 1_000]),
    ...random.some(0.4, {
      windowBytes: random.pick([1, 100, 5_000, 100_000]),
      windowMessages: random.pick([1, 2, 5, 64]),
      codec: random.pick(["json", "msgpack"] as const),
    }),
  };
  if (link === "queue") {
    return {
      ...common,
      workers: random.pick([1, 1, 2, 3]),
      ordered: random.chance(0.5),
      retries: random.pick([0, 1, 2]),
      isRestarted: random.chance(0.7),
      ...random.some(0.4, { capacity: random.pick([1, 3, 20]) }),
    };
  }
  if (link === "shm") {
    return { ...common, ringBytes: random.pick([4096, 4096, 65_536, 2 ** 20]) };
  }
  if (hasWorker(link) || link === "pair") return common;
  return {
    ...common,
    secret: random.chance(0.5),
    resume: random.chance(0.5),
    checksum: random.chance(0.3),
    compression: random.chance(0.3),
  };
}

function makeStep(random: Random, link: LinkName, isWorker: boolean): Step {
  const abortAfter = random.chance(0.15)
    ? { abortAfter: Math.floor(random.draw() * 4) }
    : {};
  const manner = random.pick<Manner>(
    link === "shm" && random.chance(0.4)
      ? ["sync"]
      : ["wait", "wait", "float", "float", "try"],
  );
  const number = random.draw();
  if (number < 0.35) {
    const size = random.pick(SIZES);
    const count = random.small(size > 10_000 ? 8 : 150);
    return { do: "send", count, size, manner, ...abortAfter };
  }
  if (number < 0.68) {
    const how = random.chance(0.3)
      ? random.pick(["iterate", "readable"] as const)
      : manner;
    return {
      do: "receive",
      count: random.small(150),
      manner: how,
      ...abortAfter,
    };
  }
  if (number < 0.73) {
    return { do: "write", count: random.small(20), size: random.pick(SIZES) };
  }
  if (number < 0.83) return { do: "turn", count: random.small(10) };
  if (number < 0.89) return { do: "pause", ms: random.small(20) };
  if (number < 0.92) return { do: "busy", ms: random.small(10) };
  if (number < 0.94) return { do: "endWritable" };
  if (number < 0.96) {
    const timeout = random.pick([1, 20, 500]);
    return { do: "close", timeout, waits: random.chance(0.3) };
  }
  if (number < 0.975) return { do: "abort" };
  if (number < 0.985) return { do: "cancel" };
  return isWorker
    ? { do: "exit", how: random.pick(["code", "throw", "close"] as const) }
    : { do: "turn", count: 1 };
}

function makeSide(random: Random, link: LinkName, isWorker: boolean): SidePlan {
  const count = random.small(14);
  return {
    steps: Array.from(
      { length: count },
      () => makeStep(random, link, isWorker),
    ),
    finale: random.pick<Finale>(
      ["drain", "drain", "drain", "close", "dispose", "abort", "leave"],
    ),
  };
}

export function makeFaults(random: Random, link: LinkName): Fault[] {
  const kinds: Fault["do"][] = link === "pipe"
    ? ["kill", "stop"]
    : link === "queue" || link === "shm"
    ? ["kill"]
    : link === "proxy"
    ? ["cut", "cut", "delay"]
    : [];
  if (kinds.length === 0 || random.chance(0.5)) return [];
  return Array.from({ length: random.small(3) }, () => ({
    after: Math.floor(random.draw() * 40),
    do: random.pick(kinds),
  }));
}

/** Makes the plan of a seed. */
export function makeSessionPlan(seed: number, only?: LinkName): SessionPlan {
  const random = new Random(seed);
  const link = only ?? random.pick(LINKS);
  return {
    seed,
    link,
    options: makeOptions(random, link),
    main: makeSide(random, link, false),
    peer: makeSide(random, link, hasWorker(link)),
    faults: makeFaults(random, link),
  };
}

/** The parts of a plan that can be made smaller. */
interface TwoSidedPlan {
  readonly options: object;
  readonly main: { readonly steps: readonly object[] };
  readonly peer: { readonly steps: readonly object[] };
  readonly faults: readonly Fault[];
}

/**
 * Plans that omit a part of another plan, large parts first.
 *
 * @param required Options that are kept.
 */
export function* smallerPlans<Plan extends TwoSidedPlan>(
  plan: Plan,
  required: readonly string[] = [],
): Generator<Plan> {
  for (const faults of shorter(plan.faults)) yield { ...plan, faults };
  for (const side of ["main", "peer"] as const) {
    for (const steps of shorter(plan[side].steps)) {
      yield { ...plan, [side]: { ...plan[side], steps } };
    }
  }
  for (const name of Object.keys(plan.options)) {
    const options: Record<string, unknown> = { ...plan.options };
    delete options[name];
    if (!required.includes(name)) yield { ...plan, options };
  }
  for (const side of ["main", "peer"] as const) {
    const { steps } = plan[side];
    for (const [index, step] of steps.entries()) {
      if (!("count" in step) || typeof step.count !== "number") continue;
      if (step.count < 2) continue;
      const changed = steps.with(index, { ...step, count: step.count >> 1 });
      yield { ...plan, [side]: { ...plan[side], steps: changed } };
    }
  }
}

/** The list without a half, a quarter, …, one of its items. */
export function* shorter<T>(items: readonly T[]): Generator<T[]> {
  for (let size = items.length >> 1; size >= 1; size >>= 1) {
    for (let start = 0; start < items.length; start += size) {
      yield [...items.slice(0, start), ...items.slice(start + size)];
    }
  }
  if (items.length === 1) yield [];
}
