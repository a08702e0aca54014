// Copyright 2026 the Duplex authors. MIT license.

/**
 * What two ends that call each other say: arrays, the first item of which says
 * what the others are. Everything that a peer says is checked here before
 * anything acts on it. PROTOCOL.md has the same as a table.
 *
 * @module
 */

import { ProtocolError } from "../_base/errors.ts";
import { show } from "../_base/text.ts";

/** What a message is; its first item. */
export const TAG = {
  /** `[tag, id, method, arguments, places?]`: calls a method. */
  call: 1,
  /**
   * `[tag, id, method, list of arguments]`: calls it with each, one after the other.
   * Every call of it is answered, in this order, by a value among items or by an
   * error of its own, also where there is no such method; unless `recalled` says
   * that it was not begun.
   */
  batch: 2,
  /** `[tag, method, arguments]`: calls a method and wants no answer. */
  notice: 3,
  /** `[tag, id, value?]`: what a call gave, or the next one of a batch. */
  value: 4,
  /** `[tag, id, failure]`: what a call threw, or the next one of a batch. */
  error: 5,
  /** `[tag, id]`: a call gives many values, one after the other. */
  stream: 6,
  /** `[tag, id, values]`: the next values of a stream, or of a batch. */
  items: 7,
  /** `[tag, id, count]`: takes so many more values of a stream. */
  pull: 8,
  /**
   * `[tag, id, failure]`: nobody wants what a call gives any more. It may be
   * answered or not; a batch ends as after `recall`.
   */
  cancel: 9,
  /** `[tag, id]`: begins no more calls of a batch. */
  recall: 10,
  /**
   * `[tag, id, begun]`: said at once, if there is a rest: only so many calls of the
   * batch were begun, and no others will be. The batch ends with their answers.
   */
  recalled: 11,
} as const;

/** The method that every end has: what there is to call, and its memory. */
export const DESCRIBE = 0;

/** A method: a name that was exposed, a function among arguments, or {@linkcode DESCRIBE}. */
export type MethodKey = string | number;

/** What stands at a place among the arguments instead of what can be sent. */
export const PLACE = { callback: 1, signal: 2 } as const;

/** Where a function or a signal stood: argument, property of it or none, kind, number. */
export type Place = [
  index: number,
  property: string | null,
  kind: typeof PLACE[keyof typeof PLACE],
  id: number,
];

/** What was thrown: an error by its parts, or any other value. */
export type Failure = [isError: true, parts: unknown] | [
  isError: false,
  value?: unknown,
];

/** A message that was checked. */
export type Message =
  | [
    tag: typeof TAG.call,
    id: number,
    method: MethodKey,
    args: unknown[],
    places?: Place[],
  ]
  | [tag: typeof TAG.batch, id: number, method: string, list: unknown[][]]
  | [tag: typeof TAG.notice, method: string, args: unknown[]]
  | [tag: typeof TAG.value, id: number, value?: unknown]
  | [tag: typeof TAG.error, id: number, failure: Failure]
  | [tag: typeof TAG.stream, id: number]
  | [tag: typeof TAG.items, id: number, values: unknown[]]
  | [tag: typeof TAG.pull, id: number, count: number]
  | [tag: typeof TAG.cancel, id: number, failure: Failure]
  | [tag: typeof TAG.recall, id: number]
  | [tag: typeof TAG.recalled, id: number, begun: number];

/** Calls in one batch at most: more would share the cost of a message no better. */
export const MAX_BATCH = 1024;

/** Values of a stream that may be on their way at most. */
export const MAX_PULL = 65_536;

/** Functions and signals among the arguments of one call at most. */
export const MAX_PLACES = 256;

/**
 * Checks a message.
 *
 * @throws {ProtocolError} If it is none.
 */
