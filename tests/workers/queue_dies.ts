// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker that dies at a given point: at its start, depending on its name, and
 * at a message, depending on the attempt.
 *
 * @module
 */

import type { Duplex } from "@duplex/ipc/duplex";
import { type Delivery, parent, type ParentDuplex } from "@duplex/ipc/parent";

/** How a worker dies. */
export type How = "throw" | "close" | "exit" | "reject";

/** The point at which it dies of a message. */
export type Where =
  /** After it has received the message. */
  | "received"
  /** One turn of the event loop later. */
  | "inHand"
  /** After it has sent the answer, which has not left. */
  | "answered"
  /** While a large answer is leaving. */
  | "answering"
  /** Some turns after the answer. */
  | "later"
  /** After it has received the goodbye. */
  | "goodbye";

/** One message. */
export interface Job {
  id: number;
  /** The number of answers; 0 for none. */
  answers: number;
  /** Bytes of padding in the message and in each answer. */
  padding: Uint8Array;
  answerSize: number;
  /** Where and how the worker dies at each attempt of the message. */
  deaths: [Where, How][];
  /**
   * Counts how often the message is received, unmarked and marked as
   * redelivered.
   */
  log?: Int32Array | undefined;
}

/** An answer. */
export interface Done {
  id: number;
  part: number;
  attempt: number;
  padding: Uint8Array;
}

function turn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}

async function die(how: How): Promise<never> {
  if (how === "throw") {
    setTimeout(() => {
      throw new Error("thrown on purpose");
    });
  } else if (how === "reject") Promise.reject(new Error("rejected on purpose"));
  else if (how === "close") self.close();
  else Deno.exit(3);
  return await new Promise(() => {});
}

let atGoodbye: How | undefined;

async function handle(
  main: Duplex<Job, Done>,
  job: Job,
  { attempt }: Delivery,
): Promise<void> {
  const { id, answers, answerSize, log } = job;
  if (log) Atomics.add(log, 2 * id + (attempt > 1 ? 1 : 0), 1);
  const [where, how] = job.deaths[attempt - 1] ?? [undefined, "throw"];
  if (where === "received") await die(how);
  if (where === "inHand") {
    await turn();
    await die(how);
  }
  if (where === "goodbye") atGoodbye = how;
  for (let part = 0; part < answers; part++) {
    const padding = new Uint8Array(answerSize).fill(id);
    const sent = main.send({ id, part, attempt, padding });
    if (where === "answering") {
      await turn();
      await die(how);
    }
    await sent;
  }
  if (where === "answered") await die(how);
  if (where === "later") {
    for (let turns = 0; turns < 5; turns++) await turn();
    await die(how);
  }
}

const death = /death-(\w+)-(\w+)/.exec(location.hash);
const start = death?.[1];
const how = death?.[2] as How;
if (start === "start") await die(how);
const main: ParentDuplex<Job, Done, "queue"> = await parent<Job, Done>({
  transport: "queue",
});
if (start === "hello") await die(how);
for await (const job of main) await handle(main, job, main.delivery!);
if (atGoodbye !== undefined) await die(atGoodbye);
await main.close();
