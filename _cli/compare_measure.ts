// Copyright 2026 the Duplex authors. MIT license.

/**
 * The measurements of `compare`: each transport with messages of one size. The
 * transports take turns, with a new worker in each round, so that other load of the
 * machine affects all of them. The result is the median of the rounds.
 *
 * @module
 */

import { bytesLoad, median, Meter, quantile } from "./measure.ts";
import {
  hasWorkerOptions,
  WORKER_OPTIONS_FLAG,
} from "../_base/worker_options.ts";
import type { Duplex } from "../duplex.ts";
import { openPipe } from "../pipe.ts";
import { openQueue } from "../queue.ts";
import { openShm } from "../shm.ts";
import { openSocket } from "../socket.ts";

/** The transports, in the order of their measurement. */
export const TRANSPORTS = [
  "pipe",
  "queue",
  "shm",
  "unix socket",
  "tcp socket",
] as const;

/** A transport by its name. */
export type Transport = typeof TRANSPORTS[number];

/** Transports whose workers are threads. */
export const THREADS: readonly Transport[] = ["queue", "shm"];

/** The figures of a transport. */
export interface Figures {
  /** Microseconds for a message there and back. */
  readonly trip: number;
  /** The same, not exceeded by 99 % of the messages. */
  readonly slowTrip: number;
  /** Messages per second to the worker, without answers. */
  readonly out: number;
  /** Messages per second from the worker. */
  readonly in: number;
  /** Milliseconds to open a worker. */
  readonly open: number;
}

/** The result of a transport. */
export type Outcome =
  | { readonly state: "measured"; readonly figures: Figures }
  | { readonly state: "missing"; readonly why: string }
  | { readonly state: "failed"; readonly error: unknown };

/** The results by transport. */
export type Outcomes = ReadonlyMap<Transport, Outcome>;

/** The time to spend. */
export interface Effort {
  /** The number of rounds. */
  readonly rounds: number;
  /** Milliseconds for each of the three measurements. */
  readonly budget: number;
  /** Milliseconds for warming up before each. */
  readonly warmUp: number;
  /**
   * Milliseconds after which no other round begins: a few large messages may take
   * longer than the budget.
   */
  readonly limit: number;
}

/**
 * Three rounds, so that the median excludes a disturbed one, and a warm-up until the
 * compiler has optimized the code, which takes some 100 000 small messages.
 */
export const DEFAULT_EFFORT: Effort = {
  rounds: 3,
  budget: 75,
  warmUp: 100,
  limit: 5_000,
};

/** The limit on the milliseconds of a transport in a round. */
const ROUND_TIMEOUT = 60_000;

/** Options for {@linkcode measureAll}. */
export interface MeasureOptions {
  /** The size of a message in bytes. */
  readonly size: number;
  /** @default {DEFAULT_EFFORT} */
  readonly effort?: Effort;
  /** Ends the measurements, with their workers and files. */
  readonly signal?: AbortSignal;
}

/**
 * Measures every transport for which nothing is missing. Never prompts.
 *
 * @throws The signal's reason, if it aborts.
 */
export async function measureAll(
  { size, effort = DEFAULT_EFFORT, signal }: MeasureOptions,
): Promise<Outcomes> {
  const outcomes = new Map<Transport, Outcome>();
  const rounds = new Map<Transport, Figures[]>();
  for (const transport of TRANSPORTS) {
    const why = await whyMissing(transport);
    if (why === undefined) rounds.set(transport, []);
    else outcomes.set(transport, { state: "missing", why });
  }
  const end = performance.now() + effort.limit;
  for (let round = 0; round < effort.rounds; round++) {
    if (round > 0 && performance.now() > end) break;
    for (const [transport, figures] of rounds) {
      try {
        signal?.throwIfAborted();
        figures.push(await measureOnce(transport, size, effort, signal));
      } catch (error) {
        signal?.throwIfAborted();
        rounds.delete(transport);
        outcomes.set(transport, { state: "failed", error: rootOf(error) });
      }
    }
  }
  for (const [transport, all] of rounds) {
    const figures = mediansOf(all);
    outcomes.set(transport, { state: "measured", figures });
  }
  return outcomes;
}

/** The first error, if the end of the worker was an error as well. */
function rootOf(error: unknown): unknown {
  return error instanceof SuppressedError ? rootOf(error.suppressed) : error;
}

/** The median of each figure. */
function mediansOf(rounds: readonly Figures[]): Figures {
  const of = (name: keyof Figures) => median(rounds.map((one) => one[name]));
  return {
    trip: of("trip"),
    slowTrip: of("slowTrip"),
    out: of("out"),
    in: of("in"),
    open: of("open"),
  };
}

const SCRIPT = new URL("./compare_worker.ts", import.meta.url);

/** The host of the TCP socket. */
const LOOPBACK = "127.0.0.1";

/** The folder for the folder of the Unix socket. */
function temporaryFolder(): string {
  const variable = "TMPDIR";
  const { state } = Deno.permissions.querySync({ name: "env", variable });
  return state === "granted" && Deno.env.get(variable) || "/tmp";
}

/** Why a transport cannot be measured; `undefined` if it can. */
async function whyMissing(transport: Transport): Promise<string | undefined> {
  if (transport === "unix socket" && Deno.build.os === "windows") {
    return "not available on Windows";
  }
  const missing = notHeld(neededFor(transport));
  if (THREADS.includes(transport) && !await hasWorkerOptions()) {
    missing.push(WORKER_OPTIONS_FLAG);
  }
  return missing.length > 0 ? `needs ${missing.join(" ")}` : undefined;
}

