// Copyright 2026 the Duplex authors. MIT license.

/**
 * Calls over any duplex: a worker exposes methods, and whoever has the other end
 * calls them as if they were its own. Both ends may do both at the same time.
 *
 * ```ts
 * import { duplexPair } from "@duplex/ipc/pair";
 * import { expose, remote } from "@duplex/ipc/rpc";
 * import { assertEquals } from "@std/assert";
 *
 * const methods = {
 *   add: (a: number, b: number) => a + b,
 *   async *count(to: number) {
 *     for (let n = 1; n <= to; n++) yield n;
 *   },
 * };
 *
 * const [main, worker] = duplexPair();
 * expose(methods, worker);
 *
 * const api = remote<typeof methods>(main);
 * assertEquals(await api.add(1, 2), 3);
 * assertEquals(await Array.fromAsync(api.count(3)), [1, 2, 3]);
 * await main.close();
 * ```
 *
 * A worker script exposes its methods to the one who opened it with
 * `expose(methods)` alone, over whatever transport that was.
 *
 * @module
 */

import { type CallHooks, onPeerGoodbye } from "./_session/session.ts";
import {
  checkKind,
  checkOptions,
  checkPositive,
  checkSignal,
} from "./_base/options.ts";
import { DEFAULT_MAX_CALLS, type Exposed, type Method } from "./_rpc/callee.ts";
import type { CallLimits } from "./_rpc/caller.ts";
import { CallPromise } from "./_rpc/promise.ts";
import { DEFAULT_READ_AHEAD, Peer } from "./_rpc/peer.ts";
import { DESCRIBE, MAX_PULL } from "./_rpc/messages.ts";
import type { Callback } from "./_rpc/places.ts";
import { show } from "./_base/text.ts";
import type { Duplex } from "./duplex.ts";
import { parent } from "./parent.ts";

export { RemoteError, type RemoteErrorOptions } from "./_rpc/errors.ts";

/** Options for {@linkcode expose}. */
export interface ExposeOptions {
  /**
   * Maximum number of calls of the peer that run at the same time, calls of
   * functions that came as arguments included. One more is answered with a
   * `RangeError`. Each call of a batch counts, and each function or signal among
   * the arguments counts as one call more. Each call that has begun may
   * leave one answer, or one value of a stream, in memory until the caller reads.
   * So one caller can make this end hold `maxCalls` times the size of an answer: a
   * quarter of a gigabyte by default with 4 KiB each. Set it lower for callers that
   * are not trusted if answers are large.
   *
   * @default {65536}
   */
  maxCalls?: number;
  /**
   * Told of what a method throws whose caller wanted no answer (see
   * {@linkcode notifier}), and of notifications that name no method. Without it
   * nobody learns of them. It must not throw itself.
   *
   * @default {a function that does nothing}
   */
  onError?: (error: unknown, method: string) => void;
}

/** Options for {@linkcode remote}, which hold for every call made with it. */
export interface RemoteOptions {
  /**
   * Takes calls back: they reject with the signal's reason at once, and methods
   * made with {@linkcode withSignal} see their own signal abort.
   */
  signal?: AbortSignal;
  /**
   * Milliseconds that a call may take, a stream up to its last value. After that it
   * is taken back, and rejects with a "TimeoutError".
   *
   * @default {Infinity}
   */
  timeout?: number;
  /**
   * Values of a stream that the far side may give before they are taken, at most
   * 65536. The default hides the way there and back; a stream of large values
   * does with less.
   *
   * @default {16}
   */
  readAhead?: number;
}

/** Any function. */
type AnyFunction = (...args: never[]) => unknown;

/**
 * What a call of a method gives: a promise, or for a method that gives many
 * values, such as an async generator, a generator of them.
 *
 * @typeParam Result What the method returns.
 */
export type RemoteResult<Result> = 0 extends 1 & Awaited<Result>
  ? Promise<Awaited<Result>>
  : [Awaited<Result>] extends [never] ? Promise<never>
  : [Awaited<Result>] extends [AsyncGenerator<infer Item, infer Last>]
    ? AsyncGenerator<Item, Last, void>
  : [Awaited<Result>] extends [AsyncIterable<infer Item>]
    ? AsyncGenerator<Item, void, void>
  : [Awaited<Result>] extends [IteratorObject<infer Item, infer Last>]
    ? AsyncGenerator<Item, Last, void>
  : Promise<Awaited<Result>>;

