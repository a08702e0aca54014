// Copyright 2026 the Duplex authors. MIT license.

/**
 * The types of `@std/msgpack` for `tools/with_jsr.ts`.
 *
 * @module
 */

export type ValueType =
  | number
  | bigint
  | string
  | boolean
  | null
  | Uint8Array
  | readonly ValueType[]
  | ValueMap;

export interface ValueMap {
  [index: string | number]: ValueType;
}

export type Uint8Array_ = ReturnType<Uint8Array["slice"]>;

export function encode(object: ValueType): Uint8Array_;
export function decode(data: Uint8Array): ValueType;
