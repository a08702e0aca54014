// Copyright 2026 the Duplex authors. MIT license.

/**
 * A contender of `bench/streams.ts`:
 * `streams_main.ts SCENARIO COUNT WARM TRANSPORT FORM`.
 *
 * @module
 */

import type { Duplex } from "../../duplex.ts";
import { openPipe } from "../../pipe.ts";
import { remote } from "../../rpc.ts";
import { openShm } from "../../shm.ts";
import {
  CHUNK,
  chunks,
  type StreamMethods,
  weighAll,
} from "./_stream_methods.ts";

const SCRIPT = new URL("./streams_worker.ts", import.meta.url);

/** Sends or receives so many chunks; returns their bytes. */
type Run = (worker: Duplex, count: number) => Promise<number>;

const RUNS: Record<string, Run> = {
  async "chunks-out, plain messages"(worker, count) {
    await worker.send(["out", count]);
    for (let sent = 0; sent < count; sent++) await worker.send(CHUNK);
    return await worker.receive() as number;
  },
  async "chunks-in, plain messages"(worker, count) {
    await worker.send(["in", count]);
    let bytes = 0;
    for (let received = 0; received < count; received++) {
      bytes += (await worker.receive() as Uint8Array).length;
    }
    return bytes;
  },
  "chunks-out, a ReadableStream": (worker, count) =>
    remote<StreamMethods>(worker).read(chunks(count)),
  async "chunks-out, a WritableStream"(worker, count) {
    const { sink, bytes } = await remote<StreamMethods>(worker).open();
    await chunks(count).pipeTo(sink);
    return await bytes();
  },
  "chunks-in, a generator": (worker, count) =>
    weighAll(remote<StreamMethods>(worker).generate(count)),
  async "chunks-in, a ReadableStream"(worker, count) {
    const { body } = await remote<StreamMethods>(worker).give(count);
    return await weighAll(body);
  },
};

const [scenario, count, warm, transport, form] = Deno.args;
const isPlain = form === "plain messages";
const worker = transport === "pipe"
  ? await openPipe(SCRIPT)
  : await openShm(SCRIPT);
await worker.send(isPlain ? "messages" : "calls");
const run = RUNS[`${scenario}, ${form}`]!;
await run(worker, Number(warm));
const begun = performance.now();
const bytes = await run(worker, Number(count));
const ms = performance.now() - begun;
if (bytes !== Number(count) * CHUNK.length) {
  throw new Error(`${bytes} bytes of ${count} chunks were received`);
}
console.log(JSON.stringify([bytes / 1e3 / ms]));
await worker.close();
