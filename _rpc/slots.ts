// Copyright 2026 the Duplex authors. MIT license.

/**
 * Slots: values of a message that cannot be sent, such as functions. Each is
 * replaced by a placeholder, and its slot says where it was, of which kind it is,
 * and its number. The peer puts a value of its own there.
 *
 * Arguments are searched before they are sent, but only themselves and the
 * properties of those that are plain objects, where options are: every call pays
 * for this. A whole message is searched only after the codec has refused it.
 *
 * @module
 */

import { ProtocolError } from "../_base/errors.ts";
import { show } from "../_base/text.ts";
import { defineOwn, isIndex } from "../_codec/properties.ts";
import { SeparateList } from "../_codec/separate_list.ts";
import { isRecord, MAX_DEPTH } from "../_codec/values.ts";
import {
  isPlain,
  MAX_SLOTS,
  type Message,
  type Path,
  type Slot,
} from "./messages.ts";

/**
 * An object of this package that is sent in a special way. It has a function, so
 * that every codec refuses it, and the message that contains it is searched.
 */
export class Marked {
  readonly marked: () => void = refused;
}

function refused(): void {}

/** A value whose buffers are transferred with the message that contains it. */
export class Transferred extends Marked {
  readonly value: unknown;
  readonly buffers: readonly Transferable[];

  constructor(value: unknown, buffers: readonly Transferable[]) {
    super();
    this.value = value;
    this.buffers = buffers;
  }
}

/** A value that has a slot, and where it was found. */
export interface SlotValue {
  readonly path: Path;
  readonly value: unknown;
}

/** A value without those that cannot be sent. */
export interface Searched {
  /** A copy of the value, with placeholders. */
  readonly rest: unknown;
  readonly values: SlotValue[];
  /** What the message transfers. */
  readonly transfer: Transferable[];
}

/** A message and what it transfers. */
export interface Parcel {
  readonly message: Message;
  readonly transfer: Transferable[];
}

/** Whether a value has a slot, or is replaced when it is sent. */
export function isFound(value: unknown): boolean {
  if (typeof value === "function") return true;
  return typeof value === "object" && value !== null &&
    (value instanceof AbortSignal || value instanceof Marked);
}

/** Whether a value is a web stream. Every codec refuses one. */
export function isWebStream(value: unknown): boolean {
  return value instanceof ReadableStream || value instanceof WritableStream;
}

/** As {@linkcode isFound}; also web streams, which are searched for after a refusal. */
function isSearched(value: unknown): boolean {
  return isFound(value) || isWebStream(value);
}

/** Finds the special values among arguments; most calls have none. */
export function findSlotValues(
  args: readonly unknown[],
): SlotValue[] | undefined {
  let found: SlotValue[] | undefined;
  for (let index = 0; index < args.length; index++) {
    const arg = args[index];
    if (typeof arg === "function") {
      (found ??= []).push({ path: [index], value: arg });
    } else if (typeof arg === "object" && arg !== null) {
      if (isPlain(arg)) {
        // Without a list of the keys, which each call would allocate.
        for (const property in arg) {
          const value = arg[property];
          if (!isFound(value) || !Object.hasOwn(arg, property)) continue;
          (found ??= []).push({ path: [index, property], value });
        }
      } else if (isFound(arg)) {
        (found ??= []).push({ path: [index], value: arg });
      }
    }
  }
  return found;
}

/** The arguments without the values that were found among them. */
export function withoutSlotValues(
  args: readonly unknown[],
  found: readonly SlotValue[],
): Searched {
  const rest = [...args];
  const values: SlotValue[] = [];
  const moved = new Moved();
  /** An argument that occurs again has one copy. */
  const copies = new Map<unknown, Record<string, unknown>>();
  for (const slotValue of found) {
    const { path: [index, property], value } = slotValue;
    let placeholder: unknown = null;
    if (value instanceof Transferred) {
      placeholder = value.value;
      moved.add(value.buffers);
    } else values.push(slotValue);
    if (property === undefined) {
      rest[index as number] = placeholder;
      continue;
    }
    const arg = args[index as number];
    let copy = copies.get(arg);
    if (copy === undefined) copies.set(arg, copy = { ...arg as object });
    rest[index as number] = copy;
    defineOwn(copy, property as string, placeholder);
  }
  return { rest, values, transfer: moved.list };
}

