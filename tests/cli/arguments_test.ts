// Copyright 2026 the Duplex authors. MIT license.

/**
 * What the command line says to arguments, right and wrong ones.
 *
 * @module
 */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { main } from "../../cli.ts";
import { readPermissions } from "../../_cli/arguments.ts";
import { groupDigits, messageLine } from "../../_cli/terminal.ts";
import { readMapOptions } from "../../_cli/map_options.ts";

/** What the command line printed, and its exit code. */
interface Printed {
  code: number;
  stdout: string;
  stderr: string;
}

/** Runs the command line here. */
async function run(...args: string[]): Promise<Printed> {
  const printed = { stdout: "", stderr: "" };
  const streams = ["stdout", "stderr"] as const;
  for (const name of streams) {
    Deno[name].writeSync = (bytes) => {
      printed[name] += new TextDecoder().decode(bytes);
      return bytes.length;
    };
  }
  try {
    return { code: await main(args), ...printed };
  } finally {
    // The method of the class is there again.
    for (const name of streams) {
      delete (Deno[name] as { writeSync?: unknown }).writeSync;
    }
  }
}

const TCP = ["--listen", "tcp://127.0.0.1:0"];
const PUBLIC = ["--listen", "tcp://0.0.0.0:0"];
const TLS = ["--listen", "tls://localhost:0"];
const SERVED = ["w.ts", "--over", "tcp://127.0.0.1:1"];
const FILE = import.meta.filename!;
const WORKER = new URL("../workers/cli_acts.ts", import.meta.url).href;

