// Copyright 2026 the Duplex authors. MIT license.

/**
 * One end of a plan for calls: exposes methods, calls those of the other end,
 * and checks that each call has the outcome that its method or the plan gives.
 *
 * @module
 */

import type { Duplex } from "@duplex/ipc/duplex";
import {
  expose,
  notifier,
  reference,
  remote,
  type RemoteReference,
  withSignal,
} from "@duplex/ipc/rpc";
import type { CallSidePlan, CallStep } from "./call_plan.ts";
import type { Finale } from "./plan.ts";
import {
  ABORTS,
  isExpected,
  PlannedError,
  settleOrTimeout,
  sleep,
  TrackedPromises,
} from "./promises.ts";
import type { Journal } from "./side.ts";

/** Milliseconds that a step waits for its calls. */
const STEP_TIMEOUT = 80;

/** Number of callback calls that a method makes. */
const TIMES = 3;

type Fn = (id: string, value: number) => unknown;

/** A function and an object deep in an argument. */
interface Deep {
  readonly deep: readonly [
    { fn: Fn; object: RemoteReference<{ fn: Fn }> },
  ];
}

/** The methods of an end; the first argument of each is the id of the call. */
export type Methods = ReturnType<typeof makeMethods>;

/**
 * Makes the methods of an end.
 *
 * @param begin Records that a call has started.
 * @param other Returns the methods of the other end.
 */
function makeMethods(begin: (id: string) => void, other: () => Other) {
  async function* count(id: string, to: number) {
    begin(id);
    for (let n = 0; n < to; n++) {
      if (n % 8 === 7) await sleep(0);
      yield [id, n];
    }
    return id;
  }
  return {
    echo(id: string, value: unknown) {
      begin(id);
      return [id, value];
    },
    async slow(id: string, turns: number) {
      begin(id);
      for (let turn = 0; turn < turns; turn++) await sleep(0);
      return [id, turns];
    },
    fail(id: string): unknown {
      begin(id);
      throw new PlannedError(`fail ${id}`);
    },
    count,
    endless: (id: string) => count(id, Infinity),
    async callBack(id: string, fn: Fn, times: number) {
      begin(id);
      let sum = 0;
      for (let n = 0; n < times; n++) sum += Number(await fn(id, n));
      return [id, sum];
    },
    /** Calls back functions deep in its arguments, and returns one with a method. */
    async callDeep(id: string, { deep: [{ fn, object }] }: Deep) {
      begin(id);
      using used = object;
      const sum = Number(await fn(id, 1)) + Number(await used.fn(id, 2));
      return { made: reference({ sum: (n: number) => [id, sum + n] }) };
    },
    async bounce(id: string, value: unknown) {
      begin(id);
      return [id, await other().echo(`${id}-back`, value)];
    },
    waits: withSignal(async (signal: AbortSignal, id: string) => {
      begin(id);
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
      return id;
    }),
    forever(id: string): Promise<never> {
      begin(id);
      return new Promise(() => {});
    },
    note(id: string) {
      begin(id);
    },
  };
}

/** The methods of the other end, as seen by the caller. */
type Other = ReturnType<typeof remote<ReturnType<typeof makeMethods>>>;

/** One end of a plan for calls. */
export class CallSide {
  readonly name: string;
  readonly #duplex: Duplex;
  readonly #journal: Journal;
  readonly promises = new TrackedPromises((what, error) =>
    this.#check(what, error)
  );
  #next = 0;

  constructor(
    name: string,
    duplex: Duplex,
    journal: Journal,
    { maxCalls }: CallSidePlan,
  ) {
    this.name = name;
    this.#duplex = duplex;
    this.#journal = journal;
    const other = remote<Methods>(duplex);
    const begin = (id: string) => journal.add("received", id);
    const served = expose(makeMethods(begin, () => other), duplex, {
      ...maxCalls !== undefined && { maxCalls },
    });
    this.promises.track("expose", served);
    this.promises.track("closed", duplex.closed);
  }

