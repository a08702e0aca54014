// Copyright 2026 the Duplex authors. MIT license.

/**
 * Functions and objects that one end can use at the other.
 *
 * Each end has a table of those that it has sent, which it keeps for the peer, and
 * one of those that it has received. What was received is released by
 * `[Symbol.dispose]`, by garbage collection, or by the end of the duplex. A release
 * says how many times it was received, so one that crosses a new sending of the
 * same function does not release it. A number is never used for anything else.
 *
 * @module
 */

import { ClosedError, isEnd, ProtocolError } from "../_base/errors.ts";
import { show } from "../_base/text.ts";
import { type MethodKey, type Released, SLOT, type Slot } from "./messages.ts";
import {
  type Callback,
  type Method,
  methodProxy,
  ownMethods,
  RemoteObject,
} from "./methods.ts";
import { type CallContext, callContext, EMPTY } from "./context.ts";
import { ChunkReader } from "./chunks.ts";
import { Marked, type SlotCall, type SlotKind } from "./slots.ts";
import {
  remoteReadable,
  remoteWritable,
  SentReadable,
  SentStream,
  SentWritable,
  type StreamEnd,
  unused,
} from "./web_streams.ts";

/**
 * Maximum functions and objects that one end holds for a peer, and that it has
 * received: with 400 bytes each, they take 400 MiB. It is so large because functions
 * without an explicit release wait for garbage collection, which comes late in a program
 * with a large heap: 70,000 of them wait in a small one.
 */
export const DEFAULT_MAX_REFERENCES = 1_048_576;

/** What a received stream counts as: it takes about 2 KiB. */
const STREAM_WEIGHT = 8;

/** Maximum releases in one message, so that it is small for any limit of the peer. */
const MAX_RELEASED = 256;

/** An object that is sent by reference. */
export class ObjectReference extends Marked {
  readonly object: object;
  readonly #methods: ReadonlyMap<string, Method>;

  private constructor(object: object) {
    super();
    this.object = object;
    this.#methods = ownMethods("Cannot make a reference", "object", object);
  }

  /** The reference of an object; always the same for one object. */
  static of(object: object): ObjectReference {
    let found = made.get(object);
    if (found === undefined) {
      found = new ObjectReference(object);
      made.set(object, found);
    }
    return found;
  }

  method(name: string): Method | undefined {
    return this.#methods.get(name);
  }
}

/** The references of objects. */
const made = new WeakMap<object, ObjectReference>();

/** A constructor that returns its argument, so that a subclass adds fields to it. */
class Existing {
  constructor(value: object) {
    return value;
  }
}

/**
 * Adds the entry of a received function or object to it, in a private field. A
 * `WeakMap` would take a fifth of the time of a call with a callback.
 */
class Entry extends Existing {
  readonly #entry: Received;

  constructor(value: object, entry: Received) {
    super(value);
    this.#entry = entry;
  }

  /** The entry of a value, if it is a received function or object. */
  static of(value: unknown): Received | undefined {
    const isObject = typeof value === "function" ||
      typeof value === "object" && value !== null;
    return isObject && #entry in value ? value.#entry : undefined;
  }
}

/** Releases what is no longer used. */
const registry = new FinalizationRegistry<Received>((entry) => entry.release());

/** A function or an object of the peer; a weak reference, which saves an object. */
class Received extends WeakRef<object> {
  readonly owner: References;
  readonly id: number;
  /** Times that it was received. */
  count = 1;
  /** Whether it has arrived in a call, where a method may ignore its promises. */
  isHandled: boolean;
  isReleased = false;

  constructor(
    value: object,
    owner: References,
    id: number,
    isHandled: boolean,
  ) {
    super(value);
    this.owner = owner;
    this.id = id;
    this.isHandled = isHandled;
    registry.register(value, this);
  }

  release(): void {
    if (this.isReleased) return;
    this.isReleased = true;
    this.owner.onReleased(this);
  }
}

