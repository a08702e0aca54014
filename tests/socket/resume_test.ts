// Copyright 2026 the Duplex authors. MIT license.

/**
 * Sessions that outlive their connections: under a load that is cut off hundreds
 * of times, at every stage of a session, with what passes changed on the way, and
 * beyond the bounds of resuming.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertLess,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
} from "@std/assert";
import { decode } from "@std/msgpack";
import {
  ClosedError,
  type Duplex,
  PeerExitError,
  ProtocolError,
} from "@duplex/ipc/duplex";
import {
  type DuplexListener,
  type ListenOptions,
  listenSocket,
  openSocket,
  type SocketOptions,
} from "@duplex/ipc/socket";
import { mischief, type Plan, Proxy } from "./_proxy.ts";
import { random, seed } from "../_seed.ts";
import { NO_FAULTS, Side } from "./_load.ts";
import { until } from "./_peers.ts";
import { LINK, RawPeer } from "./_raw.ts";
import { socketPath } from "./_sockets.ts";
import { allDone, isBefore, test } from "../workers/_processes.ts";
import { concat, control, data, hello, KIND } from "../workers/_wire.ts";

const SEED = seed();
const NET = { net: ["127.0.0.1"] };
const TCP = "tcp://127.0.0.1:0";
const SECRET = "Only these two know";

/** Comes back at once, and for as long as a test may take. */
const RESUME = { timeout: 60_000, minDelay: 1, maxDelay: 4 };

/** Nothing but events ends these: a session that waited for a timer would hang. */
const PATIENT = { heartbeat: Infinity, closeTimeout: Infinity };
const PATIENT_FAR = { ...PATIENT, resume: { timeout: 60_000 } };

/** A load in both directions through a proxy, and what goes wrong in it. */
interface Load {
  /** Makes the lots its own. */
  number: number;
  /** Connections after which nothing more goes wrong. */
  connections: number;
  /** Draws what happens to the next connection, while `isOn`. */
  plan(draw: () => number, isOn: () => boolean): Plan;
  options: SocketOptions;
  far: ListenOptions;
  /** Where the listener is, and the proxy if that is a path. */
  address?: string;
  path?: string;
}

/** Runs a load to its end in good order, and looks at what has arrived. */
async function runLoad(load: Load): Promise<void> {
  const draw = random(SEED + load.number);
  let isOver = false;
  const isOn = () => !isOver;
  await using listener = listenSocket(load.address ?? TCP, load.far);
  await using proxy = new Proxy(
    listener.address,
    (index) => index === 0 || isOver ? {} : load.plan(draw, isOn),
    load.path,
  );
  const [main, worker] = await Promise.all([
    openSocket(proxy.address, { ...load.options, resume: RESUME }),
    listener.accept(),
  ]);
  // What goes wrong begins with the second connection.
  proxy.passages[0]!.cut();
  const left = new Side(main, random(SEED * 2 + load.number));
  const right = new Side(worker, random(SEED * 3 + load.number));
  // Who has both goodbyes goes, and the listener need not wait for it to come back.
  const running = left.run().finally(() => listener.close());
  const runs = Promise.all([running, right.run()]);
  runs.catch(() => isOver = true);
  await until(() => isOver || proxy.passages.length > load.connections);
  isOver = left.isStopped = right.isStopped = true;
  await runs;
  assertEquals(right.checker.faults(left.sent), NO_FAULTS);
  assertEquals(left.checker.faults(right.sent), NO_FAULTS);
}

/** Draws where the next connection is cut: a fifth of them while they greet. */
function drawCut(draw: () => number): Plan {
  const way = draw() < 0.5 ? "up" : "down";
  const most = draw() < 0.2 ? 300 : 300_000;
  return { [way]: { cutAfter: Math.floor(draw() * most) } };
}

test("openSocket() loses nothing when it is cut off 500 times", async () => {
  const loads = Array.from(
    { length: 5 },
    (_, number) =>
      runLoad({
        number,
        connections: 101,
        plan: drawCut,
        options: PATIENT,
        far: PATIENT_FAR,
      }),
  );
  await allDone(loads);
}, NET);

/** A slow network that is cut off. */
function slowLoad(): Load {
  const all = { secret: SECRET, checksum: true, compression: true };
  const plan = (draw: () => number): Plan => {
    const delay = () =>
      new Promise<void>((resolve) => setTimeout(resolve, draw() * 5));
    const { up, down } = drawCut(draw);
    return { up: { ...up, delay }, down: { ...down, delay } };
  };
  return {
    number: 5,
    connections: 30,
    plan,
    options: { ...PATIENT, ...all },
    far: { ...PATIENT_FAR, ...all },
  };
}

