// Copyright 2026 the Duplex authors. MIT license.

/**
 * The worker's own end in a child process, over its standard input and output.
 * What it prints is redirected, and the process ends soon after its parent.
 *
 * @module
 */

import type { ByteStream } from "../_wire/byte_stream.ts";
import type { PeerHello } from "../_wire/wire.ts";
import { PeerExitError } from "../_base/errors.ts";
import { quoted } from "../_base/text.ts";
import { writeAll, writeAllSync } from "../_base/writing.ts";
import { mayBeHello } from "../_wire/frame_layout.ts";
import { FrameWire } from "../_wire/frame_wire.ts";
import type { SessionOptions } from "../_session/options.ts";
import { endQuietly, Session } from "../_session/session.ts";
import { endAtLimit } from "./memory.ts";
import type { Duplex } from "../duplex.ts";

/** Milliseconds for a process to clean up and exit after its parent has ended. */
const ORPHAN_TIMEOUT = 1_000;

/**
 * Milliseconds for a process to clean up and exit after both goodbyes, once its script
 * has been run to its end. A timer, a server or a watcher would keep it running.
 */
const CLEANUP_TIMEOUT = 1_000;

/** Milliseconds between checks for the parent's end while standard input is not read. */
const ORPHAN_CHECK_INTERVAL = 250;

/** Characters of an input shown in an error. */
const MAX_INPUT_LENGTH = 40;

/** The child's standard streams, which block, as a stream of bytes. */
class StdioStream implements ByteStream {
  readonly #output: Output;
  #hasRead = false;
  #refusal: TypeError | undefined;
  #isPaused = false;
  #isClosed = false;
  #released: PromiseWithResolvers<void> | undefined;
  #watch: ReturnType<typeof setInterval> | undefined;
  readonly #parentId = Deno.ppid;

  /** @param output The standard output, which nothing else writes to. */
  constructor(output: Output) {
    this.#output = output;
  }

  async read(
    into: Uint8Array<ArrayBuffer>,
  ): Promise<Uint8Array<ArrayBuffer> | null> {
    if (this.#isPaused) {
      this.#released = Promise.withResolvers();
      await this.#released.promise;
    }
    const size = await Deno.stdin.read(into);
    if (size !== null) {
      const bytes = into.subarray(0, size);
      if (!this.#hasRead && !mayBeHello(bytes, 0)) throw this.#refuse(bytes);
      this.#hasRead = true;
      return bytes;
    }
    // The parent closes its end after both goodbyes. Before, it has ended.
    if (!this.#isClosed) exitSoon(ORPHAN_TIMEOUT, 1);
    return null;
  }

  async write(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    await writeAll(this.#output, bytes);
  }

  writeSync(bytes: Uint8Array<ArrayBuffer>): void {
    writeAllSync(this.#output, bytes);
  }

  /**
   * A read in progress keeps the process alive. After the parent's goodbye the session
   * pauses reading, so that the process exits when the script has ended. A timer then
   * checks for the parent's end.
   */
  pauseReading(isPaused: boolean): void {
    this.#isPaused = isPaused;
    if (isPaused) {
      this.#watchParent();
    } else {
      clearInterval(this.#watch);
      this.#released?.resolve();
    }
  }

  diagnose(cause: unknown, unsent: readonly unknown[]): Promise<Error> {
    if (this.#refusal !== undefined) return Promise.resolve(this.#refusal);
    const message = this.#hasRead
      ? "The parent ended without a goodbye"
      : "Cannot open the parent: standard input ended before a message, as this program was not started as a worker or its parent has ended; open it with openPipe";
    return Promise.resolve(new PeerExitError(message, { cause, unsent }));
  }

  close(): Promise<void> {
    this.#isClosed = true;
    // The script may continue without its duplex, but not without its parent.
    this.#watchParent();
    return Promise.resolve();
  }

  destroy(): Promise<void> {
    this.#watchParent();
    if (!this.#isClosed) {
      this.#isClosed = true;
      // Ends the read in progress, which would keep the process alive.
      Deno.stdin.close();
    }
    return Promise.resolve();
  }

  /** Standard input is not that of a worker. */
  #refuse(bytes: Uint8Array): TypeError {
    const text = quoted(new TextDecoder().decode(bytes), MAX_INPUT_LENGTH);
    return this.#refusal = notWorker(`: standard input begins with ${text}`);
  }

  #watchParent(): void {
    clearInterval(this.#watch);
    const watch = setInterval(() => {
      if (Deno.ppid !== this.#parentId) exitSoon(ORPHAN_TIMEOUT, 1);
    }, ORPHAN_CHECK_INTERVAL);
    Deno.unrefTimer(watch);
    this.#watch = watch;
  }
}

/** The session of a child process, which watches its memory if the parent limits it. */
class StdioSession extends Session<unknown, unknown> {
  override onHello(peer: PeerHello): void {
    super.onHello(peer);
    if (peer.memory !== undefined) endAtLimit(peer.memory);
  }
}

function notWorker(reason = ""): TypeError {
  return new TypeError(
    `Cannot open the parent: this program was not started as a worker; open it with openPipe${reason}`,
  );
}

/** Ends the process after a time, unless it ends before. */
function exitSoon(timeout: number, code?: number): void {
  Deno.unrefTimer(setTimeout(() => Deno.exit(code), timeout));
}

/**
 * Opens the standard streams to the parent.
 *
 * @param limits The limits of this end.
 * @param evaluated Settles when the script has been run to its end.
 */
export async function openStdio(
  limits: SessionOptions,
  evaluated: Promise<unknown>,
): Promise<Duplex<unknown, unknown>> {
  if (Deno.stdin.isTerminal()) {
    throw notWorker();
  }
  const output = await redirectStdout();
  // Waits for prints that were begun before: they must not follow the hello.
  await output.write(new Uint8Array());
  const session = new StdioSession(
    new FrameWire(new StdioStream(output)),
    limits,
  );
  endQuietly(session, () => Deno.exit(1));
  await session.open();
  closeAtEnd(session);
  exitAtEnd(session, evaluated);
  return session;
}

/** Ends the process after both goodbyes, although something keeps it running. */
async function exitAtEnd(
  session: Session<unknown, unknown>,
  evaluated: Promise<unknown>,
): Promise<void> {
  try {
    await session.closed;
  } catch {
    // The parent ends this process.
    return;
  }
  await evaluated;
  // The exit code is that of the script.
  exitSoon(CLEANUP_TIMEOUT);
}

/** Closes the duplex when the script has ended without doing so. */
function closeAtEnd(session: Session<unknown, unknown>): void {
  let isOpen = true;
  const onEnd = () => isOpen = false;
  session.closed.then(onEnd, onEnd);
  addEventListener("beforeunload", (event) => {
    if (!isOpen) return;
    // The event loop runs until the goodbye is sent.
    event.preventDefault();
    session.close().catch(onEnd);
  });
}

// What is printed

const STDOUT = 1;
const STDERR = 2;

/** The writes of the real standard output. */
type Output = Pick<typeof Deno.stdout, "write" | "writeSync">;

/** Redirects what is printed from now on; returns the real standard output. */
async function redirectStdout(): Promise<Output> {
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
 * a worker. Deno 2.9 gives `console` this property when it starts the part of itself
 * that `node:fs`, `node:process` and the packages of npm need.
 */
function mayHaveFs(): boolean {
  return "_stdout" in console;
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
