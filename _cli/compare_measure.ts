// Copyright 2026 the Duplex authors. MIT license.

/**
 * What `compare` measures: each transport with messages of one size, to a far
 * side that does nothing with them. The transports take turns, with a new worker
 * in each round, so that a slow moment of the machine does not fall on one of
 * them alone, and the median of the rounds counts.
 *
 * @module
 */

import type { Answer, Order, Told } from "./compare_worker.ts";
import { show } from "../_base/text.ts";
import {
  hasWorkerOptions,
  WORKER_OPTIONS_FLAG,
} from "../_base/worker_options.ts";
import type { Duplex } from "../duplex.ts";
import { openPipe } from "../pipe.ts";
import { openQueue } from "../queue.ts";
import { openShm } from "../shm.ts";
import { openSocket } from "../socket.ts";

/** The transports, in the order in which they are measured. */
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

/** What was measured of a transport. */
export interface Figures {
  /** Microseconds that a message takes there and back. */
  readonly trip: number;
  /** The same for the slowest of a hundred. */
  readonly slowTrip: number;
  /** Messages a second to the worker, one behind the other. */
  readonly out: number;
  /** Messages a second from the worker. */
  readonly in: number;
  /** Milliseconds until both sides have said hello. */
  readonly open: number;
}

/** What became of a transport. */
export type Outcome =
  | { readonly state: "measured"; readonly figures: Figures }
  | { readonly state: "missing"; readonly why: string }
  | { readonly state: "failed"; readonly error: unknown };

/** What became of each transport. */
export type Outcomes = ReadonlyMap<Transport, Outcome>;

/** How much time is spent. */
export interface Effort {
  /** How often the transports take turns. */
  readonly rounds: number;
  /** Milliseconds for each way to measure, of which there are three. */
  readonly budget: number;
  /** Milliseconds for each before that. */
  readonly warmUp: number;
  /**
   * Milliseconds after which no other round begins: messages may be so large that
   * a few of them take longer than the budget.
   */
  readonly limit: number;
}

/**
 * Three rounds, of which a disturbed one does not count, and as many messages as
 * it takes until the compiler has done its work: some 100 000 small ones.
 */
export const DEFAULT_EFFORT: Effort = {
  rounds: 3,
  budget: 75,
  warmUp: 50,
  limit: 5_000,
};

/** Milliseconds that a transport may take in a round before it has failed. */
const PATIENCE = 60_000;

/** Options for {@linkcode measureAll}. */
export interface MeasureOptions {
  /** Bytes of a message. */
  readonly size: number;
  /** @default {DEFAULT_EFFORT} */
  readonly effort?: Effort;
  /** Ends it; what it has begun is cleaned up. */
  readonly signal?: AbortSignal;
}

/**
 * Measures every transport that can be measured here. Asks for no permission.
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
  const message = makeMessage(size);
  const end = performance.now() + effort.limit;
  for (let round = 0; round < effort.rounds; round++) {
    if (round > 0 && performance.now() > end) break;
    for (const [transport, figures] of rounds) {
      try {
        signal?.throwIfAborted();
        figures.push(await measureOnce(transport, message, effort, signal));
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

/** The error that came first, where the worker's end was an error as well. */
function rootOf(error: unknown): unknown {
  return error instanceof SuppressedError ? rootOf(error.suppressed) : error;
}

/**
 * A message of so many bytes. They are not 0: the system has one page for all
 * memory that is still empty, and to read that costs less.
 */
function makeMessage(size: number): Uint8Array {
  return new Uint8Array(size).fill(1);
}

/** The median of each figure. */
function mediansOf(rounds: readonly Figures[]): Figures {
  const median = (name: keyof Figures) =>
    quantile(rounds.map((figures) => figures[name]), 0.5);
  return {
    trip: median("trip"),
    slowTrip: median("slowTrip"),
    out: median("out"),
    in: median("in"),
    open: median("open"),
  };
}

/** The least of the samples that this share of them does not exceed. */
export function quantile(samples: readonly number[], share: number): number {
  const sorted = Float64Array.from(samples).sort();
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)]!;
}

