// Copyright 2026 the Duplex authors. MIT license.

/**
 * Waits for bytes in the rings, blocking or not, and reports the result.
 *
 * @module
 */

import { INTEREST, openRings, RingEnd } from "../../_shm/ring.ts";

const scope = globalThis as unknown as {
  onmessage: (
    event: MessageEvent<{ buffer: SharedArrayBuffer; blocking: boolean }>,
  ) => void;
  postMessage(message: unknown): void;
};

scope.onmessage = async ({ data: { buffer, blocking } }) => {
  const end = new RingEnd(openRings(buffer), "acceptor");
  scope.postMessage("waiting");
  while (!end.isReady(INTEREST.bytes)) {
    if (blocking) end.waitSync(INTEREST.bytes);
    else await end.wait(INTEREST.bytes);
  }
  scope.postMessage({ available: end.available(), ended: end.hasEnded() });
};
scope.postMessage("ready");