/**
 * The methods of an object that was exposed at the far end.
 *
 * @typeParam Methods The type of the object.
 */
export type Remote<Methods> = {
  readonly [
    Name in keyof Methods as Methods[Name] extends (...args: never[]) => unknown
      ? Name
      : never
  ]: Methods[Name] extends (...args: infer Args) => infer Result
    ? (...args: Args) => RemoteResult<Result>
    : never;
};

/**
 * The methods of an object that was exposed at the far end, called without an
 * answer.
 *
 * @typeParam Methods The type of the object.
 */
export type Notifier<Methods> = {
  readonly [
    Name in keyof Methods as Methods[Name] extends (...args: never[]) => unknown
      ? Name
      : never
  ]: Methods[Name] extends (...args: infer Args) => unknown
    ? (...args: Args) => Promise<void>
    : never;
};

/** Methods that take a signal, by what stands for them. */
const withSignals = new WeakMap<Callback, Callback>();

/**
 * Makes a method that is given a signal first, which aborts when its call is
 * taken back: by the caller's `signal` or `timeout`, by a stream that is stopped,
 * or because the caller is gone. Called without a duplex between, it gets one that
 * never aborts.
 *
 * @typeParam Args The arguments that the caller gives.
 * @typeParam Result What the method returns.
 *
 * @param method The method, with the signal before its arguments.
 * @returns The method as its caller sees it.
 * @throws {TypeError} If it is not a function.
 *
 * @example Usage
 * ```ts
 * import { duplexPair } from "@duplex/ipc/pair";
 * import { expose, remote, withSignal } from "@duplex/ipc/rpc";
 * import { assertRejects } from "@std/assert";
 *
 * const stopped = Promise.withResolvers<void>();
 * const methods = {
 *   sleep: withSignal((signal, _ms: number) => {
 *     signal.addEventListener("abort", () => stopped.resolve());
 *     return stopped.promise;
 *   }),
 * };
 *
 * const [main, worker] = duplexPair();
 * expose(methods, worker);
 * const api = remote<typeof methods>(main, { timeout: 5 });
 * await assertRejects(() => api.sleep(1000), DOMException, "within 5 ms");
 * await stopped.promise;
 * await main.close();
 * ```
 */
export function withSignal<Args extends unknown[], Result>(
  method: (signal: AbortSignal, ...args: Args) => Result,
): (...args: Args) => Result {
  if (typeof method !== "function") {
    throw new TypeError(
      `Cannot make a method with a signal: it must be a function: current value is ${
        show(method)
      }`,
    );
  }
  function withoutSignal(this: unknown, ...args: Args): Result {
    return method.call(this, new AbortController().signal, ...args);
  }
  withSignals.set(withoutSignal, method);
  return withoutSignal;
}

/**
 * Lets the far end of a duplex call methods of this one. In a worker script the
 * duplex need not be given: it is the one of {@linkcode parent}.
 *
 * - Only own properties of the object that hold functions when it is exposed can
 *   be called: nothing of its prototype, no getter, nothing within a property.
 *   `this` is the object.
 * - A method that gives a generator, or anything that can be walked through with
 *   `for await`, is a stream: its caller takes the values as fast as it likes.
 * - A function among the arguments, or in an argument that is a plain object,
 *   calls back, until the call that brought it has ended. It gives a promise,
 *   which need not be awaited, nor its rejection be handled. A signal there aborts
 *   when the caller's does.
 * - What a method throws is thrown at the caller.
 * - Calls run at the same time; the duplex does not wait for one before it takes
 *   the next.
 * - A caller that does not read its answers has to wait: no further call is begun
 *   while 16 answers wait for room. The duplex is then read no further, or, if this
 *   end makes calls itself, until one window of calls is held. Two ends that both
 *   call and read their answers do not block each other.
 *
 * From now on the messages of the duplex are calls and answers; do not receive
 * them, nor send others. Where this end calls too, expose before anything is
 * awaited: calls that come before find nothing.
 *
 * When the far side has said goodbye, calls under way are finished and answered,
 * except those that it took back; then the duplex is closed. When it ended
 * otherwise, the signals of calls under way abort.
 *
 * Requires no permission.
 *
 * @param methods The object with the methods.
 * @param duplex The duplex, or a promise for it.
 * @param options Limits.
 * @returns A promise that settles as {@linkcode Duplex.closed} does. That it
 *   rejects need not be handled.
 * @throws {TypeError} If the object has no method of its own, or one named "then",
 *   or the duplex exposes methods already, or an option is of the wrong kind.
 * @throws {RangeError} If an option is out of range.
 *
 * @example A worker
 * ```ts ignore
 * import { expose } from "@duplex/ipc/rpc";
 *
 * const methods = { add: (a: number, b: number) => a + b };
 * export type Methods = typeof methods;
 * expose(methods);
 * ```
 *
 * @example Both ends call each other
 * ```ts
 * import { duplexPair } from "@duplex/ipc/pair";
 * import { expose, remote } from "@duplex/ipc/rpc";
 * import { assertEquals } from "@std/assert";
 *
 * const [main, worker] = duplexPair();
 * const names = { nameOf: (id: number) => `number ${id}` };
 * expose(names, main);
 * const greetings = {
 *   async greet(id: number) {
 *     return `Hello, ${await remote<typeof names>(worker).nameOf(id)}!`;
 *   },
 * };
 * expose(greetings, worker);
 *
 * const api = remote<typeof greetings>(main);
 * assertEquals(await api.greet(7), "Hello, number 7!");
 * await main.close();
 * ```
 */
