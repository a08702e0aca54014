// Copyright 2026 the Duplex authors. MIT license.

/**
 * A program whose calls are traced: to a process and to a thread, alone and in pools.
 *
 * @module
 */

import { AsyncLocalStorage } from "node:async_hooks";
import { assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { duplexPair } from "@duplex/ipc/pair";
import { openPipe } from "@duplex/ipc/pipe";
import { Pool } from "@duplex/ipc/pool";
import { expose, notifier, remote } from "@duplex/ipc/rpc";
import { openShm } from "@duplex/ipc/shm";
import type { Methods } from "./traced.ts";

const script = new URL("./traced.ts", import.meta.url);
const storage = new AsyncLocalStorage<string>();
const api = Reflect.get(globalThis, Symbol.for("opentelemetry.js.api.1"));
const tracer = api.trace.getTracer("test");

/** Runs a scenario in a span of its own. */
async function scenario(name: string, run: () => Promise<void>): Promise<void> {
  await tracer.startActiveSpan(
    name,
    async (span: { end(): void }) => {
      await storage.run(name, run);
      span.end();
    },
  );
}

/** A span that is the child of the active one. */
function mark(name: string): void {
  tracer.startSpan(`${name} in ${storage.getStore()}`).end();
}

// The worker has no permission, and the variables of OpenTelemetry.
const openProcess = () =>
  openPipe(script, { env: { OTEL_SERVICE_NAME: "worker" } });

for (
  const [name, open] of [["pipe", openProcess], [
    "shm",
    () => openShm(script),
  ]] as const
) {
  await using worker = await open();
  const calls = remote<Methods>(worker);
  await scenario(`${name} calls`, async () => {
    assertEquals(await calls.add(1, 2), 3);
    assertEquals(await calls.later(1), 1);
    assertEquals(await calls.signalled(1), 1);
    await assertRejects(() => calls.fail(), RangeError);
  });
  await scenario(`${name} stream`, async () => {
    assertEquals(await Array.fromAsync(calls.count(2)), [0, 1]);
  });
  await scenario(`${name} callback`, async () => {
    const result = await calls.back((n) => {
      mark("callback");
      return n + 1;
    });
    assertEquals(result, 2);
  });
  await scenario(`${name} notification`, async () => {
    await notifier<Methods>(worker).note();
    await calls.signalled(2);
  });
}

await using pool = new Pool<Methods>(openProcess, { workers: 1 });
// The worker starts outside of the scenarios.
await pool.run("signalled", [0]);
await Promise.all([
  scenario("pool run", async () => {
    assertEquals(await pool.run("add", [1, 2]), 3);
    await assertRejects(() => pool.run("fail", []), RangeError);
  }),
  scenario("pool callback", async () => {
    const result = await pool.run("back", [(n: number) => {
      mark("callback");
      return n;
    }]);
    assertEquals(result, 1);
  }),
  scenario("pool map", async () => {
    const results = await Array.fromAsync(pool.map([1, 2], "signalled"));
    assertEquals(results, [1, 2]);
  }),
]);

// Deno's spans do not keep the state of a trace.
const given = {
  traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
  tracestate: "vendor=1",
};
const getter = {
  get: (fields: typeof given, name: keyof typeof given) => fields[name],
};
const [main, peer] = duplexPair<unknown[]>();
expose({ relay: () => notifier<Methods>(main).note() }, main);
const active = api.propagation.extract(api.context.active(), given, getter);
const sent = api.context.with(active, () => notifier<Methods>(main).note());
const relayed = peer.send([1, 1, "relay", [], [], given]);
for (let count = 0; count < 2; count++) {
  const [tag, method, args, slots, trace] = await peer.receive();
  assertEquals([tag, method, args, slots], [3, "note", [], []]);
  const { traceparent, tracestate } = trace as typeof given;
  assertEquals(traceparent.slice(0, 36), given.traceparent.slice(0, 36));
  assertNotEquals(traceparent, given.traceparent);
  assertEquals(tracestate, given.tracestate);
}
await Promise.all([sent, relayed]);
assertEquals(await peer.receive(), [4, 1]);
await peer.close();