const WRONG: [args: string[], text: string][] = [
  [[], "there is no command: give one of compare, map, serve, or --help"],
  [["server"], 'there is no command "server"'],
  [["servr"], 'there is no command "servr": give serve, or --help'],
  [["-A", "map"], 'no command before "-A": options of a command go after'],
  [["toString"], 'there is no command "toString"'],
  [["map", "w.ts", "--worker=3"], 'option "--worker=3": give --workers; see'],
  [["map", "w.ts", "--Errors", "x"], 'option "--Errors": give --errors; see'],
  [["map", "w.ts", "--alow-read"], '"--alow-read": give --allow-read; see'],
  [["map", "w.ts", "--listen=x"], 'no option "--listen=x"; see cli.ts map'],
  [["serve"], "there is no WORKER to serve"],
  [["serve", "", ...TCP], "there is no WORKER to serve"],
  [["serve", "w.ts"], "there is no address: give --listen ADDRESS"],
  [["serve", "w.ts", "x.ts", ...TCP], 'more is given: "x.ts"'],
  [["serve", "w.ts", ...TCP, "--_"], 'there is no option "--_"'],
  [["serve", "w.ts", ...TCP, "--_=1"], 'there is no option "--_=1"'],
  [["serve", "w.ts", ...TCP, "-_"], 'there is no option "-_"'],
  [["serve", "w.ts", ...TCP, "-_=1"], 'there is no option "-_=1"'],
  [["serve", "w.ts", ...TCP, "-q_"], 'there is no option "-q_"'],
  [["serve", "w.ts", "--listen"], "--listen takes a value"],
  [["serve", "w.ts", "--listen", "--quiet"], "--listen takes a value"],
  [["serve", "w.ts", "--listen="], "--listen takes a value"],
  [
    ["serve", "w.ts", "--listen", "127.0.0.1:9000"],
    'the address must be "tcp://host:port"',
  ],
  [["serve", "w.ts", ...TCP, "--fast"], 'there is no option "--fast"'],
  [["serve", "w.ts", ...TCP, "--no-quiet"], 'there is no option "--no-quiet"'],
  [["serve", "w.ts", ...TCP, "-x"], 'there is no option "-x"'],
  [["serve", "w.ts", ...TCP, "--secret=x"], 'no option "--secret=x"'],
  [["serve", "w.ts", ...TCP, "--allow-all=1"], 'no option "--allow-all=1"'],
  [["serve", "w.ts", ...TCP, "--allow-reads"], 'no option "--allow-reads"'],
  [
    ["serve", "w.ts", ...TCP, "--allow-read="],
    "takes items separated by commas",
  ],
  [["serve", "w.ts", ...TCP, "--deny-net=a,,b"], "--deny-net takes items"],
  [["serve", "w.ts", ...TCP, "--deny-reads"], 'no option "--deny-reads"'],
  [["serve", "w.ts", ...TCP, "--allow-net=a,,b"], 'is "--allow-net=a,,b"'],
  [["serve", "w.ts", ...TCP, "-A", "--allow-env"], "leave out --allow-env"],
  [["serve", "w.ts", ...TCP, "--quiet=no"], "--quiet takes no value"],
  [["serve", "w.ts", ...TCP, "-q=1"], "-q takes no value"],
  [
    ["serve", "w.ts", ...TCP, "--allow-unauthenticated=false"],
    'takes no value: current value is "false"',
  ],
  [["serve", "w.ts", ...TCP, "--over", "fork"], "--over takes pipe, queue or"],
  [
    ["serve", "w.ts", ...TCP, "--over=shm", "--", "a"],
    "only a process has arguments",
  ],
  [
    ["serve", "w.ts", ...TCP, "--max-workers", "0"],
    '--max-workers takes an integer from 1 up: current value is "0"',
  ],
  [["serve", "w.ts", ...TCP, "--max-workers", "1.5"], "takes an integer"],
  [["serve", "w.ts", ...TCP, "--max-workers", "1e3"], "takes an integer"],
  [["serve", "w.ts", ...TCP, "--max-workers", "-A"], "takes a value"],
  [
    ["serve", "w.ts", ...TCP, "--max-workers=1", "--max-workers=2"],
    "--max-workers is given more than once",
  ],
  [["serve", "w.ts", ...TCP, "--memory", "0"], "--memory takes an integer"],
  [["serve", "w.ts", ...TCP, "--grace", "soon"], "--grace takes a number from"],
  [["serve", "w.ts", ...TCP, "--resume=-1"], "--resume takes a number from 0"],
  [["serve", "w.ts", ...TCP, "--cert", FILE], "--cert and --key are for tls:"],
  [["serve", "w.ts", ...TLS], "a tls: address requires --cert FILE and --key"],
  [["serve", "w.ts", ...TLS, "--cert", FILE], "requires --cert FILE and --key"],
  [
    ["serve", "w.ts", ...TLS, "--cert", "/none", "--key", FILE],
    '--cert "/none" cannot be read: No such file',
  ],
  [["serve", "w.ts", ...PUBLIC], "reaches tcp://0.0.0.0:0: give --secret-file"],
  [
    ["serve", "w.ts", ...TCP, "--secret-file", "/none"],
    '--secret-file "/none" cannot be read',
  ],
  [
    ["serve", "w.ts", ...TCP, "--secret-file", "/dev/null"],
    '--secret-file "/dev/null" is empty',
  ],
  [
    ["serve", "w.ts", ...TCP, "--secret-file", FILE, "--allow-unauthenticated"],
    "give one of them",
  ],
  [["map"], "there is no WORKER to call"],
  [["map", ""], "there is no WORKER to call"],
  [["map", "", "square"], "there is no WORKER to call"],
  [["map", "w.ts", "a", "b"], 'one METHOD, and more is given: "b"'],
  [["map", "w.ts", "--over", "fork"], "pipe, queue, shm, or an address (tcp:"],
  [["map", "w.ts", "--over=queue", "--", "a"], "only a process has arguments"],
  [["map", "w.ts", "--workers", "0"], "--workers takes an integer from 1"],
  [["map", "w.ts", "--retries", "0.5"], "--retries takes an integer from"],
  [["map", "w.ts", "--timeout", "0"], "--timeout takes a number from 0.001 up"],
  [["map", "w.ts", "--secret-file", FILE], "--secret-file is for workers of a"],
  [["map", "w.ts", "--ca-cert", FILE], "--ca-cert is for workers of a server"],
  [["map", "--over", "tcp://host"], 'the address must be "tcp://host:port"'],
  [["map", ...SERVED, "-A"], "omit the permissions; see cli.ts map"],
  [["map", ...SERVED, "--memory=9"], "omit --memory"],
  [["map", ...SERVED, "--", "a"], 'omit the arguments after "--"'],
  [["map", ...SERVED, "--ca-cert", FILE], "--ca-cert is for a tls: address"],
  [
    ["map", ...SERVED, "--secret-file", "/none"],
    "cannot be read: No such file",
  ],
];

