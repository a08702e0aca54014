// Copyright 2026 the Duplex authors. MIT license.

/**
 * What tests of processes share: what they may do, a bound on their time, and
 * looks at which processes live and which were started.
 *
 * @module
 */

/** The URL of a worker script in this folder. */
export function workerUrl(name: string): URL {
  return new URL(`./${name}.ts`, import.meta.url);
}

/**
 * Counts the processes that are started until it is disposed of, and those of
 * them that have not ended yet. Asks for no permission.
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
 * Milliseconds after which a test has failed that would wait for ever: some five
 * times what the longest one takes on a busy machine.
 */
const LIMIT = 120_000;

/** Lets a promise settle in good time, so that what hangs is told by name. */
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
 * Waits for all promises, also if one rejects: what goes on after a test has
 * failed would fail the tests after it.
 */
export async function allDone<T>(
  promises: readonly Promise<T>[],
): Promise<T[]> {
  await Promise.allSettled(promises);
  return await Promise.all(promises);
}

/** What the documentation says that `openPipe` requires, and no more. */
export const RUN = { run: [Deno.execPath()] };

/** A test that fails by name when it would wait for ever. */
export function test(
  name: string,
  fn: (t: Deno.TestContext) => Promise<void>,
  permissions: Deno.PermissionOptions = RUN,
): void {
  Deno.test({ name, permissions, fn: (t) => within(fn(t)) });
}

/** Collects the lines of a worker's standard error. */
export class Lines {
  readonly all: string[] = [];
  readonly #waiting = new Map<string, PromiseWithResolvers<void>>();

  /** Give it as the option `stderr`. */
  readonly take = (line: string): void => {
    this.all.push(line);
    this.#waiting.get(line)?.resolve();
  };

  /** Waits for a line that is exactly this one. */
  async until(line: string): Promise<void> {
    if (this.all.includes(line)) return;
    const waiting = Promise.withResolvers<void>();
    this.#waiting.set(line, waiting);
    await waiting.promise;
  }
}

/**
 * The processes that have `parent` as their parent, the dead among them that
 * nobody has asked for. Reads `/proc`, which takes every permission.
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

/** Whether a process runs; a dead one that nobody has asked for does not. */
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
    // It ended between two looks.
    return undefined;
  }
}
