// Copyright 2026 the Duplex authors. MIT license.

/**
 * The arguments of the command `map`.
 *
 * @module
 */

import {
  type Arguments,
  messageOf,
  readArguments,
  readNumber,
  readPermissions,
  UsageError,
} from "./arguments.ts";
import { readFile, readSecret, SECRET_VARIABLE } from "./secret.ts";
import {
  readWorker,
  WORKER_USAGE,
  WORKER_VALUES,
  type WorkerOptions,
} from "./worker.ts";
import { parseAddress } from "../_socket/address.ts";
import { excerpt, show } from "../_base/text.ts";
import type { Permissions } from "../permissions.ts";
import type { SocketOptions } from "../socket.ts";

/** What `map --help` prints. */
export const MAP_USAGE =
  `Usage: cli.ts map WORKER [METHOD] [OPTION…] [-- ARGUMENT…] < ITEMS > RESULTS

Calls a method of a worker script with each line of standard input, which is
JSON, in several workers at a time, and writes each result to standard output as
a line of JSON. WORKER is a path or a URL, ARGUMENT… are its Deno.args; METHOD
is one that it exposes with "expose" of @duplex/ipc/rpc, and may be left out
where there is only one. A line is one argument: [1,2] arrives as one array.
Integers beyond 2^53 are rounded, as JSON.parse does; a method that gives
nothing writes null.

  --workers N           how many workers there are at a time; by default as many
                        as this machine has processors
  --unordered           write each result when it is there, and not in the order
                        of the lines
  --retries N           how often a line is tried again whose worker has ended;
                        2 by default; with 0 none is begun twice
  --timeout SECONDS     how long a line may take; then its worker is ended and
                        replaced; by default as long as it likes
  --errors FILE         write each line that failed to a file, as JSON: its
                        number ("line"), its value ("item", or "text" where it
                        is no JSON), "error" and how often it was given to a worker ("attempts");
                        what was in the file is gone

Lines that fail are told on standard error where there is no --errors; the exit
code is 1 then, and where no worker can be had: the first one has to start at
the first attempt, later ones have three. At SIGINT or SIGTERM no more is begun,
and what runs is finished; a second signal ends the program at once. What a Web
Worker prints with console.log gets between the results; what goes to
console.error does not.

What a worker is:

${WORKER_USAGE}

Workers of a server that runs "serve", here or on another machine, which says
what they are and may do. WORKER is not looked at then and may be left out; a
METHOD that has ".", "/" or ":" needs one before it:

  --over ADDRESS        where: tcp://host:port, tls://host:port or unix:/path
  --secret-file FILE    the secret that the server wants; the variable
                        ${SECRET_VARIABLE} may hold it instead
  --ca-cert FILE        certificates in PEM that are trusted beside the system's
                        for a tls: address`;

/** What `map` was told, checked. */
export interface MapOptions {
  /** What is started, or where it is served. */
  readonly source: WorkerOptions | ServedOptions;
  /** The method, unless it is the only one. */
  readonly method: string | undefined;
  readonly workers: number;
  readonly ordered: boolean;
  /** As a pool has it by default, where there are none. */
  readonly retries: number | undefined;
  /** Milliseconds. */
  readonly timeout: number;
  /** The file for what failed. */
  readonly errors: string | undefined;
}

/** Workers that a server has. */
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
  const { permissions, args: others } = readPermissions(args);
  const given = readArguments(others, {
    flags: ["help", "unordered"],
    values: [
      ...["workers", "retries", "timeout", "errors"],
      ...["secret-file", "ca-cert"],
      ...WORKER_VALUES,
    ],
    lists: [],
    letters: { h: "help" },
  });
  if (given.flags.has("help")) return "help";
  const over = given.values.get("over") ?? "pipe";
  const isServed = /^(tcp|tls|unix):/.test(over);
  const { script, method } = readOperands(given, isServed);
  const count = { least: 1, whole: true };
  const processors = navigator.hardwareConcurrency;
  const seconds = readNumber(given, "timeout", Infinity, { least: 0.001 });
  return {
    source: isServed
      ? await readServed(given, over, permissions)
      : readStarted(given, script, permissions),
    method,
    workers: readNumber(given, "workers", processors, count),
    ordered: !given.flags.has("unordered"),
    retries: readNumber(given, "retries", undefined, {
      least: 0,
      whole: true,
    }),
    timeout: seconds * 1000,
    errors: given.values.get("errors"),
  };
}

/** Tells the worker from the method; a server has its worker already. */
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

/** Reads which workers are started. */
function readStarted(
  given: Arguments,
  script: string | undefined,
  permissions: Permissions,
): WorkerOptions {
  // A shell gives an empty one for a variable that is not set.
  if (!script) throw new UsageError("there is no WORKER to call");
  for (const name of ["secret-file", "ca-cert"]) {
    if (!given.values.has(name)) continue;
    throw new UsageError(
      `--${name} is for workers of a server: give --over ADDRESS, or leave it out`,
    );
  }
  const choices =
    "pipe, queue, shm, or an address (tcp://host:port, tls://host:port, unix:/path)";
  return readWorker(given, script, permissions, choices);
}

/** Reads where workers are served; what they are and may do, the server has said. */
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
    ? 'what stands behind "--"'
    : undefined;
  if (refused !== undefined) {
    throw new UsageError(
      `the server at ${
        excerpt(address)
      } says what its workers are and may do: leave out ${refused}`,
    );
  }
  const kind = kindOf(address);
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

function kindOf(address: string): "tcp" | "tls" | "unix" {
  try {
    return parseAddress("Cannot open a socket", address).kind;
  } catch (error) {
    throw new UsageError(messageOf(error), { cause: error });
  }
}