Deno.test("main() says in a line what is wrong with arguments", async (t) => {
  for (const [args, text] of WRONG) {
    await t.step(args.join(" "), async () => {
      const { code, stdout, stderr } = await run(...args);
      assertStringIncludes(stderr, text);
      assertEquals(stderr.match(/\n/g)?.length, 1);
      assertEquals({ code, stdout }, { code: 2, stdout: "" });
    });
  }
});

Deno.test("main() takes one secret that is not empty", async () => {
  const serve = ["serve", "w.ts", ...TCP];
  try {
    Deno.env.set("DUPLEX_SECRET", "one");
    const both = await run(...serve, "--secret-file", FILE);
    assertEquals(both.code, 2);
    assertStringIncludes(both.stderr, "there are two secrets");
    Deno.env.set("DUPLEX_SECRET", "");
    const empty = await run(...serve);
    assertEquals(empty.code, 2);
    assertStringIncludes(empty.stderr, "DUPLEX_SECRET is empty");
  } finally {
    Deno.env.delete("DUPLEX_SECRET");
  }
});

Deno.test("main() returns 1 when it cannot listen", async () => {
  using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const address = `tcp://127.0.0.1:${taken.addr.port}`;
  const { code, stdout, stderr } = await run(
    ...["serve", WORKER, "-A", "--over=shm", ...TCP, "--listen", address],
  );
  assertStringIncludes(stderr, `error: Cannot listen on "${address}": `);
  assertEquals({ code, stdout }, { code: 1, stdout: "" });
});

Deno.test("main() prints its help", async () => {
  for (const args of [["--help"], ["-h"], ["help"]]) {
    const { code, stdout } = await run(...args);
    assertEquals(code, 0);
    assertEquals(stdout.split("\n").filter((line) => line.length > 80), []);
    assertStringIncludes(stdout, "deno install -g -n duplex");
    assertStringIncludes(stdout, "serve    Listens and starts");
  }
  for (
    const [name, text] of [
      ["map", "--unordered"],
      ["map", "unless the workers get"],
      ["map", "A line is one argument: [1,2] arrives as one array."],
      ["map", "The limit of a line is 33 554 432 bytes (32 MiB): a longer\n"],
      ["map", "  Date                  a string as of toISOString()"],
      ["map", "WORKER is ignored and may be omitted"],
      ["serve", "--max-workers N"],
    ] as const
  ) {
    for (const args of [["--help"], ["-h"], ["w.ts", "--help", "-A"]]) {
      const { code, stdout, stderr } = await run(name, ...args);
      assertEquals({ code, stderr }, { code: 0, stderr: "" });
      assertStringIncludes(stdout, text);
      assertEquals(stdout.split("\n").filter((line) => line.length > 80), []);
    }
  }
});

