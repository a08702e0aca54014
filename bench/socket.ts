// Copyright 2026 the Duplex authors. MIT license.

/**
 * Compares `openSocket` and `listenSocket` with Deno's bare sockets, Python's
 * `multiprocessing.connection` and zeromq in Node, over TCP on this machine and over
 * Unix sockets: `deno task bench socket`. `--quick` does a fifth of it; arguments
 * select scenarios by name.
 *
 * Each figure is the median of several rounds in which the contenders take turns. In
 * every round each one is a process that listens and starts another one, which
 * connects; it warms up, measures itself and ends. A check sum covers every received
 * message.
 *
 * Deno's bare sockets carry JSON after its length; lines in one direction are written
 * in groups of up to 64 KiB. "Opaque" sends 140 bytes there and back without decoding
 * them. zeromq carries JSON as well, Python pickles. zeromq is installed once from
 * npm, into a folder of Deno's cache, and omitted if that fails.
 *
 * Over many connections, one process sends lines with the number of the connection
 * and of the line, and the other checks that each arrives once and in order. Only the
 * lines are timed. The memory of an idle connection is the growth of the resident
 * memory of the listening process, after a garbage collection; memory of the system
 * is not included.
 *
 * No contender may fill the memory of a slow receiver. This package limits it with
 * its default window, zeromq with 1000 lines or 16 MiB on each side, the others with
 * the small buffers of the system. Measure round trips on an idle machine, as in
 * `workers.ts`.
 *
 * @module
 */

import { type Contender, deno, pathOf } from "./_contender.ts";
import { npmFolder } from "./_npm.ts";
import { runScenarios, type Scenario } from "./_scenario.ts";
import type { Target } from "./_table.ts";

/** The version that was tested last; the package contains its programs. */
const ZEROMQ_VERSION = "6.8.0";

/** Few, so that all contenders and scenarios take three minutes. */
const ROUNDS = 5;

/** The contenders over TCP, or over Unix sockets. */
interface Form {
  own: string;
  raw: string;
  opaque: string;
  python: string;
  zeromq: string;
}

function form(name: string, zeromq: string): Form {
  return {
    own: `this module, ${name}`,
    raw: `Deno, bare sockets, ${name}`,
    opaque: `Deno, bare sockets, opaque, ${name}`,
    python: `Python, connection, ${name}`,
    zeromq: `Node, zeromq, ${zeromq}`,
  };
}

const TCP = form("TCP", "tcp");
const UNIX = form("Unix", "ipc");
const FORMS: readonly Form[] = [TCP, UNIX];

/** The target: at least this many times as fast as the better of the others. */
function target(name: string, { own, python, zeromq }: Form, bound: number) {
  const text = `${name}, at least ${bound.toFixed(2)} times the better peer`;
  return { label: own, text, against: [python, zeromq], bound };
}

function targets(bound: number): Target[] {
  return [target("TCP", TCP, bound), target("Unix", UNIX, bound)];
}

const ALL = FORMS.flatMap(({ own, raw, python, zeromq }) => [
  own,
  raw,
  python,
  zeromq,
]);
const OWN_AND_RAW = FORMS.flatMap(({ own, raw }) => [own, raw]);

const SCENARIOS: readonly Scenario[] = [
  {
    name: "round-trip",
    title: "A log line there and back",
    unit: "microseconds",
    isRate: false,
    count: 2_000,
    warm: 2_000,
    // The time differs between processes on one core and on two.
    rounds: 11,
    who: [...ALL, TCP.opaque, UNIX.opaque],
    targets: [{
      label: TCP.own,
      text: "TCP, at most 1.20 times bare sockets",
      against: [TCP.raw],
      bound: 1.2,
    }, {
      label: UNIX.own,
      text: "Unix, at most 1.20 times bare sockets",
      against: [UNIX.raw],
      bound: 1.2,
    }],
  },
  {
    name: "lines",
    title: "Log lines one way",
    unit: "lines/s",
    isRate: true,
    count: 150_000,
    warm: 100_000,
    rounds: ROUNDS,
    who: ALL,
    targets: targets(2.5),
  },
  {
    name: "bytes",
    title: "1 MiB of bytes one way",
    unit: "megabytes/s",
    isRate: true,
    count: 300,
    warm: 60,
    rounds: ROUNDS,
    who: ALL,
    targets: targets(1.2),
  },
  {
    name: "many",
    title: "100 lines over each of 1,000 connections",
    unit: "lines/s",
    isRate: true,
    // Repetitions for each connection.
    count: 3,
    warm: 2,
    rounds: ROUNDS,
    who: OWN_AND_RAW,
    targets: [],
  },
  {
    name: "idle",
    title: "Memory of an idle connection",
    unit: "KiB",
    isRate: false,
    count: 1_000,
    warm: 200,
    rounds: ROUNDS,
    who: OWN_AND_RAW,
    targets: [],
  },
];

/** zeromq over both; without npm nothing, and a line with the reason. */
async function zeromq(): Promise<Contender[]> {
  try {
    const folder = await npmFolder("zeromq", { zeromq: ZEROMQ_VERSION });
    console.log(`zeromq ${ZEROMQ_VERSION}, from npm`);
    const args = [pathOf("peers/socket_zeromq.mjs")];
    return [
      { label: TCP.zeromq, command: "node", args, more: ["tcp", folder] },
      { label: UNIX.zeromq, command: "node", args, more: ["ipc", folder] },
    ];
  } catch (error) {
    const why = error instanceof Error ? error.message : error;
    console.log(`zeromq ${ZEROMQ_VERSION} is omitted: ${why}`);
    return [];
  }
}

/** The contenders without an installation, over one of both. */
function contenders({ own, raw, opaque, python }: Form, how: string) {
  const flags = ["--v8-flags=--expose-gc"];
  const bare = "peers/socket_deno.ts";
  const column = how === "tcp" ? "TCP" : "Unix";
  return [
    deno(own, "workers/socket_main.ts", { flags, column, more: [how] }),
    deno(raw, bare, { flags, more: [how] }),
    deno(opaque, bare, { flags, more: [how, "opaque"] }),
    {
      label: python,
      command: "python3",
      args: [pathOf("peers/socket_python.py")],
      more: [how],
    },
  ] satisfies Contender[];
}

if (import.meta.main) {
  await runScenarios(SCENARIOS, [
    ...contenders(TCP, "tcp"),
    ...contenders(UNIX, "unix"),
    ...await zeromq(),
  ]);
}
