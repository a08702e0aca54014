// Copyright 2026 the Duplex authors. MIT license.

/**
 * Web streams among the arguments and in the results of calls: their chunks, their
 * backpressure, and how they end.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertGreater,
  assertInstanceOf,
  assertLessOrEqual,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { json } from "@duplex/ipc/codec";
import { ClosedError, type Duplex, PeerExitError } from "@duplex/ipc/duplex";
import { duplexPair } from "@duplex/ipc/pair";
import { openPipe } from "@duplex/ipc/pipe";
import { Pool } from "@duplex/ipc/pool";
import { openQueue } from "@duplex/ipc/queue";
import { callStats, expose, notifier, remote } from "@duplex/ipc/rpc";
import { openShm } from "@duplex/ipc/shm";
import { listenSocket, openSocket } from "@duplex/ipc/socket";
import { random, seed } from "../_seed.ts";
import { bytes, Sink, Source, STREAM_ACTS } from "../workers/_stream_acts.ts";
import { RUN, workerUrl } from "../workers/_processes.ts";
import { connect, test } from "./_ends.ts";

type Acts = typeof STREAM_ACTS;

const SCRIPT = workerUrl("stream_acts");

/** Waits until everything that is in flight has arrived and was handled. */
async function settle(api: { pid(): Promise<unknown> }): Promise<void> {
  for (let round = 0; round < 5; round++) await api.pid();
}

/** Opens a duplex to a peer with {@linkcode STREAM_ACTS}. */
type Open = () => Promise<Duplex & AsyncDisposable>;

const TRANSPORTS: [name: string, open: Open, Deno.PermissionOptions][] = [
  ["duplexPair", () => {
    const [main, worker] = duplexPair();
    expose(STREAM_ACTS, worker);
    return Promise.resolve(main);
  }, "none"],
  ["openPipe", () => openPipe(SCRIPT), RUN],
  ["openShm", () => openShm(SCRIPT), { read: [new URL("../..", SCRIPT)] }],
  ["openQueue", () => openQueue(SCRIPT), { read: [new URL("../..", SCRIPT)] }],
  ["openSocket", async () => {
    const listener = listenSocket("tcp://127.0.0.1:0");
    const opening = openSocket(listener.address);
    for await (const duplex of listener) {
      expose(STREAM_ACTS, duplex);
      break;
    }
    const duplex = await opening;
    duplex.closed.finally(() => listener.close()).catch(() => {});
    return duplex;
  }, { net: ["127.0.0.1"] }],
];

for (const [name, open, permissions] of TRANSPORTS) {
  test(`remote() sends and returns streams over ${name}()`, async () => {
    await using duplex = await open();
    const api = remote<Acts>(duplex);
    // Values and bytes of a stream in a result.
    const counted = await api.count(100);
    assertEquals(counted.name, "count");
    assertInstanceOf(counted.body, ReadableStream);
    assertEquals(await Array.fromAsync(counted.body), [...Array(100).keys()]);
    const { body } = await api.bytes(3, 100_000);
    const chunks = await Array.fromAsync(body);
    assertEquals(chunks, [0, 1, 2].map((index) => bytes(index, 100_000)));
    // Values and bytes of a stream among the arguments.
    const values = [1, "two", undefined, null, { three: [3] }, bytes(4)];
    const source = new Source((index) => values[index], values.length);
    assertEquals(await api.collect(source.stream), values);
    const parts = new Map(
      [2, 3, 0].map((
        count,
      ) => [`${count}`, new Source((n) => n, count).stream]),
    );
    assertEquals(await api.sum({ parts }), 4);
    // A pair of both.
    const { readable, writable } = await api.double();
    const numbers = new Source((index) => index, 50);
    const [doubled] = await Promise.all([
      Array.fromAsync(readable),
      numbers.stream.pipeTo(writable),
    ]);
    assertEquals(doubled, [...Array(50).keys()].map((index) => index * 2));
    // Writables.
    const { sink } = await api.open();
    const writer = sink.getWriter();
    for (const value of values) writer.write(value);
    await writer.close();
    assertEquals(await api.written(), { chunks: values, isClosed: true });
    const own = new Sink();
    await api.fill(own.stream, 20);
    assertEquals(own.chunks, [...Array(20).keys()].map((n) => bytes(n)));
    assert(own.isClosed);
  }, permissions);
}

