// Copyright 2026 the Duplex authors. MIT license.

/**
 * `cli.ts serve` as a process of its own, with real peers and workers.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertNotEquals,
  assertNotMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import {
  openSocket,
  type SocketDuplex,
  type SocketOptions,
} from "@duplex/ipc/socket";
import { describeFile } from "../../examples/_demo_files.ts";
import { ACTS, CliServer, ROOT } from "./_server.ts";
import { greeting, RawPeer } from "../socket/_raw.ts";
import { CA, socketPath } from "../socket/_sockets.ts";
import { isRunning, within } from "../workers/_processes.ts";
import { control, KIND } from "../workers/_wire.ts";

const TCP = "tcp://127.0.0.1:0";
const OVER = ["pipe", "queue", "shm"] as const;
const DEMO_WORKER = `${ROOT}examples/demo_worker.ts`;
const LICENSE = `${ROOT}LICENSE`;

/** A test that fails by name when it would wait forever. */
function test(
  name: string,
  fn: (t: Deno.TestContext) => Promise<void>,
  ignore = Deno.build.os === "windows",
): void {
  Deno.test({ name, ignore, fn: (t) => within(fn(t)) });
}

/** Has the worker of a peer do something. */
async function ask(peer: SocketDuplex, ...act: unknown[]): Promise<unknown> {
  await peer.send(act);
  return await peer.receive();
}

/** Ends a server in good order. */
async function stop(server: CliServer): Promise<void> {
  server.kill("SIGTERM");
  assertEquals(await server.ended(), 0, server.stderr.lines.join("\n"));
}

/** Looks until a process is gone. */
async function untilGone(pid: number): Promise<void> {
  while (isRunning(pid)) await new Promise((done) => setTimeout(done, 10));
}

/** What `serve` is documented to require, for each address and `--over`. */
function documented(listen: string, over: string): string[] {
  const path = listen.slice("unix:".length);
  const [net, read, write] = listen.startsWith("unix:")
    ? [listen, [path], [`--allow-write=${path}`]]
    : [listen.slice("tcp://".length), [], []];
  // A worker gets what the server holds: here, to read the license.
  const more = over === "pipe" ? LICENSE : ROOT;
  return [
    `--allow-net=${net}`,
    `--allow-read=${[...read, more].join(",")}`,
    ...write,
    ...over === "pipe" ? [`--allow-run=${Deno.execPath()}`] : [],
  ];
}

for (const over of OVER) {
  for (const kind of ["tcp", "unix"]) {
    test(`serve gives a peer over ${kind} a worker over ${over} that may do what is named`, async () => {
      const listen = kind === "tcp" ? TCP : `unix:${socketPath()}`;
      await using server = new CliServer(
        [
          ...[DEMO_WORKER, "--listen", listen, "--over", over],
          ...[`--allow-read=${LICENSE}`],
        ],
        { deno: documented(listen, over) },
      );
      const peer = await openSocket(await server.address());
      await peer.send(LICENSE);
      assertEquals(await peer.receive(), await describeFile(LICENSE));
      await peer.send(`${ROOT}README.md`);
      const { error } = await peer.receive() as { error: Error };
      assertEquals(error.name, "NotCapable");
      await peer.close();
      await stop(server);
      assertEquals(server.stdout.lines.length, 1);
      if (kind === "unix") {
        await assertRejects(
          () => Deno.stat(listen.slice("unix:".length)),
          Deno.errors.NotFound,
        );
      }
    });
  }
}

test("serve grants nothing, a part of a kind, all of it, or all that there is", async () => {
  const cases: [flags: string[], expected: string[]][] = [
    [[], ["NotCapable", "NotCapable", "NotCapable"]],
    [["--allow-env=HOME,USER", "--allow-env=PATH"], [
      "ok",
      "NotCapable",
      "NotCapable",
    ]],
    [["--allow-read", "--allow-net=127.0.0.1"], ["NotCapable", "ok", "ok"]],
    [["-A"], ["ok", "ok", "ok"]],
  ];
  await Promise.all(cases.map(async ([flags, expected]) => {
    await using server = new CliServer([ACTS, "--listen", TCP, ...flags]);
    const peer = await openSocket(await server.address());
    assertEquals([
      await ask(peer, "env", "PATH"),
      await ask(peer, "read", LICENSE),
      await ask(peer, "net", "127.0.0.1", 0),
    ], expected);
    await peer.close();
  }));
});

