// Copyright 2026 the Duplex authors. MIT license.

/**
 * Functions and signals among the arguments of a call. They cannot be sent: where
 * one stood a place is told, and the far side puts a function there that calls
 * back, or a signal of its own.
 *
 * They are found as arguments, and as properties of arguments that are plain
 * objects, where options stand; not deeper, since every call would pay for it.
 *
 * @module
 */

import { isPlain, PLACE, type Place } from "./messages.ts";
import { defineOwn } from "../_codec/values.ts";

/** A function as it comes among arguments. */
// deno-lint-ignore ban-types
export type Callback = Function;

/** A function or a signal, and where it stood. */
export interface Placed {
  readonly index: number;
  readonly property: string | null;
  readonly value: Callback | AbortSignal;
}

/** Whether a value is put into a place. */
function isPlaced(value: unknown): value is Callback | AbortSignal {
  return typeof value === "function" || value instanceof AbortSignal;
}

/** The functions and signals among arguments; most calls have none. */
export function findPlaced(args: readonly unknown[]): Placed[] | undefined {
  let found: Placed[] | undefined;
  for (let index = 0; index < args.length; index++) {
    const arg = args[index];
    if (typeof arg === "function") {
      (found ??= []).push({ index, property: null, value: arg });
    } else if (typeof arg === "object" && arg !== null) {
      if (isPlain(arg)) {
        // Every call comes by here, and a list of the keys would be garbage.
        for (const property in arg) {
          const value = arg[property];
          if (!isPlaced(value) || !Object.hasOwn(arg, property)) continue;
          (found ??= []).push({ index, property, value });
        }
      } else if (arg instanceof AbortSignal) {
        (found ??= []).push({ index, property: null, value: arg });
      }
    }
  }
  return found;
}

/** The arguments without them; the caller's own are left as they are. */
export function withoutPlaced(
  args: readonly unknown[],
  placed: readonly Placed[],
): unknown[] {
  const rest = [...args];
  for (const { index, property } of placed) {
    if (property === null) {
      rest[index] = null;
      continue;
    }
    if (rest[index] === args[index]) rest[index] = { ...args[index] as object };
    delete (rest[index] as Record<string, unknown>)[property];
  }
  return rest;
}

/** Puts functions and signals into their places among arguments that arrived. */
export function fillPlaces(
  args: unknown[],
  places: readonly Place[],
  make: (kind: Place[2], id: number) => Callback | AbortSignal,
): void {
  for (const [index, property, kind, id] of places) {
    const value = make(kind, id);
    if (property === null) args[index] = value;
    else defineOwn(args[index] as object, property, value);
  }
}

/** The kind of a place for a value. */
export function kindOf(value: Callback | AbortSignal): Place[2] {
  return typeof value === "function" ? PLACE.callback : PLACE.signal;
}
