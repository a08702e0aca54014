// Copyright 2026 the Duplex authors. MIT license.

/**
 * Spans of calls for OpenTelemetry: one at the caller, and one at the callee, whose
 * parent is that of the caller. The message of the call carries the fields that the
 * propagator of the program sets, such as `traceparent`.
 *
 * The parts of OpenTelemetry are found where its API for JavaScript registers them.
 * Deno does that with `OTEL_DENO=true`, before a program starts, so nothing is
 * imported here. Names and attributes are those of the conventions for RPC
 * (https://opentelemetry.io/docs/specs/semconv/rpc/rpc-spans).
 *
 * @module
 */

import { isInstance } from "../_base/errors.ts";
import { excerpt, reasonText } from "../_base/text.ts";
import { isThenable } from "./batch.ts";
import { RemoteError } from "./errors.ts";
import { DESCRIBE, type MethodKey, type Trace } from "./messages.ts";
import type { Method } from "./methods.ts";

/** The parts of the API of OpenTelemetry that are used here. */
interface Span {
  spanContext(): { readonly traceState?: { serialize(): string } };
  setAttribute(name: string, value: string): unknown;
  setStatus(status: { code: number; message?: string }): unknown;
  end(): void;
}

interface Context {
  getValue(key: symbol): unknown;
  setValue(key: symbol, value: unknown): Context;
}

interface Tracer {
  startSpan(
    name: string,
    options: { kind: number; attributes: Record<string, string> },
    context: Context,
  ): Span;
}

interface Api {
  readonly trace?: { getTracer(name: string): Tracer };
  readonly context?: {
    active(): Context;
    with<Result>(context: Context, act: () => Result): Result;
  };
  readonly propagation?: {
    inject(context: Context, carrier: Trace, setter: typeof SETTER): void;
    extract(context: Context, carrier: Trace, getter: typeof GETTER): Context;
  };
}

/** Where the API keeps its parts, and a context its span. */
const API_KEY = Symbol.for("opentelemetry.js.api.1");
const SPAN_KEY = Symbol.for("OpenTelemetry Context Key SPAN");

/** Kinds of spans, and the status of one that failed. */
const SERVER = 1;
const CLIENT = 2;
const STATUS_ERROR = 2;

const NAME = "@duplex/ipc";

const SETTER = {
  set(carrier: Record<string, string>, name: string, value: string): void {
    carrier[name] = value;
  },
};

const GETTER = {
  keys: (carrier: Trace): string[] => Object.keys(carrier),
  get: (carrier: Trace, name: string): string | undefined =>
    Object.hasOwn(carrier, name) ? carrier[name] : undefined,
};

/** The `tracestate` of spans that were started here, since those of Deno lose it. */
const states = new WeakMap<object, string>();

/** The span of a call at its caller. */
export class CallSpan {
  /** What the message of the call carries; `undefined` without a propagator. */
  readonly trace: Trace | undefined;
  readonly #tracing: Tracing;
  readonly #context: Context;
  #span: Span | undefined;

  constructor(
    tracing: Tracing,
    span: Span,
    context: Context,
    trace: Trace | undefined,
  ) {
    this.#tracing = tracing;
    this.#span = span;
    this.#context = context;
    this.trace = trace;
  }

  /** Calls a function in which this span is active. */
  with<Result>(act: () => Result): Result {
    return this.#tracing.with(this.#context, act);
  }

  /** Ends the span, the first time. */
  end(): void {
    this.#span?.end();
    this.#span = undefined;
  }

  /** Ends the span with an error. */
  fail(error: unknown): void {
    if (this.#span !== undefined) setError(this.#span, error);
    this.end();
  }
}

/** Makes the spans of calls. */
export class Tracing {
  readonly #tracer: Tracer;
  readonly #context: NonNullable<Api["context"]>;
  readonly #propagation: Api["propagation"];

  private constructor(
    trace: NonNullable<Api["trace"]>,
    context: NonNullable<Api["context"]>,
    propagation: Api["propagation"],
  ) {
    this.#tracer = trace.getTracer(NAME);
    this.#context = context;
    this.#propagation = propagation;
  }

  /**
   * The tracing of this program, or `undefined` if it is off. Endpoints and pools read
   * it when they are made, so that a call without tracing costs a comparison.
   */
  static get(): Tracing | undefined {
    const api: Api | undefined = Reflect.get(globalThis, API_KEY);
    if (api?.trace === undefined || api.context === undefined) return undefined;
    return new Tracing(api.trace, api.context, api.propagation);
  }

  with<Result>(context: Context, act: () => Result): Result {
    return this.#context.with(context, act);
  }

