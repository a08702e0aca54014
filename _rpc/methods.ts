// Copyright 2026 the Duplex authors. MIT license.

/**
 * The methods of an object that a peer may call: its own ones, and nothing else.
 *
 * @module
 */

import type { CallContext } from "./context.ts";
import { Marked } from "./slots.ts";
import { show } from "../_base/text.ts";

/** Any function. */
// deno-lint-ignore ban-types
export type Callback = Function;

/** A method that can be called. */
export interface Method {
  readonly run: Callback;
  /** The value of `this`. */
  readonly self: unknown;
  /** Whether its first argument is a signal. */
  readonly takesSignal: boolean;
  /** The context in which a function or an object that was sent runs. */
  readonly context?: CallContext;
}

/** Methods that take a signal, by their wrappers. */
export const withSignals: WeakMap<Callback, Callback> = new WeakMap();

/**
 * The own methods of an object.
 *
 * @param action What is attempted, for errors.
 * @param label The name of the argument, for errors.
 */
export function ownMethods(
  action: string,
  label: string,
  methods: object,
): Map<string, Method> {
  if (typeof methods !== "object" || methods === null) {
    throw new TypeError(
      `${action} as "${label}" must be an object with functions: current value is ${
        show(methods)
      }`,
    );
  }
  const found = new Map<string, Method>();
  for (
    const [name, descriptor] of Object.entries(
      Object.getOwnPropertyDescriptors(methods),
    )
  ) {
    // The descriptor of a getter has no own value.
    const value = Object.hasOwn(descriptor, "value") && descriptor.value;
    if (typeof value !== "function") continue;
    const run = withSignals.get(value);
    found.set(name, {
      run: run ?? value,
      self: methods,
      takesSignal: run !== undefined,
    });
  }
  if (found.has("then")) {
    throw new TypeError(
      `${action}: one is named "then", which "await" would call; give it another name`,
    );
  }
  if (found.size === 0) {
    throw new TypeError(
      `${action}: the object has no own methods; those of a class are inherited, so name them: { add: (a, b) => counter.add(a, b) }`,
    );
  }
  return found;
}

/**
 * An object of this package with a method for every name. Sent to a peer, it is a
 * reference: the peer's calls are passed on.
 */
export class RemoteObject extends Marked {}

/** An object with a method for every name, created when it is read. */
export function methodProxy(
  make: (name: string) => (...args: never[]) => unknown,
  symbols: (name: symbol) => unknown = () => undefined,
): object {
  const methods = new Map<string, (...args: never[]) => unknown>();
  return new Proxy(Object.preventExtensions(new RemoteObject()), {
    get(_target, name): unknown {
      if (typeof name === "symbol") return symbols(name);
      // `await` would use this object as a promise, and `JSON.stringify` would call it.
      if (name === "then" || name === "toJSON") return undefined;
      let method = methods.get(name);
      if (method === undefined) methods.set(name, method = make(name));
      return method;
    },
  });
}
