// Copyright 2026 the Duplex authors. MIT license.

/**
 * What sockets do when a connection is cut off at any byte, when bytes are
 * changed on the way, and when unknown clients and faulty peers connect; and that
 * they need the permissions that the documentation names, and no others.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertGreater,
  assertInstanceOf,
  assertLess,
  assertMatch,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { PeerExitError, ProtocolError } from "@duplex/ipc/duplex";
import {
  type ListenOptions,
  listenSocket,
  openSocket,
  type SocketOptions,
} from "@duplex/ipc/socket";
import {
  type Direction,
  frameByFrame,
  type Mischief,
  mischief,
  type Plan,
  Proxy,
  writeAll,
} from "./_proxy.ts";
import { random, seed } from "../_seed.ts";
import { Host, startListener } from "./_hosts.ts";
import { NO_FAULTS, Side } from "./_load.ts";
import {
  beServed,
  countReads,
  EchoListener,
  exchange,
  undisturbed,
  until,
} from "./_peers.ts";
import { greeting, LINK, RawPeer } from "./_raw.ts";
import { CA, CERT, KEY, socketPath, unixPermissions } from "./_sockets.ts";
import { isBefore, test } from "../workers/_processes.ts";
import { concat, frame, hello, lyingFrame } from "../workers/_wire.ts";

const SEED = seed();
const NET = { net: ["127.0.0.1"] };
const TCP = "tcp://127.0.0.1:0";
const SECRET = "Only these two know";

/** How many attempts are made at a time. */
const AT_A_TIME = 24;

/** Makes all attempts, some at a time. */
async function runAll(attempts: (() => Promise<void>)[]): Promise<void> {
  const runs = Array.from({ length: AT_A_TIME }, async () => {
    for (let run; (run = attempts.pop()) !== undefined;) await run();
  });
  await Promise.all(runs);
}

/** Bytes of greetings, readies and hellos in each direction. */
async function measureOpening(
  address: string,
  options: SocketOptions,
): Promise<Record<Direction, number>> {
  const sizes = { up: 0, down: 0 };
  const count = (way: Direction) => ({
    alter: frameByFrame((frame, index) => {
      if (index < 3) sizes[way] += frame.length;
      return [frame];
    }),
  });
  const plan = { up: count("up"), down: count("down") };
  await using proxy = new Proxy(address, () => plan);
  await beServed(proxy.address, options);
  return sizes;
}

/** Opens a socket that is cut off behind a byte of the opening. */
async function openCut(
  address: string,
  options: SocketOptions,
  way: Direction,
  cutAfter: number,
  size: number,
): Promise<void> {
  const what = `${way}, cut off behind byte ${cutAfter}`;
  await using proxy = new Proxy(address, () => ({ [way]: { cutAfter } }));
  const error = await assertRejects(
    async () => {
      const duplex = await openSocket(proxy.address, options);
      assert(way === "up" || cutAfter === size, `It has opened: ${what}`);
      await assertRejects(() => duplex.receive(), PeerExitError);
      await duplex.closed;
    },
    Error,
    proxy.address,
    what,
  );
  assert(
    error instanceof PeerExitError ||
      error instanceof Deno.errors.ConnectionReset ||
      error instanceof Deno.errors.BrokenPipe,
    `${what}: ${error}`,
  );
}

for (
  const [name, options] of [
    ["a secret", { secret: SECRET }],
    ["no secret", {}],
  ] as const
) {
  test(
    `openSocket() rejects with ${name} when its opening is cut off at any byte`,
    async () => {
      await using server = new EchoListener(TCP, options);
      const { address } = server;
      const sizes = await measureOpening(address, options);
      const attempts = (["up", "down"] as const).flatMap((way) =>
        Array.from(
          { length: sizes[way] + 1 },
          (_, at) => () => openCut(address, options, way, at, sizes[way]),
        )
      );
      assertGreater(attempts.length, 300);
      await undisturbed(address, options, () => runAll(attempts));
      await server.idle();
      await beServed(address, options);
    },
    NET,
  );
}

/** What became of a load: its two sides, and why each of them ended. */
interface Outcome {
  sides: Side[];
  errors: Error[];
}

/** Plays mischief with a load that cannot be resumed, and looks at what came. */
async function runMischief(
  number: number,
  options: SocketOptions,
  plan: (isOn: () => boolean) => Plan,
): Promise<Outcome> {
  let isOn = false;
  await using listener = listenSocket(TCP, options);
  await using proxy = new Proxy(listener.address, () => plan(() => isOn));
  const [main, worker] = await Promise.all([
    openSocket(proxy.address, options),
    listener.accept(),
  ]);
  const sides = [main, worker].map((duplex, index) =>
    new Side(duplex, random(SEED + 2 * number + index))
  );
  isOn = true;
  const errors = await Promise.all(
    sides.map((side) => assertRejects(() => side.run(), Error)),
  );
  for (const error of errors) {
    const isClear = error instanceof PeerExitError ||
      error instanceof ProtocolError;
    assert(isClear, `${error}`);
  }
  await Promise.allSettled([main.closed, worker.closed]);
  return { sides, errors };
}

