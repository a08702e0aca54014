// Copyright 2026 the Duplex authors. MIT license.

/**
 * The worker of `bench/streams.ts`. Its first message selects plain messages or calls.
 *
 * @module
 */

import { parent } from "../../parent.ts";
import { expose } from "../../rpc.ts";
import { CHUNK, STREAM_METHODS } from "./_stream_methods.ts";

const main = await parent();
if (await main.receive() === "calls") expose(STREAM_METHODS, main);
else {
  for await (const order of main) {
    const [way, count] = order as ["in" | "out", number];
    if (way === "in") {
      for (let sent = 0; sent < count; sent++) await main.send(CHUNK);
      continue;
    }
    let bytes = 0;
    for (let received = 0; received < count; received++) {
      bytes += (await main.receive() as Uint8Array).length;
    }
    await main.send(bytes);
  }
}
