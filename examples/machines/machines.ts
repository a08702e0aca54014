// Copyright 2026 the Duplex authors. MIT license.

/**
 * An opening function for a pool over several machines.
 *
 * @module
 */

import { openSocket, type SocketDuplex } from "@duplex/ipc/socket";

/** Returns a function that opens at most `most` duplexes to each address. */
export function machines(
  addresses: readonly string[],
  most: number,
): () => Promise<SocketDuplex> {
  const all = addresses.map((address) => ({ address, open: 0, turn: 0 }));
  let turns = 0;
  return async () => {
    // Of the machines with room, the one whose last attempt is the oldest. So one that
    // is away does not keep the pool from using the others.
    const [machine] = all.filter(({ open }) => open < most)
      .sort((one, other) => one.turn - other.turn);
    if (machine === undefined) throw new Error("All machines are in use");
    machine.turn = ++turns;
    machine.open++;
    try {
      const options = { openTimeout: 1_000, heartbeat: 1_000 };
      const duplex = await openSocket(machine.address, options);
      const onEnd = () => void machine.open--;
      duplex.closed.then(onEnd, onEnd);
      return duplex;
    } catch (error) {
      machine.open--;
      throw error;
    }
  };
}
