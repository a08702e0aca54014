// Copyright 2026 the Duplex authors. MIT license.

/**
 * TLS of a listener against peers that break it: a handshake that is cut off,
 * changed or no handshake, records that are changed later, and ends with and
 * without a close_notify.
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
} from "@std/assert";
import { PeerExitError } from "@duplex/ipc/duplex";
import { listenSocket, openSocket } from "@duplex/ipc/socket";
import { type Direction, Proxy, writeAll } from "./_proxy.ts";
import { random, seed } from "../_seed.ts";
import {
  beServed,
  countReads,
  EchoListener,
  exchange,
  undisturbed,
  until,
} from "./_peers.ts";
import { greeting, RawPeer } from "./_raw.ts";
import { CA, CERT, clientHello, KEY } from "./_sockets.ts";
import { test } from "../workers/_processes.ts";
import { concat, hello } from "../workers/_wire.ts";

const SEED = seed();
const NET = { net: ["localhost"] };
const TLS = "tls://localhost:0";
const FAR = { cert: CERT, key: KEY };
const OPTIONS = { caCerts: [CA], openTimeout: 2_000 };

/** How many connections there are at a time. */
const AT_A_TIME = 16;

/** Runs all, some at a time. */
async function runAll(runs: (() => Promise<unknown>)[]): Promise<void> {
  const running = Array.from({ length: AT_A_TIME }, async () => {
    for (let run; (run = runs.pop()) !== undefined;) await run();
  });
  await Promise.all(running);
}

/** A proxy in front of a listener, which changes its records. */
function proxyTo(
  address: string,
  plan?: ConstructorParameters<typeof Proxy>[1],
): { proxy: Proxy; proxied: string } {
  const proxy = new Proxy(address.replace("tls:", "tcp:"), plan);
  return { proxy, proxied: proxy.address.replace("tcp:", "tls:") };
}

/** Sends bytes in the place of a TLS handshake; returns the answer. */
async function sendRaw(
  address: string,
  bytes: Uint8Array,
): Promise<Uint8Array> {
  using peer = await RawPeer.connect(address);
  try {
    await peer.write(bytes);
    await peer.conn.closeWrite();
  } catch {
    // It was refused before it had sent all.
  }
  return await peer.untilEnd();
}

test("listenSocket() rejects invalid TLS handshakes", async () => {
  const draw = random(SEED);
  const bytes = (size: number) => new Uint8Array(size).map(() => draw() * 256);
  const first = await clientHello();
  await using server = new EchoListener(TLS, FAR);
  const { address } = server;
  const all: Uint8Array[] = [];
  for (let round = 0; round < 60; round++) {
    const noise = bytes(1 + Math.floor(draw() * 5_000));
    // The head of a TLS record, with any of its kinds.
    const record = concat(new Uint8Array([20 + round % 5, 3, 1]), noise);
    const flipped = first.slice();
    flipped[Math.floor(draw() * first.length)]! ^= 1 << Math.floor(draw() * 8);
    const cut = first.subarray(0, Math.floor(draw() * first.length));
    all.push(
      noise,
      record,
      flipped,
      cut,
      concat(first, noise.subarray(0, 300)),
    );
  }
  await undisturbed(address, OPTIONS, async () => {
    const count = all.length;
    await runAll(all.map((bytes) => () => sendRaw(address, bytes)));
    await until(() => server.errors.length === count);
  });
  await beServed(address, OPTIONS);
}, NET);

test("listenSocket() answers other bytes than TLS with an alert", async () => {
  await using server = new EchoListener(TLS, FAR);
  const text = new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n");
  using peer = await RawPeer.connect(server.address);
  await peer.write(text);
  const answer = await peer.untilEnd();
  // A record of kind alert, of 2 bytes: fatal, and why.
  assertEquals([answer[0], answer[4], answer[5]], [21, 2, 2]);
  await until(() => server.errors.length === 1);
  const [error] = server.errors;
  assertInstanceOf(error, Deno.errors.InvalidData);
  assertStringIncludes(error.message, "Cannot admit");
  assertInstanceOf(error.cause, Deno.errors.InvalidData);
}, NET);

