// Copyright 2026 the Duplex authors. MIT license.

/**
 * Bytes to frames: reports every whole frame that arrived, once it is checked.
 * Small messages are decoded where they are in the read buffer; a larger message
 * is read into memory of its own, most of it without a copy. A length is checked
 * before it is used, and memory beyond the window grows only with the bytes that
 * arrive.
 *
 * @module
 */

import type { Posts } from "./byte_stream.ts";
import { count, readHello, readReason } from "./control_frames.ts";
import { ProtocolError } from "../_base/errors.ts";
import { quoted } from "../_base/text.ts";
import type { FrameEncoder } from "./frame_encoder.ts";
import {
  type ControlFields,
  type ControlKind,
  DATA_HEADER_SIZE,
  decodeControl,
  FIRST_HEADER_SIZE,
  HELLO_HEADER,
  INITIAL_BUFFER_SIZE,
  KIND,
  LENGTH_SIZE,
  MAGIC,
  MAX_CONTROL_SIZE,
  mayBeHello,
  NEXT_HEADER_SIZE,
  POSTED_SIZE,
} from "./frame_layout.ts";
import { MessageCodec, sharingRules } from "./message_codec.ts";
import type { Codec } from "../codec.ts";
import type { SharingRules } from "../_codec/fast_codec.ts";
import type { FlowCounts, OwnHello, WireEvents } from "./wire.ts";

/** Options of a wire that uses frames. */
export interface FrameOptions {
  /** Receives what the peer printed before its hello; without it that is a fault. */
  onText?: (text: Uint8Array) => void;
  /** Receives the peer's pings; without it one is a fault. */
  onPing?: (fields: ControlFields) => void;
  /** Makes what encodes and decodes messages, once a codec is agreed on. */
  messageCodec?: (codec: Codec, rules: SharingRules) => MessageCodec;
  /** Whether credit stays behind the messages sent before it. */
  isCreditOrdered?: boolean;
}

/** The link of a decoder. */
export interface DecoderContext {
  readonly events: WireEvents;
  /** This side's hello, whose limits the peer must observe. */
  readonly hello: OwnHello;
  /** The encoder of the same link, which follows what both sides agree on. */
  readonly encoder: FrameEncoder;
  readonly options: FrameOptions;
  /** Messages that are posted separately, if the link can post. */
  readonly posts?: Posts | undefined;
}

/** Bytes of the read buffer once it was full: what a pipe gives in one read. */
const BUFFER_SIZE = 64 * 1024;

/**
 * Bytes of a part above which it is read into the message's own memory: as much
 * as one read gives. The end of a part is copied instead, since a read that
 * stops there would need another for the bytes after it.
 */
const DIRECT_SIZE = BUFFER_SIZE;

/** Bytes of printed text that are decoded for an error, which shows fewer characters. */
const MAX_PRINTED_SIZE = 1024;

/** Bytes that are not a frame, as far as an error shows them. */
const MAX_SAMPLE_SIZE = 40;

/** Text as programs print it, with line breaks, tabs and terminal escapes. */
const PRINTED = new RegExp("^(?:[^\\p{Cc}\ufffd]|[\t\n\r\u001b])*", "u");

/** A message larger than the read buffer, as far as it has arrived. */
interface Assembly {
  readonly number: number;
  readonly acknowledged: number;
  readonly total: number;
  bytes: Uint8Array<ArrayBuffer>;
  filled: number;
}

/** An incremental decoder of frames. */
export class FrameDecoder {
  /** Where the next bytes are to be read to, from {@linkcode prepare} on. */
  into: Uint8Array<ArrayBuffer>;
  /** The free part of `into`. */
  from = 0;
  to: number = INITIAL_BUFFER_SIZE;
  readonly #events: WireEvents;
  readonly #flow: FlowCounts;
  readonly #hello: OwnHello;
  readonly #encoder: FrameEncoder;
  readonly #options: FrameOptions;
  readonly #posts: Posts | undefined;
  /** Set by the peer's hello. */
  #codec: MessageCodec | undefined;
  #hasGoodbye = false;
  #isStopped = false;
  /**
   * A copy of the bytes that may begin a hello or be text. The read that finds the end
   * of the stream may take the memory that they were read into.
   */
  #held = new Uint8Array();
  /** Whether the hello may still follow text. */
  #scanning: boolean;
  /** The read buffer, and what of it is not decoded yet. */
  #bytes: Uint8Array<ArrayBuffer> = new Uint8Array(INITIAL_BUFFER_SIZE);
  #view: DataView<ArrayBuffer> = new DataView(this.#bytes.buffer);
  #start = 0;
  #end = 0;
  #assembly: Assembly | undefined;
  #awaitsPost = false;
  /** Bytes of the current part that have not arrived yet. */
  #partLeft = 0;
  #controls = 0;
  #messages = 0;

