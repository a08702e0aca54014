// Copyright 2026 the Duplex authors. MIT license.

/**
 * The memory store, compared with a simple model, and the packing of messages
 * for it.
 *
 * @module
 */

import { assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { msgpack } from "../../codec.ts";
import { MemoryStore, Packer, type StoredMessage } from "../../_queue/store.ts";
import { random, seed } from "../_seed.ts";

function stored(number: number, packer = new Packer(msgpack, 1000)) {
  const { payload, size } = packer.pack(`message ${number}`, []);
  return { number, payload, size, attempts: 0 };
}

Deno.test({
  name: "MemoryStore leases messages in order and restores their order",
  permissions: {},
  fn() {
    const store = new MemoryStore();
    assertEquals(store.waiting, 0);
    for (let number = 1; number <= 5; number++) store.append(stored(number));
    const [one, two, three] = [store.take(), store.take(), store.take()];
    assertEquals([one!.number, two!.number, three!.number], [1, 2, 3]);
    assertEquals([store.count, store.waiting], [5, 2]);
    store.putBack([three!]);
    store.putBack([one!]);
    assertEquals(store.next?.number, 1);
    store.acknowledge(two!);
    assertEquals(store.all().map(({ number }) => number), [1, 3, 4, 5]);
    const rest = Array.from({ length: 4 }, () => store.take());
    assertEquals(rest.map(({ number }) => number), [1, 3, 4, 5]);
    for (const message of rest) store.acknowledge(message);
    assertEquals([store.count, store.waiting, store.bytes], [0, 0, 0]);
  },
});

Deno.test({
  name: "MemoryStore ends a message once",
  permissions: {},
  fn() {
    const store = new MemoryStore();
    store.append(stored(1));
    const message = store.take();
    store.acknowledge(message);
    store.acknowledge(message);
    assertEquals([store.count, store.bytes], [0, 0]);
  },
});

Deno.test({
  name: "MemoryStore takes back more messages than a call accepts arguments",
  permissions: {},
  fn() {
    const store = new MemoryStore();
    const count = 300_000;
    const { payload, size } = stored(0);
    for (let number = 1; number <= count; number++) {
      store.append({ number, payload, size, attempts: 0 });
    }
    const leased = Array.from({ length: count }, () => store.take());
    store.putBack(leased.reverse());
    assertEquals([store.waiting, store.next?.number], [count, 1]);
  },
});

/** The numbers of waiting and of leased messages. */
interface Model {
  waiting: number[];
  leased: Map<number, StoredMessage>;
}

/** Applies one random operation of a queue to the store and to the model. */
function step(draw: () => number, store: MemoryStore, model: Model): void {
  const { waiting, leased } = model;
  const action = draw();
  const held = [...leased.values()];
  if (action < 0.5 && waiting.length > 0) {
    const message = store.take();
    assertEquals(message.number, waiting.shift());
    leased.set(message.number, message);
  } else if (action < 0.75 && held.length > 0) {
    const message = held[Math.floor(draw() * held.length)]!;
    store.acknowledge(message);
    leased.delete(message.number);
  } else if (held.length > 0) {
    const back = held.filter(() => draw() < 0.5);
    store.putBack(back);
    for (const { number } of back) {
      leased.delete(number);
      waiting.push(number);
    }
    waiting.sort((one, other) => one - other);
  }
}

Deno.test({
  name: "MemoryStore behaves like its model",
  permissions: { env: ["DUPLEX_SEED"] },
  fn() {
    const draw = random(seed());
    const store = new MemoryStore();
    const packer = new Packer(msgpack, 1000);
    const model: Model = { waiting: [], leased: new Map() };
    for (let number = 1; number <= 5_000; number++) {
      store.append(stored(number, packer));
      model.waiting.push(number);
      while (draw() < 0.7) step(draw, store, model);
      assertEquals(store.next?.number, model.waiting[0]);
      assertEquals(store.waiting, model.waiting.length);
      assertEquals(store.count, model.waiting.length + model.leased.size);
    }
    const all = [...model.waiting, ...model.leased.keys()];
    const numbers = store.all().map(({ number }) => number);
    assertEquals(numbers, all.sort((one, other) => one - other));
    const bytes = store.all().reduce((sum, { size }) => sum + size, 0);
    assertEquals(store.bytes, bytes);
    for (const { number, payload } of store.all()) {
      assertEquals(packer.unpack(payload), `message ${number}`);
    }
  },
});

Deno.test({
  name: "Packer keeps nothing of a message that it rejects",
  permissions: {},
  fn() {
    const packer = new Packer(msgpack, 1000);
    const { payload: before } = packer.pack("before", []);
    const refused = [new Uint8Array(500), () => 1];
    assertThrows(() => packer.pack(refused, []), TypeError, "$[1]");
    assertThrows(() => packer.pack(new Uint8Array(1000), []), RangeError);
    const { payload: after } = packer.pack("after", []);
    if (before.kind !== "bytes" || after.kind !== "bytes") {
      throw new Error("They were cloned");
    }
    assertStrictEquals(before.buffer, after.buffer);
    assertEquals(after.start, before.end);
    // Nor the memory of a large message.
    assertThrows(() => packer.pack(new Uint8Array(1_000_000), []), RangeError);
    const { payload: next } = packer.pack("next", []);
    if (next.kind !== "bytes") throw new Error("It was cloned");
    assertEquals(next.buffer.bytes.length, 64 * 1024);
    assertEquals(packer.unpack(before), "before");
  },
});

Deno.test({
  name: "Packer returns a clone to its sender unchanged",
  permissions: {},
  fn() {
    const packer = new Packer(msgpack, 1000);
    const error = Object.assign(new RangeError("Far"), { code: 5 });
    const message: Record<string, unknown> = { error };
    message.self = message;
    const { payload } = packer.pack(message, []);
    for (let times = 0; times < 2; times++) {
      const back = packer.unpack(payload) as typeof message;
      assertStrictEquals(back.self, back);
      assertEquals((back.error as typeof error).code, 5);
      assertEquals(back.error instanceof RangeError, true);
    }
  },
});
