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
    entries.set(value, this);
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
          value instanceof Reference || value instanceof RemoteObject,
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
  use(entry: Received, key: MethodKey, args: unknown[]): Promise<unknown> {
    const called = entry.isReleased
      ? Promise.reject(releasedError())
      : this.#end.call(key, args);
    const isUnusable = entry.isReleased || this.#isEnded;
    if (!entry.isHandled && !isUnusable) return called;
    called.catch((error) => {
      if (isUnusable || isEnd(error)) this.#end.onError(error, key);
    });
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
      if (!this.#isEnded) this.#received.set(id, entry);
    }
    entry.count++;
    return value;
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
  if (value instanceof Reference) return value.method(name);
  // An object of another peer, which has a method for every name.
  if (!(value instanceof RemoteObject)) return undefined;
  return functionMethod((value as unknown as Record<string, unknown>)[name]);
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
