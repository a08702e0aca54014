// Copyright 2026 the Duplex authors. MIT license.

/**
 * The messages of calls: arrays whose first item is a tag, as PROTOCOL.md
 * describes them. Every message of a peer is checked here before it is used.
 *
 * Functions and signals among the arguments of a call cannot be sent. The message
 * says where they were (their slots), and the peer fills each slot with a function
 * that calls back, or with a signal of its own. They are found as arguments and as
 * properties of arguments that are plain objects, where options are; not deeper,
 * because every call would pay for the search.
 *
 * @module
 */

import { ProtocolError } from "../_base/errors.ts";
import { show } from "../_base/text.ts";
import { defineOwn } from "../_codec/properties.ts";

/** The tag of a message; its first item. */
export const TAG = {
  /** `[tag, id, method, arguments, slots?]`: calls a method. */
  call: 1,
  /**
   * `[tag, id, method, list of arguments]`: calls a method once for each arguments,
   * one call after the other. Every call is answered in this order, by a value
   * among items or by an error, also if there is no such method, unless `recalled`
   * says that it was not begun.
   */
  batch: 2,
  /** `[tag, method, arguments]`: calls a method without an answer. */
  notice: 3,
  /** `[tag, id, value?]`: the result of a call, or of the next one of a batch. */
  value: 4,
  /**
   * `[tag, id, failure, time?]`: the error of a call, or of the next one of a batch;
   * and the microseconds that the calls of a batch have taken.
   */
  error: 5,
  /** `[tag, id]`: the result of a call is a stream. */
  stream: 6,
  /** `[tag, id, values, time?]`: the next values of a stream, or of a batch, as above. */
  items: 7,
  /** `[tag, id, count]`: requests so many more values of a stream. */
  pull: 8,
  /**
   * `[tag, id, failure]`: cancels a call. It may be answered or not; a batch ends
   * as after `recall`.
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
} as const;

/** The method of every end that describes it: its methods and its memory. */
export const DESCRIBE = 0;

/** The name of a method, the number of a callback, or {@linkcode DESCRIBE}. */
export type MethodKey = string | number;

/** The kinds of slots. */
export const SLOT = { callback: 1, signal: 2 } as const;

/** A slot: the argument, its property or null, the kind, and a callback's number. */
export type Slot = [
  index: number,
  property: string | null,
  kind: typeof SLOT[keyof typeof SLOT],
  id: number,
];

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
  ]
  | [tag: typeof TAG.batch, id: number, method: string, list: unknown[][]]
  | [tag: typeof TAG.notice, method: string, args: unknown[]]
  | [tag: typeof TAG.value, id: number, value?: unknown]
  | [tag: typeof TAG.error, id: number, failure: Failure, time?: number]
  | [tag: typeof TAG.stream, id: number]
  | [tag: typeof TAG.items, id: number, values: unknown[], time?: number]
  | [tag: typeof TAG.pull, id: number, count: number]
  | [tag: typeof TAG.cancel, id: number, failure: Failure]
  | [tag: typeof TAG.recall, id: number]
  | [tag: typeof TAG.recalled, id: number, begun: number, time?: number];

/** Maximum calls in one batch. More would hardly lower the cost of each. */
export const MAX_BATCH = 1024;

/** Maximum values of a stream that may be requested in advance. */
export const MAX_PULL = 65_536;

/** Maximum functions and signals among the arguments of one call. */
export const MAX_SLOTS = 256;

/** Describes what is wrong with an item of a message, or returns `undefined`. */
type Check = (item: unknown, message: unknown[]) => string | undefined;

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
  [TAG.call]: shape([checkId, checkMethod, checkArray, checkSlots], 3),
  [TAG.batch]: shape([checkId, checkName, checkBatch]),
  [TAG.notice]: shape([checkName, checkArray]),
  [TAG.value]: shape([checkId, () => undefined], 1),
  [TAG.error]: shape([checkId, checkFailure, checkTime], 2),
  [TAG.stream]: shape([checkId]),
  [TAG.items]: shape([checkId, checkArray, checkTime], 2),
  [TAG.pull]: shape([checkId, checkPull]),
  [TAG.cancel]: shape([checkId, checkFailure]),
  [TAG.recall]: shape([checkId]),
  [TAG.recalled]: shape([checkId, checkCount, checkTime], 2),
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
    const fault = checks[index]!(message[index + 1], message);
    if (fault !== undefined) throw refusal(message, fault);
  }
  return message as Message;
}

