// Copyright 2026 the Duplex authors. MIT license.

/**
 * The life of a pool's workers: starts that fail and succeed later, workers that are
 * kept or closed while they are idle, `init`, `warm` and `broadcast`.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertGreater,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
} from "@std/assert";
import { ClosedError, type Duplex } from "@duplex/ipc/duplex";
import { duplexPair } from "@duplex/ipc/pair";
import { openPipe } from "@duplex/ipc/pipe";
import { Pool, type PoolEvent } from "@duplex/ipc/pool";
import { expose, remote, transfer } from "@duplex/ipc/rpc";
import { openShm } from "@duplex/ipc/shm";
import { listenSocket, openSocket } from "@duplex/ipc/socket";
import {
  Gate,
  NoWaiting,
  numbers,
  Opener,
  poolOf,
  rawPool,
  settle,
  Steps,
} from "./_pools.ts";
import { EventLog } from "../../_pool/events.ts";
import { TAG } from "../../_rpc/messages.ts";
import { test, workerUrl } from "../workers/_processes.ts";

const NOTHING = "none" as const;
const ACTS = workerUrl("pool_acts");
const RPC = import.meta.resolve("../../rpc.ts");

/** Reads events until one of a type. */
async function next<Type extends PoolEvent["type"]>(
  events: AsyncIterator<PoolEvent>,
  type: Type,
): Promise<Extract<PoolEvent, { type: Type }>> {
  for (;;) {
    const { value, done } = await events.next();
    assert(!done, `The events ended before one of type ${type}`);
    if (value.type === type) return value as Extract<PoolEvent, { type: Type }>;
  }
}

/** Methods that return their argument. */
const echo = { echo: (value: unknown) => value };

test("Pool runs its tasks when a server is back", async () => {
  const serve = (address: string) => {
    const listener = listenSocket(address);
    const serving = (async () => {
      for await (const peer of listener) expose(echo, peer);
    })();
    return { listener, serving };
  };
  const first = serve("tcp://127.0.0.1:0");
  const { address } = first.listener;
  const opened: Duplex[] = [];
  const pool = new Pool(async () => {
    const duplex = await openSocket(address);
    opened.push(duplex);
    return duplex;
  }, { workers: 2 });
  const events = pool.events();
  assertEquals(await pool.run("echo", [1]), 1);
  await first.listener.close();
  await first.serving;
  for (const duplex of opened) duplex.abort(new Error("The server is away"));
  const tasks = numbers(20).map((n) => pool.run("echo", [n]));
  const { attempt, delay } = await next(events, "startFailed");
  assertEquals(attempt, 1);
  assert(delay! >= 50 && delay! <= 100, `${delay}`);
  assertEquals((await next(events, "startFailed")).attempt, 2);
  const second = serve(address);
  assertEquals(await Promise.all(tasks), numbers(20));
  await pool.close();
  await second.listener.close();
  await second.serving;
}, { net: ["127.0.0.1"] });

test("Pool runs later tasks when a script is there", async (t) => {
  const folder = await Deno.makeTempDir();
  const script = `${folder}/worker.ts`;
  const good = `import { expose } from "${RPC}"; expose({ f: () => 7 });`;
  const bad: [string, string | undefined, string][] = [
    ["a missing script", undefined, "Module not found"],
    ["a syntax error", "let x = ;", "Expression expected"],
    ["a missing permission", 'Deno.env.get("X")', "NotCapable"],
  ];
  const permissions = { read: [new URL("../..", import.meta.url)] };
  const open = {
    pipe: () => openPipe(script, { stderr: "null" as const }),
    shm: () => openShm(script, { permissions }),
  };
  for (const [name, source, text] of bad) {
    for (const [link, start] of Object.entries(open)) {
      await t.step(`${name} over ${link}`, async () => {
        if (source === undefined) await Deno.remove(script).catch(() => {});
        else await Deno.writeTextFile(script, source);
        const pool = new Pool<{ f(): number }>(start, { workers: 2 });
        const events = pool.events();
        // All that waits is rejected when both workers have failed to start.
        const outcomes = await Promise.allSettled(
          numbers(5).map(() => pool.run("f", [])),
        );
        for (const outcome of outcomes) {
          assert(outcome.status === "rejected");
          assertStringIncludes(outcome.reason.message, text);
        }
        // The one of two at a time that failed last has no delay.
        assertGreater((await next(events, "startFailed")).delay!, 0);
        assertEquals((await next(events, "startFailed")).delay, undefined);
        await Deno.writeTextFile(script, good);
        assertEquals(await pool.run("f", []), 7);
        await pool.close();
      });
    }
  }
  await Deno.remove(folder, { recursive: true });
}, "inherit");

