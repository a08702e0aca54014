// Copyright 2026 the Duplex authors. MIT license.

/**
 * The table "What a value may be" of the README, over every transport and with both
 * codecs: each value arrives as the table has it, or is refused with its place.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertFalse,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
} from "@std/assert";
import { type Codec, json, msgpack } from "@duplex/ipc/codec";
import type { Duplex } from "@duplex/ipc/duplex";
import { openPipe } from "@duplex/ipc/pipe";
import { Pool } from "@duplex/ipc/pool";
import type { Acts } from "../workers/_rpc_acts.ts";
import { openQueue } from "@duplex/ipc/queue";
import { openShm } from "@duplex/ipc/shm";
import {
  type Case,
  type Column,
  MODULE,
  type Row,
  ROWS,
} from "./_value_rows.ts";
import { difference } from "../fuzz/equal.ts";
import { openEnds, socketPath, unixPermissions } from "../socket/_sockets.ts";
import { workerUrl } from "../workers/_processes.ts";

const SCRIPT = workerUrl("values");
const README = new URL("../../README.md", import.meta.url);

/** Runs a function with a duplex whose peer sends every message back. */
type Use = (run: (main: Duplex) => Promise<void>) => Promise<void>;

interface Transport {
  readonly name: string;
  readonly isThread: boolean;
  readonly permissions: Deno.PermissionOptionsObject;
  open(codec: Codec): Use;
}

function worker(open: (codec: Codec) => Promise<Duplex & AsyncDisposable>) {
  return (codec: Codec): Use => async (run) => {
    await using main = await open(codec);
    await run(main);
  };
}

function socket(address: string) {
  return (codec: Codec): Use => async (run) => {
    const { main, worker, listener } = await openEnds(address, { codec }, {
      codec,
    });
    const echo = (async () => {
      for await (const message of worker) await worker.send(message);
      await worker.close();
    })();
    await run(main);
    await main.close();
    await echo;
    await listener.close();
  };
}

const FILES = [new URL("../..", import.meta.url)];
const PATH = socketPath();

const TRANSPORTS: readonly Transport[] = [
  {
    name: "openPipe()",
    isThread: false,
    permissions: { run: [Deno.execPath()] },
    open: worker((codec) => openPipe(SCRIPT, { codec })),
  },
  {
    name: "openQueue()",
    isThread: true,
    permissions: { read: FILES },
    open: worker((codec) => openQueue(SCRIPT, { codec })),
  },
  {
    name: "openShm()",
    isThread: true,
    permissions: { read: FILES },
    open: worker((codec) => openShm(SCRIPT, { codec })),
  },
  {
    name: "openSocket() over TCP",
    isThread: false,
    permissions: { net: ["127.0.0.1"] },
    open: socket("tcp://127.0.0.1:0"),
  },
  {
    name: "openSocket() over a Unix socket",
    isThread: false,
    permissions: unixPermissions(PATH),
    open: socket(`unix:${PATH}`),
  },
];

/** Why a value is refused, or `undefined`. */
function refusal(row: Row, one: Case, column: Column): string | undefined {
  return one.refused?.[column] ?? row.refused[column];
}

/** Sends a value within a message, and compares what arrives. */
async function exchange(
  main: Duplex,
  row: Row,
  one: Case,
  column: Column,
): Promise<void> {
  const value = one.make();
  const message = { at: [value], behind: "end" };
  const text = refusal(row, one, column);
  // JSON refuses a value of a class whatever is in it.
  const isWhole = one.refused?.[column] !== undefined;
  if (text !== undefined) {
    const error = await assertRejects(() => main.send(message), TypeError);
    assertStringIncludes(error.message, text);
    const path = isWhole ? "" : one.path ?? "";
    assertStringIncludes(error.message, `the value at "$.at[0]${path}" is`);
    return;
  }
  await main.send(message);
  const received = await main.receive() as typeof message;
  assertEquals(received.behind, "end");
  if (one.check !== undefined) return await one.check(received.at[0], value);
  const expected = one.arrives?.(value as never, column) ?? value;
  assertEquals(difference(expected, received.at[0]), undefined);
}

/** Moves a value to the peer together with a buffer, which stays if it is refused. */
async function move(
  main: Duplex,
  row: Row,
  one: Case,
  text: string | undefined,
): Promise<void> {
  const value = one.make() as Transferable;
  const { buffer } = new Uint8Array(8);
  if (text === undefined) {
    await main.send(value, { transfer: [value] });
    return await one.check!(await main.receive(), value);
  }
  const error = await assertRejects(
    () => main.send([buffer, value], { transfer: [buffer, value] }),
    TypeError,
  );
  assertStringIncludes(error.message, text);
  assertFalse(buffer.detached, row.name);
  await (value as { cancel?(): Promise<void> }).cancel?.();
}

