// Copyright 2026 the Duplex authors. MIT license.

/**
 * Compares calls through `remote` and the map of a `Pool`, over every transport, with
 * comlink, piscina, tinypool and workerpool in Node's `worker_threads` and Python's
 * `multiprocessing.Pool`: `deno task bench jobs`. `--quick` does less; arguments
 * select scenarios by name.
 *
 * Each figure is the median of several rounds in which the contenders take turns. In
 * every round each one is a new program with new workers; it warms up, measures
 * itself and ends. All contenders in JavaScript share the file with the functions of
 * the workers, and the code that calls them and measures. A check sum covers every
 * answer.
 *
 * A call sends a log line to the worker and back. In a map two workers call
 * `fib(12)`, which takes two microseconds, or fifteen in Python. Contenders without a
 * map call a worker for each task.
 *
 * The others have the settings with which they were fastest; `peers/jobs_*` list
 * those that were tried. Workers of piscina and tinypool may have 128 tasks at a
 * time; their default is one, and workerpool has no other value. Python sends a chunk of 64
 * calls as one message, and so the answers. With all calls at once, instead of 64, it
 * is two or three times as fast.
 *
 * Measure single calls on an idle machine, as round trips in `workers.ts`.
 *
 * The packages are installed once from npm, into a folder of Deno's cache, and
 * omitted if that fails.
 *
 * @module
 */

import { type Contender, deno, pathOf } from "./_contender.ts";
import { npmFolder } from "./_npm.ts";
import { runScenarios, type Scenario } from "./_scenario.ts";
import type { Target } from "./_table.ts";

/** The versions that were tested last, in Node 20. */
const VERSIONS = {
  comlink: "4.4.2",
  piscina: "5.3.2",
  tinypool: "2.2.0",
  workerpool: "10.0.3",
};

const PIPE = "this module, pipe";
const QUEUE = "this module, queue";
const SHM = "this module, shm";
const COMLINK = "Node, comlink";
const PISCINA = "Node, piscina";
const TINYPOOL = "Node, tinypool";
const WORKERPOOL = "Node, workerpool";
const PYTHON = "Python, multiprocessing.Pool";
const PYTHON_CHUNKS = "Python, multiprocessing.Pool, chunks of 64";

const OWN: readonly string[] = [PIPE, QUEUE, SHM];
const JAVASCRIPT: readonly string[] = [COMLINK, PISCINA, TINYPOOL, WORKERPOOL];
const PEERS: readonly string[] = [...JAVASCRIPT, PYTHON, PYTHON_CHUNKS];

/** Few, so that all contenders take two minutes. */
const ROUNDS = 5;

/** A third of the time of the best other package in JavaScript. */
function mapTarget(label: string, name: string): Target {
  const text = `${name}, at most 0.33 times the best peer in JavaScript`;
  return { label, text, against: JAVASCRIPT, bound: 1 / 3 };
}

const SCENARIOS: readonly Scenario[] = [
  {
    name: "call",
    title: "A call with a log line, one at a time",
    unit: "microseconds",
    isRate: false,
    count: 2_000,
    // With fewer some of the code is not optimized.
    warm: 6_000,
    // The time differs by a factor of two between threads on one core and on two.
    rounds: 11,
    who: [...OWN, ...JAVASCRIPT, PYTHON],
    targets: [{
      label: SHM,
      text: "shm, at most 0.60 times the best peer",
      against: PEERS,
      bound: 0.6,
    }],
  },
  {
    name: "calls64",
    title: "Calls with a log line, 64 in flight",
    unit: "calls/s",
    isRate: true,
    count: 60_000,
    warm: 30_000,
    rounds: ROUNDS,
    who: [...OWN, ...PEERS],
    targets: [{
      label: SHM,
      text: "shm, at least 3.00 times the best peer",
      against: PEERS,
      bound: 3,
    }],
  },
  {
    name: "map",
    title: "10,000 small tasks over two workers",
    unit: "milliseconds",
    isRate: false,
    // Repetitions of all tasks.
    count: 3,
    warm: 2,
    rounds: ROUNDS,
    who: [...OWN, ...PEERS],
    targets: [
      mapTarget(SHM, "shm"),
      mapTarget(QUEUE, "queue"),
      mapTarget(PIPE, "pipe"),
    ],
  },
];

/** This package, over a transport. */
function own(label: string, transport: string): Contender {
  return deno(label, "workers/jobs_main.ts", {
    // Deno ends a process that starts a Web Worker with permissions without it.
    flags: ["--unstable-worker-options"],
    column: transport,
    share: 3,
    more: [transport],
  });
}

/** The contenders in Node; without npm none, and a line with the reason. */
async function node(): Promise<Contender[]> {
  const versions = Object.entries(VERSIONS).map((entry) => entry.join(" "))
    .join(", ");
  try {
    const folder = await npmFolder("jobs", VERSIONS);
    console.log(`${versions}, from npm`);
    const of = (label: string, name: string, share: number): Contender => {
      const args = [pathOf(`peers/jobs_${name}.mjs`)];
      return { label, command: "node", args, more: [folder], share };
    };
    return [
      of(COMLINK, "comlink", 0.7),
      of(PISCINA, "piscina", 1),
      of(TINYPOOL, "tinypool", 1),
      of(WORKERPOOL, "workerpool", 0.2),
    ];
  } catch (error) {
    const why = error instanceof Error ? error.message : error;
    console.log(`${versions} are left out: ${why}`);
    return [];
  }
}

function python(label: string, chunk: string, share: number): Contender {
  const args = [pathOf("peers/jobs_python.py")];
  return { label, command: "python3", args, more: [chunk], share };
}

if (import.meta.main) {
  await runScenarios(SCENARIOS, [
    own(PIPE, "pipe"),
    own(QUEUE, "queue"),
    own(SHM, "shm"),
    ...await node(),
    python(PYTHON, "1", 0.4),
    python(PYTHON_CHUNKS, "64", 1.5),
  ]);
}
