// Copyright 2026 the Duplex authors. MIT license.

/**
 * How pools, tasks and calls handle invalid options: each one is rejected
 * before anything starts, with an error that names the option and its value.
 *
 * @module
 */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { duplexPair } from "@duplex/ipc/pair";
import { Pool } from "@duplex/ipc/pool";
import { expose, notifier, remote, withSignal } from "@duplex/ipc/rpc";
import { task } from "@duplex/ipc/task";
import { test } from "../rpc/_ends.ts";

/** Values, and their text in an error. */
const NULL: [unknown, string] = [null, "null"];
const SYMBOL: [unknown, string] = [Symbol("s"), "Symbol(s)"];
const TEXT: [unknown, string] = ["a\u001b", '"a\\u001b"'];
const ODD: [unknown, string] = [{ toString: 1, valueOf: 1 }, "an object"];
const BIGINT: [unknown, string] = [1n, "1n"];

/** Values that no option accepts, and invalid numbers. */
const WRONG = [NULL, SYMBOL, TEXT, ODD, BIGINT];
const NUMBERS: [unknown, string][] = [[0, "0"], [-1, "-1"], [NaN, "NaN"]];
const PART: [unknown, string] = [1.5, "1.5"];

interface Case {
  /** Calls the function under test with a value. */
  readonly name: string;
  call(value: unknown): unknown;
  /** The name of the option in the error. */
  readonly option: string;
  readonly values: readonly [unknown, string][];
}

/** One option of a function that is called with an object of options. */
function option(
  name: string,
  option: string,
  call: (options: never) => unknown,
  values: readonly [unknown, string][],
): Case {
  return {
    name: `${name} with ${option}`,
    call: (value) => call({ [option]: value } as never),
    option: `"${option}"`,
    values,
  };
}

/** All functions with options, and the options by their kinds. */
function casesOf(pool: Pool): Case[] {
  const [one, other] = duplexPair();
  const methods = { f() {} };
  const makers: Record<string, (options: never) => unknown> = {
    "new Pool()": (options) =>
      new Pool(() => Promise.reject(new Error("Not opened")), options),
    "Pool.run()": (options) => pool.run("f", [], options),
    "Pool.ready()": (options) => pool.ready(options),
    "Pool.map()": (options) => pool.map([], "f", options),
    "Pool.broadcast()": (options) => pool.broadcast("f", [], options),
    "Pool.mapSettled()": (options) => pool.mapSettled([], "f", options),
    "task()": (options) => task(() => {}, options),
    "expose()": (options) => expose(methods, one, options),
    "remote()": (options) => remote(other, options),
  };
  const numbers: Record<string, string[]> = {
    "new Pool()": [
      "timeout",
      "waitTimeout",
      "maxMemory",
      "idleTimeout",
      "startTimeout",
    ],
    "Pool.broadcast()": ["timeout"],
    "Pool.run()": ["timeout", "waitTimeout"],
    "Pool.ready()": ["timeout"],
    "Pool.map()": ["timeout"],
    "task()": ["memory", "timeout"],
    "remote()": ["timeout"],
  };
  const whole: Record<string, string[]> = {
    "new Pool()": ["workers", "maxTasks", "maxQueue"],
    "Pool.map()": ["readAhead"],
    "task()": ["workers"],
    "expose()": ["maxCalls"],
    "remote()": ["readAhead"],
  };
  const others: Record<string, string[]> = {
    "new Pool()": ["init"],
    "Pool.broadcast()": ["signal", "later"],
    "Pool.run()": ["signal", "retryOn"],
    "Pool.ready()": ["signal"],
    "Pool.map()": ["signal", "retryOn", "ordered", "onProgress", "key"],
    "Pool.mapSettled()": ["signal", "retryOn", "ordered", "onProgress", "key"],
    "expose()": ["onError"],
    "remote()": ["signal"],
  };
  const cases = Object.entries(makers).map(([name, call]): Case => ({
    name: `${name} with options`,
    call: (value) => call(value as never),
    option: '"options"',
    // Any object is valid.
    values: WRONG.filter((value) => value !== ODD),
  }));
  const add = (
    options: Record<string, string[]>,
    values: readonly [unknown, string][],
  ) => {
    for (const [name, list] of Object.entries(options)) {
      cases.push(
        ...list.map((one) => option(name, one, makers[name]!, values)),
      );
    }
  };
  // The text of objects in a number's error is not checked here.
  const noNumber = [NULL, SYMBOL, TEXT].map(([value]) => [value, "current"]);
  const wrong = noNumber as [unknown, string][];
  add(numbers, [...wrong, ...NUMBERS]);
  add(whole, [...wrong, ...NUMBERS, PART]);
  add(others, [...WRONG, [0, "0"]]);
  // A text is a key, any finite number a priority, and any object may be `retry`.
  const texts = WRONG.filter((value) => value !== TEXT);
  add({ "Pool.run()": ["key"] }, [...texts, [0, "0"]]);
  const infinite: [unknown, string][] = [[NaN, "NaN"], [Infinity, "Infinity"]];
  add({ "Pool.run()": ["priority"], "Pool.map()": ["priority"] }, [
    ...WRONG,
    ...infinite,
  ]);
  add({ "new Pool()": ["minWorkers"], "task()": ["minWorkers"] }, [
    ...WRONG,
    ...NUMBERS.filter(([value]) => value !== 0),
    PART,
    [1e9, "1000000000"],
  ]);
  cases.push(...casesOfRetry(makers));
  const direct: [string, string, (value: never) => unknown][] = [
    ["new Pool()", '"open"', (value) => new Pool(value)],
    ["Pool.run()", '"method"', (value) => pool.run(value, [])],
    ["Pool.run()", "arguments", (value) => pool.run("f", value)],
    ["Pool.broadcast()", '"method"', (value) => pool.broadcast(value, [])],
    ["Pool.broadcast()", "arguments", (value) => pool.broadcast("f", value)],
    ["Pool.warm()", '"count"', (value) => pool.warm(value)],
    ["Pool.map()", '"method"', (value) => pool.map([], value)],
    ["Pool.map()", "items", (value) => pool.map(value, "f")],
    ["task()", "must be a function", (value) => task(value)],
    ["expose()", "an object with functions", (value) => expose(value, one)],
    ["expose()", '"duplex"', (value) => expose(methods, value)],
    ["remote()", '"duplex"', (value) => remote(value)],
    ["notifier()", '"duplex"', (value) => notifier(value)],
    ["withSignal()", "must be a function", (value) => withSignal(value)],
  ];
  for (const [name, what, call] of direct) {
    const values = WRONG.filter(([value]) =>
      typeof value === "string"
        ? !["items", '"method"'].includes(what)
        : typeof value !== "object" || value === null ||
          what !== "an object with functions"
    );
    cases.push({
      name: `${name}: ${what}`,
      call: (value) => call(value as never),
      option: what,
      values,
    });
  }
  return cases;
}

