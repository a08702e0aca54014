// Copyright 2026 the Duplex authors. MIT license.

/**
 * Duplexes to child processes, over their standard input and output. The child is a
 * worker script that Deno runs with exactly the permissions that it is given, or
 * another program that speaks the protocol.
 *
 * ```ts
 * import { openPipe } from "@duplex/ipc/pipe";
 * import { assertEquals } from "@std/assert";
 *
 * const script = new URL("./examples/hello/worker.ts", import.meta.url);
 * await using worker = await openPipe<string>(script);
 * await worker.send("Hello from main!");
 * assertEquals(await worker.receive(), "Hello from worker!");
 * ```
 *
 * @module
 */

import { FrameWire } from "./_wire/frame_wire.ts";
import { type SessionOptions, sessionOptions } from "./_session/options.ts";
import { markLasting } from "./_base/lasting.ts";
import { DEFAULT_OPEN_TIMEOUT } from "./_base/options.ts";
import { checkRuntime, MIN_DENO_FOR_PROCESSES } from "./_base/runtime.ts";
import { ChildStream } from "./_pipe/child.ts";
import { ASKS_FOR_CALL, openSession } from "./_session/opening.ts";
import {
  ACTION,
  checkChild,
  checkTarget,
  type ChildOptions,
  denoArgs,
  type PipeCommandOptions,
  type PipeOptions,
  processUrl,
  readArgs,
  readEnv,
  startError,
} from "./_pipe/options.ts";
import { waitsForDebugger } from "./_pipe/deno_flags.ts";
import { StderrReader } from "./_pipe/stderr.ts";
import { Session } from "./_session/session.ts";
import { scriptName } from "./_permissions/path.ts";
import { quoted } from "./_base/text.ts";
import type { Duplex } from "./duplex.ts";

export type { PipeCommandOptions, PipeOptions };
export {
  ClosedError,
  DeadlockError,
  PeerExitError,
  ProtocolError,
} from "./_base/errors.ts";
export type { Duplex, DuplexOptions } from "./duplex.ts";

/**
 * A {@linkcode Duplex} to a child process.
 *
 * @typeParam In The type of the messages received.
 * @typeParam Out The type of the messages sent.
 */
export interface PipeDuplex<In = unknown, Out = In> extends Duplex<In, Out> {
  /** The child's process id. */
  readonly pid: number;
  /**
   * Lets this program end although the duplex is open and receives or calls wait. Deno
   * does not end a program that waits at its top level. The child is killed when the
   * program ends, so messages may be lost.
   */
  unref(): void;
  /** Undoes {@linkcode PipeDuplex.unref}. The duplex is referenced when it is opened. */
  ref(): void;
}

class PipeSession<In, Out> extends Session<In, Out>
  implements PipeDuplex<In, Out> {
  readonly #child: Deno.ChildProcess;

  constructor(
    wire: FrameWire,
    options: SessionOptions,
    child: Deno.ChildProcess,
  ) {
    super(wire, options);
    this.#child = child;
  }

  get pid(): number {
    return this.#child.pid;
  }

  unref(): void {
    this.#child.unref();
  }

  ref(): void {
    this.#child.ref();
  }
}

