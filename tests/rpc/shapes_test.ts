// Copyright 2026 the Duplex authors. MIT license.

/**
 * What the types of `remote` say about methods is what calls of them do. The tests run
 * each shape of a method; `tools/types_test.ts` checks this file with the strictest
 * options, so each type below is asserted, and each `@ts-expect-error` is an error.
 *
 * @module
 */

import { assertEquals, assertRejects } from "@std/assert";
import {
  expose,
  type Notifier,
  notifier,
  type Remote,
  remote,
  type RemoteResult,
  withSignal,
} from "../../rpc.ts";
import { duplexPair } from "../../pair.ts";
import { task } from "../../task.ts";

/** Whether two types are identical, and not only assignable to each other. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends
  (<T>() => T extends B ? 1 : 2) ? true : false;

/** Returns a value whose type is exactly `Expected`. */
function exactly<Expected>() {
  return <Actual>(
    value: Actual,
    ..._proof: Same<Actual, Expected> extends true ? [] : [never]
  ): Actual => value;
}

/** Connects to methods. */
function connect<Methods extends object>(methods: Methods) {
  const [main, worker] = duplexPair();
  expose<object>(methods, worker);
  return { api: remote<Methods>(main), main };
}

interface Point {
  readonly x: number;
  readonly y: number;
}

function overloaded(value: number): string;
function overloaded(value: string, times?: number): number;
function overloaded(value: number | string, times = 1): string | number {
  return typeof value === "number" ? `${value}` : value.length * times;
}

function three(value: number): "n";
function three(value: string): "s";
function three(value: boolean): "b";
function three(value: unknown): string {
  return (typeof value).charAt(0);
}

Deno.test("remote() has the types of plain methods", async () => {
  const methods = {
    nothing() {},
    add: (a: number, b: number) => a + b,
    optional: (a: number, b?: number) => a + (b ?? 1),
    defaulted: (a: number, b = 2) => a * b,
    rest: (first: string, ...others: number[]) => first + others.join(""),
    later: async (a: number) => await Promise.resolve(a),
    thenable: (): PromiseLike<number> => Promise.resolve(4),
    union: (a: number | string): number | string => a,
    either: (a: boolean): number | Promise<string> =>
      a ? 1 : Promise.resolve("s"),
    nullable: (a: number | null): number | null | undefined => a ?? undefined,
    tuple: (pair: readonly [number, string]): [string, number] => [
      pair[1],
      pair[0],
    ],
    list: (values: readonly number[]): readonly number[] => values.toReversed(),
    record: (point: Point): { readonly sum: number } => ({
      sum: point.x + point.y,
    }),
    literal: (mode: "r" | "w") => ({ mode } as const),
    map: (value: Map<string, number>) => new Set(value.keys()),
    bytes: (value: Uint8Array) => value,
    date: (value: Date, pattern: RegExp) => pattern.test(value.toISOString()),
    bigints: (value: bigint) => value + 1n,
  };
  const { api, main } = connect(methods);
  await using _closed = main;
  assertEquals(await exactly<Promise<void>>()(api.nothing()), undefined);
  assertEquals(await exactly<Promise<number>>()(api.add(1, 2)), 3);
  assertEquals(await api.optional(1) + await api.optional(1, 3), 6);
  assertEquals(await api.defaulted(3) + await api.defaulted(3, 3), 15);
  assertEquals(await exactly<Promise<string>>()(api.rest("a", 1, 2)), "a12");
  assertEquals(await exactly<Promise<number>>()(api.later(5)), 5);
  assertEquals(await exactly<Promise<number>>()(api.thenable()), 4);
  assertEquals(await exactly<Promise<number | string>>()(api.union("a")), "a");
  assertEquals(await exactly<Promise<number | string>>()(api.either(true)), 1);
  assertEquals(
    await exactly<Promise<number | null | undefined>>()(api.nullable(null)),
    undefined,
  );
  assertEquals(
    await exactly<Promise<[string, number]>>()(api.tuple([1, "a"])),
    ["a", 1],
  );
  assertEquals(
    await exactly<Promise<readonly number[]>>()(api.list([1, 2])),
    [2, 1],
  );
  assertEquals((await api.record({ x: 1, y: 2 })).sum, 3);
  const { mode } = await api.literal("r");
  assertEquals(exactly<"r" | "w">()(mode), "r");
  assertEquals(
    await exactly<Promise<Set<string>>>()(api.map(new Map([["a", 1]]))),
    new Set(["a"]),
  );
  assertEquals((await api.bytes(new Uint8Array([1])))[0], 1);
  assertEquals(await api.date(new Date(0), /1970/), true);
  assertEquals(await exactly<Promise<bigint>>()(api.bigints(1n)), 2n);

  exactly<(a: number, b?: number) => Promise<number>>()(api.defaulted);
  exactly<(first: string, ...others: number[]) => Promise<string>>()(api.rest);
  exactly<(point: Point) => Promise<{ readonly sum: number }>>()(api.record);
  exactly<(value: Date, pattern: RegExp) => Promise<boolean>>()(api.date);
  const refused = () => {
    // @ts-expect-error An argument is missing.
    api.add(1);
    // @ts-expect-error The second argument is a string.
    api.defaulted(1, "2");
    // @ts-expect-error One argument too many.
    api.nothing(1);
    // @ts-expect-error The result is a promise.
    const sum: number = api.add(1, 2);
    // @ts-expect-error There is no such method.
    api.subtract(1, 2);
    // @ts-expect-error Methods cannot be replaced.
    api.add = () => Promise.resolve(1);
    // @ts-expect-error The mode is unknown.
    api.literal("x");
    return sum;
  };
  assertEquals(typeof refused, "function");
});