const SCRIPT = new URL("./compare_worker.ts", import.meta.url);

/** What a listener that only this machine reaches needs. */
const LOOPBACK = "127.0.0.1";

/** The folder in which sockets have folders of their own. */
function temporaryFolder(): string {
  const variable = "TMPDIR";
  const { state } = Deno.permissions.querySync({ name: "env", variable });
  return state === "granted" && Deno.env.get(variable) || "/tmp";
}

/** Why a transport cannot be measured here, if it cannot. */
async function whyMissing(transport: Transport): Promise<string | undefined> {
  if (transport === "unix socket" && Deno.build.os === "windows") {
    return "there is none on Windows";
  }
  const missing = notHeld(neededFor(transport));
  if (THREADS.includes(transport) && !await hasWorkerOptions()) {
    missing.push(WORKER_OPTIONS_FLAG);
  }
  return missing.length > 0 ? `needs ${missing.join(" ")}` : undefined;
}

/** The permissions that a transport needs. */
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
    // The path of the socket is not known before it is there.
    [{ name: "net" }, "--allow-net"],
    [{ name: "read", path }, `--allow-read=${path}`],
    [{ name: "write", path }, `--allow-write=${path}`],
  ];
}

/** A permission and the flag that grants it. */
type Needed = readonly [Deno.PermissionDescriptor, flag: string];

/** Web Workers read their script and what it imports, where these are files. */
function importPermissions(): Needed[] {
  const { dirname } = import.meta;
  if (dirname === undefined) return [];
  const path = dirname.slice(0, -"_cli".length);
  return [[{ name: "read", path }, `--allow-read=${path}`]];
}

/** Which flags are missing. Looked at before, since Deno asks a person otherwise. */
function notHeld(all: readonly Needed[]): string[] {
  return all.filter(([descriptor]) =>
    Deno.permissions.querySync(descriptor).state !== "granted"
  ).map(([_, flag]) => flag);
}

/** The near side's end. */
type End = Duplex<Answer, Told>;

/** A worker that was opened, and what goes with it. */
interface Opened extends AsyncDisposable {
  readonly peer: End;
  /** Milliseconds that it took. */
  readonly open: number;
}

/** Measures a transport in a round. */
async function measureOnce(
  transport: Transport,
  message: Uint8Array,
  effort: Effort,
  signal: AbortSignal | undefined,
): Promise<Figures> {
  await using opened = await open(transport);
  const { peer } = opened;
  const onAbort = () => peer.abort(signal!.reason);
  const onLate = () =>
    peer.abort(
      new DOMException(
        `It was not done within ${PATIENCE / 1000} s`,
        "TimeoutError",
      ),
    );
  signal?.addEventListener("abort", onAbort, { once: true });
  if (signal?.aborted) onAbort();
  const timer = setTimeout(onLate, PATIENCE);
  try {
    return {
      open: opened.open,
      ...await measurePeer(peer, message, effort),
    };
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  }
}

/** Measures three ways to talk to a worker. */
async function measurePeer(
  peer: End,
  message: Uint8Array,
  { budget, warmUp }: Effort,
): Promise<Omit<Figures, "open">> {
  await trips(peer, message, warmUp);
  const samples = await trips(peer, message, budget);
  await out(peer, message, warmUp);
  const outRate = await out(peer, message, budget);
  // How many the worker gives in a time is found out with fewer.
  const warmRate = await into(peer, message, countOf(outRate, warmUp));
  const inRate = await into(peer, message, countOf(warmRate, budget));
  return {
    trip: quantile(samples, 0.5),
    slowTrip: quantile(samples, 0.99),
    out: outRate,
    in: inRate,
  };
}

/** Messages that go in some milliseconds, one at least. */
function countOf(rate: number, budget: number): number {
  return Math.ceil(rate * budget / 1e3);
}

