// Copyright 2026 the Duplex authors. MIT license.

/**
 * What a worker process prints goes to standard error: its standard output carries
 * the messages.
 *
 * Functions that write to standard output are replaced before the script runs, by a
 * module that `openPipe` has Deno load first, since a script may store them. They work
 * as before until `parent` redirects them, so a script may also implement the protocol
 * itself. Without that module `parent` replaces them.
 *
 * @module
 */

/** The writes of the real standard output. */
export interface Output {
  /** Writes some of the bytes; returns how many. */
  write(bytes: Uint8Array): Promise<number>;
  /** As `write`, before it returns. */
  writeSync(bytes: Uint8Array): number;
}

/** What a process prints. */
interface Prints {
  /** Redirects what is printed from now on; returns the real standard output. */
  redirect(): Output;
}

/** The key of the global symbol of {@linkcode Prints}; the number is its version. */
const KEY = "@duplex/ipc prints 1";

/** What is printed here, if this is a worker process or a thread of one. */
function getPrints(): Prints | undefined {
  return Reflect.get(globalThis, Symbol.for(KEY));
}

/** Whether the standard output of this process carries messages. */
export function hasPrints(): boolean {
  return getPrints() !== undefined;
}

/** Redirects what is printed from now on; returns the real standard output. */
export function redirectStdout(): Output {
  return (getPrints() ?? preparePrints(KEY)).redirect();
}

/** The first version of Deno that accepts a `data:` URL in `--preload`. */
const [MAJOR, MINOR] = [2, 5];

/** The flag for the module that replaces the functions, if Deno accepts it. */
export function preloadFlags(): string[] {
  const [major = 0, minor = 0] = Deno.version.deno.split(".").map(Number);
  if (major < MAJOR || major === MAJOR && minor < MINOR) return [];
  const parts = [replace, replaceConsole, replaceDeno, replaceFs, replaceFsOf];
  const code = `${parts.join("\n")}\n(${preparePrints.toString()})("${KEY}");`;
  // A bundler may have put calls of its own functions into these; `parent` then
  // replaces the functions that print.
  const module = `try {\n${code}\n} catch {}`;
  return [`--preload=data:text/javascript,${encodeURIComponent(module)}`];
}

// The text of the functions below is the module: they refer only to each other.

interface State {
  isRedirected: boolean;
}

type AnyFunction = (...args: unknown[]) => unknown;

/** Replaces the functions that print, which work as before until `redirect`. */
function preparePrints(key: string): Prints {
  const state = { isRedirected: false };
  replaceConsole(state);
  const output = replaceDeno(state);
  replaceFs(state);
  const prints = {
    redirect() {
      state.isRedirected = true;
      return output;
    },
  };
  Object.defineProperty(globalThis, Symbol.for(key), { value: prints });
  return prints;
}

/** Replaces a method by one that calls `instead` if what is printed is redirected. */
function replace(
  state: State,
  object: object,
  name: string,
  instead: (original: AnyFunction, ...args: unknown[]) => unknown,
): void {
  const original = Reflect.get(object, name);
  if (typeof original !== "function") return;
  const bound = original.bind(object);
  const replaced = (...args: unknown[]) =>
    state.isRedirected ? instead(bound, ...args) : bound(...args);
  // Among its properties are those that `promisify` needs.
  Object.defineProperties(replaced, Object.getOwnPropertyDescriptors(original));
  Reflect.set(object, name, replaced);
}

function replaceConsole(state: State): void {
  const { error } = console;
  for (const name of ["log", "info", "debug", "dirxml"]) {
    replace(state, console, name, (_, ...args) => error(...args));
  }
  // A console that prints through `error` what `error` cannot format itself.
  const internals = Reflect.get(Deno, Reflect.get(Deno, "internal"));
  const formatter = internals?.Console &&
    new internals.Console((text: string) =>
      error("%s", text.replace(/\n$/, ""))
    );
  const names = "dir table count countReset time timeLog timeEnd";
  for (const name of names.split(" ")) {
    const print = formatter?.[name] ?? error;
    replace(state, console, name, (_, ...args) => print(...args));
  }
  // The original writes an escape sequence to standard output.
  replace(state, console, "clear", () => {});
}

function replaceDeno(state: State): Output {
  const { stdout, stderr } = Deno;
  const output = {
    write: stdout.write.bind(stdout),
    writeSync: stdout.writeSync.bind(stdout),
  };
  for (const name of ["write", "writeSync"] as const) {
    const write = stderr[name].bind(stderr) as AnyFunction;
    replace(state, stdout, name, (_, bytes) => write(bytes));
  }
  // The end of what is printed is not the end of the messages.
  replace(state, stdout, "close", () => {});
  let writable: WritableStream<Uint8Array> | undefined;
  Object.defineProperty(stdout, "writable", {
    get: () =>
      writable ??= new WritableStream({
        async write(bytes) {
          while (bytes.length > 0) {
            bytes = bytes.subarray(await stdout.write(bytes));
          }
        },
      }),
    configurable: true,
  });
  return output;
}

/**
 * Replaces the functions of `node:fs` as soon as it is loaded. To load it here would
 * double the time in which a worker starts. Deno 2.9 reads the global `process` when
 * it loads the first module of Node.
 */
function replaceFs(state: State): void {
  const descriptor = Object.getOwnPropertyDescriptor(globalThis, "process");
  if (descriptor === undefined) return;
  const { get, value } = descriptor;
  let isDone = false;
  const load = (process: { getBuiltinModule?(name: string): object }) => {
    const fs = isDone ? undefined : process.getBuiltinModule?.("fs");
    if (fs === undefined) return;
    isDone = true;
    replaceFsOf(state, fs);
  };
  // Deno gives `console` this property, and itself this function, when it starts the
  // part that the modules of Node need.
  const hasNode = () => "_stdout" in console;
  const internals = Reflect.get(Deno, Reflect.get(Deno, "internal"));
  if (get === undefined) return load(value);
  if (hasNode() || "readableStreamForRid" in internals) {
    return load(get.call(globalThis));
  }
  Object.defineProperty(globalThis, "process", {
    ...descriptor,
    get() {
      // It cannot be loaded here if Deno reads `process`.
      if (!isDone) queueMicrotask(() => load(get.call(globalThis)));
      const process = get.call(globalThis);
      if (hasNode()) load(process);
      return process;
    },
  });
}

/** Replaces the functions that write to a descriptor, or close it. */
function replaceFsOf(state: State, fs: object): void {
  for (const name of ["write", "writev", "writeFile", "appendFile"]) {
    for (const full of [name, `${name}Sync`]) {
      replace(
        state,
        fs,
        full,
        (original, target, ...rest) =>
          original(target === 1 ? 2 : target, ...rest),
      );
    }
  }
  // A stream of the descriptor closes it at its end.
  replace(
    state,
    fs,
    "closeSync",
    (original, target) => target === 1 ? undefined : original(target),
  );
  replace(state, fs, "close", (original, target, callback) => {
    if (target !== 1) original(target, callback);
    else if (typeof callback === "function") {
      queueMicrotask(() => callback(null));
    }
  });
  // Until Deno 2.9.3 a stream uses the named exports, unless it is given functions.
  const stream = Object.getOwnPropertyDescriptor(fs, "createWriteStream");
  if (stream?.get === undefined) return;
  const { get } = stream;
  Object.defineProperty(fs, "createWriteStream", {
    ...stream,
    get() {
      const create: AnyFunction = get.call(fs);
      return (path: unknown, options?: { fd?: unknown }) =>
        create(path, options?.fd === 1 ? { fs, ...options } : options);
    },
  });
}
