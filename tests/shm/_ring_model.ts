// Copyright 2026 the Duplex authors. MIT license.

/**
 * A model checker for `_shm/ring.ts`. It runs two or three sides, each a
 * function that uses two rings, through every interleaving of their atomic
 * operations. It reports the first interleaving with a wrong byte, a data race,
 * or a state in which all sides sleep.
 *
 * The checker runs the code of `_shm/ring.ts` itself, with its private names
 * made public so that states can be compared. While a side runs, the model
 * replaces `Atomics` and the ring's storage: it applies an operation to its own
 * memory, records the result, and stops the side before the next operation. To
 * continue a side, it runs it again from the beginning with the recorded
 * results. A separate description of the protocol, which could differ from the
 * code, is therefore not needed.
 *
 * An access to a byte of the storage is a step like an atomic operation. It is
 * checked against the positions that are published at that moment: access to a
 * byte of the other side is a race.
 *
 * @module
 */

import {
  HEADER_SIZE,
  type RingEnd,
  type RingMemory,
  WORD,
} from "../../_shm/ring.ts";

/** The code under test. */
export interface RingCode {
  RingEnd: typeof RingEnd;
}

/** The functions of a side in addition to its end of the rings. */
export interface Steps {
  /**
   * Marks a state that `end` and `locals` describe completely, without a
   * pending promise. Paths to the same state are then followed once.
   */
  mark(end: object, ...locals: number[]): void;
  /** Sleeps until a promise of `wait` is settled, if there is one. */
  sleep(promise: Promise<unknown> | undefined): void;
  /**
   * Sleeps until the side of this number has ended; returns `true` if it died.
   */
  join(side: number): boolean;
  /** Fails the check. */
  fail(what: string): never;
}

/** One side: prepares the rings before the start, and then runs. */
export type Side = (code: RingCode, memory: RingMemory) => (
  steps: Steps,
) => void;

/** The configuration that is checked. */
export interface Model {
  /** Bytes of each ring. */
  capacity: number;
  /** The initial value of both positions. */
  position?: number;
  sides: Side[];
  /** The side that may die before any of its operations, if any. */
  mortal?: number;
}

/** The result of an exploration. */
export interface Verdict {
  /** The number of different states. */
  states: number;
  /** The violation, and the operations that led to it. */
  violation?: string;
}

interface Operation {
  name:
    | "get"
    | "put"
    | "load"
    | "store"
    | "or"
    | "notify"
    | "wait"
    | "waitAsync"
    | "sleep"
    | "join";
  index: number;
  value: number;
  /** The ring of the storage. */
  ring?: number;
}

/**
 * A side's results so far, newest first. Equal histories are the same object,
 * and so are histories that lead to the same mark.
 */
interface History {
  readonly id: number;
  readonly length: number;
  readonly last: number;
  readonly before: History | undefined;
  readonly next: Map<number, History>;
}

/** Results of waits. */
const OK = -1_000_001;
const NOT_EQUAL = -1_000_002;
/** Placeholder for the result of a sleeping side. */
const ASLEEP = -1_000_003;

interface SideState {
  history: History;
  /** The next operation of the side; absent once it has ended. */
  pending: Operation | undefined;
  dead: boolean;
  /** The word on which it sleeps in a blocking wait. */
  blockedOn: number | undefined;
  /**
   * Its asynchronous waits by their index in its history: the word, or done.
   */
  waits: [at: number, index: number | undefined][];
}

/** The storage of a ring, and the bytes written and read so far. */
interface RingState {
  bytes: number[];
  put: number;
  got: number;
}

/** The words of a ring's positions. */
const POSITIONS = [
  { written: WORD.openerWritten, read: WORD.acceptorRead },
  { written: WORD.acceptorWritten, read: WORD.openerRead },
] as const;

interface State {
  words: number[];
  sides: SideState[];
  rings: RingState[];
}

/**
 * Thrown to stop a side; not an error, since stack traces would take most of
 * the time.
 */
class Suspended {}

class Violation extends Error {}

/** The words that the protocol uses; the others stay 0. */
const WORDS = Object.values(WORD);

let histories = 0;

function emptyHistory(): History {
  return {
    id: histories++,
    length: 0,
    last: 0,
    before: undefined,
    next: new Map(),
  };
}