/** Bytes that pass in each direction while a peer is served. */
async function measure(address: string): Promise<Record<Direction, number>> {
  const { proxy, proxied } = proxyTo(address);
  await using _proxy = proxy;
  await beServed(proxied, OPTIONS);
  return proxy.passages[0]!.passed;
}

test(
  "openSocket() over TLS receives everything or fails when it is cut off",
  async () => {
    await using server = new EchoListener(TLS, FAR);
    const { address } = server;
    const sizes = await measure(address);
    const runs = (["up", "down"] as const).flatMap((way) =>
      Array.from(
        { length: Math.ceil(sizes[way] / 23) },
        (_, at) => async () => {
          const plan = { [way]: { cutAfter: at * 23 } };
          const { proxy, proxied } = proxyTo(address, () => plan);
          await using _proxy = proxy;
          // The last bytes are a close_notify, after all else.
          await beServed(proxied, OPTIONS).then(
            () => assertGreater(at * 23, sizes[way] - 200),
            () => {},
          );
        },
      )
    );
    assertGreater(runs.length, 100);
    await undisturbed(address, OPTIONS, () => runAll(runs));
  },
  NET,
);

test(
  "openSocket() over TLS opens nothing when a byte was changed",
  async () => {
    const draw = random(SEED);
    // Where a length was changed, it waits for more.
    await using server = new EchoListener(TLS, { ...FAR, openTimeout: 500 });
    const { address } = server;
    const sizes = await measure(address);
    const runs = (["up", "down"] as const).flatMap((way) =>
      Array.from({ length: Math.ceil(sizes[way] / 31) }, (_, index) => {
        const at = index * 31 + Math.floor(draw() * 31);
        const bit = 1 << Math.floor(draw() * 8);
        return async () => {
          const alter = (chunk: Uint8Array<ArrayBuffer>, position: number) => {
            if (at >= position && at < position + chunk.length) {
              chunk[at - position]! ^= bit;
            }
            return [chunk];
          };
          const { proxy, proxied } = proxyTo(
            address,
            () => ({ [way]: { alter } }),
          );
          await using _proxy = proxy;
          const options = {
            ...OPTIONS,
            openTimeout: 200,
            closeTimeout: 200,
            heartbeat: 50,
          };
          // Some bytes of TLS mean nothing; what was sent arrives or it fails.
          await beServed(proxied, options).catch(() => {});
        };
      })
    );
    await undisturbed(address, OPTIONS, () => runAll(runs));
  },
  NET,
);

test("listenSocket() ends a connection whose record was changed", async () => {
  let isOn = false;
  const alter = (chunk: Uint8Array<ArrayBuffer>) => {
    if (isOn) chunk[chunk.length - 1]! ^= 1;
    return [chunk];
  };
  const listener = listenSocket(TLS, { ...FAR, heartbeat: Infinity });
  const { proxy, proxied } = proxyTo(
    listener.address,
    () => ({ up: { alter } }),
  );
  await using _proxy = proxy;
  const [main, worker] = await Promise.all([
    openSocket(proxied, { ...OPTIONS, heartbeat: Infinity }),
    listener.accept(),
  ]);
  isOn = true;
  await main.send("changed");
  const error = await assertRejects(() => worker.receive(), PeerExitError);
  assertInstanceOf(error.cause, Deno.errors.InvalidData);
  await assertRejects(() => main.closed);
  await listener.close();
}, NET);

/** A peer on TLS whose frames are written by hand. */
async function openRaw(address: string): Promise<RawPeer> {
  const peer = new RawPeer(
    await Deno.connectTls({
      hostname: "localhost",
      port: Number(new URL(address).port),
      caCerts: [CA],
    }),
  );
  await peer.greet();
  await peer.write(hello());
  return peer;
}

