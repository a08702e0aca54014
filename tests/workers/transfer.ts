// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker whose methods receive and return buffers that are moved.
 *
 * @module
 */

import { expose, transfer } from "@duplex/ipc/rpc";

const made: ArrayBuffer[] = [];

const methods = {
  sum: (bytes: Uint8Array) => bytes.reduce((sum, byte) => sum + byte, 0),
  deepSum: ({ list }: { list: { bytes: Uint8Array }[] }) =>
    list.reduce((sum, { bytes }) => sum + methods.sum(bytes), 0),
  make(length: number) {
    const buffer = new Uint8Array(length).fill(7).buffer;
    made.push(buffer);
    return transfer(buffer, [buffer]);
  },
  async makeDeep(length: number, onMade: () => unknown) {
    await onMade();
    return [{ deep: methods.make(length) }];
  },
  /** How many of the buffers that were returned are detached. */
  detached: () => made.filter(({ detached }) => detached).length,
  async exits(_buffer: ArrayBuffer, onBegin?: () => unknown) {
    await onBegin?.();
    Deno.exit(1);
  },
};

/** The methods. */
export type TransferMethods = typeof methods;

expose(methods);
