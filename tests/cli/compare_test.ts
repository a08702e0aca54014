// Copyright 2026 the Duplex authors. MIT license.

/**
 * `cli.ts compare`: real transports, measured for a moment each, and what is made
 * of figures. A test holds exactly the permissions that it speaks of.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { main } from "../../cli.ts";
import { compareTransports, recommend } from "../../_cli/compare.ts";
import {
  escapeXml,
  formatNumber,
  formatTime,
  renderChart,
  renderTable,
} from "../../_cli/compare_chart.ts";
import {
  type Effort,
  type Figures,
  measureAll,
  type Outcome,
  type Outcomes,
  type Transport,
  TRANSPORTS,
} from "../../_cli/compare_measure.ts";
import { quantile } from "../../_cli/measure.ts";
import { Processes, within } from "../workers/_processes.ts";

const EXEC = Deno.execPath();
const ROOT = new URL("../..", import.meta.url).pathname;
const IS_WINDOWS = Deno.build.os === "windows";

/** A folder of this run's own, and what is not in it. */
const FOLDER = Deno.makeTempDirSync({ prefix: "duplex_compare_" });
const MISSING = `${FOLDER}/missing`;
addEventListener("unload", () => {
  try {
    Deno.removeSync(FOLDER, { recursive: true });
  } catch {
    // Where a test with narrow permissions ends the process, its error is told.
  }
});

/** A message each way. */
const EFFORT: Effort = { rounds: 1, budget: 1, warmUp: 1, limit: 1_000 };

/** A test that fails by name when it would wait forever. */
function test(
  name: string,
  permissions: Deno.PermissionOptions,
  fn: (t: Deno.TestContext) => void | Promise<void>,
): void {
  Deno.test({
    name,
    permissions,
    ignore: IS_WINDOWS,
    fn: async (t) => await within(Promise.resolve(fn(t))),
  });
}

/** What a command printed, and its exit code. */
interface Printed {
  code: number;
  stdout: string;
  stderr: string;
}

/** Runs a command here. */
async function run(command: () => Promise<number>): Promise<Printed> {
  const printed = { stdout: "", stderr: "" };
  const streams = ["stdout", "stderr"] as const;
  for (const name of streams) {
    Deno[name].writeSync = (bytes) => {
      printed[name] += new TextDecoder().decode(bytes);
      return bytes.length;
    };
  }
  try {
    return { code: await command(), ...printed };
  } finally {
    // The method of the class is there again.
    for (const name of streams) {
      delete (Deno[name] as { writeSync?: unknown }).writeSync;
    }
  }
}

/** Watches the folders that are made for sockets. */
class Folders implements Disposable {
  readonly #makeTempDir = Deno.makeTempDir;
  readonly paths: string[] = [];

  constructor(onFolder: () => void = () => {}) {
    Deno.makeTempDir = async (options) => {
      const path = await this.#makeTempDir(options);
      this.paths.push(path);
      onFolder();
      return path;
    };
  }

  /** Each of them was removed. */
  async assertGone(): Promise<void> {
    for (const path of this.paths) {
      await assertRejects(() => Deno.stat(path), Deno.errors.NotFound);
    }
  }

  [Symbol.dispose](): void {
    Deno.makeTempDir = this.#makeTempDir;
  }
}

/** The line of a table that is about a transport. */
function rowOf(table: string, transport: Transport): string {
  const rows = table.split("\n").filter((line) =>
    line.startsWith(`  ${transport} `)
  );
  assertEquals(rows.length, 1, `${transport} in:\n${table}`);
  return rows[0]!;
}

const FIGURES =
  /^ {2}[a-z ]+?( +[\d.]+ (µs|ms|s)){2}( +[\d. ]+){4} [\d.]+ m?s$/;

