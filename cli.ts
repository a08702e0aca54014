// Copyright 2026 the Duplex authors. MIT license.

/**
 * The command line. `serve` listens at addresses and gives each peer a worker of
 * its own, so that a worker script that knows nothing of sockets can be used
 * from another program, or another machine, with `openSocket`.
 *
 * ```sh
 * deno run --allow-net=127.0.0.1:9000 --allow-run=deno --allow-read=./data \
 *   jsr:@duplex/ipc/cli serve worker.ts --listen tcp://127.0.0.1:9000 \
 *   --allow-read=./data
 * ```
 *
 * `map` calls a method that a worker script exposes with each line of standard
 * input, which is JSON, in several workers at a time, and writes each result to
 * standard output as a line of JSON.
 *
 * ```sh
 * deno run --allow-run=deno --allow-read=./data \
 *   jsr:@duplex/ipc/cli map worker.ts resize --workers 4 --allow-read=./data \
 *   < in.jsonl > out.jsonl
 * ```
 *
 * `compare` measures every transport on this machine with messages of one size,
 * and recommends one; with `--svg FILE` it draws a chart as well.
 *
 * ```sh
 * deno run -A --unstable-worker-options jsr:@duplex/ipc/cli compare --size 1024
 * ```
 *
 * `serve` requires for each address what `listenSocket` requires: `--allow-net` for the
 * host and the port, or `--allow-net=unix:/path`, `--allow-read=/path` and
 * `--allow-write=/path`. `map` requires the same for `--over ADDRESS`, and
 * otherwise, as `serve` does:
 *
 * - `--allow-run=deno` for workers that are processes (`--over pipe`), or the path
 *   of Deno where another program of that name starts it.
 * - `--allow-read` for the worker script and what it imports, and
 *   `--unstable-worker-options`, for Web Workers (`--over queue`, `--over shm`);
 *   if the workers get `--allow-all`, they do without that flag.
 * - every permission that the workers are given. Without these no worker starts;
 *   `serve` says that at the start, and to each peer, and `map` ends with it.
 *
 * Both require beside that:
 *
 * - `--allow-read` for the files of `--secret-file`, `--cert`, `--key` and
 *   `--ca-cert`, or `--allow-env=DUPLEX_SECRET` for a secret in that variable,
 *   without which the variable is not looked at.
 * - `--allow-write=FILE` for the `--errors FILE` of `map`.
 *
 * `compare` requires nothing, and leaves out each transport for which something is
 * missing: `--unstable-worker-options`, and `--allow-read` for this package unless
 * it comes from JSR, for `queue` and `shm`; `--allow-run=deno`, or Deno's path, for
 * `pipe` and both sockets; `--allow-net=127.0.0.1` for the TCP socket;
 * `--allow-net`, `--allow-read=/tmp` and `--allow-write=/tmp` for the Unix socket,
 * whose path is not known before; with `--allow-env=TMPDIR` the folder that is named
 * there; `--allow-write=FILE` for `--svg FILE`.
 *
 * At SIGTERM, and at Ctrl+C in a terminal, `serve` takes no more peers and lets
 * those that are there finish for a while, and `map` reads no more lines, finishes
 * those that are at work and says which are left. Workers that are processes do not
 * hear of Ctrl+C. A second signal ends the program with its workers at once.
 *
 * What workers that are processes print goes to standard error. What Web Workers
 * print with `console.log` goes to standard output, for Deno has no other way: in
 * the workers of `map`, which writes its results there, use `console.error`.
 *
 * A worker script that throws out of an `await using` block says goodbye first. A
 * peer that has not said its own by then hears that goodbye and not the error;
 * `abort` in the worker tells it.
 *
 * @module
 */

import { type Command, UsageError } from "./_cli/arguments.ts";
import { compare } from "./_cli/compare.ts";
import { map } from "./_cli/map.ts";
import { serve } from "./_cli/serve.ts";
import { messageOf, printError, printLine } from "./_cli/terminal.ts";
import { show } from "./_base/text.ts";

/** What there is to run, by the first argument. */
const COMMANDS: Readonly<Record<string, Command>> = {
  compare,
  map,
  serve,
};

const USAGE = `Usage: cli.ts COMMAND [ARGUMENT…]

${
  Object.entries(COMMANDS).map(([name, { summary }]) =>
    `  ${name.padEnd(8)} ${summary}`
  ).join("\n")
}

cli.ts COMMAND --help tells more.`;

/**
 * Runs the command line.
 *
 * @param args The arguments, the name of the command first.
 * @returns The exit code: 0 when all went well, 1 when it did not, 2 when the
 *   arguments are wrong.
 *
 * @example Usage
 * ```ts
 * import { main } from "@duplex/ipc/cli";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await main(["serve", "worker.ts"]), 2);
 * ```
 */
export async function main(args: readonly string[]): Promise<number> {
  const [name, ...rest] = args;
  if (name === "--help" || name === "-h") {
    printLine(USAGE);
    return 0;
  }
  const command = name !== undefined && Object.hasOwn(COMMANDS, name)
    ? COMMANDS[name]
    : undefined;
  if (command === undefined) {
    const wrong = name === undefined
      ? "there is no command"
      : `there is no command ${show(name)}`;
    const names = Object.keys(COMMANDS).join(", ");
    printError(`error: ${wrong}: give one of ${names}, or --help`);
    return 2;
  }
  try {
    return await command.run(rest);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    printError(
      `error: ${messageOf(error)}; see cli.ts ${name} --help`,
    );
    return 2;
  }
}

if (import.meta.main) Deno.exit(await main(Deno.args));
