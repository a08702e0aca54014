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
 * `serve` requires for each address what `listen` requires: `--allow-net` for the
 * host and the port, or `--allow-net=unix:/path`, `--allow-read=/path` and
 * `--allow-write=/path`. Beside that:
 *
 * - `--allow-run=deno` for workers that are processes (`--over pipe`), or the path
 *   of Deno where another program of that name starts it.
 * - `--allow-read` for the worker script and what it imports, and
 *   `--unstable-worker-options`, for Web Workers (`--over queue`, `--over shm`);
 *   with `--allow-all` for the workers they do without the second.
 * - every permission that the workers are given. Without these no worker starts;
 *   that is said at the start, and to each peer.
 * - `--allow-read` for the files of `--secret-file`, `--cert` and `--key`, or
 *   `--allow-env=DUPLEX_SECRET` for a secret in that variable, without which the
 *   variable is not looked at.
 *
 * At SIGTERM it takes no more peers and lets those that are there finish for a
 * while. Ctrl+C in a terminal goes to workers that are processes as well, and ends
 * them at once.
 *
 * A worker script that throws out of an `await using` block says goodbye first. A
 * peer that has not said its own by then hears that goodbye and not the error;
 * `abort` in the worker tells it.
 *
 * @module
 */

import {
  type Command,
  messageOf,
  printError,
  printLine,
  UsageError,
} from "./_cli_arguments.ts";
import { serve } from "./_cli_serve.ts";

/** What there is to run, by the first argument. */
const COMMANDS: Readonly<Record<string, Command>> = { serve };

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
      : `there is no command ${JSON.stringify(name)}`;
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