  constructor({ events, hello, encoder, options, posts }: DecoderContext) {
    this.#events = events;
    this.#flow = events.flow;
    this.#hello = hello;
    this.#encoder = encoder;
    this.#options = options;
    this.#posts = posts;
    this.#scanning = options.onText !== undefined;
    this.into = this.#bytes;
  }

  /** Reports nothing more. Bytes that might have begun a hello were text. */
  stop(): void {
    this.#isStopped = true;
    if (this.#scanning) this.#endScan();
  }

  /** Returns how many frames without a whole message arrived since the last call. */
  takeControls(): number {
    const controls = this.#controls;
    this.#controls = 0;
    return controls;
  }

  /** Returns how many messages arrived since the last call. */
  takeMessages(): number {
    const messages = this.#messages;
    this.#messages = 0;
    return messages;
  }

  get isStopped(): boolean {
    return this.#isStopped;
  }

  /** Whether the next frame is for a post that has not arrived yet. */
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

  /** Replaces the small read buffer, once it was full. */
  #enlarge(): void {
    const bytes = new Uint8Array(BUFFER_SIZE);
    bytes.set(this.#bytes.subarray(this.#start, this.#end));
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer);
    this.#end -= this.#start;
    this.#start = 0;
  }

  /**
   * Reports the frames that are whole after a read.
   *
   * @param size Bytes that were read to where {@linkcode prepare} said.
   * @param buffer Where they are now, if the read has moved the memory.
   */
  advance(size: number, buffer: ArrayBuffer = this.into.buffer): void {
    const isDirect = this.into !== this.#bytes;
    if (buffer !== this.into.buffer) this.#onMoved(buffer, isDirect);
    if (isDirect) this.#fill(this.#assembly!, size);
    else this.#end += size;
    this.#decode();
  }

  /** Goes on after a post has arrived. */
  resume(): void {
    this.#awaitsPost = false;
    this.#decode();
  }