  /** Starts the span of a call, for the caller; none for a description. */
  call(key: MethodKey): CallSpan | undefined {
    if (key === DESCRIBE) return undefined;
    const active = this.#context.active();
    const span = this.#start(key, CLIENT, active);
    const context = active.setValue(SPAN_KEY, span);
    const state = stateOf(active);
    if (state !== undefined) states.set(span, state);
    if (this.#propagation === undefined) {
      return new CallSpan(this, span, context, undefined);
    }
    const trace: Trace = {};
    this.#propagation.inject(context, trace, SETTER);
    if (state !== undefined) trace["tracestate"] ??= state;
    return new CallSpan(this, span, context, trace);
  }

  /**
   * A method that makes the span of a call, for the callee, and runs with it. If the
   * result is a stream, its values are made with it as well.
   */
  method(method: Method, key: MethodKey, trace: Trace | undefined): Method {
    const serve = (act: () => unknown) => this.#serve(key, trace, act);
    return {
      ...method,
      run(this: unknown, ...args: unknown[]): unknown {
        return serve(() => Reflect.apply(method.run, this, args));
      },
    };
  }

  #serve(
    key: MethodKey,
    trace: Trace | undefined,
    act: () => unknown,
  ): unknown {
    const active = this.#context.active();
    const parent = trace === undefined
      ? active
      : this.#propagation?.extract(active, trace, GETTER) ?? active;
    const span = this.#start(key, SERVER, parent);
    const state = trace?.["tracestate"] ?? stateOf(parent);
    if (state !== undefined) states.set(span, state);
    const context = parent.setValue(SPAN_KEY, span);
    const fail = (error: unknown) => {
      setError(span, error);
      span.end();
    };
    const settle = (value: unknown): unknown => {
      if (isIterator(value)) return this.#stream(value, context, span, fail);
      span.end();
      return value;
    };
    let result: unknown;
    try {
      result = this.with(context, act);
      if (!isThenable(result)) return settle(result);
    } catch (error) {
      fail(error);
      throw error;
    }
    return Promise.resolve(result).then(settle, (error) => {
      fail(error);
      throw error;
    });
  }

  /** A stream whose values are made in a context; its end is that of the span. */
  #stream(
    iterator: AsyncIterator<unknown>,
    context: Context,
    span: Span,
    fail: (error: unknown) => void,
  ): AsyncIterableIterator<unknown> {
    const step = async (
      act: () => Promise<IteratorResult<unknown>>,
    ): Promise<IteratorResult<unknown>> => {
      try {
        const result = await this.with(context, act);
        if (result.done) span.end();
        return result;
      } catch (error) {
        fail(error);
        throw error;
      }
    };
    return {
      next: () => step(() => iterator.next()),
      return: () =>
        step(async () =>
          await iterator.return?.() ?? { done: true, value: undefined }
        ),
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }

  #start(key: MethodKey, kind: number, context: Context): Span {
    const method = spanName(key);
    return this.#tracer.startSpan(method, {
      kind,
      attributes: { "rpc.system.name": NAME, "rpc.method": method },
    }, context);
  }
}

/** The name of a method in spans. A peer may send any name, of any length. */
function spanName(key: MethodKey): string {
  if (typeof key === "number") return "callback";
  return excerpt(typeof key === "string" ? key : key[1]);
}

/** The `tracestate` of the span in a context. */
function stateOf(context: Context): string | undefined {
  const span = context.getValue(SPAN_KEY) as Span | undefined;
  if (span === undefined) return undefined;
  return states.get(span) ?? span.spanContext().traceState?.serialize();
}

/** Sets the status of a span that failed. */
function setError(span: Span, error: unknown): void {
  span.setAttribute("error.type", errorType(error));
  span.setStatus({ code: STATUS_ERROR, message: reasonText(error) });
}

/** The class of an error, with the low number of values that the conventions ask for. */
function errorType(error: unknown): string {
  try {
    if (isInstance(error, RemoteError)) return excerpt(error.className);
    const { name } = error as { name: unknown };
    if (isInstance(error, Error) && typeof name === "string") {
      return excerpt(name);
    }
  } catch {
    // The error is `undefined`, or a proxy that throws.
  }
  return "_OTHER";
}

/** Whether the result of a method is a generator, whose values are made as they are read. */
function isIterator(value: unknown): value is AsyncIterator<unknown> {
  return typeof value === "object" && value !== null &&
    typeof (value as Partial<Iterator<unknown>>).next === "function" &&
    (Symbol.asyncIterator in value || Symbol.iterator in value);
}
