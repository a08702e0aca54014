// Copyright 2026 the Duplex authors. MIT license.

/**
 * Runs a command in place of this program: with its standard streams, signals and
 * exit code.
 *
 * @module
 */

/** The exit codes of a shell for a command that it cannot start. */
const NOT_FOUND_CODE = 127;
const NOT_EXECUTABLE_CODE = 126;

/** Signals that a terminal sends to every program in it when a key is pressed. */
const KEY_SIGNALS: readonly Deno.Signal[] = Deno.build.os === "windows"
  ? ["SIGINT"]
  : ["SIGINT", "SIGQUIT"];

const SIGNALS: readonly Deno.Signal[] = Deno.build.os === "windows"
  ? KEY_SIGNALS
  : [...KEY_SIGNALS, "SIGTERM", "SIGHUP"];

/**
 * Passes on signals from now on. They no longer end this program.
 *
 * @param children The processes that receive a signal.
 * @param onSignal Called before they receive it.
 */
export function passSignals(
  children: Iterable<Deno.ChildProcess>,
  onSignal: () => void = () => {},
): void {
  const isInTerminal = [Deno.stdin, Deno.stdout, Deno.stderr]
    .some((stream) => stream.isTerminal());
  for (const signal of SIGNALS) {
    Deno.addSignalListener(signal, () => {
      onSignal();
      // The terminal has sent it to the children as well.
      if (isInTerminal && KEY_SIGNALS.includes(signal)) return;
      for (const child of children) send(child, signal);
    });
  }
}

function send(child: Deno.ChildProcess, signal: Deno.Signal): void {
  try {
    child.kill(signal);
  } catch {
    // It has ended; its status follows.
  }
}

/**
 * Runs a command and passes on signals to it.
 *
 * @param command The program; `deno` is the one that runs this program.
 * @param args Its arguments.
 * @param env Variables in addition to those of this program.
 * @returns Its exit code; that of a shell if it cannot be started, with a message on
 *   standard error.
 */
export async function runCommand(
  command: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<number> {
  // Before the command starts, because a signal may follow at once.
  const children: Deno.ChildProcess[] = [];
  passSignals(children);
  let child: Deno.ChildProcess;
  try {
    child = new Deno.Command(command === "deno" ? Deno.execPath() : command, {
      args: [...args],
      env: { ...env },
      stdin: "inherit",
      stdout: "inherit",
      stderr: "inherit",
    }).spawn();
  } catch (error) {
    const isMissing = error instanceof Deno.errors.NotFound;
    const reason = isMissing
      ? "there is no such program"
      : error instanceof Deno.errors.PermissionDenied
      ? "it is not a program that may be executed"
      : error instanceof Error
      ? error.message
      : String(error);
    console.error(`Cannot run ${JSON.stringify(command)}: ${reason}`);
    return isMissing ? NOT_FOUND_CODE : NOT_EXECUTABLE_CODE;
  }
  children.push(child);
  return (await child.status).code;
}