test("serve listens at several addresses, tls: among them, and hands arguments on", async () => {
  const path = socketPath();
  await using server = new CliServer([
    ...[ACTS, "--listen", "tls://localhost:0", "--listen", `unix:${path}`],
    ...["--cert", `${ROOT}tests/certs/localhost.pem`],
    ...["--key", `${ROOT}tests/certs/localhost.key`],
    ...["--", "one", "--two", "-3"],
  ]);
  const options: SocketOptions = { caCerts: [CA] };
  const tls = await openSocket(await server.address("tls:"), options);
  const unix = await openSocket(await server.address("unix:"));
  assertEquals(await ask(tls, "args"), ["one", "--two", "-3"]);
  assertEquals(await ask(unix, "args"), ["one", "--two", "-3"]);
  await Promise.all([tls.close(), unix.close()]);
  await server.stderr.until(/ left; peers: 0$/);
  await server.stderr.until(/^peer 2 \(unix:\/.*\) left; /);
});

test("serve keeps peers apart", async () => {
  await using server = new CliServer([ACTS, "--listen", TCP]);
  const address = await server.address();
  const peers = await Promise.all([openSocket(address), openSocket(address)]);
  const pids = await Promise.all(peers.map((peer) => ask(peer, "pid")));
  assertNotEquals(pids[0], pids[1]);
  const numbers = Array.from({ length: 500 }, (_, index) => index);
  await Promise.all(peers.map(async (peer, own) => {
    for (const number of numbers) await peer.send(["echo", [own, number]]);
    for (const number of numbers) {
      assertEquals(await peer.receive(), [own, number]);
    }
  }));
  peers[0]!.abort();
  await untilGone(pids[0] as number);
  assertEquals(await ask(peers[1]!, "echo", "still here"), "still here");
  await peers[1]!.close();
});

test("serve refuses one more peer than there may be workers", async () => {
  await using server = new CliServer([
    ...[ACTS, "--listen", TCP, "--listen", `unix:${socketPath()}`],
    ...["--max-workers", "1"],
  ]);
  const address = await server.address("tcp:");
  const first = await openSocket(address);
  const pid = await ask(first, "pid") as number;
  await assertRejects(
    () => openSocket(address),
    Deno.errors.ConnectionRefused,
    "there are 1 peers already",
  );
  const other = await openSocket(await server.address("unix:"));
  await assertRejects(
    () => other.receive(),
    Error,
    "Cannot start a worker: all 1 are in use; try again later",
  );
  await first.close();
  assert(!isRunning(pid));
  await server.stderr.until(/^peer 1 .* left; peers: 0$/);
  const next = await openSocket(address);
  assertEquals(await ask(next, "echo", 1), 1);
  await next.close();
});

test("serve tells a peer how its worker died, and goes on", async () => {
  const cases: [over: string, act: unknown[], message: string][] = [
    [
      "pipe",
      ["exit", 3, "error: No more paper"],
      "exited with code 3; stderr:",
    ],
    ["pipe", ["exit", 3, "error: No more paper"], "No more paper"],
    [
      "pipe",
      ["throw", "Too much"],
      "Uncaught (in promise) RangeError: Too much",
    ],
    ["pipe", ["abort", "Enough"], "Enough"],
    ["shm", ["throw", "Too much"], "Too much"],
    ["queue", ["throw", "Too much"], "Cannot deliver message 2"],
  ];
  await Promise.all(OVER.map(async (over) => {
    await using server = new CliServer([ACTS, "--listen", TCP, "--over", over]);
    const address = await server.address();
    for (const [, act, message] of cases.filter(([own]) => own === over)) {
      const peer = await openSocket(address);
      // What it has answered before is not lost.
      assertEquals(await ask(peer, "echo", 1), 1);
      await peer.send(act);
      const error = await assertRejects(() => peer.receive(), Error, message);
      assert(!error.stack!.includes("_cli_"), error.stack);
      await assertRejects(() => peer.closed);
    }
    await stop(server);
  }));
});