export function readMessage(message: unknown): Message {
  if (!Array.isArray(message)) throw refusal(message, "it is no array");
  switch (message[0]) {
    case TAG.call:
      checkLength(message, 4, 5);
      checkId(message);
      checkMethod(message, message[2]);
      checkArguments(message, message[3]);
      if (message.length === 5) checkPlaces(message, message[4]);
      break;
    case TAG.batch:
      checkLength(message, 4);
      checkId(message);
      checkName(message, message[2]);
      checkBatch(message, message[3]);
      break;
    case TAG.notice:
      checkLength(message, 3);
      checkName(message, message[1]);
      checkArguments(message, message[2]);
      break;
    case TAG.value:
      checkLength(message, 2, 3);
      checkId(message);
      break;
    case TAG.error:
    case TAG.cancel:
      checkLength(message, 3);
      checkId(message);
      checkFailure(message, message[2]);
      break;
    case TAG.items:
      checkLength(message, 3);
      checkId(message);
      checkArguments(message, message[2]);
      break;
    case TAG.pull:
      checkLength(message, 3);
      checkId(message);
      if (!isWhole(message[2]) || message[2] < 1 || message[2] > MAX_PULL) {
        throw refusal(message, `it pulls ${show(message[2])} values`);
      }
      break;
    case TAG.recalled:
      checkLength(message, 3);
      checkId(message);
      if (!isWhole(message[2])) {
        throw refusal(message, `${show(message[2])} is no count of calls`);
      }
      break;
    case TAG.stream:
    case TAG.recall:
      checkLength(message, 2);
      checkId(message);
      break;
    default:
      throw refusal(message, `there is no tag ${show(message[0])}`);
  }
  return message as Message;
}

function checkLength(message: unknown[], least: number, most = least): void {
  const { length } = message;
  if (length >= least && length <= most) return;
  throw refusal(message, `it has ${length} items`);
}

function checkId(message: unknown[]): void {
  if (isWhole(message[1]) && message[1] > 0) return;
  throw refusal(message, `${show(message[1])} is no number of a call`);
}

function checkMethod(message: unknown[], method: unknown): void {
  if (!isWhole(method)) checkName(message, method);
}

function checkName(message: unknown[], method: unknown): void {
  if (typeof method === "string") return;
  throw refusal(message, `${show(method)} is no name of a method`);
}

function checkArguments(message: unknown[], args: unknown): void {
  if (Array.isArray(args)) return;
  throw refusal(message, `${show(args)} is no array`);
}

function checkBatch(message: unknown[], list: unknown): void {
  checkArguments(message, list);
  const { length } = list as unknown[];
  if (length < 1 || length > MAX_BATCH) {
    throw refusal(
      message,
      `a batch has 1 to ${MAX_BATCH} calls, and this one ${length}`,
    );
  }
  for (const args of list as unknown[]) checkArguments(message, args);
}

function checkFailure(message: unknown[], failure: unknown): void {
  if (
    Array.isArray(failure) &&
    (failure[0] === true ? failure.length === 2 : failure[0] === false)
  ) return;
  throw refusal(message, `${show(failure)} is no failure`);
}

function checkPlaces(message: unknown[], places: unknown): void {
  checkArguments(message, places);
  if ((places as unknown[]).length > MAX_PLACES) {
    throw refusal(
      message,
      `a call has at most ${MAX_PLACES} functions and signals`,
    );
  }
  const args = message[3] as unknown[];
  for (const place of places as unknown[]) {
    if (Array.isArray(place) && isPlaceIn(args, place)) continue;
    throw refusal(message, `${show(place)} is no place among its arguments`);
  }
}

function isPlaceIn(args: unknown[], place: unknown[]): boolean {
  const [index, property, kind, id] = place;
  if (place.length !== 4 || !isWhole(index) || index >= args.length) {
    return false;
  }
  if (kind !== PLACE.callback && kind !== PLACE.signal) return false;
  if (!isWhole(id)) return false;
  return property === null ||
    (typeof property === "string" && isPlain(args[index]));
}

/** Whether a value is an object as braces make them. */
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
    `Cannot take ${what}: ${why}; have both ends call with "remote" and "expose", and send nothing else`,
  );
}