test(
  "Pool reports options that the opening function does not accept",
  async () => {
    const permissions = { env: ["DUPLEX_NOT_HELD"] };
    const opens: [() => Promise<Duplex>, string][] = [
      [() => openPipe(ACTS, { openTimeout: -1 }), "openTimeout"],
      [() => openPipe(ACTS, { denoFlags: ["--allow-all"] }), "--allow-all"],
      [() => openPipe(ACTS, { denoFlags: ["--seed=x"] }), "exited with code"],
      [() => openPipe(ACTS, { permissions }), "DUPLEX_NOT_HELD"],
      [() => openPipe({ command: "duplex-no-such-program" }), "not be started"],
      [() => openPipe("data:text/javascript,"), "exited with code 0"],
      [() => openShm(ACTS, { ringBytes: 5 }), "ringBytes"],
      [() => openSocket("tcp://127.0.0.1"), "127.0.0.1"],
    ];
    for (const [open, text] of opens) {
      await using pool = new Pool(open, { workers: 1 });
      const error = await assertRejects(() => pool.run("f", []), Error, text);
      assertStringIncludes(error.message, "Cannot start a worker: ");
    }
  },
  { run: true },
);

test("Pool fails what waits for longer than startTimeout", async () => {
  const reason = new Error("No server");
  const opener = new Opener(() => echo);
  let isUp = false;
  const pool = new Pool(
    () => isUp ? opener.open() : Promise.reject(reason),
    { workers: 2, startTimeout: 200 },
  );
  const map = pool.mapSettled(numbers(100), "echo");
  const keyed = pool.map(numbers(100), "echo", { key: (n) => `${n}` });
  const outcomes = await Promise.allSettled([
    pool.run("echo", [1]),
    map.next(),
    keyed.next(),
    pool.warm(),
  ]);
  // They are rejected at the same time.
  const messages = new Set(
    outcomes.map((outcome) =>
      outcome.status === "rejected" ? outcome.reason.message : "none"
    ),
  );
  assertEquals(messages.size, 1);
  for (const outcome of outcomes) {
    assert(outcome.status === "rejected");
    assertStringIncludes(
      outcome.reason.message,
      "Cannot start a worker within 200 ms: attempt ",
    );
    assertStrictEquals(outcome.reason.cause, reason);
  }
  isUp = true;
  assertEquals(await pool.run("echo", [2]), 2);
  await pool.close();
}, NOTHING);

test("Pool goes on with its workers if others cannot be started", async () => {
  const opener = new Opener(() => ({
    echo: async (n: number) => {
      await settle();
      return n;
    },
  }));
  const pool = new Pool(() => {
    if (opener.near.length > 0) throw new TypeError("A mistake");
    return opener.open();
  }, { workers: 4, startTimeout: 1 });
  const echoes = numbers(100).map((n) => pool.run("echo", [n]));
  assertEquals(await Promise.all(echoes), numbers(100));
  await pool.close();
}, NOTHING);

