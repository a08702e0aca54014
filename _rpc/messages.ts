// Copyright 2026 the Duplex authors. MIT license.

/**
 * The messages of calls: arrays whose first item is a tag, as PROTOCOL.md
 * describes them. Every message of a peer is checked here before it is used.
 *
 * Functions, signals and the like cannot be sent. The message says where they were
 * (their slots, see `slots.ts`), and the peer puts values of its own there.
 *
 * @module
 */

import { ProtocolError } from "../_base/errors.ts";
import { show } from "../_base/text.ts";

/** The tag of a message; its first item. */
export const TAG = {
  /** `[tag, id, method, arguments, slots?, trace?]`: calls a method. */
  call: 1,
  /**
   * `[tag, id, method, list of arguments, traces?]`: calls a method once for each arguments,
   * one call after the other. Each is answered in this order, by a value among items
   * or by an error, unless `recalled` says that it was not begun.
   */
  batch: 2,
  /** `[tag, method, arguments, slots?, trace?]`: calls a method without an answer. */
  notice: 3,
  /** `[tag, id, value?, slots?]`: the result of a call, or of the next one of a batch. */
  value: 4,
  /**
   * `[tag, id, failure, time?]`: the error of a call, or of the next one of a batch;
   * and the microseconds that the calls of a batch have taken.
   */
  error: 5,
  /** `[tag, id]`: the result of a call is a stream. */
  stream: 6,
  /**
   * `[tag, id, values, slots?, time?]`: the next values of a stream, or of a batch; and
   * the time, as above.
   */
  items: 7,
  /** `[tag, id, count]`: requests so many more values of a stream. */
  pull: 8,
  /**
   * `[tag, id, failure]`: cancels a call, which may still be answered. It also recalls
   * a batch.
   */
  cancel: 9,
  /** `[tag, id]`: begins no more calls of a batch. */
  recall: 10,
  /**
   * `[tag, id, begun, time?]`: the answer to `recall`, sent at once unless all calls were
   * begun: only so many calls of the batch were and will be begun. The batch ends
   * with their answers.
   */
  recalled: 11,
  /**
   * `[tag, [[id, count], …]]`: this end no longer uses functions, objects and streams of
   * the peer, each of which it has received so many times.
   */
  release: 12,
  /** `[tag, id, cost, chunk?, slots?]`: the next chunk of a web stream, and its cost. */
  chunk: 13,
} as const;

/** The method of every end that describes it: its methods and its memory. */
export const DESCRIBE = 0;

/**
 * The name of a method, the number of a function, the number of an object and the
 * name of its method, or {@linkcode DESCRIBE}.
 */
export type MethodKey = string | number | [id: number, name: string];

/** The kinds of slots. */
export const SLOT = {
  /** A function of the sender. */
  callback: 1,
  /** A signal that aborts when the call is cancelled; its number is 0. */
  signal: 2,
  /** An object of the sender with methods. */
  object: 3,
  /** A `ReadableStream` of the sender. */
  readable: 4,
  /** A `WritableStream` of the sender. */
  writable: 5,
  /** A function or an object of the receiver, which had sent it. */
  own: 6,
} as const;

/** The keys from the arguments, the result or the items to a value in them. */
export type Path = readonly (string | number)[];

/** Where a value was, its kind, and its number. */
export type Slot = [path: Path, kind: number, id: number];

/** A thrown value: an error as its parts, or any other value. */
export type Failure = [isError: true, parts: unknown] | [
  isError: false,
  value?: unknown,
];

/** A checked message. */
export type Message =
  | [
    tag: typeof TAG.call,
    id: number,
    method: MethodKey,
    args: unknown[],
    slots?: Slot[],
    trace?: Trace,
  ]
  | [
    tag: typeof TAG.batch,
    id: number,
    method: string,
    list: unknown[][],
    traces?: (Trace | null)[],
  ]
  | [
    tag: typeof TAG.notice,
    method: string,
    args: unknown[],
    slots?: Slot[],
    trace?: Trace,
  ]
  | [tag: typeof TAG.value, id: number, value?: unknown, slots?: Slot[]]
  | [tag: typeof TAG.error, id: number, failure: Failure, time?: number]
  | [tag: typeof TAG.stream, id: number]
  | [
    tag: typeof TAG.items,
    id: number,
    values: unknown[],
    slots?: Slot[],
    time?: number,
  ]
  | [tag: typeof TAG.pull, id: number, count: number]
  | [tag: typeof TAG.cancel, id: number, failure: Failure]
  | [tag: typeof TAG.recall, id: number]
  | [tag: typeof TAG.recalled, id: number, begun: number, time?: number]
  | [tag: typeof TAG.release, released: Released[]]
  | [
    tag: typeof TAG.chunk,
    id: number,
    cost: number,
    chunk?: unknown,
    slots?: Slot[],
  ];

