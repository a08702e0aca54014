// Copyright 2026 the Duplex authors. MIT license.

/**
 * Compares calls through `remote` and the map of a `Pool`, over every transport, with
 * comlink, capnweb, piscina, tinypool and workerpool in Node's `worker_threads`, kkrpc
 * and poolifier-web-worker in Deno, and Python's `multiprocessing.Pool`,
 * `ProcessPoolExecutor` and, if there is a `python3.14`, `InterpreterPoolExecutor`:
 * `deno task bench jobs`. `--quick` does less; arguments select scenarios by name.
 *
 * Each figure is the median of several rounds in which the contenders take turns. In
 * every round each one is a new program with new workers; it warms up, measures
 * itself and ends. All contenders in JavaScript share the file with the functions of
 * the workers, and the code that calls them and measures. A check sum covers every
 * answer.
 *
 * A call sends a log line to the worker and back. In a map two workers call
 * `fib(12)`, which takes two microseconds, or fifteen in Python. Contenders without a
 * map call a worker for each task. The last two scenarios stream chunks of 64 KiB
 * through a call, and send the same chunks as plain messages.
 *
 * Comlink, piscina, tinypool, workerpool and `multiprocessing.Pool` have the settings
 * with which they were fastest; `peers/jobs_*` list those that were tried. The others
 * have their defaults, or what their files say. Workers of piscina and tinypool may have 128 tasks at a
 * time; their default is one, and workerpool has no other value. Python sends a chunk
 * of 64 calls as one message, and so the answers. With all calls at once, instead of
 * 64, it is two or three times as fast.
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
import { STREAM_CONTENDERS, STREAM_SCENARIOS } from "./streams.ts";
import type { Target } from "./_table.ts";

/** The versions that were tested last, in Node 20. */
const VERSIONS = {
  capnweb: "0.12.0",
  comlink: "4.4.2",
  piscina: "5.3.2",
  synckit: "0.12.3",
  tinypool: "2.2.0",
  workerpool: "10.0.3",
};

/** Those that run in Deno. */
const DENO_VERSIONS = { kkrpc: "0.2.2", "poolifier-web-worker": "0.5.15" };

const PIPE = "this module, pipe";
const QUEUE = "this module, queue";
const SHM = "this module, shm";
const COMLINK = "Node, comlink";
const CAPNWEB = "Node, capnweb";
const KKRPC = "Deno, kkrpc";
const PISCINA = "Node, piscina";
const POOLIFIER = "Deno, poolifier-web-worker";
const SYNCKIT = "Node, synckit";
const TINYPOOL = "Node, tinypool";
const WORKERPOOL = "Node, workerpool";

/** The pools of Python, and the programs that have them. */
const PYTHONS: Record<string, string> = {
  multiprocessing: "python3",
  ProcessPoolExecutor: "python3",
  InterpreterPoolExecutor: "python3.14",
};

function pythonLabel(pool: string): string {
  return `Python, ${pool === "multiprocessing" ? `${pool}.Pool` : pool}`;
}

const CHUNK = 64;

function chunkLabel(pool: string): string {
  return `${pythonLabel(pool)}, chunks of ${CHUNK}`;
}

const OWN: readonly string[] = [PIPE, QUEUE, SHM];
const JAVASCRIPT: readonly string[] = [
  ...[COMLINK, CAPNWEB, KKRPC, PISCINA, POOLIFIER, TINYPOOL, WORKERPOOL],
];
const PYTHON: readonly string[] = Object.keys(PYTHONS).map(pythonLabel);
const CHUNKS: readonly string[] = Object.keys(PYTHONS).map(chunkLabel);

/** Few, so that all contenders take less than six minutes. */
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
    rounds: 7,
    who: [...OWN, ...JAVASCRIPT, ...PYTHON],
    targets: [{
      label: SHM,
      text: "shm, at most 0.30 times the best peer",
      against: [...JAVASCRIPT, ...PYTHON],
      bound: 0.3,
    }],
  },
  {
    name: "calls64",
    title: "Calls with a log line, 64 in flight",
    unit: "calls/s",
    isRate: true,
    count: 50_000,
    warm: 20_000,
    rounds: ROUNDS,
    who: [...OWN, ...JAVASCRIPT, ...PYTHON, ...CHUNKS],
    targets: [{
      label: SHM,
      text: "shm, at least 3.00 times the best peer with a call in a message",
      against: [...JAVASCRIPT, ...PYTHON],
      bound: 3,
    }, {
      label: SHM,
      text: "shm, at least 2.00 times the best chunks in Python",
      against: CHUNKS,
      bound: 2,
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
    who: [...OWN, ...JAVASCRIPT, ...CHUNKS],
    targets: [
      mapTarget(SHM, "shm"),
      mapTarget(QUEUE, "queue"),
      mapTarget(PIPE, "pipe"),
    ],
  },
  {
    name: "sync",
    title: "A call with a log line that blocks its thread",
    unit: "microseconds",
    isRate: false,
    count: 5_000,
    warm: 5_000,
    rounds: 7,
    who: [SHM, SYNCKIT],
    targets: [{
      label: SHM,
      text: "shm, at most 0.70 times synckit",
      against: [SYNCKIT],
      bound: 0.7,
    }],
  },
  ...STREAM_SCENARIOS.map((scenario) => ({ ...scenario, rounds: 3 })),
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

/** The contenders from npm; without it none, and a line with the reason. */
async function npm(): Promise<Contender[]> {
  const versions = Object.entries({ ...VERSIONS, ...DENO_VERSIONS })
    .map((entry) => entry.join(" ")).join(", ");
  try {
    const folder = await npmFolder("jobs", VERSIONS, DENO_VERSIONS);
    console.log(`${versions}, from npm`);
    const of = (label: string, name: string, share: number): Contender => {
      const args = [pathOf(`peers/jobs_${name}.mjs`)];
      return { label, command: "node", args, more: [folder], share };
    };
    const inDeno = (label: string, name: string, share: number): Contender =>
      deno(label, `peers/jobs_${name}.mjs`, {
        flags: ["--no-config", "--no-lock", "--node-modules-dir=manual"],
        more: [folder],
        share,
      });
    return [
      of(COMLINK, "comlink", 0.5),
      of(CAPNWEB, "capnweb", 0.3),
      inDeno(KKRPC, "kkrpc", 0.3),
      of(PISCINA, "piscina", 1),
      inDeno(POOLIFIER, "poolifier", 0.4),
      of(SYNCKIT, "synckit", 1),
      of(TINYPOOL, "tinypool", 1),
      of(WORKERPOOL, "workerpool", 0.2),
    ];
  } catch (error) {
    const why = error instanceof Error ? error.message : error;
    console.log(`${versions} are left out: ${why}`);
    return [];
  }
}

/** The contenders in Python: each pool with one call a message, and with chunks. */
function python(): Contender[] {
  const args = [pathOf("peers/jobs_python.py")];
  return Object.entries(PYTHONS).flatMap(([pool, command]) => [
    { label: pythonLabel(pool), command, args, more: ["1", pool], share: 0.1 },
    {
      label: chunkLabel(pool),
      command,
      args,
      more: [String(CHUNK), pool],
      share: 1.5,
    },
  ]);
}

if (import.meta.main) {
  await runScenarios(SCENARIOS, [
    own(PIPE, "pipe"),
    own(QUEUE, "queue"),
    own(SHM, "shm"),
    ...await npm(),
    ...python(),
    ...STREAM_CONTENDERS,
  ]);
}