function extend(before: History, last: number): History {
  let history = before.next.get(last);
  if (history === undefined) {
    history = {
      id: histories++,
      length: before.length + 1,
      last,
      before,
      next: new Map(),
    };
    before.next.set(last, history);
  }
  return history;
}

function resultsOf(history: History): number[] {
  const results = new Array<number>(history.length);
  for (let at: History | undefined = history; at?.before; at = at.before) {
    results[at.length - 1] = at.last;
  }
  return results;
}

/** One exploration. */
class Checker {
  readonly #model: Model;
  readonly #code: RingCode;
  readonly #start: number;
  readonly #memory: RingMemory;
  readonly #marks = new Map<string, History>();
  // Fields used while a side runs:
  #state!: State;
  #number = 0;
  #results: number[] = [];
  #replayed = 0;
  /**
   * Whether the next operation is applied; the one after it suspends the side.
   */
  #mayStep = false;
  #isSetUp = false;

  constructor(model: Model, code: RingCode) {
    this.#model = model;
    this.#code = code;
    this.#start = model.position ?? 0;
    this.#memory = this.#makeMemory(model.capacity);
  }

  run(maxStates: number): Verdict {
    const visited = new Set<string>();
    const stack: { state: State; trace: Trace | undefined }[] = [];
    try {
      stack.push({ state: this.#initial(), trace: undefined });
    } catch (error) {
      if (error instanceof Violation) {
        return { states: 0, violation: error.message };
      }
      throw error;
    }
    while (stack.length > 0) {
      const { state, trace } = stack.pop()!;
      const key = keyOf(state);
      if (visited.has(key)) continue;
      visited.add(key);
      if (visited.size > maxStates) {
        throw new Error(`There are more than ${maxStates} states`);
      }
      let stuck = true;
      for (const [number, step] of this.#enabled(state)) {
        stuck = false;
        const next = clone(state);
        const operation = step === "go"
          ? state.sides[number]!.pending
          : undefined;
        const here = { number, operation, trace };
        try {
          this.#advance(next, number, step);
        } catch (error) {
          if (!(error instanceof Violation)) throw error;
          return {
            states: visited.size,
            violation: describeViolation(error.message, here),
          };
        }
        stack.push({ state: next, trace: here });
      }
      if (stuck && state.sides.some(isUnfinished)) {
        return {
          states: visited.size,
          violation: describeViolation(
            "all remaining sides sleep forever",
            trace,
          ),
        };
      }
    }
    return { states: visited.size };
  }

  #initial(): State {
    const words = new Array<number>(HEADER_SIZE / 4).fill(0);
    for (const { written, read } of POSITIONS) {
      words[written] = words[read] = this.#start;
    }
    const state: State = {
      words,
      sides: this.#model.sides.map(() => ({
        history: emptyHistory(),
        pending: undefined,
        dead: false,
        blockedOn: undefined,
        waits: [],
      })),
      rings: POSITIONS.map(() => ({
        bytes: new Array(this.#model.capacity).fill(-1),
        put: 0,
        got: 0,
      })),
    };
    for (const number of state.sides.keys()) {
      this.#resume(state, number, false);
    }
    return state;
  }

  /** The possible next steps: a side applies its operation, or dies. */
  *#enabled(state: State): Iterable<[number: number, step: "go" | "die"]> {
    for (const [number, side] of state.sides.entries()) {
      if (!isUnfinished(side)) continue;
      const { name, index } = side.pending!;
      const sleeps = side.blockedOn !== undefined ||
        name === "sleep" &&
          side.waits.some(([at, word]) => at === index && word !== undefined) ||
        name === "join" && isUnfinished(state.sides[index]!);
      if (!sleeps) yield [number, "go"];
      if (this.#model.mortal === number) yield [number, "die"];
    }
  }

  #advance(state: State, number: number, step: "go" | "die"): void {
    const side = state.sides[number]!;
    if (step === "go") return this.#resume(state, number, true);
    side.dead = true;
    side.blockedOn = undefined;
    side.waits = [];
  }

  /**
   * Runs a side up to its current state, one operation further, and up to the
   * next.
   */
  #resume(state: State, number: number, mayStep: boolean): void {
    const side = state.sides[number]!;
    this.#state = state;
    this.#number = number;
    this.#results = resultsOf(side.history);
    this.#replayed = 0;
    this.#mayStep = mayStep;
    side.pending = undefined;
    const real = globalThis.Atomics;
    globalThis.Atomics = this.#atomics as unknown as typeof Atomics;
    try {
      this.#isSetUp = false;
      const run = this.#model.sides[number]!(this.#code, this.#memory);
      this.#isSetUp = true;
      run(this.#steps);
    } catch (error) {
      if (error instanceof Suspended) return;
      if (error instanceof Violation) throw error;
      throw new Violation(String(error));
    } finally {
      globalThis.Atomics = real;
    }
  }

  /**
   * Applies an atomic operation, returns its recorded result, or suspends the
   * side.
   */
  #operate(operation: Operation): number {
    if (!this.#isSetUp) {
      // Both ends attach before the exploration starts.
      return POSITIONS.some(({ written, read }) =>
          operation.index === written || operation.index === read
        )
        ? this.#start
        : 0;
    }
    if (this.#replayed < this.#results.length) {
      return this.#results[this.#replayed++]!;
    }
    const side = this.#state.sides[this.#number]!;
    if (!this.#mayStep) {
      side.pending = operation;
      throw new Suspended();
    }
    this.#mayStep = false;
    const result = this.#apply(side, operation);
    if (result === ASLEEP) {
      side.pending = operation;
      throw new Suspended();
    }
    this.#note(side, result);
    return result;
  }

  #note(side: SideState, result: number): void {
    side.history = extend(side.history, result);
    this.#results.push(result);
    this.#replayed++;
  }

  #apply(side: SideState, operation: Operation): number {
    const { name, index, value, ring = 0 } = operation;
    const { words, sides } = this.#state;
    switch (name) {
      case "get":
        return this.#getByte(ring, index);
      case "put":
        return this.#putByte(ring, index, value);
      case "load":
        return words[index]!;
      case "store":
        return words[index] = value;
      case "or": {
        const before = words[index]!;
        words[index] = before | value;
        return before;
      }
      case "notify":
        return this.#notify(index);
      case "wait":
        if (words[index] !== value) return NOT_EQUAL;
        side.blockedOn = index;
        return ASLEEP;
      case "waitAsync":
        if (words[index] !== value) return NOT_EQUAL;
        side.waits.push([side.history.length, index]);
        return OK;
      case "sleep":
        return OK;
      case "join":
        return sides[index]!.dead ? 1 : 0;
    }
  }

  #notify(index: number): number {
    for (const side of this.#state.sides) {
      side.waits = side.waits.map(([at, word]) => [
        at,
        word === index ? undefined : word,
      ]);
      if (side.blockedOn !== index) continue;
      side.blockedOn = undefined;
      // It continues after its wait; until then it is at its own step.
      side.history = extend(side.history, OK);
      side.pending = { name: "sleep", index: -1, value: 0 };
    }
    return 0;
  }

  readonly #atomics = {
    load: (_: unknown, index: number) =>
      this.#operate({ name: "load", index, value: 0 }),
    store: (_: unknown, index: number, value: number) =>
      this.#operate({ name: "store", index, value }),
    or: (_: unknown, index: number, value: number) =>
      this.#operate({ name: "or", index, value }),
    notify: (_: unknown, index: number) =>
      this.#operate({ name: "notify", index, value: 0 }),
    wait: (_: unknown, index: number, value: number) =>
      this.#operate({ name: "wait", index, value }) === OK ? "ok" : "not-equal",
    waitAsync: (_: unknown, index: number, value: number) => {
      const at = this.#replayed;
      return this.#operate({ name: "waitAsync", index, value }) === OK
        ? { async: true, value: { at } }
        : { async: false, value: "not-equal" };
    },
  };

  readonly #steps: Steps = {
    mark: (end, ...locals) => this.#mark(end, locals),
    sleep: (promise) => {
      if (promise === undefined) return;
      const { at } = promise as unknown as { at: number };
      this.#operate({ name: "sleep", index: at, value: 0 });
    },
    join: (side) =>
      this.#operate({ name: "join", index: side, value: 0 }) === 1,
    fail: (what) => {
      throw new Violation(what);
    },
  };

  #mark(end: object, locals: number[]): void {
    if (this.#replayed < this.#results.length) return;
    const side = this.#state.sides[this.#number]!;
    const fields = Object.entries(end).filter(([, value]) =>
      typeof value !== "object"
    );
    const key = `${this.#number}|${fields.join()}|${locals}`;
    let history = this.#marks.get(key);
    if (history === undefined) {
      history = { ...side.history, id: histories++, next: new Map() };
      this.#marks.set(key, history);
    }
    side.history = history;
    side.waits = [];
    // All ways to the mark are equivalent from here on.
    this.#results = resultsOf(history);
    this.#replayed = this.#results.length;
  }

  /**
   * The rings as seen by their ends: words go through `Atomics`, bytes through
   * here.
   */
  #makeMemory(capacity: number): RingMemory {
    const rings = POSITIONS.map((_, ring) =>
      new Proxy({ length: capacity }, {
        get: (target, key) =>
          key === "length" ? target.length : this.#operate({
            name: "get",
            index: Number(key),
            value: 0,
            ring,
          }),
        set: (_, key, value) => {
          this.#operate({ name: "put", index: Number(key), value, ring });
          return true;
        },
      })
    );
    return { words: [], rings } as unknown as RingMemory;
  }

  #getByte(ring: number, slot: number): number {
    const state = this.#state.rings[ring]!;
    const at = state.got++;
    this.#checkSlot(slot, at);
    const [written, read] = this.#published(ring);
    if (at >= written) {
      throw new Violation(`byte ${at} is read before it is published`);
    }
    if (at < read) {
      throw new Violation(`byte ${at} is read after its room was given away`);
    }
    return state.bytes[slot]!;
  }

  #putByte(ring: number, slot: number, value: number): number {
    const state = this.#state.rings[ring]!;
    const at = state.put++;
    this.#checkSlot(slot, at);
    const [written, read] = this.#published(ring);
    if (at >= read + this.#model.capacity) {
      throw new Violation(`byte ${at} is written over one that is not read`);
    }
    if (at < written) {
      throw new Violation(`byte ${at} is written after it was published`);
    }
    return state.bytes[slot] = value;
  }

  #published(ring: number): [written: number, read: number] {
    const { words } = this.#state;
    const { written, read } = POSITIONS[ring]!;
    return [
      (words[written]! - this.#start) >>> 0,
      (words[read]! - this.#start) >>> 0,
    ];
  }

  #checkSlot(slot: number, at: number): void {
    const { capacity } = this.#model;
    const expected = ((this.#start >>> 0) + at) % capacity;
    if (slot !== expected) {
      throw new Violation(
        `byte ${at} belongs to slot ${expected}: current value is ${slot}`,
      );
    }
  }
}

interface Trace {
  number: number;
  /** The result of the side; nothing if it died. */
  operation: Operation | undefined;
  trace: Trace | undefined;
}

function describe(operation: Operation | undefined): string {
  if (operation === undefined) return "dies";
  const { name, index, value } = operation;
  const names = ["get", "put", "join", "sleep"].includes(name) ? [] : WORD;
  const word = Object.entries(names).find(([, at]) => at === index)?.[0] ??
    index;
  return `${name} ${word} ${value}`;
}

function describeViolation(what: string, trace: Trace | undefined): string {
  const steps: string[] = [];
  for (let at = trace; at !== undefined; at = at.trace) {
    steps.unshift(`  side ${at.number}: ${describe(at.operation)}`);
  }
  return `${what}, after\n${steps.join("\n")}`;
}

function isUnfinished(side: SideState): boolean {
  return side.pending !== undefined && !side.dead;
}

function clone(state: State): State {
  return {
    ...state,
    words: state.words.slice(),
    rings: state.rings.map((ring) => ({ ...ring, bytes: ring.bytes.slice() })),
    sides: state.sides.map((side) => ({ ...side, waits: side.waits.slice() })),
  };
}

/** A key for everything that affects what can happen from here on. */
function keyOf(state: State): string {
  const words = WORDS.map((index) => state.words[index]);
  const sides = state.sides.map((side) =>
    `${side.history.id} ${side.dead} ${side.blockedOn} ${side.waits}`
  );
  const bytes = state.rings.map((ring) => ring.bytes);
  return `${words}|${bytes.join("|")}|${sides.join("|")}`;
}

/**
 * Runs a model through all of its interleavings.
 *
 * @param model The sides and their ring.
 * @param code The code under test.
 * @param maxStates More states than this are an error.
 * @returns The number of states, and the first violation.
 */
export function explore(
  model: Model,
  code: RingCode,
  maxStates = 2_000_000,
): Verdict {
  return new Checker(model, code).run(maxStates);
}
