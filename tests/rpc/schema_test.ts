// Copyright 2026 the Duplex authors. MIT license.

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
// Not in `deno.json`, because `deno task` downloads the packages of that file.
// deno-lint-ignore no-import-prefix
import * as v from "npm:valibot@1.5.0";
// deno-lint-ignore no-import-prefix
import { z } from "npm:zod@4.6.7";
import { json, msgpack } from "../../codec.ts";
import { duplexPair } from "../../pair.ts";
import { Pool } from "../../pool.ts";
import { expose, notifier, remote, withSignal } from "../../rpc.ts";
import { RpcEndpoint } from "../../_rpc/endpoint.ts";
import { test, withAbort } from "./_ends.ts";

interface Job {
  readonly name: string;
  readonly size: number;
}

/** Methods that count their calls. */
class Counted {
  calls = 0;
  readonly methods = {
    queue: (job: Job, times: number) => {
      this.calls++;
      return `${job.name} ${job.size * times}`;
    },
    label: (text: string) => {
      this.calls++;
      return text;
    },
    plain: (value: unknown) => value,
  };
}

/** The arguments of `queue`, with a default and a conversion. */
const JOB = z.tuple([
  z.strictObject({ name: z.string().trim(), size: z.coerce.number().int() }),
  z.number().default(2),
]);

/** The same check with another library, which is asynchronous. */
const LABEL = v.tupleAsync([
  v.pipeAsync(
    v.string(),
    v.checkAsync(
      async (text) => await Promise.resolve(text !== "taken"),
      "It is taken",
    ),
    v.transform((text) => text.toUpperCase()),
  ),
]);

type AnyMethods = Record<string, (...args: unknown[]) => Promise<unknown>>;

function connect(options: Parameters<typeof duplexPair>[0] = {}) {
  const counted = new Counted();
  const errors: [unknown, string][] = [];
  const [main, worker] = duplexPair(options);
  expose(counted.methods, worker, {
    schemas: { queue: JOB, label: LABEL },
    onError: (error, method) => errors.push([error, method]),
  });
  return {
    api: remote<Counted["methods"]>(main),
    any: remote<AnyMethods>(main),
    main,
    counted,
    errors,
  };
}

test("expose() calls methods with what a schema makes of the arguments", async () => {
  for (const codec of [msgpack, json]) {
    const { any, main, counted } = connect({ codec });
    assertEquals(await any.queue!({ name: " a ", size: "3" }), "a 6");
    assertEquals(await any.queue!({ name: "b", size: 1 }, 5), "b 5");
    assertEquals(await any.label!("free"), "FREE");
    assertEquals(await any.plain!(7), 7);
    assertEquals(counted.calls, 3);
    await main.close();
  }
});

test("expose() rejects calls whose arguments are not valid, with their paths", async () => {
  for (const codec of [msgpack, json]) {
    const { any, main, counted } = connect({ codec });
    const error = await assertRejects(
      () => any.queue!({ name: 1, size: "x", "two words": 3 }, 1),
      TypeError,
      'Cannot call "queue" as its arguments are not valid: "$[0].name": ',
    );
    const { issues } = error as unknown as {
      issues: { message: string; path: (string | number)[] }[];
    };
    assertEquals(issues.map(({ path }) => path), [
      [0, "name"],
      [0, "size"],
      [0],
    ]);
    assert(error.message.endsWith(" (and 2 more)"), error.message);
    await assertRejects(() => any.queue!(), TypeError, '"$": ');
    const taken = await assertRejects(
      () => any.label!("taken"),
      TypeError,
      'Cannot call "label" as its arguments are not valid: "$[0]": It is taken',
    );
    assertEquals(
      (taken as unknown as { issues: unknown }).issues,
      [{ message: "It is taken", path: [0] }],
    );
    assertEquals(counted.calls, 0);
    await main.close();
  }
});

test("expose() sends at most 20 issues, with short messages and paths", async () => {
  const [main, worker] = duplexPair();
  const deep = z.array(z.string().regex(/^a/, "\u001b".repeat(1000)));
  expose({ list: (texts: string[]) => texts.length }, worker, {
    schemas: { list: z.tuple([deep]) },
  });
  const api = remote<{ list(texts: string[]): number }>(main);
  const error = await assertRejects(
    () => api.list(Array(1000).fill("b")),
    TypeError,
    '"$[0][0]": \\u{1b}',
  );
  const { issues } = error as unknown as { issues: { message: string }[] };
  assertEquals(issues.length, 20);
  assert(error.message.endsWith("… (and 999 more)"));
  assert(issues.every(({ message }) => message.length <= 201 * 6));
  await main.close();
});

test("expose() validates the calls of batches, and the tasks of pools", async () => {
  const counted = new Counted();
  await using pool = new Pool<Counted["methods"]>(() => {
    const [main, worker] = duplexPair();
    expose(counted.methods, worker, { schemas: { queue: JOB, label: LABEL } });
    RpcEndpoint.of(main);
    return Promise.resolve(main);
  }, { workers: 1 });
  const texts = ["a", "taken", 3, "b"] as string[];
  const outcomes = await Array.fromAsync(pool.mapSettled(texts, "label"));
  assertEquals(
    outcomes.map((outcome) =>
      outcome.status === "fulfilled"
        ? outcome.value
        : (outcome.reason as Error).message.replace(/^.*not valid: /, "")
    ),
    [
      "A",
      '"$[0]": It is taken',
      '"$[0]": Invalid type: Expected string but received 3',
      "B",
    ],
  );
  assertEquals(counted.calls, 2);
  await assertRejects(
    () => pool.run("queue", [{ name: "a", size: 1.5 }, 1]),
    TypeError,
    '"$[0].size"',
  );
});

