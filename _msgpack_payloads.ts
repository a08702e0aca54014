// Copyright 2026 the Duplex authors. MIT license.

/**
 * Payloads of MessagePack extensions that are plain bytes: big integers,
 * strings in UTF-16, timestamps. And floats.
 *
 * @module
 */

/** How many characters one call of `String.fromCharCode` is given. */
const CHUNK = 4096;

const NANOSECONDS_PER_SECOND = 1_000_000_000;

/** The furthest from 1970 that a `Date` reaches, in milliseconds. */
const MAX_DATE = 8.64e15;

/**
 * A big integer as a sign byte and its magnitude. Goes through hexadecimal,
 * which takes time linear in the size; arithmetic would be quadratic.
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
 * The integer that {@linkcode bigintToBytes} wrote.
 *
 * @param bytes A sign byte and a magnitude.
 * @returns The integer.
 * @throws {RangeError} If there is no sign, or the integer is too large.
 */
export function bytesToBigint(bytes: Uint8Array): bigint {
  const sign = bytes[0];
  if (sign !== 0 && sign !== 1) throw new RangeError("The sign is not 0 or 1");
  if (bytes.length === 1) return 0n;
  const chunks: string[] = [];
  for (let start = 1; start < bytes.length; start += CHUNK) {
    let chunk = "";
    const end = Math.min(start + CHUNK, bytes.length);
    for (let index = start; index < end; index++) {
      const byte = bytes[index]!;
      chunk += byte < 0x10 ? `0${byte.toString(16)}` : byte.toString(16);
    }
    chunks.push(chunk);
  }
  const magnitude = BigInt(`0x${chunks.join("")}`);
  return sign === 1 ? -magnitude : magnitude;
}

/**
 * A string's UTF-16 code units, for one that is not well-formed.
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
 * The string that {@linkcode utf16ToBytes} wrote.
 *
 * @param bytes Code units, little-endian.
 * @returns The string.
 * @throws {RangeError} If the number of bytes is odd.
 */
export function bytesToUtf16(bytes: Uint8Array): string {
  if (bytes.length % 2) throw new RangeError("The number of bytes is odd");
  const chunks: string[] = [];
  for (let start = 0; start < bytes.length; start += CHUNK) {
    const codes: number[] = [];
    const end = Math.min(start + CHUNK, bytes.length);
    for (let index = start; index < end; index += 2) {
      codes.push(bytes[index]! | bytes[index + 1]! << 8);
    }
    chunks.push(String.fromCharCode(...codes));
  }
  return chunks.join("");
}

/**
 * The time of a timestamp extension, its nanoseconds cut to milliseconds.
 *
 * @param bytes The payload: 4, 8 or 12 bytes.
 * @returns The time.
 * @throws {RangeError} If the payload is malformed or beyond what a `Date` holds.
 */
export function bytesToDate(bytes: Uint8Array): Date {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let seconds = 0;
  let nanoseconds = 0;
  switch (bytes.length) {
    case 4:
      seconds = view.getUint32(0);
      break;
    case 8: {
      const high = view.getUint32(0);
      nanoseconds = high >>> 2;
      seconds = (high & 3) * 0x1_0000_0000 + view.getUint32(4);
      break;
    }
    case 12:
      nanoseconds = view.getUint32(0);
      seconds = view.getInt32(4) * 0x1_0000_0000 + view.getUint32(8);
      break;
    default:
      throw new RangeError(`A timestamp has no form of ${bytes.length} bytes`);
  }
  if (nanoseconds >= NANOSECONDS_PER_SECOND) {
    throw new RangeError(`A second has no ${nanoseconds} nanoseconds`);
  }
  const time = seconds * 1000 + Math.floor(nanoseconds / 1_000_000);
  if (Math.abs(time) > MAX_DATE) {
    throw new RangeError("A Date does not reach that far");
  }
  return new Date(time);
}

/** Scratch memory to read floating-point numbers, which no view is made for. */
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
