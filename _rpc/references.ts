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
import { type MethodKey, type Released, SLOT, type Slot } from "./messages.ts";
import {
  type Callback,
  type Method,
  methodProxy,
  ownMethods,
} from "./methods.ts";
import { isWebStream, Marked, type SlotCall, type SlotKind } from "./slots.ts";
import {
  remoteReadable,
  remoteWritable,
  SentReadable,
  type SentStream,
  SentWritable,
  type StreamEnd,
  unused,
} from "./web_streams.ts";
import type { ChunkReader } from "./chunks.ts";

/**
 * Maximum functions and objects that one end holds for a peer, and that it has
 * received: with 250 bytes each, they take 256 MiB. It is so large because garbage
 * collection of a program with a large heap comes late.
 */
export const DEFAULT_MAX_REFERENCES = 1_048_576;

/** Maximum releases in one message, so that it is small for any limit of the peer. */
const MAX_RELEASED = 256;

/** An object that is sent by reference. */
export class Reference extends Marked {
  readonly object: object;
  readonly #methods: ReadonlyMap<string, Method>;

  private constructor(object: object) {
    super();
    this.object = object;
    this.#methods = ownMethods("Cannot make a reference", object);
  }

  /** The reference of an object; always the same for one object. */
  static of(object: object): Reference {
    let found = made.get(object);
    if (found === undefined) {
      found = new Reference(object);
      made.set(object, found);
    }
    return found;
  }

  method(name: string): Method | undefined {
    return this.#methods.get(name);
  }
}

/** The references of objects. */
const made = new WeakMap<object, Reference>();

/** The target of the proxy for a received object. */
class RemoteObject extends Marked {}

/** A received function, which the peer calls. */
class RemoteFunction extends Function {
  [Symbol.dispose](): void {
    entries.get(this)?.dispose();
  }
}

/** The entries of received functions and objects. */
const entries = new WeakMap<object, Received>();

/** Releases what is no longer used. */
const registry = new FinalizationRegistry<Received>((entry) => entry.release());

/** A function or an object of the peer. */
class Received {
  readonly owner: References;
  readonly id: number;
  /** Times that it was received. */
  count = 0;
  /** Whether it arrived in a call, where a method may ignore its promises. */
  readonly isHandled: boolean;
  isReleased = false;
  #ref: WeakRef<object> | undefined;

  constructor(owner: References, id: number, isHandled: boolean) {
    this.owner = owner;
    this.id = id;
    this.isHandled = isHandled;
  }

  /** What the user has, unless it was collected. */
  get value(): object | undefined {
    return this.#ref?.deref();
  }

  /** Sets what the user has. */
  hold(value: object): void {
    this.#ref = new WeakRef(value);
    // A stream that is sent back is another stream.
    if (!isWebStream(value)) entries.set(value, this);
    registry.register(value, this, this);
  }

  dispose(): void {
    registry.unregister(this);
    this.release();
  }

  release(): void {
    if (this.isReleased) return;
    this.isReleased = true;
    this.owner.onReleased(this);
  }
}

/** A value that was sent. */
interface Sent {
  readonly value: unknown;
  /** How the peer uses it, if it is a stream. */
  readonly stream: SentStream | undefined;
  /** Times that it was sent, without those that were released. */
  count: number;
}

/** The end that has the references. */
export interface ReferencesEnd {
  /** Calls a function or a method of the peer. */
  call(key: MethodKey, args: unknown[]): Promise<unknown>;
  /** Calls a stream of the peer. */
  readChunks(id: number): Promise<unknown>;
  /** Handles the error of a call that cannot be made. */
  onError(error: unknown, key: MethodKey): void;
  /** Sends a release; settles when it was sent, and never rejects. */
  release(released: Released[]): Promise<void>;
}

/** The functions, objects and streams of both ends of a duplex. */
export class References implements StreamEnd {
  /** Maximum functions and objects in each direction. */
  max = DEFAULT_MAX_REFERENCES;
  readonly #end: ReferencesEnd;
  readonly #sent = new Map<number, Sent>();
  readonly #ids = new Map<unknown, number>();
  readonly #received = new Map<number, Received>();
  #lastId = 0;
  /** What was released and not reported yet. */
  #released: Released[] = [];
  #isReporting = false;
  #ended: { readonly reason: unknown } | undefined;

  constructor(end: ReferencesEnd) {
    this.#end = end;
  }

  /** Functions and objects that were sent and not released. */
  get sent(): number {
    return this.#sent.size;
  }