Deno.test("remote() has the types of any, unknown, never, generic and overloaded methods", async () => {
  const methods = {
    // deno-lint-ignore no-explicit-any
    anything: (value: any): any => value,
    unknown: (value: unknown): unknown => value,
    fails(): never {
      throw new RangeError("It fails");
    },
    failsLater: (): Promise<never> => Promise.reject(new RangeError("Later")),
    generic: <Value>(value: Value): Value[] => [value],
    bounded: <Value extends Point>(value: Value): number => value.x,
    overloaded,
    three,
  };
  const { api, main } = connect(methods);
  await using _closed = main;
  // deno-lint-ignore no-explicit-any
  assertEquals(await exactly<Promise<any>>()(api.anything(1)), 1);
  assertEquals(await exactly<Promise<unknown>>()(api.unknown("a")), "a");
  await assertRejects(() => exactly<Promise<never>>()(api.fails()), RangeError);
  await assertRejects(() => exactly<Promise<never>>()(api.failsLater()));
  assertEquals(await exactly<Promise<unknown[]>>()(api.generic(1)), [1]);
  assertEquals(
    await exactly<Promise<number>>()(api.bounded({ x: 1, y: 2 })),
    1,
  );
  assertEquals(await exactly<Promise<string>>()(api.overloaded(12)), "12");
  assertEquals(await exactly<Promise<number>>()(api.overloaded("ab", 2)), 4);
  assertEquals(await exactly<Promise<"n">>()(api.three(1)), "n");
  assertEquals(await exactly<Promise<"s">>()(api.three("a")), "s");
  assertEquals(await exactly<Promise<"b">>()(api.three(true)), "b");
  const refused = () => {
    // @ts-expect-error There is no such overload.
    api.overloaded(1, 2);
    // @ts-expect-error The constraint is not met.
    api.bounded({ x: 1 });
  };
  assertEquals(typeof refused, "function");
});

