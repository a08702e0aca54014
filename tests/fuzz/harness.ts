// Copyright 2026 the Duplex authors. MIT license.

/**
 * The targets of the fuzzing campaign, and how one input is run: its time and its
 * memory are measured and compared with a budget, and its result is checked.
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
   * Milliseconds of the clock or of the processor, whichever are fewer. Other
   * processes do not count, nor does what this one does on other threads.
   */
  readonly ms: number;
  /** Bytes of memory that are set aside, also those that are free again. */
  readonly bytes: number;
}

/**
 * Milliseconds that any input may take: four times what keys that collide may waste
 * before a message is refused (`MAX_WASTE` in `_codec/collisions.ts`, 25 ms). What grows
 * faster than an input's size is far above that for some inputs of each target.
 */
export const BASE_TIME = 100;

/**
 * Milliseconds that a message may take by the cost of its values. A cost is also a
 * number of nanoseconds on an idle machine. Six times as many were measured for an
 * array of errors with other processes on all cores, which share the caches.
 */
export function timeFor(cost: number): number {
  return 12 * cost / 1e6;
}

/** Something that inputs are given to. */
export interface Target {
  /** Inputs that one process runs. */
  readonly batch: number;
  /** Inputs after which that process prints a line. */
  readonly group: number;
  /** Whether `run` returns a promise. */
  readonly isAsync?: boolean;
  /** Permissions of the test that runs kept inputs again; none by default. */
  readonly permissions?: Deno.PermissionOptions;
  /** Makes an input. */
  make(draw: Draw): Bytes;
  /**
   * Gives an input to the code under test.
   *
   * @returns The result, for `check`.
   * @throws {Violation} If something is wrong.
   */
  run(input: Bytes): unknown;
  /**
   * Checks the result of an input. It is not measured.
   *
   * @throws {Violation} If something is wrong.
   */
  check?(input: Bytes, result: unknown): void;
  /** The budget of an input by its size. */
  budget(size: number): Budget;
  /** What one that takes more may take. */
  exactBudget?(input: Bytes): Budget;
  /** Inputs that leave out a part of another. */
  smaller(input: Bytes): Iterable<Bytes>;
  /** Releases what the target keeps between inputs. */
  end?(): Promise<void>;
}

/** A fault of the code under test. */
export class Violation extends Error {
  override name = "Violation";
}

/** Times that an input over its budget is run again. The least of them counts. */
const RETRIES = 3;

/** Milliseconds within which the promise of `run` must settle. */
const LIMIT = 10_000;

const gc = (globalThis as { gc?: () => void }).gc;

/** What the heap counts, where V8 tells it. */
interface Heap {
  readonly "total_allocated_bytes"?: number;
  readonly "external_memory": number;
  readonly "used_heap_size": number;
}

/**
 * Bytes set aside for objects since the start, whether or not they are free again,
 * and bytes outside of the heap now. It takes 2 µs.
 */
function lookAtMemory(): { heap: number; external: number } {
  const { total_allocated_bytes, used_heap_size, external_memory } =
    getHeapStatistics() as Heap;
  return {
    heap: total_allocated_bytes ?? used_heap_size,
    external: external_memory,
  };
}

/** Milliseconds of processor time of this process so far. It takes 1 µs. */
function processorTime(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
}

/** What a run took. */
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
 * @throws {Violation} If something is wrong.
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

/** Runs an input again that exceeded its budget, as a pause may have been the cause. */
async function confirm(
  target: Target,
  input: Bytes,
  first: Usage,
): Promise<void> {
  const budget = target.exactBudget?.(input) ?? target.budget(input.length);
  let { ms, bytes } = first;
  for (let left = RETRIES; left > 0; left--) {
    if (ms <= budget.ms && bytes <= budget.bytes) return;
    // V8 keeps parsed regular expressions until the second collection.
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
 * Waits for something that must settle.
 *
 * @throws {Violation} If it does not in time.
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

/** One turn of the event loop. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Characters of an error's message at most. */
const MAX_MESSAGE = 2_000;

/** What V8 throws where a value is beyond what it can hold. */
const ENGINE_LIMITS =
  /^(Invalid (string|array|typed array) length|(Map|Set) maximum size exceeded|Maximum BigInt size exceeded|Array buffer allocation failed)/;

/**
 * What the package's own code throws while it reads a payload; it becomes the
 * cause of a `ProtocolError`.
 */
const PAYLOAD_FAULTS =
  /^(The sign is not 0 or 1|The number of bytes is odd|A timestamp must have|There are too many nanoseconds|The time is out of range)/;

/** Whether something may be the cause of a refusal. */
function isCause(error: unknown): boolean {
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
 * Checks that something that was thrown is the documented refusal of what a peer
 * has sent, and not a mistake in the code that read it.
 */
export function checkRefusal(error: unknown): asserts error is ProtocolError {
  if (!(error instanceof ProtocolError)) {
    throw new Violation(`Threw an unexpected error: ${show(error)}`);
  }
  checkMessage(error);
  for (let cause = error.cause; cause !== undefined;) {
    if (!isCause(cause)) {
      throw new Violation(
        `A refusal has another error as its cause: ${show(cause)}`,
      );
    }
    cause = (cause as Error).cause;
  }
  if (error.message.startsWith("Cannot handle what the peer sent")) {
    throw new Violation(`A refusal hides a mistake: ${show(error)}`);
  }
}

/** Checks that an error's text can be shown to a person. */
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

/** A value as a violation shows it. */
export function show(value: unknown): string {
  return Deno.inspect(value, { depth: 4, strAbbreviateSize: 300 })
    .slice(0, 3_000);
}
