// Copyright 2026 the Duplex authors. MIT license.

/**
 * Compares `openQueue` and `openShm` with the bare Web Workers of Deno, comlink in
 * them, Node's `worker_threads` and Python's `multiprocessing.Queue`:
 * `deno task bench workers`. `--quick` does a fifth of it; arguments select
 * scenarios by name.
 *
 * Each figure is the median of several rounds in which the contenders take turns. In
 * every round each one is a new program with a new worker; it warms up, measures
 * itself and ends. A check sum covers every received message.
 *
 * Measure round trips on an idle machine. Waking a sleeping core is most of their
 * time there; if other programs keep the cores awake, or both threads run on one
 * core, a round trip takes a fifth of the time.
 *
 * No contender may fill the memory of a slow receiver. This package limits it with
 * its default window. The others keep the number of messages in flight with which
 * they were fastest: 4096 posted or put, 16 of a MiB, or 256 calls. With "each moved"
 * a MiB is copied and the copy transferred, so that the sender keeps its own.
 *
 * @module
 */

import { type Contender, deno, pathOf } from "./_contender.ts";
import { runScenarios, type Scenario } from "./_scenario.ts";
import type { Target } from "./_table.ts";

const QUEUE = "this module, queue";
const SHM = "this module, shm";
const RAW = "Deno, bare postMessage";
const RAW_MOVED = "Deno, bare postMessage, each moved";
const RAW_NONE = "Deno, bare Worker, permissions none";
const COMLINK = "Deno, comlink";
const NODE = "Node, worker_threads";
const NODE_MOVED = "Node, worker_threads, each moved";
const PYTHON = "Python, multiprocessing.Queue";

const PEERS: readonly string[] = [RAW, COMLINK, NODE, PYTHON];
const ALL: readonly string[] = [QUEUE, SHM, ...PEERS];

/** Few, so that all contenders and scenarios take two minutes. */
const ROUNDS = 5;

const LINES = {
  unit: "lines/s",
  isRate: true,
  count: 150_000,
  warm: 100_000,
  rounds: ROUNDS,
  who: ALL,
  targets: [{
    label: QUEUE,
    text: "queue, at least 2.00 times the best peer",
    against: PEERS,
    bound: 2,
  }, {
    label: SHM,
    text: "shm, at least 3.00 times the best peer",
    against: PEERS,
    bound: 3,
  }] satisfies Target[],
};

const SMALL = {
  unit: "messages/s",
  isRate: true,
  count: 60_000,
  warm: 30_000,
  rounds: ROUNDS,
  who: [QUEUE, SHM, RAW, NODE],
  targets: [{
    label: SHM,
    text: "shm, at least 3,000,000/s",
    bound: 3_000_000,
  }] satisfies Target[],
};

const BYTES = {
  unit: "megabytes/s",
  isRate: true,
  count: 200,
  warm: 40,
  rounds: ROUNDS,
  who: [QUEUE, SHM, RAW, RAW_MOVED, NODE, NODE_MOVED, PYTHON],
  targets: [{
    label: SHM,
    text: "shm, at least 2.00 times bare postMessage",
    against: [RAW],
    bound: 2,
  }] satisfies Target[],
};

const SCENARIOS: readonly Scenario[] = [
  {
    name: "round-trip",
    title: "A log line there and back",
    unit: "microseconds",
    isRate: false,
    count: 1_000,
    warm: 1_000,
    // The time differs by a factor of two between threads on one core and on two.
    rounds: 11,
    who: ALL,
    targets: [{
      label: QUEUE,
      text: "queue, at most 1.10 times bare postMessage",
      against: [RAW],
      bound: 1.1,
    }, {
      label: SHM,
      text: "shm, at most 0.40 times bare postMessage",
      against: [RAW],
      bound: 0.4,
    }],
  },
  {
    name: "spin",
    title: "The same, while both sides spin",
    unit: "microseconds",
    isRate: false,
    count: 20_000,
    warm: 20_000,
    rounds: ROUNDS,
    who: [SHM, NODE],
    targets: [{ label: SHM, text: "shm, under 10 microseconds", bound: 10 }],
  },
  { ...LINES, name: "lines-out", title: "Log lines one way, to the worker" },
  { ...LINES, name: "lines-in", title: "Log lines one way, from the worker" },
  { ...SMALL, name: "bytes128-out", title: "128 bytes one way, to the worker" },
  {
    ...SMALL,
    name: "bytes128-in",
    title: "128 bytes one way, from the worker",
  },
  {
    ...SMALL,
    name: "text128-out",
    title: "128 characters one way, to the worker",
  },
  {
    ...SMALL,
    name: "text128-in",
    title: "128 characters one way, from the worker",
  },
  {
    ...BYTES,
    name: "bytes-out",
    title: "1 MiB of bytes one way, to the worker",
  },
  {
    ...BYTES,
    name: "bytes-in",
    title: "1 MiB of bytes one way, from the worker",
  },
  {
    name: "open",
    title: "Opening a worker and the first answer",
    unit: "milliseconds",
    isRate: false,
    count: 4,
    warm: 1,
    rounds: 7,
    who: [QUEUE, SHM, RAW, RAW_NONE, COMLINK, NODE, PYTHON],
    targets: [{
      label: QUEUE,
      text: "queue, at most 1.30 times Deno's bare Worker",
      against: [RAW],
      bound: 1.3,
    }, {
      label: SHM,
      text: "shm, at most 1.30 times Deno's bare Worker",
      against: [RAW],
      bound: 1.3,
    }],
  },
];

/** Deno ends a process that starts a Web Worker with permissions without it. */
const FLAGS = ["--unstable-worker-options"];

const [BARE, BARE_NODE] = ["peers/workers_deno.ts", "peers/workers_node.mjs"];

function node(label: string, rest: Partial<Contender>): Contender {
  return { label, command: "node", args: [pathOf(BARE_NODE)], ...rest };
}

const CONTENDERS: readonly Contender[] = [
  deno(QUEUE, "workers/queue_main.ts", {
    flags: FLAGS,
    column: "queue",
    share: 2,
  }),
  deno(SHM, "workers/shm_main.ts", { flags: FLAGS, column: "shm", share: 4 }),
  deno(RAW, BARE),
  deno(RAW_MOVED, BARE, { more: ["moved"] }),
  deno(RAW_NONE, BARE, { flags: FLAGS, more: ["none"] }),
  deno(COMLINK, "peers/workers_comlink.ts", { share: 0.2 }),
  node(NODE, { share: 2 }),
  node(NODE_MOVED, { share: 2, more: ["moved"] }),
  {
    label: PYTHON,
    command: "python3",
    args: [pathOf("peers/workers_python.py")],
    share: 0.5,
  },
];

if (import.meta.main) await runScenarios(SCENARIOS, CONTENDERS);
