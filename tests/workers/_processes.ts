// Copyright 2026 the Duplex authors. MIT license.

/**
 * Helpers of tests with processes: permissions, a time limit, and checks of
 * which processes were started and which are running.
 *
 * @module
 */

/** The URL of a worker script in this folder. */
export function workerUrl(name: string): URL {
  return new URL(`./${name}.ts`, import.meta.url);
}

/**
 * Counts the processes that are started until it is disposed of, and those that
 * are still running. Requires no permission.
 */
export class Processes implements Disposable {
  readonly #command = Deno.Command;
  started = 0;
  running = 0;

  constructor() {
    const onSpawn = (child: Deno.ChildProcess) => {
      this.started++;
      this.running++;
      child.status.then(() => this.running--);
    };
    Deno.Command = class extends this.#command {
      override spawn(): Deno.ChildProcess {
        const child = super.spawn();
        onSpawn(child);
        return child;
      }
    };
  }

  [Symbol.dispose](): void {
    Deno.Command = this.#command;
  }
}

/**
 * Milliseconds after which a hanging test fails: about five times the longest
 * test on a busy machine.
 */
const LIMIT = 120_000;

/** Waits for a promise; fails with a named error if it hangs. */
export async function within<T>(
  promise: Promise<T>,
  limit: number = LIMIT,
): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => late.reject(new Error(`Nothing came of it within ${limit} ms`)),
    limit,
  );
  try {
    return await Promise.race([promise, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Waits for all promises even if one rejects, since operations that continue
 * after a failed test would fail the following tests.
 */
export async function allDone<T>(
  promises: readonly Promise<T>[],
): Promise<T[]> {
  await Promise.allSettled(promises);
  return await Promise.all(promises);
}

/** The permissions that the documentation of `openPipe` lists. */
export const RUN = { run: [Deno.execPath()] };

/** Whether this is a patch of Deno 2.9 before this one. */
export function isBefore(patch: number): boolean {
  const [major, minor, own] = Deno.version.deno.split(".");
  return major === "2" && minor === "9" && Number.parseInt(own!) < patch;
}

/** A test with a time limit, which is ignored in a Deno with a fault. */
export function test(
  name: string,
  fn: (t: Deno.TestContext) => Promise<void>,
  permissions: Deno.PermissionOptions = RUN,
  ignore: boolean = false,
): void {
  Deno.test({ name, permissions, ignore, fn: (t) => within(fn(t)) });
}

/** Collects the lines of a worker's standard error. */
export class Lines {
  readonly all: string[] = [];
  readonly #waiting = new Map<string, PromiseWithResolvers<void>>();

  /** Pass it as the option `stderr`. */
  readonly take = (line: string): void => {
    this.all.push(line);
    this.#waiting.get(line)?.resolve();
  };

  /** Waits for a line that is exactly equal. */
  async until(line: string): Promise<void> {
    if (this.all.includes(line)) return;
    const waiting = Promise.withResolvers<void>();
    this.#waiting.set(line, waiting);
    await waiting.promise;
  }
}

/**
 * The child processes of `parent`, including those that have ended but were not
 * waited for. Reads `/proc`, which requires all permissions.
 */
export function childrenOf(parent: number): { pid: number; state: string }[] {
  const children = [];
  for (const { name } of Deno.readDirSync("/proc")) {
    const stat = /^\d+$/.test(name) ? readStat(Number(name)) : undefined;
    if (stat?.parent === parent) {
      children.push({ pid: Number(name), state: stat.state });
    }
  }
  return children;
}

/**
 * Whether a process is running; one that has ended but was not waited for is
 * not.
 */
export function isRunning(pid: number): boolean {
  const state = readStat(pid)?.state;
  return state !== undefined && state !== "Z" && state !== "X";
}

function readStat(pid: number): { state: string; parent: number } | undefined {
  try {
    const text = Deno.readTextFileSync(`/proc/${pid}/stat`);
    const [state, parent] = text.slice(text.lastIndexOf(")") + 2).split(" ");
    return { state: state!, parent: Number(parent) };
  } catch {
    // It ended between the two reads.
    return undefined;
  }
}
