// Copyright 2026 the Duplex authors. MIT license.

/**
 * The fields of a socket's own frames, read from a peer that may have sent
 * anything.
 *
 * @module
 */

import { ProtocolError } from "../_base/errors.ts";
import { show } from "../_base/text.ts";
import type { ControlFields } from "../_wire/frame_layout.ts";

/** A field that must be a whole number from 0 up. */
export function integer(
  frame: string,
  fields: ControlFields,
  name: string,
): number {
  const value = fields[name];
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) {
    return value;
  }
  throw wrong(frame, name, "be a whole number from 0 up", value);
}

/** A field that must be true or false. */
export function boolean(
  frame: string,
  fields: ControlFields,
  name: string,
): boolean {
  const value = fields[name];
  if (typeof value === "boolean") return value;
  throw wrong(frame, name, "be true or false", value);
}

/** A field that must be so many bytes. Returns a copy. */
export function binary(
  frame: string,
  fields: ControlFields,
  name: string,
  size: number,
): Uint8Array<ArrayBuffer> {
  const value = fields[name];
  if (value instanceof Uint8Array && value.length === size) {
    return value.slice();
  }
  throw wrong(frame, name, `be ${size} bytes`, value);
}

function wrong(
  frame: string,
  name: string,
  what: string,
  value: unknown,
): ProtocolError {
  const current = value instanceof Uint8Array
    ? `${value.length} bytes`
    : show(value);
  return new ProtocolError(
    `Cannot read ${frame} as "${name}" must ${what}: current value is ${current}`,
  );
}