/** Microseconds of each of the messages that go there and back in a time. */
async function trips(
  peer: End,
  message: Uint8Array,
  budget: number,
): Promise<number[]> {
  const samples: number[] = [];
  await peer.send("echo");
  let now = performance.now();
  const end = now + budget;
  do {
    const start = now;
    await peer.send(message);
    checkMessage(await peer.receive(), message);
    now = performance.now();
    samples.push((now - start) * 1e3);
  } while (now < end);
  await peer.send("end");
  return samples;
}

/**
 * Bytes of messages between two looks at the clock, of which one costs as much as
 * a tenth of a small message does; a time is not much exceeded by them.
 */
const STRIDE_BYTES = 2 ** 13;

/** Messages a second that the worker has taken in a time. */
async function out(
  peer: End,
  message: Uint8Array,
  budget: number,
): Promise<number> {
  const stride = Math.min(16, Math.ceil(STRIDE_BYTES / message.length));
  const start = performance.now();
  const end = start + budget;
  let count = 0;
  await peer.send("take");
  do {
    await peer.send(message);
    count++;
  } while (count % stride > 0 || performance.now() < end);
  await peer.send("end");
  const bytes = await peer.receive();
  const ms = performance.now() - start;
  if (bytes === count * message.length) return count * 1e3 / ms;
  throw new Error(
    `The worker took ${show(bytes)} bytes of ${count} messages`,
  );
}

/**
 * Messages a second that the worker gives, of so many. The first one is not
 * counted: before it the worker has to make what it gives.
 */
async function into(
  peer: End,
  message: Uint8Array,
  count: number,
): Promise<number> {
  await peer.send({ give: message.length, count: count + 1 });
  checkMessage(await peer.receive(), message);
  const start = performance.now();
  for (let index = 0; index < count; index++) {
    checkMessage(await peer.receive(), message);
  }
  return count * 1e3 / (performance.now() - start);
}

function checkMessage(answer: Answer, message: Uint8Array): void {
  if (answer instanceof Uint8Array && answer.length === message.length) return;
  throw new Error("The worker has sent back another message");
}

/** What a process says at its end is in its error, and nothing in the way then. */
const stderr = "ignore";

/** Opens a worker over a transport, with what it needs and no more. */
async function open(transport: Transport): Promise<Opened> {
  switch (transport) {
    case "pipe":
      return await timed(() => openPipe<Answer, Told>(SCRIPT, { stderr }));
    case "queue":
      return await timed(() => openQueue<Answer, Told>(SCRIPT));
    case "shm":
      return await timed(() => openShm<Answer, Told>(SCRIPT));
    case "tcp socket":
      return await openFar(`tcp://${LOOPBACK}:0`, { net: [`${LOOPBACK}:0`] });
    case "unix socket":
      return await openUnix();
  }
}

async function timed(open: () => Promise<End>): Promise<Opened> {
  const start = performance.now();
  const peer = await open();
  return {
    peer,
    open: performance.now() - start,
    [Symbol.asyncDispose]: () => peer[Symbol.asyncDispose](),
  };
}

/**
 * Starts a process that listens, and opens a socket to it. Only the latter is
 * timed: the far side of a socket is there already.
 */
async function openFar(
  address: string,
  permissions: Deno.PermissionOptionsObject,
): Promise<Opened> {
  await using stack = new AsyncDisposableStack();
  const host = stack.use(
    await openPipe<string, Order>(SCRIPT, { permissions, stderr }),
  );
  await host.send({ listen: address });
  const actual = await host.receive();
  const opened = stack.use(
    await timed(() => openSocket<Answer, Told>(actual)),
  );
  return withResources(opened, stack.move());
}

/** Does so in a folder that is gone at the end. */
async function openUnix(): Promise<Opened> {
  await using stack = new AsyncDisposableStack();
  const dir = temporaryFolder();
  const folder = await Deno.makeTempDir({ dir, prefix: "duplex_" });
  stack.defer(() => Deno.remove(folder, { recursive: true }));
  const path = `${folder}/socket`;
  const opened = stack.use(
    await openFar(`unix:${path}`, {
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