/**
 * Starts a worker script in a separate Deno process and opens a duplex to it. The
 * script opens its end with {@linkcode parent}.
 *
 * `close` sends goodbye and waits for the worker's goodbye and its exit. After the
 * timeout, and after `abort`, the worker's standard input is closed; a second later
 * it gets SIGTERM, and another second later SIGKILL. A worker that has sent goodbye
 * and does not exit within the timeout of `close` gets SIGTERM at once; `close`
 * resolves if it has received all messages. The {@linkcode PeerExitError} of a worker
 * that was ended by this side gives the reason, and the `signal` if one was sent.
 *
 * A worker is killed when this process exits. If this process is killed, or ends with
 * an uncaught error, a worker that has called {@linkcode parent} ends within about a
 * second. If it computes without a pause, it ends once it returns to its event loop;
 * one that never does must be killed by hand.
 *
 * Ctrl+C in a terminal reaches this process only, and so does Ctrl+Z: a worker runs
 * on while this process is stopped (see `detached`). What a worker prints goes to its
 * standard error; {@linkcode parent} lists exceptions.
 *
 * The worker's Deno looks for a configuration file next to the script. The flags of
 * this process are not passed on; `denoFlags` gives the worker's Deno its own. With
 * `denoFlags: ["--inspect-brk"]` a debugger can attach before the script runs.
 *
 * Requires Deno 2.4.0 or later, `--allow-run` for the executable of Deno, every
 * permission that is passed on, and for a script from another host `--allow-import` of
 * that host, unless Deno allows it by default. A worker may import from its script's
 * host and from those; other hosts, also that of this package if it is imported from
 * one, must be granted: `permissions: { import: ["example.com"] }`.
 *
 * @typeParam In The type of the messages received.
 * @typeParam Out The type of the messages sent.
 *
 * @param script The worker script: a path or a URL, including `data:` URLs.
 * @param options Permissions, arguments and environment of the worker, and limits.
 * @returns The duplex, once both sides have sent their hello.
 * @throws {Deno.errors.NotCapable} If the caller does not hold a permission that it
 *   grants, or may not run Deno. No process has been started then.
 * @throws {Deno.errors.NotFound} If `cwd` is not a folder.
 * @throws {PeerExitError} If the worker ended before its hello; the message quotes
 *   the last error that the worker wrote to its standard error.
 * @throws {ProtocolError} If the worker speaks another version, shares no codec with
 *   this side, or sends something other than a hello.
 * @throws {DOMException} If the worker's hello did not arrive within `openTimeout`
 *   ("TimeoutError").
 * @throws The reason of `signal`, if it aborts before the worker's hello.
 * @throws {RangeError} If an option is out of range.
 * @throws {TypeError} If an option is of the wrong kind, or `env` or `cwd` changes
 *   where a granted command is looked for; grant its path instead.
 *
 * @example A worker that may read one file
 * ```ts
 * import { openPipe } from "@duplex/ipc/pipe";
 * import { assertEquals } from "@std/assert";
 *
 * const script = new URL("./examples/demo_worker.ts", import.meta.url);
 * await using worker = await openPipe<{ size: number }, string>(script, {
 *   permissions: { read: ["./LICENSE"] },
 * });
 * await worker.send("LICENSE");
 * assertEquals((await worker.receive()).size, Deno.statSync("LICENSE").size);
 * ```
 */
export function openPipe<In = unknown, Out = In>(
  script: string | URL,
  options?: PipeOptions,
): Promise<PipeDuplex<In, Out>>;
/**
 * Starts a program and opens a duplex to it. The program must speak the protocol of
 * PROTOCOL.md on its standard input and output. `examples/hello/duplex.py` implements
 * it in Python. What the program prints before its hello is passed on as standard
 * error is. Text after it ends the duplex with an error that quotes it.
 *
 * A program that must not outlive this process, even if this process is killed, has
 * to exit at the end of its standard input, as `duplex.py` does. A program that does
 * not read its input keeps running. On Linux, `setpriv --pdeathsig KILL program`
 * starts a program that is killed with this process, and takes a millisecond. A
 * program that asks for a password on the terminal, such as `ssh`, needs
 * `detached: false`.
 *
 * Requires Deno 2.4.0 or later, and `--allow-run` for the program. Deno's permissions
 * do not restrict it.
 *
 * @typeParam In The type of the messages received.
 * @typeParam Out The type of the messages sent.
 *
 * @param options The program, its arguments and environment, and limits.
 * @returns The duplex, once both sides have sent their hello.
 * @throws {Deno.errors.NotCapable} If the caller may not run the program.
 * @throws {Deno.errors.NotFound} If the program does not exist, or `cwd` is not a
 *   folder.
 * @throws {Deno.errors.PermissionDenied} If the program cannot be executed.
 * @throws {PeerExitError} If the program ended before its hello.
 * @throws {ProtocolError} If the program speaks another version, shares no codec
 *   with this side, or sends something other than a hello.
 * @throws {DOMException} If the program's hello did not arrive within `openTimeout`
 *   ("TimeoutError").
 * @throws The reason of `signal`, if it aborts before the program's hello.
 * @throws {RangeError} If an option is out of range.
 * @throws {TypeError} If an option is of the wrong kind.
 *
 * @example A worker in Python
 * ```ts ignore
 * import { openPipe } from "@duplex/ipc/pipe";
 * import { assertEquals } from "@std/assert";
 *
 * await using worker = await openPipe<string>({
 *   command: "python3",
 *   args: ["examples/hello/worker.py"],
 * });
 * await worker.send("Hello from main!");
 * assertEquals(await worker.receive(), "Hello from worker!");
 * ```
 */
