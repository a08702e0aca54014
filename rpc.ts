// Copyright 2026 the Duplex authors. MIT license.

/**
 * Calls over any duplex: one end exposes methods, and the other end calls them as
 * local functions. Both ends may expose and call at the same time.
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
 * A worker script exposes its methods to its parent with `expose(methods)`, for every
 * transport.
 *
 * @module
 */

import { parentPromises } from "./_base/errors.ts";
import { type CallHooks, onPeerGoodbye } from "./_session/session.ts";
import {
  checkKind,
  checkOptions,
  checkPositive,
  checkSignal,
} from "./_base/options.ts";
import { DEFAULT_MAX_CALLS, type Exposed } from "./_rpc/callee.ts";
import { type CallLimits, DEFAULT_READ_AHEAD } from "./_rpc/caller.ts";
import { checkDuplex, RpcEndpoint } from "./_rpc/endpoint.ts";
import { MAX_PULL } from "./_rpc/messages.ts";
import { methodProxy, ownMethods, withSignals } from "./_rpc/methods.ts";
import { ObjectReference } from "./_rpc/references.ts";
import { Transferred } from "./_rpc/slots.ts";
import { endpointOf } from "./_rpc/pending_endpoint.ts";
import {
  addSchemas,
  type SchemaIssue,
  type SchemaResult,
  type StandardSchema,
} from "./_rpc/schema.ts";
import { CallPromise } from "./_rpc/stream.ts";
import type {
  Exposable,
  Notifier,
  Reference,
  Remote,
  RemoteReference,
  RemoteResult,
} from "./_rpc/types.ts";
import { show } from "./_base/text.ts";
import type { Duplex } from "./duplex.ts";
import { parent } from "./parent.ts";

export type {
  Exposable,
  Notifier,
  Reference,
  Remote,
  RemoteReference,
  RemoteResult,
  SchemaIssue,
  SchemaResult,
  StandardSchema,
};
export { RemoteError } from "./_rpc/errors.ts";
export { ClosedError, DeadlockError, PeerExitError } from "./_base/errors.ts";
export {
  type RemoteSync,
  remoteSync,
  type RemoteSyncOptions,
  type RemoteSyncResult,
} from "./_rpc/remote_sync.ts";
export type { ShmDuplex } from "./_shm/session.ts";

/**
 * Options for {@linkcode expose}.
 *
 * @typeParam Methods The type of the object with the methods.
 */
export interface ExposeOptions<Methods extends object = object> {
  /**
   * Maximum number of calls of the peer that run at the same time, including calls of
   * functions that were arguments. A further call rejects with a `RangeError`. Each
   * call of a batch counts, and each function or signal among the arguments counts as
   * one call more. Each running call may leave one answer, or one value of a stream,
   * in memory until the caller reads it. So one caller can make this end hold
   * `maxCalls` times the size of an answer: by default 256 MiB with 4 KiB each. If
   * answers are large, set it lower for callers that are not trusted.
   *
   * @default {65536}
   */
  maxCalls?: number;
  /**
   * Maximum number of functions, objects and streams that each end holds of the other,
   * until they are released; a stream that is held counts as 8. A call with more of
   * them rejects with a `RangeError`, and so does a call whose result has more of
   * them. A duplex has one such limit: `expose` and `remote` replace it. Each takes
   * about 400 bytes, so a peer can make this end hold 400 MiB by default. It is so large
   * because functions that are not released wait for garbage collection, which comes
   * late in a large program.
   *
   * @default {1048576}
   */
  maxReferences?: number;
  /**
   * Called when a notification throws or names no method (see {@linkcode notifier}),
   * and when a function of the peer is called that was released or whose duplex has
   * ended: a method may ignore the promise that it returns. It must not throw.
   *
   * @default {none}
   */
  onError?: (error: unknown, method: string) => void;
  /**
   * Schemas of arguments by the names of methods: of Zod, Valibot, ArkType, or another
   * library that implements [Standard Schema](https://standardschema.dev). What a peer
   * sends has any type; a schema is a check of it. It validates the arguments of each
   * call as one array, and the method receives the array that the schema returns, so
   * it may set defaults and convert values. A call whose arguments are not valid
   * rejects with a `TypeError` that has the path (`$[0].name`) in its message and the
   * first 20 issues in its field `issues`. Methods without a schema are called with
   * any arguments.
   *
   * @default {none}
   */
  schemas?: {
    readonly [Name in keyof Methods]?: StandardSchema<
      unknown,
      Methods[Name] extends (...args: infer Args) => unknown ? Args : never
    >;
  };
}

