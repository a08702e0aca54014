// Copyright 2026 the Duplex authors. MIT license.

/**
 * A connection in records, if both sides agreed on checksums or compression. The
 * checksum of a record covers its number and its bytes, so that changed, repeated
 * and reordered bytes are detected. A record is compressed if that makes it smaller.
 * PROTOCOL.md has the layout.
 *
 * The checksum is CRC-32 and the compression is "deflate" without a header,
 * both from `node:zlib`, which is part of Deno. It compresses log lines at
 * 1.2 GB/s, `CompressionStream` at 0.3 GB/s.
 *
 * @module
 */

import { ProtocolError } from "../_base/errors.ts";
import { INITIAL_BUFFER_SIZE } from "../_wire/frame_layout.ts";
import type { Connection } from "./connection.ts";

/**
 * What is used of `node:zlib`, as Deno has it: a program may bring the types of an
 * older Node.js, which has no `crc32`.
 */
interface Zlib {
  crc32(data: Uint8Array, value?: number): number;
  deflateRawSync(data: Uint8Array, options: { level: number }): Uint8Array;
  inflateRawSync(
    data: Uint8Array,
    options: { maxOutputLength: number },
  ): Uint8Array;
}

/** Bytes before a record's body: length, flags, checksum. */
const HEADER_SIZE = 9;
/** Bytes of the longest body, before compression and after. */
const MAX_BODY_SIZE = 64 * 1024;
/** Bytes at the start of a compressed body: its size before compression. */
const INFLATED_SIZE_SIZE = 4;
/** The flag of a body that is compressed. */
const COMPRESSED = 1;
/** Below this number of bytes compression costs more than it saves. */
const MIN_COMPRESSED_SIZE = 1024;
/** A compressed body must be smaller by a sixteenth, to be worth the peer's time. */
const MAX_COMPRESSED_RATIO = 15 / 16;
/**
 * Maximum number of records sent without an attempt to compress them, after an
 * attempt that did not pay. The number doubles with each such attempt, so that data
 * that is compressed already costs little.
 */
const MAX_SKIPPED = 64;

/** Bytes of the read buffer once the small one was full. */
const BUFFER_SIZE = 2 * (HEADER_SIZE + MAX_BODY_SIZE);

/** The form of records that both sides agreed on. */
export interface RecordOptions {
  readonly checksum: boolean;
  readonly compression: boolean;
}

/** Wraps a connection in records if checksums or compression were agreed on. */
export async function withRecords(
  connection: Connection,
  options: RecordOptions,
): Promise<Connection> {
  if (!options.checksum && !options.compression) return connection;
  const zlib = await import("node:zlib") as unknown as Zlib;
  return new RecordConnection(connection, options, zlib);
}

/** A connection whose bytes are sent in records. */
class RecordConnection implements Connection {
  readonly #connection: Connection;
  readonly #options: RecordOptions;
  readonly #zlib: Zlib;
  /** Number of records written and read, modulo 2^32 on the wire. */
  #writeCount = 0;
  #readCount = 0;
  /** Records to send without compression: those left, and the last number. */
  #skipping = 0;
  #skipped = 0;
  #out = new Uint8Array();
  /** Bytes read of records that are not complete or not yet handled. */
  #in = new Uint8Array(INITIAL_BUFFER_SIZE);
  #view = new DataView(this.#in.buffer);
  #start = 0;
  #end = 0;
  /** The rest of the current record. */
  #rest: Uint8Array = new Uint8Array();
  readonly #head = new Uint8Array(HEADER_SIZE);
  readonly #headView = new DataView(this.#head.buffer);

  constructor(
    connection: Connection,
    options: RecordOptions,
    zlib: Zlib,
  ) {
    this.#connection = connection;
    this.#options = options;
    this.#zlib = zlib;
  }

