// Copyright 2026 the Duplex authors. MIT license.

/**
 * Threads that post messages to each other, in Deno and in Node, for
 * `bench/workers.ts`. `postMessage` has no limit, so a program that must not fill its
 * memory counts: the receiver acknowledges messages, a quarter of the limit at a
 * time, and the sender keeps no more than the limit in flight.
 *
 * All work is done in callbacks, so that a message costs no promise.
 *
 * @module
 */

import { checkSum, messagesOf, rateOf, weigh } from "../_messages.mjs";

/**
 * The limits with which the contenders were fastest, of 16 to 65536 small messages and
 * 2 to 64 of a MiB.
 */
const BOUND = 4_096;
const BYTES_BOUND = 16;

/**
 * One end of a pair of threads.
 *
 * @typedef {object} End
 * @property {(message: unknown) => void} post Posts a message.
 * @property {(callback: (message: any) => void) => void} listen Calls back with
 * each message, in place of the callback before.
 */

/**
 * A thread, and this side of its connection.
 *
 * @typedef {object} Thread
 * @property {End} end
 * @property {() => unknown} stop Ends it.
 */

/** @param {string} what */
function boundOf(what) {
  return what === "bytes" ? BYTES_BOUND : BOUND;
}

/**
 * Sends, and calls back when the peer has received all messages.
 *
 * @param {End} end
 * @param {string} what
 * @param {unknown[]} messages
 * @param {number} count
 * @param {() => void} done
 */
function sendAll(end, what, messages, count, done) {
  const { length } = messages;
  let room = boundOf(what);
  let sent = 0;
  let had = 0;
  function fill() {
    for (; room > 0 && sent < count; room--) {
      end.post(messages[sent++ % length]);
    }
  }
  end.listen((more) => {
    room += more;
    had += more;
    if (had === count) done();
    else fill();
  });
  fill();
}

/**
 * Receives, and calls back with the check sum.
 *
 * @param {End} end
 * @param {string} what
 * @param {number} count
 * @param {(sum: number) => void} done
 */
function takeAll(end, what, count, done) {
  const often = boundOf(what) / 4;
  let left = count;
  let taken = 0;
  let sum = 0;
  end.listen((message) => {
    sum += weigh(message);
    left--;
    if (++taken < often && left > 0) return;
    end.post(taken);
    taken = 0;
    if (left === 0) done(sum);
  });
}

/**
 * The work of a thread: "echo" posts messages back; "take-…" receives the requested
 * number of messages and posts their check sum; "give-…" sends the requested number.
 *
 * @param {End} end
 * @param {string} role
 */
export function serve(end, role) {
  const [verb, what = ""] = role.split("-");
  const messages = messagesOf(what);
  /** @param {number} count */
  function take(count) {
    takeAll(end, what, count, (sum) => {
      end.listen(take);
      end.post(sum);
    });
  }
  /** @param {number} count */
  function give(count) {
    sendAll(end, what, messages, count, () => end.listen(give));
  }
  if (verb === "take") end.listen(take);
  else if (verb === "give") end.listen(give);
  else end.listen(end.post);
}

/**
 * Milliseconds for all messages there and back, one at a time.
 *
 * @param {End} end
 * @param {number} count
 * @returns {Promise<number>}
 */
function trips(end, count) {
  const lines = messagesOf("lines");
  const start = performance.now();
  let sum = 0;
  let trip = 0;
  return new Promise((resolve) => {
    end.listen((message) => {
      sum += weigh(message);
      if (++trip < count) return end.post(lines[trip % lines.length]);
      const ms = performance.now() - start;
      checkSum(sum, lines, count);
      resolve(ms);
    });
    end.post(lines[0]);
  });
}

/**
 * Milliseconds until the peer has received all messages.
 *
 * @param {End} end
 * @param {string} what
 * @param {unknown[]} messages
 * @param {number} count
 * @returns {Promise<number>}
 */
function out(end, what, messages, count) {
  const start = performance.now();
  end.post(count);
  return new Promise((resolve) => {
    sendAll(end, what, messages, count, () => {
      end.listen((sum) => {
        const ms = performance.now() - start;
        checkSum(sum, messages, count);
        resolve(ms);
      });
    });
  });
}

/**
 * Milliseconds until all messages of the peer have been received.
 *
 * @param {End} end
 * @param {string} what
 * @param {unknown[]} messages
 * @param {number} count
 * @returns {Promise<number>}
 */
function into(end, what, messages, count) {
  const start = performance.now();
  return new Promise((resolve) => {
    takeAll(end, what, count, (sum) => {
      const ms = performance.now() - start;
      checkSum(sum, messages, count);
      resolve(ms);
    });
    end.post(count);
  });
}

/**
 * Milliseconds until the first answer, for each opening.
 *
 * @param {(role: string) => Thread} open
 * @param {number} count
 * @param {number} warm
 */
async function opening(open, count, warm) {
  const samples = [];
  for (let round = 0; round < count + warm; round++) {
    const start = performance.now();
    const { end, stop } = open("echo");
    const answer = await new Promise((resolve) => {
      end.listen(resolve);
      end.post("hello");
    });
    if (round >= warm) samples.push(performance.now() - start);
    await stop();
    if (answer !== "hello") throw new Error(`The thread said ${answer}`);
  }
  return samples;
}

/**
 * Measures a scenario and prints its figures as a JSON array.
 *
 * @param {(role: string) => Thread} open Starts a thread with a role.
 * @param {readonly string[]} args SCENARIO COUNT WARM.
 */
export async function measure(open, [scenario = "", ...numbers]) {
  const [count = 0, warm = 0] = numbers.map(Number);
  if (scenario === "open") {
    console.log(JSON.stringify(await opening(open, count, warm)));
    return;
  }
  if (scenario === "round-trip") {
    const { end, stop } = open("echo");
    await trips(end, warm);
    console.log(JSON.stringify([await trips(end, count) * 1e3 / count]));
    await stop();
    return;
  }
  const [what = "", way] = scenario.split("-");
  const messages = messagesOf(what);
  const { end, stop } = open(`${way === "out" ? "take" : "give"}-${what}`);
  const run = way === "out" ? out : into;
  await run(end, what, messages, warm);
  const ms = await run(end, what, messages, count);
  console.log(JSON.stringify([rateOf(what, count, ms)]));
  await stop();
}

/**
 * Posts a copy of bytes and transfers it, so that the sender keeps its own; posts
 * other messages as they are.
 *
 * @param {(message: unknown, transfer: ArrayBuffer[]) => void} post
 * @returns {(message: unknown) => void}
 */
export function moving(post) {
  return (message) => {
    if (!(message instanceof Uint8Array)) return post(message, []);
    const copy = message.slice();
    post(copy, [copy.buffer]);
  };
}