/** Two ends with the same methods, each with a remote of the other one. */
function bothWays<Methods extends object>(methods: Methods) {
  const [left, right] = duplexPair();
  expose<object>(methods, left);
  expose<object>(methods, right);
  return {
    left,
    right,
    toRight: remote<Methods>(left),
    toLeft: remote<Methods>(right),
  };
}

test("remote() throws the error of a stream behind its chunks", async () => {
  function failing() {
    return new Source((index) => {
      if (index < 2) return index;
      throw new RangeError("No more", { cause: { index } });
    }).stream;
  }
  const { api, main } = connect({
    open: () => [{ body: failing() }],
    async read(body: ReadableStream<number>) {
      const reader = body.getReader();
      const values = [await reader.read(), await reader.read()];
      await assertRejects(() => reader.read(), RangeError, "No more");
      await assertRejects(() => reader.closed, RangeError, "No more");
      return values.map(({ value }) => value);
    },
  });
  assertEquals(await api.read(failing()), [0, 1]);
  const [opened] = await api.open();
  const reader = opened!.body.getReader();
  assertEquals((await reader.read()).value, 0);
  assertEquals((await reader.read()).value, 1);
  const error = await assertRejects(() => reader.read(), RangeError, "No more");
  assertEquals(error.cause, { index: 2 });
  await main.close();
});

test("remote() throws where a chunk cannot be sent", async () => {
  const source = new Source((index) => index === 0 ? 1 : { a: [Symbol("x")] });
  const { api, main } = connect({ open: () => ({ body: source.stream }) });
  const reader = (await api.open()).body.getReader();
  assertEquals((await reader.read()).value, 1);
  const error = await assertRejects(() => reader.read(), TypeError);
  assertStringIncludes(error.message, '"$.a[0]"');
  assertInstanceOf(await source.cancelled, TypeError);
  await main.close();
});

test("remote() cancels a stream with the reason of its reader", async () => {
  const reason = new RangeError("Enough");
  const leave: ((body: ReadableStream<number>) => Promise<unknown>)[] = [
    (body) => body.cancel(reason),
    async (body) => {
      const reader = body.getReader();
      await reader.read();
      await reader.cancel(reason);
      assertEquals((await reader.read()).done, true);
    },
    async (body) => {
      const reader = body.getReader();
      const reading = reader.read();
      await reader.cancel(reason);
      assertEquals((await reading).done, true);
    },
    (body) =>
      assertRejects(
        () =>
          body.pipeTo(
            new WritableStream({
              write() {
                throw reason;
              },
            }),
          ),
        RangeError,
      ),
  ];
  for (const end of leave) {
    const source = new Source((index) => index);
    const given = new Source((index) => index);
    const { api, main, served } = connect({
      open: () => ({ body: source.stream }),
      async take(body: ReadableStream<number>) {
        await end(body);
      },
    });
    await end((await api.open()).body);
    await api.take(given.stream);
    for (const cancelled of [source.cancelled, given.cancelled]) {
      const reason = await cancelled;
      assertInstanceOf(reason, RangeError);
      assertEquals(reason.message, "Enough");
    }
    await main.close();
    await served;
  }
});

test("remote() fails the writer with the error of a sink", async () => {
  const full = new RangeError("Full");
  const sinks: (() => WritableStream<number>)[] = [
    () =>
      new Sink<number>((chunk) => {
        if (chunk === 3) throw full;
      }).stream,
    () =>
      new WritableStream({
        close() {
          throw full;
        },
      }),
    () => {
      // It fails while no chunk is written.
      let controller: WritableStreamDefaultController;
      return new WritableStream<number>({
        start(given) {
          controller = given;
        },
        write(chunk) {
          if (chunk === 5) setTimeout(() => controller.error(full));
        },
      });
    },
  ];
  async function write(sink: WritableStream<number>, isClosed: boolean) {
    const writer = sink.getWriter();
    const writing = [1, 2, 3, 4, 5].map((chunk) => writer.write(chunk));
    if (isClosed) writing.push(writer.close());
    const ended = Promise.allSettled(writing);
    await assertRejects(() => writer.closed, RangeError, "Full");
    await assertRejects(() => writer.write(6), RangeError, "Full");
    await ended;
  }
  for (const sink of sinks) {
    const isClosed = sink !== sinks[2];
    const { toRight, left, right } = bothWays({
      open: () => ({ sink: sink() }),
      use: (sink: WritableStream<number>) => write(sink, isClosed),
    });
    await toRight.use(sink());
    await write((await toRight.open()).sink, isClosed);
    await Promise.all([left.close(), right.close()]);
  }
});