export function openPipe<In = unknown, Out = In>(
  options: PipeCommandOptions,
): Promise<PipeDuplex<In, Out>>;
export async function openPipe<In, Out>(
  target: string | URL | PipeCommandOptions,
  options?: PipeOptions,
): Promise<PipeDuplex<In, Out>> {
  const isScript = typeof target === "string" || target instanceof URL;
  checkRuntime(ACTION, MIN_DENO_FOR_PROCESSES);
  checkTarget(target, options);
  const chosen = isScript ? options ?? {} : target;
  const {
    stderr = "inherit",
    openTimeout: timeout = waitsForDebugger(options?.denoFlags)
      ? Infinity
      : DEFAULT_OPEN_TIMEOUT,
    signal,
  } = chosen;
  const limits = sessionOptions(ACTION, "opener", chosen);
  checkChild(chosen);
  signal?.throwIfAborted();
  const [label, command, args] = isScript
    ? readScript(target, options ?? {})
    : [target.command, target.command, readArgs(target.args)];
  const child = spawn(label, command, args, chosen);
  const { memory } = options ?? {};
  const onPrintError = (error: unknown) => {
    // As a fault, since `close` does not report an abort.
    session.onFault(error as Error);
    // After both goodbyes `onFault` has no effect.
    session.fail(error);
  };
  const stderrReader = new StderrReader(child.stderr, stderr, onPrintError);
  const stream = new ChildStream(label, child, stderrReader, memory);
  if (isScript) stream.question = ASKS_FOR_CALL;
  const wire = new FrameWire(stream, {
    onText: (text) => stderrReader.print(text),
  });
  const session = new PipeSession<In, Out>(
    wire,
    memory === undefined ? limits : { ...limits, memory: Math.ceil(memory) },
    child,
  );
  await openSession(session, { timeout, signal }, () => ({
    attempt: `Cannot open a pipe to ${quoted(label)}`,
    known: stream.question + stderrReader.hint,
  }));
  stream.question = "";
  return session;
}

/** The name, the program and the arguments for a worker script. */
function readScript(
  script: string | URL,
  options: PipeOptions,
): [label: string, command: string, args: string[]] {
  const url = processUrl(script);
  return [scriptName(url), Deno.execPath(), denoArgs(url, options)];
}

function spawn(
  label: string,
  command: string,
  args: string[],
  options: ChildOptions,
): Deno.ChildProcess {
  const { cwd, detached = true, clearEnv = false } = options;
  const env = readEnv(options.env);
  let child: Deno.ChildProcess;
  try {
    child = new Deno.Command(command, {
      args,
      env,
      clearEnv,
      ...(cwd === undefined ? {} : { cwd }),
      detached,
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
  } catch (error) {
    const isLasting = error instanceof Deno.errors.NotFound;
    const failure = startError(label, error);
    throw isLasting ? markLasting(failure) : failure;
  }
  endWithProgram(child);
  return child;
}

/** Kills a child that still runs when this process exits. */
function endWithProgram(child: Deno.ChildProcess): void {
  const onUnload = () => {
    try {
      child.kill("SIGKILL");
    } catch {
      // It has ended, and its status is not known here yet.
    }
  };
  addEventListener("unload", onUnload);
  child.status.then(() => removeEventListener("unload", onUnload));
}