/** Options for {@linkcode remote}, which hold for every call made with it. */
export interface RemoteOptions {
  /**
   * Cancels calls: they reject with the signal's reason at once, and the signals of
   * methods made with {@linkcode withSignal} abort.
   *
   * @default {none}
   */
  signal?: AbortSignal;
  /**
   * Milliseconds that a call may take, a stream until its last value. After that it
   * is cancelled, and rejects with a "TimeoutError".
   *
   * @default {Infinity}
   */
  timeout?: number;
  /**
   * Values of a stream that are requested in advance, at most 65536. The default
   * hides the round trip; use less for large values.
   *
   * @default {16}
   */
  readAhead?: number;
  /**
   * Maximum number of functions, objects and streams that each end holds of the
   * other; see {@linkcode ExposeOptions.maxReferences}.
   *
   * @default {1048576}
   */
  maxReferences?: number;
}

/**
 * Creates a method whose first argument is a signal. The signal aborts when the call
 * is cancelled: by the caller's `signal` or `timeout`, when its stream is stopped, or
 * when the duplex ends. In a local call, the signal never aborts.
 *
 * @typeParam Args The arguments of the caller.
 * @typeParam Result The type that the method returns.
 *
 * @param method The method, with the signal before its arguments.
 * @returns The method without the signal.
 * @throws {TypeError} If `method` is not a function.
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
      `Cannot make a method with a signal as "method" must be a function: current value is ${
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
 * Exposes methods to the peer. In a worker script, the duplex may be omitted: it is
 * that of {@linkcode parent}.
 *
 * - The methods are the object's own properties that are functions when it is
 *   exposed, without getters, inherited properties and nested objects. `this` is the
 *   object.
 * - A method that returns a generator, or another object for `for await`, is a
 *   stream: values are sent as its caller requests them.
 * - A function anywhere in the arguments calls back. It returns a promise, which may
 *   be ignored: declare its result as a promise, or as `void` or `unknown`. It may be
 *   kept, and called after the call has ended, until it is released: by `using` or
 *   `[Symbol.dispose]()`, by garbage collection, or by the end of the duplex.
 * - A signal anywhere in the arguments aborts when the call is cancelled.
 * - A method may return functions, and references to objects (see
 *   {@linkcode reference}), anywhere in its result. What `remote` returns is sent as
 *   a reference, whose calls are passed on.
 * - A `ReadableStream` or `WritableStream` anywhere in the arguments, or in a result
 *   that is an object, is read and written by the peer as its own. Its chunks are
 *   values or bytes; at most 16 of them, or 1 MiB and one more, get ahead of a reader.
 *   Errors, cancellation and their reasons arrive at the other end. The stream is
 *   locked here, lives longer than the call, and is cancelled or aborted if the peer
 *   does not use it, or if the duplex ends.
 * - An error that a method throws is thrown at the caller.
 * - Calls run concurrently.
 * - If a caller does not read its answers, its calls wait: no call is begun while 16
 *   answers wait for room. This end then stops reading the duplex or, if it makes
 *   calls itself, reads until one window of calls is held. Two ends that both call
 *   and read their answers do not block each other.
 *
 * From now on all messages of the duplex are calls and answers: do not send or receive
 * others. If this end makes calls as well, expose before the first `await`: calls
 * that arrive earlier find no methods.
 *
 * After the goodbye of the peer, running calls are finished and answered, except
 * cancelled ones; then the duplex is closed. If the duplex ends otherwise, the signals
 * of running calls abort.
 *
 * Requires no permission.
 *
 * @typeParam Methods The type of the object. `expose<object>(…)` does not check what
 *   its methods receive.
 *
 * @param methods The object with the methods.
 * @param duplex The duplex, or a promise for it; {@linkcode parent} by default.
 * @param options Limits.
 * @returns A promise that settles as {@linkcode Duplex.closed} does. A rejection need
 *   not be handled, except that of a {@linkcode parent} that cannot be opened.
 * @throws {TypeError} If the object has no own method, or one named "then", if the
 *   duplex already exposes methods, if a schema is for a method that does not exist,
 *   or if an option is of the wrong type.
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
export function expose<Methods extends object>(
  methods: Methods & Exposable<Methods>,
  duplex?: Duplex | Promise<Duplex>,
  options: ExposeOptions<NoInfer<Methods>> = {},
): Promise<void> {
  const action = "Cannot expose methods";
  checkOptions(action, options);
  const {
    maxCalls = DEFAULT_MAX_CALLS,
    maxReferences,
    onError = ignore,
    schemas = {},
  } = options;
  checkPositive(action, "maxCalls", maxCalls, { integer: true });
  checkMaxReferences(action, maxReferences);
  checkKind(action, "onError", onError, "function");
  const exposed = {
    methods: ownMethods(action, "methods", methods),
    maxCalls,
    maxReferences,
    onError,
  };
  addSchemas(action, exposed.methods, schemas);
  const opened = duplex === undefined ? parent() : duplex;
  if (!(opened instanceof Promise)) {
    const served = serve(action, exposed, opened);
    served.catch(ignore);
    return served;
  }
  const served = opened.then((duplex) => serve(action, exposed, duplex));
  if (!parentPromises.has(opened)) served.catch(ignore);
  else opened.then(() => served.catch(ignore), ignore);
  return served;
}

function ignore(): void {}

/** Answers calls until the goodbye of the peer, and closes the duplex. */
function serve(
  action: string,
  { maxReferences, ...exposed }: Exposed & {
    readonly maxReferences: number | undefined;
  },
  duplex: Duplex,
): Promise<void> {
  const { callee, ended, references } = RpcEndpoint.of(duplex, action);
  callee.expose(exposed);
  if (maxReferences !== undefined) references.max = maxReferences;
  // This closes the duplex instead, when all calls were answered.
  if (onPeerGoodbye in duplex) {
    (duplex as CallHooks)[onPeerGoodbye] = () => {};
  }
  return ended.then(() => callee.idle()).then(() => duplex.close())
    // `close` does not reject after an abort of this end, but `closed` does.
    .then(() => duplex.closed);
}

