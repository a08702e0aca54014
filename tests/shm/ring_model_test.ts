// Copyright 2026 the Duplex authors. MIT license.

/**
 * `_shm/ring.ts` in every interleaving of its atomic operations, and bugs that
 * the model checker must find.
 *
 * @module
 */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { INTEREST, type RingRole } from "../../_shm/ring.ts";
import { BUGS, loadRing } from "./_ring_bugs.ts";
import { explore, type Model, type Side } from "./_ring_model.ts";

/** Writes bytes 0 to `count` in chunks, and closes. */
function writes(count: number, chunk: number, blocking: boolean): Side {
  return (code, memory) => {
    const end = new code.RingEnd(memory, "opener");
    const bytes = Uint8Array.from({ length: count }, (_, index) => index);
    return ({ mark, sleep }) => {
      for (let at = 0; at < count;) {
        const size = end.write(bytes, at, Math.min(at + chunk, count));
        at += size;
        mark(end, at, size);
        if (size > 0) continue;
        if (end.isClosed()) return;
        if (blocking) end.waitSync(INTEREST.room);
        else sleep(end.wait(INTEREST.room));
      }
      end.close();
    };
  };
}

/** Options of a reader. */
interface Reading {
  /** Whether the stream may end early. */
  outlives?: boolean;
  /** Bytes after which it closes; never by default. */
  leaveAfter?: number;
  /** Whether an asynchronous wait is pending during blocking ones. */
  mixed?: boolean;
}

/** Reads chunks and checks them, to the end. */
function reads(
  count: number,
  chunk: number,
  blocking: boolean,
  { outlives = false, leaveAfter = Infinity, mixed = false }: Reading = {},
): Side {
  return (code, memory) => {
    const end = new code.RingEnd(memory, "acceptor");
    const into = new Uint8Array(chunk);
    return ({ mark, sleep, fail }) => {
      let first = mixed ? end.wait(INTEREST.bytes) : undefined;
      let got = 0;
      while (got < leaveAfter) {
        const size = end.read(into, 0, chunk);
        for (let at = 0; at < size; at++, got++) {
          if (into[at] !== got) fail(`byte ${got} came as ${into[at]}`);
        }
        // A worker that returns to its event loop after its first byte.
        if (got > 0 && first !== undefined) {
          sleep(first);
          first = undefined;
        }
        if (first === undefined) mark(end, got, size);
        if (size > 0) continue;
        if (end.hasEnded()) {
          if (got !== count && !outlives) {
            fail(`the end came after ${got} of ${count}`);
          }
          return;
        }
        if (blocking) end.waitSync(INTEREST.bytes);
        else sleep(end.wait(INTEREST.bytes));
      }
      end.close();
    };
  };
}

/** Sends and receives `count` bytes, and waits for both at once. */
function exchanges(role: RingRole, count: number, blocking: boolean): Side {
  return (code, memory) => {
    const end = new code.RingEnd(memory, role);
    const bytes = Uint8Array.from({ length: count }, (_, index) => index);
    const into = new Uint8Array(1);
    return ({ mark, sleep, fail }) => {
      let sent = 0;
      let got = 0;
      for (;;) {
        const written = sent < count ? end.write(bytes, sent, count) : 0;
        sent += written;
        const size = end.read(into, 0, 1);
        if (size > 0 && into[0] !== got) fail(`byte ${got} came as ${into[0]}`);
        got += size;
        mark(end, sent, got, written, size);
        if (sent === count && got === count) return;
        if (written > 0 || size > 0) continue;
        const interest = (sent < count ? INTEREST.room : 0) |
          (got < count ? INTEREST.bytes : 0);
        if (blocking) end.waitSync(interest);
        else sleep(end.wait(interest));
      }
    };
  };
}

/**
 * Has two asynchronous waits at once, one for room and one for bytes: a wake-up
 * for one must not be lost for the other.
 */
const waitsForBoth: Side = (code, memory) => {
  const end = new code.RingEnd(memory, "opener");
  const bytes = new Uint8Array(2);
  return ({ sleep }) => {
    let at = end.write(bytes, 0, 2);
    const room = end.wait(INTEREST.room);
    const bytesWait = end.wait(INTEREST.bytes);
    sleep(room);
    while (at < 2) {
      const size = end.write(bytes, at, 2);
      at += size;
      if (size === 0) sleep(end.wait(INTEREST.room));
    }
    sleep(bytesWait);
    while (end.read(bytes, 0, 1) === 0) sleep(end.wait(INTEREST.bytes));
  };
};