/** How many loads mischief is played with at a time. */
const MISCHIEFS = 20;

/** Plays mischief with many loads; gives what became of all of them. */
async function runMischiefs(
  run: (number: number) => Promise<Outcome>,
): Promise<Outcome> {
  const outcomes = await Promise.all(
    Array.from({ length: MISCHIEFS }, (_, number) => run(number)),
  );
  return {
    sides: outcomes.flatMap(({ sides }) => sides),
    errors: outcomes.flatMap(({ errors }) => errors),
  };
}

/** How many messages have arrived. */
function countArrived(sides: Side[]): number {
  return sides.reduce((sum, { checker }) => sum + checker.count, 0);
}

/** The errors of the protocol whose text fits. */
function faultsLike(errors: Error[], pattern: RegExp): Error[] {
  return errors.filter((error) =>
    error instanceof ProtocolError && pattern.test(error.message)
  );
}

/**
 * A heartbeat that notices when the proxy holds back what is waited for, and is
 * not missed when many loads keep the process busy; nor need they send much.
 */
const LIVELY = { heartbeat: 500, windowBytes: 64 * 1024 };

test(
  "openSocket() with checksums detects changed bytes",
  async () => {
    const draw = random(SEED);
    const options = { ...LIVELY, checksum: true };
    const odds = { repeat: 0.05, reorder: 0.05, flip: 0.05 };
    const plan = (isOn: () => boolean) => {
      const alter = () => mischief(draw, { ...odds, isOn });
      return { up: { alter: alter() }, down: { alter: alter() } };
    };
    const { sides, errors } = await runMischiefs((number) =>
      runMischief(number, options, plan)
    );
    for (const { checker } of sides) {
      assertEquals(checker.faults(checker.next), NO_FAULTS);
    }
    assertGreater(countArrived(sides), MISCHIEFS);
    assertGreater(faultsLike(errors, /its checksum is/).length, 0);
  },
  NET,
);

test(
  "openSocket() rejects a message that is repeated or out of order",
  async () => {
    const draw = random(SEED);
    const kinds: Partial<Mischief>[] = [{ repeat: 0.1 }, { reorder: 0.1 }];
    const { sides, errors } = await runMischiefs((number) =>
      runMischief(number, LIVELY, (isOn) => {
        const alter = () =>
          frameByFrame(mischief(draw, { ...kinds[number % 2], isOn }));
        return { up: { alter: alter() }, down: { alter: alter() } };
      })
    );
    for (const { checker } of sides) {
      assertEquals(checker.faults(checker.next), NO_FAULTS);
    }
    assertGreater(countArrived(sides), MISCHIEFS);
    assertGreater(faultsLike(errors, /the next one must be/).length, 0);
  },
  NET,
);

/** Milliseconds for a client to be admitted. A peer takes a hundredth of it. */
const OPEN_TIMEOUT = 300;