  /** Returns what is wrong with an end of the stream here, or `undefined`. */
  endOfStream(): Error | undefined {
    if (this.#scanning) {
      this.#endScan();
      return undefined;
    }
    if (this.#assembly === undefined && this.#end === this.#start) {
      return undefined;
    }
    const text = this.#describeText(this.#held);
    return new ProtocolError(
      `The stream ended in the middle of a message${text}`,
    );
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

  /** Reports every whole frame in the read buffer. */
  #decode(): void {
    if (this.#scanning && !this.#findHello()) return;
    while (!this.#isStopped) {
      const available = this.#end - this.#start;
      if (available === 0) return;
      if (this.#partLeft > 0) {
        this.#copyPart();
        continue;
      }
      if (available < NEXT_HEADER_SIZE) return this.#hold(this.#start);
      const length = this.#view.getUint32(this.#start);
      const kind = this.#bytes[this.#start + LENGTH_SIZE]!;
      const isWhole = kind === KIND.data
        ? this.#readData(length)
        : kind === KIND.first || kind === KIND.next
        ? this.#readPart(kind, length)
        : kind === KIND.posted
        ? this.#readPosted(length)
        : this.#readControl(kind, length);
      if (isWhole) continue;
      if (this.#codec === undefined) {
        this.#hold(this.#start + HELLO_HEADER.length);
      }
      return;
    }
  }

  /** Keeps bytes that may be text which a program printed before it ended. */
  #hold(start: number): void {
    if (this.#options.onText === undefined) return;
    this.#held = this.#bytes.slice(start, this.#end);
  }

  #readControl(kind: number, length: number): boolean {
    const isBetweenParts = kind === KIND.goodbye &&
      this.#assembly !== undefined;
    const isPing = kind === KIND.ping && this.#options.onPing !== undefined;
    if (
      length > MAX_CONTROL_SIZE || length === 0 || isBetweenParts ||
      !(isPing || isSessionKind(kind))
    ) {
      throw new ProtocolError(this.#describe(length, kind));
    }
    const end = this.#start + LENGTH_SIZE + length;
    if (this.#end < end) return false;
    const body = this.#bytes.subarray(this.#start + LENGTH_SIZE, end);
    this.#start = end;
    if (this.#codec === undefined) this.#checkHello(body);
    this.#controls++;
    if (isSessionKind(kind)) this.#onControl(kind, decodeControl(body));
    else this.#options.onPing?.(decodeControl(body));
    return true;
  }

  #onControl(kind: SessionKind, fields: ControlFields): void {
    const events = this.#events;
    if (kind === KIND.hello) return this.#onHello(fields);
    if (kind === KIND.abort) {
      return events.onAbort(readReason(fields, this.#codec?.codec));
    }
    if (this.#codec === undefined) {
      throw new ProtocolError(
        `Cannot accept a control frame of kind ${kind}: the peer has not sent its hello`,
      );
    }
    if (kind === KIND.goodbye) return this.#onGoodbye(fields);
    const taken = count(fields, "taken");
    if (kind === KIND.stall) {
      const { answer } = fields;
      return events.onStall(taken, answer === true);
    }
    this.#checkAcknowledged(taken);
    events.onAcknowledged(taken);
  }

  /** Throws if a program has printed into its hello. */
  #checkHello(body: Uint8Array): void {
    const text = this.#describeText(body.subarray(1 + MAGIC.length));
    if (text !== "") throw new ProtocolError(`Cannot read a hello${text}`);
  }

  #onHello(fields: ControlFields): void {
    if (this.#codec !== undefined) {
      throw new ProtocolError("Cannot accept a second hello");
    }
    const peer = readHello(fields, this.#hello);
    this.#held = new Uint8Array();
    // A container that occurs again is not copied if the message can be posted.
    const rules = sharingRules(peer, this.#posts === undefined);
    this.#codec = this.#options.messageCodec?.(peer.codec, rules) ??
      new MessageCodec(peer.codec, rules);
    this.#encoder.agree(this.#codec, peer.maxMessageBytes);
    this.#events.onHello(peer);
  }

  #onGoodbye(fields: ControlFields): void {
    const sent = count(fields, "sent");
    const { arrived } = this.#flow;
    if (this.#hasGoodbye || sent !== arrived) {
      throw new ProtocolError(
        `Cannot accept a goodbye after ${sent} messages: ${arrived} have arrived`,
      );
    }
    const taken = count(fields, "taken");
    this.#checkAcknowledged(taken);
    this.#hasGoodbye = true;
    this.#events.onGoodbye(taken);
  }

  #checkAcknowledged(taken: number): void {
    const { sent } = this.#flow;
    if (taken <= sent) return;
    throw new ProtocolError(
      `Cannot accept an acknowledgement of message ${taken}: the last one sent is ${sent}`,
    );
  }

  /** Reports a message, if it is the next one and in the window. */
  #deliver(
    number: number,
    taken: number,
    message: unknown,
    size: number,
  ): void {
    const flow = this.#flow;
    if (this.#hasGoodbye) {
      throw new ProtocolError(
        `Cannot accept message ${number}: the peer has sent its goodbye`,
      );
    }
    const expected = (flow.arrived + 1) >>> 0;
    if (number !== expected) {
      throw new ProtocolError(
        `Cannot accept message ${number}: the next one must be ${expected}`,
      );
    }
    if (flow.isWindowFull) {
      const { windowBytes, windowMessages } = this.#hello;
      throw new ProtocolError(
        `Cannot accept message ${number}: the peer has sent more than the window of ${windowBytes} bytes and ${windowMessages} messages`,
      );
    }
    this.#messages++;
    // The count is cut to 32 bits, and credit that was sent later may be here.
    let acknowledged = flow.acknowledgedByPeer;
    const more = (taken - acknowledged) | 0;
    if (more > 0) {
      acknowledged += more;
      this.#checkAcknowledged(acknowledged);
    }
    this.#events.onMessage(message, size, acknowledged);
  }

  #readData(length: number): boolean {
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
    const message = codec.decode(this.#bytes, payload, end, false);
    this.#deliver(number, taken, message, size);
    return true;
  }

  /** Reports a message that was posted separately. */
  #readPosted(length: number): boolean {
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
    this.#deliver(number, taken, posts.take(number), size);
    return true;
  }

