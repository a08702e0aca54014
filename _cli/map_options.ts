// Copyright 2026 the Duplex authors. MIT license.

/**
 * The arguments of the command `map`.
 *
 * @module
 */

import {
  type Arguments,
  readAddress,
  readNumber,
  UsageError,
} from "./arguments.ts";
import { readFile, readSecret, SECRET_VARIABLE } from "./files.ts";
import { MAX_LINE } from "./map_input.ts";
import { PLAIN_USAGE } from "./plain.ts";
import {
  readWorker,
  readWorkerArguments,
  WORKER_USAGE,
  type WorkerOptions,
} from "./worker.ts";
import { groupDigits } from "./terminal.ts";
import { excerpt, show } from "../_base/text.ts";
import type { Permissions } from "../permissions.ts";
import type { SocketOptions } from "../socket.ts";

/** The help of `map`. */
export const MAP_USAGE: string =
  `Usage: cli.ts map WORKER [METHOD] [OPTION…] [-- ARGUMENT…] < ITEMS > RESULTS

Calls a method of a worker script with each line of standard input, in several
workers at a time, and writes the results to standard output. Lines are JSON.

  WORKER                the worker script, a path or a URL
  METHOD                a method that it exposes with "expose" of
                        @duplex/ipc/rpc; may be omitted if there is only one
  ARGUMENT…             Deno.args of the worker

A line is one argument: [1,2] arrives as one array. Blank lines are skipped.
Integers beyond 2^53 are rounded, as by JSON.parse. A method that returns
nothing writes null. The limit of a line is ${groupDigits(MAX_LINE)} bytes (${
    MAX_LINE / 2 ** 20
  } MiB): a longer
line fails, as a line that is not JSON does, and the lines after it are read.

  --workers N           the number of workers; by default the number of
                        processors of this machine
  --unordered           write each result when it is ready; by default results
                        have the order of the lines
  --strict              fail a line if its result has a value that JSON does not
                        have; by default it is written in the form below
  --retries N           how often a line is tried again if its worker ends; 2 by
                        default; with 0 no line is begun twice
  --timeout SECONDS     the limit on the time for a line, after which its worker
                        is ended and replaced; no limit by default
  --errors FILE         write failed lines to this file, which is replaced, as
                        JSON: "line", "item" ("text" if the line is not JSON),
                        "error" and "attempts"; by default failed lines are
                        printed to standard error

The first worker is started before a line is read. The exit code is 1 if a line
failed or no worker starts, 2 if the arguments are wrong or the worker has no
such METHOD. At SIGINT (Ctrl+C) or SIGTERM, map finishes the lines that are
running, begins no others and prints which lines are left; a second signal ends
it at once. Output of console.log in a Web Worker appears among the results: use
console.error there. A progress bar is shown if standard error is a terminal,
unless the lines are typed.

Results that JSON does not have:

${PLAIN_USAGE}

The line fails if a worker returns a function, a symbol, or an object of another
built-in class, such as Headers.

${WORKER_USAGE}

Workers of a server, which runs "cli.ts serve" and decides what they may do.
WORKER is ignored and may be omitted; a METHOD with ".", "/" or ":" requires it.

  --over ADDRESS        tcp://host:port, tls://host:port or unix:/path
  --secret-file FILE    the secret of the server; alternatively set the variable
                        ${SECRET_VARIABLE}
  --ca-cert FILE        certificates in PEM to trust for a tls: address, in
                        addition to those of the system

Examples:

  # worker.ts: import { expose } from "jsr:@duplex/ipc/rpc";
  #            expose({ size: async (path: string) =>
  #              (await Deno.stat(path)).size });
  deno run --allow-run=deno --allow-read=data jsr:@duplex/ipc/cli \\
    map worker.ts size --allow-read=data < in.jsonl > out.jsonl

  deno run -A jsr:@duplex/ipc/cli map worker.ts --timeout 10 \\
    --errors failed.jsonl --allow-read < in.jsonl

  deno run -A --unstable-worker-options jsr:@duplex/ipc/cli \\
    map worker.ts --over shm --allow-read=data < in.jsonl

  deno run -A jsr:@duplex/ipc/cli \\
    map size --over tcp://127.0.0.1:9000 --secret-file key < in.jsonl`;