test("Pool delays starts of workers that end before they answer", async () => {
  const ends: [string, (far: Duplex) => unknown][] = [
    ["that abort", (far) => far.abort(new Error("Broken"))],
    ["that close", (far) => far.close().catch(() => {})],
  ];
  for (const [name, end] of ends) {
    const pool = new Pool(() => {
      const [near, far] = duplexPair();
      end(far);
      return Promise.resolve(near);
    }, { workers: 1 });
    const events = pool.events();
    const run = assertRejects(
      () => pool.run("f", [], { waitTimeout: 250 }),
      DOMException,
      "Cannot start a worker",
      name,
    );
    const bounds = [100, 200];
    for (const most of bounds) {
      const { delay } = await next(events, "startFailed");
      assert(delay! >= most / 2 && delay! <= most, `${name}: ${delay}`);
    }
    await run;
    await pool.close();
  }
}, NOTHING);

test("Pool reports a worker that exposes no methods", async () => {
  const parent = import.meta.resolve("../../parent.ts");
  const script = `data:text/javascript,import { parent } from "${parent}";
    await parent();`;
  const pool = new Pool(() => openShm(script), {
    workers: 1,
    startTimeout: 300,
  });
  await assertRejects(
    () => pool.run("f", []),
    Error,
    "The worker did not answer within 300 ms: does it call expose()?",
  );
  await pool.close();
}, { read: [new URL("../..", import.meta.url)] });

test("Pool keeps minWorkers, and closes the other idle ones", async () => {
  const opener = new Opener(() => echo);
  const pool = new Pool(opener.open, {
    workers: 4,
    minWorkers: 2,
    idleTimeout: 20,
  });
  const events = pool.events();
  assertEquals((await next(events, "started")).worker, 1);
  assertEquals((await next(events, "started")).worker, 2);
  await pool.warm(4);
  const left = new Set([1, 2, 3, 4]);
  for (const _ of numbers(2)) {
    const { worker, reason } = await next(events, "ended");
    assertEquals(reason, "idleTimeout");
    left.delete(worker);
  }
  assertEquals(pool.stats.workers, 2);
  // One that ends is replaced although no task waits.
  const [one] = left;
  opener.near[one! - 1]!.abort(new Error("It died"));
  assertEquals((await next(events, "started")).worker, 5);
  assertEquals(pool.stats.workers, 2);
  await pool.close();
  await opener.gone();
}, NOTHING);

test("Pool.warm() starts workers", async () => {
  const [pool, opener] = poolOf(echo, { workers: 3 });
  await pool.warm(2);
  assertEquals([pool.stats.workers, opener.near.length], [2, 2]);
  await Promise.all([pool.warm(), pool.warm(1)]);
  assertEquals(pool.stats.workers, 3);
  await assertRejects(() => pool.warm(4), RangeError, "from 1 to 3");
  await pool.close();
  const text = "Cannot warm the pool: the pool is closed";
  await assertRejects(() => pool.warm(), ClosedError, text);
  const other = new Pool(() => new Promise<never>(() => {}), { workers: 1 });
  const waiting = assertRejects(() => other.warm(), Error, "Enough");
  // A start that never ends is abandoned.
  using _ = new NoWaiting(1_000);
  await other.abort(new Error("Enough"));
  await waiting;
}, NOTHING);

test("Pool.warm() rejects if so many workers cannot be started", async () => {
  const reasons: [Error, string][] = [
    [new TypeError("A mistake"), "Cannot start a worker: A mistake"],
    [new Error("No server"), "Cannot start a worker within 200 ms: attempt "],
  ];
  for (const [reason, message] of reasons) {
    const opener = new Opener(() => echo);
    const pool = new Pool(() => {
      if (opener.near.length > 0) throw reason;
      return opener.open();
    }, { workers: 2, startTimeout: 200 });
    const error = await assertRejects(() => pool.warm(), Error, message);
    assertStrictEquals(error.cause, reason);
    assertEquals(await pool.run("echo", [1]), 1);
    await pool.close();
  }
}, NOTHING);

