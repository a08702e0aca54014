// Copyright 2026 the Duplex authors. MIT license.

/**
 * The targets of the fuzzing campaign. For each input, its time and memory are
 * measured and compared with a budget, and its result is checked.
 *
 * @module
 */

import process from "node:process";
import { getHeapStatistics } from "node:v8";
import { ProtocolError } from "../../_base/errors.ts";
import type { Bytes, Draw } from "./draw.ts";

/** The limits of time and memory for one input. */
export interface Budget {
  /**
   * Milliseconds of clock time or of processor time, whichever is less. Other
   * processes and other threads of this process do not count.
   */
  readonly ms: number;
  /**
   * Bytes of memory that are allocated, including those that are free again.
   */
  readonly bytes: number;
}

/**
 * Milliseconds that any input may take: four times the waste of colliding keys
 * before a message is rejected (`MAX_WASTE` in `_codec/collisions.ts`, 25 ms).
 * Code whose time grows faster than the input exceeds it for some inputs of
 * each target.
 */
export const BASE_TIME = 100;

/**
 * Milliseconds that a message may take by the cost of its values. A unit of
 * cost is a nanosecond on an idle machine. Six times as much was measured for
 * an array of errors while other processes used all cores and shared the
 * caches.
 */
export function timeFor(cost: number): number {
  return 12 * cost / 1e6;
}

/** A function under test. */
export interface Target {
  /** Inputs that one process runs. */
  readonly batch: number;
  /** Inputs per line of output of that process. */
  readonly group: number;
  /** Whether `run` returns a promise. */
  readonly isAsync?: boolean;
  /** Permissions of the test that runs kept inputs; none by default. */
  readonly permissions?: Deno.PermissionOptions;
  /** Makes an input. */
  make(draw: Draw): Bytes;
  /**
   * Passes an input to the code under test.
   *
   * @returns The result, for `check`.
   * @throws {Violation} If it is wrong.
   */
  run(input: Bytes): unknown;
  /**
   * Checks the result of an input. The check is not measured.
   *
   * @throws {Violation} If it is wrong.
   */
  check?(input: Bytes, result: unknown): void;
  /** The budget of an input by its size. */
  budget(size: number): Budget;
  /** The budget of an input that exceeds the first one. */
  exactBudget?(input: Bytes): Budget;
  /** Inputs with a part omitted. */
  smaller(input: Bytes): Iterable<Bytes>;
  /** Releases the resources that the target keeps between inputs. */
  end?(): Promise<void>;
}

/** A fault of the code under test. */
export class Violation extends Error {
  override name = "Violation";
}

/** How often an input over its budget runs again. The least value counts. */
const RETRIES = 3;

/** Milliseconds within which the promise of `run` must settle. */
const LIMIT = 10_000;

const gc = (globalThis as { gc?: () => void }).gc;

/** Heap counters, if V8 provides them. */
interface Heap {
  readonly "total_allocated_bytes"?: number;
  readonly "external_memory": number;
  readonly "used_heap_size": number;
}

/**
 * Bytes allocated for objects since the start, including freed ones, and bytes
 * outside of the heap now. A call takes 2 µs.
 */
function lookAtMemory(): { heap: number; external: number } {
  const { total_allocated_bytes, used_heap_size, external_memory } =
    getHeapStatistics() as Heap;
  return {
    heap: total_allocated_bytes ?? used_heap_size,
    external: external_memory,
  };
}

/** Milliseconds of processor time of this process. A call takes 1 µs. */
function processorTime(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
}

/** The time and memory of a run. */
interface Usage extends Budget {
  readonly result: unknown;
}

/** Runs an input once. */
async function measure(target: Target, input: Bytes): Promise<Usage> {
  const before = lookAtMemory();
  const startTime = processorTime();
  const start = performance.now();
  const running = target.run(input);
  const result = running instanceof Promise
    ? await within(running, LIMIT)
    : running;
  const elapsed = performance.now() - start;
  const ms = Math.min(elapsed, processorTime() - startTime);
  const after = lookAtMemory();
  const bytes = after.heap - before.heap +
    Math.max(0, after.external - before.external);
  return { ms, bytes, result };
}

/**
 * Runs an input and checks it.
 *
 * @param isMeasured Whether time and memory count.
 * @returns Milliseconds that it took, or 0 if they do not count.
 * @throws {Violation} If the result is wrong or exceeds the budget.
 */
export async function attempt(
  target: Target,
  input: Bytes,
  isMeasured: boolean,
): Promise<number> {
  if (!isMeasured) {
    const result = await target.run(input);
    target.check?.(input, result);
    return 0;
  }
  const usage = await measure(target, input);
  const { ms, bytes, result } = usage;
  const budget = target.budget(input.length);
  if (ms > budget.ms || bytes > budget.bytes) {
    await confirm(target, input, usage);
  }
  target.check?.(input, result);
  return ms;
}

