// Copyright 2026 the Duplex authors. MIT license.

/**
 * The jobs of `bench/jobs.ts` and their measurement, for this package and the other
 * contenders in JavaScript; `peers/jobs_python.py` is the same for Python.
 *
 * @module
 */

import { checkSum, messagesOf, weigh } from "./_messages.mjs";

/** The number of workers. */
export const WORKERS = 2;

/** The calls in flight in the scenario "calls64". */
export const IN_FLIGHT = 64;

/** The scenario of blocking calls. */
const SYNC = "sync";

/** The tasks of a map, and the argument of each. */
const TASKS = 10_000;
const NUMBER = 12;

/**
 * Returns its argument.
 *
 * @param {any} line
 */
export function echo(line) {
  return line;
}

/**
 * A number of the Fibonacci sequence by recursion: some microseconds of work.
 *
 * @param {number} number
 * @returns {number}
 */
export function fib(number) {
  return number < 2 ? number : fib(number - 1) + fib(number - 2);
}

/**
 * The calls that a scenario needs.
 *
 * @typedef {object} Jobs
 * @property {(line: any) => PromiseLike<any>} [echo] Calls `echo` in a worker.
 * @property {(line: any) => any} [echoSync] As `echo`, and blocks this thread.
 * @property {(numbers: number[]) => PromiseLike<number[]>} [map] Calls
 * `fib` with each number in the workers.
 * @property {() => unknown} stop Ends the workers.
 */

/**
 * Calls with every number below a count, with a number of calls in flight.
 *
 * @param {(index: number) => PromiseLike<any>} call
 * @param {number} count The number of calls.
 * @param {number} inFlight The number of calls at a time.
 * @param {(answer: any, index: number) => void} take Called with every answer.
 */
export async function callAll(call, count, inFlight, take) {
  let next = 0;
  async function caller() {
    while (next < count) {
      const index = next++;
      take(await call(index), index);
    }
  }
  await Promise.all(Array.from({ length: inFlight }, caller));
}

/**
 * A map for contenders without one: calls with each of the numbers.
 *
 * @param {(number: number) => PromiseLike<number>} call
 * @param {number[]} numbers
 * @param {number} inFlight The number of calls at a time.
 */
export async function mapCalls(call, numbers, inFlight) {
  /** @type {number[]} */
  const results = Array(numbers.length).fill(0);
  await callAll(
    (index) => call(numbers[index] ?? NaN),
    numbers.length,
    inFlight,
    (result, index) => {
      results[index] = result;
    },
  );
  return results;
}

/**
 * Milliseconds for a number of calls with a line.
 *
 * @param {Jobs} jobs
 * @param {number} count
 * @param {number} inFlight
 */
async function calls(jobs, count, inFlight) {
  const lines = messagesOf("lines");
  const { length } = lines;
  let sum = 0;
  const start = performance.now();
  await callAll(
    (index) => jobs.echo(lines[index % length]),
    count,
    inFlight,
    (line) => {
      sum += weigh(line);
    },
  );
  const ms = performance.now() - start;
  checkSum(sum, lines, count);
  return ms;
}

/**
 * Milliseconds for a number of blocking calls with a line.
 *
 * @param {Jobs} jobs
 * @param {number} count
 */
function callsSync(jobs, count) {
  const lines = messagesOf("lines");
  const { length } = lines;
  let sum = 0;
  const start = performance.now();
  for (let index = 0; index < count; index++) {
    sum += weigh(jobs.echoSync(lines[index % length]));
  }
  const ms = performance.now() - start;
  checkSum(sum, lines, count);
  return ms;
}

/**
 * Milliseconds for a map.
 *
 * @param {Jobs} jobs
 */
async function mapping(jobs) {
  const numbers = Array(TASKS).fill(NUMBER);
  const start = performance.now();
  const results = await jobs.map(numbers);
  const ms = performance.now() - start;
  const sum = results.reduce((all, result) => all + result, 0);
  const expected = TASKS * fib(NUMBER);
  if (sum !== expected) {
    throw new Error(`The results add up to ${sum}, not to ${expected}`);
  }
  return ms;
}

/**
 * Measures a scenario.
 *
 * @param {Jobs} jobs
 * @param {string} scenario
 * @param {number} count
 * @param {number} warm
 * @returns {Promise<number[]>} One or more figures.
 */
async function running(jobs, scenario, count, warm) {
  if (scenario === "map") {
    const samples = [];
    for (let round = 0; round < count + warm; round++) {
      const ms = await mapping(jobs);
      if (round >= warm) samples.push(ms);
    }
    return samples;
  }
  if (scenario === SYNC) {
    callsSync(jobs, warm);
    return [callsSync(jobs, count) * 1e3 / count];
  }
  const inFlight = scenario === "call" ? 1 : IN_FLIGHT;
  await calls(jobs, warm, inFlight);
  const ms = await calls(jobs, count, inFlight);
  return [scenario === "call" ? ms * 1e3 / count : count * 1e3 / ms];
}

/**
 * Measures a scenario and prints its figures as a JSON array.
 *
 * @param {(scenario: string, workers: number) => Jobs | Promise<Jobs>} open
 * Starts workers.
 * @param {readonly string[]} args SCENARIO COUNT WARM.
 */
export async function measure(open, [scenario = "", ...numbers]) {
  const [count = 0, warm = 0] = numbers.map(Number);
  const jobs = await open(scenario, scenario === "map" ? WORKERS : 1);
  console.log(JSON.stringify(await running(jobs, scenario, count, warm)));
  await jobs.stop();
}