/** Unknown clients, what they do, and why the listener rejects them. */
const CLIENTS: [string, (peer: RawPeer) => Promise<unknown>, RegExp][] = [
  ["is silent", () => Promise.resolve(), /did not send its hello within/],
  ["drips", drip, /did not send its hello within/],
  ["speaks HTTP", (peer) => {
    const text = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    return peer.write(new TextEncoder().encode(text));
  }, /"GET ..*does it speak this protocol\?/],
  [
    "speaks nonsense",
    (peer) => {
      const draw = random(SEED);
      return peer.write(new Uint8Array(1000).map(() => draw() * 256));
    },
    /does it speak this protocol\?/,
  ],
  [
    "has much to say",
    (peer) => peer.write(lyingFrame(0xffff_ffff, LINK.greeting)),
    /frame of kind 12 and 4294967295 bytes/,
  ],
  ["ends in its greeting", async (peer) => {
    await peer.write(greeting().subarray(0, 40));
    await peer.conn.closeWrite();
  }, /ended the connection before/],
  [
    "ends at once",
    (peer) => peer.conn.closeWrite(),
    /ended the connection before/,
  ],
  ["babbles", babble, /does it speak this protocol\?/],
  ["babbles behind its greeting", async (peer) => {
    await peer.write(greeting({ secret: true }));
    await babble(peer);
  }, /does it speak this protocol\?/],
  [
    "begins with a hello",
    (peer) => peer.write(hello()),
    /frame of kind 1 /,
  ],
  [
    "greets and no more",
    (peer) => peer.write(greeting({ secret: true })),
    /did not send its hello within/,
  ],
  [
    "speaks of tomorrow",
    (peer) => peer.write(greeting({ secret: true, version: 99 })),
    /it speaks version 99 of the protocol/,
  ],
  [
    "greets in letters",
    (peer) => peer.write(frame(LINK.greeting, new Uint8Array(40))),
    /magic bytes/,
  ],
];

/** Sends a byte now and then, until it is rejected. */
async function drip(peer: RawPeer): Promise<void> {
  try {
    for (const byte of greeting()) {
      await peer.write(new Uint8Array([byte]));
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  } catch {
    // It was rejected.
  }
}

/** Sends megabytes, until it is rejected. */
async function babble(peer: RawPeer): Promise<void> {
  const chunk = new Uint8Array(64 * 1024).fill(0x55);
  let sent = 0;
  try {
    for (; sent < 64 << 20; sent += chunk.length) {
      await writeAll(peer.conn, chunk);
      // The listener has its turn.
      await new Promise((resolve) => setTimeout(resolve));
    }
  } catch {
    // It was rejected.
  }
  // No more than the system itself has taken.
  assertLess(sent, 64 << 20);
}

test(
  "listenSocket() closes invalid connections and serves the others",
  async () => {
    using reads = countReads();
    const options = { secret: SECRET };
    await using server = new EchoListener(TCP, {
      ...options,
      openTimeout: OPEN_TIMEOUT,
    });
    const { address } = server;
    await undisturbed(address, options, async () => {
      const honest = reads.counts.length;
      for (const [what, act, reason] of CLIENTS) {
        const before = server.errors.length;
        using peer = await RawPeer.connect(address);
        await Promise.all([act(peer), peer.untilEnd()]);
        await until(() => server.errors.length > before);
        assertMatch(String(server.errors.at(-1)), reason, what);
        await beServed(address, options);
      }
      const strange = reads.counts.slice(honest).filter((_, index) =>
        index % 2 === 0
      );
      assertEquals(strange.length, CLIENTS.length);
      for (const count of strange) assertLess(count, 2048);
    });
  },
  NET,
);

test(
  "listenSocket() accepts a peer in spite of many silent connections",
  async () => {
    const options = { secret: SECRET };
    await using server = new EchoListener(TCP, { ...options, maxPending: 8 });
    const { address } = server;
    await undisturbed(address, options, async () => {
      const silent = await Promise.all(
        Array.from({ length: 12 }, () => RawPeer.connect(address)),
      );
      await beServed(address, options);
      assertGreater(server.errors.length, 0);
      for (const error of server.errors) {
        assertInstanceOf(error, Deno.errors.ConnectionRefused);
        assertStringIncludes(
          error.message,
          "more than 8 connections are without a proof",
        );
      }
      for (const peer of silent) peer[Symbol.dispose]();
    });
  },
  NET,
);

test("listenSocket() accepts as many peers as maxPeers", async () => {
  await using server = new EchoListener(TCP, { maxPeers: 2 });
  const { address } = server;
  await undisturbed(address, {}, async () => {
    const second = await openSocket(address);
    const error = await assertRejects(
      () => openSocket(address),
      Deno.errors.ConnectionRefused,
    );
    assertStringIncludes(error.message, `Cannot open a socket to "${address}"`);
    assertStringIncludes(error.message, "there are 2 peers already");
    await exchange(second);
    await second.close();
    await until(() => server.listener.stats.peers === 1);
    await beServed(address);
  });
}, NET);

/** A listener with one peer that is not what it seems, once it has proven itself. */
async function withBadPeer(
  run: (
    peer: RawPeer,
    worker: Awaited<ReturnType<ReturnType<typeof listenSocket>["accept"]>>,
  ) => Promise<void>,
  options: ListenOptions = {},
): Promise<void> {
  await using listener = listenSocket(TCP, { ...options, secret: SECRET });
  using peer = await RawPeer.connect(listener.address);
  await peer.greet(SECRET);
  await peer.write(hello());
  const worker = await listener.accept();
  const other = openSocket(listener.address, { secret: SECRET });
  const [main, far] = await Promise.all([other, listener.accept()]);
  await run(peer, worker);
  worker.abort();
  peer[Symbol.dispose]();
  await assertRejects(() => worker.closed);
  // The other one has noticed nothing.
  await main.send("still here");
  assertEquals(await far.receive(), "still here");
  await Promise.all([main.close(), far.close()]);
}

test(
  "listenSocket() serves others while a peer does not read",
  async () => {
    await withBadPeer(async (peer, worker) => {
      const sending = (async () => {
        for (;;) await worker.send(new Uint8Array(10_000));
      })();
      sending.catch(() => {});
      await until(() => worker.stats.blockedMs > 20);
      // It has said that it takes a megabyte.
      assertLess(worker.stats.bytesSent, (1 << 20) + 10_100);
      peer[Symbol.dispose]();
      const error = await assertRejects(() => sending, PeerExitError);
      assertGreater(error.unsent.length, 0);
    });
  },
  NET,
);

test("listenSocket() ends a peer that sends garbage", async () => {
  await withBadPeer(async (peer, worker) => {
    await peer.write(frame(127, new Uint8Array(8)));
    const error = await assertRejects(() => worker.receive(), ProtocolError);
    assertStringIncludes(error.message, "frame of kind 127");
    const refusal = await peer.refusal();
    assertEquals(refusal.fault, true);
    assertStringIncludes(String(refusal.text), "frame of kind 127");
  });
}, NET);

test(
  "listenSocket() ends a peer whose frame is too long",
  async () => {
    await withBadPeer(async (peer, worker) => {
      await peer.write(lyingFrame(0xffff_ffff, 2, new Uint8Array(8)));
      await peer.refusal();
      peer[Symbol.dispose]();
      await assertRejects(() => worker.closed, ProtocolError);
    });
  },
  NET,
);

test(
  "listenSocket() ends a peer that has ended its half without a goodbye",
  async () => {
    await withBadPeer(async (peer, worker) => {
      await worker.send("unheard");
      await peer.conn.closeWrite();
      const error = await assertRejects(() => worker.receive(), PeerExitError);
      assertEquals(error.unsent, ["unheard"]);
    });
  },
  NET,
);

test("listenSocket() ends a peer that has fallen silent", async () => {
  await withBadPeer(async (peer, worker) => {
    await peer.write(concat(hello().subarray(0, 3)));
    const error = await assertRejects(() => worker.closed, PeerExitError);
    assertInstanceOf(error.cause, DOMException);
    assertEquals(error.cause.name, "TimeoutError");
  }, { heartbeat: 50 });
}, NET);

/** What each form of address takes. */
interface Form {
  address: string;
  /** What is documented that it needs; the system chooses where the port is 0. */
  permissions: Record<string, string[]>;
  options: SocketOptions;
  far: ListenOptions;
}

const PATH = socketPath();

const FORMS: Form[] = [
  {
    address: TCP,
    permissions: { net: ["127.0.0.1:0"] },
    options: { secret: SECRET, resume: true, checksum: true },
    far: { secret: SECRET },
  },
  {
    address: "tls://localhost:0",
    permissions: { net: ["localhost:0"] },
    options: { caCerts: [CA], compression: true },
    far: { cert: CERT, key: KEY },
  },
  {
    address: `unix:${PATH}`,
    permissions: unixPermissions(PATH) as Form["permissions"],
    options: {},
    far: {},
  },
];

/** The flags that grant permissions, with the port that the system chose. */
function flagsOf(permissions: Form["permissions"], port: string): string[] {
  return Object.entries(permissions).map(([name, [item]]) =>
    `--allow-${name}=${item!.replace(/:0$/, `:${port}`)}`
  );
}

for (const { address, permissions, options, far } of FORMS) {
  const form = address.slice(0, address.indexOf(":"));
  // In processes of their own: the port is not known before they start.
  test(
    `listenSocket() and openSocket() need what is documented for ${form}`,
    async () => {
      const server = await startListener({
        address,
        options: far,
        permissions: flagsOf(permissions, "0"),
      });
      await using host = server.host;
      const { port } = new URL(server.address);
      await using opener = new Host({
        role: "open",
        address: server.address,
        options,
        permissions: flagsOf(permissions, port),
      });
      await opener.say("stop");
      const [sent, echoed] = (await opener.hear("done")).split(" ");
      assertGreater(Number(sent), 0);
      assertEquals(echoed, sent);
      await host.say("end");
      assertEquals((await host.status).code, 0);
    },
    { run: true },
  );

  for (const missing of Object.keys(permissions)) {
    test(
      `listenSocket() and openSocket() need --allow-${missing} for ${form}`,
      async () => {
        await assertRejects(
          () => openSocket(address.replace(/:0$/, ":1"), options),
          Deno.errors.NotCapable,
        );
        assertThrows(() => listenSocket(address, far), Deno.errors.NotCapable);
      },
      { ...permissions, [missing]: false },
      // Deno leaks a resource of a connection that is not permitted.
      missing === "net" && form !== "unix" && isBefore(4),
    );
  }
}
