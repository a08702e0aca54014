// Copyright 2026 the Duplex authors. MIT license.

/**
 * Redirects what a worker process prints to standard error, since its standard output
 * carries the messages: `console`, `Deno.stdout`, `process.stdout`, which writes to
 * `Deno.stdout`, and `node:fs` with descriptor 1.
 *
 * @module
 */

import { writeAll } from "../_base/writing.ts";

const STDOUT = 1;
const STDERR = 2;

/** The writes of the real standard output. */
export type Output = Pick<typeof Deno.stdout, "write" | "writeSync">;

/** Redirects what is printed from now on; returns the real standard output. */
export async function redirectStdout(): Promise<Output> {
  redirectConsole();
  const output = redirectDeno();
  if (mayHaveFs()) redirectFs((await import("node:fs")).default);
  else awaitFs();
  return output;
}

/** Makes every method of `console` that writes to standard output write to standard error. */
function redirectConsole(): void {
  const { error } = console;
  const counts = new Map<string, number>();
  const timers = new Map<string, number>();
  const elapsed = (label: string) => {
    const since = timers.get(label) ?? performance.now();
    return `${label}: ${(performance.now() - since).toFixed(3)}ms`;
  };
  Object.assign(console, {
    log: error,
    info: error,
    debug: error,
    dirxml: error,
    dir: (value: unknown, options?: Deno.InspectOptions) =>
      error(typeof value === "string" ? value : Deno.inspect(value, options)),
    table: (value: unknown) => error(value),
    // The original writes an escape sequence to standard output.
    clear() {},
    count(label: string = "default") {
      const count = (counts.get(label) ?? 0) + 1;
      counts.set(label, count);
      error(`${label}: ${count}`);
    },
    countReset: (label: string = "default") => counts.delete(label),
    time: (label: string = "default") => timers.set(label, performance.now()),
    timeLog: (label: string = "default", ...rest: unknown[]) =>
      error(elapsed(label), ...rest),
    timeEnd(label: string = "default") {
      error(elapsed(label));
      timers.delete(label);
    },
  });
}

/** Redirects the object `Deno.stdout`, which a script may have stored before. */
function redirectDeno(): Output {
  const { stdout, stderr } = Deno;
  const output = {
    write: stdout.write.bind(stdout),
    writeSync: stdout.writeSync.bind(stdout),
  };
  let writable: WritableStream<Uint8Array> | undefined;
  const method = (value: unknown) => ({
    value,
    writable: true,
    configurable: true,
  });
  Object.defineProperties(stdout, {
    write: method((bytes: Uint8Array) => stderr.write(bytes)),
    writeSync: method((bytes: Uint8Array) => stderr.writeSync(bytes)),
    // The end of what is printed is not the end of the messages.
    close: method(() => {}),
    writable: {
      // Not that of standard error: it would be closed with this one.
      get: () =>
        writable ??= new WritableStream({
          write: (bytes) => writeAll(stderr, bytes),
        }),
      configurable: true,
    },
  });
  return output;
}

/**
 * Whether `node:fs` may be loaded: to load it here would take a third of the start of
 * a worker. Deno 2.9 gives `console` a `Console` when it loads the modules of Node for
 * a package of npm, and itself an internal function when it loads `node:fs` alone.
 */
function mayHaveFs(): boolean {
  if ("Console" in console) return true;
  const internals: unknown = Reflect.get(Deno, Reflect.get(Deno, "internal"));
  return typeof internals !== "object" || internals === null ||
    "readableStreamForRid" in internals;
}

/** The global `process`, as far as it is used here. */
interface NodeProcess {
  /** Missing while the first module of Node is being loaded. */
  getBuiltinModule?(name: "fs"): object;
}

/**
 * Redirects `node:fs` if a script loads it later: Deno reads the global `process` when
 * it loads the first module of Node, and most packages of npm do.
 */
function awaitFs(): void {
  const descriptor = Object.getOwnPropertyDescriptor(globalThis, "process");
  const get: (() => NodeProcess) | undefined = descriptor?.get;
  if (get === undefined) return;
  let isDone = false;
  const redirect = () => {
    if (isDone || !mayHaveFs()) return;
    const fs = get.call(globalThis).getBuiltinModule?.("fs");
    if (fs === undefined) return;
    isDone = true;
    redirectFs(fs);
  };
  Object.defineProperty(globalThis, "process", {
    ...descriptor,
    get() {
      redirect();
      if (!isDone) queueMicrotask(redirect);
      return get.call(globalThis);
    },
  });
}

/** The functions of `node:fs` that write to a descriptor. */
const WRITES = ["write", "writev", "writeFile", "appendFile"];

/** Redirects the functions of `node:fs`, except those that were imported by name. */
function redirectFs(fs: object): void {
  for (const name of WRITES.flatMap((name) => [name, `${name}Sync`])) {
    wrap(
      fs,
      name,
      (original, target, ...rest) =>
        original(target === STDOUT ? STDERR : target, ...rest),
    );
  }
  // A stream of the descriptor closes it at its end.
  wrap(
    fs,
    "closeSync",
    (original, target) => target === STDOUT ? undefined : original(target),
  );
  wrap(fs, "close", (original, target, callback) => {
    if (target !== STDOUT) return original(target, callback);
    if (typeof callback === "function") queueMicrotask(() => callback(null));
  });
}

type AnyFunction = (...args: unknown[]) => unknown;

/** Replaces a method by a function that is given the original. */
function wrap(
  object: object,
  name: string,
  replace: (original: AnyFunction, ...args: unknown[]) => unknown,
): void {
  const original: unknown = Reflect.get(object, name);
  if (typeof original !== "function") return;
  const wrapped = (...args: unknown[]) =>
    replace(original as AnyFunction, ...args);
  // Among its properties are those that `promisify` needs.
  Object.defineProperties(wrapped, Object.getOwnPropertyDescriptors(original));
  Reflect.set(object, name, wrapped);
}