  /** Runs the steps. */
  async run({ steps }: CallSidePlan): Promise<void> {
    for (const step of steps) {
      await settleOrTimeout(this.#step(step), STEP_TIMEOUT);
      if (step.pause > 0) await sleep(step.pause);
    }
  }

  /** Ends as the plan says. */
  async finish(finale: Finale): Promise<void> {
    if (finale === "leave") return;
    if (finale === "abort") {
      return this.#duplex.abort(new PlannedError(`"${this.name}" ${ABORTS}`));
    }
    const closing = finale === "dispose"
      ? Promise.resolve(this.#duplex[Symbol.asyncDispose]())
      : this.#duplex.close();
    await this.promises.track(finale, closing);
  }

  async #step(step: CallStep): Promise<void> {
    const { timeout } = step;
    const signal = this.promises.signal(step.abortAfter);
    const api = remote<Methods>(this.#duplex, {
      ...timeout !== undefined && { timeout },
      ...signal !== undefined && { signal },
    });
    const calls: Promise<unknown>[] = [];
    for (let index = 0; index < step.count; index++) {
      const id = `${this.name}:${this.#next++}`;
      const call = this.promises.track(
        `${step.method} ${id}`,
        this.#call(api, id, step),
      );
      calls.push(call);
      if (step.inTurn) await call;
    }
    await Promise.all(calls);
  }

  /** Makes a call and checks its outcome. */
  async #call(api: Other, id: string, step: CallStep): Promise<void> {
    const { size } = step;
    switch (step.method) {
      case "echo": {
        const text = "x".repeat(size);
        return this.#expect(id, [id, text], await api.echo(id, text));
      }
      case "bounce":
        return this.#expect(
          id,
          [id, [`${id}-back`, size]],
          await api.bounce(id, size),
        );
      case "slow":
        return this.#expect(id, [id, size], await api.slow(id, size));
      case "fail":
        return await this.#callFailing(id, api.fail(id));
      case "count":
        return await this.#readStream(id, api.count(id, size), step, size);
      case "endless":
        return await this.#readStream(id, api.endless(id), step, Infinity);
      case "callBack": {
        const fn: Fn = (back, n) => {
          if (back !== id) this.#violation(`${id} was called back for ${back}`);
          return n;
        };
        if (size % 2 === 1) return await this.#callDeep(api, id, fn);
        const sum = (TIMES * (TIMES - 1)) / 2;
        return this.#expect(id, [id, sum], await api.callBack(id, fn, TIMES));
      }
      case "waits":
        // The caller cancels this call, so its result is not seen.
        return this.#expect(id, "cancelled", await api.waits(id));
      case "forever":
        return this.#expect(id, "nothing", await api.forever(id));
      case "missing": {
        const missing = api as unknown as Record<string, Fn>;
        return await this.#callMissing(
          id,
          missing.doesNotExist!(id, 0) as Promise<unknown>,
        );
      }
      case "note":
        return await notifier<Methods>(this.#duplex).note(id);
    }
  }

  async #callDeep(api: Other, id: string, fn: Fn): Promise<void> {
    const object = reference({ fn });
    const deep = { deep: [{ fn, object }] } as unknown as Deep;
    const { made } = await api.callDeep(id, deep);
    using used = made;
    this.#expect(id, [id, 5], await used.sum(2));
  }

  async #callFailing(id: string, call: Promise<unknown>): Promise<void> {
    try {
      await call;
    } catch (error) {
      if (error instanceof Error && error.message === `fail ${id}`) return;
      if (error instanceof Error && error.message.startsWith("fail ")) {
        this.#violation(
          `${id} failed with the error of another: ${error.message}`,
        );
      }
      throw error;
    }
    this.#violation(`${id} must fail and gave a value`);
  }

  async #callMissing(id: string, call: Promise<unknown>): Promise<void> {
    try {
      await call;
    } catch (error) {
      if (error instanceof Error && error.message.includes("doesNotExist")) {
        return;
      }
      throw error;
    }
    this.#violation(`${id} names no method and gave a value`);
  }

  async #readStream(
    id: string,
    stream: AsyncGenerator<unknown, unknown, void>,
    { reads }: CallStep,
    length: number,
  ): Promise<void> {
    let read = 0;
    for (; read < reads; read++) {
      const { value, done } = await stream.next();
      if (done) {
        this.#expect(id, length, read);
        return this.#expect(id, id, value);
      }
      this.#expect(id, [id, read], value);
    }
    await stream.return(undefined);
  }

  #expect(id: string, expected: unknown, actual: unknown): void {
    if (JSON.stringify(actual) === JSON.stringify(expected)) return;
    const found = Deno.inspect(actual).slice(0, 200);
    this.#violation(`${id} gave ${found}, not ${Deno.inspect(expected)}`);
  }

  #violation(text: string): void {
    this.#journal.add("violation", "", text);
  }

  #check(what: string, error: unknown): void {
    // The error of a call beyond the limit of the plan.
    const isRefused = error instanceof RangeError &&
      error.message.includes("maxCalls");
    if (isExpected(error) || isRefused) return;
    this.#violation(`${what}: ${Deno.inspect(error)}`);
  }
}
