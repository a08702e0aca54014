// Copyright 2026 the Duplex authors. MIT license.

/**
 * The expected behaviour of a session for a stream of bytes, written from
 * PROTOCOL.md in the simplest way: the messages that it receives, and how it
 * ends.
 *
 * @module
 */

import { costOfJson } from "../../_codec/json_scan.ts";
import { costOfMsgpack } from "../../_codec/msgpack_decode.ts";
import { KIND, MAGIC } from "../../_wire/frame_layout.ts";
import type { Bytes } from "./draw.ts";
import { equalBytes } from "./equal.ts";
import type { SessionShape } from "./frame_bytes.ts";
import { readReference, readReferenceFields } from "./reference.ts";

/** Bytes of the value that the session sends, by codec. */
const SENT_SIZE = { msgpack: 6, json: 7 } as const;

/** The value that the session sends. */
export const SENT_VALUE = "ping!";

/** The limit of PROTOCOL.md. */
const MAX_CONTROL = 4_096;

/** Limits of this package, which apply if the peer allows more. */
const MAX_IN_FLIGHT_SIZE = 256 * 2 ** 20;
const MAX_IN_FLIGHT = 2 ** 20;

/** Thrown if the peer violates the protocol. */
class Fault extends Error {}

/** Thrown if the peer aborts. */
class Abort extends Error {}

/** The expected result of a stream. */
export interface Expected {
  readonly end: "fault" | "abort" | "open" | "goodbye";
  /** The reason of a fault. */
  readonly why: string;
  /** Values that were received before the end. */
  readonly messages: readonly unknown[];
  /** Messages that the session has sent. */
  readonly sent: number;
  /** Whether the window was exhausted, so that the result depends on credit. */
  readonly isCreditUnknown: boolean;
  /** Whether the stream ended inside a frame. */
  readonly isCut: boolean;
  /** The cost of the values that it read. */
  readonly cost: number;
}

const STRICT_TEXT = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

interface Assembly {
  readonly head: number;
  readonly total: number;
  readonly parts: number[];
}

/** Reads a stream like a session. */
export class FrameModel {
  readonly #shape: SessionShape;
  readonly #bytes: Bytes;
  readonly #view: DataView;
  #at = 0;
  #codec: "msgpack" | "json" | undefined;
  #peer = { window: 0, messages: 0, maxMessage: 0 };
  #assembly: Assembly | undefined;
  #partLeft = 0;
  #hasGoodbye = false;
  #received = 0;
  #size = 0;
  #sends: number;
  #sent = 0;
  #taken = 0;
  #isCreditUnknown = false;
  #cost = 0;
  readonly #messages: unknown[] = [];

  constructor(shape: SessionShape, bytes: Bytes) {
    this.#shape = shape;
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#sends = shape.sends;
  }

