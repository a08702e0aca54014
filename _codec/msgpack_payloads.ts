// Copyright 2026 the Duplex authors. MIT license.

/**
 * Payloads of MessagePack extensions that are plain bytes (big integers, UTF-16
 * strings, timestamps), and floats.
 *
 * @module
 */

/** Characters for one call of `String.fromCharCode`. */
const CHUNK = 4096;

const NANOSECONDS_PER_SECOND = 1_000_000_000;

/** Maximum distance of a `Date` from 1970, in milliseconds. */
const MAX_DATE = 8.64e15;

/**
 * Converts a big integer to a sign byte and its magnitude. Conversion through
 * hexadecimal takes linear time; arithmetic would take quadratic time.
 *
 * @param value The integer.
 * @returns 0, or 1 if it is negative, and the magnitude big-endian.
 */
export function bigintToBytes(value: bigint): Uint8Array<ArrayBuffer> {
  const negative = value < 0n;
  let hex = (negative ? -value : value).toString(16);
  if (hex === "0") hex = "";
  else if (hex.length % 2) hex = `0${hex}`;
  const bytes = new Uint8Array(1 + hex.length / 2);
  bytes[0] = negative ? 1 : 0;
  for (let index = 1; index < bytes.length; index++) {
    const at = index * 2;
    bytes[index] = hexDigit(hex.charCodeAt(at - 2)) << 4 |
      hexDigit(hex.charCodeAt(at - 1));
  }
  return bytes;
}

/** The value of a hexadecimal digit in lower case. */
function hexDigit(code: number): number {
  return code < 0x3a ? code - 0x30 : code - 0x57;
}

/**
 * Reads the bytes of {@linkcode bigintToBytes}.
 *
 * @param bytes The bytes with the sign and the magnitude.
 * @param start Their start.
 * @param end Their end.
 * @returns The integer.
 * @throws {RangeError} If the sign is missing, or the integer is too large.
 */
export function bytesToBigint(
  bytes: Uint8Array,
  start: number,
  end: number,
): bigint {
  const sign = start < end ? bytes[start] : undefined;
  if (sign !== 0 && sign !== 1) throw new RangeError("The sign is not 0 or 1");
  const magnitude = readMagnitude(bytes, start + 1, end);
  return sign === 1 ? -magnitude : magnitude;
}

/** Maximum bytes of a magnitude that is read with shifts. */
const MAX_SHIFTED = 32;

function readMagnitude(bytes: Uint8Array, start: number, end: number): bigint {
  if (end - start > MAX_SHIFTED) {
    return BigInt(`0x${toHex(bytes, start, end)}`);
  }
  let magnitude = 0n;
  let at = start;
  while (at < end) {
    // A number holds six bytes.
    const next = Math.min(at + 6, end);
    let part = 0;
    const bits = 8 * (next - at);
    for (; at < next; at++) part = part * 256 + bytes[at]!;
    magnitude = magnitude << BigInt(bits) | BigInt(part);
  }
  return magnitude;
}

/** Maximum bytes whose digits are written into reused memory. */
const MAX_SCRATCH = 2048;

const scratch = new Uint8Array(2 * MAX_SCRATCH);

const DIGITS = new TextDecoder();

/** Bytes as hexadecimal digits. */
function toHex(bytes: Uint8Array, start: number, end: number): string {
  const length = 2 * (end - start);
  const digits = length > scratch.length ? new Uint8Array(length) : scratch;
  for (let at = start; at < end; at++) {
    digits[2 * (at - start)] = digitCode(bytes[at]! >> 4);
    digits[2 * (at - start) + 1] = digitCode(bytes[at]! & 0xf);
  }
  return DIGITS.decode(digits.subarray(0, length));
}

/** The character code of a hexadecimal digit. */
function digitCode(digit: number): number {
  return digit < 10 ? digit + 0x30 : digit + 0x57;
}

/**
 * Converts a string to its UTF-16 code units.
 *
 * @param text The string.
 * @returns Its code units, little-endian.
 */
export function utf16ToBytes(text: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(text.length * 2);
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    bytes[index * 2] = code;
    bytes[index * 2 + 1] = code >>> 8;
  }
  return bytes;
}

/**
 * Reads the bytes of {@linkcode utf16ToBytes}.
 *
 * @param bytes The bytes with the code units, little-endian.
 * @param start Their start.
 * @param end Their end.
 * @returns The string.
 * @throws {RangeError} If the number of bytes is odd.
 */
export function bytesToUtf16(
  bytes: Uint8Array,
  start: number,
  end: number,
): string {
  if ((end - start) % 2) throw new RangeError("The number of bytes is odd");
  let text = "";
  const codes: number[] = [];
  for (let at = start; at < end; at += 2) {
    codes.push(bytes[at]! | bytes[at + 1]! << 8);
    if (codes.length === CHUNK || at + 2 === end) {
      text += String.fromCharCode.apply(null, codes);
      codes.length = 0;
    }
  }
  return text;
}

/**
 * Reads a timestamp extension. Nanoseconds are truncated to milliseconds.
 *
 * @param bytes The bytes with the 4, 8 or 12 bytes of the payload.
 * @param start Their start.
 * @param end Their end.
 * @returns The time.
 * @throws {RangeError} If the payload is malformed or beyond what a `Date` holds.
 */
export function bytesToDate(
  bytes: Uint8Array,
  start: number,
  end: number,
): Date {
  let seconds = 0;
  let nanoseconds = 0;
  switch (end - start) {
    case 4:
      seconds = readUint32(bytes, start);
      break;
    case 8: {
      const high = readUint32(bytes, start);
      nanoseconds = high >>> 2;
      seconds = (high & 3) * 0x1_0000_0000 + readUint32(bytes, start + 4);
      break;
    }
    case 12:
      nanoseconds = readUint32(bytes, start);
      seconds = (readUint32(bytes, start + 4) | 0) * 0x1_0000_0000 +
        readUint32(bytes, start + 8);
      break;
    default:
      throw new RangeError(
        `A timestamp must have 4, 8 or 12 bytes: current value is ${
          end - start
        }`,
      );
  }
  if (nanoseconds >= NANOSECONDS_PER_SECOND) {
    throw new RangeError(`There are too many nanoseconds: ${nanoseconds}`);
  }
  const time = seconds * 1000 + Math.floor(nanoseconds / 1_000_000);
  if (Math.abs(time) > MAX_DATE) {
    throw new RangeError("The time is out of range for a Date");
  }
  return new Date(time);
}

/** Reads an integer of 4 bytes, big-endian. */
function readUint32(bytes: Uint8Array, position: number): number {
  return (bytes[position]! << 24 | bytes[position + 1]! << 16 |
    bytes[position + 2]! << 8 | bytes[position + 3]!) >>> 0;
}

/** Memory for reading floating-point numbers without a view of the bytes. */
const float64 = new Float64Array(1);
const float64Bytes = new Uint8Array(float64.buffer);
const float32 = new Float32Array(1);
const float32Bytes = new Uint8Array(float32.buffer);

/** Reads a float of 4 bytes, big-endian. */
export function readFloat32(bytes: Uint8Array, position: number): number {
  for (let index = 0; index < 4; index++) {
    float32Bytes[3 - index] = bytes[position + index]!;
  }
  return float32[0]!;
}

/** Reads a float of 8 bytes, big-endian. */
export function readFloat64(bytes: Uint8Array, position: number): number {
  for (let index = 0; index < 8; index++) {
    float64Bytes[7 - index] = bytes[position + index]!;
  }
  return float64[0]!;
}
