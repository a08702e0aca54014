// Copyright 2026 the Duplex authors. MIT license.

/**
 * The options of a plan as the opening functions take them.
 *
 * @module
 */

import type { Codec } from "@duplex/ipc/codec";
import type { DuplexOptions } from "@duplex/ipc/duplex";
import type { PlanOptions } from "./plan.ts";

/**
 * The options that every opening function takes.
 *
 * @param codecs The codecs by their names.
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
