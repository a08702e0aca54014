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
import { type Method, methodProxy, ownMethods } from "./methods.ts";
import { type CallContext, callContext } from "./context.ts";
import { Marked, type SlotCall, type SlotKind } from "./slots.ts";

/**
 * Maximum functions and objects that one end holds for a peer, and that it has
 * received: with 400 bytes each, they take 400 MiB. It is so large because functions
 * without an explicit release wait for garbage collection, which comes late in a program
 * with a large heap: 70,000 of them wait in a small one.
 */
export const DEFAULT_MAX_REFERENCES = 1_048_576;

/** Maximum releases in one message, so that it is small for any limit of the peer. */
const MAX_RELEASED = 256;

/** An object that is sent by reference. */
export class ObjectReference extends Marked {
  readonly object: object;
  readonly #methods: ReadonlyMap<string, Method>;

  private constructor(object: object) {
    super();
    this.object = object;
    this.#methods = ownMethods("Cannot make a reference", object);
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

/** The target of the proxy for a received object. */
class RemoteObject extends Marked {}

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
  /** Whether it arrived in a call, where a method may ignore its promises. */
  readonly isHandled: boolean;
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

/** A value that was sent. */
interface Sent {
  readonly value: unknown;
  /** The context of the last call that sent it. */
  context: CallContext;
  /** Times that it was sent, without those that were released. */
  count: number;
}

/** The end that has the references. */
export interface ReferencesEnd {
  /** Calls a function or a method of the peer. */
  call(key: MethodKey, args: unknown[]): Promise<unknown>;
  /** Handles the error of a call that cannot be made. */
  onError(error: unknown, key: MethodKey): void;
  /** Sends a release; settles when it was sent, and never rejects. */
  release(released: Released[]): Promise<void>;
}

/** The functions and objects of both ends of a duplex. */
export class References {
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
  #isEnded = false;

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
      remove: (id: number) => this.#remove(id, 1),
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
    ];
  }

  /** Throws if a message has too many functions and objects. */
  checkRoom(slots: readonly Slot[]): void {
    let count = this.#received.size;
    for (const [, kind] of slots) {
      if (kind === SLOT.callback || kind === SLOT.object) count++;
    }
    if (count <= this.max) return;
    throw new RangeError(
      `${this.#received.size} functions and objects of the peer are held, and at most ${this.max} may be; release some, or set a larger "maxReferences"`,
    );
  }

  /** The method that the peer calls by a number. */
  method(key: Exclude<MethodKey, string>): Method | undefined {
    const isFunction = typeof key === "number";
    const sent = this.#sent.get(isFunction ? key : key[0]);
    if (sent === undefined) return undefined;
    const { value, context } = sent;
    const method = isFunction
      ? functionMethod(value)
      : objectMethod(value, key[1]);
    return method && { ...method, context };
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
      this.#remove(id, count);
    }
  }

  /** Releases everything: no more messages arrive. */
  end(): void {
    this.#isEnded = true;
    this.#sent.clear();
    this.#ids.clear();
    this.#received.clear();
    this.#released = [];
  }

  /** Handles the end of a received function or object. */
  onReleased(entry: Received): void {
    if (this.#isEnded) return;
    const { id, count } = entry;
    // It may have arrived again after it was collected.
    if (this.#received.get(id) === entry) this.#received.delete(id);
    this.#report([id, count]);
  }

  /** Calls a function or a method of the peer. */
  use(value: object, key: MethodKey, args: unknown[]): Promise<unknown> {
    const entry = Entry.of(value)!;
    const called = entry.isReleased
      ? Promise.reject(releasedError())
      : this.#end.call(key, args);
    if (entry.isHandled) {
      const isUnusable = entry.isReleased || this.#isEnded;
      called.catch((error) => {
        if (isUnusable || isEnd(error)) this.#end.onError(error, key);
      });
    }
    return called;
  }

  #add(value: unknown): number {
    const known = this.#ids.get(value);
    if (known !== undefined) {
      const sent = this.#sent.get(known)!;
      sent.count++;
      sent.context = callContext();
      return known;
    }
    const id = ++this.#lastId;
    // The peer will not call.
    if (this.#isEnded) return id;
    if (this.#sent.size >= this.max) {
      throw new RangeError(
        `the peer uses ${this.#sent.size} functions and objects, and at most ${this.max} may be; release some there, or set a larger "maxReferences"`,
      );
    }
    this.#sent.set(id, { value, count: 1, context: callContext() });
    this.#ids.set(value, id);
    return id;
  }

  #remove(id: number, count: number): void {
    const sent = this.#sent.get(id);
    if (sent === undefined || (sent.count -= count) > 0) return;
    this.#sent.delete(id);
    this.#ids.delete(sent.value);
  }

  /** The entry of a received value that was not released. */
  #entryOf(value: unknown): Received | undefined {
    const entry = Entry.of(value);
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
    return value instanceof ObjectReference ? value.object : value;
  }

  #make(
    id: number,
    call: SlotCall | undefined,
    make: (owner: References, id: number) => object,
  ): object {
    const known = this.#received.get(id);
    const value = known?.deref();
    if (value !== undefined) {
      known!.count++;
      return value;
    }
    const made = make(this, id);
    const entry = new Received(made, this, id, call !== undefined);
    new Entry(made, entry);
    if (!this.#isEnded) this.#received.set(id, entry);
    return made;
  }

  #report(released: Released): void {
    if (this.#isEnded) return;
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

/** The method that a function is. */
function functionMethod(value: unknown): Method | undefined {
  if (typeof value !== "function") return undefined;
  return { run: value, self: undefined, takesSignal: false };
}

/** A method of an object that was sent. */
function objectMethod(value: unknown, name: string): Method | undefined {
  if (value instanceof ObjectReference) return value.method(name);
  // An object of another peer, which has a method for every name.
  if (!(value instanceof RemoteObject)) return undefined;
  return functionMethod((value as unknown as Record<string, unknown>)[name]);
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
    Object.preventExtensions(new RemoteObject()),
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