test(
  "listenSocket() distinguishes a close_notify from a forged end",
  async () => {
    const listener = listenSocket(TLS, FAR);
    const { proxy, proxied } = proxyTo(listener.address);
    await using _proxy = proxy;
    const [main, worker] = await Promise.all([
      openSocket(proxied, OPTIONS),
      listener.accept(),
    ]);
    // The proxy ends TCP in good order, which TLS does not know of.
    proxy.passages[0]!.cut();
    const error = await assertRejects(() => worker.receive(), PeerExitError);
    assert(
      error.cause instanceof Deno.errors.UnexpectedEof ||
        error.cause instanceof Deno.errors.ConnectionReset,
      String(error.cause),
    );
    await assertRejects(() => main.closed, PeerExitError);
    using peer = await openRaw(listener.address);
    const second = await listener.accept();
    await peer.frame();
    await peer.conn.closeWrite();
    // A close_notify between frames, without a goodbye.
    const ended = await assertRejects(() => second.receive(), PeerExitError);
    assertEquals(ended.cause, undefined);
    await listener.close();
  },
  NET,
);

test(
  "SocketDuplex.close() of a listener ends TLS with a close_notify",
  async () => {
    const listener = listenSocket(TLS, FAR);
    using peer = await openRaw(listener.address);
    const worker = await listener.accept();
    worker.abort(new Error("Enough"));
    // Without one this would reject.
    const bytes = await peer.untilEnd();
    assertGreater(bytes.length, 0);
    peer[Symbol.dispose]();
    await assertRejects(() => worker.closed);
    await listener.close();
  },
  NET,
);

test("listenSocket() over TLS sends as fast as its peer reads", async () => {
  const listener = listenSocket<Uint8Array>(TLS, FAR);
  const [main, worker] = await Promise.all([
    openSocket<Uint8Array>(listener.address, {
      ...OPTIONS,
      windowBytes: 1 << 20,
    }),
    listener.accept(),
  ]);
  const chunk = new Uint8Array(300_000).map((_, index) => index * 7);
  const sending = (async () => {
    for (let count = 0; count < 40; count++) await worker.send(chunk);
    await worker.close();
  })();
  await until(() => worker.stats.blockedMs > 0);
  let count = 0;
  for await (const received of main) {
    assertEquals(received, chunk);
    count++;
  }
  assertEquals(count, 40);
  await Promise.all([main.close(), sending, listener.close()]);
}, NET);

test("openSocket() continues a session over TLS", async () => {
  await using server = new EchoListener(TLS, { ...FAR, checksum: true });
  const { proxy, proxied } = proxyTo(
    server.address,
    (index) => index < 6 ? { up: { cutAfter: 40_000 } } : {},
  );
  await using _proxy = proxy;
  await using main = await openSocket(proxied, {
    ...OPTIONS,
    resume: { minDelay: 1, maxDelay: 1, timeout: 15_000 },
  });
  const text = "x".repeat(10_000);
  for (let round = 0; round < 30; round++) {
    await main.send(text);
    assertEquals(await main.receive(), text);
  }
  await exchange(main);
  assertGreater(proxy.passages.length, 5);
}, NET);

/** A proxy whose connections stall while `isOn`: it drops what the opener sends. */
function stallingProxyTo(address: string) {
  const stall = { isOn: true };
  const { proxy, proxied } = proxyTo(
    address,
    () => stall.isOn ? { up: { alter: () => [] } } : {},
  );
  return { stall, proxy, proxied };
}

test(
  "openSocket() over TLS opens once a server that stalled answers",
  async () => {
    await using server = new EchoListener(TLS, FAR);
    const { stall, proxy, proxied } = stallingProxyTo(server.address);
    await using _proxy = proxy;
    const attempts = Array.from({ length: 20 }, () =>
      assertRejects(
        () => openSocket(proxied, { ...OPTIONS, openTimeout: 200 }),
        DOMException,
        "did not answer within 200 ms",
      ));
    await Promise.all(attempts);
    stall.isOn = false;
    const opened = Array.from({ length: 20 }, () => beServed(proxied, OPTIONS));
    await Promise.all(opened);
  },
  NET,
);

