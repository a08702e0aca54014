// Copyright 2026 the Duplex authors. MIT license.

/**
 * Bytes to frames: hands on every whole frame that has come. Small messages are
 * decoded where they lie in the read buffer; a message larger than that is read
 * into memory of its own, most of it without a copy. No length is believed
 * before it is checked, and no memory set aside for bytes that the window has
 * not promised and that have not come.
 *
 * @module
 */

import type { Posts } from "./byte_stream.ts";
import type { Codec } from "../codec.ts";
import { ProtocolError } from "../_base/errors.ts";
import { quoted } from "../_base/text.ts";
import {
  DATA_HEADER_SIZE,
  decodeControl,
  FIRST_HEADER_SIZE,
  type FrameWireOptions,
  INITIAL_BUFFER_SIZE,
  LENGTH_SIZE,
  MAGIC,
  MAX_CONTROL_SIZE,
  NEXT_HEADER_SIZE,
  POSTED_SIZE,
} from "./frame_layout.ts";
import { type ControlKind, KIND, type WireEvents } from "./wire.ts";

/** Bytes of the read buffer once much comes: what a pipe gives in one read. */
const BUFFER_SIZE = 64 * 1024;

/**
 * Bytes of a part above which it is read into the message's own memory: as much
 * as a read brings. The end of a part is copied instead, since a read that stops
 * there would leave behind what has come after it.
 */
const DIRECT_SIZE = BUFFER_SIZE;

/** A message larger than the read buffer, as far as it has come. */
interface Assembly {
  readonly number: number;
  readonly taken: number;
  readonly total: number;
  bytes: Uint8Array<ArrayBuffer>;
  filled: number;
}

/** Parses what it is given. */
export class FrameParser {
  /**
   * Where the next bytes are to be put, and what part of it is free, from
   * {@linkcode FrameParser.prepare} on.
   */
  into: Uint8Array<ArrayBuffer>;
  from = 0;
  to = INITIAL_BUFFER_SIZE;
  readonly #posts: Posts | undefined;
  readonly #events: WireEvents;
  readonly #options: FrameWireOptions;
  #codec: Codec | undefined;
  #stopped = false;
  /**
   * A copy of the bytes that may begin a hello. The read that finds the end of the
   * stream may leave this without the memory that they were read into.
   */
  #held = new Uint8Array();
  /** Whether the hello may still stand behind text. */
  #scanning: boolean;
  /** The read buffer, and what of it is not parsed yet. */
  #bytes: Uint8Array<ArrayBuffer> = new Uint8Array(INITIAL_BUFFER_SIZE);
  #view: DataView<ArrayBuffer> = new DataView(this.#bytes.buffer);
  #start = 0;
  #end = 0;
  #assembly: Assembly | undefined;
  /** Whether the frame at hand speaks of a post that has not come yet. */
  #awaitsPost = false;
  /** Bytes of the current part that have not come yet. */
  #partLeft = 0;
  #controls = 0;
  #messages = 0;

  /**
   * @param events Where the frames go.
   * @param options What is checked.
   * @param posts What was posted beside the stream, where the link can post.
   */
  constructor(
    events: WireEvents,
    options: FrameWireOptions,
    posts?: Posts,
  ) {
    this.#events = events;
    this.#options = options;
    this.#posts = posts;
    this.#scanning = options.onText !== undefined;
    this.into = this.#bytes;
  }

  /** From now on messages may arrive, in this codec. */
  agree(codec: Codec): void {
    this.#codec = codec;
  }

  /** Hands on nothing more. */
  stop(): void {
    this.#stopped = true;
  }

  /** How many frames came that hold no whole message, since it was last asked. */
  takeControls(): number {
    const controls = this.#controls;
    this.#controls = 0;
    return controls;
  }

  /** How many messages have come since it was last asked. */
  takeMessages(): number {
    const messages = this.#messages;
    this.#messages = 0;
    return messages;
  }

  /** Whether it was stopped. */
  get isStopped(): boolean {
    return this.#stopped;
  }

