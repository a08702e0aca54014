// Copyright 2026 the Duplex authors. MIT license.

/**
 * Where a task or a map comes from: its span, if the program is traced, and the
 * context in which functions among its arguments run. A worker is given its tasks
 * later, in the context of some other task.
 *
 * @module
 */

import {
  type CallContext,
  callContext,
  EMPTY,
  withContext,
} from "../_rpc/context.ts";
import type { Trace } from "../_rpc/messages.ts";
import type { CallSpan, Tracing } from "../_rpc/trace.ts";

/** The origin of a task or a map. */
export class TaskOrigin {
  readonly #span: CallSpan | undefined;
  readonly #context: CallContext;

  private constructor(context: CallContext, span: CallSpan | undefined) {
    this.#context = context;
    this.#span = span;
  }

  /** The origin of a task that is added now; `undefined` outside of all contexts. */
  static of(
    tracing: Tracing | undefined,
    method: string,
  ): TaskOrigin | undefined {
    const context = callContext();
    const span = tracing?.call(method);
    if (context === EMPTY && span === undefined) return undefined;
    return new TaskOrigin(context, span);
  }

  /** Makes the call of a task that is not in a batch, which has an origin or none. */
  static call<Result>(
    origin: TaskOrigin | undefined,
    call: () => Result,
  ): Result {
    if (origin === undefined) return withContext(EMPTY, call);
    const span = origin.#span;
    return withContext(
      origin.#context,
      span === undefined ? call : () => span.with(call),
    );
  }

  /** What the call of a task carries. */
  get trace(): Trace | undefined {
    return this.#span?.trace;
  }

  /** Ends the span. */
  end(): void {
    this.#span?.end();
  }

  /** Ends the span with an error. */
  fail(error: unknown): void {
    this.#span?.fail(error);
  }
}
