// Copyright 2026 the Duplex authors. MIT license.

/**
 * What a message takes in memory: no kind of value may take more than it is
 * counted for. Each is decoded in a process of its own.
 *
 * @module
 */

import { assert, assertLess } from "@std/assert";
import { costOfJson } from "../../_codec/json_scan.ts";
import { COST_PER_BYTE } from "../../_codec/message_cost.ts";
import { measureMsgpack } from "../../_codec/msgpack_decode.ts";
import {
  JSON_KINDS,
  jsonMessage,
  MSGPACK_CONTAINERS,
  MSGPACK_KINDS,
  msgpackMessage,
  type Usage,
} from "./_kinds.ts";

const CHILD = new URL("_kinds.ts", import.meta.url).pathname;

/** What each message is made to cost. */
const TOTAL = 40 * 2 ** 20;

/** What the garbage collector and the allocator keep aside. */
const SLACK = 16 * 2 ** 20;

/** Values to find out what one costs. */
const SAMPLE = 500;

const PERMISSIONS: Deno.PermissionOptions = {
  run: [Deno.execPath()],
  read: true,
};

/** Decodes a message in a process of its own, which has no memory to spare. */
async function usageOf(
  codec: "json" | "msgpack",
  message: Uint8Array,
): Promise<Usage> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--no-check",
      // Deno lets no other process read what it takes.
      "--allow-all",
      "--v8-flags=--expose-gc,--max-semi-space-size=2",
      CHILD,
      codec,
    ],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  const [{ success, stdout, stderr }] = await Promise.all([
    child.output(),
    writer.write(message).then(() => writer.close()),
  ]);
  assert(success, new TextDecoder().decode(stderr));
  return JSON.parse(new TextDecoder().decode(stdout));
}

/** Runs a step for each kind, as many at a time as there are processors. */
async function forEachKind(
  t: Deno.TestContext,
  kinds: string[],
  fn: (kind: string) => Promise<void>,
): Promise<void> {
  const width = navigator.hardwareConcurrency;
  for (let first = 0; first < kinds.length; first += width) {
    await Promise.all(
      kinds.slice(first, first + width).map((name) =>
        t.step({
          name,
          fn: () => fn(name),
          // Deno has no checks for steps that run at the same time. Those of the
          // whole test stay on.
          sanitizeOps: false,
          sanitizeResources: false,
          sanitizeExit: false,
        })
      ),
    );
  }
}

/** So many values that they cost the total, or have a tenth of it as bytes. */
function countFor(cost: number, size: number): number {
  return Math.ceil(Math.min(TOTAL / cost, TOTAL / 10 / size) * SAMPLE);
}

/** Asserts that a message takes no more than it costs, and so much for a byte. */
async function assertPaid(
  codec: "json" | "msgpack",
  message: Uint8Array,
  byteCost: number,
): Promise<void> {
  const { cost, growth } = await usageOf(codec, message);
  assertLess(growth, cost + byteCost * message.length + SLACK);
}

Deno.test({
  name: "msgpack.decode() takes no more memory than it counts",
  permissions: PERMISSIONS,
  ignore: Deno.build.os !== "linux",
  async fn(t) {
    const kinds = [
      ...Object.keys(MSGPACK_KINDS),
      ...Object.keys(MSGPACK_CONTAINERS),
    ];
    await forEachKind(t, kinds, async (kind) => {
      const sample = msgpackMessage(kind, SAMPLE);
      const count = countFor(measureMsgpack(sample).cost, sample.length);
      await assertPaid("msgpack", msgpackMessage(kind, count), 0);
    });
  },
});

Deno.test({
  name: "json.decode() takes no more memory than it counts",
  permissions: PERMISSIONS,
  ignore: Deno.build.os !== "linux",
  async fn(t) {
    await forEachKind(t, Object.keys(JSON_KINDS), async (kind) => {
      const sample = jsonMessage(kind, SAMPLE);
      const count = countFor(costOfJson(sample), sample.length);
      await assertPaid("json", jsonMessage(kind, count), COST_PER_BYTE);
    });
  },
});
