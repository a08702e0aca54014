// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker that performs the acts named in its messages, over every transport:
 * each message is a list of the act's name and its arguments.
 *
 * @module
 */

import { parent } from "@duplex/ipc/parent";

const main = await parent<[act: string, ...given: unknown[]]>();

/** The acts that return an answer; the other acts send their own. */
const ACTS: Record<string, (...given: never[]) => unknown> = {
  echo: (value: unknown) => value,
  pid: () => Deno.pid,
  args: () => Deno.args,
  secret: () => Deno.env.has("DUPLEX_SECRET"),
  read: (path: string) => outcome(() => Deno.readTextFileSync(path)),
  env: (name: string) => outcome(() => Deno.env.get(name)),
  net: (hostname: string, port: number) =>
    outcome(() => Deno.listen({ hostname, port }).close()),
  throw(text: string) {
    throw new RangeError(text);
  },
  exit(code: number, text: string) {
    console.error(text);
    Deno.exit(code);
  },
  abort(text: string) {
    main.abort(new RangeError(text));
  },
};

function outcome(act: () => unknown): string {
  try {
    act();
    return "ok";
  } catch (error) {
    return (error as Error).name;
  }
}

/** Sends nothing more, but continues to receive. */
async function hush(): Promise<void> {
  await main.writable.close();
  for await (const [, value] of main) console.error(`heard ${value}`);
}

/** Answers after the peer's goodbye. */
async function answerLate(): Promise<void> {
  const values: unknown[] = [];
  for await (const [, value] of main) values.push(value);
  for (const value of values) await main.send(["late", value]);
}

/**
 * Fails like an error that leaves an `await using` block: after the goodbyes.
 */
async function failLate(text: string): Promise<void> {
  for await (const _ of main);
  await main.close();
  throw new RangeError(text);
}

for await (const [name, ...given] of main) {
  if (name === "hush") await hush();
  else if (name === "late") await answerLate();
  else if (name === "fail") await failLate(String(given[0]));
  else if (name === "stuck") await new Promise((done) => setTimeout(done, 6e5));
  else {
    const answer = await ACTS[name]!(...given as never[]);
    if (name !== "abort") await main.send(answer as never);
  }
}
await main.close();