  #readPart(kind: number, length: number): boolean {
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
        `Cannot accept a part of ${size} bytes: its message of ${assembly.total} bytes has ${assembly.filled} already`,
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
      acknowledged: this.#view.getUint32(this.#start + 9),
      total,
      bytes: new Uint8Array(Math.min(total, this.#hello.windowBytes)),
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

  /** Makes room for `size` more bytes; at most doubles what has arrived. */
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
    const { number, acknowledged, total, bytes } = assembly;
    const message = this.#codec!.decode(bytes, 0, total, true);
    this.#deliver(number, acknowledged, message, total);
  }

  #checkSize(size: number): void {
    const { maxMessageBytes } = this.#hello;
    if (size <= maxMessageBytes) return;
    throw new ProtocolError(
      `Cannot accept a message of ${size} bytes: "maxMessageBytes" is ${maxMessageBytes}`,
    );
  }

  /** Reports the text before the hello; returns whether the hello has been found. */
  #findHello(): boolean {
    const bytes = this.#bytes.subarray(this.#start, this.#end);
    const at = indexOfHello(bytes);
    const isFound = at + HELLO_HEADER.length <= bytes.length;
    if (at > 0) this.#options.onText?.(bytes.slice(0, at));
    this.#start += at;
    this.#scanning = !isFound;
    // The bytes of a hello that has arrived in part stay for the next read.
    this.#held = isFound ? new Uint8Array() : bytes.slice(at);
    return isFound;
  }

  /** The bytes that might have begun a hello were text. */
  #endScan(): void {
    this.#scanning = false;
    if (this.#held.length > 0) this.#options.onText?.(this.#held);
    this.#held = new Uint8Array();
  }

  /** The error for bytes that are not a frame, with some of them. */
  #describe(length: number, kind: number): string {
    const rest = this.#bytes.subarray(this.#start, this.#end);
    const text = this.#describeText(rest);
    if (text !== "") return `Cannot read a message${text}`;
    const sample = new TextDecoder().decode(rest.subarray(0, MAX_SAMPLE_SIZE));
    return `Cannot read a frame of kind ${kind} and ${length} bytes: the bytes are ${
      quoted(sample)
    }; does the peer speak this protocol?`;
  }

  /**
   * The end of an error, if these bytes begin with text that a program printed into
   * the stream of frames. It is empty if no program can print into it.
   */
  #describeText(bytes: Uint8Array): string {
    if (this.#options.onText === undefined) return "";
    const sample = bytes.subarray(0, MAX_PRINTED_SIZE);
    const [text] = PRINTED.exec(new TextDecoder().decode(sample))!;
    if (text === "") return "";
    return `: the worker, or a process that it started, printed ${
      quoted(text)
    } to the standard output that carries its messages; print to standard error, and start processes with stdout "piped" or "null"`;
  }
}

/** The kinds of control frame of a session. */
type SessionKind = Exclude<
  ControlKind,
  typeof KIND.ping | typeof KIND.greeting | typeof KIND.ready
>;

function isSessionKind(kind: number): kind is SessionKind {
  return kind === KIND.hello || kind === KIND.credit || kind === KIND.stall ||
    kind === KIND.goodbye || kind === KIND.abort;
}

/** Returns where a hello begins, as far as it has arrived; the length if there is none. */
function indexOfHello(bytes: Uint8Array): number {
  let at = bytes.indexOf(HELLO_HEADER[0]);
  while (at >= 0 && !mayBeHello(bytes, at)) {
    at = bytes.indexOf(HELLO_HEADER[0], at + 1);
  }
  return at < 0 ? bytes.length : at;
}
