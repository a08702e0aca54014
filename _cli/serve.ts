// Copyright 2026 the Duplex authors. MIT license.

/**
 * The command `serve`: listens on addresses and starts a worker for each peer.
 *
 * @module
 */

import {
  type Arguments,
  type Command,
  readAddress,
  readNumber,
  UsageError,
} from "./arguments.ts";
import { bridge, reasonOf } from "./bridge.ts";
import { readFile, readSecret, SECRET_VARIABLE } from "./files.ts";
import { EndSignals, messageLine, printError, printLine } from "./terminal.ts";
import {
  openWorker,
  readWorker,
  readWorkerArguments,
  whyNotGranted,
  whyNotStarted,
  WORKER_USAGE,
  type WorkerOptions,
} from "./worker.ts";
import { isLocal } from "../_base/address.ts";
import { withoutStack } from "../_base/errors.ts";
import { printable, quoted } from "../_base/text.ts";
import { settlesWithin } from "../_base/waiting.ts";
import type { Duplex } from "../duplex.ts";
import {
  type DuplexListener,
  type ListenOptions,
  listenSocket,
  type SocketDuplex,
} from "../socket.ts";

/**
 * The default of `--max-workers`: a Deno process starts with some 50 MB, so these
 * take less than a gigabyte.
 */
const DEFAULT_MAX_WORKERS = 16;

/** The default of `--grace` in seconds: the time that `close` waits. */
const DEFAULT_GRACE = 5;

const SERVE_USAGE =
  `Usage: cli.ts serve WORKER --listen ADDRESS [OPTION…] [-- ARGUMENT…]

Listens for peers that connect with "openSocket", and starts a worker for each.
The worker of the first peer is started first: if it cannot start, serve ends
with its error and does not listen.

  WORKER                the worker script, a path or a URL
  ARGUMENT…             Deno.args of the workers

  --listen ADDRESS      tcp://host:port, tls://host:port or unix:/path; may be
                        repeated; the system assigns a port for port 0
  --max-workers N       the limit on peers at a time; ${DEFAULT_MAX_WORKERS} by default, which
                        take about a gigabyte of memory
  --resume SECONDS      how long a worker is kept for a peer that has lost its
                        connection; 30 by default; 0 disables resuming
  --grace SECONDS       how long peers may finish after SIGINT (Ctrl+C) or
                        SIGTERM; ${DEFAULT_GRACE} by default; a second signal ends it at once
  --quiet, -q           do not log peers that connect and disconnect

For each address a line "listening on ADDRESS" goes to standard output, the log
to standard error. The exit code is 1 if the worker does not start or it cannot
listen, 2 if the arguments are wrong.

${WORKER_USAGE}

Peers. A secret is never an argument, which every user of the machine can read.

  --secret-file FILE    the secret that peers must have; alternatively set the
                        variable ${SECRET_VARIABLE}
  --allow-unauthenticated
                        accept every peer that reaches an address that is not
                        local, without a secret
  --cert FILE --key FILE
                        the certificate and its key in PEM, for tls: addresses

Examples:

  deno run --allow-run=deno --allow-read=data,/tmp/worker.sock \\
    --allow-write=/tmp/worker.sock --allow-net=unix:/tmp/worker.sock \\
    jsr:@duplex/ipc/cli serve worker.ts --listen unix:/tmp/worker.sock \\
    --allow-read=data

  deno run -A jsr:@duplex/ipc/cli serve worker.ts --allow-read=data \\
    --listen tcp://0.0.0.0:9000 --secret-file key`;

/** The command `serve`. */
export const serve: Command = {
  summary: "Listens and starts a worker for each peer",
  async run(args) {
    const options = await readServeOptions(args);
    if (options === "help") {
      printLine(SERVE_USAGE);
      return 0;
    }
    const why = await whyNotGranted(options.worker);
    if (why !== undefined) {
      printError(`error: no worker will start: ${why}`);
      return 1;
    }
    using signals = new EndSignals();
    const server = new Server(options);
    const stop = new AbortController();
    signals.first.then(() => stop.abort());
    try {
      await server.startFirst(stop.signal);
    } catch (error) {
      if (stop.signal.aborted) return 0;
      printError(`error: the worker does not start: ${whyNotStarted(error)}`);
      return 1;
    }
    try {
      await server.listen();
    } catch (error) {
      await server.closeFirst();
      // An option of the listener is an argument here.
      if (error instanceof TypeError || error instanceof RangeError) {
        throw new UsageError(messageLine(error), { cause: error });
      }
      printError(`error: ${messageLine(error)}`);
      return 1;
    }
    for (const address of server.addresses) {
      printLine(`listening on ${address}`);
    }
    await signals.first;
    await server.close();
    return 0;
  },
};