/** Counts the timers of up to some milliseconds that run. */
class ShortTimers implements Disposable {
  readonly #setTimeout = globalThis.setTimeout;
  running = 0;

  constructor(most: number) {
    const start = (run: () => void, ms = 0) => {
      if (ms === 0 || ms > most) return this.#setTimeout(run, ms);
      this.running++;
      return this.#setTimeout(() => {
        this.running--;
        run();
      }, ms);
    };
    globalThis.setTimeout = start as typeof setTimeout;
  }

  [Symbol.dispose](): void {
    globalThis.setTimeout = this.#setTimeout;
  }
}

test("Pool closes an idle worker whose memory was measured late", async () => {
  const asked = new Gate();
  let report: (() => Promise<void>) | undefined;
  using timers = new ShortTimers(5);
  const pool = rawPool(([tag, id], far) => {
    if (tag === TAG.batch) return void far.send([TAG.items, id, [1]]);
    report = () => far.send([TAG.value, id, { memory: 1 }]);
    asked.open();
  }, { idleTimeout: 5, maxMemory: 2 ** 40 });
  const events = pool.events();
  await pool.run("f", [1]);
  await asked.opened;
  // The time is over before the worker reports.
  while (timers.running > 0) await settle();
  assertEquals(pool.stats.workers, 1);
  await report!();
  assertEquals((await next(events, "ended")).reason, "idleTimeout");
  await pool.close();
}, NOTHING);

test("Pool calls init before the first task of each worker", async () => {
  const log: string[] = [];
  const opener = new Opener((worker) => ({
    load: (name: string) => void log.push(`${worker} loads ${name}`),
    work: () => void log.push(`${worker} works`),
  }));
  interface Own {
    load(name: string): void;
    work(): void;
  }
  const pool = new Pool<Own>(opener.open, {
    workers: 1,
    maxTasks: 1,
    init: (worker) => remote<Own>(worker).load("a model"),
  });
  await pool.run("work", []);
  await pool.run("work", []);
  await pool.close();
  assertEquals(log, [
    ...["0 loads a model", "0 works"],
    ...["1 loads a model", "1 works"],
  ]);
}, NOTHING);

test("Pool counts a failed init as a failed start", async () => {
  const inits: [string, (worker: Duplex, far: Duplex) => Promise<void>][] = [
    ["that rejects", () => Promise.reject(new Error("No model"))],
    ["of a worker that ends", (_, far) => {
      far.abort(new Error("No model"));
      return new Promise(() => {});
    }],
  ];
  for (const [name, init] of inits) {
    const opener = new Opener(() => echo);
    let attempts = 0;
    const pool = new Pool(opener.open, {
      workers: 1,
      init: (worker) =>
        ++attempts === 1
          ? init(worker, opener.far[0]!)
          : Promise.resolve(undefined),
    });
    const events = pool.events();
    assertEquals(await pool.run("echo", [1]), 1, name);
    const { error } = await next(events, "startFailed");
    assertEquals((error as Error).message, "No model", name);
    await assertRejects(() => opener.near[0]!.closed, Error, "No model");
    await pool.close();
    await opener.gone();
  }
}, NOTHING);

test("Pool.abort() ends a worker whose init never ends", async () => {
  const began = new Gate();
  const [pool, opener] = poolOf(echo, {
    init: () => {
      began.open();
      return new Promise<never>(() => {});
    },
  });
  const run = assertRejects(() => pool.run("echo", [1]), Error, "Enough");
  await began.opened;
  const aborting = pool.abort(new Error("Enough"));
  assertEquals(opener.near[0]!.tryReceive().state, "closed");
  await aborting;
  await run;
  await opener.gone();
}, NOTHING);