/** What a message transfers. */
class Moved {
  readonly list: Transferable[] = [];
  readonly #known = new Set<Transferable>();

  /** Adds the buffers of a mark, except those that another mark has as well. */
  add(buffers: readonly Transferable[]): void {
    const added = buffers.filter((buffer) => !this.#known.has(buffer));
    for (const buffer of added) {
      this.#known.add(buffer);
      this.list.push(buffer);
    }
  }
}

/** Searches a whole value; returns `undefined` if nothing is found. */
export function search(root: unknown): Searched | undefined {
  const containers = findContainers(root);
  return containers && new Copier(containers).copy(root);
}

/** Finds the special values anywhere in arguments. */
export function findAll(args: unknown[]): SlotValue[] | undefined {
  const found = findContainers(args);
  return found && [...found].filter(isSearched).map((value) => ({
    path: [],
    value,
  }));
}

/** The parts of a container by their keys, or `undefined` for other values. */
function partsOf(value: unknown): [key: string | number, part: unknown][] {
  if (value instanceof Transferred) return [[0, value.value]];
  if (typeof value !== "object" || value === null || isSearched(value)) {
    return [];
  }
  if (Array.isArray(value)) {
    return Object.entries(value).map((
      [key, part],
    ) => [isIndex(key) ? Number(key) : key, part]);
  }
  if (value instanceof Map) return [...[...value.values()].entries()];
  if (value instanceof Set) return [...[...value].entries()];
  if (
    value instanceof Error || ArrayBuffer.isView(value) || !isRecord(value)
  ) return [];
  return Object.entries(value);
}

/** Finds the containers that have a special value in them, at any depth. */
function findContainers(root: unknown): Set<unknown> | undefined {
  const parents = new Map<unknown, Set<unknown>>();
  const found = new Set<unknown>();
  const visit = (value: unknown, parent: unknown, depth: number) => {
    if (isSearched(value)) found.add(value);
    if (typeof value !== "object" || value === null) {
      if (typeof value !== "function") return;
    }
    const known = parents.get(value);
    if (known !== undefined) return void known.add(parent);
    parents.set(value, new Set([parent]));
    // The codec refuses what is nested deeper.
    if (depth > MAX_DEPTH) return;
    for (const [, part] of partsOf(value)) visit(part, value, depth + 1);
  };
  visit(root, undefined, 0);
  if (found.size === 0) return undefined;
  // A set is iterated with the values that are added meanwhile.
  for (const value of found) {
    for (const parent of parents.get(value)!) {
      if (parent !== undefined) found.add(parent);
    }
  }
  return found;
}

/** Copies the containers that have a special value in them. */
class Copier implements Searched {
  rest: unknown;
  readonly values: SlotValue[] = [];
  readonly #moved = new Moved();
  readonly transfer = this.#moved.list;
  readonly #containers: ReadonlySet<unknown>;
  /** The copies, with the range of the slots in each and the path of the first. */
  readonly #copies = new Map<
    unknown,
    { copy: object; from: number; to: number; depth: number }
  >();

  constructor(containers: ReadonlySet<unknown>) {
    this.#containers = containers;
  }

  copy(root: unknown): this {
    this.rest = this.#copy(root, [], null);
    return this;
  }

