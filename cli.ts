// Copyright 2026 the Duplex authors. MIT license.

/**
 * The command line. `map` calls a method of a worker script with each line of
 * standard input, in several workers. `serve` starts a worker for each peer that
 * connects, so that a script without sockets can be used from another program or
 * machine. `compare` measures the transports on this machine. `--help` of each
 * command lists its options.
 *
 * ```sh
 * deno run --allow-run=deno --allow-read=./data \
 *   jsr:@duplex/ipc/cli map worker.ts resize --workers 4 --allow-read=./data \
 *   < in.jsonl > out.jsonl
 *
 * deno run --allow-net=127.0.0.1:9000 --allow-run=deno --allow-read=./data \
 *   jsr:@duplex/ipc/cli serve worker.ts --listen tcp://127.0.0.1:9000 \
 *   --allow-read=./data
 *
 * deno run -A --unstable-worker-options jsr:@duplex/ipc/cli compare --size 1024
 * ```
 *
 * `map` and `serve` require:
 *
 * - `--allow-run=deno` (or the path of Deno, if another program has that name) for
 *   workers that are processes (`--over pipe`, the default);
 * - `--allow-read` for the worker script and its imports, and
 *   `--unstable-worker-options`, for Web Workers (`--over queue` or `--over shm`);
 *   the flag is not required if the workers get `--allow-all`;
 * - every permission that the workers get; otherwise no worker starts;
 * - for the addresses of `--listen` and `--over` the permissions of `listenSocket`
 *   and `openSocket`: `--allow-net` for the host and port, or
 *   `--allow-net=unix:/path`, `--allow-read=/path` and `--allow-write=/path`;
 * - `--allow-read` for the files of `--secret-file`, `--cert`, `--key` and
 *   `--ca-cert`; `--allow-env=DUPLEX_SECRET` for a secret in that variable, which is
 *   ignored otherwise; `--allow-write=FILE` for `--errors FILE`.
 *
 * `compare` requires nothing, and omits each transport for which something is
 * missing; `compare --help` lists what each requires.
 *
 * `map` writes results that JSON does not have, such as dates, bigints and maps, in
 * the form that `map --help` lists; `--strict` fails their lines instead.
 *
 * A worker that cannot start ends `map` before a line is read, and `serve` before
 * it listens.
 *
 * At SIGTERM, and at Ctrl+C in a terminal, `serve` accepts no more peers and lets
 * those present finish for a while, and `map` finishes the lines that are running.
 * Ctrl+C does not reach workers that are processes. A second signal ends the program
 * and its workers at once.
 *
 * The output of workers that are processes goes to standard error. Deno writes
 * `console.log` of Web Workers to standard output, where `map` writes its results:
 * use `console.error` in them.
 *
 * A worker script that throws out of an `await using` block sends its goodbye first.
 * A peer that has not sent its own by then receives that goodbye and not the error;
 * call `abort` in the worker to send the error.
 *
 * @module
 */

import { type Command, nearest, UsageError } from "./_cli/arguments.ts";
import { compare } from "./_cli/compare.ts";
import { map } from "./_cli/map.ts";
import { serve } from "./_cli/serve.ts";
import { messageLine, printError, printLine } from "./_cli/terminal.ts";
import { show } from "./_base/text.ts";

/** The commands by their name. */
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

cli.ts COMMAND --help lists the options of a command, and has examples.

"cli.ts" stands for one of these commands:

  deno run FLAGS jsr:@duplex/ipc/cli
                        without an installation
  duplex                after an installation:
                        deno install -g -n duplex FLAGS jsr:@duplex/ipc/cli
  deno task cli         in a clone of the package

FLAGS are -A --unstable-worker-options, or less: --allow-run=deno for workers
that are processes, and all permissions that the workers get. The permissions
after the name of the command are those of the workers, which have none by
default:

  deno run --allow-run=deno --allow-read=data jsr:@duplex/ipc/cli \\
    map worker.ts --allow-read=data < in.jsonl > out.jsonl`;

/**
 * Runs the command line.
 *
 * @param args The name of a command, and its arguments.
 * @returns The exit code: 0 after success, 1 after a failure, 2 if the arguments are
 *   wrong.
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
  if (name === "--help" || name === "-h" || name === "help") {
    printLine(USAGE);
    return 0;
  }
  const command = name !== undefined && Object.hasOwn(COMMANDS, name)
    ? COMMANDS[name]
    : undefined;
  if (command === undefined) {
    printError(`error: ${wrongCommand(name)}, or --help`);
    return 2;
  }
  try {
    return await command.run(rest);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    printError(
      `error: ${messageLine(error)}; see cli.ts ${name} --help`,
    );
    return 2;
  }
}

/** What is wrong with the name of a command, and what to give. */
function wrongCommand(name: string | undefined): string {
  const names = Object.keys(COMMANDS);
  if (name === undefined) {
    return `there is no command: give one of ${names.join(", ")}`;
  }
  if (name.startsWith("-")) {
    return `there is no command before ${
      show(name)
    }: options of a command go after its name, flags of Deno before cli.ts; give one of ${
      names.join(", ")
    }`;
  }
  const near = nearest(name, names);
  return `there is no command ${show(name)}: ${
    near === undefined ? `give one of ${names.join(", ")}` : `give ${near}`
  }`;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