/** Something between the two ends that changes, repeats and reorders bytes. */
function alteredLoad(): Load {
  const options = {
    secret: SECRET,
    checksum: true,
    // A chunk that the proxy holds back is waited for, and so is the end of a
    // frame whose length has changed.
    heartbeat: 100,
    openTimeout: 1_000,
  };
  const plan: Load["plan"] = (draw, isOn) => {
    const alter = () =>
      mischief(draw, { repeat: 0.1, reorder: 0.05, flip: 0.1, isOn });
    return { up: { alter: alter() }, down: { alter: alter() } };
  };
  return { number: 6, connections: 30, plan, options, far: options };
}

// Both mostly wait, so they do so together.
test(
  "openSocket() loses nothing when bytes are late, change, repeat and move",
  async () => {
    await allDone([runLoad(slowLoad()), runLoad(alteredLoad())]);
  },
  NET,
  // Deno 2.9.0 loses timers on a busy machine, and before 2.9.5 Deno does not end a
  // write of the proxy that is under way when its connection is closed.
  isBefore(5),
);

const PATHS = [socketPath(), socketPath()] as const;

test(
  "openSocket() loses nothing over a Unix socket that is cut off",
  async () => {
    const [path, proxied] = PATHS;
    await runLoad({
      number: 7,
      connections: 50,
      plan: drawCut,
      options: PATIENT,
      far: PATIENT_FAR,
      address: `unix:${path}`,
      path: proxied,
    });
  },
  {
    net: PATHS.map((path) => `unix:${path}`),
    read: [...PATHS],
    write: [...PATHS],
  },
);

/** A session whose connection can be taken away for a while. */
interface Session extends AsyncDisposable {
  main: Duplex;
  worker: Duplex;
  listener: DuplexListener;
  proxy: Proxy;
  /** Takes the connection away; none comes through until `mend`. */
  sever(): Promise<void>;
  mend(): void;
}

async function openSession(
  options: SocketOptions = {},
  far: ListenOptions = {},
): Promise<Session> {
  let isSevered = false;
  const listener = listenSocket(TCP, far);
  const proxy = new Proxy(
    listener.address,
    () => isSevered ? { up: { cutAfter: 0 } } : {},
  );
  const [main, worker] = await Promise.all([
    openSocket(proxy.address, { resume: RESUME, ...options }),
    listener.accept(),
  ]);
  return {
    main,
    worker,
    listener,
    proxy,
    async sever() {
      isSevered = true;
      proxy.passages.at(-1)!.cut();
      await until(() => listener.stats.detached === 1);
    },
    mend: () => void (isSevered = false),
    async [Symbol.asyncDispose]() {
      main.abort();
      worker.abort();
      await Promise.allSettled([main.closed, worker.closed]);
      await listener.close();
      await proxy[Symbol.asyncDispose]();
    },
  };
}

test("openSocket() continues a session on a new connection", async () => {
  await using session = await openSession();
  const { main, worker, listener } = session;
  await main.send("before");
  await session.sever();
  await main.send("meanwhile");
  await worker.send("meanwhile, too");
  session.mend();
  assertEquals(await worker.receive(), "before");
  assertEquals(await worker.receive(), "meanwhile");
  assertEquals(await main.receive(), "meanwhile, too");
  assertEquals(listener.stats.detached, 0);
}, NET);

test(
  "openSocket() rejects when the listener has dropped the session",
  async () => {
    await using session = await openSession({}, { resume: { timeout: 50 } });
    const { main, worker, listener } = session;
    await session.sever();
    await main.send("unsent");
    await worker.send("unsent, too");
    const there = await assertRejects(() => worker.receive(), PeerExitError);
    assertStringIncludes(there.message, "did not reconnect within 50 ms");
    assertEquals(there.unsent, ["unsent, too"]);
    assertEquals(await assertRejects(() => worker.closed), there);
    session.mend();
    const here = await assertRejects(() => main.receive(), PeerExitError);
    assertStringIncludes(here.message, "the session has ended");
    assertEquals(here.unsent, ["unsent"]);
    assertEquals(await assertRejects(() => main.send("late")), here);
    assertEquals([listener.stats.peers, listener.stats.detached], [0, 0]);
  },
  NET,
);

test("openSocket() rejects when it cannot reconnect in time", async () => {
  await using session = await openSession({
    resume: { timeout: 50, minDelay: 1 },
  });
  await session.main.send("taken");
  assertEquals(await session.worker.receive(), "taken");
  await session.sever();
  await session.main.send("unsent");
  const error = await assertRejects(() => session.main.closed, PeerExitError);
  assertStringIncludes(error.message, "Cannot resume the session");
  assertStringIncludes(error.message, "within 50 ms");
  assertEquals(error.unsent.at(-1), "unsent");
}, NET);