/** The options of `map`. */
export interface MapOptions {
  /** The workers. */
  readonly source: WorkerOptions | ServedOptions;
  /** The method; `undefined` for the only one. */
  readonly method: string | undefined;
  readonly workers: number;
  readonly ordered: boolean;
  /** Whether a result that JSON does not have fails its line. */
  readonly strict: boolean;
  /** `undefined` for the default of a pool. */
  readonly retries: number | undefined;
  /** Milliseconds. */
  readonly timeout: number;
  /** The file for failures. */
  readonly errors: string | undefined;
}

/** Workers of a server. */
export interface ServedOptions {
  readonly address: string;
  readonly socket: SocketOptions;
}

/**
 * Reads the arguments of `map`, and the files that they name.
 *
 * @throws {UsageError} If they are wrong.
 */
export async function readMapOptions(
  args: readonly string[],
): Promise<MapOptions | "help"> {
  const { permissions, given } = readWorkerArguments(args, {
    flags: ["unordered", "strict"],
    values: [
      ...["workers", "retries", "timeout", "errors"],
      ...["secret-file", "ca-cert"],
    ],
  });
  if (given.flags.has("help")) return "help";
  const over = given.values.get("over") ?? "pipe";
  const isServed = /^(tcp|tls|unix):/.test(over);
  const { script, method } = readOperands(given, isServed);
  const processors = navigator.hardwareConcurrency;
  const seconds = readNumber(given, "timeout", Infinity, { min: 0.001 });
  return {
    source: isServed
      ? await readServed(given, over, permissions)
      : readStarted(given, script, permissions),
    method,
    workers: readNumber(given, "workers", processors, {
      min: 1,
      integer: true,
    }),
    ordered: !given.flags.has("unordered"),
    strict: given.flags.has("strict"),
    retries: readNumber(given, "retries", undefined, {
      min: 0,
      integer: true,
    }),
    timeout: seconds * 1000,
    errors: given.values.get("errors"),
  };
}

/** Tells the worker from the method. */
function readOperands(
  { operands }: Arguments,
  isServed: boolean,
): { script: string | undefined; method: string | undefined } {
  const [first, second, extra] = operands;
  if (extra !== undefined) {
    throw new UsageError(
      `there is one WORKER and one METHOD, and more is given: ${show(extra)}`,
    );
  }
  const isMethod = isServed && first !== undefined && second === undefined &&
    !/[/.:]/.test(first);
  return isMethod
    ? { script: undefined, method: first }
    : { script: first, method: second };
}

/** Reads the options of workers that are started. */
function readStarted(
  given: Arguments,
  script: string | undefined,
  permissions: Permissions,
): WorkerOptions {
  // A shell gives an empty argument for a variable that is not set.
  if (!script) throw new UsageError("there is no WORKER to call");
  for (const name of ["secret-file", "ca-cert"]) {
    if (!given.values.has(name)) continue;
    throw new UsageError(
      `--${name} is for workers of a server: give --over ADDRESS, or omit it`,
    );
  }
  const choices =
    "pipe, queue, shm, or an address (tcp://host:port, tls://host:port, unix:/path)";
  return readWorker(given, script, permissions, choices);
}

/** Reads the options of workers of a server, which decides what they may do. */
async function readServed(
  given: Arguments,
  address: string,
  permissions: Permissions,
): Promise<ServedOptions> {
  const refused = permissions !== "none"
    ? "the permissions"
    : given.values.has("memory")
    ? "--memory"
    : given.rest.length > 0
    ? 'the arguments after "--"'
    : undefined;
  if (refused !== undefined) {
    throw new UsageError(
      `the server at ${
        excerpt(address)
      } decides what its workers are and may do: omit ${refused}`,
    );
  }
  const { kind } = readAddress("Cannot open a socket", address);
  const caCert = given.values.get("ca-cert");
  if (caCert !== undefined && kind !== "tls") {
    throw new UsageError(
      `--ca-cert is for a tls: address: current value of --over is ${
        show(address)
      }`,
    );
  }
  const secret = await readSecret(given);
  const trusted = caCert === undefined
    ? undefined
    : new TextDecoder().decode(await readFile("ca-cert", caCert));
  return {
    address,
    socket: {
      ...(secret === undefined ? {} : { secret }),
      ...(trusted === undefined ? {} : { caCerts: [trusted] }),
    },
  };
}