test("serve does not listen if its worker does not start", async () => {
  const folder = await Deno.makeTempDir();
  const scripts = {
    broken: "export const x = ;",
    throws: '\n\nthrow new Error("No config");',
    silent: "console.error(1);",
    imports: 'import "./gone.ts";',
  };
  for (const [name, text] of Object.entries(scripts)) {
    await Deno.writeTextFile(`${folder}/${name}.ts`, text);
  }
  const read = "--allow-read=/etc";
  const noFlag = ["--no-config", `--import-map=${await importMap()}`, "-A"];
  const cases: [args: string[], deno: string[], message: string][] = [
    [["missing.ts"], ["-A"], "Module not found"],
    [["missing.ts", "--over", "shm"], ["-A"], "Module not found"],
    [[`${folder}/broken.ts`], ["-A"], "broken.ts:1:18"],
    [[`${folder}/throws.ts`], ["-A"], "throws.ts:3:7"],
    [[`${folder}/throws.ts`, "--over=queue", "-A"], ["-A"], "throws.ts:3:7"],
    [[`${folder}/imports.ts`], ["-A"], "imports.ts:1:8"],
    [
      [`${folder}/silent.ts`],
      ["-A"],
      'code 0; does it call parent() or expose()?; stderr: "1"',
    ],
    [[ACTS, read], documented(TCP, "pipe"), 'Cannot grant "read" of "/etc"'],
    [[ACTS], ["--allow-net=127.0.0.1:0"], "Deno may not be run"],
    [
      [ACTS, "--over=queue"],
      noFlag,
      "start Deno with --unstable-worker-options, or give the workers --allow-all",
    ],
  ];
  try {
    for (const [args, deno, message] of cases) {
      await using server = new CliServer([...args, "--listen", TCP], { deno });
      assertEquals(await server.ended(), 1);
      assertEquals(server.stdout.lines, []);
      const last = server.stderr.lines.at(-1)!;
      assertStringIncludes(last, message);
      assert(/^error: (the worker does not|no worker will) start/.test(last));
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

test("serve tells a peer why its worker did not start, and goes on", async () => {
  const script = await Deno.makeTempFile({ suffix: ".ts" });
  const text = `import { parent } from "file://${ROOT}parent.ts";
    await using main = await parent();
    for await (const message of main) await main.send(message);`;
  try {
    await Deno.writeTextFile(script, text);
    await using server = new CliServer([script, "--listen", TCP]);
    const address = await server.address();
    const first = await openSocket(address);
    await first.send(1);
    assertEquals(await first.receive(), 1);
    await Deno.writeTextFile(script, "\nthrow new Error();");
    const second = await openSocket(address);
    await assertRejects(() => second.receive(), Error, "Uncaught");
    await server.stderr.until(
      /^peer 2 .* left: its worker did not start: .*\.ts:2:7"; peers: 1$/,
    );
    await Deno.writeTextFile(script, text);
    const third = await openSocket(address);
    await third.send(3);
    assertEquals(await third.receive(), 3);
    await Promise.all([first.close(), third.close()]);
    await stop(server);
  } finally {
    await Deno.remove(script);
  }
});

test(
  "serve gives the first peer the worker that was started before it",
  async () => {
    await using server = new CliServer([ACTS, "--listen", TCP]);
    const address = await server.address();
    const [pid] = await childrenOf(server.pid);
    const first = await openSocket(address);
    const second = await openSocket(address);
    assertEquals(await ask(first, "pid"), pid);
    assertNotEquals(await ask(second, "pid"), pid);
    await Promise.all([first.close(), second.close()]);
    await stop(server);
    // Without a peer it ends with the server, and another one replaces it if it died.
    await using other = new CliServer([ACTS, "--listen", TCP]);
    const next = await other.address();
    const [idle] = await childrenOf(other.pid);
    Deno.kill(idle!, "SIGKILL");
    await untilGone(idle!);
    const peer = await openSocket(next);
    assertEquals(await ask(peer, "echo", 1), 1);
    await peer.close();
    await stop(other);
    await using unused = new CliServer([ACTS, "--listen", TCP]);
    await unused.address();
    const [worker] = await childrenOf(unused.pid);
    await stop(unused);
    assert(!isRunning(worker!));
    assertEquals(unused.stderr.lines, ["ending; peers: 0", "ended"]);
  },
  Deno.build.os !== "linux",
);

/** The processes that a process has started. */
async function childrenOf(pid: number): Promise<number[]> {
  const path = `/proc/${pid}/task/${pid}/children`;
  const text = (await Deno.readTextFile(path)).trim();
  return text === "" ? [] : text.split(" ").map(Number);
}

/** The imports of `deno.json` alone, without what it switches on. */
async function importMap(): Promise<string> {
  const config = JSON.parse(await Deno.readTextFile(`${ROOT}deno.json`));
  const imports: Record<string, string | URL> = { ...config.imports };
  for (const [name, path] of Object.entries<string>(config.imports)) {
    if (path.startsWith("jsr:")) {
      imports[`${name}/`] = `${path.replace(":", ":/")}/`;
    }
  }
  for (const [name, path] of Object.entries<string>(config.exports)) {
    imports[`@duplex/ipc${name.slice(1)}`] = new URL(path, `file://${ROOT}`);
  }
  return `data:application/json,${
    encodeURIComponent(JSON.stringify({ imports }))
  }`;
}

test("serve passes a goodbye on, and answers that come after it", async () => {
  await Promise.all(OVER.map(async (over) => {
    await using server = new CliServer([ACTS, "--listen", TCP, "--over", over]);
    const peer = await openSocket(await server.address());
    const numbers = Array.from({ length: 10_000 }, (_, index) => index);
    await peer.send(["late"]);
    for (const number of numbers) await peer.send(["", number]);
    await peer.writable.close();
    for (const number of numbers) {
      assertEquals(await peer.receive(), ["late", number]);
    }
    await assertRejects(() => peer.receive(), Error, "closed duplex");
    await peer.closed;
    await server.stderr.until(/^peer 1 .* left; peers: 0$/);
  }));
});

test("serve tells a peer of a worker that fails after the goodbyes", async () => {
  await using server = new CliServer([ACTS, "--listen", TCP]);
  const peer = await openSocket(await server.address());
  await peer.send(["fail", "Too late"]);
  await peer.writable.close();
  await assertRejects(() => peer.receive(), Error, "RangeError: Too late");
  await assertRejects(() => peer.closed, Error, "exited with code 1");
  await server.stderr.until(/^peer 1 .* left: worker: .*Too late/);
});

test("serve lets a peer speak after the goodbye of its worker", async () => {
  await using server = new CliServer([ACTS, "--listen", TCP]);
  const peer = await openSocket(await server.address());
  await peer.send(["hush"]);
  await assertRejects(() => peer.receive(), Error, "closed duplex");
  await peer.send(["", "one"]);
  await server.stderr.until(/^peer 1 .*: heard one$/);
  await peer.send(["", "two"]);
  await peer.close();
  await server.stderr.until(/^peer 1 .*: heard two$/);
  await server.stderr.until(/^peer 1 .* left; peers: 0$/);
});

test("serve ends a worker with its peer, whatever it does", async () => {
  await using server = new CliServer([ACTS, "--listen", TCP]);
  const peer = await openSocket(await server.address());
  const pid = await ask(peer, "pid") as number;
  await peer.send(["stuck"]);
  peer.abort(new Error("Enough\n\u001b[31mpeer 9 (tcp:) came"));
  await untilGone(pid);
  const line = await server.stderr.until(/^peer 1 .*Enough/);
  assertStringIncludes(line, "peer: Enough peer 9 (tcp:) came");
  await stop(server);
});

test("serve lets peers finish after SIGTERM", async () => {
  await using server = new CliServer([ACTS, "--listen", TCP, "--grace", "60"]);
  const address = await server.address();
  const peer = await openSocket(address);
  assertEquals(await ask(peer, "echo", 1), 1);
  server.kill("SIGTERM");
  await server.stderr.until(/^ending; peers: 1$/);
  assertEquals(await ask(peer, "echo", 2), 2);
  await assertRejects(() => openSocket(address));
  await peer.close();
  assertEquals(await server.ended(), 0);
});

test("serve aborts peers that do not finish in time after SIGINT", async () => {
  await using server = new CliServer([ACTS, "--listen", TCP, "--grace=0.1"]);
  const peer = await openSocket(await server.address());
  const pid = await ask(peer, "pid") as number;
  await peer.send(["stuck"]);
  server.kill("SIGINT");
  await assertRejects(
    () => peer.receive(),
    DOMException,
    "The server is shutting down",
  );
  assertEquals(await server.ended(), 0);
  assert(!isRunning(pid));
});

test("serve ends at once at a second signal", async () => {
  const path = socketPath();
  await using server = new CliServer([
    ...[ACTS, "--listen", `unix:${path}`, "--grace", "600"],
  ]);
  const peer = await openSocket(await server.address());
  const pid = await ask(peer, "pid") as number;
  server.kill("SIGTERM");
  await server.stderr.until(/^ending/);
  server.kill("SIGTERM");
  assertEquals(await server.ended(), 143);
  await assertRejects(() => peer.receive());
  await untilGone(pid);
  await assertRejects(() => Deno.stat(path), Deno.errors.NotFound);
});

test("no worker outlives a server that is killed", async () => {
  await using server = new CliServer([ACTS, "--listen", TCP]);
  const address = await server.address();
  const peers = await Promise.all([openSocket(address), openSocket(address)]);
  const pids = await Promise.all(peers.map((peer) => ask(peer, "pid")));
  await peers[0]!.send(["stuck"]);
  server.kill("SIGKILL");
  await Promise.all(pids.map((pid) => untilGone(pid as number)));
  await assertRejects(() => peers[0]!.receive());
  await assertRejects(() => peers[1]!.closed);
});

test("serve takes a secret from a file or a variable, and workers have it not", async () => {
  const file = await Deno.makeTempFile();
  try {
    await Deno.writeTextFile(file, "correct horse\r\n");
    const cases: [args: string[], env: Record<string, string>][] = [
      [["--secret-file", file], {}],
      [[], { DUPLEX_SECRET: "correct horse" }],
    ];
    await Promise.all(cases.map(async ([args, env]) => {
      // An address that others reach needs a secret.
      const listen = ["--listen", "tcp://0.0.0.0:0", "--allow-env"];
      await using server = new CliServer([ACTS, ...listen, ...args], { env });
      const { port } = new URL(await server.address());
      const address = `tcp://127.0.0.1:${port}`;
      for (const secret of [undefined, "correct horse\r\n"]) {
        const options = secret === undefined ? {} : { secret };
        await assertRejects(
          () => openSocket(address, options),
          Deno.errors.PermissionDenied,
        );
      }
      const peer = await openSocket(address, { secret: "correct horse" });
      assertEquals(await ask(peer, "secret"), false);
      await peer.close();
      await server.stderr.until(/^refused tcp:.*secret/);
    }));
  } finally {
    await Deno.remove(file);
  }
});

test("serve logs what a stranger says as a terminal can show it", async () => {
  await using server = new CliServer([ACTS, "--listen", TCP]);
  using peer = await RawPeer.connect(await server.address());
  await peer.write(greeting());
  await peer.frame();
  const text = "\u001b[31m\u009b2K\u202e\u2028\rnasty";
  await peer.write(control(KIND.abort, { text, fault: false }));
  const line = await server.stderr.until(/nasty/);
  assertStringIncludes(line, "\\u{2028}");
  assertNotMatch(line, /[\p{C}\p{Zl}\p{Zp}]/u);
  await stop(server);
});

/** Forwards the bytes of connections to an address until they are cut. */
class Forwarder implements Disposable {
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #port: number;
  readonly #conns: Deno.Conn[] = [];
  count = 0;

  constructor(address: string) {
    this.#port = Number(new URL(address).port);
    this.#acceptAll().catch(() => {});
  }

  get address(): string {
    return `tcp://127.0.0.1:${this.#listener.addr.port}`;
  }

  /** Cuts the connections that there are. */
  cut(): void {
    for (const conn of this.#conns.splice(0)) {
      try {
        conn.close();
      } catch {
        // It has been closed by the streams over it.
      }
    }
  }

  async #acceptAll(): Promise<void> {
    for await (const near of this.#listener) {
      this.count++;
      const far = await Deno.connect({
        hostname: "127.0.0.1",
        port: this.#port,
      });
      this.#conns.push(near, far);
      near.readable.pipeTo(far.writable).catch(() => {});
      far.readable.pipeTo(near.writable).catch(() => {});
    }
  }

  [Symbol.dispose](): void {
    this.cut();
    this.#listener.close();
  }
}

test("serve keeps the worker of a peer that comes back", async () => {
  await using server = new CliServer([ACTS, "--listen", TCP, "--resume", "60"]);
  using forwarder = new Forwarder(await server.address());
  const peer = await openSocket(forwarder.address, {
    resume: { timeout: 60_000, minDelay: 5 },
  });
  const pid = await ask(peer, "pid");
  for (let number = 0; number < 3; number++) {
    forwarder.cut();
    assertEquals(await ask(peer, "echo", number), number);
  }
  assertEquals(await ask(peer, "pid"), pid);
  assertEquals(forwarder.count, 4);
  await peer.close();
  await server.stderr.until(/^peer 1 .* left; peers: 0$/);
});

test("serve does not wait for a peer that may not come back", async () => {
  await using server = new CliServer([ACTS, "--listen", TCP, "--resume", "0"]);
  using forwarder = new Forwarder(await server.address());
  await assertRejects(
    () => openSocket(forwarder.address, { resume: true }),
    Error,
    "does not resume sessions",
  );
  const peer = await openSocket(forwarder.address);
  const pid = await ask(peer, "pid") as number;
  forwarder.cut();
  await untilGone(pid);
  await assertRejects(() => peer.receive());
});