  #copy(value: unknown, path: Path, placeholder: unknown): unknown {
    if (!this.#containers.has(value)) return value;
    if (value instanceof Transferred) {
      this.#moved.add(value.buffers);
      return this.#copy(value.value, path, placeholder);
    }
    // A stream that the message transfers needs no slot.
    if (isWebStream(value) && this.transfer.includes(value as Transferable)) {
      return value;
    }
    if (isSearched(value)) {
      this.#push({ path, value });
      return placeholder;
    }
    const known = this.#copies.get(value);
    if (known === undefined) return this.#copyContainer(value as object, path);
    // A codec without references sends it again, so its slots are filled again.
    for (const slot of this.values.slice(known.from, known.to)) {
      const rest = slot.path.slice(known.depth);
      this.#push({ path: [...path, ...rest], value: slot.value });
    }
    return known.copy;
  }

  #copyContainer(value: object, path: Path): object {
    const copy = emptyCopy(value);
    const from = this.values.length;
    const note = { copy, from, to: from, depth: path.length };
    this.#copies.set(value, note);
    // The items of a set must differ, so each has a placeholder of its own.
    const keys = value instanceof Map ? [...value.keys()] : [];
    for (const [key, part] of partsOf(value)) {
      const placeholder = copy instanceof Set ? [] : null;
      const copied = this.#copy(part, [...path, key], placeholder);
      if (copy instanceof Map) copy.set(keys[key as number], copied);
      else if (copy instanceof Set) copy.add(copied);
      else defineOwn(copy, `${key}`, copied);
    }
    note.to = this.values.length;
    return copy;
  }

  #push(value: SlotValue): void {
    if (this.values.length === MAX_SLOTS) throw tooManySlots("more than");
    this.values.push(value);
  }
}

function emptyCopy(value: object): object {
  if (value instanceof SeparateList) return new SeparateList(value.length);
  if (Array.isArray(value)) return new Array(value.length);
  if (value instanceof Map) return new Map();
  return value instanceof Set ? new Set() : {};
}

/** The error of a message with too many slots. */
export function tooManySlots(count: number | "more than"): RangeError {
  const many = count === "more than" ? `More than ${MAX_SLOTS}` : count;
  return new RangeError(
    `${many} functions and signals are in it, and at most ${MAX_SLOTS} can be; give one function that takes a name`,
  );
}

/** The call that a slot belongs to. */
export interface SlotCall {
  readonly signal: AbortSignal;
}

/** How the values of one kind of slot are sent and received. */
export interface SlotKind {
  /** Whether a value is sent as this kind. */
  matches(value: unknown): boolean;
  /** Registers a value that is sent, and returns its number. */
  add(value: unknown): number;
  /** Handles a number that was not sent after all. */
  remove(id: number): void;
  /**
   * The value for a received slot.
   *
   * @param call The call whose arguments it is among; `undefined` in an answer.
   */
  make(id: number, call: SlotCall | undefined): unknown;
  /** Handles a received slot whose message is not used. */
  drop(id: number): void;
}

/** The signal of a call. The caller cancels the call, so it needs no number. */
export const SIGNAL_KIND: SlotKind = {
  matches: (value) => value instanceof AbortSignal,
  add: () => 0,
  remove() {},
  make(_id, call) {
    if (call !== undefined) return call.signal;
    throw new ProtocolError("Cannot read an answer: a signal is in it");
  },
  drop() {},
};

/** The slots of one end, in both directions. */
export class SlotTable {
  readonly #kinds: ReadonlyMap<number, SlotKind>;

  /** @param kinds The kinds by their numbers; the first one that matches is used. */
  constructor(kinds: ReadonlyMap<number, SlotKind>) {
    this.#kinds = kinds;
  }

  /** Registers values that are sent. */
  add(values: readonly SlotValue[]): Slot[] {
    if (values.length > MAX_SLOTS) throw tooManySlots(values.length);
    const slots: Slot[] = [];
    try {
      for (const { path, value } of values) {
        slots.push(this.#slot(path, value));
      }
      return slots;
    } catch (error) {
      this.remove(slots);
      throw error;
    }
  }

  #slot(path: Path, value: unknown): Slot {
    for (const [number, kind] of this.#kinds) {
      if (kind.matches(value)) return [path, number, kind.add(value)];
    }
    throw new TypeError(`Cannot send ${show(value)}: it has no kind of slot`);
  }