for (const { name, isThread, permissions, open } of TRANSPORTS) {
  for (const codec of [msgpack, json]) {
    Deno.test({
      name: `${name} carries the values of the table with ${codec.name}`,
      permissions,
      fn: (t) =>
        open(codec)(async (main) => {
          const column = isThread
            ? "threads"
            : codec === json
            ? "json"
            : "bytes";
          for (const row of ROWS) {
            await t.step(row.name, async () => {
              for (const one of row.cases) {
                const isQueue = name === "openQueue()";
                try {
                  if (!row.isMoved) await exchange(main, row, one, column);
                  else {
                    const text = isQueue
                      ? "through a queue"
                      : refusal(row, one, column);
                    await move(main, row, one, text);
                  }
                } catch (cause) {
                  throw new Error(`${one.what} does not arrive`, { cause });
                }
              }
            });
          }
        }),
    });
  }
}

/** The cells of the rows of the README's table. */
async function tableOfReadme(): Promise<string[][]> {
  const readme = await Deno.readTextFile(README);
  const start = readme.indexOf("## What a value may be");
  assert(start >= 0, "README.md has no table of values");
  const lines = readme.slice(start).split("\n");
  const first = lines.findIndex((line) => line.startsWith("| ---"));
  const rest = lines.slice(first + 1);
  const end = rest.findIndex((line) => !line.startsWith("|"));
  return rest.slice(0, end).map((line) =>
    line.split("|").slice(1, -1).map((cell) => cell.trim())
  );
}

Deno.test({
  name: "README.md has the rows of the table, and what is refused",
  permissions: { read: [README] },
  async fn() {
    const table = await tableOfReadme();
    assertEquals(table.map(([name]) => name), ROWS.map(({ name }) => name));
    for (const [at, row] of ROWS.entries()) {
      for (const [index, column] of COLUMNS.entries()) {
        // A queue refuses what is moved.
        const isRefused = row.isMoved ||
          row.cases.some((one) => refusal(row, one, column) !== undefined);
        const cell = table[at]![index + 1]!;
        assertEquals(
          cell.includes("TypeError"),
          isRefused,
          `${row.name}: ${cell}`,
        );
      }
    }
  },
});

/** The columns of the README's table behind the first. */
const COLUMNS: readonly Column[] = ["threads", "bytes", "json"];

Deno.test({
  name: "send() rejects with the error of a getter, and sends nothing",
  permissions: { read: FILES, run: [Deno.execPath()] },
  async fn() {
    for (const open of [openPipe, openQueue, openShm]) {
      for (const codec of [msgpack, json]) {
        for (const thrown of [new Error("mine"), new TypeError("mine")]) {
          await using main = await open(SCRIPT, { codec });
          const bad = {
            get field() {
              throw thrown;
            },
          };
          const error = await assertRejects(() => main.send([bad]));
          assertStrictEquals(error, thrown);
          await main.send("next");
          assertEquals(await main.receive(), "next");
        }
      }
    }
  },
});

Deno.test({
  name: "openShm() moves a port",
  permissions: { read: FILES },
  async fn() {
    await using main = await openShm(SCRIPT);
    const { port1, port2 } = new MessageChannel();
    const answer = Promise.withResolvers<unknown>();
    port1.onmessage = ({ data }) => answer.resolve(data);
    await main.send(port2, { transfer: [port2] });
    assertEquals(await main.receive(), "posted");
    assertEquals(await answer.promise, "from the worker");
    port1.close();
  },
});

Deno.test({
  name: "openQueue() sends a module to four workers that have it together",
  permissions: { read: FILES },
  async fn() {
    await using main = await openQueue(SCRIPT, { workers: 4 });
    const cells = new Int32Array(new SharedArrayBuffer(8));
    cells[1] = 4;
    for (let n = 0; n < 4; n++) await main.send({ module: MODULE, cells });
    for (let n = 0; n < 4; n++) {
      assertEquals(await main.receive(), [{ name: "f", kind: "function" }]);
    }
    assertEquals(cells[0], 4);
  },
});

Deno.test({
  name: "Pool gives objects of the runtime to its workers and back",
  permissions: { read: FILES },
  async fn() {
    for (const open of [openQueue, openShm]) {
      const script = workerUrl("rpc_acts");
      await using pool = new Pool<Acts>(() => open(script), { workers: 2 });
      const blobs = ["a", "b", "c"].map((text) => new Blob([text]));
      const values = [MODULE, ...blobs, MODULE];
      const received = await Array.fromAsync(pool.map(values, "echo"));
      const texts = received.slice(1, 4).map((blob) => (blob as Blob).text());
      assertEquals(await Promise.all(texts), ["a", "b", "c"]);
      for (const module of [received[0], received[4]]) {
        assertEquals(WebAssembly.Module.exports(module as WebAssembly.Module), [
          { name: "f", kind: "function" },
        ]);
      }
    }
  },
});