  /** Whether the frame at hand speaks of a post that has not come yet. */
  get awaitsPost(): boolean {
    return this.#awaitsPost;
  }

  /** Makes room for the next bytes. */
  prepare(): void {
    const assembly = this.#assembly;
    if (assembly !== undefined && this.#partLeft >= DIRECT_SIZE) {
      this.#grow(assembly, 1);
      const room = assembly.bytes.length - assembly.filled;
      this.into = assembly.bytes;
      this.from = assembly.filled;
      this.to = this.from + Math.min(this.#partLeft, room);
      return;
    }
    const size = this.#bytes.length;
    if (this.#end === size && size < BUFFER_SIZE) {
      this.#enlarge();
    } else if (this.#start === this.#end) {
      this.#start = this.#end = 0;
    } else if (this.#end > size / 2) {
      this.#bytes.copyWithin(0, this.#start, this.#end);
      this.#end -= this.#start;
      this.#start = 0;
    }
    this.into = this.#bytes;
    this.from = this.#end;
    this.to = this.#bytes.length;
  }

  /** Goes over to a large read buffer, since the small one was filled. */
  #enlarge(): void {
    const bytes = new Uint8Array(BUFFER_SIZE);
    bytes.set(this.#bytes.subarray(this.#start, this.#end));
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer);
    this.#end -= this.#start;
    this.#start = 0;
  }

  /**
   * Takes bytes that were put where {@linkcode FrameParser.prepare} said, and
   * hands on the frames that are whole now.
   *
   * @param size How many.
   * @param buffer Where they are now, if the memory was moved meanwhile.
   */
  advance(size: number, buffer: ArrayBuffer = this.into.buffer): void {
    const isDirect = this.into !== this.#bytes;
    if (buffer !== this.into.buffer) this.#onMoved(buffer, isDirect);
    if (isDirect) this.#fill(this.#assembly!, size);
    else this.#end += size;
    this.#parse();
  }

  /** Goes on after a post has come. */
  resume(): void {
    this.#awaitsPost = false;
    this.#parse();
  }

  /** What is wrong with the end of the stream here, if something is. */
  endOfStream(): Error | undefined {
    if (this.#scanning && this.#held.length > 0) {
      this.#options.onText?.(this.#held);
    } else if (this.#assembly !== undefined || this.#end > this.#start) {
      return new ProtocolError("The stream ended in the middle of a message");
    }
    return undefined;
  }