test("remote() aborts a sink with the reason of its writer", async () => {
  const reason = new RangeError("Enough");
  const gate = Promise.withResolvers<void>();
  const abort: ((
    writer: WritableStreamDefaultWriter<number>,
  ) => Promise<void>)[] = [
    (writer) => writer.abort(reason),
    async (writer) => {
      await writer.write(1);
      await writer.abort(reason);
    },
    // While the sink is busy and chunks wait.
    async (writer) => {
      const writing = Array.from({ length: 50 }, () => writer.write(7));
      const ended = Promise.allSettled(writing);
      await writing[0];
      const aborting = writer.abort(reason);
      gate.resolve();
      await aborting;
      const ends = await ended;
      assert(ends.some(({ status }) => status === "rejected"));
    },
  ];
  for (const end of abort) {
    const sink = new Sink<number>((n) => n === 7 ? gate.promise : undefined);
    const { api, main } = connect({ open: () => ({ sink: sink.stream }) });
    await end((await api.open()).sink.getWriter());
    const aborted = await sink.aborted;
    assertInstanceOf(aborted, RangeError);
    assertEquals(aborted.message, "Enough");
    assertLessOrEqual(sink.chunks.length, 17);
    await main.close();
  }
});

/** Bytes that may be requested before they are read. */
const MAX_AHEAD = 2 ** 20;

for (
  const [name, size, ahead] of [
    ["small", 100, 16],
    ["middling", 400_000, 3],
    ["large", 3_000_000, 1],
  ] as const
) {
  test(`remote() lets a stream get few ${name} chunks ahead`, async () => {
    const source = new Source((index) => bytes(index, size));
    const { api, main } = connect({
      open: () => ({ body: source.stream }),
      pid: () => 0,
    });
    const reader = (await api.open()).body.getReader();
    await settle(api);
    assertEquals(source.made, 0);
    let most = 0;
    for (let read = 1; read <= 20; read++) {
      assertEquals((await reader.read()).value, bytes(read - 1, size));
      await settle(api);
      assertLessOrEqual(source.made, read + ahead);
      most = Math.max(most, source.made - read);
    }
    assertGreater(most, ahead / 2);
    await reader.cancel();
    await main.close();
  });

  test(`remote() lets a writer get few ${name} chunks ahead`, async () => {
    let gate = Promise.withResolvers<void>();
    const sink = new Sink(() => gate.promise);
    const { api, main } = connect({
      open: () => ({ sink: sink.stream }),
      pid: () => 0,
    });
    const writer = (await api.open()).sink.getWriter();
    let written = 0;
    const writing = Array.from(
      { length: 60 },
      (_, index) => writer.write(bytes(index, size)).then(() => written++),
    );
    for (let done = 0; done < 20; done++) {
      await settle(api);
      // One chunk is being written by the sink, and one waits in its stream.
      assertLessOrEqual(written, done + ahead + 2);
      const last = gate;
      gate = Promise.withResolvers();
      last.resolve();
    }
    gate.resolve();
    gate.promise = Promise.resolve();
    await Promise.all(writing);
    await writer.close();
    assertEquals(sink.chunks.length, 60);
    await main.close();
  });
}

test("remote() limits what chunks of any size get ahead", async () => {
  const next = random(seed());
  for (let round = 0; round < 5; round++) {
    const sizes = Array.from(
      { length: 60 },
      () => Math.floor(2 ** (22 * next())),
    );
    const source = new Source((index) => bytes(index, sizes[index]!), 60);
    const { api, main } = connect({
      open: () => ({ body: source.stream }),
      pid: () => 0,
    });
    let read = 0;
    for await (const chunk of (await api.open()).body) {
      assertEquals(chunk.byteLength, sizes[read++]);
      if (next() < 0.5) await settle(api);
      const ahead = sizes.slice(read, source.made);
      // All but the last one of them.
      const size = ahead.slice(0, -1).reduce((sum, size) => sum + size, 0);
      assertLessOrEqual(size, MAX_AHEAD);
      assertLessOrEqual(ahead.length, 17);
    }
    assertEquals(read, 60);
    await main.close();
  }
}, { env: ["DUPLEX_SEED"] });