/**
 * The methods that the peer exposes. A call returns a promise, or a generator if the
 * method returns a stream.
 *
 * - Every call ends in exactly one of four ways: with the value; with the error of
 *   the method (of its standard class, or a {@linkcode RemoteError}); with
 *   {@linkcode ClosedError} or {@linkcode PeerExitError} if the duplex ended; or with
 *   the reason of the signal that cancelled it.
 * - A function anywhere in the arguments is called back, also after the call if the
 *   method keeps it, until the peer releases it or the duplex ends. It may be
 *   asynchronous, and runs in the `AsyncLocalStorage` context of the call. A signal
 *   there cancels the call.
 * - A function in a result calls the peer, until it is released by `using` or
 *   `[Symbol.dispose]()`, by garbage collection, or by the end of the duplex. Functions
 *   and signals deeper than the properties of an argument are found when the codec
 *   refuses the message, which takes longer.
 * - Values of a stream are requested as they are read, and some in advance. Leaving
 *   `for await` early ends the generator of the peer. A stream that is never read
 *   waits until the duplex ends.
 * - A `ReadableStream` or `WritableStream` anywhere in the arguments, or in a result
 *   that is an object, is read and written by the peer as its own, as
 *   {@linkcode expose} describes. A locked one is a `TypeError`.
 * - Calls are sent at once and run concurrently.
 * - With OpenTelemetry (`OTEL_DENO=true`) each call makes a span here, and one at the
 *   peer in the same trace.
 *
 * From now on all messages of the duplex are calls and answers: do not send or receive
 * others.
 *
 * Requires no permission.
 *
 * @typeParam Methods The type of the object that the peer exposes.
 *
 * @param duplex The duplex, or a promise of it, as `openPipe` returns it: calls are
 *   sent once it is open, and reject if it cannot be opened.
 * @param options A signal and a time limit for every call. For a call with other
 *   options, create another remote, which costs little.
 * @returns An object with a function for each method.
 * @throws {RangeError} If an option is out of range.
 * @throws {TypeError} If an option is of the wrong type.
 *
 * @example Streams in both directions
 * ```ts
 * import { duplexPair } from "@duplex/ipc/pair";
 * import { expose, remote } from "@duplex/ipc/rpc";
 * import { assertEquals } from "@std/assert";
 *
 * const methods = {
 *   compress(body: ReadableStream<Uint8Array<ArrayBuffer>>) {
 *     return { body: body.pipeThrough(new CompressionStream("gzip")) };
 *   },
 * };
 *
 * const [main, worker] = duplexPair();
 * expose(methods, worker);
 * const api = remote<typeof methods>(main);
 * const source = new Blob(["text"]).stream();
 * const { body } = await api.compress(source);
 * const text = body.pipeThrough(new DecompressionStream("gzip"));
 * assertEquals(await new Response(text).text(), "text");
 * await main.close();
 * ```
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
  duplex: Duplex | Promise<Duplex>,
  options: RemoteOptions = {},
): Remote<Methods> {
  const action = "Cannot make a remote";
  const limits = callLimits(action, options);
  const { maxReferences } = options;
  checkMaxReferences(action, maxReferences);
  const endpoint = endpointOf(action, duplex);
  if (maxReferences !== undefined) limitReferences(duplex, maxReferences);
  return methodProxy(
    (name) => (...args: unknown[]) =>
      CallPromise.from(endpoint.call(name, args, limits)),
  ) as Remote<Methods>;
}

function checkMaxReferences(action: string, max: number | undefined): void {
  if (max === undefined) return;
  checkPositive(action, "maxReferences", max, { integer: true });
}

async function limitReferences(
  duplex: Duplex | Promise<Duplex>,
  max: number,
): Promise<void> {
  if (!(duplex instanceof Promise)) {
    RpcEndpoint.of(duplex).references.max = max;
    return;
  }
  try {
    RpcEndpoint.of(await duplex).references.max = max;
  } catch {
    // Every call reports it.
  }
}

/**
 * Makes a reference to an object, to be sent in arguments or results in its place. The
 * peer gets an object whose methods call those of this object. Only its own functions
 * can be called, as with {@linkcode expose}. The same object arrives as the same
 * object until the peer has released it; sent back, it is the object itself.
 *
 * The peer releases it with `using` or `[Symbol.dispose]()`. Otherwise it is released
 * by garbage collection, or when the duplex ends.
 *
 * Requires no permission.
 *
 * @typeParam Methods The type of the object.
 *
 * @param object The object with the methods.
 * @returns The reference.
 * @throws {TypeError} If the object has no own method, or one named "then".
 *
 * @example Usage
 * ```ts
 * import { duplexPair } from "@duplex/ipc/pair";
 * import { callStats, expose, reference, remote } from "@duplex/ipc/rpc";
 * import { assertEquals } from "@std/assert";
 *
 * const methods = {
 *   openCounter(count: number) {
 *     return reference({ add: (n: number) => count += n });
 *   },
 * };
 *
 * const [main, worker] = duplexPair();
 * expose(methods, worker);
 * const api = remote<typeof methods>(main);
 * {
 *   using counter = await api.openCounter(5);
 *   assertEquals(await counter.add(2), 7);
 *   assertEquals(callStats(main).held, 1);
 * }
 * assertEquals(callStats(main).held, 0);
 * await main.close();
 * ```
 */
