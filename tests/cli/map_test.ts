// Copyright 2026 the Duplex authors. MIT license.

/**
 * `cli.ts map`: what it makes of lines, workers and signals, over duplexes in
 * memory.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertLess,
  assertMatch,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import type { Duplex } from "@duplex/ipc/duplex";
import { duplexPair } from "@duplex/ipc/pair";
import { expose } from "@duplex/ipc/rpc";
import { UsageError } from "../../_cli/arguments.ts";
import {
  chooseMethod,
  type MapEnds,
  type MapLimits,
  mapLines,
  MapWorkers,
} from "../../_cli/map.ts";
import {
  type ByteSource,
  Items,
  LineReader,
  parseLine,
} from "../../_cli/map_input.ts";
import {
  type EndSignal,
  formatDuration,
  formatTaken,
  type ProgressState,
  renderProgress,
  StatusLine,
} from "../../_cli/terminal.ts";
import { within } from "../workers/_processes.ts";

/** A folder of this run's own. */
const FOLDER = Deno.makeTempDirSync({ prefix: "duplex_map_" });
addEventListener("unload", () => Deno.removeSync(FOLDER, { recursive: true }));

/** A test that fails by name when it would wait forever. */
function test(
  name: string,
  fn: () => void | Promise<void>,
): void {
  Deno.test({ name, fn: () => within(Promise.resolve(fn())) });
}

/** Gives bytes in chunks of a size, and then nothing, or waits. */
function sourceOf(
  input: string | Uint8Array,
  { chunk = Infinity, ends = true }: { chunk?: number; ends?: boolean } = {},
): ByteSource {
  let rest = typeof input === "string"
    ? new TextEncoder().encode(input)
    : input;
  return {
    async read(into) {
      if (rest.length === 0 && !ends) await new Promise(() => {});
      if (rest.length === 0) return null;
      const part = rest.subarray(0, Math.min(chunk, into.length));
      into.set(part);
      rest = rest.subarray(part.length);
      return part.length;
    },
  };
}

/** What a map of this process is made of, and what came of it. */
interface Run extends Partial<MapLimits>, Partial<MapEnds> {
  methods?: object;
}

interface Ran {
  code: number;
  /** Lines of standard output. */
  out: string;
  /** Lines of standard error, but for the time that it took. */
  err: string[];
}

/** Maps lines with workers of this process, one by default. */
async function run(input: string | ByteSource, given: Run = {}): Promise<Ran> {
  const { methods = { square: (n: number) => n * n } } = given;
  const decoder = new TextDecoder();
  const err: string[] = [];
  let out = "";
  const code = await mapLines(
    {
      method: undefined,
      workers: 1,
      ordered: true,
      strict: false,
      retries: 2,
      timeout: Infinity,
      errors: undefined,
      ...given,
    },
    {
      input: typeof input === "string" ? sourceOf(input) : input,
      output: {
        write(bytes) {
          out += decoder.decode(bytes, { stream: true });
          return Promise.resolve(bytes.length);
        },
      },
      status: new StatusLine(undefined, (line) => {
        err.push(line.replace(/, in .*/, ""));
      }),
      stopped: new Promise(() => {}),
      openOne: () => Promise.resolve(inMemory(methods)),
      ...given,
    },
  );
  return { code, out, err };
}

/** A duplex to methods of this process. */
function inMemory(methods: object): Duplex {
  const [main, worker] = duplexPair();
  expose(methods, worker);
  // How it ends, the main side is told.
  main.closed.catch(() => {});
  return main;
}

const echo = { echo: (value: unknown) => value };

