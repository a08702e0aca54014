// Copyright 2026 the Duplex authors. MIT license.

/**
 * The arguments of the command `serve`.
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
import { isLoopback, parseAddress } from "../_socket/address.ts";
import { printable, quoted } from "../_base/text.ts";
import type { ListenOptions } from "../socket.ts";

/**
 * As `--max-workers`: a Deno process starts with some 50 MB, so these fit into a
 * gigabyte.
 */
const DEFAULT_MAX_WORKERS = 16;

/** As `--grace`, in seconds: as long as `close` waits by default. */
const DEFAULT_GRACE = 5;

/** What `serve --help` prints. */
export const SERVE_USAGE =
  `Usage: cli.ts serve WORKER --listen ADDRESS [OPTION…] [-- ARGUMENT…]

Listens and gives each peer that opens a socket a worker of its own. WORKER is a
worker script, a path or a URL; ARGUMENT… are its Deno.args. One line for each
address says on standard output that it listens: "listening on ADDRESS".

  --listen ADDRESS      where: tcp://host:port, tls://host:port or unix:/path;
                        may be given several times; the system chooses port 0
  --max-workers N       how many peers there may be at a time; ${DEFAULT_MAX_WORKERS} by default,
                        which take about a gigabyte of memory
  --resume SECONDS      how long a peer that has lost its connection may take to
                        come back to its worker; 30 by default, 0 for not at all
  --grace SECONDS       how long peers may finish after SIGINT or SIGTERM; ${DEFAULT_GRACE} by
                        default; a second signal ends the program at once
  --quiet, -q           do not log to standard error who comes and goes

What a worker is:

${WORKER_USAGE}

Who may come; a secret is never given on the command line, where every user of
the machine could read it:

  --secret-file FILE    the secret that a peer has to know; the variable
                        ${SECRET_VARIABLE} may hold it instead
  --allow-unauthenticated
                        let in everybody who reaches an address
  --cert FILE --key FILE
                        the certificate and its key in PEM, for tls: addresses`;

/** What `serve` was told, checked. */
export interface ServeOptions {
  readonly worker: WorkerOptions;
  readonly addresses: readonly ServeAddress[];
  /** What all addresses have in common. */
  readonly listenOptions: ListenOptions;
  readonly maxWorkers: number;
  /** Milliseconds. */
  readonly grace: number;
  readonly quiet: boolean;
}

/** An address to listen at. */
export interface ServeAddress {
  readonly address: string;
  readonly tls: Pick<ListenOptions, "cert" | "key">;
}

/**
 * Reads the arguments of `serve`, and the files that they name.
 *
 * @throws {UsageError} If they are wrong.
 */
export async function readServeOptions(
  args: readonly string[],
): Promise<ServeOptions | "help"> {
  const { permissions, args: others } = readPermissions(args);
  const given = readArguments(others, {
    flags: ["help", "quiet", "allow-unauthenticated"],
    values: [
      ...["max-workers", "secret-file", "cert", "key", "resume", "grace"],
      ...WORKER_VALUES,
    ],
    lists: ["listen"],
    letters: { h: "help", q: "quiet" },
  });
  if (given.flags.has("help")) return "help";
  const [script, extra] = given.operands;
  // A shell gives an empty one for a variable that is not set.
  if (!script) throw new UsageError("there is no WORKER to serve");
  if (extra !== undefined) {
    throw new UsageError(
      `there is one WORKER, and more is given: ${quoted(extra)}`,
    );
  }
  const worker = readWorker(given, script, permissions);
  const count = { least: 1, whole: true };
  const maxWorkers = readNumber(
    given,
    "max-workers",
    DEFAULT_MAX_WORKERS,
    count,
  );
  const seconds = { least: 0 };
  const grace = readNumber(given, "grace", DEFAULT_GRACE, seconds) * 1000;
  const resume = readNumber(given, "resume", undefined, seconds);
  return {
    worker,
    maxWorkers,
    grace,
    quiet: given.flags.has("quiet"),
    ...await readListening(given, maxWorkers, resume),
  };
}

/** Reads where to listen and for whom. */
async function readListening(
  given: Arguments,
  maxPeers: number,
  resume: number | undefined,
): Promise<Pick<ServeOptions, "addresses" | "listenOptions">> {
  const listed = given.lists.get("listen")!;
  if (listed.length === 0) {
    throw new UsageError("there is no address: give --listen ADDRESS");
  }
  const parsed = listed.map(parseListen);
  const isUnauthenticated = given.flags.has("allow-unauthenticated");
  const tls = await readTls(given, parsed.some(({ kind }) => kind === "tls"));
  const secret = await readSecret(given);
  if (secret !== undefined && isUnauthenticated) {
    throw new UsageError(
      "there is a secret, and --allow-unauthenticated would let everybody in: give one of them",
    );
  }
  const reachable = parsed.findIndex((address) =>
    address.kind !== "unix" && !isLoopback(address.hostname)
  );
  if (reachable >= 0 && secret === undefined && !isUnauthenticated) {
    throw new UsageError(
      `without a secret everybody could speak who reaches ${
        printable(listed[reachable]!)
      }: give --secret-file or ${SECRET_VARIABLE}, or --allow-unauthenticated`,
    );
  }
  return {
    addresses: listed.map((address, index) => ({
      address,
      tls: parsed[index]!.kind === "tls" ? tls : {},
    })),
    listenOptions: {
      maxPeers,
      allowUnauthenticated: isUnauthenticated,
      // A slow peer gets all that was sent to it; heartbeats find a dead one.
      closeTimeout: Infinity,
      ...(secret === undefined ? {} : { secret }),
      ...(resume === undefined
        ? {}
        : { resume: resume > 0 && { timeout: resume * 1000 } }),
    },
  };
}

function parseListen(address: string) {
  try {
    return parseAddress("Cannot listen", address);
  } catch (error) {
    throw new UsageError(messageOf(error), { cause: error });
  }
}

/** Reads the certificate and its key, which `tls:` addresses need. */
async function readTls(
  { values }: Arguments,
  isNeeded: boolean,
): Promise<{ cert: string; key: string } | Record<never, never>> {
  const cert = values.get("cert");
  const key = values.get("key");
  if (!isNeeded && (cert !== undefined || key !== undefined)) {
    throw new UsageError(
      "--cert and --key are for tls: addresses, and there is none",
    );
  }
  if (!isNeeded) return {};
  if (cert === undefined || key === undefined) {
    throw new UsageError("a tls: address needs --cert FILE and --key FILE");
  }
  const decoder = new TextDecoder();
  return {
    cert: decoder.decode(await readFile("cert", cert)),
    key: decoder.decode(await readFile("key", key)),
  };
}