/** The fields of a trace, such as "traceparent". */
export type Trace = Record<string, string>;

/** The number of a function or object, and how many times it was received. */
export type Released = [id: number, count: number];

/** The index of the value in an answer; its slots are behind it. */
export function valueIndex(message: Message): 2 | 3 | undefined {
  switch (message[0]) {
    case TAG.value:
    case TAG.items:
      return 2;
    case TAG.chunk:
      return 3;
    default:
      return undefined;
  }
}

/** Maximum calls in one batch. More would hardly lower the cost of each. */
export const MAX_BATCH = 1024;

/** Maximum values of a stream that may be requested in advance. */
export const MAX_PULL = 65_536;

/**
 * The least and the most that a chunk of a web stream can cost. A unit is 1 KiB: a
 * chunk costs its size, but at least 64 KiB, so that small ones are limited by their
 * number, and at most 1 MiB, which is as much as may be requested in advance.
 */
export const MIN_CHUNK_COST = 64;
export const MAX_CHUNK_COST = 1024;

/** Maximum slots of one message: more than a method with named callbacks needs. */
export const MAX_SLOTS = 256;

/** Maximum fields of a trace. W3C Trace Context and W3C Baggage have three. */
const MAX_TRACE_FIELDS = 8;

/** Maximum characters of a field of a trace, as W3C Baggage has it. */
const MAX_TRACE_LENGTH = 8192;

/** Describes what is wrong with an item of a message, or returns `undefined`. */
type Check = (item: unknown) => string | undefined;

/** The number of items with their checks, and how many of them are required. */
interface Shape {
  readonly checks: readonly Check[];
  readonly required: number;
}

function shape(checks: readonly Check[], required = checks.length): Shape {
  return { checks, required };
}

/** The items that follow the tag of each message. */
const SHAPES: Readonly<Record<number, Shape | undefined>> = {
  [TAG.call]: shape(
    [checkId, checkMethod, checkArray, checkSlots, checkTrace],
    3,
  ),
  [TAG.batch]: shape([checkId, checkName, checkBatch, checkTraces], 3),
  [TAG.notice]: shape([checkName, checkArray, checkSlots, checkTrace], 2),
  [TAG.value]: shape([checkId, () => undefined, checkSlots], 1),
  [TAG.error]: shape([checkId, checkFailure, checkTime], 2),
  [TAG.stream]: shape([checkId]),
  [TAG.items]: shape([checkId, checkArray, checkSlots, checkTime], 2),
  [TAG.pull]: shape([checkId, checkPull]),
  [TAG.cancel]: shape([checkId, checkFailure]),
  [TAG.recall]: shape([checkId]),
  [TAG.recalled]: shape([checkId, checkCount, checkTime], 2),
  [TAG.release]: shape([checkReleased]),
  [TAG.chunk]: shape([checkId, checkCost, () => undefined, checkSlots], 2),
};

/**
 * Checks a message.
 *
 * @throws {ProtocolError} If it is malformed.
 */
export function readMessage(message: unknown): Message {
  if (!Array.isArray(message)) throw refusal(message, "it is not an array");
  const tag: unknown = message[0];
  const shape = typeof tag === "number" ? SHAPES[tag] : undefined;
  if (shape === undefined) {
    throw refusal(message, `its tag ${show(tag)} is unknown`);
  }
  const { checks, required } = shape;
  const count = message.length - 1;
  if (count < required || count > checks.length) {
    throw refusal(message, `it has ${message.length} items`);
  }
  for (let index = 0; index < count; index++) {
    const fault = checks[index]!(message[index + 1]);
    if (fault !== undefined) throw refusal(message, fault);
  }
  return message as Message;
}

function checkId(id: unknown): string | undefined {
  if (isWhole(id) && id > 0) return undefined;
  return `${show(id)} is not the number of a call`;
}