test("map gives results in the order of the lines, or as they come", async () => {
  const gate = Promise.withResolvers<void>();
  const late = new Set<number>();
  const methods = {
    async work(n: number) {
      if (n === 1 && late.size === 0) await gate.promise;
      if (n === 3) gate.resolve();
      return n;
    },
  };
  const given = { methods, workers: 2 };
  const ordered = await run("1\n2\n3\n4\n", given);
  assertEquals(ordered, { code: 0, out: "1\n2\n3\n4\n", err: [] });
  const second = Promise.withResolvers<void>();
  const unordered = await run("1\n2\n3\n4\n", {
    workers: 2,
    ordered: false,
    methods: {
      async work(n: number) {
        if (n === 1) await second.promise;
        if (n === 4) second.resolve();
        return n;
      },
    },
  });
  assertEquals(unordered.out.split("\n").toSorted().join(""), "1234");
  assertLess(unordered.out.indexOf("2"), unordered.out.indexOf("1"));
});

test("map reads lines however they are cut and ended", async () => {
  const input = '\ufeff"grüße 世界 😀"\r\n\n \t\r\n{"a":[1,null]}\n"last"';
  const out = '"grüße 世界 😀"\n{"a":[1,null]}\n"last"\n';
  for (const chunk of [1, 2, 3, 7, Infinity]) {
    assertEquals(await run(sourceOf(input, { chunk }), { methods: echo }), {
      code: 0,
      out,
      err: [],
    });
  }
  assertEquals(await run(""), { code: 0, out: "", err: [] });
  const none = { none: () => undefined };
  assertEquals((await run("1\n", { methods: none })).out, "null\n");
});

test("LineReader reads no further than the first end, which a terminal repeats", async () => {
  const parts = ["1\n2", null, "3\n"];
  const lines = new LineReader({
    read(into) {
      const part = parts.shift() ?? null;
      const count = part === null
        ? null
        : new TextEncoder().encodeInto(part, into).written;
      return Promise.resolve(count);
    },
  });
  const seen: (string | undefined)[] = [];
  for (let count = 0; count < 4; count++) {
    const line = await lines.next();
    seen.push(line && new TextDecoder().decode(line.bytes));
  }
  assertEquals(seen, ["1", "2", undefined, undefined]);
});

test("LineReader bounds a line, and counts all of its bytes", async () => {
  for (const chunk of [1, 4, Infinity]) {
    const source = sourceOf("12345\n123456\n1234567890\n1\n", { chunk });
    const lines = new LineReader(source, 5);
    const seen: unknown[] = [];
    for (let line; (line = await lines.next()) !== undefined;) {
      const { number, size } = line;
      seen.push([number, size, parseLine(line, 5).kind]);
    }
    assertEquals(seen, [[1, 6, "item"], [2, 7, "bad"], [3, 11, "bad"], [
      4,
      2,
      "item",
    ]]);
  }
  const long = parseLine({ number: 1, bytes: new Uint8Array(7).fill(0x31) }, 6);
  assert(long.kind === "bad");
  assertEquals(
    long.error.message,
    "Cannot read the line: it has more than 6 bytes",
  );
});

test("parseLine() gives an error whose text is printable", () => {
  for (const text of ["\u001b[2J", "\u202e1", "{\u0007}"]) {
    const bytes = new TextEncoder().encode(text);
    const parsed = parseLine({ number: 1, bytes });
    assert(parsed.kind === "bad");
    assert(!/[\p{C}\p{Zl}\p{Zp}]/u.test(parsed.error.message));
  }
});

class OddError extends Error {
  override name = "Odd";
}

const FAILING = {
  act(item: unknown) {
    if (item === "odd") throw new OddError("one\ntwo \u001b[31m");
    if (item === "text") throw "thrown";
    if (item === "date") return { at: new Date(0) };
    return item;
  },
};

test("map goes on after lines that fail, and tells of each", async () => {
  const { code, out, err } = await run(
    '1\n\nno\r\n"odd"\n"text"\n"date"\n7\n',
    { methods: FAILING, strict: true },
  );
  assertEquals({ code, out }, { code: 1, out: "1\n7\n" });
  assertEquals(err, [
    `line 3: SyntaxError: Cannot read the line as JSON: Unexpected token 'o', "no" is not valid JSON`,
    "line 4: Odd: one two ",
    "line 5: string: thrown",
    'line 6: TypeError: Cannot write the result as JSON: the value at "$.at" is of the class Date, which JSON cannot carry',
    "lines: 2 done, 4 failed",
  ]);
});

