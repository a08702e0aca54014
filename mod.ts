// Copyright 2026 the Duplex authors. MIT license.

/**
 * One duplex over four ways in which a Deno program talks to its workers. A program
 * opens a worker, gets a {@linkcode Duplex}, and sends and receives messages; the
 * same worker script runs over every transport.
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
 * The worker script, `examples/hello/worker.ts`, has no permission, and talks to its
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
 * This module has the functions, the classes and the types that most programs name.
 * Each module of its own, such as `@duplex/ipc/pool`, has the rest of its types.
 *
 * @module
 */

export { type Codec, json, msgpack } from "./codec.ts";
export {
  ClosedError,
  DeadlockError,
  type Duplex,
  type DuplexOptions,
  PeerExitError,
  ProtocolError,
} from "./duplex.ts";
export { duplexPair } from "./pair.ts";
export { type Delivery, parent, type ParentDuplex } from "./parent.ts";
export { grant, type Permissions } from "./permissions.ts";
export { openPipe, type PipeDuplex, type PipeOptions } from "./pipe.ts";
export {
  type MapOptions,
  type MapOutcome,
  Pool,
  type PoolOptions,
  type PoolStats,
  type RunOptions,
  type TaskOptions,
} from "./pool.ts";
export { openQueue, type QueueOptions, type ThreadOptions } from "./queue.ts";
export {
  expose,
  type ExposeOptions,
  listMethods,
  type Notifier,
  notifier,
  type Remote,
  remote,
  RemoteError,
  type RemoteOptions,
  remoteSync,
  type RemoteSyncOptions,
  withSignal,
} from "./rpc.ts";
export { openShm, type ShmDuplex, type ShmOptions } from "./shm.ts";
export {
  type DuplexListener,
  type ListenOptions,
  listenSocket,
  openSocket,
  type ResumeOptions,
  type SocketDuplex,
  type SocketOptions,
} from "./socket.ts";
export {
  AtomicCounter,
  Barrier,
  BrokenBarrierError,
  Condition,
  Mutex,
  OwnerDiedError,
  ResetEvent,
  Semaphore,
  SharedLock,
} from "./sync.ts";
export { task, type WorkerTask, type WorkerTaskOptions } from "./task.ts";
