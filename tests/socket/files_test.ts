// Copyright 2026 the Duplex authors. MIT license.

/**
 * Open files of sockets: attempts that fail and connections that are refused give
 * theirs back, in every form of address; and a listener goes on when the system
 * has none left.
 *
 * @module
 */

import {
  assertEquals,
  assertLess,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import {
  type ListenOptions,
  listenSocket,
  openSocket,
  type SocketOptions,
} from "@duplex/ipc/socket";
import { COUNTS_FILES, openFiles, untilFiles } from "./_open_files.ts";
import { writeAll } from "./_proxy.ts";
import { startListener } from "./_hosts.ts";
import { beServed, EchoListener, until } from "./_peers.ts";
import { greeting, RawPeer } from "./_raw.ts";
import { CA, CERT, clientHello, KEY, socketPath } from "./_sockets.ts";
import { isBefore, within } from "../workers/_processes.ts";
import { hello } from "../workers/_wire.ts";

const SECRET = "Only these two know";

/** Milliseconds that an attempt and a connection have. */
const OPEN_TIMEOUT = 50;

/** For an attempt that is ended by something else. */
const NO_HURRY: SocketOptions = { openTimeout: 60_000 };

/** How many attempts are made, or connections, of each kind. */
const COUNT = 6;

type Form = "tcp" | "tls" | "unix";
const FORMS: Form[] = ["tcp", "tls", "unix"];

const OPTIONS: Record<Form, SocketOptions> = {
  tcp: {},
  tls: { caCerts: [CA] },
  unix: {},
};
const FAR: Record<Form, ListenOptions> = {
  tcp: {},
  tls: { cert: CERT, key: KEY },
  unix: {},
};

/** An address of a form, where nothing is yet. */
function addressOf(form: Form): string {
  return form === "unix" ? `unix:${socketPath()}` : `${form}://localhost:0`;
}

/** Reads `/proc`, which takes every permission. */
function filesTest(name: string, fn: () => Promise<void>): void {
  Deno.test({ name, ignore: !COUNTS_FILES, fn: () => within(fn()) });
}

/** A server that does the same to every connection, and keeps it open. */
class Server implements AsyncDisposable {
  readonly address: string;
  readonly #listener: Deno.Listener;
  readonly #conns: Deno.Conn[] = [];
  readonly #running: Promise<void>;

  /**
   * @param form What it listens on.
   * @param isSecured Whether it completes the TLS handshake of a `tls:` address.
   * @param act What it does.
   */
  constructor(
    form: Form,
    isSecured: boolean,
    act: (conn: Deno.Conn) => Promise<unknown>,
  ) {
    if (form === "unix") {
      const path = socketPath();
      this.address = `unix:${path}`;
      this.#listener = Deno.listen({ transport: "unix", path });
    } else {
      const at = { hostname: "localhost", port: 0 };
      const listener = form === "tls" && isSecured
        ? Deno.listenTls({ ...at, cert: CERT, key: KEY })
        : Deno.listen(at);
      this.address = `${form}://localhost:${listener.addr.port}`;
      this.#listener = listener;
    }
    this.#running = this.#run(act);
  }

  /** How many connections it has open. */
  get held(): number {
    return this.#conns.length;
  }

  async #run(act: (conn: Deno.Conn) => Promise<unknown>): Promise<void> {
    const acting: Promise<unknown>[] = [];
    try {
      for await (const conn of this.#listener) {
        this.#conns.push(conn);
        // What it does to a peer that has gone does not matter.
        acting.push(act(conn).catch(() => {}));
      }
    } catch {
      // It was closed while a connection was being accepted.
    }
    // What was passed on is closed already.
    for (const conn of this.#conns) conn[Symbol.dispose]();
    await Promise.all(acting);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    await this.#running;
  }
}

/** Reads one frame of a peer, or what it has sent instead. */
async function readSome(conn: Deno.Conn): Promise<Uint8Array<ArrayBuffer>> {
  const buffer = new Uint8Array(4096);
  return buffer.slice(0, await conn.read(buffer) ?? 0);
}

const HTTP = new TextEncoder().encode("HTTP/1.1 400 Bad Request\r\n\r\n");

/** What a server does, and whether it completes the TLS handshake before that. */
const SERVERS: [string, boolean, (conn: Deno.Conn) => Promise<unknown>][] = [
  ["is silent", false, () => Promise.resolve()],
  ["is silent in TLS", true, readSome],
  ["sends garbage", false, (conn) => writeAll(conn, HTTP)],
  ["sends garbage in TLS", true, async (conn) => {
    await readSome(conn);
    await writeAll(conn, HTTP);
  }],
  ["ends at once", false, (conn) => conn.closeWrite()],
  ["ends after the greeting", true, async (conn) => {
    await readSome(conn);
    await conn.closeWrite();
  }],
  ["ends in its greeting", true, async (conn) => {
    await readSome(conn);
    await writeAll(conn, greeting().subarray(0, 40));
    await conn.closeWrite();
  }],
  ["ends after its greeting", true, async (conn) => {
    await readSome(conn);
    await writeAll(conn, greeting());
    await readSome(conn);
    await conn.closeWrite();
  }],
  ["is silent after its greeting", true, async (conn) => {
    await readSome(conn);
    await writeAll(conn, greeting());
  }],
  ["greets wrongly", true, async (conn) => {
    await readSome(conn);
    await writeAll(conn, greeting({ heartbeat: -1 }));
    await readSome(conn);
  }],
];

/** Makes attempts that must fail, all at a time. */
async function failToOpen(
  address: string,
  options: SocketOptions,
  count: number = COUNT,
): Promise<void> {
  const attempts = Array.from(
    { length: count },
    () =>
      assertRejects(() =>
        openSocket(address, { openTimeout: OPEN_TIMEOUT, ...options })
      ),
  );
  await Promise.all(attempts);
}

for (const form of FORMS) {
  for (const [what, isSecured, act] of SERVERS) {
    if (form !== "tls" && what.endsWith("TLS")) continue;
    filesTest(
      `openSocket() closes its files when a ${form} server ${what}`,
      async () => {
        await using server = new Server(form, isSecured, act);
        // What an attempt loads stays open, and the file of the first one where
        // the TLS handshake is not completed.
        await failToOpen(server.address, OPTIONS[form], 1);
        const before = openFiles() - server.held;
        await failToOpen(server.address, OPTIONS[form]);
        await until(() => openFiles() - server.held <= before);
      },
    );
  }

  filesTest(
    `openSocket() closes its files when ${form} is refused`,
    async () => {
      const options = OPTIONS[form];
      const listener = listenSocket(addressOf(form), {
        ...FAR[form],
        secret: SECRET,
        maxPeers: 1,
      });
      const { address } = listener;
      await failToOpen(address, { ...options, secret: "another one" });
      const peer = await openSocket(address, { ...options, secret: SECRET });
      const worker = await listener.accept();
      const before = openFiles();
      await failToOpen(address, { ...options, secret: "another one" });
      await failToOpen(address, { ...options, secret: SECRET });
      await failToOpen(address, options);
      await failToOpen(address, { ...options, signal: AbortSignal.abort() });
      if (form === "tls") await failToOpen(address, { secret: SECRET });
      await untilFiles(before);
      await Promise.all([peer.close(), worker.close(), listener.close()]);
      await failToOpen(address, options);
      // The listener had one, and each end of the connection.
      await untilFiles(before - 3);
    },
  );
}

filesTest(
  "openSocket() closes its files when it is cancelled while it connects",
  async () => {
    await using server = new Server("tcp", false, () => Promise.resolve());
    const open = async (delay: number) => {
      const controller = new AbortController();
      const { signal } = controller;
      const opening = assertRejects(() =>
        openSocket(server.address, { signal, openTimeout: OPEN_TIMEOUT })
      );
      setTimeout(() => controller.abort(new Error("Stopped")), delay);
      await new Promise((resolve) => setTimeout(resolve));
      // The connection and the timer come while this is busy.
      const start = performance.now();
      while (performance.now() - start < 2 * delay);
      await opening;
    };
    await open(1);
    const before = openFiles() - server.held;
    for (let count = 0; count < 100; count++) await open(1);
    await until(() => openFiles() - server.held <= before);
  },
);

filesTest(
  "openSocket() closes its file when it is cancelled as TLS begins",
  async () => {
    await using server = new Server("tls", false, (conn) => conn.closeWrite());
    const options = { ...OPTIONS.tls, ...NO_HURRY };
    await failToOpen(server.address, options, 1);
    const before = openFiles() - server.held;
    const controller = new AbortController();
    const { startTls } = Deno;
    Deno.startTls = async (conn, options) => {
      const secured = await startTls(conn, options);
      controller.abort(new Error("Stopped"));
      return secured;
    };
    try {
      const { signal } = controller;
      await assertRejects(
        () => openSocket(server.address, { ...options, signal }),
        Error,
        "Stopped",
      );
    } finally {
      Deno.startTls = startTls;
    }
    await until(() => openFiles() - server.held <= before);
  },
);

filesTest(
  "openSocket() keeps few files for a server that answers sometimes",
  async () => {
    let count = 0;
    // Every second connection is an attempt, behind one that looks for an answer.
    await using server = new Server("tls", false, async (conn) => {
      if (count++ % 2 === 1) await writeAll(conn, HTTP);
    });
    await failToOpen(server.address, OPTIONS.tls, 1);
    const before = openFiles() - server.held;
    for (let attempt = 0; attempt < 12; attempt++) {
      await failToOpen(server.address, OPTIONS.tls, 1);
    }
    // As many as may stall in a row after a probe that was answered.
    await until(() => openFiles() - server.held <= before + 8);
  },
);

for (
  const [what, most, act] of [
    ["is silent", 32, () => Promise.resolve()],
    // The first byte of a record: it answers a probe and stalls a handshake.
    ["stalls", 40, (conn: Deno.Conn) => writeAll(conn, new Uint8Array([22]))],
  ] as const
) {
  filesTest(
    `openSocket() keeps few files of many attempts at a TLS server that ${what}`,
    async () => {
      await using server = new Server("tls", false, act);
      // What an attempt loads stays open. Its TLS handshake has begun by then.
      const begun = new AbortController();
      await using other = new Server("tls", false, async (conn) => {
        await readSome(conn);
        begun.abort();
      });
      const { signal } = begun;
      await failToOpen(
        other.address,
        { ...OPTIONS.tls, signal, ...NO_HURRY },
        1,
      );
      const before = openFiles();
      await failToOpen(
        server.address,
        { ...OPTIONS.tls, openTimeout: 300 },
        60,
      );
      await until(() => openFiles() - server.held <= before + most);
    },
  );
}

/** What an unknown client sends to a listener before it sends nothing more. */
const CLIENTS: [string, Form[], (address: string) => Promise<Deno.Conn>][] = [
  ["is silent", FORMS, (address) => connectRaw(address, [])],
  [
    "sends garbage",
    FORMS,
    (address) => connectRaw(address, [HTTP]),
  ],
  [
    "greets and no more",
    ["tcp", "unix"],
    (address) => connectRaw(address, [greeting({ secret: true })]),
  ],
  ["begins a TLS handshake", ["tls"], async (address) => {
    return await connectRaw(address, [(await clientHello()).subarray(0, 100)]);
  }],
  ["does not go on with a TLS handshake", ["tls"], async (address) => {
    return await connectRaw(address, [await clientHello()]);
  }],
  ["is silent in TLS", ["tls"], connectSecured],
  ["greets in TLS and no more", ["tls"], async (address) => {
    const conn = await connectSecured(address);
    await send(conn, greeting({ secret: true }));
    return conn;
  }],
  ["sends garbage in TLS", ["tls"], async (address) => {
    const conn = await connectSecured(address);
    await send(conn, HTTP);
    return conn;
  }],
];

async function connectRaw(
  address: string,
  frames: Uint8Array[],
): Promise<Deno.Conn> {
  const { hostname, port } = new URL(address);
  const conn = address.startsWith("unix:")
    ? await Deno.connect({
      transport: "unix",
      path: address.slice("unix:".length),
    })
    : await Deno.connect({ hostname, port: Number(port) });
  await send(conn, ...frames);
  return conn;
}

/** Sends frames to a listener that may have closed the connection by now. */
async function send(conn: Deno.Conn, ...frames: Uint8Array[]): Promise<void> {
  try {
    for (const frame of frames) await writeAll(conn, frame);
  } catch {
    // It took too long.
  }
}

async function connectSecured(address: string): Promise<Deno.Conn> {
  const conn = await Deno.connectTls({
    hostname: "localhost",
    port: Number(new URL(address).port),
    caCerts: [CA],
  });
  // The listener may close the connection before it is done.
  await conn.handshake().catch(() => {});
  return conn;
}

for (const form of FORMS) {
  for (const [what, forms, connect] of CLIENTS) {
    if (!forms.includes(form)) continue;
    filesTest(
      `listenSocket() closes its files when a ${form} client ${what}`,
      async () => {
        await using server = new EchoListener(addressOf(form), {
          ...FAR[form],
          secret: SECRET,
          openTimeout: OPEN_TIMEOUT,
        });
        const before = openFiles();
        const clients = await Promise.all(
          Array.from({ length: COUNT }, () => connect(server.address)),
        );
        await until(() => server.errors.length === COUNT);
        // Each client keeps its own end open.
        await untilFiles(before + COUNT);
        for (const conn of clients) conn.close();
        await untilFiles(before);
      },
    );
  }

  filesTest(
    `listenSocket() serves past silent ${form} connections`,
    async () => {
      await using server = new EchoListener(addressOf(form), {
        ...FAR[form],
        secret: SECRET,
        maxPending: 4,
      });
      const { address } = server;
      const options = { ...OPTIONS[form], secret: SECRET };
      await beServed(address, options);
      await server.idle();
      const before = openFiles();
      const hello = await clientHello();
      const frames = form === "tls" ? [hello] : [];
      const silent = await Promise.all(
        Array.from(
          { length: 10 },
          (_, number) => connectRaw(address, number % 2 === 0 ? [] : frames),
        ),
      );
      await beServed(address, options);
      const { length } = silent;
      // Those that wait are as many as may, whatever the others keep open.
      await untilFiles(before + length + 4);
      assertEquals(server.errors.length, server.listener.stats.refused);
      for (const conn of silent) conn.close();
    },
  );
}

filesTest(
  "listenSocket() closes its files when a tls peer reads nothing",
  async () => {
    // Deno does not end a write that is under way when its connection is closed.
    if (isBefore(5)) return;
    await using listener = listenSocket("tls://localhost:0", FAR.tls);
    using peer = new RawPeer(await connectSecured(listener.address));
    await peer.greet();
    // More than the system keeps between two sockets.
    await peer.write(hello({ window: 1 << 25 }));
    const worker = await listener.accept();
    const before = openFiles();
    const sending = assertRejects(async () => {
      for (;;) await worker.send(new Uint8Array(500_000));
    });
    await until(() => worker.stats.blockedMs > 0);
    worker.abort(new Error("Enough"));
    await sending;
    await assertRejects(() => worker.closed);
    await untilFiles(before - 1);
  },
);

/** Files that a process may have open, of which it has some 30 at its start. */
const MAX_FILES = 64;

for (const form of ["tcp", "tls"] as const) {
  filesTest(
    `listenSocket() over ${form} closes silent connections when no file is left`,
    async () => {
      const { host, address } = await startListener({
        address: `${form}://localhost:0`,
        options: { ...FAR[form], secret: SECRET },
        permissions: ["--allow-net"],
        maxFiles: MAX_FILES,
      });
      await using _host = host;
      const silent = await Promise.all(
        Array.from({ length: MAX_FILES }, () => connectRaw(address, [])),
      );
      assertMatch(await host.hear("error"), /Too many open files/);
      await beServed(address, { ...OPTIONS[form], secret: SECRET });
      assertStringIncludes(
        await host.hear("error Cannot admit"),
        "the system has no open file left",
      );
      assertLess(openFiles(host.pid), MAX_FILES + 1);
      for (const conn of silent) conn.close();
    },
  );
}

filesTest("listenSocket() accepts again when files are free", async () => {
  const { host, address } = await startListener({
    address: "tcp://localhost:0",
    maxFiles: MAX_FILES,
  });
  await using _host = host;
  const peers = [];
  const full = host.hear("error");
  let isFull = false;
  full.then(() => isFull = true);
  // What cannot be accepted waits in the system's queue.
  while (!isFull) {
    const opening = openSocket(address);
    await Promise.race([opening, full]);
    peers.push(opening);
  }
  const waiting = peers.pop()!;
  const [first] = await Promise.all(peers);
  await first!.close();
  const last = await waiting;
  await last.send("served");
  assertEquals(await last.receive(), "served");
  await last.close();
  for (const peer of peers.slice(1)) (await peer).abort();
});