  /** Reads the whole stream. */
  run(): Expected {
    let end: Expected["end"] = "open";
    let why = "";
    try {
      while (this.#step());
      if (this.#hasGoodbye) end = "goodbye";
    } catch (error) {
      if (error instanceof Fault) end = "fault";
      else if (error instanceof Abort) end = "abort";
      else throw error;
      why = error.message;
    }
    return {
      end,
      why,
      messages: this.#messages,
      sent: this.#sent,
      isCreditUnknown: this.#isCreditUnknown,
      isCut: this.#at < this.#bytes.length || this.#assembly !== undefined,
      cost: this.#cost,
    };
  }

  /** Whether that many bytes are left. */
  #has(size: number): boolean {
    return this.#at + size <= this.#bytes.length;
  }

  /** Reads a frame or a part of one; `false` if more bytes are needed. */
  #step(): boolean {
    if (this.#partLeft > 0) return this.#part();
    if (!this.#has(5)) return false;
    const length = this.#view.getUint32(this.#at);
    const kind = this.#bytes[this.#at + 4]!;
    switch (kind) {
      case KIND.data:
        return this.#data(length);
      case KIND.first:
        return this.#first(length);
      case KIND.next:
        return this.#next(length);
      default:
        return this.#control(kind, length);
    }
  }

  #part(): boolean {
    const end = Math.min(this.#bytes.length, this.#at + this.#partLeft);
    if (end === this.#at) return false;
    const assembly = this.#assembly!;
    for (let at = this.#at; at < end; at++) {
      assembly.parts.push(this.#bytes[at]!);
    }
    this.#partLeft -= end - this.#at;
    this.#at = end;
    if (assembly.parts.length < assembly.total) return true;
    this.#assembly = undefined;
    this.#message(assembly.head, new Uint8Array(assembly.parts));
    return true;
  }

  #data(length: number): boolean {
    const size = length - 9;
    if (size < 0 || this.#codec === undefined || this.#assembly !== undefined) {
      throw new Fault("data");
    }
    if (size > this.#shape.maxMessage) throw new Fault("maxMessage");
    if (!this.#has(13)) return false;
    if (size + 13 > 0x1_0000) {
      this.#assembly = { head: this.#at, total: size, parts: [] };
      this.#partLeft = size;
      this.#at += 13;
      return true;
    }
    if (!this.#has(13 + size)) return false;
    const payload = this.#bytes.slice(this.#at + 13, this.#at + 13 + size);
    const head = this.#at;
    this.#at += 13 + size;
    this.#message(head, payload);
    return true;
  }

  #first(length: number): boolean {
    const size = length - 13;
    if (
      size <= 0 || this.#codec === undefined || this.#assembly !== undefined
    ) {
      throw new Fault("first");
    }
    if (!this.#has(17)) return false;
    const total = this.#view.getUint32(this.#at + 13);
    if (total > this.#shape.maxMessage) throw new Fault("maxMessage");
    if (size > total) throw new Fault("a part beyond its message");
    this.#assembly = { head: this.#at, total, parts: [] };
    this.#partLeft = size;
    this.#at += 17;
    return true;
  }

  #next(length: number): boolean {
    const size = length - 1;
    const assembly = this.#assembly;
    if (size <= 0 || assembly === undefined) throw new Fault("next");
    if (size > assembly.total - assembly.parts.length) {
      throw new Fault("a part beyond its message");
    }
    this.#partLeft = size;
    this.#at += 5;
    return true;
  }

  #message(head: number, payload: Bytes): void {
    const value = this.#decode(payload);
    if (this.#hasGoodbye) throw new Fault("a message after goodbye");
    const number = this.#view.getUint32(head + 5);
    if (number !== this.#received + 1) throw new Fault("a number");
    const { window, windowMessages, takesAll } = this.#shape;
    if (this.#received >= windowMessages || this.#size >= window) {
      if (!takesAll) throw new Fault("the window");
      this.#isCreditUnknown = true;
    }
    this.#received++;
    this.#size += payload.length;
    const acknowledged = (this.#view.getUint32(head + 9) - this.#taken) | 0;
    // Messages before a fault in the same read are not delivered.
    if (acknowledged > 0) this.#onTaken(this.#taken + acknowledged);
    this.#messages.push(value);
  }

  #decode(payload: Bytes): unknown {
    if (this.#codec === "msgpack") {
      this.#cost += costOfMsgpack(payload);
      const read = readReference(payload);
      if (read === undefined) throw new Fault("MessagePack");
      return read.value;
    }
    this.#cost += costOfJson(payload);
    try {
      return JSON.parse(STRICT_TEXT.decode(payload));
    } catch {
      throw new Fault("JSON");
    }
  }

  #control(kind: number, length: number): boolean {
    const isPing = kind === KIND.ping && this.#shape.takesPings;
    const isControl = [
      ...[KIND.hello, KIND.credit, KIND.stall, KIND.goodbye, KIND.abort],
    ].some((known) => known === kind);
    if (length === 0 || length > MAX_CONTROL || !isControl && !isPing) {
      throw new Fault(`kind ${kind}`);
    }
    if (kind === KIND.goodbye && this.#assembly !== undefined) {
      throw new Fault("a goodbye between parts");
    }
    if (!this.#has(4 + length)) return false;
    const body = this.#bytes.slice(this.#at + 4, this.#at + 4 + length);
    this.#at += 4 + length;
    let start = 1;
    if (kind === KIND.hello) {
      start += MAGIC.length;
      if (!equalBytes(body.subarray(1, start), MAGIC)) throw new Fault("magic");
    }
    const fields = readReferenceFields(body, start);
    if (fields === undefined) throw new Fault("fields");
    if (!isPing) this.#onControl(kind, fields);
    return true;
  }

  #onControl(kind: number, fields: Record<string, unknown>): void {
    if (kind === KIND.hello) return this.#onHello(fields);
    if (kind === KIND.abort) {
      const { reason } = fields;
      if (reason instanceof Uint8Array) this.#cost += costOfMsgpack(reason);
      throw new Abort();
    }
    if (this.#codec === undefined) throw new Fault("before the hello");
    if (kind === KIND.goodbye) {
      const sent = count(fields.sent);
      if (this.#hasGoodbye || sent !== this.#received) throw new Fault("sent");
      this.#onTaken(count(fields.taken));
      this.#hasGoodbye = true;
      return;
    }
    const taken = count(fields.taken);
    if (kind === KIND.credit) this.#onTaken(taken);
  }

  #onHello(fields: Record<string, unknown>): void {
    if (this.#codec !== undefined) throw new Fault("a second hello");
    if (count(fields.version) !== 1) throw new Fault("version");
    const { codecs } = fields;
    if (!Array.isArray(codecs)) throw new Fault("codecs");
    const own = this.#shape.onlyJson ? ["json"] : ["msgpack", "json"];
    const found = this.#shape.role === "opener"
      ? own.find((name) => codecs.includes(name))
      : codecs.find((name) => own.includes(name));
    if (found === undefined) throw new Fault("no codec");
    this.#peer = {
      window: Math.min(positive(fields.window), MAX_IN_FLIGHT_SIZE),
      messages: Math.min(positive(fields.messages), MAX_IN_FLIGHT),
      maxMessage: positive(fields.maxMessage),
    };
    this.#codec = found;
    this.#send();
  }

  /** The session sends its messages while there is room. */
  #send(): void {
    const size = SENT_SIZE[this.#codec!];
    while (this.#sends > 0) {
      const inFlight = this.#sent - this.#taken;
      if (
        inFlight * size >= this.#peer.window || inFlight >= this.#peer.messages
      ) return;
      this.#sends--;
      if (size <= this.#peer.maxMessage) this.#sent++;
    }
  }

  #onTaken(taken: number): void {
    if (taken > this.#sent) throw new Fault("taken");
    this.#taken = Math.max(this.#taken, taken);
    this.#send();
  }
}

function count(value: unknown): number {
  if (Number.isSafeInteger(value) && (value as number) >= 0) {
    return value as number;
  }
  throw new Fault("a count");
}

function positive(value: unknown): number {
  if (count(value) === 0) throw new Fault("a limit of 0");
  return value as number;
}
