// Copyright 2026 the Duplex authors. MIT license.

/**
 * Where a task or a map comes from: its span, if the program is traced, and the
 * context in which functions among its arguments run. A worker is given its tasks
 * later, in the context of some other task.
 *
 * @module
 */

import { callContext, withContext } from "../_rpc/context.ts";
import type { Trace } from "../_rpc/messages.ts";
import type { CallSpan, Tracing } from "../_rpc/trace.ts";

/** The origin of a task or a map. */
export class TaskOrigin {
  readonly #span: CallSpan | undefined;
  readonly #context = callContext();

  private constructor(span: CallSpan | undefined) {
    this.#span = span;
  }

  /** The origin of a task that is added now; `undefined` if it needs none. */
  static of(
    tracing: Tracing | undefined,
    method: string,
    hasSlots: boolean,
  ): TaskOrigin | undefined {
    const span = tracing?.call(method);
    return hasSlots || span !== undefined ? new TaskOrigin(span) : undefined;
  }

  /** What the call of a task carries. */
  get trace(): Trace | undefined {
    return this.#span?.trace;
  }

  /** Makes the call of a task that is not in a batch. */
  call<Result>(call: () => Result): Result {
    return withContext(
      this.#context,
      () => this.#span === undefined ? call() : this.#span.with(call),
    );
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