test(
  "openSocket() rejects when the listener does not resume sessions",
  async () => {
    await using listener = listenSocket(TCP, { resume: false });
    await assertRejects(
      () => openSocket(listener.address, { resume: true }),
      ProtocolError,
      "The peer does not resume sessions",
    );
    const [main, worker] = await Promise.all([
      openSocket(listener.address),
      listener.accept(),
    ]);
    await Promise.all([main.close(), worker.close()]);
  },
  NET,
);

test(
  "DuplexListener.close() ends a session without a connection",
  async () => {
    await using session = await openSession({
      resume: { timeout: 100, minDelay: 1 },
    });
    await session.sever();
    await session.worker.send("unsent");
    await session.listener.close();
    const error = await assertRejects(
      () => session.worker.closed,
      PeerExitError,
    );
    assertStringIncludes(error.message, "the listener is closed");
    assertEquals(error.unsent, ["unsent"]);
    await assertRejects(() => session.main.closed, PeerExitError);
  },
  NET,
);

test(
  "DuplexListener.close() keeps a session until its connection is lost",
  async () => {
    await using session = await openSession({
      resume: { timeout: 100, minDelay: 1 },
    });
    const { main, worker, listener, proxy } = session;
    await listener.close();
    await main.send("still there");
    assertEquals(await worker.receive(), "still there");
    const start = performance.now();
    proxy.passages[0]!.cut();
    await assertRejects(() => worker.closed, PeerExitError);
    // It does not wait the half minute for which sessions are kept.
    assertLess(performance.now() - start, 10_000);
    await assertRejects(() => main.closed, PeerExitError);
  },
  NET,
);

test("SocketDuplex.abort() needs no connection", async () => {
  await using session = await openSession({}, { resume: { timeout: 50 } });
  const { main, worker } = session;
  await session.sever();
  const reason = new Error("Enough");
  main.abort(reason);
  assertStrictEquals(await assertRejects(() => main.closed), reason);
  await assertRejects(() => worker.closed, PeerExitError);
}, NET);

test(
  "SocketDuplex.abort() of the listener's side ends the session",
  async () => {
    await using session = await openSession();
    const { main, worker } = session;
    await session.sever();
    worker.abort(new Error("Enough"));
    await assertRejects(() => worker.closed, Error, "Enough");
    session.mend();
    const error = await assertRejects(() => main.closed, PeerExitError);
    assertStringIncludes(error.message, "the session has ended");
  },
  NET,
);

test(
  "SocketDuplex.close() without a connection ends within its timeout",
  async () => {
    await using session = await openSession();
    const { main, worker } = session;
    await session.sever();
    await main.send("unsent");
    const error = await assertRejects(
      () => main.close({ timeout: 50 }),
      ClosedError,
      "50 ms",
    );
    assertEquals(error.unsent, ["unsent"]);
    await assertRejects(() => worker.close({ timeout: 50 }), ClosedError);
  },
  NET,
);

test("SocketDuplex.close() waits for the next connection", async () => {
  await using session = await openSession();
  const { main, worker } = session;
  await session.sever();
  await main.send("last");
  const closing = Promise.all([main.close(), worker.close()]);
  session.mend();
  assertEquals(await Array.fromAsync(worker), ["last"]);
  await closing;
}, NET);

/** The least that may be kept for sending again. */
const REPLAY_SIZE = 512 * 1024;

test(
  "SocketDuplex.send() waits while the replay buffer is full",
  async () => {
    const resume = { ...RESUME, replayBytes: REPLAY_SIZE };
    await using session = await openSession({ ...PATIENT, resume }, PATIENT);
    const { main, worker } = session;
    await session.sever();
    const size = 10_000;
    let sent = 0;
    const sending = (async () => {
      for (; sent < 200; sent++) await main.send(new Uint8Array(size));
    })();
    // What is not kept is a batch that waits to be written.
    await until(() => main.stats.blockedMs > 50);
    assertLess(sent * size, REPLAY_SIZE + 2 * 64 * 1024 + size);
    assertLess(sent, 200);
    session.mend();
    for (let number = 0; number < 200; number++) {
      assertEquals((await worker.receive() as Uint8Array).length, size);
    }
    await sending;
  },
  NET,
);