test(
  "Pool.broadcast() calls all workers, and later ones if asked to",
  async () => {
    const values: number[] = [];
    const opener = new Opener((worker) => ({
      set: (value: number) => values[worker] = value,
      get: () => values[worker],
      fails: () => {
        throw new RangeError("Not here");
      },
    }));
    interface Own {
      set(value: number): number;
      get(): number | undefined;
      fails(): void;
    }
    const pool = new Pool<Own>(opener.open, { workers: 3, maxTasks: 1 });
    assertEquals(await pool.broadcast("set", [1]), []);
    await pool.warm(2);
    assertEquals(await pool.broadcast("set", [1]), [1, 1]);
    assertEquals(await pool.broadcast("set", [2], { later: true }), [2, 2]);
    await pool.warm();
    assertEquals(values, [2, 2, 2]);
    // One that was added while a worker starts, and replaces an earlier one.
    const warming = pool.run("get", []);
    assertEquals(await pool.broadcast("set", [3], { later: true }), [3, 3, 3]);
    await warming;
    await pool.warm();
    assertEquals(await pool.broadcast("get", []), [3, 3, 3]);
    // One that fails is not made in later workers.
    for (const later of [false, true]) {
      await assertRejects(
        () => pool.broadcast("fails", [], { later }),
        RangeError,
        "Not here",
      );
    }
    await pool.run("get", []);
    await pool.warm();
    assertEquals(pool.stats.workers, 3);
    await pool.close();
    await assertRejects(() => pool.broadcast("get", []), ClosedError, "closed");
  },
  NOTHING,
);

test(
  "Pool makes the last broadcast of each method in later workers",
  async () => {
    const log: string[] = [];
    const [pool] = poolOf({
      one: (value: number) => void log.push(`one ${value}`),
      other: (value: number) => void log.push(`other ${value}`),
    });
    for (const value of [1, 2]) {
      await pool.broadcast("one", [value], { later: true });
      await pool.broadcast("other", [value], { later: true });
    }
    await pool.warm();
    assertEquals(log, ["one 2", "other 2"]);
    await pool.close();
  },
  NOTHING,
);

test("Pool makes a broadcast in workers that are starting", async () => {
  const values = new Map<number, number>();
  const opening = new Gate();
  const opener = new Opener((worker) => ({
    set: (value: number) => void values.set(worker, value),
    other: () => {},
  }));
  const began = new Gate();
  const pool = new Pool(opener.open, {
    workers: 1,
    init: () => {
      began.open();
      return opening.opened;
    },
  });
  await pool.broadcast("other", [], { later: true });
  const warming = pool.warm();
  await began.opened;
  opening.open();
  // At each step of its start.
  for (const value of numbers(20)) {
    await pool.broadcast("set", [value], { later: true });
    await undefined;
  }
  await warming;
  await pool.broadcast("other", []);
  assertEquals(values.get(0), 19);
  await pool.close();
}, NOTHING);

test("Pool.broadcast() can be limited and cancelled", async () => {
  const steps = new Steps();
  const gate = new Gate();
  const [pool] = poolOf({
    async waits() {
      steps.step();
      await gate.opened;
      return 7;
    },
  });
  await pool.warm();
  await assertRejects(
    () => pool.broadcast("waits", [], { timeout: 1 }),
    DOMException,
    "1 ms",
  );
  const controller = new AbortController();
  const { signal } = controller;
  const cancelled = assertRejects(
    () => pool.broadcast("waits", [], { signal }),
    Error,
    "Not now",
  );
  await steps.until(2);
  controller.abort(new Error("Not now"));
  await cancelled;
  // It is finished before the pool is closed.
  const last = pool.broadcast("waits", []);
  await steps.until(3);
  const closing = pool.close();
  gate.open();
  assertEquals(await last, [7]);
  await closing;
}, NOTHING);