/** The options of `serve`. */
interface ServeOptions {
  readonly worker: WorkerOptions;
  readonly addresses: readonly ServeAddress[];
  /** The options of all listeners. */
  readonly listenOptions: ListenOptions;
  readonly maxWorkers: number;
  /** Milliseconds. */
  readonly grace: number;
  readonly quiet: boolean;
}

/** An address to listen on. */
interface ServeAddress {
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
  const { permissions, given } = readWorkerArguments(args, {
    flags: ["quiet", "allow-unauthenticated"],
    values: ["max-workers", "secret-file", "cert", "key", "resume", "grace"],
    lists: ["listen"],
    letters: { q: "quiet" },
  });
  if (given.flags.has("help")) return "help";
  const [script, extra] = given.operands;
  // A shell gives an empty argument for a variable that is not set.
  if (!script) throw new UsageError("there is no WORKER to serve");
  if (extra !== undefined) {
    throw new UsageError(
      `there is one WORKER, and more is given: ${quoted(extra)}`,
    );
  }
  const worker = readWorker(given, script, permissions);
  const maxWorkers = readNumber(given, "max-workers", DEFAULT_MAX_WORKERS, {
    min: 1,
    integer: true,
  });
  const seconds = { min: 0 };
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

/** Reads the addresses, and who may connect. */
async function readListening(
  given: Arguments,
  maxPeers: number,
  resume: number | undefined,
): Promise<Pick<ServeOptions, "addresses" | "listenOptions">> {
  const listed = given.lists.get("listen")!;
  if (listed.length === 0) {
    throw new UsageError("there is no address: give --listen ADDRESS");
  }
  const parsed = listed.map((text) => readAddress("Cannot listen", text));
  const isUnauthenticated = given.flags.has("allow-unauthenticated");
  const tls = await readTls(given, parsed.some(({ kind }) => kind === "tls"));
  const secret = await readSecret(given);
  if (secret !== undefined && isUnauthenticated) {
    throw new UsageError(
      "there is a secret, and --allow-unauthenticated would accept peers without it: give one of them",
    );
  }
  const reachable = parsed.findIndex((address) => !isLocal(address));
  if (reachable >= 0 && secret === undefined && !isUnauthenticated) {
    throw new UsageError(
      `without a secret every program could connect that reaches ${
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
      // A slow peer receives all messages; heartbeats detect a dead one.
      closeTimeout: Infinity,
      ...(secret === undefined ? {} : { secret }),
      ...(resume === undefined
        ? {}
        : { resume: resume > 0 && { timeout: resume * 1000 } }),
    },
  };
}

/** Reads the certificate and its key, which a `tls:` address requires. */
async function readTls(
  { values }: Arguments,
  isNeeded: boolean,
): Promise<{ cert: string; key: string } | Record<never, never>> {
  const cert = values.get("cert");
  const key = values.get("key");
  if (!isNeeded && (cert !== undefined || key !== undefined)) {
    throw new UsageError(
      "--cert and --key are for tls: addresses: give --listen tls://host:port, or omit them",
    );
  }
  if (!isNeeded) return {};
  if (cert === undefined || key === undefined) {
    throw new UsageError("a tls: address requires --cert FILE and --key FILE");
  }
  const decoder = new TextDecoder();
  return {
    cert: decoder.decode(await readFile("cert", cert)),
    key: decoder.decode(await readFile("key", key)),
  };
}

/** A worker, and the name before its lines in the log. */
interface NamedWorker {
  name: string;
  readonly duplex: Duplex;
}

/** Listens, and starts a worker for each peer. */
class Server {
  readonly #options: ServeOptions;
  readonly #listeners: DuplexListener[] = [];
  /** Peers whose duplex is open. */
  readonly #peers = new Set<SocketDuplex>();
  /** Pending until the worker of a peer has ended. */
  readonly #services = new Set<Promise<void>>();
  #count = 0;
  /** The worker of the first peer, which is started before the server listens. */
  #first: NamedWorker | undefined;
  #workers = 0;
  /** Resolves when a worker has ended. */
  #freed = Promise.withResolvers<void>();

  constructor(options: ServeOptions) {
    this.#options = options;
  }

  /** The addresses, with the ports that the system assigned. */
  get addresses(): string[] {
    return this.#listeners.map(({ address }) => address);
  }

  /**
   * Starts the worker of the first peer, so that a script that cannot run is an
   * error of the command and not of its peers.
   */
  async startFirst(signal: AbortSignal): Promise<void> {
    const first = await this.#start("worker", signal);
    this.#first = first;
    const onEnd = (why: string) => {
      if (this.#first !== first) return;
      this.#first = undefined;
      this.#log(`the worker ended before the first peer came${why}`);
    };
    first.duplex.closed.then(
      () => onEnd(""),
      (error) => onEnd(`: ${messageLine(error)}`),
    );
  }

  /** Closes the worker of the first peer if no peer came. Never rejects. */
  async closeFirst(): Promise<void> {
    const timeout = Math.max(1, this.#options.grace);
    // No peer has used this worker, so how it ends is not reported.
    await this.#takeFirst()?.duplex.close({ timeout }).catch(() => {});
  }

  #takeFirst(): NamedWorker | undefined {
    const first = this.#first;
    this.#first = undefined;
    return first;
  }

  async #start(name: string, signal?: AbortSignal): Promise<NamedWorker> {
    const named = { name };
    // The output of a worker may contain what its peer has sent.
    const onLine = (line: string) =>
      printError(`${named.name}: ${messageLine(line)}`);
    const { worker } = this.#options;
    return Object.assign(named, {
      duplex: await openWorker(worker, onLine, signal),
    });
  }

  /** Listens on all addresses, or on none. */
  async listen(): Promise<void> {
    const { addresses, listenOptions } = this.#options;
    try {
      for (const { address, tls } of addresses) {
        const listener = listenSocket(address, {
          ...listenOptions,
          ...tls,
          onError: (error, remote) =>
            this.#log(`refused ${remote}: ${messageLine(error)}`),
        });
        this.#listeners.push(listener);
      }
      await Promise.all(this.#listeners.map(({ ready }) => ready));
    } catch (error) {
      await this.#closeListeners();
      throw error;
    }
    for (const listener of this.#listeners) this.#acceptAll(listener);
  }

  /** Accepts no more peers, lets those present finish for a while, and ends the rest. */
  async close(): Promise<void> {
    const { grace } = this.#options;
    this.#log(`ending; peers: ${this.#peers.size}`);
    await Promise.all([this.#closeListeners(), this.closeFirst()]);
    if (!await settlesWithin(this.#served(), grace)) {
      const text = "The server is shutting down";
      const reason = withoutStack(new DOMException(text, "AbortError"));
      for (const peer of this.#peers) peer.abort(reason);
      await this.#served();
    }
    this.#log("ended");
  }

  #closeListeners(): Promise<unknown> {
    return Promise.all(this.#listeners.map((listener) => listener.close()));
  }

  async #served(): Promise<void> {
    while (this.#services.size > 0) await Promise.all(this.#services);
  }

  async #acceptAll(listener: DuplexListener): Promise<void> {
    try {
      for await (const peer of listener) this.#admit(peer);
    } catch (error) {
      this.#log(`cannot accept peers any more: ${messageLine(error)}`);
    }
  }

  /** Accepts or refuses a peer. */
  #admit(peer: SocketDuplex): void {
    const name = `peer ${++this.#count} (${peer.remoteAddress})`;
    const { maxWorkers } = this.#options;
    if (this.#peers.size >= maxWorkers) {
      // The limit of a listener is for its own peers; this one is for all.
      const reason = new Error(
        `Cannot start a worker: all ${maxWorkers} are in use; try again later`,
      );
      this.#log(`${name} refused: ${reason.message}`);
      peer.abort(withoutStack(reason));
      return;
    }
    this.#peers.add(peer);
    const onEnd = () => this.#peers.delete(peer);
    peer.closed.then(onEnd, onEnd);
    this.#log(`${name} came; peers: ${this.#peers.size} of ${maxWorkers}`);
    const service = this.#serve(peer, name).then((why) => {
      this.#services.delete(service);
      this.#log(`${name} left${why}; peers: ${this.#peers.size}`);
    });
    this.#services.add(service);
  }

  /** Serves a peer until it ends; returns why, unless it ended with a goodbye. */
  async #serve(peer: SocketDuplex, name: string): Promise<string> {
    // The worker of a peer that has left may still be ending.
    while (this.#workers >= this.#options.maxWorkers) {
      await this.#freed.promise;
    }
    if (!this.#peers.has(peer)) return " before its worker started";
    this.#workers++;
    try {
      const first = this.#takeFirst();
      if (first !== undefined) first.name = name;
      let worker: Duplex;
      try {
        ({ duplex: worker } = first ?? await this.#start(name));
      } catch (error) {
        const reason = reasonOf("worker", error);
        peer.abort(reason instanceof Error ? withoutStack(reason) : reason);
        await peer.closed.catch(() => {});
        return `: its worker did not start: ${whyNotStarted(error)}`;
      }
      const collapse = await bridge(peer, worker);
      if (collapse === undefined) return "";
      return `: ${collapse.side}: ${messageLine(collapse.error)}`;
    } finally {
      this.#workers--;
      this.#freed.resolve();
      this.#freed = Promise.withResolvers();
    }
  }

  #log(line: string): void {
    if (!this.#options.quiet) printError(line);
  }
}
