// Copyright 2026 the Duplex authors. MIT license.

/**
 * Compares `openPipe` with Python's `multiprocessing.Pipe`, Node's `fork` and Deno's
 * bare child processes: `deno task bench pipe`. `--quick` does a fifth of it;
 * arguments select scenarios by name.
 *
 * Each figure is the median of several rounds in which the contenders take turns. In
 * every round each one is a new program with a new child; it warms up, measures
 * itself and ends. Log lines are the 1 000 different ones of `_messages.mjs`; a
 * megabyte has 1 000 000 bytes, a MiB 1 048 576.
 *
 * @module
 */

import { type Contender, deno, pathOf } from "./_contender.ts";
import { runScenarios, type Scenario } from "./_scenario.ts";
import type { Target } from "./_table.ts";

const OWN = "this module";
const PYTHON = "Python, multiprocessing.Pipe";
const NODE_JSON = "Node, fork, json";
const NODE_ADVANCED = "Node, fork, advanced";
const DENO = "Deno, bare standard streams";
const DENO_KEPT = "the same, each MiB kept";

const LINES_TARGET: Target = {
  label: OWN,
  text: "at least 2.00 times the better of Python and Node",
  against: [PYTHON, NODE_JSON, NODE_ADVANCED],
  bound: 2,
};

const BYTES_TARGET: Target = {
  label: OWN,
  text: "at least 0.95 times Deno's bare standard streams",
  against: [DENO],
  bound: 0.95,
};

const SCENARIOS: readonly Scenario[] = [
  {
    name: "round-trip",
    title: "A log line there and back",
    unit: "microseconds",
    isRate: false,
    count: 2_000,
    warm: 1_000,
    who: [OWN, PYTHON, NODE_JSON, NODE_ADVANCED, DENO],
    targets: [{
      label: OWN,
      text: "at most 1.00 times Python's Pipe",
      against: [PYTHON],
      bound: 1,
    }],
  },
  {
    name: "lines-out",
    title: "Log lines one way, to the worker",
    unit: "lines/s",
    isRate: true,
    count: 100_000,
    warm: 20_000,
    who: [OWN, PYTHON, NODE_JSON, NODE_ADVANCED],
    targets: [LINES_TARGET],
  },
  {
    name: "lines-in",
    title: "Log lines one way, from the worker",
    unit: "lines/s",
    isRate: true,
    count: 100_000,
    warm: 20_000,
    who: [OWN, PYTHON, NODE_JSON, NODE_ADVANCED],
    targets: [LINES_TARGET],
  },
  {
    name: "bytes-out",
    title: "1 MiB of bytes one way, to the worker",
    unit: "megabytes/s",
    isRate: true,
    count: 300,
    warm: 30,
    who: [OWN, DENO, DENO_KEPT, PYTHON, NODE_ADVANCED],
    targets: [BYTES_TARGET],
  },
  {
    name: "bytes-in",
    title: "1 MiB of bytes one way, from the worker",
    unit: "megabytes/s",
    isRate: true,
    count: 300,
    warm: 30,
    who: [OWN, DENO, DENO_KEPT, PYTHON, NODE_ADVANCED],
    targets: [BYTES_TARGET],
  },
  {
    name: "open",
    title: "Opening a worker and the first answer",
    unit: "milliseconds",
    isRate: false,
    count: 3,
    warm: 1,
    rounds: 10,
    who: [OWN, DENO, PYTHON, NODE_JSON],
    targets: [{
      label: OWN,
      text: "at most 1.50 times Deno's bare child",
      against: [DENO],
      bound: 1.5,
    }],
  },
];

function node(label: string, serialization: string): Contender {
  const args = [pathOf("peers/pipe_node.mjs")];
  return { label, command: "node", args, more: [serialization] };
}

const CONTENDERS: readonly Contender[] = [
  deno(OWN, "workers/pipe_main.ts", { column: "this" }),
  { label: PYTHON, command: "python3", args: [pathOf("peers/pipe_python.py")] },
  node(NODE_JSON, "json"),
  node(NODE_ADVANCED, "advanced"),
  deno(DENO, "peers/pipe_deno.ts"),
  deno(DENO_KEPT, "peers/pipe_deno.ts", { more: ["keep"] }),
];

if (import.meta.main) await runScenarios(SCENARIOS, CONTENDERS);
