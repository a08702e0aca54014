// Copyright 2026 the Duplex authors. MIT license.

/**
 * Measures `openPipe` against Python's `multiprocessing.Pipe`, Node's `fork`
 * and Deno's bare child processes, in one run: `deno task bench pipe`, or with
 * `--quick` a fifth of it.
 *
 * Each figure is the median of several rounds in which the contenders take
 * turns. In every round each one is a program of its own, with a child of its
 * own; it warms up, measures itself and ends. Log lines are the 1 000 different
 * ones of `_log_line.ts`; a megabyte is 1 000 000 bytes, a MiB 1 048 576.
 *
 * @module
 */

import { type Contender, firstLine, runRounds } from "./_contender.ts";
import { printMachine } from "./_machine.ts";
import { printTable, type Target } from "./_table.ts";

const PYTHON = "Python, multiprocessing.Pipe";
const NODE_JSON = "Node, fork, json";
const NODE_ADVANCED = "Node, fork, advanced";
const DENO = "Deno, bare standard streams";
const DENO_KEPT = "the same, each MiB kept";

const ROUNDS = 7;
const QUICK_ROUNDS = 3;
/** How much less there is to do with `--quick`. */
const QUICK = 5;

interface Scenario {
  name: string;
  title: string;
  unit: string;
  isRate: boolean;
  count: number;
  warm: number;
  rounds?: number;
  others: readonly string[];
  target: Target;
}

const LINES_TARGET: Target = {
  text: "at least 2.00 times the better of Python and Node",
  against: [PYTHON, NODE_JSON, NODE_ADVANCED],
  ratio: 2,
};

const BYTES_TARGET: Target = {
  text: "at least 0.95 times Deno's bare standard streams",
  against: [DENO],
  ratio: 0.95,
};

const SCENARIOS: readonly Scenario[] = [
  {
    name: "round-trip",
    title: "A log line there and back",
    unit: "microseconds",
    isRate: false,
    count: 2_000,
    warm: 1_000,
    others: [PYTHON, NODE_JSON, NODE_ADVANCED, DENO],
    target: {
      text: "at most 1.00 times Python's Pipe",
      against: [PYTHON],
      ratio: 1,
    },
  },
  {
    name: "lines-out",
    title: "Log lines one way, to the worker",
    unit: "lines/s",
    isRate: true,
    count: 100_000,
    warm: 20_000,
    others: [PYTHON, NODE_JSON, NODE_ADVANCED],
    target: LINES_TARGET,
  },
  {
    name: "lines-in",
    title: "Log lines one way, from the worker",
    unit: "lines/s",
    isRate: true,
    count: 100_000,
    warm: 20_000,
    others: [PYTHON, NODE_JSON, NODE_ADVANCED],
    target: LINES_TARGET,
  },
  {
    name: "bytes-out",
    title: "1 MiB of bytes one way, to the worker",
    unit: "megabytes/s",
    isRate: true,
    count: 300,
    warm: 30,
    others: [DENO, DENO_KEPT, PYTHON, NODE_ADVANCED],
    target: BYTES_TARGET,
  },
  {
    name: "bytes-in",
    title: "1 MiB of bytes one way, from the worker",
    unit: "megabytes/s",
    isRate: true,
    count: 300,
    warm: 30,
    others: [DENO, DENO_KEPT, PYTHON, NODE_ADVANCED],
    target: BYTES_TARGET,
  },
  {
    name: "open",
    title: "Opening a worker and the first answer",
    unit: "milliseconds",
    isRate: false,
    count: 3,
    warm: 1,
    rounds: 10,
    others: [DENO, PYTHON, NODE_JSON],
    target: {
      text: "at most 1.50 times Deno's bare child",
      against: [DENO],
      ratio: 1.5,
    },
  },
];

function pathOf(name: string): string {
  return new URL(name, import.meta.url).pathname;
}

function deno(label: string, path: string, ...more: string[]): Contender {
  const args = ["run", "--quiet", "-A", pathOf(path)];
  return { label, command: Deno.execPath(), args, more };
}

function node(label: string, serialization: string): Contender {
  const args = [pathOf("peers/pipe_node.mjs")];
  return { label, command: "node", args, more: [serialization] };
}

/** Every contender whose program is installed here. */
async function contendersHere(): Promise<Contender[]> {
  const all: Contender[] = [
    deno("this module", "workers/pipe_main.ts"),
    {
      label: PYTHON,
      command: "python3",
      args: [pathOf("peers/pipe_python.py")],
    },
    node(NODE_JSON, "json"),
    node(NODE_ADVANCED, "advanced"),
    deno(DENO, "peers/pipe_deno.ts"),
    deno(DENO_KEPT, "peers/pipe_deno.ts", "keep"),
  ];
  const here: Contender[] = [];
  for (const contender of all) {
    const version = await firstLine(contender.command, "--version");
    if (version !== undefined) here.push(contender);
  }
  return here;
}

async function measure(
  scenario: Scenario,
  contenders: readonly Contender[],
  quick: boolean,
): Promise<void> {
  const { name, count, warm, others } = scenario;
  const less = quick && count > QUICK ? QUICK : 1;
  const rounds = quick ? QUICK_ROUNDS : scenario.rounds ?? ROUNDS;
  const [own, ...rest] = contenders;
  const part = [own!, ...rest.filter(({ label }) => others.includes(label))];
  const args = [name, String(count / less), String(warm / less)];
  const rows = await runRounds(part, args, rounds);
  printTable({ ...scenario, rows });
}

if (import.meta.main) {
  const quick = Deno.args.includes("--quick");
  await printMachine();
  const contenders = await contendersHere();
  for (const scenario of SCENARIOS) {
    await measure(scenario, contenders, quick);
  }
}