test("map writes results that JSON does not have in another form", async () => {
  const cycle: unknown[] = [];
  cycle.push({ cycle });
  const shared = { at: new Date(0) };
  const values = [
    1,
    new Map<string, unknown>([["at", new Date(0)], ["sizes", new Set([1n])]]),
    cycle,
    [shared, shared],
    undefined,
    { a: [NaN, undefined], b: undefined },
    "last",
  ];
  const methods = { get: (index: number) => values[index] };
  const lines = values.map((_, index) => `${index}\n`).join("");
  const { code, out, err } = await run(lines, { methods });
  assertEquals([code, out.trimEnd().split("\n")], [1, [
    "1",
    '{"at":"1970-01-01T00:00:00.000Z","sizes":[1]}',
    '[{"at":"1970-01-01T00:00:00.000Z"},{"at":"1970-01-01T00:00:00.000Z"}]',
    "null",
    '{"a":[null,null]}',
    '"last"',
  ]]);
  assertEquals(
    err[0],
    "line 3: TypeError: Cannot write the result as JSON: " +
      'the value at "$[0].cycle" is the object at "$" that contains it: ' +
      "a cycle cannot be sent",
  );
  const strict = await run(lines, { methods, strict: true });
  assertEquals(strict.out, '1\nnull\n"last"\n');
  assertStringIncludes(strict.err.join("\n"), 'the value at "$[0].at" is');
});

test("map writes lines that failed to a file", async () => {
  const errors = `${FOLDER}/errors.jsonl`;
  await Deno.writeTextFile(errors, "what was in it before\n".repeat(100));
  const bad = new Uint8Array([0x22, 0xff, 0x22, 0x0a]);
  const input = new Uint8Array([
    ...new TextEncoder().encode('{"a":\n"odd"\n'),
    ...bad,
  ]);
  const { code, err } = await run(sourceOf(input), {
    methods: FAILING,
    errors,
  });
  assertEquals({ code, err }, { code: 1, err: ["lines: 0 done, 3 failed"] });
  const lines = (await Deno.readTextFile(errors)).trimEnd().split("\n");
  assertEquals(lines.map((line) => JSON.parse(line)), [
    {
      line: 1,
      text: '{"a":',
      error: {
        name: "SyntaxError",
        message: "Cannot read the line as JSON: Unexpected end of JSON input",
      },
      attempts: 0,
    },
    {
      line: 2,
      item: "odd",
      error: { name: "Odd", message: "one\ntwo \u001b[31m" },
      attempts: 1,
    },
    {
      line: 3,
      text: '"\ufffd"',
      error: {
        name: "TypeError",
        message: "Cannot read the line: it is not valid UTF-8",
      },
      attempts: 0,
    },
  ]);
  await assertRejects(
    () => run("1\n", { errors: `${FOLDER}/none/file` }),
    Error,
    "cannot be written: No such file",
  );
});

test("map keeps what a standard stream reads or writes, where that is the file for failures", async () => {
  const [errors, link] = [`${FOLDER}/input.jsonl`, `${FOLDER}/link.jsonl`];
  await Deno.writeTextFile(errors, "1\n");
  await Deno.link(errors, link);
  const { size, dev, ino } = await Deno.stat(errors);
  const stat = { isFile: true, size, dev, ino: ino ?? 0 };
  for (
    const name of [
      "standard input",
      "standard output",
      "standard error",
    ] as const
  ) {
    const streams = () => Promise.resolve([{ ...stat, name }]);
    for (const path of [errors, link]) {
      await assertRejects(
        () => run("1\n", { errors: path, streams }),
        UsageError,
        `--errors ${JSON.stringify(path)} is ${name} as well`,
      );
    }
  }
  assertEquals(await Deno.readTextFile(errors), "1\n");
  // What is no file loses nothing, and neither does one with another number.
  for (const other of [{ isFile: false }, { ino: stat.ino + 1 }]) {
    await Deno.writeTextFile(errors, "1\n");
    const name = "standard input" as const;
    const streams = () => Promise.resolve([{ ...stat, name, ...other }]);
    assertEquals((await run("1\n", { errors, streams })).code, 0);
    assertEquals(await Deno.readTextFile(errors), "");
  }
});