/** Receives two bytes and answers the second one with one byte. */
const answers: Side = (code, memory) => {
  const end = new code.RingEnd(memory, "acceptor");
  const bytes = new Uint8Array(1);
  return ({ mark }) => {
    for (let got = 0; got < 2;) {
      const size = end.read(bytes, 0, 1);
      got += size;
      mark(end, got, size);
      if (size === 0) end.waitSync(INTEREST.bytes);
    }
    end.write(bytes, 0, 1);
  };
};

/** Closes on behalf of a side that has died. */
function closesForDead(side: number, role: RingRole): Side {
  return (code, memory) => {
    const end = new code.RingEnd(memory, role);
    return ({ join }) => {
      if (join(side)) end.closePeer();
    };
  };
}

/** Waits without blocking, and closes during the wait. */
const cancels: Side = (code, memory) => {
  const end = new code.RingEnd(memory, "acceptor");
  return ({ sleep }) => {
    const waiting = end.wait(INTEREST.bytes);
    end.close();
    sleep(waiting);
  };
};

const MODELS: Record<string, Model> = {
  "1 slot, 3 bytes, asynchronous": {
    capacity: 1,
    sides: [writes(3, 1, false), reads(3, 1, false)],
  },
  "1 slot, 3 bytes, blocking": {
    capacity: 1,
    sides: [writes(3, 1, true), reads(3, 1, true)],
  },
  "2 slots, 5 bytes in chunks of 3 and 2": {
    capacity: 2,
    sides: [writes(5, 3, false), reads(5, 2, true)],
  },
  "2 slots, positions that wrap at 32 bits": {
    capacity: 2,
    position: -2,
    sides: [writes(4, 2, true), reads(4, 2, false)],
  },
  "4 slots, 6 bytes in chunks of 3": {
    capacity: 4,
    sides: [writes(6, 3, true), reads(6, 4, false)],
  },
  "4 slots, positions that wrap at 32 bits, chunks across the end of the ring":
    {
      capacity: 4,
      position: -5,
      sides: [writes(7, 3, false), reads(7, 3, true)],
    },
  "an asynchronous wait during blocking ones": {
    capacity: 1,
    sides: [writes(3, 1, true), reads(3, 1, true, { mixed: true })],
  },
  "two asynchronous waits at once": {
    capacity: 1,
    sides: [waitsForBoth, answers],
  },
  "a reader that closes early": {
    capacity: 1,
    sides: [writes(3, 1, false), reads(3, 1, false, { leaveAfter: 1 })],
  },
  "a reader that closes early while the writer blocks": {
    capacity: 2,
    sides: [writes(5, 2, true), reads(5, 1, true, { leaveAfter: 2 })],
  },
  "a writer that dies at any step": {
    capacity: 1,
    sides: [
      writes(2, 1, false),
      reads(2, 1, false, { outlives: true }),
      closesForDead(0, "acceptor"),
    ],
    mortal: 0,
  },
  "a reader that dies at any step": {
    capacity: 1,
    sides: [
      writes(2, 1, true),
      reads(2, 1, false, { outlives: true }),
      closesForDead(1, "opener"),
    ],
    mortal: 1,
  },
  "a wait that ends when its own side closes": {
    capacity: 1,
    sides: [writes(1, 1, false), cancels],
  },
  "both directions at once, blocking": {
    capacity: 1,
    sides: [exchanges("opener", 2, true), exchanges("acceptor", 2, true)],
  },
  "both directions at once, one side asynchronous": {
    capacity: 1,
    sides: [exchanges("opener", 2, false), exchanges("acceptor", 2, true)],
  },
};

for (const [name, model] of Object.entries(MODELS)) {
  Deno.test(`Rings are correct in every interleaving: ${name}`, async () => {
    const verdict = explore(model, await loadRing());
    assertEquals(verdict.violation, undefined);
    assert(verdict.states > 100, "The model must have interleavings");
  });
}

Deno.test("Ring model finds every inserted bug", async (t) => {
  // A model that does not find a bug explores all of its states, so the models
  // that found another bug run first.
  let models = Object.values(MODELS);
  for (const [name, edits] of Object.entries(BUGS)) {
    await t.step(name, async () => {
      const code = await loadRing(edits);
      const finds = models.find((model) =>
        explore(model, code).violation !== undefined
      );
      assert(finds !== undefined, "No model finds the bug");
      models = [finds, ...models.filter((model) => model !== finds)];
    });
  }
});

Deno.test("Ring model reports the steps that lead to a violation", async () => {
  const refuses: Side = () => ({ join, fail }) => {
    join(0);
    fail("this side refuses");
  };
  const model = { capacity: 1, sides: [writes(1, 1, false), refuses] };
  const { violation } = explore(model, await loadRing());
  assertStringIncludes(violation!, "this side refuses, after\n  side 0: put 0");
});
