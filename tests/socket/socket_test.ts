// Copyright 2026 the Duplex authors. MIT license.

/**
 * What `openSocket` and `listenSocket` do beyond the contract of every duplex.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertGreater,
  assertInstanceOf,
  assertLess,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { ClosedError } from "@duplex/ipc/duplex";
import {
  type ListenOptions,
  listenSocket,
  openSocket,
  type SocketOptions,
} from "@duplex/ipc/socket";
import { formatAddress, parseAddress } from "../../_base/address.ts";
import { countFrames, Proxy } from "./_proxy.ts";
import { until } from "./_peers.ts";
import { LINK, RawPeer } from "./_raw.ts";
import { CA, CERT, KEY, openEnds, watchAccepted } from "./_sockets.ts";
import { within } from "../workers/_processes.ts";

const TCP = "tcp://127.0.0.1:0";
const NET: Deno.PermissionOptions = { net: ["127.0.0.1"] };

function test(
  name: string,
  permissions: Deno.PermissionOptions,
  fn: () => void | Promise<void>,
): void {
  Deno.test({ name, permissions, fn });
}

test("parseAddress() reads every form", "none", () => {
  const forms = [
    "tcp://127.0.0.1:9000",
    "tcp://[::1]:9000",
    "tls://example.com:443",
    "unix:/run/x.sock",
    "unix:relative/x.sock",
    "unix:/with space/and:colon",
  ];
  for (const form of forms) {
    assertEquals(formatAddress(parseAddress("Cannot", form)), form);
  }
  assertEquals(parseAddress("Cannot", "unix:///run/x.sock"), {
    kind: "unix",
    path: "/run/x.sock",
  });
});

test("parseAddress() rejects a URL with invalid escapes", "none", () => {
  for (const path of ["/%zz", "/100%", "/%ff", "/%c0%80"]) {
    const error = assertThrows(
      () => parseAddress("Cannot listen", new URL(`unix:${path}`)),
      TypeError,
      "Cannot listen as the escapes in the address must be UTF-8",
    );
    assertStringIncludes(error.message, `current value is "unix:${path}"`);
    // In a text nothing is escaped.
    const address = parseAddress("Cannot listen", `unix:${path}`);
    assertEquals(address, { kind: "unix", path });
  }
});

test(
  "openSocket() and listenSocket() reject invalid addresses",
  "none",
  async () => {
    const bad = [
      "",
      "127.0.0.1:9000",
      "http://127.0.0.1:9000",
      "tcp://127.0.0.1",
      "tcp://:9000",
      "tcp://user@127.0.0.1:9000",
      "tcp://127.0.0.1:9000/path",
      "tcp://127.0.0.1:70000",
      "unix:",
      "unix:/a\0b",
    ];
    for (const address of bad) {
      await assertRejects(() => openSocket(address), TypeError, "the address");
      assertThrows(() => listenSocket(address), TypeError, "the address");
    }
    const long = `unix:/${"a".repeat(200)}`;
    await assertRejects(
      () => openSocket(long),
      RangeError,
      "at most 107 bytes",
    );
  },
);

test("openSocket() refuses options out of range", "none", async () => {
  const bad: [unknown, typeof RangeError | typeof TypeError, string][] = [
    [{ openTimeout: 0 }, RangeError, '"openTimeout"'],
    [{ heartbeat: -1 }, RangeError, '"heartbeat"'],
    [{ heartbeat: "5" }, TypeError, '"heartbeat"'],
    [{ secret: "" }, RangeError, '"secret" is empty'],
    [{ secret: 5 }, TypeError, '"secret"'],
    [{ checksum: "yes" }, TypeError, '"checksum"'],
    [{ compression: 1 }, TypeError, '"compression"'],
    [{ windowBytes: 0 }, RangeError, '"windowBytes"'],
    [{ resume: { timeout: 0 } }, RangeError, '"resume.timeout"'],
    [{ resume: { minDelay: 9e9 } }, RangeError, '"resume.maxDelay"'],
    [{ resume: { multiplier: 0.5 } }, RangeError, '"resume.multiplier"'],
    [{ resume: { jitter: 2 } }, RangeError, '"resume.jitter"'],
    [{ resume: { replayBytes: 1000 } }, RangeError, "at least 524288"],
    [{ resume: { replayBytes: 1e6 + 0.5 } }, RangeError, "integer"],
    [{ caCerts: [] }, TypeError, '"caCerts" is for "tls"'],
  ];
  for (const [options, type, text] of bad) {
    const open = () =>
      openSocket("tcp://127.0.0.1:1", options as SocketOptions);
    const error = await assertRejects(open, type);
    assertStringIncludes(error.message, text);
    assertStringIncludes(error.message, "Cannot open a socket");
  }
});

test("listenSocket() refuses options out of range", "none", () => {
  const bad: [unknown, typeof RangeError | typeof TypeError, string][] = [
    [{ openTimeout: -5 }, RangeError, '"openTimeout"'],
    [{ maxPeers: 0 }, RangeError, '"maxPeers"'],
    [{ maxPeers: 1.5 }, RangeError, '"maxPeers"'],
    [{ maxPending: "8" }, TypeError, '"maxPending"'],
    [{ resume: { timeout: -1 } }, RangeError, '"resume.timeout"'],
    [{ cert: CERT }, TypeError, '"cert" is for "tls"'],
  ];
  for (const [options, type, text] of bad) {
    const error = assertThrows(
      () => listenSocket(TCP, options as ListenOptions),
      type,
    );
    assertStringIncludes(error.message, text);
  }
  assertThrows(
    () => listenSocket("tls://localhost:0"),
    TypeError,
    '"cert" and "key"',
  );
});

test(
  "listenSocket() requires allowUnauthenticated to listen without a secret",
  {
    net: ["127.0.0.1", "0.0.0.0"],
  },
  async () => {
    const open = "tcp://0.0.0.0:0";
    const error = assertThrows(() => listenSocket(open), TypeError);
    assertStringIncludes(error.message, '"secret"');
    assertStringIncludes(error.message, '"allowUnauthenticated"');
    await listenSocket(open, { allowUnauthenticated: true }).close();
    await listenSocket(open, { secret: "a secret" }).close();
  },
);

test("listenSocket() needs no secret on any loopback address", {
  net: ["127.0.0.2", "localhost", "[::1]"],
}, async () => {
  for (const host of ["127.0.0.2", "localhost", "[::1]"]) {
    const listener = listenSocket(`tcp://${host}:0`);
    await listener.ready;
    assert(!listener.address.endsWith(":0"), listener.address);
    await listener.close();
  }
});

test("listenSocket() ends its iteration when it is closed", NET, async () => {
  const listener = listenSocket<number>(TCP);
  const taken: unknown[] = [];
  const iteration = (async () => {
    for await (const peer of listener) {
      taken.push(await peer.receive());
      await peer.close();
    }
  })();
  for (let number = 1; number <= 3; number++) {
    await using main = await openSocket<number>(listener.address);
    await main.send(number);
  }
  await listener.close();
  await listener.close();
  await iteration;
  assertEquals(taken, [1, 2, 3]);
  const error = await assertRejects(() => listener.accept(), ClosedError);
  assertStringIncludes(error.message, listener.address);
});

test(
  "DuplexListener.accept() rejects when its signal aborts",
  NET,
  async () => {
    await using listener = listenSocket(TCP);
    const controller = new AbortController();
    const { signal } = controller;
    const waiting = assertRejects(
      () => within(listener.accept({ signal })),
      Error,
      "my mind",
    );
    controller.abort(new Error("Changed my mind"));
    await waiting;
    await assertRejects(() => listener.accept({ signal }), Error, "my mind");
    // The peer that comes then is not lost on who has left.
    const [main, worker] = await within(
      Promise.all([openSocket(listener.address), listener.accept()]),
    );
    await Promise.all([main.close(), worker.close()]);
  },
);

test("listenSocket() reports why it closed a connection", NET, async () => {
  const reported = Promise.withResolvers<[unknown, string]>();
  await using listener = listenSocket(TCP, {
    onError: (error, remote) => reported.resolve([error, remote]),
  });
  const { port } = new URL(listener.address);
  const client = await Deno.connect({
    hostname: "127.0.0.1",
    port: Number(port),
  });
  await client.write(new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n"));
  const [error, remote] = await reported.promise;
  assertInstanceOf(error, Error);
  assertStringIncludes(error.message, "Cannot admit");
  assertStringIncludes(error.message, "does it speak this protocol?");
  assertStringIncludes(remote, "tcp://127.0.0.1:");
  assertEquals(listener.stats.refused, 1);
  client.close();
});

test("listenSocket() counts its peers", NET, async () => {
  await using listener = listenSocket(TCP);
  await using proxy = new Proxy(listener.address);
  const [main, worker] = await Promise.all([
    openSocket(listener.address),
    listener.accept(),
  ]);
  // It does not come back while the test runs.
  const resume = { minDelay: 25_000, maxDelay: 25_000, jitter: 0 };
  const [cut, kept] = await Promise.all([
    openSocket(proxy.address, { resume }),
    listener.accept(),
  ]);
  const none = { detached: 0, pending: 0, refused: 0 };
  assertEquals(listener.stats, { ...none, peers: 2 });
  const silent = await RawPeer.connect(listener.address);
  await within(until(() => listener.stats.pending > 0));
  assertEquals(listener.stats, { ...none, peers: 2, pending: 1 });
  proxy.passages[0]!.cut();
  await within(until(() => listener.stats.detached > 0));
  assertEquals(listener.stats, { ...none, peers: 2, pending: 1, detached: 1 });
  silent[Symbol.dispose]();
  await within(until(() => listener.stats.refused > 0));
  assertEquals(listener.stats, { ...none, peers: 2, detached: 1, refused: 1 });
  await Promise.all([main.close(), worker.close()]);
  assertEquals(listener.stats, { ...none, peers: 1, detached: 1, refused: 1 });
  cut.abort();
  kept.abort();
  await Promise.allSettled([cut.closed, kept.closed]);
  assertEquals(listener.stats, { ...none, peers: 0, refused: 1 });
});

test("openSocket() rejects when no process listens", NET, async () => {
  const listener = listenSocket(TCP);
  await listener.close();
  const error = await assertRejects(
    () => openSocket(listener.address),
    Deno.errors.ConnectionRefused,
  );
  assertStringIncludes(error.message, `"${listener.address}"`);
});

test(
  "openSocket() rejects when the listener does not answer in time",
  NET,
  async () => {
    using silent = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const accepted = silent.accept();
    const address = `tcp://127.0.0.1:${silent.addr.port}`;
    const error = await assertRejects(
      () => openSocket(address, { openTimeout: 50 }),
      DOMException,
    );
    assertEquals(error.name, "TimeoutError");
    assertStringIncludes(error.message, address);
    (await accepted).close();
  },
);

test("SocketDuplex.remoteAddress is the address of the peer", NET, async () => {
  const { main, worker, listener } = await openEnds(TCP);
  assertEquals(main.remoteAddress, listener.address);
  assert(/^tcp:\/\/127\.0\.0\.1:\d+$/.test(worker.remoteAddress));
  await Promise.all([main.close(), worker.close(), listener.close()]);
});

test("openSocket() keeps an idle connection alive", NET, async () => {
  const { counts, plan } = countFrames(LINK.ping);
  await using listener = listenSocket(TCP);
  await using proxy = new Proxy(listener.address, () => plan);
  const [main, worker] = await Promise.all([
    openSocket(proxy.address, { heartbeat: 50 }),
    listener.accept(),
  ]);
  // Three heartbeats in silence would have ended it.
  const pings = until(() => Math.min(counts.up, counts.down) > 3);
  await within(Promise.race([pings, main.closed, worker.closed]));
  await main.send("still there");
  assertEquals(await worker.receive(), "still there");
  await Promise.all([main.close(), worker.close()]);
});

const TLS: Deno.PermissionOptions = { net: ["localhost"] };

test(
  "openSocket() rejects a certificate that is not in caCerts",
  TLS,
  async () => {
    const reported = Promise.withResolvers<unknown>();
    await using listener = listenSocket("tls://localhost:0", {
      cert: CERT,
      key: KEY,
      onError: reported.resolve,
    });
    const error = await assertRejects(
      () => openSocket(listener.address),
      Deno.errors.InvalidData,
    );
    assertStringIncludes(error.message, "certificate");
    await reported.promise;
  },
);

test("openSocket() proves a secret over TLS as well", TLS, async () => {
  const { main, worker, listener } = await openEnds<string>(
    "tls://localhost:0",
    { caCerts: [CA], secret: "a secret" },
    { cert: CERT, key: KEY, secret: new TextEncoder().encode("a secret") },
  );
  await main.send("over TLS");
  assertEquals(await worker.receive(), "over TLS");
  await Promise.all([main.close(), worker.close(), listener.close()]);
});

/** Sends a message, and counts the bytes that the connection has carried for it. */
async function carried(
  message: unknown,
  options: SocketOptions,
  far: ListenOptions = {},
): Promise<number> {
  using accepted = watchAccepted();
  const { main, worker, listener } = await openEnds(TCP, options, far);
  const [conn] = accepted.conns;
  let carried = 0;
  const read = conn!.read.bind(conn);
  conn!.read = async (into) => {
    const size = await read(into);
    carried += size ?? 0;
    return size;
  };
  // The read that waits already is not counted, nor is what it brings.
  await main.send("first");
  await worker.receive();
  await main.send(message);
  assertEquals(await worker.receive(), message);
  await Promise.all([main.close(), worker.close(), listener.close()]);
  return carried;
}

test("openSocket() compresses what becomes smaller", NET, async () => {
  const text = "All work and no play makes Jack a dull boy. ".repeat(4000);
  const noise = crypto.getRandomValues(new Uint8Array(60_000));
  const on = { compression: true };
  assertLess(await carried(text, on), text.length / 20);
  assertGreater(await carried(text, {}), text.length);
  assertGreater(await carried(text, on, { compression: false }), text.length);
  const size = await carried(noise, on);
  assertGreater(size, noise.length);
  assertLess(size, noise.length + 1000);
});

test("openSocket() checks records of every size", NET, async () => {
  const { main, worker, listener } = await openEnds<Uint8Array>(TCP, {
    checksum: true,
    compression: true,
  });
  for (const size of [0, 1, 1000, 1024, 65_000, 65_536, 70_000, 1_000_000]) {
    const message = new Uint8Array(size).map((_, index) => index >> 4);
    await main.send(message);
    assertEquals(await worker.receive(), message);
    await worker.send(message);
    assertEquals(await main.receive(), message);
  }
  await Promise.all([main.close(), worker.close(), listener.close()]);
});