  /** Handles slots that were not sent after all. */
  remove(slots: readonly Slot[] | undefined): void {
    if (slots === undefined) return;
    for (const [, kind, id] of slots) this.#kinds.get(kind)!.remove(id);
  }

  /** Handles received slots whose message is not used. */
  drop(slots: readonly Slot[] | undefined): void {
    if (slots === undefined) return;
    for (const [, kind, id] of slots) this.#kinds.get(kind)?.drop(id);
  }

  /**
   * Fills the slots of a received value.
   *
   * @returns The value; another one if the value itself has a slot.
   * @throws {ProtocolError} If a slot is not in the value.
   */
  fill(
    root: unknown,
    slots: readonly Slot[],
    call: SlotCall | undefined,
  ): unknown {
    const filler = new Filler(root);
    // All are found before the first is filled: a path must not lead into an object of
    // this end, which its methods use.
    const places = slots.map((slot) => {
      if (!this.#kinds.has(slot[1])) throw notASlot(slot);
      return filler.find(slot);
    });
    for (const [index, [path, kind, id]] of slots.entries()) {
      filler.set(places[index], path, this.#kinds.get(kind)!.make(id, call));
    }
    return filler.finish();
  }
}

/** Finds and fills the slots in a received value. */
class Filler {
  #root: unknown;
  /** The keys of maps and the items of sets, each read once. */
  #entries: Map<unknown, unknown[]> | undefined;

  constructor(root: unknown) {
    this.#root = root;
  }

  /** The container of a slot. Throws if there is no such slot. */
  find(slot: Slot): unknown {
    let at = this.#root;
    // Arguments and items are never a slot, and the placeholder of a result is null.
    if (slot[0].length === 0 && Array.isArray(at)) throw notASlot(slot);
    for (const [index, key] of slot[0].entries()) {
      const part = this.#part(at, key, slot);
      if (index === slot[0].length - 1) break;
      at = part;
    }
    return at;
  }

  /** Fills the slot of a container. */
  set(at: unknown, path: Path, value: unknown): void {
    if (path.length === 0) {
      this.#root = value;
      return;
    }
    const key = path[path.length - 1]!;
    if (at instanceof Map) at.set(this.#entriesOf(at)[key as number], value);
    else if (at instanceof Set) this.#entriesOf(at)[key as number] = value;
    // The property is an own one, so no setter is called.
    else (at as Record<string | number, unknown>)[key] = value;
  }

  /** Fills the sets again, in their order, and returns the value. */
  finish(): unknown {
    for (const [set, items] of this.#entries ?? []) {
      if (!(set instanceof Set)) continue;
      set.clear();
      for (const item of items) set.add(item);
    }
    return this.#root;
  }

  #part(at: unknown, key: string | number, slot: Slot): unknown {
    if (at instanceof Map || at instanceof Set) {
      const entries = this.#entriesOf(at);
      if (typeof key === "number" && key < entries.length) {
        return at instanceof Map ? at.get(entries[key]) : entries[key];
      }
    } else if (
      (Array.isArray(at) && key !== "length" ||
        typeof key === "string" && isPlain(at)) && Object.hasOwn(at, key)
    ) return (at as Record<string | number, unknown>)[key];
    throw notASlot(slot);
  }

  #entriesOf(container: Map<unknown, unknown> | Set<unknown>): unknown[] {
    this.#entries ??= new Map();
    let entries = this.#entries.get(container);
    if (entries === undefined) {
      this.#entries.set(container, entries = [...container.keys()]);
    }
    return entries;
  }
}

function notASlot(slot: Slot): ProtocolError {
  return new ProtocolError(
    `Cannot read a message: ${show(slot)} is not a slot of its value`,
  );
}