/** The end that has the references. */
export interface ReferencesEnd {
  /** Calls a function or a method of the peer. */
  call(key: MethodKey, args: unknown[]): Promise<unknown>;
  /** Calls a stream of the peer. */
  callStream(id: number, args: unknown[]): Promise<unknown>;
  /** Handles the error of a call that cannot be made. */
  onError(error: unknown, key: MethodKey): void;
  /** Sends a release; settles when it was sent, and never rejects. */
  release(released: Released[]): Promise<void>;
}

/** The functions, objects and streams of both ends of a duplex. */
export class References implements StreamEnd {
  /** Maximum functions, objects and streams in each direction. */
  max: number = DEFAULT_MAX_REFERENCES;
  readonly #end: ReferencesEnd;
  readonly #sent = new Map<number, unknown>();
  readonly #ids = new Map<unknown, number>();
  /** The times that each was sent and not released, if more than once. */
  readonly #counts = new Map<number, number>();
  /** The contexts of the last calls that sent them, unless these are empty. */
  readonly #contexts = new Map<number, CallContext>();
  readonly #received = new Map<number, Received>();
  /** The numbers of those of them that are streams. */
  readonly #streams = new Set<number>();
  #lastId = 0;
  /** What was released and not reported yet. */
  #released: Released[] = [];
  #isReporting = false;
  #ended: { readonly reason: unknown } | undefined;

  constructor(end: ReferencesEnd) {
    this.#end = end;
  }

  /** Functions, objects and streams that were sent and not released. */
  get sent(): number {
    return this.#sent.size;
  }

  /** Functions, objects and streams of the peer that were not released. */
  get received(): number {
    return this.#received.size;
  }

