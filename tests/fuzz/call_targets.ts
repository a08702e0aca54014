// Copyright 2026 the Duplex authors. MIT license.

/**
 * Calls between an end of the package and a hostile peer, whose calls and
 * answers are valid, nearly valid or random.
 *
 * @module
 */

import { fromFailure } from "../../_rpc/errors.ts";
import { type Failure, SLOT, TAG } from "../../_rpc/messages.ts";
import { json, msgpack } from "../../codec.ts";
import { isEnd } from "../../_base/errors.ts";
import { type Duplex, ProtocolError } from "../../duplex.ts";
import { duplexPair } from "../../pair.ts";
import {
  expose,
  notifier,
  remote,
  RemoteError,
  withSignal,
} from "../../rpc.ts";
import { type Bytes, Draw, mutate, smallerBytes } from "./draw.ts";
import { difference } from "./equal.ts";
import {
  checkMessage,
  show,
  type Target,
  turn,
  Violation,
  within,
} from "./harness.ts";
import { ValueMaker } from "./values.ts";

/** Milliseconds within which each promise must settle. */
const LIMIT = 3_000;

/** Names that a peer calls: exposed, inherited and unknown ones. */
const NAMES: readonly string[] = [
  ...["add", "echo", "later", "many", "fail", "back", "wait", "odd"],
  ...["give", "read"],
  ...["__proto__", "constructor", "toString", "hasOwnProperty", "inherited"],
  ...["hidden", "valueOf", "then", "", "\u001b[2J\n", "x".repeat(300)],
];

/** The number of exposed names. */
const EXPOSED = 10;

/** Kinds of message that may leave the connection open. */
const CALM: readonly number[] = [0, 1, 2, 3, 4, 5, 10, 11, 12];

/** An object with methods, and a record of the calls. */
class Served {
  running = 0;
  most = 0;
  readonly #released = Promise.withResolvers<void>();
  readonly methods: object;
  fault: string | undefined;

  constructor() {
    const shared = {
      inherited: () => this.#onFault("inherited"),
    };
    const own = {
      add: (a: unknown, b: unknown) => Number(a) + Number(b),
      echo: (value: unknown) => value,
      later: (value: unknown) => this.#run(value, turn()),
      many: (count: unknown) => this.#many(Math.min(Number(count), 5)),
      fail: (value: unknown) => {
        throw value;
      },
      back: (call: unknown) => typeof call === "function" ? call(1) : "none",
      wait: withSignal((signal, value: unknown) => {
        const aborted = new Promise<void>((resolve) => {
          if (signal.aborted) resolve();
          signal.addEventListener("abort", () => resolve());
        });
        return this.#run(
          value,
          Promise.race([aborted, this.#released.promise]),
        );
      }),
      give: () => ({
        body: ReadableStream.from([1, new Uint8Array(9), "end"]),
        sink: new WritableStream(),
      }),
      read: (value: unknown) =>
        value instanceof ReadableStream ? Array.fromAsync(value) : "none",
      // Methods whose result cannot be sent.
      odd: () => Symbol("odd"),
      get hidden() {
        return () => {};
      },
    };
    Object.setPrototypeOf(own, shared);
    this.methods = own;
  }

  /** Ends pending methods. */
  release(): void {
    this.#released.resolve();
  }

  #onFault(name: string): void {
    this.fault ??= `A method was called that is not exposed: ${name}`;
  }

  async #run(value: unknown, until: Promise<void>): Promise<unknown> {
    this.most = Math.max(this.most, ++this.running);
    await until;
    this.running--;
    return value;
  }

  async *#many(count: number): AsyncGenerator<number, string> {
    this.most = Math.max(this.most, ++this.running);
    try {
      for (let number = 0; number < count; number++) {
        if (number % 2 === 1) await turn();
        yield number;
      }
      return "end";
    } finally {
      this.running--;
    }
  }
}

type Result = { readonly value: unknown } | { readonly error: unknown };

