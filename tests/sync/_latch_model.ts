// Copyright 2026 the Duplex authors. MIT license.

/**
 * A model checker for the latch of `_sync/memory.ts`. It runs threads, each a
 * list of acts, through every interleaving of their atomic operations. It
 * reports the first interleaving in which two threads are inside, or in which
 * all remaining threads sleep.
 *
 * The checker runs the code of `_sync/memory.ts` itself, in a separate module
 * for each thread. While a thread runs, the model replaces `Atomics`: it
 * applies an operation to its own words, records the result, and stops the
 * thread before the next operation. To continue the thread, it runs the call
 * from the beginning with the recorded results.
 *
 * @module
 */

import type { Memory } from "../../_sync/memory.ts";

/** The code under test, once for each thread. */
export interface LatchCode {
  Memory: typeof Memory;
  /** Clears the flag that the thread has the latch, before it runs again. */
  reset(): void;
}

/** An act of a thread: acquires the latch, with or without a timeout. */
export type Act = "acquire" | "try";

/** The result of an exploration. */
export interface Verdict {
  /** The number of different states. */
  states: number;
  /** The violation, and the operations that led to it. */
  violation?: string;
}

/** The state of a thread. */
interface ThreadState {
  /**
   * The index of its act (the number of acts if it has ended), and whether it
   * is inside.
   */
  act: number;
  isInside: boolean;
  /** The results of its operations in this act. */
  results: readonly number[];
  /** The word on which it sleeps. */
  sleepsOn: number | undefined;
}

interface State {
  words: readonly number[];
  threads: readonly ThreadState[];
}

/** The next operation of a thread. */
interface Operation {
  readonly name: string;
  readonly word: number;
  readonly value: number;
  readonly other: number;
}

/** Thrown to stop a thread before its next operation. */
class Suspended {}

/** Results of a wait. */
const WOKEN = 1_000_001;
const TIMED_OUT = 1_000_002;
const CHANGED = 1_000_003;

/** A word of the model itself, which counts the threads inside. */
const INSIDE = 0;
const WORDS = 8;

/** Loads the code for one thread, with replacements. */
export async function loadLatch(
  edits: readonly [was: string, is: string][] = [],
): Promise<LatchCode> {
  const url = new URL("../../_sync/memory.ts", import.meta.url);
  let text = await Deno.readTextFile(url);
  for (const [was, is] of edits) {
    if (text.split(was).length !== 2) {
      throw new Error(`_sync/memory.ts must have this text once: ${was}`);
    }
    text = text.replace(was, () => is);
  }
  // Each thread has a separate module, and thus a separate latch flag.
  text += `
    export function reset(): void {
      hasLatch = false;
    }
    // ${crypto.randomUUID()}`;
  const type = "data:application/typescript;charset=utf-8,";
  return await import(`${type}${encodeURIComponent(text)}`);
}

/** The next operation, or the value that the call returned. */
type Outcome = Operation | boolean;

/** Runs the current call of a thread with its results. */
function replay(
  { Memory, reset }: LatchCode,
  { isInside, results }: ThreadState,
): Outcome {
  const noted = results.values();
  let next: Operation | undefined;
  let now = 0;
  const operate = (name: string, word: number, value = 0, other = 0) => {
    const result = noted.next();
    if (!result.done) return result.value;
    next = { name, word, value, other };
    throw new Suspended();
  };
  type Words = Int32Array;
  const model = {
    load: (_: Words, word: number) => operate("load", word),
    exchange: (_: Words, word: number, value: number) =>
      operate("exchange", word, value),
    compareExchange: (_: Words, word: number, was: number, is: number) =>
      operate("compareExchange", word, is, was),
    notify: (_: Words, word: number) => operate("notify", word),
    wait: (_: Words, word: number, value: number) => {
      if (operate("wait", word, value) === TIMED_OUT) now = Infinity;
    },
  };
  const clock = { now: () => now };
  const real = [globalThis.Atomics, globalThis.performance] as const;
  const memory = new Memory(new Int32Array(new SharedArrayBuffer(4 * 32)));
  reset();
  try {
    Object.assign(globalThis, { Atomics: model, performance: clock });
    if (!isInside) return memory.enter(1);
    operate("out", INSIDE);
    memory.leave();
    return true;
  } catch (error) {
    if (!(error instanceof Suspended)) throw error;
    return next!;
  } finally {
    Object.assign(globalThis, { Atomics: real[0], performance: real[1] });
  }
}

/** Equivalent results: each iteration of the loop is the same. */
function shorten(results: readonly number[]): readonly number[] {
  const last = results.at(-1);
  if (last === WOKEN || last === CHANGED) return results.slice(0, 1);
  return last === TIMED_OUT ? [...results.slice(0, 1), 1, 2, last] : results;
}

/** A model of threads at one latch. */
export class LatchModel {
  readonly #codes: readonly LatchCode[];
  readonly #threads: readonly (readonly Act[])[];
  /** A cache of outcomes, since a replay is slow. */
  readonly #outcomes = new Map<string, Outcome>();

  constructor(
    codes: readonly LatchCode[],
    threads: readonly (readonly Act[])[],
  ) {
    this.#codes = codes;
    this.#threads = threads;
  }

