// Copyright 2026 the Duplex authors. MIT license.

/**
 * One duplex for every way a Deno program talks to its workers. A program opens
 * a worker, gets a {@linkcode Duplex}, and sends and receives messages; the same
 * worker script runs over every transport.
 *
 * ```ts
 * import { openPipe } from "@duplex/ipc";
 * import { assertEquals } from "@std/assert";
 *
 * const script = new URL("./examples/hello/worker.ts", import.meta.url);
 * await using worker = await openPipe<string>(script);
 * await worker.send("Hello from main!");
 * assertEquals(await worker.receive(), "Hello from worker!");
 * ```
 *
 * The worker script, `examples/hello/worker.ts`, may do nothing but talk to its
 * parent:
 *
 * ```ts ignore
 * import { parent } from "@duplex/ipc/parent";
 *
 * await using main = await parent<string>();
 * console.log(await main.receive());
 * await main.send("Hello from worker!");
 * ```
 *
 * @module
 */

export * from "./codec.ts";
export * from "./duplex.ts";
export * from "./pair.ts";
export * from "./parent.ts";
export * from "./permissions.ts";
export * from "./pipe.ts";
export * from "./pool.ts";
export * from "./queue.ts";
export * from "./rpc.ts";
export * from "./shm.ts";
export * from "./socket.ts";
export * from "./sync.ts";
export * from "./task.ts";
