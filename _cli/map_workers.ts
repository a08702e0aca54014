// Copyright 2026 the Duplex authors. MIT license.

/**
 * The workers of `map`: those that it starts, or those that a server has. The
 * first one is asked what can be called, and does its part of the work then.
 *
 * @module
 */

import { messageOf, UsageError } from "./arguments.ts";
import type { MapOptions } from "./map_options.ts";
import { openWorker } from "./worker.ts";
import { RpcEndpoint } from "../_rpc/endpoint.ts";
import { quoted } from "../_base/text.ts";
import { settlesWithin } from "../_base/waiting.ts";
import type { Duplex } from "../duplex.ts";
import { openSocket } from "../socket.ts";

/**
 * Milliseconds that a worker may take to say what it exposes, as long as it may
 * take to say hello. One that speaks something else never says it.
 */
const DESCRIBE_TIMEOUT = 10_000;

/**
 * Milliseconds that workers have to end when nobody wants their results any more.
 * Those that do not are killed as the program exits.
 */
export const ABORT_GRACE = 200;

/** Reasons why workers did not start that are told once each. */
const MAX_REASONS = 100;

/** What the workers of a map are. */
export class MapWorkers {
  readonly #openOne: (number: number) => Promise<Duplex>;
  readonly #warn: (line: string) => void;
  /** Why workers did not start, and how often. */
  readonly #reasons = new Map<string, number>();
  #count = 0;
  #first: Duplex | undefined;

  /**
   * @param openOne Opens a duplex to a new worker, which has that number.
   * @param warn Takes what is to be printed of a worker that could not be had.
   */
  constructor(
    openOne: (number: number) => Promise<Duplex>,
    warn: (line: string) => void,
  ) {
    this.#openOne = openOne;
    this.#warn = warn;
  }

  /**
   * Opens the first worker, and asks it for what it exposes.
   *
   * @param wanted The method that is wanted, if one was named.
   * @returns The method that is to be called.
   * @throws {UsageError} If it is not there, or it is not said which it is.
   * @throws {Error} If there is no such worker to be had.
   */
  async start(wanted: string | undefined): Promise<string> {
    const duplex = await this.#openOne(++this.#count);
    this.#first = duplex;
    return chooseMethod(await methodsOf(duplex), wanted);
  }

  /** Opens a duplex to a worker; the first one is there already. */
  async open(): Promise<Duplex> {
    const first = this.#first;
    this.#first = undefined;
    if (first !== undefined) return first;
    try {
      return await this.#openOne(++this.#count);
    } catch (error) {
      this.#onFailure(messageOf(error));
      throw error;
    }
  }

  /** Tells it once, and how often it came at the end. */
  #onFailure(reason: string): void {
    const count = this.#reasons.get(reason) ?? 0;
    if (count > 0 || this.#reasons.size < MAX_REASONS) {
      this.#reasons.set(reason, count + 1);
    }
    if (count > 0) return;
    this.#warn(`warning: a worker did not start: ${reason}`);
  }

  /** Says how often no worker started for reasons that came more than once. */
  warnAgain(): void {
    for (const [reason, count] of this.#reasons) {
      if (count === 1) continue;
      this.#warn(
        `warning: ${count} times a worker did not start: ${reason}`,
      );
    }
  }

  /** Says goodbye to the first worker, if nothing has become of it. */
  async close(): Promise<void> {
    const first = this.#first;
    this.#first = undefined;
    await first?.close();
  }

  /** Ends the first worker, if nothing has become of it. Never rejects. */
  async abort(): Promise<void> {
    const first = this.#first;
    this.#first = undefined;
    if (first === undefined) return;
    first.abort();
    await settlesWithin(first.closed.catch(() => {}), ABORT_GRACE);
  }
}

/** Opens workers as the options say. */
export function openerOf(
  { source }: Pick<MapOptions, "source">,
  print: (line: string) => void,
): (number: number) => Promise<Duplex> {
  if ("address" in source) {
    return () => openSocket(source.address, source.socket);
  }
  return (number) =>
    // What a worker prints may be what is in a line.
    openWorker(source, (line) => print(`worker ${number}: ${messageOf(line)}`));
}

/** The methods that a worker exposes. */
async function methodsOf(duplex: Duplex): Promise<string[]> {
  try {
    const endpoint = RpcEndpoint.of(duplex);
    const { methods } = await endpoint.describe(DESCRIBE_TIMEOUT);
    return methods;
  } catch (cause) {
    throw new Error(
      `the worker does not say what it exposes, as one does that calls "expose" of @duplex/ipc/rpc: ${
        messageOf(cause)
      }`,
      { cause },
    );
  }
}

/** Finds the method that is wanted among those that there are. */
export function chooseMethod(
  methods: readonly string[],
  wanted: string | undefined,
): string {
  const [only] = methods;
  if (only === undefined) {
    throw new UsageError(
      'the worker exposes no methods: have it call "expose" of @duplex/ipc/rpc',
    );
  }
  if (wanted === undefined && methods.length === 1) return only;
  if (wanted !== undefined && methods.includes(wanted)) return wanted;
  const names = methods.map((name) => quoted(name)).join(", ");
  throw new UsageError(
    wanted === undefined
      ? `there is no METHOD, and the worker exposes ${names}: give one of them`
      : `the worker exposes no method ${quoted(wanted)}, but ${names}`,
  );
}
