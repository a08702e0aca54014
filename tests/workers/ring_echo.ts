// Copyright 2026 the Duplex authors. MIT license.

/**
 * Sends the bytes of the rings back, in a separate thread, blocking or not, as
 * the first message says.
 *
 * @module
 */

import { INTEREST, openRings, RingEnd, SpinPolicy } from "../../_shm/ring.ts";

/** The parameters of the thread. */
export interface EchoOrder {
  buffer: SharedArrayBuffer;
  blocking: boolean;
  /** Bytes per read. */
  chunk: number;
}

async function echo({ buffer, blocking, chunk }: EchoOrder): Promise<void> {
  const end = new RingEnd(openRings(buffer), "acceptor", new SpinPolicy());
  const bytes = new Uint8Array(chunk);
  for (;;) {
    const size = end.read(bytes, 0, chunk);
    for (let at = 0; at < size;) {
      const written = end.write(bytes, at, size);
      at += written;
      if (written > 0) continue;
      if (end.isClosed()) return;
      if (blocking) end.waitSync(INTEREST.room);
      else await end.wait(INTEREST.room);
    }
    if (size > 0) continue;
    if (end.hasEnded()) break;
    if (blocking) end.waitSync(INTEREST.bytes);
    else await end.wait(INTEREST.bytes);
  }
  end.close();
}

const scope = globalThis as unknown as {
  onmessage: (event: MessageEvent<EchoOrder>) => void;
  postMessage(message: unknown): void;
};

scope.onmessage = ({ data }) => {
  echo(data).catch((error) => scope.postMessage(String(error)));
};
scope.postMessage("ready");