test("expose() reports notifications whose arguments are not valid", async () => {
  const { main, counted, errors, any } = connect();
  const events = notifier<AnyMethods>(main);
  await events.queue!(1);
  await events.label!("taken");
  await events.label!("free");
  // Answered after the notifications, whose schemas are asynchronous.
  await any.label!("last");
  assertEquals(counted.calls, 2);
  assertEquals(errors.map(([, method]) => method), ["queue", "label"]);
  for (const [error] of errors) assert(error instanceof TypeError);
  await main.close();
});

test("expose() validates the arguments behind a signal, and functions among them", async () => {
  const [main, worker] = duplexPair();
  const methods = {
    base: 10,
    wait: withSignal(async (signal, _text: string) => {
      signal.addEventListener("abort", () => aborted.resolve());
      begun.resolve();
      await aborted.promise;
    }),
    each: async (each: (n: number) => Promise<number>) => await each(1),
    sum(this: { base: number }, n: number) {
      return this.base + n;
    },
  };
  const begun = Promise.withResolvers<void>();
  const aborted = Promise.withResolvers<void>();
  expose(methods, worker, {
    schemas: {
      wait: z.tuple([z.string()]),
      each: z.tuple([
        z.custom<(n: number) => Promise<number>>((f) =>
          typeof f === "function"
        ),
      ]),
      sum: z.tuple([z.number()]),
    },
  });
  const { signal, abort } = withAbort();
  const waiting = remote<typeof methods>(main, { signal }).wait("a");
  await begun.promise;
  abort();
  await assertRejects(() => waiting, RangeError, "Enough");
  await aborted.promise;
  const api = remote<typeof methods>(main);
  assertEquals(await api.each((n) => n + 1), 2);
  assertEquals(await api.sum(1), 11);
  const any = remote<AnyMethods>(main);
  await assertRejects(() => any.wait!(1), TypeError, '"$[0]"');
  await assertRejects(() => any.each!(1), TypeError, '"$[0]"');
  await main.close();
});

test("expose() rejects calls whose schema fails or returns no arguments", async () => {
  const [main, worker] = duplexPair();
  const methods = { a: (_: number) => 1, b: (_: number) => 2, c: () => 3 };
  const standard = { version: 1, vendor: "test" } as const;
  expose(methods, worker, {
    schemas: {
      a: {
        "~standard": {
          ...standard,
          validate() {
            throw new RangeError("It broke");
          },
        },
      },
      b: {
        "~standard": { ...standard, validate: () => ({ value: 1 as never }) },
      },
      c: { "~standard": { ...standard, validate: () => ({ issues: [] }) } },
    },
  });
  const api = remote<typeof methods>(main);
  await assertRejects(() => api.a(1), RangeError, "It broke");
  await assertRejects(() => api.b(1), TypeError, "an array of arguments: ");
  await assertRejects(() => api.c(), TypeError, "its schema gives no reason");
  await main.close();
});

Deno.test("expose() refuses what is not a schema, and schemas of other methods", () => {
  const [, worker] = duplexPair();
  const methods = { a: () => 1, b: 2 };
  const standard = { version: 1, vendor: "test", validate: () => ({}) };
  const cases: [unknown, string][] = [
    [null, "current value is null"],
    [[], "current value is an array"],
    [z.tuple([]), 'schema for "def", and there is no such method'],
    [{ c: z.tuple([]) }, 'schema for "c", and there is no such method'],
    [{ b: z.tuple([]) }, 'schema for "b", and there is no such method'],
    [{ a: undefined }, 'version 1 for "a": current value is undefined'],
    [{ a: 1 }, "current value is 1"],
    [{ a: {} }, "current value is an object"],
    [{ a: { "~standard": null } }, "current value is an object"],
    [{ a: { "~standard": { ...standard, version: 2 } } }, "version 1"],
    [{ a: { "~standard": { ...standard, validate: 1 } } }, "version 1"],
  ];
  for (const [schemas, text] of cases) {
    assertThrows(
      () => expose(methods, worker, { schemas: schemas as never }),
      TypeError,
      text,
    );
  }
  expose(methods, worker, { schemas: { a: z.tuple([]) } });
});

Deno.test("expose() checks that a schema makes the arguments of its method", () => {
  const refused = () => {
    const [, worker] = duplexPair();
    const methods = { add: (a: number, b?: number) => a + (b ?? 0) };
    expose(methods, worker, {
      schemas: { add: z.tuple([z.number(), z.number().optional()]) },
    });
    // @ts-expect-error The schema makes strings.
    expose(methods, worker, { schemas: { add: z.tuple([z.string()]) } });
    // @ts-expect-error There is no such method.
    expose(methods, worker, { schemas: { sub: z.tuple([]) } });
  };
  assertEquals(typeof refused, "function");
});