test("map runs a line again whose worker ended, and gives it up then", async () => {
  const deaths = new Map<number, number>();
  const openOne = () => {
    const [main, worker] = duplexPair();
    main.closed.catch(() => {});
    const act = async (n: number) => {
      const before = deaths.get(n) ?? 0;
      deaths.set(n, before + 1);
      if (n === 2 || (n === 3 && before < 1)) {
        worker.abort(new Error("Out of paper"));
        await new Promise(() => {});
      }
      return n;
    };
    expose({ act }, worker);
    return Promise.resolve(main);
  };
  const { code, out, err } = await run("1\n2\n3\n4\n", { openOne, retries: 2 });
  assertEquals({ code, out }, { code: 1, out: "1\n3\n4\n" });
  // What was lost with it is run alone.
  assertEquals(deaths.get(2), 3);
  assertMatch(err[0]!, /^line 2: .*: Out of paper \(run 3 times\)$/);
});

test("map ends the worker of a line that takes too long", async () => {
  const methods = { act: (n: number) => n === 2 ? new Promise(() => {}) : n };
  const given = { methods, timeout: 20, workers: 2 };
  const { code, out, err } = await run("1\n2\n3\n", given);
  assertEquals({ code, out }, { code: 1, out: "1\n3\n" });
  assertStringIncludes(err[0]!, "line 2: TimeoutError: ");
});

test("map ends when no worker can be had any more", async () => {
  let count = 0;
  const openOne = () => {
    // An error that another attempt would not change.
    if (count++ > 0) return Promise.reject(new TypeError("No more"));
    const [main, worker] = duplexPair();
    main.closed.catch(() => {});
    expose({
      act(n: number) {
        if (n === 2) worker.abort(new Error("Gone"));
        return n === 2 ? new Promise(() => {}) : n;
      },
    }, worker);
    return Promise.resolve(main);
  };
  const lines = Array.from({ length: 100 }, (_, n) => `${n + 1}\n`).join("");
  const { code, out, err } = await run(lines, { openOne });
  assertEquals({ code, out }, { code: 1, out: "1\n" });
  assertEquals(err.slice(0, 2), [
    "warning: a worker did not start: No more",
    "line 2: Error: Cannot start a worker: No more",
  ]);
  // Lines in one message with line 2 have failed as well.
  assertEquals(err.at(-2), "error: Cannot start a worker: No more");
  assertMatch(err.at(-1)!, /^lines: 1 done, \d+ failed; left: the lines/);
  await assertRejects(
    () => run("1\n", { openOne: () => Promise.reject(new Error("None")) }),
    Error,
    "None",
  );
});

test("MapWorkers tells each reason once, and how often it came", async () => {
  const told: string[] = [];
  const reasons = ["full", "full", "slow", "full"];
  const workers = new MapWorkers(
    (number) => Promise.reject(new Error(reasons[number - 1])),
    (line) => told.push(line),
  );
  for (const _ of reasons) await assertRejects(() => workers.open());
  assertEquals(told, [
    "warning: a worker did not start: full",
    "warning: a worker did not start: slow",
  ]);
  workers.warnAgain();
  assertEquals(told.slice(2), [
    "warning: 3 times a worker did not start: full",
  ]);
});

