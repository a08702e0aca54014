// Copyright 2026 the Duplex authors. MIT license.

/**
 * One duplex for every way a Deno program talks to its workers. A program opens
 * a worker, gets a {@linkcode Duplex}, and sends and receives messages; the same
 * worker script runs over every transport.
 *
 * ```ts ignore
 * import { openPipe } from "@duplex/ipc";
 *
 * await using worker = await openPipe<string>(new URL("./worker.ts", import.meta.url));
 * await worker.send("Hello from main!");
 * console.log(await worker.receive());
 * ```
 *
 * The worker script, which may do nothing but talk to its parent:
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
export * from "./parent.ts";
export * from "./permissions.ts";
export * from "./pipe.ts";