test("remote() refuses a stream that is locked, and keeps the others", async () => {
  const { api, main } = connect({
    take: (_value: unknown) => {},
    open: () => ({ body: locked }),
    collect: (body: ReadableStream<number>) => Array.fromAsync(body),
  });
  const locked = new Source((n) => n, 3).stream;
  const reader = locked.getReader();
  const sink = new Sink<number>();
  const writer = sink.stream.getWriter();
  const source = new Source((n) => n, 3);
  for (
    const [value, kind] of [
      [{ source: source.stream, locked }, "ReadableStream"],
      [[source.stream, sink.stream], "WritableStream"],
    ] as const
  ) {
    const error = await assertRejects(() => api.take(value), TypeError);
    assertStringIncludes(error.message, 'Cannot call "take"');
    assertStringIncludes(error.message, `${kind} is locked`);
  }
  await assertRejects(() => api.open(), TypeError, "is locked");
  // What was not sent can be used.
  await assertRejects(() => api.take([source.stream, Symbol()]), TypeError);
  assertEquals(await api.collect(source.stream), [0, 1, 2]);
  await assertRejects(() => api.take([source.stream]), TypeError, "is locked");
  reader.releaseLock();
  writer.releaseLock();
  // The rest of a stream can be sent.
  const rest = new Source((n) => n, 3).stream;
  const first = rest.getReader();
  await first.read();
  first.releaseLock();
  assertEquals(await api.collect(rest), [1, 2]);
  await main.close();
});

test("remote() sends a stream that occurs again as one", async () => {
  const { api, main, worker } = connect({
    isSame: (
      [first, { second }]: [ReadableStream, { second: ReadableStream }],
    ) => first === second,
  });
  const { stream } = new Source((n) => n);
  assert(await api.isSame([stream, { second: stream }]));
  assertEquals(callStats(main).sent, 1);
  assertEquals(callStats(worker).held, 1);
  await main.close();
});

test("remote() sends streams as JSON", async () => {
  const [main, worker] = duplexPair({ codec: json });
  expose({ double: STREAM_ACTS.double }, worker);
  const { readable, writable } = await remote<Acts>(main).double();
  const [doubled] = await Promise.all([
    Array.fromAsync(readable),
    new Source((index) => index, 5).stream.pipeTo(writable),
  ]);
  assertEquals(doubled, [0, 2, 4, 6, 8]);
  await main.close();
});

test("notifier() sends streams", async () => {
  const read = Promise.withResolvers<unknown>();
  const methods = {
    take: (body: ReadableStream) => read.resolve(Array.fromAsync(body)),
  };
  const { main } = connect(methods);
  await notifier<typeof methods>(main).take(new Source((n) => n, 3).stream);
  assertEquals(await read.promise, [0, 1, 2]);
  await main.close();
});

test("Pool runs tasks with streams, once", async () => {
  await using pool = new Pool<Acts>(() => openPipe(SCRIPT), { workers: 2 });
  const sources = Array.from(
    { length: 8 },
    (_, count) => new Source((n) => n, count),
  );
  const results = await Promise.all(
    sources.map(({ stream }) => pool.run("collect", [stream])),
  );
  assertEquals(
    results,
    sources.map((_, count) => [...Array(count).keys()]),
  );
  const sink = new Sink();
  await pool.run("fill", [sink.stream, 3]);
  assertEquals(sink.chunks, [0, 1, 2].map((n) => bytes(n)));
  // A stream is sent to one worker, so the task is not run again.
  const source = new Source((n) => n);
  await assertRejects(
    () => pool.run("exit", [{ body: source.stream }]),
    PeerExitError,
    "its worker ended",
  );
  assertInstanceOf(await source.cancelled, PeerExitError);
}, RUN);

/** Frees what nothing refers to, until a promise settles. */
async function collectUntil<T>(promise: Promise<T>): Promise<T> {
  const { setFlagsFromString } = await import("node:v8");
  const { runInNewContext } = await import("node:vm");
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  let isSettled = false;
  promise.finally(() => isSettled = true).catch(() => {});
  while (!isSettled) {
    await new Promise((resolve) => setTimeout(resolve));
    collect();
  }
  return await promise;
}