test("map says which lines are left when it is stopped", async () => {
  const stop = Promise.withResolvers<EndSignal>();
  const gate = Promise.withResolvers<void>();
  const methods = {
    async work(n: number) {
      stop.resolve({ name: "SIGINT", code: 130 });
      await gate.promise;
      return n;
    },
  };
  const err: string[] = [];
  const status = new StatusLine(undefined, (line) => {
    err.push(line);
    if (line.startsWith("stopping")) gate.resolve();
  });
  const input = sourceOf("no\n1\nno\n2\n", { ends: false });
  const stopped = stop.promise;
  const ran = await run(input, { methods, status, stopped });
  assertEquals(ran, { code: 130, out: "1\n", err: [] });
  assertEquals(err.slice(1), [
    "stopping at SIGINT: the running lines are finished; a second signal stops at once",
    "stopped by SIGINT: 1 done, 1 failed; left: the lines from 3 on",
  ]);
  const early = await run("1\n", {
    openOne: () => new Promise(() => {}),
    stopped: Promise.resolve({ name: "SIGTERM", code: 143 }),
  });
  assertEquals(early.code, 143);
  assertStringIncludes(early.err[0]!, "left: the lines from 1 on");
});

/** Lets everything happen that needs nothing from outside. */
async function untilStill(count: () => number): Promise<void> {
  let last = count();
  for (let still = 0; still < 20; still++) {
    await new Promise((resolve) => setTimeout(resolve, 0));
    if (count() !== last) still = 0;
    last = count();
  }
}

test("map reads no further than whoever takes the results, or a slow worker", async () => {
  let reads = 0;
  const line = new TextEncoder().encode(`"${"x".repeat(1000)}"\n`);
  const endless: ByteSource = {
    read(into) {
      reads++;
      into.set(line);
      return Promise.resolve(line.length);
    },
  };
  const broken = new Deno.errors.BrokenPipe("Broken pipe");
  const full = Promise.withResolvers<number>();
  const writing = Promise.withResolvers<void>();
  const output = {
    write() {
      writing.resolve();
      return full.promise;
    },
  };
  const ran = run(endless, { methods: echo, output });
  await writing.promise;
  await untilStill(() => reads);
  assertLess(reads, 5000);
  full.reject(broken);
  assertEquals(await ran, { code: 141, out: "", err: [] });

  reads = 0;
  const stop = Promise.withResolvers<EndSignal>();
  const gate = Promise.withResolvers<void>();
  const { promise: stopped } = stop;
  const begun = Promise.withResolvers<void>();
  let count = 0;
  const methods = {
    work() {
      if (++count === 3) begun.resolve();
      return gate.promise;
    },
  };
  const slow = run(endless, { methods, workers: 3, stopped });
  await begun.promise;
  await untilStill(() => reads);
  assertLess(reads, 100);
  stop.resolve({ name: "SIGINT", code: 130 });
  await untilStill(() => reads);
  gate.resolve();
  const { err, out } = await slow;
  assertEquals(out, "null\n".repeat(3));
  assertStringIncludes(err.at(-1)!, "left: the lines from 4 on");
});

test("Items reads no further than a number of bytes of lines that are not done", async () => {
  const bad: number[] = [];
  const input = sourceOf(`${`"${"x".repeat(97)}"\n`.repeat(9)}no\n1\n`);
  const items = new Items(input, ({ line }) => bad.push(line), 350);
  // A line counts 64 bytes in addition to its own.
  for (let index = 0; index < 3; index++) await items.next();
  let isRead = false;
  const next = items.next().then((result) => {
    isRead = true;
    return result;
  });
  await untilStill(() => Number(isRead));
  assertEquals(isRead, false);
  items.settle(1);
  assertEquals((await next).done, false);
  assertEquals(items.left, { first: 1, isRest: false });
  items.settle(0);
  assertEquals(items.left, { first: 3, isRest: true });
  await items.return();
  assertEquals(await items.next(), { value: undefined, done: true });
  assertEquals([items.doneBytes, bad.length], [200, 0]);
});

