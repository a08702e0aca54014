// Copyright 2026 the Duplex authors. MIT license.

/**
 * The options of a session, and the checks of the limits that a user sets.
 *
 * @module
 */

import { type Codec, json, msgpack } from "../codec.ts";
import type { DuplexOptions } from "../duplex.ts";
import { checkOptions, checkPositive } from "../_base/options.ts";
import { show } from "../_base/text.ts";
import { MAX_MESSAGE_SIZE } from "../_wire/control_frames.ts";
import type { OwnHello } from "../_wire/wire.ts";

/** The options of a session. */
export interface SessionOptions extends OwnHello {
  role: "opener" | "acceptor";
  name: string;
  codecs: readonly Codec[];
  windowBytes: number;
  windowMessages: number;
  maxMessageBytes: number;
  /** Milliseconds of blocked sending after which a deadlock is looked for. */
  deadlockTimeout: number;
  /** Milliseconds that `close` waits for the peer. */
  closeTimeout: number;
}

/** The defaults of a session. */
export const DEFAULT_OPTIONS: SessionOptions = {
  role: "opener",
  name: "main",
  codecs: [msgpack, json],
  windowBytes: 4 * 1024 * 1024,
  windowMessages: 4096,
  maxMessageBytes: 256 * 1024 * 1024,
  deadlockTimeout: 5_000,
  closeTimeout: 5_000,
};

/**
 * Checks the options of an opening function and adds the defaults.
 *
 * @param action What is attempted, for errors.
 */
export function sessionOptions(
  action: string,
  role: SessionOptions["role"],
  options: DuplexOptions,
): SessionOptions {
  checkOptions(action, options);
  const { codec, ...limits } = options;
  const name = role === "opener" ? "main" : "worker";
  const complete = { ...DEFAULT_OPTIONS, role, name };
  if (codec !== undefined) {
    if (typeof codec?.encode !== "function") {
      throw new TypeError(
        `${action} as "codec" must be a Codec: current value is ${show(codec)}`,
      );
    }
    complete.codecs = [codec];
  }
  for (const [name, integer, max] of LIMITS) {
    const value = limits[name];
    if (value === undefined) continue;
    checkPositive(action, name, value, { integer, max });
    complete[name] = value;
  }
  return complete;
}

/**
 * The most messages in flight: half of what 32 bits count, so that a number cut
 * to 32 bits still shows whether it is old or new.
 */
const MAX_MESSAGES = 2 ** 31 - 1;

/** For each limit, whether it must be an integer, and its maximum. */
const LIMITS = [
  ["windowBytes", true, Number.MAX_SAFE_INTEGER],
  ["windowMessages", true, MAX_MESSAGES],
  ["maxMessageBytes", true, MAX_MESSAGE_SIZE],
  ["deadlockTimeout", false, Infinity],
  ["closeTimeout", false, Infinity],
] as const;