/** The option `retry` of all functions that have it, and its members. */
function casesOfRetry(
  makers: Record<string, (options: never) => unknown>,
): Case[] {
  const signed = NUMBERS.filter(([value]) => value !== 0);
  const whole = [...WRONG, ...signed, PART];
  const members: Record<string, [unknown, string][]> = {
    times: whole,
    delay: [...WRONG, ...signed, [Infinity, "Infinity"]],
    factor: [...WRONG, ...NUMBERS, [0.5, "0.5"]],
    jitter: whole,
    maxDelay: [...WRONG, ...signed, [2 ** 31, "2147483648"]],
  };
  return ["new Pool()", "Pool.run()", "Pool.map()", "task()"].flatMap((
    name,
  ) => [
    option(name, "retry", makers[name]!, whole.filter((one) => one !== ODD)),
    ...Object.entries(members).map(([member, values]) => ({
      name: `${name} with retry.${member}`,
      call: (value: unknown) =>
        makers[name]!({ retry: { [member]: value } } as never),
      option: `"retry.${member}"`,
      values,
    })),
  ]);
}

test("Every option that is invalid is rejected by its name", async (t) => {
  const pool = new Pool(() => Promise.reject(new Error("Not opened")));
  for (const { name, call, option, values } of casesOf(pool)) {
    const isNumber = values.some(([value]) => Number.isNaN(value));
    await t.step(name, async () => {
      for (const [value, shown] of values) {
        const error = await refusal(() => call(value));
        const expected = isNumber && typeof value === "number"
          ? RangeError
          : TypeError;
        assertEquals(error.constructor, expected, error.message);
        assertStringIncludes(error.message, option);
        assertStringIncludes(error.message, shown);
      }
    });
  }
  assertEquals(pool.stats.starting, 0);
  await pool.close();
}, { read: [new URL("../..", import.meta.url)] });

/** The error that a call throws or rejects with. */
async function refusal(call: () => unknown): Promise<Error> {
  try {
    await call();
  } catch (error) {
    assert(error instanceof Error);
    return error;
  }
  throw new Error("It was not refused");
}