/** The permissions that a transport requires. */
function neededFor(transport: Transport): Needed[] {
  if (THREADS.includes(transport)) return importPermissions();
  const command = Deno.execPath();
  const run: Needed = [{ name: "run", command }, `--allow-run=${command}`];
  if (transport === "pipe") return [run];
  if (transport === "tcp socket") {
    return [run, [{ name: "net", host: LOOPBACK }, `--allow-net=${LOOPBACK}`]];
  }
  const path = temporaryFolder();
  return [
    run,
    // The path of the socket is not known yet.
    [{ name: "net" }, "--allow-net"],
    [{ name: "read", path }, `--allow-read=${path}`],
    [{ name: "write", path }, `--allow-write=${path}`],
  ];
}

/** A permission and the flag that grants it. */
type Needed = readonly [Deno.PermissionDescriptor, flag: string];

/** Web Workers read their script and its imports, if these are files. */
function importPermissions(): Needed[] {
  const { dirname } = import.meta;
  if (dirname === undefined) return [];
  const path = dirname.slice(0, -"_cli".length);
  return [[{ name: "read", path }, `--allow-read=${path}`]];
}

/** The missing flags. They are looked up because Deno would prompt. */
function notHeld(all: readonly Needed[]): string[] {
  return all.filter(([descriptor]) =>
    Deno.permissions.querySync(descriptor).state !== "granted"
  ).map(([_, flag]) => flag);
}

/** An open worker. */
interface Opened extends AsyncDisposable {
  readonly peer: Duplex;
  /** Milliseconds that it took to open. */
  readonly open: number;
}

/** Measures a transport once. */
async function measureOnce(
  transport: Transport,
  size: number,
  effort: Effort,
  signal: AbortSignal | undefined,
): Promise<Figures> {
  await using opened = await open(transport);
  const { peer } = opened;
  const onAbort = () => peer.abort(signal!.reason);
  const onTimeout = () =>
    peer.abort(
      new DOMException(
        `Cannot measure ${transport} within ${ROUND_TIMEOUT} ms`,
        "TimeoutError",
      ),
    );
  signal?.addEventListener("abort", onAbort, { once: true });
  if (signal?.aborted) onAbort();
  const timer = setTimeout(onTimeout, ROUND_TIMEOUT);
  try {
    return { open: opened.open, ...await measurePeer(peer, size, effort) };
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  }
}

async function measurePeer(
  peer: Duplex,
  size: number,
  { budget, warmUp }: Effort,
): Promise<Omit<Figures, "open">> {
  const meter = new Meter(peer, bytesLoad(String(size)));
  let samples: Float64Array = new Float64Array();
  const trips = async (count: number) => {
    samples = await meter.trips(count);
    return samples.reduce((sum, ms) => sum + ms);
  };
  const rateOf = async (run: (count: number) => Promise<number>) => {
    const count = Math.ceil(await warm(run, warmUp) * budget);
    return count * 1e3 / await run(count);
  };
  await rateOf(trips);
  return {
    trip: median(samples) * 1e3,
    slowTrip: quantile(samples, 0.99) * 1e3,
    out: await rateOf((count) => meter.sent(count)),
    in: await rateOf((count) => meter.received(count)),
  };
}

/** Repeats a run for some time, with more messages each; returns those per ms. */
async function warm(
  run: (count: number) => Promise<number>,
  budget: number,
): Promise<number> {
  let spent = 0;
  for (let count = 1;; count *= 2) {
    const ms = await run(count);
    spent += ms;
    // A clock of low resolution may show no time at all.
    if (spent >= budget) return count / Math.max(ms, budget / 2 ** 20);
  }
}

/** The error of a process contains its standard error, so that is not printed. */
const stderr = "null";

/** Opens a worker with the permissions that it needs. */
async function open(transport: Transport): Promise<Opened> {
  switch (transport) {
    case "pipe":
      return await timed(() => openPipe(SCRIPT, { stderr }));
    case "queue":
      return await timed(() => openQueue(SCRIPT));
    case "shm":
      return await timed(() => openShm(SCRIPT));
    case "tcp socket":
      return await openHost(`tcp://${LOOPBACK}:0`, { net: [`${LOOPBACK}:0`] });
    case "unix socket":
      return await openUnix();
  }
}

async function timed(open: () => Promise<Duplex>): Promise<Opened> {
  const start = performance.now();
  const peer = await open();
  return {
    peer,
    open: performance.now() - start,
    [Symbol.asyncDispose]: () => peer[Symbol.asyncDispose](),
  };
}

/**
 * Starts a process that listens, and opens a socket to it. Only the socket is timed,
 * because the process of a server runs already.
 */
async function openHost(
  address: string,
  permissions: Deno.PermissionOptionsObject,
): Promise<Opened> {
  await using stack = new AsyncDisposableStack();
  const script = new URL(`?${encodeURIComponent(address)}`, SCRIPT);
  const host = stack.use(
    await openPipe<string>(script, { permissions, stderr }),
  );
  const actual = await host.receive();
  const opened = stack.use(await timed(() => openSocket(actual)));
  return withResources(opened, stack.move());
}

/** As {@linkcode openHost}, in a folder that is removed at the end. */
async function openUnix(): Promise<Opened> {
  await using stack = new AsyncDisposableStack();
  const dir = temporaryFolder();
  const folder = await Deno.makeTempDir({ dir, prefix: "duplex_" });
  stack.defer(() => Deno.remove(folder, { recursive: true }));
  const path = `${folder}/socket`;
  const opened = stack.use(
    await openHost(`unix:${path}`, {
      net: [`unix:${path}`],
      read: [path],
      write: [path],
    }),
  );
  return withResources(opened, stack.move());
}

function withResources(
  { peer, open }: Opened,
  resources: AsyncDisposableStack,
): Opened {
  return {
    peer,
    open,
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}