test("remote() ends streams that the peer has dropped", async () => {
  const source = new Source((n) => n);
  const begun = new Source((n) => n);
  const sink = new Sink<number>();
  const begunSink = new Sink<number>();
  const { api, main, worker } = connect({
    open: () => ({
      unused: [source.stream, sink.stream],
      begun: begun.stream,
      begunSink: begunSink.stream,
    }),
  });
  async function use(): Promise<void> {
    const opened = await api.open();
    assertEquals(callStats(worker).sent, 4);
    assertEquals(callStats(main).held, 4);
    await opened.begun.getReader().read();
    await opened.begunSink.getWriter().write(1);
  }
  await use();
  const reasons = await collectUntil(
    Promise.all([
      ...[source.cancelled, begun.cancelled],
      ...[sink.aborted, begunSink.aborted],
    ]),
  );
  for (const reason of reasons) {
    assertInstanceOf(reason, DOMException);
    assertEquals(reason.message, "The stream is not used by the peer");
  }
  const none = { running: 0, sent: 0, held: 0 };
  await settle({ pid: () => api.open().catch(() => {}) });
  await main.close();
  assertEquals(callStats(main), none);
  assertEquals(callStats(worker), none);
});

test("remote() ends the streams of a duplex that is closed", async () => {
  const sources = [0, 1].map(() => new Source((n) => n));
  const sinks = [0, 1].map(() => new Sink<number>());
  const { api, main, served } = connect({
    open: () => ({
      bodies: sources.map(({ stream }) => stream),
      sinks: sinks.map(({ stream }) => stream),
    }),
  });
  const { bodies: [body, unread], sinks: [sink, unwritten] } = await api.open();
  const reader = body!.getReader();
  const writer = sink!.getWriter();
  await Promise.all([reader.read(), writer.write(1)]);
  await main.close();
  await served;
  for (
    const reason of [
      ...await Promise.all(sources.map(({ cancelled }) => cancelled)),
      ...await Promise.all(sinks.map(({ aborted }) => aborted)),
    ]
  ) assertInstanceOf(reason, ClosedError);
  await assertRejects(
    () => unread!.getReader().read(),
    ClosedError,
    "a stream",
  );
  await assertRejects(() => unwritten!.getWriter().write(1), ClosedError);
  await assertRejects(async () => {
    while (!(await reader.read()).done);
  }, ClosedError);
  await assertRejects(() => writer.closed, ClosedError);
});

test("remote() refuses more streams than maxReferences", async () => {
  const { api, main, worker } = connect({
    keep: (streams: ReadableStream[]) => kept.push(...streams),
    give: (count: number) =>
      Array.from({ length: count }, () => new Source((n) => n).stream),
  });
  const kept: ReadableStream[] = [];
  // A stream counts as 8.
  remote(worker, { maxReferences: 80 });
  const flood = Array.from({ length: 11 }, () => new Source((n) => n));
  const error = await assertRejects(
    () => api.keep(flood.map(({ stream }) => stream)),
    RangeError,
  );
  assertStringIncludes(error.message, '"maxReferences"');
  // The peer does not keep what was refused.
  await Promise.all(flood.map(({ cancelled }) => cancelled));
  assertEquals(callStats(main).sent, 0);
  for (let count = 1; count <= 10; count++) {
    assertEquals(await api.keep([new Source((n) => n).stream]), count);
  }
  await assertRejects(
    () => api.keep([new Source((n) => n).stream]),
    RangeError,
  );
  assertEquals(callStats(worker).held, 10);
  // A stream that was read to its end counts no more.
  await kept[0]!.cancel();
  assertEquals(await api.keep([new Source((n) => n).stream]), 11);
  await assertRejects(() => api.give(81), RangeError, '"maxReferences"');
  await main.close();
});

test("remote() fails streams when there are too many calls", async () => {
  const source = new Source((n) => n);
  const { api, main } = connect({
    give: () => ({ body: source.stream }),
    wait: () => waiting.promise,
  }, { maxCalls: 1 });
  const waiting = Promise.withResolvers<void>();
  const { body } = await api.give();
  const call = api.wait();
  await assertRejects(() => body.getReader().read(), RangeError, "maxCalls");
  assertInstanceOf(await source.cancelled, DOMException);
  waiting.resolve();
  await call;
  await main.close();
});

/**
 * Two ends whose messages are forwarded one by one, until so many were: then the
 * duplexes of both are aborted.
 */
class Cut {
  readonly left: Duplex;
  readonly right: Duplex;
  /** Messages that were forwarded. */
  count = 0;
  readonly #limit: number;
  readonly #inner: Duplex[];

  constructor(limit: number) {
    this.#limit = limit;
    const [left, innerLeft] = duplexPair();
    const [right, innerRight] = duplexPair();
    this.left = left;
    this.right = right;
    this.#inner = [innerLeft, innerRight];
    this.#forward(innerLeft, innerRight);
    this.#forward(innerRight, innerLeft);
  }

