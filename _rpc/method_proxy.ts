// Copyright 2026 the Duplex authors. MIT license.

/**
 * Objects whose methods are calls: of `remote`, `notifier` and `Pool.api`.
 *
 * @module
 */

/** Any function. */
type AnyFunction = (...args: never[]) => unknown;

/** An object with a method for every name, created when it is read. */
export function methodProxy(make: (name: string) => AnyFunction): object {
  const methods = new Map<string, AnyFunction>();
  return new Proxy(Object.freeze(Object.create(null)), {
    get(_target, name): AnyFunction | undefined {
      // A promise that resolves with this object must not use it as a promise.
      if (typeof name === "symbol" || name === "then") return undefined;
      let method = methods.get(name);
      if (method === undefined) methods.set(name, method = make(name));
      return method;
    },
  });
}