test(
  "Pool.broadcast() with an aborted signal leaves idle workers unreferenced",
  async () => {
    let refs = 0;
    const pool = new Pool(async () => {
      const duplex = await openPipe(ACTS);
      const { ref, unref } = duplex;
      duplex.ref = () => {
        refs++;
        ref.call(duplex);
      };
      duplex.unref = () => {
        refs--;
        unref.call(duplex);
      };
      return duplex;
    }, { workers: 1 });
    pool.unref();
    await pool.warm();
    assertEquals(refs, -1);
    const reason = new Error("No need");
    const signal = AbortSignal.abort(reason);
    const error = await assertRejects(
      () => pool.broadcast("square", [7], { signal }),
    );
    assertStrictEquals(error, reason);
    assertEquals(refs, -1);
    await pool.close();
  },
  { run: true },
);

test(
  "Pool.broadcast() refuses what later workers could not receive",
  async () => {
    const [pool] = poolOf(echo);
    await pool.warm();
    const buffer = new ArrayBuffer(8);
    const once = [new ReadableStream(), transfer(buffer, [buffer])];
    for (const value of once) {
      await assertRejects(
        () => pool.broadcast("echo", [{ deep: [value] }], { later: true }),
        TypeError,
        'Cannot broadcast "echo" as "later" must be false if',
      );
    }
    assertEquals(buffer.byteLength, 8);
    await pool.close();
  },
  NOTHING,
);

test("Pool.events() says why workers have ended", async () => {
  const opener: Opener = new Opener((worker) => ({
    echo: (n: number) => n,
    dies: () => opener.far[worker]!.abort(new Error("It died")),
    hangs: () => new Promise(() => {}),
  }));
  const pool = new Pool(opener.open, {
    workers: 1,
    maxTasks: 2,
    retry: 0,
  });
  const events = pool.events();
  await pool.run("echo", [1]);
  await pool.run("echo", [1]);
  await assertRejects(() => pool.run("dies", []));
  await assertRejects(() => pool.run("hangs", [], { timeout: 5 }));
  await pool.warm();
  await pool.close();
  const ends: [number, string, string | undefined][] = [];
  for await (const event of events) {
    if (event.type !== "ended") continue;
    ends.push([
      event.worker,
      event.reason,
      (event.error as Error | undefined)?.message,
    ]);
  }
  ends.sort(([one], [other]) => one - other);
  const [first, second, third, last] = ends;
  assertEquals(ends.length, 4);
  assertEquals(first, [1, "maxTasks", undefined]);
  assertEquals(second, [2, "exited", "It died"]);
  assertEquals(third!.slice(0, 2), [3, "aborted"]);
  assertStringIncludes(third![2]!, "longer than 5 ms");
  assertEquals(last, [4, "closed", undefined]);
  // After the end there are none.
  assertEquals((await pool.events().next()).done, true);
}, NOTHING);

test("Pool.events() drops the oldest events of a slow reader", async () => {
  const log = new EventLog();
  const [slow, stopped, quick] = [log.read(), log.read(), log.read()];
  const first = quick.next();
  const waiting = stopped.next();
  await stopped.return!();
  assertEquals((await waiting).done, true);
  for (const worker of numbers(1_200)) log.emit({ type: "started", worker });
  log.end();
  assertEquals((await first).value, { type: "started", worker: 0 });
  assertEquals((await stopped.next()).done, true);
  const all = await Array.fromAsync(slow);
  assertEquals(all.slice(0, 2), [
    { type: "dropped", count: 200 },
    { type: "started", worker: 200 },
  ]);
  assertEquals([all.length, all.at(-1)], [
    1001,
    { type: "started", worker: 1_199 },
  ]);
}, NOTHING);

test(
  "Pool starts more workers while one of them is slow to start",
  async () => {
    const gate = new Gate();
    const opener = new Opener(() => echo);
    let starts = 0;
    const pool = new Pool(async () => {
      if (++starts === 1) await gate.opened;
      return await opener.open();
    }, { workers: 2 });
    const tasks = numbers(10).map((n) => pool.run("echo", [n]));
    assertEquals(await Promise.all(tasks), numbers(10));
    assertGreater(starts, 1);
    gate.open();
    await pool.close();
  },
  NOTHING,
);
