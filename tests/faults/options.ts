// Copyright 2026 the Duplex authors. MIT license.

/**
 * Converts the options of a plan to options of the opening functions.
 *
 * @module
 */

import type { Codec } from "@duplex/ipc/codec";
import type { DuplexOptions } from "@duplex/ipc/duplex";
import type { PlanOptions } from "./plan.ts";

/**
 * The options of every opening function.
 *
 * @param codecs The codecs by name.
 */
export function duplexOptions(
  options: PlanOptions,
  codecs: Record<"json" | "msgpack", Codec>,
): DuplexOptions {
  const {
    windowBytes,
    windowMessages,
    deadlockTimeout,
    closeTimeout,
    codec,
  } = options;
  return {
    ...windowBytes !== undefined && { windowBytes: windowBytes },
    ...windowMessages !== undefined && { windowMessages },
    ...deadlockTimeout !== undefined && { deadlockTimeout },
    ...closeTimeout !== undefined && { closeTimeout },
    ...codec !== undefined && { codec: codecs[codec] },
  };
}