Deno.test("remote() has the types of streams", async () => {
  const methods = {
    async *numbers(to: number): AsyncGenerator<number, string, void> {
      for (let n = 1; n <= to; n++) yield n;
      return "end";
    },
    *letters(): Generator<string, boolean, void> {
      yield "a";
      return true;
    },
    iterable: (): AsyncIterable<number> => methods.numbers(2),
    iterator: (): AsyncIterableIterator<number> => methods.numbers(2),
    later: (): Promise<AsyncGenerator<number, string, void>> =>
      Promise.resolve(methods.numbers(2)),
    keys: () => new Map([["a", 1]]).keys(),
    old: (): IterableIterator<number> => [1, 2].values(),
    maybe: (isStream: boolean): Generator<string, boolean, void> | number =>
      isStream ? methods.letters() : 1,
    array: (): Iterable<number> => [1, 2],
  };
  const { api, main } = connect(methods);
  await using _closed = main;
  type Numbers = AsyncGenerator<number, string, void>;
  type Endless = AsyncGenerator<number, void, void>;
  const numbers = exactly<Numbers>()(api.numbers(1));
  assertEquals(await numbers.next(), { value: 1, done: false });
  assertEquals(await numbers.next(), { value: "end", done: true });
  const letters = exactly<AsyncGenerator<string, boolean, void>>()(
    api.letters(),
  );
  assertEquals(await Array.fromAsync(letters), ["a"]);
  const all = [
    exactly<Endless>()(api.iterable()),
    exactly<AsyncGenerator<number, void, void>>()(api.iterator()),
    exactly<Numbers>()(api.later()),
  ];
  for (const one of all) assertEquals(await Array.fromAsync(one), [1, 2]);
  assertEquals(await Array.fromAsync(api.keys()), ["a"]);
  assertEquals(await Array.fromAsync(api.old()), [1, 2]);
  const maybe = exactly<
    Promise<AsyncGenerator<string, boolean, void> | number>
  >();
  assertEquals(await maybe(api.maybe(false)), 1);
  const stream = await maybe(api.maybe(true));
  assertEquals(
    typeof stream === "number" ? [] : await Array.fromAsync(stream),
    ["a"],
  );
  assertEquals(await exactly<Promise<Iterable<number>>>()(api.array()), [1, 2]);
  const refused = async () => {
    // @ts-expect-error A generator is no promise of its values.
    const values: string[] = await api.letters();
    // @ts-expect-error A stream takes no values.
    await api.letters().next("a");
    return values;
  };
  assertEquals(typeof refused, "function");
});

Deno.test("remote() lets callbacks be asynchronous, and expose() makes methods await them", async () => {
  const methods = {
    each(values: number[], onValue: (value: number) => void) {
      for (const value of values) onValue(value);
    },
    sum: async (values: number[], weigh: (value: number) => Promise<number>) =>
      (await Promise.all(values.map(weigh))).reduce((a, b) => a + b, 0),
    both: async (weigh: (value: number) => number | Promise<number>) =>
      await weigh(3),
    seen: async (see: (value: number) => unknown) => await see(1) === 2,
    options: async (
      options: { name: string; onDone?: (name: string) => Promise<boolean> },
    ) => await options.onDone?.(options.name) ?? false,
    maybe: async (done?: () => Promise<string>) => await done?.() ?? "none",
    many: async (...steps: (() => Promise<number>)[]) =>
      (await Promise.all(steps.map((step) => step()))).length,
  };
  const { api, main } = connect(methods);
  await using _closed = main;
  const seen: number[] = [];
  await api.each([1, 2], async (value) => {
    await undefined;
    seen.push(value);
  });
  await api.each([3], (value) => seen.push(value));
  assertEquals(seen.toSorted(), [1, 2, 3]);
  assertEquals(await api.sum([1, 2], (value) => value * 2), 6);
  assertEquals(await api.sum([1, 2], (value) => Promise.resolve(value)), 3);
  assertEquals(await api.both((value) => value), 3);
  assertEquals(await api.seen((value) => value + 1), true);
  assertEquals(
    await api.options({ name: "a", onDone: (name) => name === "a" }),
    true,
  );
  assertEquals(await api.options({ name: "a" }), false);
  assertEquals(await api.maybe() + await api.maybe(() => "x"), "nonex");
  assertEquals(await api.many(() => 1, () => Promise.resolve(2)), 2);

  const refused = () => {
    const [main] = duplexPair();
    // @ts-expect-error A callback returns a promise.
    expose({ sort: (by: (value: number) => number) => by(1) }, main);
    // @ts-expect-error So does one among options.
    expose({ sort: (options: { by: () => number }) => options.by() }, main);
    // @ts-expect-error The callback returns a number.
    api.sum([1], () => "a");
    // @ts-expect-error The callback receives a number.
    api.sum([1], (value: string) => value.length);
    // @ts-expect-error The callback of the options returns a boolean.
    api.options({ name: "a", onDone: () => 1 });
  };
  assertEquals(typeof refused, "function");
});