/** Complains of what is no XML, as far as the charts go. */
function assertWellFormed(text: string): void {
  const open: string[] = [];
  const token =
    /<(\/?)([a-z]+)((?:\s[\w:-]+="(?:[^"<&]|&#\d+;)*")*)(\/?)>|((?:[^<&]|&#\d+;)+)/y;
  while (token.lastIndex < text.length) {
    const at = token.lastIndex;
    const [all, isEnd, name, , isEmpty] = token.exec(text) ?? [];
    assert(all !== undefined, `No XML: ${text.slice(at, at + 80)}`);
    if (name === undefined || isEmpty) continue;
    if (isEnd) assertEquals(open.pop(), name);
    else open.push(name);
  }
  assertEquals(open, []);
}

const WRONG: [args: string[], text: string][] = [
  [
    ["--size", "0"],
    '--size takes an integer from 1 to 67108864: current value is "0"',
  ],
  [["--size", "67108865"], "--size takes an integer"],
  [["--size=1.5"], "--size takes an integer"],
  [["--size=1k"], "--size takes an integer"],
  [["--size=-1"], "--size takes an integer"],
  [["--size"], "--size takes a value"],
  [["--size=1", "--size=2"], "--size is given more than once"],
  [["--svg"], "--svg takes a value"],
  [["--png", "x"], 'there is no option "--png"'],
  [["1024"], 'compare takes options only, and more is given: "1024"'],
  [["--", "-q"], 'compare takes options only, and more is given: "-q"'],
];

test(
  "compare says in a line what is wrong with arguments",
  "none",
  async () => {
    for (const [args, text] of WRONG) {
      const { code, stdout, stderr } = await run(() =>
        main(["compare", ...args])
      );
      assertStringIncludes(stderr, text);
      assertEquals(stderr.match(/\n/g)?.length, 1);
      assertEquals({ code, stdout }, { code: 2, stdout: "" });
    }
  },
);

test("compare prints its help", "none", async () => {
  const { code, stdout, stderr } = await run(() => main(["compare", "-h"]));
  assertEquals({ code, stderr }, { code: 0, stderr: "" });
  assertStringIncludes(stdout, "--size BYTES");
  assertStringIncludes(stdout, "--allow-run=deno ");
  assertEquals(stdout.split("\n").filter((line) => line.length > 80), []);
});

test(
  "compareTransports() measures every transport, draws it, and leaves nothing",
  {
    run: [EXEC],
    net: true,
    read: [ROOT, FOLDER, "/tmp"],
    write: [FOLDER, "/tmp"],
  },
  async () => {
    using processes = new Processes();
    using folders = new Folders();
    const svg = `${FOLDER}/chart.svg`;
    // What is there is longer, and goes.
    await Deno.writeTextFile(svg, "x".repeat(1e5));
    const { code, stdout, stderr } = await run(() =>
      compareTransports({ size: 100, svg, effort: EFFORT })
    );
    assertEquals(code, 0, stdout + stderr);
    assertMatch(stdout, /^A message of 100 bytes:\n/);
    for (const transport of TRANSPORTS) {
      assertMatch(rowOf(stdout, transport), FIGURES);
    }
    assertEquals(stdout.match(/^Take /gm)?.length, 1);
    const chart = await Deno.readTextFile(svg);
    assertWellFormed(chart);
    assertEquals(chart.match(/class="bar"/g)?.length, 2 * 4);
    assertEquals(chart.match(/class="best"/g)?.length, 2);
    // The pipe, and the far sides of the sockets.
    assertEquals([processes.started, processes.running], [3, 0]);
    assertEquals(folders.paths.length, 1);
    await folders.assertGone();
  },
);

test(
  "compareTransports() tells what fails and what is missing, and measures the rest",
  {
    run: [EXEC],
    net: true,
    env: ["TMPDIR"],
    read: [MISSING],
    write: [MISSING],
  },
  async () => {
    using processes = new Processes();
    const folder = Deno.env.get("TMPDIR");
    Deno.env.set("TMPDIR", MISSING);
    try {
      const { code, stdout, stderr } = await run(() =>
        compareTransports({ size: 1, svg: undefined, effort: EFFORT })
      );
      assertEquals(code, 1);
      assertStringIncludes(
        stderr,
        "error: not every transport could be measure",
      );
      assertMatch(rowOf(stdout, "pipe"), FIGURES);
      assertMatch(rowOf(stdout, "tcp socket"), FIGURES);
      assertStringIncludes(
        rowOf(stdout, "unix socket"),
        "failed: No such file",
      );
      for (const transport of ["queue", "shm"] as const) {
        const row = rowOf(stdout, transport);
        assertStringIncludes(row, `left out: needs --allow-read=${ROOT}`);
      }
      assertEquals([processes.started, processes.running], [2, 0]);
    } finally {
      if (folder === undefined) Deno.env.delete("TMPDIR");
      else Deno.env.set("TMPDIR", folder);
    }
  },
);

test("compareTransports() starts nothing without permissions, and says which", {
  read: [FOLDER],
  write: [FOLDER],
}, async () => {
  using processes = new Processes();
  const { code, stdout, stderr } = await run(() =>
    compareTransports({ size: 1, svg: MISSING, effort: EFFORT })
  );
  assertEquals(code, 1);
  assertStringIncludes(stderr, "error: no transport could be measured\n");
  const isRun = `left out: needs --allow-run=${EXEC}`;
  assertStringIncludes(rowOf(stdout, "pipe"), isRun);
  assertStringIncludes(
    rowOf(stdout, "tcp socket"),
    `${isRun} --allow-net=127.0.0.1`,
  );
  assertStringIncludes(
    rowOf(stdout, "unix socket"),
    `${isRun} --allow-net --allow-read=/tmp --allow-write=/tmp`,
  );
  assertEquals(processes.started, 0);
  // There is no file without a chart in it, and what was there stays.
  await assertRejects(() => Deno.stat(MISSING), Deno.errors.NotFound);
  const svg = `${FOLDER}/kept.svg`;
  await Deno.writeTextFile(svg, "kept");
  await run(() => compareTransports({ size: 1, svg, effort: EFFORT }));
  assertEquals(await Deno.readTextFile(svg), "kept");
});

test("compareTransports() says early that a chart cannot be written", {
  run: [EXEC],
  write: [FOLDER],
}, async () => {
  using processes = new Processes();
  const cases: [svg: string, text: string][] = [
    ["/none.svg", "run it again with --allow-write=/none.svg"],
    [FOLDER, "Is a directory"],
    [`${MISSING}/chart.svg`, "No such file or directory"],
  ];
  for (const [svg, text] of cases) {
    const { code, stdout, stderr } = await run(() =>
      compareTransports({ size: 1, svg, effort: EFFORT })
    );
    assertEquals({ code, stdout }, { code: 1, stdout: "" });
    assertStringIncludes(
      stderr,
      `error: --svg ${JSON.stringify(svg)} cannot be written: `,
    );
    assertStringIncludes(stderr, text);
    assertEquals(stderr.match(/\n/g)?.length, 1);
  }
  assertEquals(processes.started, 0);
});

test("measureAll() ends what it has begun when it is told to", {
  run: [EXEC],
  net: true,
  read: ["/tmp"],
  write: ["/tmp"],
}, async () => {
  using processes = new Processes();
  const controller = new AbortController();
  const reason = new Error("Enough");
  using folders = new Folders(() => controller.abort(reason));
  const { signal } = controller;
  const error = await assertRejects(() =>
    measureAll({ size: 1, effort: EFFORT, signal })
  );
  assertEquals(error, reason);
  assertEquals(folders.paths.length, 1);
  await folders.assertGone();
  assertEquals(processes.running, 0);
});

/** Figures that nobody has measured. */
function measured(
  trip: number,
  rate: number,
  more?: Partial<Figures>,
): Outcome {
  const figures = {
    trip,
    slowTrip: 2 * trip,
    out: rate,
    in: rate,
    open: 20,
    ...more,
  };
  return { state: "measured", figures };
}

function outcomesOf(outcomes: Partial<Record<Transport, Outcome>>): Outcomes {
  return new Map(Object.entries(outcomes) as [Transport, Outcome][]);
}

const MISSED: Outcome = { state: "missing", why: "needs --allow-run=deno" };

const THREAD =
  "Its worker is a thread of this program, which Deno cannot end while it computes";
const LISTENS = "It does not start its worker: a server must run";

const ADVICE: [
  name: string,
  outcomes: Partial<Record<Transport, Outcome>>,
  text: string | undefined,
][] = [
  ["nothing", {}, undefined],
  ["nothing that could be measured", { pipe: MISSED }, undefined],
  [
    "the only one",
    { pipe: measured(106, 919_000), shm: MISSED },
    "Take pipe, the only one that could be measured: a message of 1024 bytes goes there and back in 110 µs, and at least 920 000 a second go each way. Its worker is a process, which can always be ended.",
  ],
  [
    "the best in both",
    {
      pipe: measured(106, 919_000),
      queue: measured(86, 749_000),
      shm: measured(26, 1_540_000),
    },
    `Take shm: a message of 1024 bytes goes there and back in 26 µs, 3.3 times as fast as over queue, the next, and at least 1 500 000 a second go each way, 2.1 times as many. ${THREAD}; pipe has a process, there and back in 4.1 times the time.`,
  ],
  [
    "more gained by the way there and back than lost by the rate",
    { queue: measured(30, 200_000), shm: measured(10, 100_000) },
    `Take shm: a message of 1024 bytes goes there and back in 10 µs, 3 times as fast as over queue, the next, but at least 100 000 a second go each way, against 200 000 there. ${THREAD}.`,
  ],
  [
    "more gained by the rate than lost by the way there and back",
    { pipe: measured(10, 100_000), queue: measured(20, 400_000) },
    `Take queue: a message of 1024 bytes goes there and back in 20 µs, against 10 µs over pipe, the next, but at least 400 000 a second go each way, 4 times as many. ${THREAD}; pipe has a process, there and back in 0.5 times the time.`,
  ],
  [
    "the slower way counts",
    {
      pipe: measured(10, 100_000),
      shm: measured(10, 1_000_000, { in: 10_000 }),
    },
    "Take pipe: a message of 1024 bytes goes there and back in 10 µs, about as fast as over shm, the next, and at least 100 000 a second go each way, 10 times as many. Its worker is a process, which can always be ended.",
  ],
  [
    "a process among equals",
    { pipe: measured(11, 100_000), shm: measured(10, 100_000) },
    "Take pipe, about as fast as any: a message of 1024 bytes goes there and back in 11 µs, about as fast as over shm, the next, and at least 100 000 a second go each way, about as many. Its worker is a process, which can always be ended.",
  ],
  [
    "what starts its worker among equals",
    { shm: measured(10, 100_000), "unix socket": measured(9, 100_000) },
    `Take shm, about as fast as any: a message of 1024 bytes goes there and back in 10 µs, about as fast as over unix socket, the next, and at least 100 000 a second go each way, about as many. ${THREAD}.`,
  ],
  [
    "a socket",
    {
      pipe: measured(30, 100_000),
      "unix socket": measured(10, 100_000),
      "tcp socket": measured(20, 100_000),
    },
    `Take unix socket: a message of 1024 bytes goes there and back in 10 µs, 2 times as fast as over tcp socket, the next, and at least 100 000 a second go each way, about as many. ${LISTENS}; pipe starts one, there and back in 3 times the time.`,
  ],
  [
    "sockets alone",
    {
      "unix socket": measured(10, 100_000),
      "tcp socket": measured(20, 100_000),
    },
    `Take unix socket: a message of 1024 bytes goes there and back in 10 µs, 2 times as fast as over tcp socket, the next, and at least 100 000 a second go each way, about as many. ${LISTENS}.`,
  ],
];

test("recommend() weighs figures and says how", "none", async (t) => {
  for (const [name, outcomes, text] of ADVICE) {
    await t.step(name, () => {
      assertEquals(recommend(1024, outcomesOf(outcomes))?.text, text);
    });
  }
});

test(
  "renderTable() keeps its columns, and the order of the transports",
  "none",
  () => {
    const lines = renderTable(
      1024,
      outcomesOf({
        "tcp socket": measured(1.2e6, 4.76),
        shm: measured(26, 1_540_000),
        pipe: { state: "failed", error: new Error("one\ntwo") },
        queue: MISSED,
      }),
    );
    assertEquals(lines, [
      "              round trip  99 % within     sent/s    MB/s  received/s    MB/s  to open",
      "  pipe        failed: one two",
      "  queue       left out: needs --allow-run=deno",
      "  shm              26 µs        52 µs  1 500 000   1 600   1 500 000   1 600    20 ms",
      "  tcp socket       1.2 s        2.4 s        4.8  0.0049         4.8  0.0049    20 ms",
    ]);
  },
);

test("renderChart() draws well-formed SVG of whatever was said", "none", () => {
  const text = `<script>alert("1 & 2")</script>\u0000\ud800`;
  const svg = renderChart({
    size: 1,
    outcomes: outcomesOf({
      pipe: { state: "failed", error: new Error(text) },
      queue: { state: "missing", why: `needs "${"x".repeat(500)}"` },
      shm: measured(26, 1_540_000),
      "unix socket": measured(52, 1),
    }),
    best: "shm",
    text,
  });
  assertWellFormed(svg);
  assertStringIncludes(svg, "A message of 1 byte over each transport");
  assert(!svg.includes("<script"));
  assertEquals(svg.match(/<text class="note"[^]*?<\/text>/g)?.length, 2);
  const widths = svg.match(/<rect class="(bar|best)"[^]*? width="\d+"/g)!
    .map((rect) => Number(/width="(\d+)"/.exec(rect)![1]));
  // The longest bar, its half, and one that can be seen.
  assertEquals(widths, [170, 340, 340, 1]);
});

test("escapeXml() leaves nothing that XML would read", "none", () => {
  assertEquals(
    escapeXml(`a<b>&"c"'\u0000\u001b\ud800\ufffe 世界 🙂`),
    "a&#60;b&#62;&#38;&#34;c&#34;&#39;\ufffd\ufffd\ufffd\ufffd 世界 🙂",
  );
});

test("formatNumber() and formatTime() keep two figures", "none", () => {
  const numbers: [number, string][] = [
    [0.0123, "0.012"],
    [1, "1"],
    [9.96, "10"],
    [123, "120"],
    [1_540_000, "1 500 000"],
  ];
  for (const [number, text] of numbers) {
    assertEquals(formatNumber(number), text);
  }
  const times: [number, string][] = [
    [0.44, "0.44 µs"],
    [26.4, "26 µs"],
    [999.6, "1 ms"],
    [20_123, "20 ms"],
    [1_234_567, "1.2 s"],
  ];
  for (const [time, text] of times) assertEquals(formatTime(time), text);
});

test("quantile() takes a sample by its rank", "none", () => {
  const samples = [5, 1, 4, 2, 3];
  const ranks = [0, 0.2, 0.21, 0.5, 0.99, 1];
  const taken = ranks.map((share) => quantile(samples, share));
  assertEquals(taken, [1, 1, 2, 3, 5, 5]);
  assertEquals(samples, [5, 1, 4, 2, 3]);
});