export function reference<Methods extends object>(
  object: Methods,
): Reference<Methods> {
  return ObjectReference.of(object) as unknown as Reference<Methods>;
}

/**
 * Marks a value in arguments or in a result whose buffers are moved to the peer, if it
 * is a thread, instead of copied. To another process they are copied. Either way they
 * are detached here, as soon as the message is sent.
 *
 * It may be anywhere in the arguments or the result, also in those of `Pool.run`,
 * where a task with it is not run again if its worker ends.
 *
 * Requires no permission.
 *
 * @typeParam Value The type of the value.
 *
 * @param value The value, which contains the buffers.
 * @param buffers The buffers. To a thread, ports and streams can be moved as well.
 * @returns A mark to send in place of the value.
 * @throws {TypeError} If `buffers` is not an array.
 *
 * @example Usage
 * ```ts
 * import { duplexPair } from "@duplex/ipc/pair";
 * import { expose, remote, transfer } from "@duplex/ipc/rpc";
 * import { assertEquals } from "@std/assert";
 *
 * const methods = {
 *   double(numbers: Float64Array<ArrayBuffer>) {
 *     const doubled = numbers.map((n) => 2 * n);
 *     return transfer(doubled, [doubled.buffer]);
 *   },
 * };
 *
 * const [main, worker] = duplexPair();
 * expose(methods, worker);
 * const numbers = new Float64Array([1, 2]);
 * const doubled = await remote<typeof methods>(main).double(
 *   transfer(numbers, [numbers.buffer]),
 * );
 * assertEquals([...doubled], [2, 4]);
 * assertEquals(numbers.length, 0);
 * await main.close();
 * ```
 */
