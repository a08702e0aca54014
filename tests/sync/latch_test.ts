// Copyright 2026 the Duplex authors. MIT license.

/**
 * The latch of `_sync/memory.ts` in every interleaving of its atomic
 * operations, and bugs that the model checker must find.
 *
 * @module
 */

import { assertEquals, assertStringIncludes } from "@std/assert";
import {
  type Act,
  LatchModel,
  loadLatch,
  type Verdict,
} from "./_latch_model.ts";

/** Acquires the latch several times. */
function acquires(times: number): Act[] {
  return new Array(times).fill("acquire");
}

async function explore(
  threads: Act[][],
  edits: [was: string, is: string][] = [],
): Promise<Verdict> {
  const codes = await Promise.all(threads.map(() => loadLatch(edits)));
  return new LatchModel(codes, threads).explore();
}

function test(name: string, fn: (t: Deno.TestContext) => Promise<void>): void {
  Deno.test({
    name,
    permissions: { read: [new URL("../../", import.meta.url)] },
    fn,
  });
}

test("Memory.enter() admits one thread at a time and wakes all waiters", async (t) => {
  const models: [string, Act[][]][] = [
    ["two threads", [acquires(4), acquires(4)]],
    ["three threads", [acquires(2), acquires(2), acquires(2)]],
    ["one with a timeout", [acquires(2), ["try", "try"], acquires(2)]],
    ["two with a timeout", [acquires(2), ["try"], ["try", "acquire"]]],
  ];
  for (const [name, threads] of models) {
    await t.step(name, async () => {
      assertEquals((await explore(threads)).violation, undefined);
    });
  }
});

const TAKE =
  "if (Atomics.exchange(words, LATCH, CONTENDED) === FREE) return true;";

/** Bugs, and the violation of each. */
const BUGS: Record<
  string,
  [found: string, edits: [was: string, is: string][]]
> = {
  "it does not mark the latch as contended": ["all threads sleep", [
    [TAKE, TAKE.replace("CONTENDED", "HELD")],
    [
      "Atomics.wait(words, LATCH, CONTENDED, left);",
      "Atomics.wait(words, LATCH, HELD, left);",
    ],
  ]],
  "a woken thread clears the mark of the others": ["all threads sleep", [[
    TAKE,
    `if (Atomics.compareExchange(words, LATCH, FREE, HELD) === FREE) return true;
       Atomics.compareExchange(words, LATCH, HELD, CONTENDED);`,
  ]]],
  "it wakes no thread": ["all threads sleep", [[
    "Atomics.notify(this.words, LATCH, 1);",
    "",
  ]]],
  "it acquires a held latch": ["two inside", [[
    TAKE,
    "Atomics.exchange(words, LATCH, CONTENDED); return true;",
  ]]],
  "it is released in two steps": ["all threads sleep", [[
    "if (Atomics.exchange(this.words, LATCH, FREE) === CONTENDED) {",
    `const was = Atomics.load(this.words, LATCH);
       Atomics.exchange(this.words, LATCH, FREE);
       if (was === CONTENDED) {`,
  ]]],
};

test("LatchModel.explore() finds bugs", async (t) => {
  for (const [name, [found, edits]] of Object.entries(BUGS)) {
    await t.step(name, async () => {
      const threads = [acquires(2), acquires(1), acquires(1)];
      const { violation = "" } = await explore(threads, edits);
      assertStringIncludes(violation, found);
    });
  }
});