function checkId(id: unknown): string | undefined {
  if (isWhole(id) && id > 0) return undefined;
  return `${show(id)} is not the number of a call`;
}

function checkMethod(method: unknown): string | undefined {
  return isWhole(method) ? undefined : checkName(method);
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

function checkCount(count: unknown): string | undefined {
  return isWhole(count) ? undefined : `${show(count)} is not a number of calls`;
}

function checkTime(time: unknown): string | undefined {
  return isWhole(time) ? undefined : `${show(time)} is not a time`;
}

function checkSlots(slots: unknown, message: unknown[]): string | undefined {
  if (!Array.isArray(slots)) return checkArray(slots);
  if (slots.length > MAX_SLOTS) {
    return `a call has at most ${MAX_SLOTS} functions and signals`;
  }
  const args = message[3] as unknown[];
  for (const slot of slots) {
    if (Array.isArray(slot) && isSlotIn(args, slot)) continue;
    return `${show(slot)} is not a slot of its arguments`;
  }
  return undefined;
}

function isSlotIn(args: unknown[], slot: unknown[]): boolean {
  const [index, property, kind, id] = slot;
  if (slot.length !== 4 || !isWhole(index) || index >= args.length) {
    return false;
  }
  if (kind !== SLOT.callback && kind !== SLOT.signal) return false;
  if (!isWhole(id)) return false;
  return property === null ||
    (typeof property === "string" && isPlain(args[index]));
}

/** Whether a value is an object without a class. */
function isPlain(value: unknown): value is Record<string, unknown> {
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

/** Any function. */
// deno-lint-ignore ban-types
export type Callback = Function;

/** A function or a signal, and where it was found. */
export interface SlotValue {
  readonly index: number;
  readonly property: string | null;
  readonly value: Callback | AbortSignal;
}

function isSlotValue(value: unknown): value is Callback | AbortSignal {
  return typeof value === "function" || value instanceof AbortSignal;
}

/** Finds the functions and signals among arguments; most calls have none. */
export function findSlotValues(
  args: readonly unknown[],
): SlotValue[] | undefined {
  let found: SlotValue[] | undefined;
  for (let index = 0; index < args.length; index++) {
    const arg = args[index];
    if (typeof arg === "function") {
      (found ??= []).push({ index, property: null, value: arg });
    } else if (typeof arg === "object" && arg !== null) {
      if (isPlain(arg)) {
        // Without a list of the keys, which each call would allocate.
        for (const property in arg) {
          const value = arg[property];
          if (!isSlotValue(value) || !Object.hasOwn(arg, property)) continue;
          (found ??= []).push({ index, property, value });
        }
      } else if (arg instanceof AbortSignal) {
        (found ??= []).push({ index, property: null, value: arg });
      }
    }
  }
  return found;
}

/** A copy of the arguments without functions and signals. */
export function withoutSlotValues(
  args: readonly unknown[],
  values: readonly SlotValue[],
): unknown[] {
  const rest = [...args];
  /** An argument that occurs again has one copy. */
  const copies = new Map<unknown, Record<string, unknown>>();
  for (const { index, property } of values) {
    if (property === null) {
      rest[index] = null;
      continue;
    }
    const arg = args[index];
    let copy = copies.get(arg);
    if (copy === undefined) copies.set(arg, copy = { ...arg as object });
    rest[index] = copy;
    delete copy[property];
  }
  return rest;
}

/** Fills the slots of received arguments. */
export function fillSlots(
  args: unknown[],
  slots: readonly Slot[],
  make: (kind: Slot[2], id: number) => Callback | AbortSignal,
): void {
  for (const [index, property, kind, id] of slots) {
    const value = make(kind, id);
    if (property === null) args[index] = value;
    else defineOwn(args[index] as object, property, value);
  }
}

/** The kind of the slot for a value. */
export function slotKind(value: Callback | AbortSignal): Slot[2] {
  return typeof value === "function" ? SLOT.callback : SLOT.signal;
}
