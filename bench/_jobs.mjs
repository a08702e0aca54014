// Copyright 2026 the Duplex authors. MIT license.

/**
 * The jobs of `bench/jobs.ts`, and how they are given to workers and timed: the
 * same for this module and for its peers in JavaScript, which import it in Node;
 * `peers/jobs_python.py` is the same for Python.
 *
 * @module
 */

import { checkSum, messagesOf, weigh } from "./_messages.mjs";

/** How many workers the tasks are for. */
export const WORKERS = 2;

/** How many calls the scenario "calls64" keeps in flight. */
export const IN_FLIGHT = 64;

/** How many tasks there are to a map, and the number that each is given. */
const TASKS = 10_000;
const NUMBER = 12;

/**
 * Gives back what it is called with.
 *
 * @param {any} line
 */
export function echo(line) {
  return line;
}

/**
 * A number of the Fibonacci sequence, in a naive way: some microseconds of work.
 *
 * @param {number} number
 * @returns {number}
 */
export function fib(number) {
  return number < 2 ? number : fib(number - 1) + fib(number - 2);
}

/**
 * Whoever has jobs done, as far as a scenario needs it.
 *
 * @typedef {object} Jobs
 * @property {(line: any) => PromiseLike<any>} [echo] Has a worker call `echo`.
 * @property {(numbers: number[]) => PromiseLike<number[]>} [map] Has the workers
 * call `fib` with each number.
 * @property {() => unknown} stop Ends the workers.
 */

/**
 * Calls with every number below a bound, as many calls in flight as it is told.
 *
 * @param {(index: number) => PromiseLike<any>} call
 * @param {number} count How many calls.
 * @param {number} inFlight How many of them at a time.
 * @param {(answer: any, index: number) => void} take Is given every answer.
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
 * The map of those who have none: calls with each of the numbers.
 *
 * @param {(number: number) => PromiseLike<number>} call
 * @param {number[]} numbers
 * @param {number} inFlight How many calls at a time.
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
 * Milliseconds for as many calls with a line.
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
 * Goes through a scenario.
 *
 * @param {Jobs} jobs
 * @param {string} scenario
 * @param {number} count
 * @param {number} warm
 * @returns {Promise<number[]>} One figure, or several.
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
  const inFlight = scenario === "call" ? 1 : IN_FLIGHT;
  await calls(jobs, warm, inFlight);
  const ms = await calls(jobs, count, inFlight);
  return [scenario === "call" ? ms * 1e3 / count : count * 1e3 / ms];
}

/**
 * Goes through a scenario and prints its figures as a JSON array.
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