Deno.test("remote() has the types of signals, of this, and of optional methods", async () => {
  class Counter {
    #count = 0;
    private readonly step = 1;
    protected readonly limit = 10;
    next = () => (this.#count += this.step) % this.limit;
    inherited(): number {
      return this.#count;
    }
  }
  const counter = new Counter();
  const methods = {
    base: 10,
    signalled: withSignal((signal, add: number, to: number = 1) =>
      signal.aborted ? 0 : add + to
    ),
    cancelled: (signal: AbortSignal) => signal.aborted,
    based(this: { base: number }, value: number) {
      return this.base + value;
    },
    nested: { inner: () => 1 },
  };
  interface Wide {
    maybe?: (value: number) => number;
    one: ((value: number) => number) | ((value: number) => string);
    readonly fixed: () => string;
    then: () => void;
    [Symbol.iterator](): Iterator<number>;
    7: () => number;
  }
  const { api, main } = connect(methods);
  await using _closed = main;
  exactly<(add: number, to?: number) => Promise<number>>()(api.signalled);
  assertEquals(await api.signalled(1), 2);
  assertEquals(await api.cancelled(new AbortController().signal), false);
  assertEquals(await exactly<Promise<number>>()(api.based(1)), 11);
  exactly<"signalled" | "cancelled" | "based">()(
    "based" as keyof Remote<typeof methods>,
  );
  const counting = connect(counter);
  assertEquals(await exactly<Promise<number>>()(counting.api.next()), 1);
  await counting.main.close();
  exactly<"next" | "inherited">()("next" as keyof Remote<Counter>);
  exactly<"maybe" | "one" | "fixed" | 7>()("maybe" as keyof Remote<Wide>);
  type Maybe = (value: number) => Promise<number>;
  const [wide] = duplexPair();
  exactly<Maybe>()(remote<Wide>(wide).maybe);
  exactly<Promise<number> | Promise<string>>()(
    Promise.resolve(1) as ReturnType<Remote<Wide>["one"]>,
  );
});

Deno.test("notifier() has the arguments of methods, and no results", async () => {
  const lines: string[] = [];
  const methods = {
    log: (line: string, level = 0) => lines.push(`${line}${level}`),
    lines: () => lines,
    overloaded,
  };
  const [main, worker] = duplexPair();
  expose(methods, worker);
  const events: Notifier<typeof methods> = notifier<typeof methods>(main);
  await exactly<Promise<void>>()(events.log("a"));
  await exactly<Promise<void>>()(events.overloaded("a", 2));
  assertEquals(await remote<typeof methods>(main).lines(), ["a0"]);
  const refused = () => {
    // @ts-expect-error The level is a number.
    events.log("a", "b");
  };
  assertEquals(typeof refused, "function");
  await main.close();
});

Deno.test("RemoteResult is what a call of a method of a type parameter returns", () => {
  async function call<Result>(run: () => RemoteResult<Result>) {
    return await run();
  }
  assertEquals(typeof call<number>, "function");
});

Deno.test("task() infers arguments and the result of its function", async () => {
  await using scaled = task((x: number, y = 2) => x * y, {
    workers: 1,
    permissions: "inherit",
  });
  exactly<Promise<number>>()(Promise.resolve(0) as ReturnType<typeof scaled>);
  exactly<[x: number, y?: number | undefined]>()(
    [1] as Parameters<typeof scaled>,
  );
  assertEquals(await scaled(3) + await scaled(3, 3), 15);
  assertEquals(await scaled.run([3]) + await scaled.run([3, 4]), 18);
  assertEquals(await Array.fromAsync(scaled.map([1, 2])), [2, 4]);
  const refused = () => {
    // @ts-expect-error The argument is a number.
    scaled("3");
    // @ts-expect-error An argument is missing.
    scaled();
    // @ts-expect-error One argument too many.
    scaled(1, 2, 3);
    // @ts-expect-error The items are numbers.
    scaled.map(["a"]);
  };
  assertEquals(typeof refused, "function");
});

Deno.test("task() lets its callbacks be asynchronous", async () => {
  await using counted = task(
    async (to: number, onStep: (step: number) => Promise<number>) => {
      let sum = 0;
      for (let n = 1; n <= to; n++) sum += await onStep(n);
      return sum;
    },
    { workers: 1, permissions: "inherit" },
  );
  assertEquals(await counted(2, (step) => step), 3);
  assertEquals(await counted(2, (step) => Promise.resolve(step)), 3);
});