  /** Functions and objects of the peer that were not released. */
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
          value instanceof Reference || value instanceof RemoteObject,
        make: (id, call) => this.#make(id, call, makeObject),
      }],
      [SLOT.readable, {
        ...sent,
        matches: (value) => value instanceof ReadableStream,
        add: (value) =>
          this.#add(value, () => new SentReadable(value as ReadableStream)),
        make: (id, call) =>
          this.#make(id, call, (entry) => remoteReadable(this, entry)),
      }],
      [SLOT.writable, {
        ...sent,
        matches: (value) => value instanceof WritableStream,
        add: (value) =>
          this.#add(
            value,
            () => new SentWritable(value as WritableStream, this),
          ),
        make: (id, call) =>
          this.#make(id, call, (entry) => remoteWritable(this, entry)),
      }],
    ];
  }

  /** Throws if a message has too many functions and objects. */
  checkRoom(slots: readonly Slot[]): void {
    let count = this.#received.size;
    for (const [, kind] of slots) {
      if (kind !== SLOT.signal && kind !== SLOT.own) count++;
    }
    if (count <= this.max) return;
    throw new RangeError(
      `${this.#received.size} functions and objects of the peer are held, and at most ${this.max} may be; release some, or set a larger "maxReferences"`,
    );
  }

  /** The method that the peer calls by a number. */
  method(key: Exclude<MethodKey, string>): Method | undefined {
    const isFunction = typeof key === "number";
    const { value, stream } = this.#sent.get(isFunction ? key : key[0]) ?? {};
    if (isFunction) {
      if (stream !== undefined) {
        return { run: stream.use, self: stream, takesSignal: false };
      }
      return typeof value === "function"
        ? { run: value, self: undefined, takesSignal: false }
        : undefined;
    }
    if (value instanceof Reference) return value.method(key[1]);
    // An object of another peer, which has a method for every name.
    if (!(value instanceof RemoteObject)) return undefined;
    const run = (value as unknown as Record<string, Callback>)[key[1]];
    return run && { run, self: undefined, takesSignal: false };
  }

  /** Handles a release of the peer. */
  onRelease(released: readonly Released[]): void {
    for (const [id, count] of released) {
      const left = this.#sent.get(id)?.count ?? 0;
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
    for (const { stream } of this.#sent.values()) stream?.release(reason);
    this.#sent.clear();
    this.#ids.clear();
    this.#received.clear();
    this.#released = [];
  }

  /** Handles the end of a received function or object. */
  onReleased(entry: Received): void {
    if (this.#ended !== undefined) return;
    const { id, count } = entry;
    // It may have arrived again after it was collected.
    if (this.#received.get(id) === entry) this.#received.delete(id);
    this.#report([id, count]);
  }

  /** Calls a function or a method of the peer. */
  use(entry: Received, key: MethodKey, args: unknown[]): Promise<unknown> {
    const called = entry.isReleased
      ? Promise.reject(releasedError())
      : this.#end.call(key, args);
    const isUnusable = entry.isReleased || this.#ended !== undefined;
    if (!entry.isHandled && !isUnusable) return called;
    called.catch((error) => {
      if (isUnusable || isEnd(error)) this.#end.onError(error, key);
    });
    return called;
  }

  /** @param open Locks a stream. */
  #add(value: unknown, open?: () => SentStream): number {
    const known = this.#ids.get(value);
    const sent = known === undefined ? undefined : this.#sent.get(known);
    if (sent !== undefined && !sent.stream?.isUsed) {
      sent.count++;
      return known!;
    }
    const id = ++this.#lastId;
    // The peer will not call.
    if (this.#ended !== undefined) {
      open?.().release(this.#ended.reason);
      return id;
    }
    if (this.#sent.size >= this.max) {
      throw new RangeError(
        `the peer uses ${this.#sent.size} functions and objects, and at most ${this.max} may be; release some there, or set a larger "maxReferences"`,
      );
    }
    this.#sent.set(id, { value, stream: open?.(), count: 1 });
    this.#ids.set(value, id);
    return id;
  }

  /** Returns the stream that is no longer needed, if it is one. */
  #remove(id: number, count: number): SentStream | undefined {
    const sent = this.#sent.get(id);
    if (sent === undefined || (sent.count -= count) > 0) return undefined;
    this.#sent.delete(id);
    this.#ids.delete(sent.value);
    return sent.stream;
  }

  /** Reads the chunks of a stream of the peer. */
  async read(id: number): Promise<ChunkReader> {
    return await this.#end.readChunks(id) as ChunkReader;
  }

  /** Lets a stream of the peer read chunks of this end; settles when it has ended. */
  async write(id: number, chunks: SentStream): Promise<void> {
    const own = this.#add(chunks, () => chunks);
    try {
      await this.#end.call(id, [own]);
    } finally {
      this.#remove(own, 1);
    }
  }

  /** The entry of a received value that was not released. */
  #entryOf(value: unknown): Received | undefined {
    const entry = entries.get(value as object);
    return entry?.owner === this && !entry.isReleased ? entry : undefined;
  }

  /** What this end had sent with a number. */
  #original(id: number): unknown {
    const sent = this.#sent.get(id);
    if (sent === undefined) {
      throw new ProtocolError(
        `Cannot read a message: function ${id} was not sent, or was released`,
      );
    }
    const { value } = sent;
    return value instanceof Reference ? value.object : value;
  }

  #make(
    id: number,
    call: SlotCall | undefined,
    make: (entry: Received) => object,
  ): object {
    let entry = this.#received.get(id);
    let value = entry?.value;
    if (entry === undefined || value === undefined) {
      entry = new Received(this, id, call !== undefined);
      value = make(entry);
      entry.hold(value);
      if (this.#ended === undefined) this.#received.set(id, entry);
    }
    entry.count++;
    return value;
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

function makeFunction(entry: Received): object {
  const { owner, id } = entry;
  const run = (...args: unknown[]) => owner.use(entry, id, args);
  return Object.setPrototypeOf(run, RemoteFunction.prototype);
}

function makeObject(entry: Received): object {
  const { owner, id } = entry;
  const proxy: object = methodProxy(
    Object.preventExtensions(new RemoteObject()),
    (name) => (...args: unknown[]) => {
      // A method that is used without its object keeps the object.
      entries.get(proxy);
      return owner.use(entry, [id, name], args);
    },
    (name) => name === Symbol.dispose ? () => entry.dispose() : undefined,
  );
  return proxy;
}

/** The error of a call of something that was released. */
function releasedError(): ClosedError {
  return new ClosedError("Cannot call back: the function was released");
}
