// Copyright 2026 the Duplex authors. MIT license.

/**
 * Measures calls through `remote` and the map of a `Pool`, over every transport,
 * against comlink, piscina, tinypool and workerpool in Node's `worker_threads` and
 * Python's `multiprocessing.Pool`, in one run: `deno task bench jobs`, or with
 * `--quick` less of it. Names of scenarios pick out some.
 *
 * Each figure is the median of several rounds in which the contenders take
 * turns. In every round each one is a program of its own, with workers of its
 * own; it warms up, measures itself and ends. The functions that the workers call,
 * and the code that calls and takes the time, are the same file for all in
 * JavaScript. Every answer is looked at, and what they add up to is checked.
 *
 * A call takes a log line to the worker and back. A map has two workers call
 * `fib(12)`, two microseconds of work, or fifteen in Python. Where there is no map,
 * the workers are called once for each task.
 *
 * The peers have the settings that they were fastest with; `peers/jobs_*` say what
 * was tried. Workers of piscina and tinypool may have 128 tasks in hand; by default
 * it is one, as it is always in workerpool, where the others wait on this side.
 * Python's chunk of 64 calls goes as one message and comes back as one. Given all
 * calls at once, and not 64, it is two or three times as fast.
 *
 * Take calls one at a time on an idle machine, as `workers.ts` says of round trips.
 *
 * The packages are installed once from npm, into a folder in Deno's cache, and
 * left out where that cannot be done.
 *
 * @module
 */

import { type Contender, deno, pathOf } from "./_contender.ts";
import { npmFolder } from "./_npm.ts";
import { runScenarios, type Scenario } from "./_scenario.ts";
import type { Target } from "./_table.ts";

/** The last ones that were tried here, in Node 20. */
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

/** Few, since the many contenders should take two minutes. */
const ROUNDS = 5;

/** A third of the time that the best peer in JavaScript takes. */
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
    // Until then some of the code that a call goes through is not compiled.
    warm: 6_000,
    // The system puts two threads on one core or on two, a matter of twice as much.
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
    // As often they are all done.
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

/** This module, over a transport. */
function own(label: string, transport: string): Contender {
  return deno(label, "workers/jobs_main.ts", {
    // Without it Deno ends a process that starts a Web Worker with permissions.
    flags: ["--unstable-worker-options"],
    column: transport,
    share: 3,
    more: [transport],
  });
}

/** The peers in Node, or nothing and a line that says why. */
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