export function expose(
  methods: object,
  duplex: Duplex | Promise<Duplex> = parent(),
  options: ExposeOptions = {},
): Promise<void> {
  const action = "Cannot expose methods";
  checkOptions(action, options);
  const { maxCalls = DEFAULT_MAX_CALLS, onError = ignore } = options;
  checkPositive(action, "maxCalls", maxCalls, { whole: true });
  checkKind(action, "onError", onError, "function");
  const exposed = { methods: methodsOf(methods), maxCalls, onError };
  const served = duplex instanceof Promise
    ? duplex.then((duplex) => serve(exposed, duplex))
    : serve(exposed, duplex);
  served.catch(ignore);
  return served;
}

function ignore(): void {}

/** The methods that an object has itself. */
function methodsOf(methods: object): Map<string, Method> {
  if (typeof methods !== "object" || methods === null) {
    throw new TypeError(
      `Cannot expose methods: they must be an object with functions: current value is ${
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
    // The descriptor of a getter has no value, whatever its prototype has.
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
      'Cannot expose methods: one is named "then", which "await" would call; give it another name',
    );
  }
  if (found.size === 0) {
    throw new TypeError(
      "Cannot expose methods: the object has none of its own; those of a class are on its prototype, so name them: { add: (a, b) => counter.add(a, b) }",
    );
  }
  return found;
}

/** Answers until the far side has said goodbye, and then says its own. */
function serve(exposed: Exposed, duplex: Duplex): Promise<void> {
  const { callee, ended } = Peer.of(duplex);
  callee.expose(exposed);
  // This closes the duplex instead, when all calls were answered.
  if (onPeerGoodbye in duplex) {
    (duplex as CallHooks)[onPeerGoodbye] = () => {};
  }
  return ended.then(() => callee.idle()).then(() => duplex.close())
    // A close after an abort of this side's does not tell of it.
    .then(() => duplex.closed);
}

/**
 * The methods that are exposed at the far end of a duplex. A call of one gives a
 * promise, or for a method that gives many values a generator.
 *
 * - Every call ends in exactly one of: the value, what the method threw (an error
 *   of its standard class, or a {@linkcode RemoteError}), {@linkcode ClosedError}
 *   or {@linkcode PeerExitError} if the duplex ended, or the reason of the signal
 *   that took it back.
 * - A function among the arguments, or in an argument that is a plain object, is
 *   called back, until the call has ended. A signal there takes the call back.
 * - Values of a stream come as they are asked for, and a few ahead. Leaving
 *   `for await` early ends the far side's generator. One that is never read waits
 *   until the duplex ends.
 * - Calls are sent at once and run at the same time.
 *
 * From now on the messages of the duplex are calls and answers; do not receive
 * them, nor send others.
 *
 * Requires no permission.
 *
 * @typeParam Methods The type of the object that the far side exposes.
 *
 * @param duplex The duplex.
 * @param options A signal and a limit of time for every call; make another remote
 *   where one call needs its own, it costs next to nothing.
 * @returns An object with a function for each method.
 * @throws {RangeError} If an option is out of range.
 * @throws {TypeError} If an option is of the wrong kind.
 *
 * @example Progress that calls back
 * ```ts
 * import { duplexPair } from "@duplex/ipc/pair";
 * import { expose, remote } from "@duplex/ipc/rpc";
 * import { assertEquals } from "@std/assert";
 *
 * const methods = {
 *   async copy(files: string[], onFile: (file: string) => unknown) {
 *     for (const file of files) await onFile(file);
 *     return files.length;
 *   },
 * };
 *
 * const [main, worker] = duplexPair();
 * expose(methods, worker);
 * const api = remote<typeof methods>(main);
 * const seen: string[] = [];
 * assertEquals(await api.copy(["a", "b"], (file) => seen.push(file)), 2);
 * assertEquals(seen, ["a", "b"]);
 * await main.close();
 * ```
 */
export function remote<Methods extends object>(
  duplex: Duplex,
  options: RemoteOptions = {},
): Remote<Methods> {
  const limits = callLimits("Cannot make a remote", options);
  const { caller } = Peer.of(duplex);
  return methodProxy((name) => (...args: unknown[]) =>
    CallPromise.from(caller.call(name, args, limits))
  ) as Remote<Methods>;
}

/** The options of a remote, checked and completed. */
function callLimits(action: string, options: RemoteOptions): CallLimits {
  checkOptions(action, options);
  const { signal, timeout = Infinity, readAhead = DEFAULT_READ_AHEAD } =
    options;
  checkSignal(action, signal);
  checkPositive(action, "timeout", timeout);
  checkPositive(action, "readAhead", readAhead, {
    whole: true,
    most: MAX_PULL,
  });
  return { signal, timeout, readAhead };
}

/**
 * Lists the methods that the peer exposes.
 *
 * Requires no permission.
 *
 * @param duplex The duplex, as for {@linkcode remote}.
 * @param options A signal and a timeout.
 * @returns The names of the methods.
 * @throws {DOMException} If the peer has not answered in time ("TimeoutError"), as
 *   one that exposes nothing.
 *
 * @example Usage
 * ```ts
 * import { duplexPair } from "@duplex/ipc/pair";
 * import { expose, listMethods } from "@duplex/ipc/rpc";
 * import { assertEquals } from "@std/assert";
 *
 * const [main, worker] = duplexPair();
 * expose({ add: (a: number, b: number) => a + b }, worker);
 * assertEquals(await listMethods(main), ["add"]);
 * await main.close();
 * ```
 */
export async function listMethods(
  duplex: Duplex,
  options: Pick<RemoteOptions, "signal" | "timeout"> = {},
): Promise<string[]> {
  const limits = callLimits("Cannot list methods", options);
  const found = await Peer.of(duplex).caller.call(DESCRIBE, [], limits);
  const { methods } = found as { methods?: unknown };
  if (!Array.isArray(methods)) return [];
  return methods.filter((name) => typeof name === "string");
}

/**
 * The methods that are exposed at the far end of a duplex, called without an
 * answer: for what is told and not asked. The promise that each gives settles
 * when the call was sent; whether it was done, and how, nobody says. Neither
 * functions nor signals can be among the arguments.
 *
 * Requires no permission.
 *
 * @typeParam Methods The type of the object that the far side exposes.
 *
 * @param duplex The duplex, as for {@linkcode remote}.
 * @returns An object with a function for each method.
 *
 * @example Usage
 * ```ts
 * import { duplexPair } from "@duplex/ipc/pair";
 * import { expose, notifier, remote } from "@duplex/ipc/rpc";
 * import { assertEquals } from "@std/assert";
 *
 * const lines: string[] = [];
 * const methods = {
 *   log: (line: string) => lines.push(line),
 *   lines: () => lines,
 * };
 *
 * const [main, worker] = duplexPair();
 * expose(methods, worker);
 * await notifier<typeof methods>(main).log("started");
 * assertEquals(await remote<typeof methods>(main).lines(), ["started"]);
 * await main.close();
 * ```
 */
export function notifier<Methods extends object>(
  duplex: Duplex,
): Notifier<Methods> {
  const peer = Peer.of(duplex);
  return methodProxy((name) => (...args: unknown[]) =>
    peer.notify(name, args)
  ) as Notifier<Methods>;
}

/** An object that has whatever method is asked for, made when it is. */
function methodProxy(make: (name: string) => AnyFunction): object {
  const methods = new Map<string, AnyFunction>();
  return new Proxy(Object.freeze(Object.create(null)), {
    get(_target, name): AnyFunction | undefined {
      // A promise that gives it must not take it for another promise.
      if (typeof name === "symbol" || name === "then") return undefined;
      let method = methods.get(name);
      if (method === undefined) methods.set(name, method = make(name));
      return method;
    },
  });
}