function checkMethod(method: unknown): string | undefined {
  if (typeof method === "string" || isWhole(method)) return undefined;
  const isOfObject = Array.isArray(method) && method.length === 2 &&
    isWhole(method[0]) && typeof method[1] === "string";
  return isOfObject ? undefined : checkName(method);
}

function checkName(method: unknown): string | undefined {
  if (typeof method === "string") return undefined;
  return `${show(method)} is not the name of a method`;
}

function checkArray(value: unknown): string | undefined {
  return Array.isArray(value) ? undefined : `${show(value)} is not an array`;
}

function checkBatch(list: unknown): string | undefined {
  if (!Array.isArray(list)) return checkArray(list);
  const { length } = list;
  if (length < 1 || length > MAX_BATCH) {
    return `a batch has 1 to ${MAX_BATCH} calls, and this one ${length}`;
  }
  for (const args of list) {
    const fault = checkArray(args);
    if (fault !== undefined) return fault;
  }
  return undefined;
}

function checkFailure(failure: unknown): string | undefined {
  if (
    Array.isArray(failure) &&
    (failure[0] === true ? failure.length === 2 : failure[0] === false)
  ) return undefined;
  return `${show(failure)} is not a failure`;
}

function checkPull(count: unknown): string | undefined {
  if (isWhole(count) && count >= 1 && count <= MAX_PULL) return undefined;
  return `it requests ${show(count)} values`;
}

function checkCost(cost: unknown): string | undefined {
  if (isWhole(cost) && cost >= MIN_CHUNK_COST && cost <= MAX_CHUNK_COST) {
    return undefined;
  }
  return `${show(cost)} is not the cost of a chunk`;
}

function checkCount(count: unknown): string | undefined {
  return isWhole(count) ? undefined : `${show(count)} is not a number of calls`;
}

function checkTime(time: unknown): string | undefined {
  return isWhole(time) ? undefined : `${show(time)} is not a time`;
}

function checkSlots(slots: unknown): string | undefined {
  if (!Array.isArray(slots)) return checkArray(slots);
  if (slots.length > MAX_SLOTS) {
    return `a message has at most ${MAX_SLOTS} functions and signals`;
  }
  for (const slot of slots) {
    if (!isSlot(slot)) return `${show(slot)} is not a slot of its value`;
  }
  return undefined;
}

function isSlot(slot: unknown): slot is Slot {
  return Array.isArray(slot) && slot.length === 3 && Array.isArray(slot[0]) &&
    slot[0].every((key) => typeof key === "string" || isWhole(key)) &&
    isWhole(slot[1]) && isWhole(slot[2]);
}

function checkTrace(trace: unknown): string | undefined {
  if (!isPlain(trace)) return `${show(trace)} is not a trace`;
  const fields = Object.values(trace);
  const isTrace = fields.length <= MAX_TRACE_FIELDS &&
    fields.every((field) =>
      typeof field === "string" && field.length <= MAX_TRACE_LENGTH
    );
  return isTrace
    ? undefined
    : `a trace has at most ${MAX_TRACE_FIELDS} fields of at most ${MAX_TRACE_LENGTH} characters`;
}

function checkTraces(traces: unknown): string | undefined {
  if (!Array.isArray(traces)) return checkArray(traces);
  if (traces.length > MAX_BATCH) return "it has more traces than calls";
  for (const trace of traces) {
    const fault = trace === null ? undefined : checkTrace(trace);
    if (fault !== undefined) return fault;
  }
  return undefined;
}

function checkReleased(released: unknown): string | undefined {
  if (!Array.isArray(released)) return checkArray(released);
  for (const item of released) {
    const isReleased = Array.isArray(item) && item.length === 2 &&
      item.every((number) => isWhole(number) && number > 0);
    if (!isReleased) return `${show(item)} is not a released function`;
  }
  return undefined;
}

/** Whether a value is an object without a class. */
export function isPlain(value: unknown): value is Record<string, unknown> {
  if (typeof value !== "object" || value === null) return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

function isWhole(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

const NAMES = Object.fromEntries(
  Object.entries(TAG).map(([name, tag]) => [tag, name]),
);

function refusal(message: unknown, why: string): ProtocolError {
  const tag = Array.isArray(message) ? message[0] : undefined;
  const name = typeof tag === "number" ? NAMES[tag] : undefined;
  const what = name === undefined ? "a message" : `a message "${name}"`;
  return new ProtocolError(
    `Cannot read ${what}: ${why}; use "remote" and "expose" on both ends, and send nothing else`,
  );
}