test("map ends when the results cannot be written, or the lines not read", async () => {
  const write = () => Promise.reject(new Error("No space"));
  const { code, err } = await run("1\n2\n", { output: { write } });
  assertEquals(code, 1);
  assertEquals(err[0], "error: the results cannot be written: No space");
  const read = () => Promise.reject(new Error("Is a directory"));
  assertEquals(await run({ read }), {
    code: 1,
    out: "",
    err: [
      "error: standard input cannot be read: Is a directory",
      "lines: 0 done, 0 failed; left: the lines from 1 on",
    ],
  });
});

test("chooseMethod() takes the only one, or the one that is named", () => {
  assertEquals(chooseMethod(["a"], undefined), "a");
  assertEquals(chooseMethod(["a", "b"], "b"), "b");
  for (
    const [methods, wanted, text] of [
      [["a", "b"], undefined, 'exposes "a", "b": give one of them'],
      [["a", "b"], "c", 'exposes no method "c", but "a", "b"'],
      [[], "c", "the worker exposes no methods"],
    ] as const
  ) assertThrows(() => chooseMethod(methods, wanted), Error, text);
});

test("renderProgress() fits a line into the terminal", () => {
  const state = { done: 1234, failed: 2, seconds: 4, share: 0.5 };
  const cases: [Partial<ProgressState>, columns: number, line: string][] = [
    [
      {},
      80,
      `[${"=".repeat(15)}${
        " ".repeat(15)
      }]  50 % 1 234 done, 2 failed, 309/s, 4 s left`,
    ],
    [{}, 55, "[====    ]  50 % 1 234 done, 2 failed, 309/s, 4 s left"],
    [{}, 54, " 50 % 1 234 done, 2 failed, 309/s, 4 s left"],
    [{}, 42, " 50 % 1 234 done, 2 failed, 4 s left"],
    [{}, 30, " 50 % 1 234 done, 2 failed"],
    [{}, 25, "1 234 done, 2 failed"],
    [{}, 8, "1 234 d"],
    [{}, 0, ""],
    [{ share: undefined }, 80, "1 234 done, 2 failed, 309/s"],
    [{ share: 0, done: 0, failed: 0 }, 40, "  0 % 0 done, 0 failed, 0.0/s"],
    [{ share: 1, done: 6 }, 40, "100 % 6 done, 2 failed, 2.0/s, 0 s left"],
    [{ share: undefined, seconds: 0 }, 80, "1 234 done, 2 failed"],
  ];
  for (const [change, columns, line] of cases) {
    assertEquals(renderProgress({ ...state, ...change }, columns), line);
    assert(line.length < Math.max(1, columns));
  }
  assertEquals([0.2, 60, 3599.5, 86_400 * 50].map(formatDuration), [
    "1 s",
    "1 min 00 s",
    "1 h 00 min",
    "1 200 h 00 min",
  ]);
  assertEquals([0, 0.12, 1.26, 9.94, 9.96, 59.5, 61].map(formatTaken), [
    "0.1 s",
    "0.1 s",
    "1.3 s",
    "9.9 s",
    "10 s",
    "1 min 00 s",
    "1 min 01 s",
  ]);
});

test("StatusLine is not broken by lines that are printed meanwhile", async () => {
  let screen = "";
  const drawn = Promise.withResolvers<void>();
  const status = new StatusLine({
    columns: 40,
    write: (text) => screen += text,
  }, (line) => screen += `${line}\n`);
  status.print("first");
  status.start(() => {
    drawn.resolve();
    return "1 done";
  });
  await drawn.promise;
  status.print("line 3: no");
  status.pause();
  status.print("while it is paused");
  status.resume();
  status[Symbol.dispose]();
  status.print("last");
  const [line, clear] = ["\r1 done\u001b[K", "\r\u001b[K"];
  assertEquals(
    screen,
    `first\n${line}${clear}line 3: no\n${line}${clear}while it is paused\nlast\n`,
  );
});
