// Copyright 2026 the Duplex authors. MIT license.

/**
 * Plans for two ends of a duplex: what each does, step by step, and what happens
 * to the link meanwhile. A plan follows from a seed, is plain JSON, and can be
 * made smaller.
 *
 * @module
 */

import { random } from "../_seed.ts";

/** The links that plans are made for. */
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

/** How a call is made: waited for, left to settle, or not waiting by itself. */
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

/** How an end leaves when its steps are done. */
export type Finale = "drain" | "close" | "dispose" | "abort" | "leave";

/** What one end does. */
export interface SidePlan {
  readonly steps: readonly Step[];
  readonly finale: Finale;
}

/** What happens to the link, or to the worker at its end. */
export interface Fault {
  readonly after: number;
  readonly do: "kill" | "stop" | "cut" | "delay";
}

/** Options of both ends, as far as they have them. */
export interface PlanOptions {
  readonly windowBytes?: number;
  readonly windowMessages?: number;
  readonly deadlockTimeout?: number;
  readonly closeTimeout?: number;
  readonly codec?: "json" | "msgpack";
  /** Of sockets. */
  readonly secret?: boolean;
  readonly resume?: boolean;
  readonly checksum?: boolean;
  readonly compression?: boolean;
  /** Of a queue. */
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

/** Draws from a seed. */
export class Lots {
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

  /** A integer from 1 to `most`, small ones more often. */
  few(most: number): number {
    return 1 + Math.floor(this.draw() ** 3 * most);
  }

  /** An object with some of the entries of another one. */
  some<T extends object>(odds: number, entries: T): Partial<T> {
    return Object.fromEntries(
      Object.entries(entries).filter(() => this.chance(odds)),
    ) as Partial<T>;
  }
}

/** Sizes of payloads: in one frame, around the bounds of batches, in parts. */
const SIZES = [0, 1, 30, 100, 100, 1000, 1000, 9_000, 70_000, 300_000];

export function makeOptions(lots: Lots, link: LinkName): PlanOptions {
  const common = {
    // Short, since many plans wait for them.
    deadlockTimeout: lots.pick([10, 50, 200, 1_000]),
    closeTimeout: lots.pick([1, 20, 200, 1_000]),
    ...lots.some(0.4, {
      windowBytes: lots.pick([1, 100, 5_000, 100_000]),
      windowMessages: lots.pick([1, 2, 5, 64]),
      codec: lots.pick(["json", "msgpack"] as const),
    }),
  };
  if (link === "queue") {
    return {
      ...common,
      workers: lots.pick([1, 1, 2, 3]),
      ordered: lots.chance(0.5),
      retries: lots.pick([0, 1, 2]),
      isRestarted: lots.chance(0.7),
      ...lots.some(0.4, { capacity: lots.pick([1, 3, 20]) }),
    };
  }
  if (link === "shm") {
    return { ...common, ringBytes: lots.pick([4096, 4096, 65_536, 2 ** 20]) };
  }
  if (hasWorker(link) || link === "pair") return common;
  return {
    ...common,
    secret: lots.chance(0.5),
    resume: lots.chance(0.5),
    checksum: lots.chance(0.3),
    compression: lots.chance(0.3),
  };
}

function makeStep(lots: Lots, link: LinkName, isWorker: boolean): Step {
  const abortAfter = lots.chance(0.15)
    ? { abortAfter: Math.floor(lots.draw() * 4) }
    : {};
  const manner = lots.pick<Manner>(
    link === "shm" && lots.chance(0.4)
      ? ["sync"]
      : ["wait", "wait", "float", "float", "try"],
  );
  const lot = lots.draw();
  if (lot < 0.35) {
    const size = lots.pick(SIZES);
    const count = lots.few(size > 10_000 ? 8 : 150);
    return { do: "send", count, size, manner, ...abortAfter };
  }
  if (lot < 0.68) {
    const how = lots.chance(0.3)
      ? lots.pick(["iterate", "readable"] as const)
      : manner;
    return {
      do: "receive",
      count: lots.few(150),
      manner: how,
      ...abortAfter,
    };
  }
  if (lot < 0.73) {
    return { do: "write", count: lots.few(20), size: lots.pick(SIZES) };
  }
  if (lot < 0.83) return { do: "turn", count: lots.few(10) };
  if (lot < 0.89) return { do: "pause", ms: lots.few(20) };
  if (lot < 0.92) return { do: "busy", ms: lots.few(10) };
  if (lot < 0.94) return { do: "endWritable" };
  if (lot < 0.96) {
    const timeout = lots.pick([1, 20, 500]);
    return { do: "close", timeout, waits: lots.chance(0.3) };
  }
  if (lot < 0.975) return { do: "abort" };
  if (lot < 0.985) return { do: "cancel" };
  return isWorker
    ? { do: "exit", how: lots.pick(["code", "throw", "close"] as const) }
    : { do: "turn", count: 1 };
}

function makeSide(lots: Lots, link: LinkName, isWorker: boolean): SidePlan {
  const count = lots.few(14);
  return {
    steps: Array.from({ length: count }, () => makeStep(lots, link, isWorker)),
    finale: lots.pick<Finale>(
      ["drain", "drain", "drain", "close", "dispose", "abort", "leave"],
    ),
  };
}

export function makeFaults(lots: Lots, link: LinkName): Fault[] {
  const kinds: Fault["do"][] = link === "pipe"
    ? ["kill", "stop"]
    : link === "queue" || link === "shm"
    ? ["kill"]
    : link === "proxy"
    ? ["cut", "cut", "delay"]
    : [];
  if (kinds.length === 0 || lots.chance(0.5)) return [];
  return Array.from({ length: lots.few(3) }, () => ({
    after: Math.floor(lots.draw() * 40),
    do: lots.pick(kinds),
  }));
}

/** The plan that follows from a seed. */
export function makeSessionPlan(seed: number, only?: LinkName): SessionPlan {
  const lots = new Lots(seed);
  const link = only ?? lots.pick(LINKS);
  return {
    seed,
    link,
    options: makeOptions(lots, link),
    main: makeSide(lots, link, false),
    peer: makeSide(lots, link, hasWorker(link)),
    faults: makeFaults(lots, link),
  };
}

/** Plans that leave out a part of another one, large parts first. */
export function* smallerPlans(plan: SessionPlan): Generator<SessionPlan> {
  for (const faults of shorter(plan.faults)) yield { ...plan, faults };
  for (const side of ["main", "peer"] as const) {
    for (const steps of shorter(plan[side].steps)) {
      yield { ...plan, [side]: { ...plan[side], steps } };
    }
  }
  for (const name of Object.keys(plan.options)) {
    const options: Record<string, unknown> = { ...plan.options };
    delete options[name];
    yield { ...plan, options };
  }
  for (const side of ["main", "peer"] as const) {
    const { steps } = plan[side];
    for (const [index, step] of steps.entries()) {
      if (!("count" in step) || step.count < 2) continue;
      const count = step.count >> 1;
      const changed = steps.with(index, { ...step, count });
      yield { ...plan, [side]: { ...plan[side], steps: changed } };
    }
  }
}

/** The list without a half of it, a quarter, …, one of its items. */
export function* shorter<T>(items: readonly T[]): Generator<T[]> {
  for (let size = items.length >> 1; size >= 1; size >>= 1) {
    for (let start = 0; start < items.length; start += size) {
      yield [...items.slice(0, start), ...items.slice(start + size)];
    }
  }
  if (items.length === 1) yield [];
}
