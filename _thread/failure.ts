// Copyright 2026 the Duplex authors. MIT license.

/**
 * An uncaught error of a Web Worker. Deno reports only its message and its place to
 * the parent, so the worker posts the error itself before it ends.
 *
 * @module
 */

import { type ErrorParts, fromParts, toParts } from "../_codec/error_parts.ts";
import { isInstance } from "../_base/errors.ts";
import { quoted, reasonText, withoutColor } from "../_base/text.ts";

/** The first part of the post of an error that may end the worker. */
const FAILED = "@duplex/ipc failed";

/**
 * Characters of a message and of a stack that are posted. The error may be handled
 * later, and many such posts must not cost much. A stack has ten lines by default.
 */
const MAX_TEXT_LENGTH = 16_384;

/** Causes of an error that are posted: one may be its own cause. */
const MAX_CAUSES = 8;

/** An error as it is posted: texts only, since the clone refuses some values. */
type Note = Pick<ErrorParts, "className" | "name"> & {
  readonly message: string;
  readonly stack: string;
  readonly cause: Note | undefined;
};

/** The post of a value that was thrown; the last part is `null` if it is not an error. */
export type FailurePost = [kind: typeof FAILED, note: Note | null];

/** Makes the post for an event "error" or "unhandledrejection". */
export function failurePost(event: Event): FailurePost {
  const { error, reason } = event as { error?: unknown; reason?: unknown };
  try {
    return [FAILED, makeNote(error ?? reason, MAX_CAUSES) ?? null];
  } catch {
    // The error is a proxy or has a getter that throws. Its text still arrives.
    return [FAILED, null];
  }
}

function makeNote(error: unknown, depth: number): Note | undefined {
  if (depth === 0 || !isInstance(error, Error)) return undefined;
  const { className, name, message = "", stack = "", causes } = toParts(error);
  const own: unknown = error.constructor.name;
  return {
    className,
    // A class that does not set `name` is known by its constructor.
    name: name === className && typeof own === "string" ? own : name,
    message: message.slice(0, MAX_TEXT_LENGTH),
    stack: stack.slice(0, MAX_TEXT_LENGTH),
    cause: makeNote(causes[0], depth - 1),
  };
}

/** Whether a post is one of {@linkcode failurePost}. */
export function isFailurePost(post: unknown): post is FailurePost {
  return Array.isArray(post) && post.length === 2 && post[0] === FAILED &&
    (post[1] === null || isNote(post[1], MAX_CAUSES));
}

function isNote(value: unknown, depth: number): value is Note {
  if (typeof value !== "object" || value === null) return false;
  const { className, name, message, stack, cause } = value as Partial<Note>;
  return [className, name, message, stack].every((text) =>
    typeof text === "string"
  ) && (cause === undefined || (depth > 0 && isNote(cause, depth - 1)));
}

function restore({ cause, ...note }: Note): Error {
  const causes = cause === undefined ? [] : [restore(cause)];
  return fromParts({ ...note, causes, errors: undefined, fields: {} });
}

/** Characters of a place in an error: a path in it may have 4096. */
const MAX_PLACE_LENGTH = 5_000;

/** A place at the end of a text, as in "at file:///w.ts:1:10". */
const PLACE = /\n\s+at (.+:\d+:\d+)\s*$/;

/** What ended a worker: the event of its parent, and what the worker posted. */
export class Failure {
  readonly #message: string;
  readonly #place: string;
  readonly #hasPlace: boolean;
  #error: Error | undefined;

  constructor({ message, filename, lineno, colno }: ErrorEvent) {
    this.#message = withoutColor(message);
    this.#hasPlace = typeof filename === "string" && filename !== "";
    // Deno does not give the place of a syntax error in the fields of the event.
    this.#place = this.#hasPlace
      ? `${filename}:${lineno}:${colno}`
      : PLACE.exec(this.#message)?.[1] ?? "";
  }

  /**
   * Adds the error that the worker posted.
   *
   * @returns Whether it is the error of the event. Otherwise the worker has handled
   *   it, and the post of the other one has not arrived.
   */
  add([, note]: FailurePost): boolean {
    // An event without a place is about a value that is not an error.
    if (note === null) return !this.#hasPlace;
    if (!this.#message.includes(withoutColor(note.message))) return false;
    this.#error = restore(note);
    return true;
  }

  /** The error, if the worker could post it. */
  get cause(): Error | undefined {
    return this.#error;
  }

  /** The stack, or what is known of it. */
  get stack(): string {
    return this.#error?.stack || this.text;
  }

  /** What was thrown and where, printable and cut. */
  get text(): string {
    const error = this.#error;
    const what = error === undefined
      ? this.#message
      : `${error.name}: ${error.message}`;
    // The lines after the first one are an excerpt of the source and the place.
    const head = PLACE.test(what) ? what.split("\n", 1)[0]! : what;
    // A URL with the source of the script would hide the rest.
    const place = this.#place.replace(/^data:.*:(\d+:\d+)$/s, "data:…:$1");
    return reasonText(head) +
      (place === "" ? "" : ` at ${quoted(place, MAX_PLACE_LENGTH)}`);
  }
}
