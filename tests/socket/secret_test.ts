// Copyright 2026 the Duplex authors. MIT license.

/**
 * Attacks on the secret of a socket: by a peer without it, by one that has
 * recorded the proofs of others, and by one in the middle.
 *
 * @module
 */

import {
  assertEquals,
  assertGreater,
  assertLessOrEqual,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { decode, type ValueMap } from "@std/msgpack";
import { openSocket, type SocketOptions } from "@duplex/ipc/socket";
import { type Direction, frameByFrame, Proxy, writeAll } from "./_proxy.ts";
import { random, seed } from "../_seed.ts";
import { beServed, EchoListener, exchange } from "./_peers.ts";
import { greeting, LINK, RawPeer, ready } from "./_raw.ts";
import { test } from "../workers/_processes.ts";
import { concat, control } from "../workers/_wire.ts";

const SEED = seed();
const NET = { net: ["127.0.0.1"] };
const TCP = "tcp://127.0.0.1:0";
const SECRET = "Only these two know";

type Bytes = Uint8Array<ArrayBuffer>;

/** Expects to be refused for the secret's sake. */
async function assertRefused(
  address: string,
  options: SocketOptions = { secret: SECRET },
): Promise<void> {
  const error = await assertRejects(
    () => openSocket(address, options),
    Deno.errors.PermissionDenied,
  );
  assertStringIncludes(error.message, `Cannot open a socket to "${address}"`);
  assertStringIncludes(error.message, "secret");
}

/** Somebody who accepts connections without being a listener of the package. */
class Impostor implements AsyncDisposable {
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #running: Promise<void>;
  readonly address = `tcp://127.0.0.1:${this.#listener.addr.port}`;

  constructor(serve: (peer: RawPeer) => Promise<unknown>) {
    this.#running = this.#run(serve);
  }

  async #run(serve: (peer: RawPeer) => Promise<unknown>): Promise<void> {
    for await (const conn of this.#listener) {
      using peer = new RawPeer(conn);
      await serve(peer);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    await this.#running;
  }
}

test("openSocket() is refused with a wrong secret", async () => {
  await using server = new EchoListener(TCP, { secret: SECRET });
  for (const secret of ["another", `${SECRET} `, SECRET.slice(1)]) {
    await assertRefused(server.address, { secret });
  }
  await server.idle();
  assertEquals(server.listener.stats.refused, 3);
  for (const error of server.errors) {
    assertStringIncludes(String(error), "do not hold the same secret");
  }
  await beServed(server.address, { secret: SECRET });
}, NET);

test("openSocket() is refused when only one side has a secret", async () => {
  await using server = new EchoListener(TCP, { secret: SECRET });
  await assertRefused(server.address, {});
  await beServed(server.address, { secret: SECRET });
  await using open = new EchoListener(TCP);
  await assertRefused(open.address);
  await beServed(open.address);
}, NET);

/** What both sides of a session say, from the first byte to the last. */
async function record(
  server: EchoListener,
): Promise<Record<Direction, Uint8Array>> {
  const heard = { up: new Uint8Array(), down: new Uint8Array() };
  const tap = (way: Direction) => ({
    alter: (chunk: Bytes) => {
      heard[way] = concat(heard[way], chunk);
      return [chunk];
    },
  });
  await using proxy = new Proxy(server.address, () => ({
    up: tap("up"),
    down: tap("down"),
  }));
  await beServed(proxy.address, { secret: SECRET });
  return heard;
}

test("listenSocket() refuses a replay of a peer's handshake", async () => {
  await using server = new EchoListener(TCP, { secret: SECRET });
  const { up } = await record(server);
  using peer = await RawPeer.connect(server.address);
  await peer.write(up);
  const { refusal } = await peer.refusal().catch(() => ({ refusal: "reset" }));
  // What it said beyond its proof is unread, which may cost it the reason.
  assertEquals(refusal === "secret" || refusal === "reset", true);
  assertStringIncludes(
    String(server.errors[0]),
    "do not hold the same secret",
  );
  await beServed(server.address, { secret: SECRET });
}, NET);

test(
  "openSocket() refuses a replay of a listener's handshake",
  async () => {
    await using server = new EchoListener(TCP, { secret: SECRET });
    const { down } = await record(server);
    await using impostor = new Impostor(async (peer) => {
      await peer.write(down);
      await peer.untilEnd();
    });
    await assertRefused(impostor.address);
  },
  NET,
);

test("openSocket() refuses its own proof", async () => {
  await using impostor = new Impostor(async (peer) => {
    const buffer = new Uint8Array(1024);
    for (let size; (size = await peer.conn.read(buffer)) !== null;) {
      await writeAll(peer.conn, buffer.subarray(0, size));
    }
  });
  await assertRefused(impostor.address);
}, NET);

test("listenSocket() refuses its own handshake", async () => {
  await using server = new EchoListener(TCP, { secret: SECRET });
  using first = await RawPeer.connect(server.address);
  await first.write(greeting({ secret: true }));
  const theirs = await first.frame();
  // Back on the same connection, and as the greeting of another one.
  await first.write(theirs!);
  assertEquals((await first.refusal()).fault, true);
  using second = await RawPeer.connect(server.address);
  await second.write(theirs!);
  const answer = await second.frame();
  await second.write(answer!);
  assertEquals((await second.refusal()).fault, true);
  await beServed(server.address, { secret: SECRET });
}, NET);

test(
  "listenSocket() refuses a proof made for another role, greeting or position",
  async () => {
    await using server = new EchoListener(TCP, { secret: SECRET });
    const own = greeting({ secret: true });
    const other = greeting({ secret: true });
    const cases: [string, (theirs: Uint8Array) => Promise<Uint8Array>][] = [
      ["role", (theirs) => ready("acceptor", [own, theirs], SECRET)],
      ["own greeting", (theirs) => ready("opener", [other, theirs], SECRET)],
      ["their greeting", () => ready("opener", [own, other], SECRET)],
      ["order", (theirs) => ready("opener", [theirs, own], SECRET)],
      ["nothing", (theirs) => ready("opener", [own, theirs])],
      ["position", async (theirs) => {
        const bytes = await ready("opener", [own, theirs], SECRET, 0);
        const fields = decode(bytes.slice(5)) as ValueMap;
        assertEquals(fields.received, 0);
        return control(LINK.ready, { ...fields, received: 1 });
      }],
    ];
    for (const [what, prove] of cases) {
      using peer = await RawPeer.connect(server.address);
      await peer.write(own);
      const theirs = await peer.frame();
      await peer.write(await prove(theirs!));
      assertEquals((await peer.refusal()).refusal, "secret", what);
    }
    // The same by hand, and right.
    using peer = await RawPeer.connect(server.address);
    await peer.greet(SECRET);
    peer[Symbol.dispose]();
    await beServed(server.address, { secret: SECRET });
  },
  NET,
);

test(
  "openSocket() and listenSocket() refuse a proof for other greetings",
  async () => {
    await using server = new EchoListener(TCP, { secret: SECRET });
    // Passes everything on between the two, but for a greeting of its own.
    await using impostor = new Impostor(async (peer) => {
      using far = await RawPeer.connect(server.address);
      await far.write((await peer.frame())!);
      await far.frame();
      await peer.write(greeting({ secret: true }));
      await far.write((await peer.frame())!);
      await peer.write(await far.untilEnd());
    });
    await assertRefused(impostor.address);
    await server.idle();
    assertStringIncludes(
      String(server.errors[0]),
      "do not hold the same secret",
    );
  },
  NET,
);

/** Bytes of the greeting and the ready in each direction. */
async function measure(
  server: EchoListener,
): Promise<Record<Direction, number>> {
  const sizes = { up: 0, down: 0 };
  const count = (way: Direction) => ({
    alter: frameByFrame((frame, index) => {
      if (index < 2) sizes[way] += frame.length;
      return [frame];
    }),
  });
  await using proxy = new Proxy(server.address, () => ({
    up: count("up"),
    down: count("down"),
  }));
  await beServed(proxy.address, { secret: SECRET });
  return sizes;
}

/** Opens a socket while one bit on its way is turned over; gives the error. */
async function openAltered(
  server: EchoListener,
  way: Direction,
  offset: number,
  bit: number,
): Promise<Error> {
  const alter = (chunk: Bytes, position: number) => {
    const at = offset - position;
    if (at >= 0 && at < chunk.length) chunk[at]! ^= 1 << bit;
    return [chunk];
  };
  await using proxy = new Proxy(server.address, () => ({ [way]: { alter } }));
  const options = { secret: SECRET, openTimeout: 1_500 };
  return await assertRejects(
    () => openSocket(proxy.address, options),
    Error,
    `Cannot open a socket to "${proxy.address}"`,
    `${way}, byte ${offset}, bit ${bit}`,
  );
}

/** How many attempts are made at a time. */
const AT_A_TIME = 24;

/**
 * Bytes of the lengths of both greetings and both readies: only a timeout
 * detects a frame that is shorter than its length says.
 */
const LENGTH_BYTES = 4 * 4;

/** Whether it says that something has taken too long, on either side. */
function isLate(error: Error): boolean {
  return error.name === "TimeoutError" ||
    error.message.includes("did not send its hello within");
}

test(
  "openSocket() opens nothing when any byte of a greeting or proof is altered",
  async () => {
    await using server = new EchoListener(TCP, {
      secret: SECRET,
      openTimeout: 2_000,
    });
    const draw = random(SEED);
    const sizes = await measure(server);
    const attempts: (() => Promise<Error>)[] = [];
    const errors: Error[] = [];
    for (const way of ["up", "down"] as const) {
      for (let offset = 0; offset < sizes[way]; offset++) {
        const bit = Math.floor(draw() * 8);
        attempts.push(() => openAltered(server, way, offset, bit));
      }
    }
    const runs = Array.from({ length: AT_A_TIME }, async () => {
      for (let run; (run = attempts.pop()) !== undefined;) {
        errors.push(await run());
      }
    });
    const { count } = server;
    await Promise.all(runs);
    await server.idle();
    assertEquals(server.count, count, "The listener has handed out a duplex");
    assertLessOrEqual(errors.filter(isLate).length, LENGTH_BYTES);
    await beServed(server.address, { secret: SECRET });
    assertEquals(server.count, count + 1);
  },
  NET,
);

test(
  "openSocket() reconnects although any byte of its handshake was altered",
  async () => {
    const options = { secret: SECRET, openTimeout: 250 };
    await using server = new EchoListener(TCP, options);
    const draw = random(SEED);
    const sizes = { up: 0, down: 0 };
    let altered: { way: Direction; offset: number } | undefined;
    const alter = (way: Direction) => (frame: Bytes, index: number) => {
      if (index < 2 && proxy.passages.length === 2) sizes[way] += frame.length;
      return [frame];
    };
    const flip = (offset: number) => (chunk: Bytes, position: number) => {
      const at = offset - position;
      if (at >= 0 && at < chunk.length) {
        chunk[at]! ^= 1 <<
          Math.floor(draw() * 8);
      }
      return [chunk];
    };
    await using proxy = new Proxy(server.address, () => {
      const now = altered;
      altered = undefined;
      if (now !== undefined) return { [now.way]: { alter: flip(now.offset) } };
      return {
        up: { alter: frameByFrame(alter("up")) },
        down: { alter: frameByFrame(alter("down")) },
      };
    });
    await using main = await openSocket(proxy.address, {
      ...options,
      resume: { timeout: 20_000, minDelay: 1, maxDelay: 2 },
    });
    // The listener ends a session whose opening takes longer than `openTimeout`.
    await exchange(main);
    proxy.passages[0]!.cut();
    await exchange(main);
    assertGreater(sizes.up, 0);
    for (const way of ["up", "down"] as const) {
      for (let offset = 0; offset < sizes[way]; offset++) {
        altered = { way, offset };
        proxy.passages.at(-1)!.cut();
        await exchange(main);
        assertEquals(altered, undefined);
      }
    }
  },
  NET,
);