  #onMoved(buffer: ArrayBuffer, isDirect: boolean): void {
    this.into = new Uint8Array(buffer);
    if (isDirect) {
      this.#assembly!.bytes = this.into;
    } else {
      this.#bytes = this.into;
      this.#view = new DataView(buffer);
    }
  }

  /** Hands on every whole frame in the read buffer. */
  #parse(): void {
    if (this.#scanning && !this.#findHello()) return;
    while (!this.#stopped) {
      const had = this.#end - this.#start;
      if (had === 0) return;
      if (this.#partLeft > 0) {
        this.#copyPart();
        continue;
      }
      if (had < NEXT_HEADER_SIZE) return;
      const length = this.#view.getUint32(this.#start);
      const kind = this.#bytes[this.#start + LENGTH_SIZE]!;
      const whole = kind === KIND.data
        ? this.#parseData(length)
        : kind === KIND.first || kind === KIND.next
        ? this.#parsePart(kind, length)
        : kind === KIND.posted
        ? this.#parsePosted(length)
        : this.#parseControl(kind, length);
      if (!whole) return;
    }
  }

  #parseControl(kind: number, length: number): boolean {
    const isBetweenParts = kind === KIND.goodbye &&
      this.#assembly !== undefined;
    const isPing = kind === KIND.ping && this.#options.onPing !== undefined;
    if (
      length > MAX_CONTROL_SIZE || length === 0 || isBetweenParts ||
      !(isPing || isControl(kind))
    ) {
      throw new ProtocolError(this.#describe(length, kind));
    }
    const end = this.#start + LENGTH_SIZE + length;
    if (this.#end < end) return false;
    const body = this.#bytes.subarray(this.#start + LENGTH_SIZE, end);
    this.#start = end;
    this.#controls++;
    if (isControl(kind)) this.#events.onControl(kind, decodeControl(body));
    else this.#options.onPing?.(decodeControl(body));
    return true;
  }

  #parseData(length: number): boolean {
    const codec = this.#codec;
    const size = length - (DATA_HEADER_SIZE - LENGTH_SIZE);
    if (
      size < 0 || codec === undefined || this.#assembly !== undefined
    ) {
      throw new ProtocolError(this.#describe(length, KIND.data));
    }
    this.#checkSize(size);
    const payload = this.#start + DATA_HEADER_SIZE;
    const end = payload + size;
    if (size + DATA_HEADER_SIZE > BUFFER_SIZE) {
      if (this.#end < payload) return false;
      this.#assemble(size, payload);
      this.#partLeft = size;
      return true;
    }
    if (this.#end < end) return false;
    const number = this.#view.getUint32(this.#start + 5);
    const taken = this.#view.getUint32(this.#start + 9);
    this.#start = end;
    const message = decodeRange(codec, this.#bytes, payload, end);
    this.#messages++;
    this.#events.onMessage(number, taken, message, size);
    return true;
  }

  /** Hands on a message that was posted beside the stream. */
  #parsePosted(length: number): boolean {
    const posts = this.#posts;
    if (
      posts === undefined || length !== POSTED_SIZE - LENGTH_SIZE ||
      this.#codec === undefined || this.#assembly !== undefined
    ) {
      throw new ProtocolError(this.#describe(length, KIND.posted));
    }
    if (this.#end < this.#start + POSTED_SIZE) return false;
    const number = this.#view.getUint32(this.#start + 5);
    if (!posts.has(number)) {
      this.#awaitsPost = true;
      return false;
    }
    const taken = this.#view.getUint32(this.#start + 9);
    const size = this.#view.getUint32(this.#start + 13);
    this.#checkSize(size);
    this.#start += POSTED_SIZE;
    const message = posts.take(number);
    this.#messages++;
    this.#events.onMessage(number, taken, message, size);
    return true;
  }

  #parsePart(kind: number, length: number): boolean {
    const first = kind === KIND.first;
    const header = first ? FIRST_HEADER_SIZE : NEXT_HEADER_SIZE;
    const size = length - (header - LENGTH_SIZE);
    if (
      size <= 0 || this.#codec === undefined ||
      first !== (this.#assembly === undefined)
    ) {
      throw new ProtocolError(this.#describe(length, kind));
    }
    const payload = this.#start + header;
    if (this.#end < payload) return false;
    if (first) {
      const total = this.#view.getUint32(this.#start + 13);
      this.#checkSize(total);
      this.#assemble(total, payload);
    } else {
      this.#start = payload;
    }
    const assembly = this.#assembly!;
    if (size > assembly.total - assembly.filled) {
      throw new ProtocolError(
        `Cannot take a part of ${size} bytes: its message of ${assembly.total} bytes has ${assembly.filled} already`,
      );
    }
    this.#partLeft = size;
    this.#controls++;
    return true;
  }

  /** Begins a message whose payload starts at `payload` in the read buffer. */
  #assemble(total: number, payload: number): void {
    this.#assembly = {
      number: this.#view.getUint32(this.#start + 5),
      taken: this.#view.getUint32(this.#start + 9),
      total,
      bytes: new Uint8Array(Math.min(total, this.#options.windowBytes)),
      filled: 0,
    };
    this.#start = payload;
  }

  /** Copies what the read buffer holds of the current part. */
  #copyPart(): void {
    const assembly = this.#assembly!;
    const size = Math.min(this.#partLeft, this.#end - this.#start);
    this.#grow(assembly, size);
    const part = this.#bytes.subarray(this.#start, this.#start + size);
    assembly.bytes.set(part, assembly.filled);
    this.#start += size;
    this.#fill(assembly, size);
  }

  /** Makes room for `size` more bytes, at most doubling what has come. */
  #grow(assembly: Assembly, size: number): void {
    const needed = assembly.filled + size;
    if (needed <= assembly.bytes.length) return;
    const capacity = Math.max(needed, assembly.bytes.length * 2);
    const bytes = new Uint8Array(Math.min(capacity, assembly.total));
    bytes.set(assembly.bytes.subarray(0, assembly.filled));
    assembly.bytes = bytes;
  }

  #fill(assembly: Assembly, size: number): void {
    assembly.filled += size;
    this.#partLeft -= size;
    if (assembly.filled < assembly.total) return;
    this.#assembly = undefined;
    const message = decodeOwned(
      this.#codec!,
      assembly.bytes.subarray(0, assembly.total),
    );
    this.#messages++;
    this.#events.onMessage(
      assembly.number,
      assembly.taken,
      message,
      assembly.total,
    );
  }

  #checkSize(size: number): void {
    const { maxMessageBytes: maxMessage } = this.#options;
    if (size <= maxMessage) return;
    throw new ProtocolError(
      `Cannot take a message of ${size} bytes: "maxMessageBytes" is ${maxMessage}`,
    );
  }

  /** Passes on the text before the hello; `true` once the hello is in front. */
  #findHello(): boolean {
    const bytes = this.#bytes.subarray(this.#start, this.#end);
    const at = indexOfHello(bytes);
    if (at >= 0) this.#scanning = false;
    // A hello may have come in part: its first bytes stay for the next read.
    const text = at >= 0
      ? at
      : Math.max(0, bytes.length - NEXT_HEADER_SIZE - MAGIC.length + 1);
    if (text > 0) this.#options.onText?.(bytes.slice(0, text));
    if (at < 0) this.#held = bytes.slice(text);
    this.#start += text;
    return at >= 0;
  }

  /** Why the bytes at hand are no frame, with a look at them. */
  #describe(length: number, kind: number): string {
    const end = Math.min(this.#end, this.#start + 40);
    const sample = this.#bytes.subarray(this.#start, end);
    const text = new TextDecoder().decode(sample);
    const hint = this.#options.onText === undefined
      ? "does the far side speak this protocol?"
      : "what a worker prints must not go to the stream that carries its messages";
    return `Cannot read a frame of kind ${kind} and ${length} bytes: the bytes are ${
      quoted(text)
    }; ${hint}`;
  }
}

function isControl(kind: number): kind is ControlKind {
  return kind === KIND.hello || kind === KIND.credit || kind === KIND.stall ||
    kind === KIND.goodbye || kind === KIND.abort;
}

/** Where a hello's length begins, or -1. */
function indexOfHello(bytes: Uint8Array): number {
  for (let at = 0; at + NEXT_HEADER_SIZE + MAGIC.length <= bytes.length; at++) {
    if (
      bytes[at + LENGTH_SIZE] === KIND.hello &&
      MAGIC.every((byte, index) =>
        bytes[at + NEXT_HEADER_SIZE + index] === byte
      )
    ) {
      return at;
    }
  }
  return -1;
}

/** Decodes a message among others; what a codec throws is the far side's fault. */
function decodeRange(
  codec: Codec,
  bytes: Uint8Array,
  start: number,
  end: number,
): unknown {
  try {
    return codec.decodeRange === undefined
      ? codec.decode(bytes.subarray(start, end))
      : codec.decodeRange(bytes, start, end);
  } catch (cause) {
    throw asFault(codec, cause);
  }
}

/** Decodes a message in memory that nothing else will use. */
function decodeOwned(codec: Codec, bytes: Uint8Array): unknown {
  try {
    return codec.decodeOwned === undefined
      ? codec.decode(bytes)
      : codec.decodeOwned(bytes);
  } catch (cause) {
    throw asFault(codec, cause);
  }
}

function asFault(codec: Codec, cause: unknown): ProtocolError {
  return cause instanceof ProtocolError ? cause : new ProtocolError(
    `Cannot decode a message: the codec "${codec.name}" cannot read it`,
    { cause },
  );
}