Deno.test("readPermissions() reads the flags of Deno", () => {
  const read = (...args: string[]) => readPermissions(args);
  assertEquals(read("w.ts"), { permissions: "none", args: ["w.ts"] });
  assertEquals(read("-A", "w.ts").permissions, "inherit");
  assertEquals(read("--allow-all").permissions, "inherit");
  assertEquals(
    read("--allow-read", "w.ts", "--allow-net=a:1,b", "--allow-net=c"),
    {
      permissions: { read: true, net: ["a:1", "b", "c"] },
      args: ["w.ts"],
    },
  );
  assertEquals(read("--allow-read", "--deny-read=a,b", "--deny-net"), {
    permissions: { read: true, denyRead: ["a", "b"], denyNet: true },
    args: [],
  });
  assertEquals(read("-A", "--deny-run=ls").permissions, {
    ...Object.fromEntries(
      ["env", "ffi", "import", "net", "read", "run", "sys", "write"]
        .map((kind) => [kind, "inherit"]),
    ),
    denyRun: ["ls"],
  });
  assertEquals(read("--allow-env=A", "--allow-env").permissions, { env: true });
  assertEquals(read("--allow-env", "--allow-env=A").permissions, { env: true });
  assertEquals(read("w.ts", "--", "-A", "--allow-read"), {
    permissions: "none",
    args: ["w.ts", "--", "-A", "--allow-read"],
  });
});

Deno.test("messageLine() keeps to a line whatever was thrown", () => {
  assertEquals(messageLine(new Error("one\ntwo")), "one two");
  assertEquals(
    messageLine("\u001b[31m\u009b\u202e"),
    "\\u{9b}\\u{202e}",
  );
  assertEquals(
    messageLine("\u001b[0m\u001b[1m\u001b[38;5;12merror\u001b[m: \u001b[2Kno"),
    "error: \\u{1b}[2Kno",
  );
  assertEquals(messageLine("\u001b[1mx".repeat(5000)), `${"x".repeat(1000)}…`);
  assertEquals(messageLine("grüße 世界"), "grüße 世界");
  assertEquals(messageLine("x".repeat(5000)).length, 1001);
  assertEquals(messageLine(Object.create(null)), "an object");
});

Deno.test("groupDigits() leaves decimals alone", () => {
  assertEquals([0, 999, 1000, 12_345_678, 0.0049, 1234.5678].map(groupDigits), [
    "0",
    "999",
    "1 000",
    "12 345 678",
    "0.0049",
    "1 234.5678",
  ]);
});

Deno.test("readMapOptions() tells the worker from the method", async () => {
  const cases: [string[], string | undefined, string | undefined][] = [
    [["w.ts"], "w.ts", undefined],
    [["worker"], "worker", undefined],
    [["w.ts", "a.b"], "w.ts", "a.b"],
    [["w.ts", "--unordered", "true"], "w.ts", "true"],
    [["--unordered", "false", "a"], "false", "a"],
  ];
  for (const [args, script, method] of cases) {
    const options = await readMapOptions(args);
    assert(options !== "help" && "script" in options.source);
    assertEquals([options.source.script, options.method], [script, method]);
  }
  const over = ["--over", "unix:/w.sock"];
  const served: [string[], string | undefined][] = [
    [[], undefined],
    [["square"], "square"],
    [["w.ts"], undefined],
    [["data:,"], undefined],
    [["../w"], undefined],
    [["w.ts", "square"], "square"],
  ];
  for (const [args, method] of served) {
    const options = await readMapOptions([...args, ...over]);
    assert(options !== "help" && "address" in options.source);
    const { source: { address } } = options;
    assertEquals([address, options.method], ["unix:/w.sock", method]);
  }
});

Deno.test("readMapOptions() has defaults, and takes seconds", async () => {
  const options = await readMapOptions(["w.ts"]);
  assert(options !== "help");
  const { workers, ordered, retries, timeout, errors } = options;
  assertEquals([workers, ordered, retries, timeout, errors], [
    navigator.hardwareConcurrency,
    true,
    // The pool knows.
    undefined,
    Infinity,
    undefined,
  ]);
  const given = await readMapOptions([
    ...["w.ts", "--workers=3", "--unordered", "--retries=0"],
    ...["--timeout=0.5", "--errors=no.jsonl"],
  ]);
  assert(given !== "help");
  assertEquals([given.workers, given.ordered, given.retries], [3, false, 0]);
  assertEquals([given.timeout, given.errors], [500, "no.jsonl"]);
});