test(
  "openSocket() over TLS resumes once a server that stalled answers",
  async () => {
    await using server = new EchoListener(TLS, FAR);
    const { stall, proxy, proxied } = stallingProxyTo(server.address);
    await using _proxy = proxy;
    stall.isOn = false;
    const resume = { minDelay: 1, maxDelay: 1, timeout: 15_000 };
    const count = 10;
    const mains = await Promise.all(Array.from({ length: count }, async () => {
      const main = await openSocket(proxied, { ...OPTIONS, resume });
      await exchange(main);
      return main;
    }));
    stall.isOn = true;
    const { length } = proxy.passages;
    for (const passage of proxy.passages) passage.cut();
    // So many that each has failed at least once.
    await until(() => proxy.passages.length > length + count);
    stall.isOn = false;
    await Promise.all(mains.map(exchange));
    await Promise.all(mains.map((main) => main.close()));
  },
  NET,
);

/** Accepts connections, answers with the first byte of a record, and stalls. */
class HalfServer implements AsyncDisposable {
  readonly #listener = Deno.listen({ hostname: "localhost", port: 0 });
  readonly #conns: Deno.Conn[] = [];
  readonly #running = this.#run();
  readonly address = `tls://localhost:${this.#listener.addr.port}`;
  /** Connections whose first bytes have arrived. */
  count = 0;

  async #run(): Promise<void> {
    try {
      for await (const conn of this.#listener) {
        this.#conns.push(conn);
        await conn.read(new Uint8Array(4096));
        this.count++;
        await conn.write(new Uint8Array([22]));
      }
    } catch {
      // It was closed while a connection was being accepted.
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    await this.#running;
    for (const conn of this.#conns) conn.close();
  }
}

test(
  "openSocket() over TLS reports stalled handshakes and the time of the next attempt",
  async () => {
    await using server = new HalfServer();
    const { address } = server;
    for (let attempt = 0; attempt < 9; attempt++) {
      const controller = new AbortController();
      const { signal } = controller;
      const opening = openSocket(address, { ...OPTIONS, signal });
      const rejected = assertRejects(() => opening, Error, "Enough");
      // The first attempt makes its handshake at once, others after a probe.
      await until(() => server.count === 1 + 2 * attempt);
      controller.abort(new Error("Enough"));
      await rejected;
    }
    const error = await assertRejects(
      () => openSocket(address, OPTIONS),
      DOMException,
    );
    assertEquals(error.name, "TimeoutError");
    assertMatch(
      error.message,
      /^Cannot open a socket to "tls:.*": the server did not finish 8 TLS handshakes in a row: the next attempt is possible in \d+ s$/,
    );
  },
  NET,
);

test(
  "listenSocket() over TLS reads little from an unproven peer",
  async () => {
    using reads = countReads();
    await using server = new EchoListener(TLS, {
      ...FAR,
      secret: "Only these two know",
    });
    using peer = new RawPeer(
      await Deno.connectTls({
        hostname: "localhost",
        port: Number(new URL(server.address).port),
        caCerts: [CA],
      }),
    );
    await peer.write(greeting({ secret: true }));
    let sent = 0;
    try {
      for (; sent < 64 << 20; sent += 65_536) {
        await writeAll(peer.conn, new Uint8Array(65_536));
      }
    } catch {
      // It was refused.
    }
    assert(sent < 64 << 20);
    await until(() => server.errors.length === 1);
    assertStringIncludes(String(server.errors[0]), "speak this protocol?");
    // The handshake, and one TLS record of at most 16 KiB.
    assertLess(reads.counts[0]!, 24 * 1024);
  },
  NET,
);