  async #forward(from: Duplex, to: Duplex): Promise<void> {
    try {
      for await (const message of from) {
        if (this.count === this.#limit) {
          const reason = new RangeError("Cut");
          for (const duplex of this.#inner) duplex.abort(reason);
          return;
        }
        this.count++;
        await to.send(message);
      }
      await to.close();
    } catch {
      // The other one was aborted.
    }
  }
}

/** Sends streams of both kinds both ways at once, and checks how they end. */
async function exchange(limit: number, sizes: readonly number[]): Promise<Cut> {
  const cut = new Cut(limit);
  const make = (index: number) => bytes(index, sizes[index]!);
  const sources = [0, 1].map(() => new Source(make, sizes.length));
  const sinks = [0, 1].map(() => new Sink<Uint8Array<ArrayBuffer>>());
  const [given, taken] = sources as [typeof sources[0], typeof sources[0]];
  const methods = {
    give: () => ({ body: given.stream, sink: sinks[0]!.stream }),
    take: (
      body: ReadableStream<Uint8Array<ArrayBuffer>>,
      sink: WritableStream<Uint8Array<ArrayBuffer>>,
    ) => body.pipeTo(sink),
  };
  const served = expose(methods, cut.right);
  const api = remote<typeof methods>(cut.left);
  const outcomes = await Promise.allSettled([
    api.give().then(({ body, sink }) => body.pipeTo(sink)),
    api.take(taken.stream, sinks[1]!.stream),
  ]);
  await cut.left.close().catch(() => {});
  await served.catch(() => {});
  for (const { status, stream } of [...sources, ...sinks]) {
    // What was not sent can be used.
    if (stream.locked) await status;
  }
  for (const duplex of [cut.left, cut.right]) {
    assertEquals(callStats(duplex), { running: 0, sent: 0, held: 0 });
  }
  for (const [index, { status }] of outcomes.entries()) {
    const { chunks, status: end } = sinks[index]!;
    for (const [index, chunk] of chunks.entries()) {
      assertEquals(chunk, make(index));
    }
    if (status === "rejected") continue;
    assertEquals(chunks.length, sizes.length);
    assertEquals(await sources[index]!.status, "closed");
    assertEquals(await end, "closed");
  }
  return cut;
}

test("remote() ends all streams wherever their link is cut", async () => {
  const next = random(seed());
  const sizes = Array.from(
    { length: 12 },
    () => Math.floor(2 ** (21 * next())),
  );
  const { count } = await exchange(Infinity, sizes);
  for (let limit = 0; limit < count; limit++) {
    const cut = await exchange(limit, sizes);
    assertEquals(cut.count, limit);
  }
}, { env: ["DUPLEX_SEED"] });

test("remote() ends all streams when a process is killed", async () => {
  for (const step of [0, 1, 20]) {
    const main = await openPipe(SCRIPT);
    const api = remote<Acts>(main);
    const pid = await api.pid();
    const source = new Source((index) => bytes(index));
    const sink = new Sink();
    const collected = api.collect(source.stream);
    const filled = api.fill(sink.stream, 1e9);
    const reader = (await api.endless(100_000)).body.getReader();
    const writer = (await api.open()).sink.getWriter();
    for (let count = 0; count < step; count++) {
      await reader.read();
      await writer.write(count);
    }
    Deno.kill(pid, "SIGKILL");
    for (
      const end of [
        () => collected,
        () => filled,
        async () => {
          while (!(await reader.read()).done);
        },
        async () => {
          for (;;) await writer.write(0);
        },
        () => main.closed,
      ]
    ) await assertRejects(end, PeerExitError);
    assertInstanceOf(await source.cancelled, PeerExitError);
    assertInstanceOf(await sink.aborted, PeerExitError);
  }
}, { run: true });

test("remote() aborts a writable that was not closed before its goodbye", async () => {
  const written = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<unknown>();
  const { api, main, worker } = connect({
    async fill(sink: WritableStream<number>) {
      await sink.getWriter().write(1);
      await new Promise(() => {});
    },
  });
  const sink = new WritableStream<number>({
    write: () => written.resolve(),
    close: () => ended.resolve("closed"),
    abort: ended.resolve,
  });
  const call = assertRejects(() => api.fill(sink), Error, "over");
  await written.promise;
  const closing = assertRejects(() => main.close(), Error, "over");
  assertStringIncludes(`${await ended.promise}`, "has sent its goodbye");
  worker.abort(new Error("over"));
  await Promise.all([call, closing]);
});
