// Copyright 2026 the Duplex authors. MIT license.

/**
 * A child process as the far end of a duplex, over its standard input and
 * output. The child is a worker script that runs in Deno with exactly the
 * permissions that it is given, or any program that speaks the wire.
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
import { checkPositive, checkSignal } from "./_base/options.ts";
import { checkRuntime, PROCESSES } from "./_base/runtime.ts";
import { ChildStream } from "./_pipe/child.ts";
import { openSession } from "./_session/opening.ts";
import {
  ACTION,
  checkChild,
  checkTarget,
  type ChildOptions,
  denoArgs,
  nameOf,
  type PipeCommandOptions,
  type PipeOptions,
  readArgs,
  readEnv,
  startError,
} from "./_pipe/options.ts";
import { StderrReader } from "./_pipe/stderr.ts";
import { Session } from "./_session/session.ts";
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
}

/** As {@linkcode PipeOptions.openTimeout}: what a cold start on a busy machine takes, ten times over. */
const DEFAULT_TIMEOUT = 10_000;

class PipeSession<In, Out> extends Session<In, Out>
  implements PipeDuplex<In, Out> {
  readonly pid: number;

  constructor(wire: FrameWire, options: SessionOptions, pid: number) {
    super(wire, options);
    this.pid = pid;
  }
}

/**
 * Starts a worker script in a Deno process of its own and opens a duplex to it.
 * The script gets its end from {@linkcode parent}.
 *
 * `close` says goodbye and waits for the worker to do the same and to exit. When
 * its time is up, and after `abort`, the worker's standard input is closed; a
 * second later it gets SIGTERM, and another second later SIGKILL. A worker that
 * does not exit in the time of `close` after both goodbyes gets SIGTERM at once.
 * The {@linkcode PeerExitError} of a worker that this side ended says why, and has
 * the `signal` if one ended it.
 *
 * A worker that has called {@linkcode parent} ends within about a second of its
 * parent, even when that is killed, as soon as it comes to its event loop.
 *
 * The worker's Deno finds its own configuration, beside the script. Flags that
 * this process was started with are not passed on.
 *
 * Requires Deno 2.4.0 or later, `--allow-run` for Deno's own executable, every permission that is
 * passed on, and for a script from another host `--allow-import` of that host,
 * unless Deno allows it by default.
 *
 * @typeParam In The type of the messages received.
 * @typeParam Out The type of the messages sent.
 *
 * @param script The worker script: a path, or a URL, `data:` among them.
 * @param options What the worker may do and gets, and limits.
 * @returns The duplex, when both sides have said hello.
 * @throws {Deno.errors.NotCapable} If the caller does not hold a permission that
 *   it grants, or may not run Deno. Nothing has been started then.
 * @throws {Deno.errors.NotFound} If `cwd` is not a folder.
 * @throws {PeerExitError} If the worker ended before its hello; it says what the
 *   worker wrote to its standard error.
 * @throws {ProtocolError} If the worker speaks another version or no codec of
 *   this side's, or what it sends is no hello.
 * @throws {DOMException} If the worker did not say hello in time ("TimeoutError").
 * @throws The reason of `signal`, if it aborts before the worker's hello.
 * @throws {RangeError} If an option is out of range.
 * @throws {TypeError} If an option is of the wrong kind, or `env` or `cwd` changes
 *   where a granted command would be looked for: grant its path then.
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
 * Starts a program and opens a duplex to it. It must speak the wire that
 * PROTOCOL.md describes on its standard input and output;
 * `examples/hello/duplex.py` does so in Python.
 *
 * A program that must not outlive this process, even when this process is killed,
 * has to exit at the end of its standard input, as `duplex.py` does. One that does
 * not read it goes on. Linux ends it if the program is started by
 * `setpriv --pdeathsig KILL`, which becomes the program and takes a millisecond.
 *
 * Requires Deno 2.4.0 or later, and `--allow-run` for the program. Deno's permissions do not hold it in.
 *
 * @typeParam In The type of the messages received.
 * @typeParam Out The type of the messages sent.
 *
 * @param options The program and what it gets, and limits.
 * @returns The duplex, when both sides have said hello.
 * @throws {Deno.errors.NotCapable} If the caller may not run the program.
 * @throws {Deno.errors.NotFound} If there is no such program, or `cwd` is not a
 *   folder.
 * @throws {Deno.errors.PermissionDenied} If the program cannot be executed.
 * @throws {PeerExitError} If the program ended before its hello.
 * @throws {ProtocolError} If what it sends is no hello that fits this side's.
 * @throws {DOMException} If it did not say hello in time ("TimeoutError").
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
  checkRuntime(ACTION, PROCESSES);
  checkTarget(target, options);
  const chosen = isScript ? options ?? {} : target;
  const { stderr = "inherit", openTimeout: timeout = DEFAULT_TIMEOUT, signal } =
    chosen;
  const limits: SessionOptions = {
    ...sessionOptions(ACTION, chosen),
    role: "opener",
    name: "main",
  };
  checkPositive(ACTION, "openTimeout", timeout);
  checkChild(chosen);
  checkSignal(ACTION, signal);
  signal?.throwIfAborted();
  const [label, command, args] = isScript
    ? [nameOf(target), Deno.execPath(), denoArgs(target, options ?? {})]
    : [target.command, target.command, readArgs(target.args)];
  const child = spawn(label, command, args, chosen);
  const onPrintError = (error: unknown) => {
    // Not an abort of the caller's, which close would not report.
    session.onFault(error as Error);
    // After both goodbyes the worker needs no reason.
    session.fail(error);
  };
  const stderrReader = new StderrReader(child.stderr, stderr, onPrintError);
  const wire = new FrameWire(new ChildStream(label, child, stderrReader), {
    onText: (text) => stderrReader.print(text),
  });
  const session = new PipeSession<In, Out>(wire, limits, child.pid);
  return await openSession(session, { timeout, signal }, () => ({
    attempt: `Cannot open a pipe to ${quoted(label)}`,
    known: stderrReader.lastWords,
  }));
}

function spawn(
  label: string,
  command: string,
  args: string[],
  options: ChildOptions,
): Deno.ChildProcess {
  const { cwd, detached = false, clearEnv = false } = options;
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
    throw startError(label, error);
  }
  if (detached) endWithProgram(child);
  return child;
}

/** Kills a child that is still there when this program exits. */
function endWithProgram(child: Deno.ChildProcess): void {
  const onUnload = () => {
    try {
      child.kill("SIGKILL");
    } catch {
      // It has ended, and nobody has been told yet.
    }
  };
  addEventListener("unload", onUnload);
  child.status.then(() => removeEventListener("unload", onUnload));
}
