// Copyright 2026 the Duplex authors. MIT license.

/**
 * Checks the map of a control frame before it is decoded. Control frames may come
 * from peers that have not authenticated, so they may contain only what they need:
 * no extension types (a regular expression of 890 bytes takes tens of milliseconds
 * to decode), and few items.
 *
 * @module
 */

/** Fields and items in a control frame. A hello has eight. */
const MAX_ITEMS = 64;

/** Nested maps and arrays, including the frame's own map. */
const MAX_LEVELS = 4;

/** Bytes of a size field of 8, 16 and 32 bits. */
const SIZE_BYTES = [1, 2, 4];

/** Bytes of numbers, from format 0xca on. */
const NUMBER_BYTES = [4, 8, 1, 2, 4, 8, 1, 2, 4, 8];

/**
 * Finds what a control frame must not contain. Bytes that are not MessagePack may
 * pass; the decoder refuses them.
 *
 * @param bytes The frame's body.
 * @param start Where its map begins.
 * @returns What was found, to follow "it holds" in an error, or `undefined`.
 */
export function scanControl(
  bytes: Uint8Array,
  start: number,
): string | undefined {
  return new ControlScan(bytes, start).scan(0, false);
}

class ControlScan {
  readonly #bytes: Uint8Array;
  #position: number;
  #items = 0;

  constructor(bytes: Uint8Array, start: number) {
    this.#bytes = bytes;
    this.#position = start;
  }

  /** Moves past a value; returns what it is if it is not allowed. */
  scan(level: number, isKey: boolean): string | undefined {
    const byte = this.#bytes[this.#position++];
    if (byte === undefined) return undefined;
    const isShortText = byte >= 0xa0 && byte < 0xc0;
    if (isKey && !isShortText && (byte < 0xd9 || byte > 0xdb)) {
      return "a key that is not a string";
    }
    if (isShortText) this.#skip(byte & 0x1f);
    else if (byte < 0x80 || byte >= 0xe0) return undefined;
    else if (byte < 0x90) return this.#scanItems(byte & 0xf, 2, level);
    else if (byte < 0xa0) return this.#scanItems(byte & 0xf, 1, level);
    else if (byte >= 0xc4 && byte <= 0xc6) {
      this.#skip(this.#size(byte - 0xc4));
    } else if (byte >= 0xca && byte <= 0xd3) {
      this.#skip(NUMBER_BYTES[byte - 0xca]!);
    } else if (byte >= 0xd9 && byte <= 0xdb) {
      this.#skip(this.#size(byte - 0xd9));
    } else if (byte === 0xdc || byte === 0xdd) {
      return this.#scanItems(this.#size(byte - 0xdb), 1, level);
    } else if (byte >= 0xde) {
      return this.#scanItems(this.#size(byte - 0xdd), 2, level);
    } else if (byte > 0xc3) return "an extension type";
    return undefined;
  }

  #skip(size: number): void {
    this.#position += size;
  }

  /** Reads a size of 8, 16 or 32 bits. */
  #size(width: number): number {
    let size = 0;
    for (let left = SIZE_BYTES[width]!; left > 0; left--) {
      size = size * 256 + (this.#bytes[this.#position++] ?? 0);
    }
    return size;
  }

  #scanItems(count: number, each: 1 | 2, level: number): string | undefined {
    if (level >= MAX_LEVELS) {
      return `more than ${MAX_LEVELS} maps and arrays within each other`;
    }
    this.#items += count;
    if (this.#items > MAX_ITEMS) return `more than ${MAX_ITEMS} items`;
    for (let index = 0; index < count * each; index++) {
      const isKey = each === 2 && index % 2 === 0;
      const found = this.scan(level + 1, isKey);
      if (found !== undefined) return found;
    }
    return undefined;
  }
}