  /** Explores all interleavings. */
  explore(): Verdict {
    const state: State = {
      words: new Array(WORDS).fill(0),
      threads: this.#threads.map(() => BEGIN),
    };
    const seen = new Set<string>();
    const open: { state: State; path: Path | undefined }[] = [
      { state, path: undefined },
    ];
    for (let item; (item = open.pop()) !== undefined;) {
      const { state, path } = item;
      const key = JSON.stringify(state);
      if (seen.has(key)) continue;
      seen.add(key);
      const next = this.#successors(state);
      const isOver = state.threads.every((_, index) =>
        !this.#act(state, index)
      );
      const wrong = state.words[INSIDE]! > 1
        ? "two inside"
        : next.length === 0 && !isOver
        ? "all threads sleep"
        : undefined;
      if (wrong !== undefined) {
        return { states: seen.size, violation: `${wrong}${describe(path)}` };
      }
      for (const { state, step } of next) {
        open.push({ state, path: { step, before: path } });
      }
    }
    return { states: seen.size };
  }

  /** The description of a thread's current act; empty at the end. */
  #act({ threads }: State, index: number): Act | undefined {
    return this.#threads[index]![threads[index]!.act];
  }

  #successors(state: State): Successor[] {
    return state.threads.flatMap((thread, index) => {
      const act = this.#act(state, index);
      if (act === undefined) return [];
      if (thread.sleepsOn !== undefined) {
        // A thread with an expired timeout may wake at any time.
        if (act === "acquire") return [];
        const results = shorten([...thread.results, TIMED_OUT]);
        const change = { results, sleepsOn: undefined };
        return [after(state, index, change, "times out")];
      }
      const outcome = this.#outcome(index, thread);
      if (typeof outcome === "object") return [perform(state, index, outcome)];
      return [this.#enterOrEnd(state, index, outcome)];
    });
  }

  #outcome(index: number, thread: ThreadState): Outcome {
    const key = `${index} ${thread.isInside} ${thread.results}`;
    const known = this.#outcomes.get(key);
    if (known !== undefined) return known;
    const outcome = replay(this.#codes[index]!, thread);
    this.#outcomes.set(key, outcome);
    return outcome;
  }

  /**
   * A thread whose call has returned goes inside, or continues with its next
   * act.
   */
  #enterOrEnd(state: State, index: number, result: boolean): Successor {
    const { act, isInside } = state.threads[index]!;
    if (isInside || !result) {
      return after(state, index, { ...BEGIN, act: act + 1 }, "ends");
    }
    const words = state.words.with(INSIDE, state.words[INSIDE]! + 1);
    const change = { act, isInside: true, results: [] };
    return after({ ...state, words }, index, change, "is inside");
  }
}

/** The initial state of a thread. */
const BEGIN: ThreadState = {
  act: 0,
  isInside: false,
  results: [],
  sleepsOn: undefined,
};

interface Successor {
  readonly state: State;
  readonly step: string;
}

interface Path {
  readonly step: string;
  readonly before: Path | undefined;
}

function describe(path: Path | undefined): string {
  const steps: string[] = [];
  for (let at = path; at !== undefined; at = at.before) steps.unshift(at.step);
  return ["", ...steps].join("\n");
}

/** The state after a step of one thread. */
function after(
  state: State,
  index: number,
  change: Partial<ThreadState>,
  step: string,
): Successor {
  const threads = state.threads.with(index, {
    ...state.threads[index]!,
    ...change,
  });
  return { state: { ...state, threads }, step: `${index} ${step}` };
}

/** Applies an operation to the model's words. */
function perform(
  state: State,
  index: number,
  { name, word, value, other }: Operation,
): Successor {
  const before = state.words[word]!;
  const step = `${name} ${word} ${before} ${value}`;
  const { results } = state.threads[index]!;
  const finish = (words: readonly number[], result: number) =>
    after(
      { ...state, words },
      index,
      { results: shorten([...results, result]) },
      step,
    );
  switch (name) {
    case "load":
      return finish(state.words, before);
    case "exchange":
      return finish(state.words.with(word, value), before);
    case "compareExchange":
      return finish(
        before === other ? state.words.with(word, value) : state.words,
        before,
      );
    case "out":
      return finish(state.words.with(word, before - 1), before);
    case "wait":
      if (before !== value) return finish(state.words, CHANGED);
      return after(state, index, { sleepsOn: word }, step);
    default:
      return notify(state, index, word, step);
  }
}

/**
 * Wakes the first thread that sleeps on a word; sleepers are ordered by thread
 * number.
 */
function notify(
  state: State,
  index: number,
  word: number,
  step: string,
): Successor {
  const sleeper = state.threads.findIndex(({ sleepsOn }) => sleepsOn === word);
  let threads = state.threads;
  if (sleeper >= 0) {
    const woken = threads[sleeper]!;
    threads = threads.with(sleeper, {
      ...woken,
      results: shorten([...woken.results, WOKEN]),
      sleepsOn: undefined,
    });
  }
  const { results } = threads[index]!;
  const change = { results: [...results, sleeper >= 0 ? 1 : 0] };
  return after({ ...state, threads }, index, change, step);
}