test(
  "SocketDuplex.send() continues when the replay buffer was acknowledged",
  async () => {
    const resume = { ...RESUME, replayBytes: REPLAY_SIZE };
    let isDeaf = false;
    const alter = (chunk: Uint8Array<ArrayBuffer>) => isDeaf ? [] : [chunk];
    await using listener = listenSocket(TCP, PATIENT);
    await using proxy = new Proxy(
      listener.address,
      (index) => index === 0 ? { down: { alter } } : {},
    );
    const [main, worker] = await Promise.all([
      openSocket(proxy.address, { ...PATIENT, resume }),
      listener.accept(),
    ]);
    isDeaf = true;
    const count = 100;
    const sending = (async () => {
      for (let number = 0; number < count; number++) {
        await main.send(new Uint8Array(10_000));
      }
    })();
    await until(() => main.stats.blockedMs > 50);
    // Only the greeting of the next connection says what has arrived.
    proxy.passages[0]!.cut();
    for (let number = 0; number < count; number++) await worker.receive();
    await sending;
    await Promise.all([main.close(), worker.close()]);
  },
  NET,
);

/** A session whose connections are made by hand. */
async function openByHand(listener: DuplexListener) {
  const first = await RawPeer.connect(listener.address);
  const { session } = await first.greet(SECRET, { resume: true });
  assertInstanceOf(session, Uint8Array);
  await first.write(hello());
  const worker = await listener.accept();
  const comeBack = async () => {
    const peer = await RawPeer.connect(listener.address);
    await peer.greet(SECRET, { resume: true, session });
    return peer;
  };
  return { worker, first, comeBack };
}

/** Sends a message over a connection made by hand, and has one back. */
async function exchangeByHand(peer: RawPeer, worker: Duplex): Promise<void> {
  await peer.write(data(1, "to the worker"));
  assertEquals(await worker.receive(), "to the worker");
  await worker.send("to the peer");
  let frame: Uint8Array | null;
  do frame = await peer.frame(); while (frame && frame[4] !== KIND.data);
  assert(frame !== null, "The connection has ended");
  assertEquals(decode(frame.slice(13)), "to the peer");
}

test(
  "DuplexListener keeps the newest of two connections of a session",
  async () => {
    await using listener = listenSocket(TCP, { secret: SECRET, ...PATIENT });
    const { worker, first, comeBack } = await openByHand(listener);
    using _first = first;
    using second = await comeBack();
    await first.untilEnd();
    using third = await comeBack();
    await second.untilEnd();
    assertEquals(listener.stats.detached, 0);
    await exchangeByHand(third, worker);
    worker.abort();
    third[Symbol.dispose]();
    await assertRejects(() => worker.closed);
  },
  NET,
);

test(
  "DuplexListener keeps one of many connections of a session",
  async () => {
    await using listener = listenSocket(TCP, { secret: SECRET, ...PATIENT });
    const { worker, first, comeBack } = await openByHand(listener);
    using _first = first;
    const peers = new Set(await Promise.all([1, 2, 3, 4].map(comeBack)));
    const ends = [...peers].map(async (peer) => {
      await peer.untilEnd();
      peers.delete(peer);
      peer[Symbol.dispose]();
    });
    await until(() => peers.size === 1);
    assertEquals(listener.stats.detached, 0);
    const [kept] = peers;
    await kept!.write(data(1, "to the worker"));
    assertEquals(await worker.receive(), "to the worker");
    worker.abort();
    await assertRejects(() => worker.closed);
    await Promise.all(ends);
  },
  NET,
);

test(
  "openSocket() with checksums does not resume at a changed position",
  async () => {
    const far = { checksum: true };
    let chunks = 0;
    let isAltered = false;
    // The opener's ready of the second connection is its second chunk.
    const alter = (chunk: Uint8Array<ArrayBuffer>) => {
      if (chunks++ !== 1) return [chunk];
      const fields = decode(chunk.slice(5)) as { received: number };
      const received = fields.received + 40;
      isAltered = true;
      return [concat(control(LINK.ready, { ...fields, received }))];
    };
    await using listener = listenSocket<number, Uint8Array>(TCP, far);
    await using proxy = new Proxy(
      listener.address,
      (index) => index === 1 ? { up: { alter } } : {},
    );
    const [main, worker] = await Promise.all([
      openSocket<Uint8Array, number>(proxy.address, { ...far, resume: RESUME }),
      listener.accept(),
    ]);
    proxy.passages[0]!.cut();
    await until(() => listener.stats.detached === 1);
    const messages = Array.from(
      { length: 10 },
      (_, number) => new Uint8Array(1000).fill(number),
    );
    for (const message of messages) await worker.send(message);
    for (const message of messages) assertEquals(await main.receive(), message);
    assert(isAltered);
    assertEquals(listener.stats.refused, 1);
    await Promise.all([main.close(), worker.close()]);
  },
  NET,
);