export function transfer<Value>(
  value: Value,
  buffers: readonly Transferable[],
): Value {
  if (!Array.isArray(buffers)) {
    throw new TypeError(
      `Cannot transfer a value as "buffers" must be an array: current value is ${
        show(buffers)
      }`,
    );
  }
  return new Transferred(value, [...buffers]) as Value;
}

/** What one end of a duplex does and holds for its calls. */
export interface CallStats {
  /** Calls of the peer that are running, as {@linkcode ExposeOptions.maxCalls} counts. */
  readonly running: number;
  /** Functions, objects and streams of this end that the peer has not released. */
  readonly sent: number;
  /** Functions, objects and streams of the peer that this end has not released. */
  readonly held: number;
}

/**
 * Counts the running calls, and the functions, objects and streams that were sent and
 * received.
 *
 * Requires no permission.
 *
 * @param duplex The duplex.
 * @returns The counts; 0 if the duplex is not used for calls.
 * @throws {TypeError} If it is not a duplex.
 *
 * @example Usage
 * ```ts
 * import { duplexPair } from "@duplex/ipc/pair";
 * import { callStats, expose, remote } from "@duplex/ipc/rpc";
 * import { assertEquals } from "@std/assert";
 *
 * const methods = { run: async (f: () => unknown) => void await f() };
 * const [main, worker] = duplexPair();
 * expose(methods, worker);
 * await remote<typeof methods>(main).run(() => 1);
 * assertEquals(callStats(main), { running: 0, sent: 1, held: 0 });
 * assertEquals(callStats(worker), { running: 0, sent: 0, held: 1 });
 * await main.close();
 * assertEquals(callStats(main), { running: 0, sent: 0, held: 0 });
 * ```
 */
export function callStats(duplex: Duplex): CallStats {
  checkDuplex('Cannot count calls as "duplex" must be a Duplex', duplex);
  const endpoint = RpcEndpoint.find(duplex);
  return {
    running: endpoint?.callee.running ?? 0,
    sent: endpoint?.references.sent ?? 0,
    held: endpoint?.references.received ?? 0,
  };
}

/** The options of a remote, checked and completed. */
function callLimits(action: string, options: RemoteOptions): CallLimits {
  checkOptions(action, options);
  const { signal, timeout = Infinity, readAhead = DEFAULT_READ_AHEAD } =
    options;
  checkSignal(action, signal);
  checkPositive(action, "timeout", timeout);
  checkPositive(action, "readAhead", readAhead, {
    integer: true,
    max: MAX_PULL,
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
 * @throws {DOMException} If the peer has not answered within `timeout`
 *   ("TimeoutError"). A peer that exposes nothing does not answer.
 * @throws {ClosedError} If the duplex was closed.
 * @throws {PeerExitError} If the peer ended.
 * @throws {RangeError} If the timeout is not positive.
 * @throws {TypeError} If an option is of the wrong type.
 * @throws The signal's reason, if it aborts, or that of an `abort` on either side.
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
  duplex: Duplex | Promise<Duplex>,
  options: Pick<RemoteOptions, "signal" | "timeout"> = {},
): Promise<string[]> {
  const action = "Cannot list methods";
  const limits = callLimits(action, options);
  const endpoint = RpcEndpoint.of(await duplex, action);
  return (await endpoint.describe(limits)).methods;
}

/**
 * The methods that the peer exposes, called without an answer. The promise of a call
 * settles when the call was sent, and does not report its outcome. It rejects if the
 * duplex has ended, which a program need not handle, except for a {@linkcode parent}
 * that cannot be opened. Functions can be among the arguments, and signals cannot.
 *
 * Requires no permission.
 *
 * @typeParam Methods The type of the object that the peer exposes.
 *
 * @param duplex The duplex, as for {@linkcode remote}.
 * @returns An object with a function for each method.
 * @throws {TypeError} If it is neither a duplex nor a promise.
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
  duplex: Duplex | Promise<Duplex>,
): Notifier<Methods> {
  const endpoint = endpointOf("Cannot make a notifier", duplex);
  return methodProxy(
    (name) => (...args: unknown[]) => endpoint.notify(name, args),
  ) as Notifier<Methods>;
}
