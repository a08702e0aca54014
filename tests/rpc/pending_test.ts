// Copyright 2026 the Duplex authors. MIT license.

/**
 * Calls over a duplex that is being opened.
 *
 * @module
 */

import {
  assertEquals,
  assertRejects,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import type { Duplex } from "@duplex/ipc/duplex";
import { duplexPair } from "@duplex/ipc/pair";
import { expose, listMethods, notifier, remote } from "@duplex/ipc/rpc";
import { within } from "../workers/_processes.ts";

const calls: string[] = [];

const methods = {
  echo(text: string) {
    calls.push(text);
    return text;
  },
  async *count(to: number) {
    for (let number = 0; number < to; number++) yield number;
  },
};

type Methods = typeof methods;

/** A duplex that is opened later, and its peer. */
function opening() {
  const { promise, resolve, reject } = Promise.withResolvers<Duplex>();
  const [main, worker] = duplexPair();
  return { promise, open: () => resolve(main), reject, main, worker };
}

function test(name: string, fn: () => Promise<void>): void {
  Deno.test({ name, permissions: "none", fn: () => within(fn()) });
}

test("remote() sends calls in order once its duplex is open", async () => {
  const { promise, open, main, worker } = opening();
  calls.length = 0;
  const api = remote<Methods>(promise);
  const early = [api.echo("a"), api.echo("b")];
  const sent = notifier<Methods>(promise).echo("c");
  const stream = api.count(3);
  expose(methods, worker);
  open();
  assertEquals(await Promise.all(early), ["a", "b"]);
  await sent;
  assertEquals(await Array.fromAsync(stream), [0, 1, 2]);
  assertEquals(await api.echo("d"), "d");
  assertEquals(calls, ["a", "b", "c", "d"]);
  assertEquals(await listMethods(promise), ["echo", "count"]);
  await main.close();
});

test("remote() rejects calls with the error of a duplex that does not open", async () => {
  const { promise, reject, main, worker } = opening();
  const api = remote<Methods>(promise);
  const early = api.echo("a");
  const sent = notifier<Methods>(promise).echo("b");
  const error = new Error("No such worker");
  reject(error);
  assertStrictEquals(await assertRejects(() => early), error);
  assertStrictEquals(await assertRejects(() => sent), error);
  assertStrictEquals(await assertRejects(() => api.echo("c")), error);
  await Promise.all([main.close(), worker.close()]);
});

test("remote() applies timeout and signal while its duplex opens", async () => {
  const { promise, open, main, worker } = opening();
  calls.length = 0;
  expose(methods, worker);
  const short = remote<Methods>(promise, { timeout: 1 }).echo("late");
  await assertRejects(() => short, DOMException, "its duplex is not open yet");
  const stop = new AbortController();
  const { signal } = stop;
  const stopped = remote<Methods>(promise, { signal }).echo("stopped");
  const reason = new Error("No longer needed");
  stop.abort(reason);
  assertStrictEquals(await assertRejects(() => stopped), reason);
  const api = remote<Methods>(promise, { timeout: 60_000, signal });
  assertStrictEquals(await assertRejects(() => api.echo("never")), reason);
  open();
  assertEquals(await remote<Methods>(promise).echo("first"), "first");
  assertEquals(calls, ["first"]);
  await main.close();
});

test("remote() rejects calls if the promise is not of a duplex", async () => {
  const api = remote<Methods>(
    Promise.resolve({}) as unknown as Promise<Duplex>,
  );
  const text = 'Cannot make a remote as "duplex" must be a Duplex';
  await assertRejects(() => api.echo("a"), TypeError, text);
  assertThrows(() => remote({} as unknown as Duplex), TypeError, text);
});