function settle(promise: Promise<unknown>): Promise<Result> {
  return promise.then((value) => ({ value }), (error) => ({ error }));
}

/** A valid call by the peer, and its expected result. */
interface ValidCall {
  readonly id: number;
  readonly expected: unknown;
}

/** The peer: it sends messages by hand. */
class Hostile {
  readonly #duplex: Duplex;
  readonly #draw: Draw;
  readonly #maker: ValueMaker;
  /** Whether most of its messages are valid. */
  readonly #isMostlyValid: boolean;
  #lastId = 0;
  /** Its calls, and the answers to each. */
  readonly answers = new Map<number, unknown[][]>();
  readonly validCalls: ValidCall[] = [];
  /** Calls of the other side that may have received another answer. */
  readonly answeredTwice = new Set<number>();
  /** Calls of the other side that it has read. */
  readonly #asked: number[] = [];
  fault: string | undefined;
  readonly reading: Promise<void>;

  constructor(duplex: Duplex, draw: Draw, isJson: boolean) {
    this.#duplex = duplex;
    this.#draw = draw;
    this.#maker = new ValueMaker(draw, {
      changed: false,
      unsendable: false,
      json: isJson,
      deep: false,
    });
    this.#isMostlyValid = draw.below(2) === 1;
    this.reading = this.#read();
  }

  /** Sends, if the connection is open and has room. */
  send(message: unknown): boolean {
    try {
      return this.#duplex.trySend(message);
    } catch {
      // The other side has ended the connection, or the message cannot be sent.
      return false;
    }
  }

  /** A valid call whose result is known. */
  callValidly(): void {
    const id = ++this.#lastId;
    const [a, b] = [this.#draw.below(100), this.#draw.below(100)];
    const args: unknown[] = [a, b];
    const name = this.#draw.pick(["add", "echo", "later"]);
    this.answers.set(id, []);
    if (!this.send([TAG.call, id, name, args])) return;
    this.validCalls.push({ id, expected: name === "add" ? a + b : a });
  }

  /** A message with any fault. */
  attack(): void {
    const draw = this.#draw;
    let message = this.#message();
    const isAltered = draw.below(this.#isMostlyValid ? 50 : 3) === 2;
    if (isAltered) message = this.#alter(message);
    const [tag, id] = Array.isArray(message) ? message : [];
    if (typeof id === "number") {
      if (tag === TAG.call || tag === TAG.batch) {
        if (!this.answers.has(id)) this.answers.set(id, []);
        this.#lastId = Math.max(this.#lastId, Math.min(id, 2 ** 40));
      }
      this.answeredTwice.add(id);
    }
    this.send(message);
  }

  #message(): unknown {
    const draw = this.#draw;
    const next = this.#lastId + 1 + draw.size(3);
    const own = draw.between(1, this.#lastId + 1);
    const peerId = this.#asked.length > 0 && draw.below(4) > 0
      ? draw.pick(this.#asked)
      : draw.pick([draw.below(12), draw.boundary()]);
    const value = () => this.#maker.value(6);
    const kind = this.#isMostlyValid ? draw.pick(CALM) : draw.below(14);
    switch (kind) {
      case 0:
      case 1:
      case 2:
        return [TAG.call, next, this.#method(), this.#args()];
      case 3: {
        const args = [null, { a: null }, value()];
        const places = Array.from(
          { length: draw.size(5) },
          () => this.#slot([draw.below(this.#isMostlyValid ? 3 : 4)]),
        );
        return [TAG.call, next, this.#method(), args, places];
      }
      case 4: {
        const count = draw.oneIn(20)
          ? draw.pick([1_024, 1_025])
          : draw.size(20);
        const list = Array.from({ length: count }, () => [draw.below(9), 1]);
        return [TAG.batch, next, this.#name(), list];
      }
      case 5:
        return [TAG.notice, this.#name(), this.#args()];
      case 6:
        if (draw.oneIn(4)) return [TAG.value, peerId, null, [this.#slot([])]];
        return [TAG.value, peerId, value()];
      case 7:
        return [TAG.error, peerId, this.#failure()];
      case 8:
        return [TAG.stream, peerId];
      case 9:
        if (draw.oneIn(2)) return [TAG.items, peerId, [value(), value()]];
        return [TAG.chunk, peerId, draw.pick([64, 64, 1024, 0]), value()];
      case 10:
        return [
          TAG.pull,
          own,
          this.#isMostlyValid ? 3 : draw.pick([1, 3, 0, 65_536, 65_537, -1]),
        ];
      case 11:
        return [TAG.cancel, own, this.#failure()];
      case 12:
        if (draw.oneIn(4)) return [TAG.release, [[draw.below(4), 1]]];
        if (this.#isMostlyValid || draw.oneIn(2)) return [TAG.recall, own];
        return [TAG.recalled, peerId, draw.below(4)];
      default:
        return value();
    }
  }

  /** A slot of a value at a path. */
  #slot(path: unknown[]): unknown {
    const draw = this.#draw;
    if (this.#isMostlyValid) {
      return [path, draw.between(SLOT.callback, SLOT.writable), draw.below(5)];
    }
    const keys = [[], ["a"], ["__proto__"], ["length"], [0], [draw.boundary()]];
    return [[...path, ...draw.pick(keys)], draw.below(8), draw.below(5)];
  }

  #name(): string {
    const { length } = NAMES;
    return NAMES[this.#draw.below(this.#draw.below(3) > 0 ? EXPOSED : length)]!;
  }

  #method(): unknown {
    const draw = this.#draw;
    return draw.oneIn(8)
      ? draw.pick([0, 1, 2, 7, draw.boundary(), [1, "a"], [2, this.#name()]])
      : this.#name();
  }

  #args(): unknown[] {
    const draw = this.#draw;
    return Array.from(
      { length: draw.size(5) },
      () => draw.oneIn(2) ? draw.below(9) : this.#maker.value(6),
    );
  }

  #failure(): unknown {
    const draw = this.#draw;
    const value = () => this.#maker.value(6);
    const text = () => draw.pick([draw.pick(NAMES), value(), "TypeError"]);
    switch (draw.below(5)) {
      case 0:
        return [false];
      case 1:
        return [false, value()];
      case 2:
        return [true, value()];
      default:
        return [true, {
          name: text(),
          message: text(),
          stack: text(),
          className: text(),
          cause: draw.oneIn(3) ? this.#failure() : value(),
          errors: draw.oneIn(2) ? [this.#failure(), value()] : value(),
          fields: value(),
        }];
    }
  }

  /** Replaces or removes a value of a message. */
  #alter(message: unknown): unknown {
    if (!Array.isArray(message) || message.length === 0) return message;
    const draw = this.#draw;
    const at = draw.below(message.length);
    const changed = [...message];
    const value = draw.pick<unknown>([
      this.#maker.value(5),
      draw.boundary(),
      -1,
      1.5,
      null,
      "1",
      [],
      {},
    ]);
    switch (draw.below(4)) {
      case 0:
        return changed.toSpliced(at, 1);
      case 1:
        return changed.toSpliced(at, 0, value);
      case 2:
        if (Array.isArray(changed[at])) {
          return changed.with(at, this.#alter(changed[at]));
        }
        return changed.with(at, value);
      default:
        return changed.with(at, value);
    }
  }

  /** Reads answers, and calls, which it answers correctly. */
  async #read(): Promise<void> {
    try {
      for (;;) this.#onMessage(await this.#duplex.receive());
    } catch {
      // The error of the connection is checked at the other side.
    }
  }

  #onMessage(message: unknown): void {
    const [tag, id, method, args] = message as [
      number,
      number,
      unknown,
      unknown[],
    ];
    switch (tag) {
      case TAG.call:
        this.#asked.push(id);
        if (method !== "echo" || this.send([TAG.value, id, args[0]])) return;
        this.answeredTwice.add(id);
        return;
      case TAG.value:
      case TAG.error:
      case TAG.stream:
      case TAG.items:
      case TAG.chunk:
      case TAG.recalled: {
        const answers = this.answers.get(id);
        if (answers === undefined) {
          this.fault ??= `An answer to no call: ${show(message)}`;
        }
        answers?.push(message as unknown[]);
      }
    }
  }
}

/** Checks the error of a call or of a connection. */
function checkError(error: unknown): void {
  const isOurs = error instanceof ProtocolError || isEnd(error);
  if (isOurs) checkMessage(error);
}

/** Checks the answers to a valid call. */
function checkAnswer(
  { id, expected }: ValidCall,
  hostile: Hostile,
  isOpen: boolean,
): void {
  const answers = hostile.answers.get(id)!;
  if (hostile.answeredTwice.has(id)) return;
  if (answers.length > 1) {
    throw new Violation(`A call has two answers: ${show(answers)}`);
  }
  const [answer] = answers;
  if (answer === undefined) {
    if (isOpen) throw new Violation("A call has no answer");
    return;
  }
  const [tag, , result] = answer;
  if (tag === TAG.value && result === expected) return;
  if (tag === TAG.error) {
    const thrown = fromFailure(result as Failure);
    // There were too many other calls.
    if (thrown instanceof RangeError && thrown.message.includes("maxCalls")) {
      return;
    }
  }
  throw new Violation(`A call has another answer: ${show(answer)}`);
}

/** A call by the package's end. */
interface Asked {
  readonly result: Promise<Result>;
  /** The expected result, if it is known. */
  readonly value: unknown;
  isDone: boolean;
}

/** Calls a method of the hostile side. */
function ask(
  api: Record<string, (value: unknown) => Promise<unknown>>,
  draw: Draw,
  asked: Asked[],
): void {
  const value = draw.below(1_000);
  const name = draw.below(3) > 0 ? "echo" : draw.pick(NAMES.slice(8));
  if (name === "then") return;
  const args: unknown[] = [value];
  if (draw.oneIn(6)) args.push(() => 5);
  const call = api[name] as unknown as (...args: unknown[]) => Promise<unknown>;
  if (typeof call !== "function") return;
  const one: Asked = {
    result: settle(call(...args)).finally(() => one.isDone = true),
    value: name === "echo" ? value : undefined,
    isDone: false,
  };
  asked.push(one);
}

/** Checks the results of the calls by the package's end. */
function checkAsked(
  results: readonly Result[],
  asked: readonly Asked[],
  hostile: Hostile,
  isOpen: boolean,
): void {
  for (const [index, result] of results.entries()) {
    if ("error" in result) checkError(result.error);
    const { value } = asked[index]!;
    const id = index + 1;
    if (value === undefined || hostile.answeredTwice.has(id)) continue;
    if ("value" in result) {
      const found = difference(result.value, value);
      if (found === undefined) continue;
      throw new Violation(`A call gives another value: ${show(result.value)}`);
    }
    const isEnd = result.error instanceof Error;
    if (isOpen || !isEnd) {
      throw new Violation(`A call is lost: ${show(result.error)}`);
    }
  }
}

async function run(input: Bytes): Promise<void> {
  const draw = Draw.from(input);
  const isJson = draw.below(3) === 2;
  const [own, peer] = duplexPair({ codec: isJson ? json : msgpack });
  const state: { ended?: unknown } = {};
  const closed = own.closed.then(
    () => {},
    (error) => void (state.ended = error),
  );
  const peerClosed = peer.closed.catch(() => {});
  const served = new Served();
  const maxCalls = draw.pick([1, 2, 5, 65_536]);
  const errors: unknown[] = [];
  const onError = (error: unknown) => void errors.push(error);
  const ended = expose(served.methods, own, { maxCalls, onError });
  const api = remote(own) as unknown as Parameters<typeof ask>[0];
  const hostile = new Hostile(peer, draw, isJson);
  const asked: Asked[] = [];
  for (let left = 1 + draw.below(30); left > 0; left--) {
    switch (draw.below(8)) {
      case 0:
        await turn();
        break;
      case 1:
      case 2:
        hostile.callValidly();
        break;
      case 3:
        ask(api, draw, asked);
        break;
      case 4:
        if (draw.below(8) === 7) {
          await settle(
            within(notifier<Record<string, () => void>>(own).note!(), LIMIT),
          );
        }
        break;
      default:
        hostile.attack();
    }
  }
  served.release();
  await finish({ own, peer, draw, hostile, served, state, asked });
  const all = [ended, closed, peerClosed, hostile.reading];
  await within(Promise.allSettled(all), LIMIT, "the end of a connection");
  const results = await within(
    Promise.all(asked.map(({ result }) => result)),
    LIMIT,
    "a call",
  );
  const isOpen = state.ended === undefined;
  checkAsked(results, asked, hostile, isOpen);
  for (const call of hostile.validCalls) checkAnswer(call, hostile, isOpen);
  // The remaining methods get a few turns to end.
  for (let left = 20; left > 0 && served.running > 0; left--) await turn();
  if (served.running > 0) {
    throw new Violation(`${served.running} methods still run at the end`);
  }
  if (served.most > maxCalls) {
    throw new Violation(
      `${served.most} methods run at once, with a limit of ${maxCalls}`,
    );
  }
  const fault = served.fault ?? hostile.fault;
  if (fault !== undefined) throw new Violation(fault);
  checkEnd(state.ended);
}

/** The state at the end of a run. */
interface Ending {
  readonly own: Duplex;
  readonly peer: Duplex;
  readonly draw: Draw;
  readonly hostile: Hostile;
  readonly served: Served;
  readonly state: { readonly ended?: unknown };
  readonly asked: readonly Asked[];
}

/** Ends the connection in one of several ways. */
async function finish(
  { own, peer, draw, hostile, served, state, asked }: Ending,
): Promise<void> {
  switch (draw.below(4)) {
    case 0:
      peer.abort(STOP);
      break;
    case 1:
      own.abort(STOP);
      break;
    default:
      // Until pending calls have ended.
      for (let left = 40; left > 0; left--) {
        const isBusy = served.running > 0 ||
          hostile.validCalls.some(({ id }) =>
            hostile.answers.get(id)!.length === 0
          ) ||
          asked.some(({ value, isDone }) => value !== undefined && !isDone);
        if (state.ended !== undefined || !isBusy) break;
        await turn();
      }
      peer.close({ timeout: 300 }).catch(() => {});
      own.close({ timeout: 300 }).catch(() => {});
  }
}

const STOP = new Error("The campaign has ended");

/** Checks the error of the connection at the package's end. */
function checkEnd(error: unknown): void {
  if (error === undefined) return;
  if (!(error instanceof Error)) {
    throw new Violation(`A connection ends with another error: ${show(error)}`);
  }
  const isKnown = error instanceof ProtocolError ||
    isEnd(error) || error instanceof RemoteError ||
    error.message.includes(STOP.message);
  if (!isKnown) {
    throw new Violation(`A connection ends with another error: ${show(error)}`);
  }
  checkMessage(error);
}

const calls: Target = {
  batch: 4_000,
  group: 200,
  isAsync: true,
  make(draw) {
    const bytes = draw.bytes(draw.between(40, 900));
    return draw.oneIn(3) ? mutate(bytes, draw) : bytes;
  },
  run,
  budget: (size) => ({ ms: 800 + size * 0.1, bytes: 24 * 2 ** 20 }),
  smaller: smallerBytes,
};

/** The targets of this file. */
export const CALL_TARGETS: Readonly<Record<string, Target>> = { calls };