  /** The kinds of slots, in the order in which they are tried. */
  get kinds(): [number, SlotKind][] {
    const sent = {
      add: (value: unknown) => this.#add(value),
      remove: (id: number) => this.#remove(id, 1)?.restore(),
      drop: (id: number) => {
        // It may be in use, as it arrived before.
        this.#report([id, 1]);
      },
    };
    return [
      [SLOT.own, {
        matches: (value) => this.#entryOf(value) !== undefined,
        add: (value) => this.#entryOf(value)!.id,
        remove() {},
        make: (id) => this.#original(id),
        drop() {},
      }],
      [SLOT.callback, {
        ...sent,
        matches: (value) => typeof value === "function",
        make: (id, call) => this.#make(id, call, makeFunction),
      }],
      [SLOT.object, {
        ...sent,
        matches: (value) =>
          value instanceof ObjectReference || value instanceof RemoteObject,
        make: (id, call) => this.#make(id, call, makeObject),
      }],
      [SLOT.readable, {
        ...sent,
        matches: (value) => value instanceof ReadableStream,
        add: (value) =>
          this.#addStream(
            value,
            () => new SentReadable(value as ReadableStream),
          ),
        make: (id, call) => this.#make(id, call, remoteReadable, true),
      }],
      [SLOT.writable, {
        ...sent,
        matches: (value) => value instanceof WritableStream,
        add: (value) =>
          this.#addStream(
            value,
            () => new SentWritable(value as WritableStream, this),
          ),
        make: (id, call) => this.#make(id, call, remoteWritable, true),
      }],
    ];
  }

  /** Throws if a message has too many functions, objects and streams. */
  checkRoom(slots: readonly Slot[]): void {
    const held = this.#received.size +
      (STREAM_WEIGHT - 1) * this.#streams.size;
    let count = held;
    for (const [, kind] of slots) {
      if (kind === SLOT.callback || kind === SLOT.object) count++;
      else if (kind !== SLOT.signal && kind !== SLOT.own) {
        count += STREAM_WEIGHT;
      }
    }
    if (count <= this.max) return;
    throw new RangeError(
      `${held} functions and objects of the peer are held (a stream counts as ${STREAM_WEIGHT}), and at most ${this.max} may be; release some, or set a larger "maxReferences"`,
    );
  }

  /** The method that the peer calls by a number. */
  method(key: Exclude<MethodKey, string>): Method | undefined {
    const isFunction = typeof key === "number";
    const id = isFunction ? key : key[0];
    const value = this.#sent.get(id);
    const context = this.#contexts.get(id) ?? EMPTY;
    if (isFunction) {
      if (value instanceof SentStream) {
        return { run: value.use, self: value, takesSignal: false, context };
      }
      return typeof value === "function"
        ? { run: value, self: undefined, takesSignal: false, context }
        : undefined;
    }
    if (value instanceof ObjectReference) {
      const method = value.method(key[1]);
      return method && { ...method, context };
    }
    // An object of another peer, which has a method for every name.
    if (!(value instanceof RemoteObject)) return undefined;
    const run = (value as unknown as Record<string, Callback>)[key[1]];
    return run && { run, self: undefined, takesSignal: false, context };
  }

  /** Handles a release of the peer. */
  onRelease(released: readonly Released[]): void {
    for (const [id, count] of released) {
      const left = this.#timesSent(id);
      if (count > left) {
        throw new ProtocolError(
          `Cannot release function ${id} ${count} times: it was sent ${left} times`,
        );
      }
      this.#remove(id, count)?.release(unused());
    }
  }

  /** Releases everything: no more messages arrive. */
  end(reason: unknown): void {
    this.#ended = { reason };
    for (const value of this.#sent.values()) {
      if (value instanceof SentStream) value.release(reason);
    }
    this.#sent.clear();
    this.#ids.clear();
    this.#counts.clear();
    this.#contexts.clear();
    this.#received.clear();
    this.#streams.clear();
    this.#released = [];
  }

  /** Handles the end of a received function or object. */
  onReleased(entry: Received): void {
    if (this.#ended !== undefined) return;
    const { id, count } = entry;
    // It may have arrived again after it was collected.
    if (this.#received.get(id) === entry) {
      this.#received.delete(id);
      this.#streams.delete(id);
    }
    this.#report([id, count]);
  }

  /** Calls a function or a method of the peer. */
  use(value: object, key: MethodKey, args: unknown[]): Promise<unknown> {
    const entry = Entry.of(value)!;
    const called = entry.isReleased
      ? Promise.reject(releasedError())
      : this.#end.call(key, args);
    if (entry.isHandled) {
      const isUnusable = entry.isReleased || this.#ended !== undefined;
      called.catch((error) => {
        if (isUnusable || isEnd(error)) this.#end.onError(error, key);
      });
    }
    return called;
  }

  /** @param key What was sent, if it is not the value. */
  #add(value: unknown, key = value): number {
    const known = this.#ids.get(key);
    if (known !== undefined) {
      this.#counts.set(known, this.#timesSent(known) + 1);
      this.#keepContext(known);
      return known;
    }
    const id = ++this.#lastId;
    // The peer will not call.
    if (this.#ended !== undefined) return id;
    if (this.#sent.size >= this.max) {
      throw new RangeError(
        `the peer uses ${this.#sent.size} functions and objects, and at most ${this.max} may be; release some there, or set a larger "maxReferences"`,
      );
    }
    this.#sent.set(id, value);
    this.#ids.set(key, id);
    this.#keepContext(id);
    return id;
  }

  /** @param open Locks the stream. */
  #addStream(stream: unknown, open: () => SentStream): number {
    const known = this.#sent.get(this.#ids.get(stream) ?? 0);
    if (known instanceof SentStream && !known.isUsed) {
      return this.#add(known, stream);
    }
    // The stream is locked then.
    if (known !== undefined) this.#ids.delete(stream);
    const sent = open();
    try {
      if (this.#ended !== undefined) sent.release(this.#ended.reason);
      return this.#add(sent, stream);
    } catch (error) {
      sent.restore();
      throw error;
    }
  }

  /** Keeps the context of the call that is being sent for what is in it. */
  #keepContext(id: number): void {
    const context = callContext();
    if (context !== EMPTY) this.#contexts.set(id, context);
    else this.#contexts.delete(id);
  }

  #timesSent(id: number): number {
    return this.#counts.get(id) ?? (this.#sent.has(id) ? 1 : 0);
  }

  /** Returns the stream that is no longer needed, if it is one. */
  #remove(id: number, count: number): SentStream | undefined {
    const left = this.#timesSent(id) - count;
    if (left > 1) this.#counts.set(id, left);
    else this.#counts.delete(id);
    if (left > 0) return undefined;
    const value = this.#sent.get(id);
    this.#sent.delete(id);
    this.#contexts.delete(id);
    if (!(value instanceof SentStream)) {
      this.#ids.delete(value);
      return undefined;
    }
    this.#ids.delete(value.stream);
    return value;
  }

  async read(id: unknown): Promise<ChunkReader> {
    const isId = typeof id === "number" && Number.isSafeInteger(id) && id > 0;
    const chunks = isId ? await this.#end.callStream(id, []) : undefined;
    if (chunks instanceof ChunkReader) return chunks;
    throw new ProtocolError(
      isId
        ? "Cannot read a stream: the peer answered with a value"
        : `Cannot read a stream: ${show(id)} is not the number of one`,
    );
  }

  async write(id: number, chunks: SentStream): Promise<void> {
    const own = this.#add(chunks, chunks.stream);
    try {
      await this.#end.callStream(id, [own]);
    } finally {
      this.#remove(own, 1);
    }
  }

  release(id: number): void {
    this.#received.get(id)?.release();
  }

  /** The entry of a received value that was not released. */
  #entryOf(value: unknown): Received | undefined {
    const entry = Entry.of(value);
    return entry?.owner === this && !entry.isReleased ? entry : undefined;
  }

  /** What this end had sent with a number. */
  #original(id: number): unknown {
    const value = this.#sent.get(id);
    if (value === undefined || value instanceof SentStream) {
      throw new ProtocolError(
        `Cannot read a message: function ${id} was not sent, or was released`,
      );
    }
    return value instanceof ObjectReference ? value.object : value;
  }

  #make(
    id: number,
    call: SlotCall | undefined,
    make: (owner: References, id: number) => object,
    isStream = false,
  ): object {
    const known = this.#received.get(id);
    const value = known?.deref();
    if (value !== undefined) {
      known!.count++;
      known!.isHandled ||= call !== undefined;
      return value;
    }
    const made = make(this, id);
    const entry = new Received(made, this, id, call !== undefined);
    // A stream that is sent back is another stream.
    if (isStream) this.#streams.add(id);
    else new Entry(made, entry);
    if (this.#ended === undefined) this.#received.set(id, entry);
    return made;
  }

  #report(released: Released): void {
    if (this.#ended !== undefined) return;
    this.#released.push(released);
    if (!this.#isReporting) this.#reportAll();
  }

  /** Reports releases, all of a turn in one message. Never rejects. */
  async #reportAll(): Promise<void> {
    this.#isReporting = true;
    await undefined;
    while (this.#released.length > 0) {
      await this.#end.release(this.#released.splice(0, MAX_RELEASED));
    }
    this.#isReporting = false;
  }
}

function makeFunction(owner: References, id: number): object {
  const run = (...args: unknown[]) => owner.use(run, id, args);
  run[Symbol.dispose] = dispose;
  return run;
}

/** The method of each received function. */
function dispose(this: unknown): void {
  Entry.of(this)?.release();
}

function makeObject(owner: References, id: number): object {
  const proxy: object = methodProxy(
    // A method that is used without its object keeps the object.
    (name) => (...args: unknown[]) => owner.use(proxy, [id, name], args),
    (name) => name === Symbol.dispose ? () => dispose.call(proxy) : undefined,
  );
  return proxy;
}

/** The error of a call of something that was released. */
function releasedError(): ClosedError {
  return new ClosedError("Cannot call back: the function was released");
}