  async read(into: Uint8Array<ArrayBuffer>): Promise<number | null> {
    while (this.#rest.length === 0) {
      if (this.#nextRecord()) continue;
      this.#makeRoom();
      const size = await this.#connection.read(this.#in.subarray(this.#end));
      if (size === null) {
        if (this.#end === 0) return null;
        throw new Deno.errors.UnexpectedEof(
          "The connection ended in the middle of a record",
        );
      }
      this.#end += size;
    }
    const size = Math.min(into.length, this.#rest.length);
    into.set(this.#rest.subarray(0, size));
    this.#rest = this.#rest.subarray(size);
    return size;
  }

  setRef(isRef: boolean): void {
    this.#connection.setRef(isRef);
  }

  /** Makes room in the read buffer, which may hold a part of a record. */
  #makeRoom(): void {
    const size = this.#in.length;
    if (this.#end === size && size < BUFFER_SIZE) {
      const larger = new Uint8Array(BUFFER_SIZE);
      larger.set(this.#in.subarray(this.#start, this.#end));
      this.#in = larger;
      this.#view = new DataView(larger.buffer);
    } else {
      this.#in.copyWithin(0, this.#start, this.#end);
    }
    this.#end -= this.#start;
    this.#start = 0;
  }

  write(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const count = Math.ceil(bytes.length / MAX_BODY_SIZE);
    const max = bytes.length + count * HEADER_SIZE;
    if (this.#out.length < max) this.#out = new Uint8Array(max);
    let end = 0;
    for (let start = 0; start < bytes.length; start += MAX_BODY_SIZE) {
      end = this.#putRecord(bytes.subarray(start, start + MAX_BODY_SIZE), end);
    }
    return this.#connection.write(this.#out.subarray(0, end));
  }

  shutdown(timeout: number): Promise<boolean> {
    return this.#connection.shutdown(timeout);
  }

  close(): void {
    this.#connection.close();
  }

  /** Puts a record into the write buffer; returns its end. */
  #putRecord(bytes: Uint8Array, start: number): number {
    const packed = this.#compress(bytes);
    const body = start + HEADER_SIZE;
    const out = this.#out;
    const view = new DataView(out.buffer);
    let end = body;
    if (packed === undefined) {
      out.set(bytes, body);
      end += bytes.length;
    } else {
      view.setUint32(body, bytes.length);
      out.set(packed, body + INFLATED_SIZE_SIZE);
      end += INFLATED_SIZE_SIZE + packed.length;
    }
    const flags = packed === undefined ? 0 : COMPRESSED;
    view.setUint32(start, end - body);
    view.setUint8(start + 4, flags);
    const number = this.#writeCount++ >>> 0;
    view.setUint32(start + 5, this.#checksum(number, flags, out, body, end));
    return end;
  }

  /** The bytes compressed, if that makes them smaller. */
  #compress(bytes: Uint8Array): Uint8Array | undefined {
    if (!this.#options.compression || bytes.length < MIN_COMPRESSED_SIZE) {
      return undefined;
    }
    if (this.#skipping > 0) {
      this.#skipping--;
      return undefined;
    }
    const packed = this.#zlib.deflateRawSync(bytes, { level: 1 });
    if (
      packed.length + INFLATED_SIZE_SIZE <= bytes.length * MAX_COMPRESSED_RATIO
    ) {
      this.#skipped = 0;
      return packed;
    }
    this.#skipped = Math.min(this.#skipped * 2 || 1, MAX_SKIPPED);
    this.#skipping = this.#skipped;
    return undefined;
  }

  /** The checksum of a record, 0 if checksums were not agreed on. */
  #checksum(
    number: number,
    flags: number,
    bytes: Uint8Array,
    start: number,
    end: number,
  ): number {
    if (!this.#options.checksum) return 0;
    const { crc32 } = this.#zlib;
    this.#headView.setUint32(0, number);
    this.#headView.setUint32(4, end - start);
    this.#headView.setUint8(8, flags);
    return crc32(bytes.subarray(start, end), crc32(this.#head));
  }

  /** Reads the next record from the buffer, if it is complete. */
  #nextRecord(): boolean {
    if (this.#end - this.#start < HEADER_SIZE) return false;
    const length = this.#view.getUint32(this.#start);
    const flags = this.#view.getUint8(this.#start + 4);
    if (length === 0 || length > MAX_BODY_SIZE || flags > COMPRESSED) {
      throw new ProtocolError(
        `Cannot read a record of ${length} bytes with flags ${flags}: it must have 1 to ${MAX_BODY_SIZE} bytes and flags 0 or 1`,
      );
    }
    const body = this.#start + HEADER_SIZE;
    const end = body + length;
    if (this.#end < end) return false;
    const number = this.#readCount++ >>> 0;
    const checksum = this.#checksum(number, flags, this.#in, body, end);
    const expected = this.#view.getUint32(this.#start + 5);
    if (checksum !== expected) {
      throw new ProtocolError(
        `Cannot read record ${number}: its checksum is ${expected}, that of its bytes is ${checksum}`,
      );
    }
    const bytes = this.#in.subarray(body, end);
    // It is consumed before the next read into the buffer.
    this.#rest = flags === COMPRESSED ? this.#inflate(bytes) : bytes;
    this.#start = end;
    return true;
  }

  #inflate(bytes: Uint8Array): Uint8Array {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const size = bytes.length > INFLATED_SIZE_SIZE ? view.getUint32(0) : 0;
    if (!this.#options.compression || size === 0 || size > MAX_BODY_SIZE) {
      throw new ProtocolError(
        `Cannot read a compressed record of ${size} bytes: it must have 1 to ${MAX_BODY_SIZE}, and compression must be agreed on`,
      );
    }
    try {
      const options = { maxOutputLength: size };
      const packed = bytes.subarray(INFLATED_SIZE_SIZE);
      const inflated = this.#zlib.inflateRawSync(packed, options);
      if (inflated.length === size) return inflated;
    } catch (cause) {
      throw new ProtocolError("Cannot read a compressed record", { cause });
    }
    throw new ProtocolError(
      `Cannot read a compressed record: it must have the ${size} bytes that it states`,
    );
  }
}