/**
 * Runs an input again that exceeded its budget, since a pause may have been the
 * cause.
 */
async function confirm(
  target: Target,
  input: Bytes,
  first: Usage,
): Promise<void> {
  const budget = target.exactBudget?.(input) ?? target.budget(input.length);
  let { ms, bytes } = first;
  for (let left = RETRIES; left > 0; left--) {
    if (ms <= budget.ms && bytes <= budget.bytes) return;
    // V8 keeps parsed regular expressions until the second garbage collection.
    gc?.();
    gc?.();
    const usage = await measure(target, input);
    ms = Math.min(ms, usage.ms);
    bytes = Math.min(bytes, usage.bytes);
  }
  if (ms > budget.ms) {
    throw new Violation(
      `Takes too long: ${ms.toFixed(1)} ms for ${input.length} bytes, at most ${
        budget.ms.toFixed(1)
      } ms are allowed`,
    );
  }
  if (bytes > budget.bytes) {
    throw new Violation(
      `Takes too much memory: ${bytes} bytes for ${input.length} bytes, at most ${
        Math.ceil(budget.bytes)
      } are allowed`,
    );
  }
}

/**
 * Waits for a promise that must settle.
 *
 * @throws {Violation} If it does not settle in time.
 */
export async function within<T>(
  promise: Promise<T>,
  limit = LIMIT,
  what = "The promise",
): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    const text = `${what} did not settle within ${limit} ms`;
    timer = setTimeout(() => reject(new Violation(text)), limit);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Receives everything; returns the error at the end. */
export async function receiveAll(
  session: { receive(): Promise<unknown> },
  found: unknown[],
): Promise<unknown> {
  try {
    for (;;) found.push(await session.receive());
  } catch (error) {
    return error;
  }
}

/** One turn of the event loop. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Maximum number of characters in an error's message. */
const MAX_MESSAGE = 2_000;

/** Errors of V8 for values beyond its limits. */
const ENGINE_LIMITS =
  /^(Invalid (string|array|typed array) length|(Map|Set) maximum size exceeded|Maximum BigInt size exceeded|Array buffer allocation failed)/;

/**
 * Errors of the package's own code while it reads a payload; each becomes the
 * cause of a `ProtocolError`.
 */
const PAYLOAD_FAULTS =
  /^(The sign is not 0 or 1|The number of bytes is odd|A timestamp must have|There are too many nanoseconds|The time is out of range)/;

/** Refusals of a text, whose cause is an error of the runtime that parses it. */
const TEXT_REFUSAL = /a (URL|Temporal\.\w+) is malformed/;

/** Whether an error may be the cause of a refusal with this message. */
function isCause(error: unknown, refusal: string): boolean {
  if (TEXT_REFUSAL.test(refusal)) {
    return error instanceof RangeError || error instanceof TypeError;
  }
  if (error instanceof ProtocolError) return true;
  if (error instanceof SyntaxError) return true;
  if (error instanceof RangeError) {
    return ENGINE_LIMITS.test(error.message) ||
      PAYLOAD_FAULTS.test(error.message);
  }
  // The error of a text decoder.
  return error instanceof TypeError &&
    error.message === "The encoded data is not valid";
}

/**
 * Checks that a thrown value is the documented error for invalid input of a
 * peer, and not a bug in the code that read it.
 */
export function checkRefusal(error: unknown): asserts error is ProtocolError {
  if (!(error instanceof ProtocolError)) {
    throw new Violation(`Threw an unexpected error: ${show(error)}`);
  }
  checkMessage(error);
  let refusal = error.message;
  for (let cause = error.cause; cause !== undefined;) {
    if (!isCause(cause, refusal)) {
      throw new Violation(
        `A refusal has another error as its cause: ${show(cause)}`,
      );
    }
    refusal = (cause as Error).message;
    cause = (cause as Error).cause;
  }
  if (error.message.startsWith("Cannot handle what the peer sent")) {
    throw new Violation(`A refusal hides a bug: ${show(error)}`);
  }
}

/** Checks that an error's text can be printed safely. */
export function checkMessage(error: Error): void {
  const { message } = error;
  if (message.length > MAX_MESSAGE) {
    throw new Violation(
      `An error's text has ${message.length} characters: ${
        message.slice(0, 200)
      }`,
    );
  }
  if (/[\p{C}\p{Zl}\p{Zp}]/u.test(message)) {
    throw new Violation(
      `An error's text moves the cursor: ${JSON.stringify(message)}`,
    );
  }
}

/** A value as text for a violation. */
export function show(value: unknown): string {
  return Deno.inspect(value, { depth: 4, strAbbreviateSize: 300 })
    .slice(0, 3_000);
}
