// Copyright 2026 the Duplex authors. MIT license.

/**
 * Opens the link of a plan: both ends in this program, or one of them in a
 * worker, with a function that injects faults.
 *
 * @module
 */

import { json, msgpack } from "@duplex/ipc/codec";
import type { DuplexOptions } from "@duplex/ipc/duplex";
import { duplexPair } from "@duplex/ipc/pair";
import { openPipe } from "@duplex/ipc/pipe";
import { openQueue } from "@duplex/ipc/queue";
import { openShm } from "@duplex/ipc/shm";
import {
  type ListenOptions,
  listenSocket,
  openSocket,
  type SocketOptions,
} from "@duplex/ipc/socket";
import { Proxy } from "../socket/_proxy.ts";
import { CA, CERT, KEY, openEnds } from "../socket/_sockets.ts";
import { duplexOptions } from "./options.ts";
import { sleep } from "./promises.ts";
import type { AnyDuplex } from "./side.ts";
import type { Fault, LinkName, PlanOptions } from "./plan.ts";

/** An open link. */
export interface OpenLink {
  readonly main: AnyDuplex;
  /** The other end, if it is in this program. */
  readonly peer?: AnyDuplex;
  /** Injects a fault. */
  fault(kind: Fault["do"]): Promise<void>;
  /** Releases everything except the duplexes. */
  dispose(): Promise<void>;
}

const SECRET = "a secret of these tests";

/** Milliseconds for which a process is stopped or a network is blocked. */
const STOP_MS = 30;

/** The options of every transport. */
function commonOptions(options: PlanOptions): DuplexOptions {
  return duplexOptions(options, { json, msgpack });
}

/** The link of a plan, and its worker. */
export interface LinkPlan {
  readonly link: LinkName;
  readonly options: PlanOptions;
  /** The worker's script, if the other end is a worker. */
  readonly script: URL;
  /** Where workers write their journals. */
  readonly folder: string;
}

/**
 * A worker script with its part of a plan in the query of its URL.
 *
 * @param name File name of the script in this folder.
 */
export function workerScript(name: string, part: unknown): URL {
  const url = new URL(name, import.meta.url);
  url.search = new URLSearchParams({ part: JSON.stringify(part) }).toString();
  return url;
}

const nothing = { fault: async () => {}, dispose: async () => {} };

function openPair({ options }: LinkPlan): OpenLink {
  const [main, peer] = duplexPair(commonOptions(options));
  return { main, peer, ...nothing };
}

async function openProcess(plan: LinkPlan): Promise<OpenLink> {
  const main = await openPipe(plan.script, {
    ...commonOptions(plan.options),
    permissions: { read: true, write: [plan.folder] },
    stderr: "null",
  });
  const signal = (name: Deno.Signal) => {
    try {
      Deno.kill(main.pid, name);
    } catch {
      // The process has ended.
    }
  };
  return {
    main,
    async fault(kind) {
      if (kind === "kill") return signal("SIGKILL");
      signal("SIGSTOP");
      await sleep(STOP_MS);
      signal("SIGCONT");
    },
    dispose: async () => {},
  };
}

/**
 * Records the Web Workers that are started until it is disposed of, so that one
 * can be terminated.
 */
export function watchWorkers(): { workers: Worker[] } & Disposable {
  const workers: Worker[] = [];
  const { Worker: Original } = globalThis;
  globalThis.Worker = class extends Original {
    constructor(url: string | URL, options?: WorkerOptions) {
      super(url, options);
      workers.push(this);
    }
  };
  return {
    workers,
    [Symbol.dispose]: () => void (globalThis.Worker = Original),
  };
}

async function openThreads(plan: LinkPlan): Promise<OpenLink> {
  const { options, link, script, folder } = plan;
  const permissions = { read: true as const, write: [folder] };
  const watch = watchWorkers();
  const common = { ...commonOptions(options), permissions };
  const { workers, ordered, capacity, retries, isRestarted, ringBytes } =
    options;
  try {
    const main = link === "shm"
      ? await openShm(script, {
        ...common,
        ...ringBytes !== undefined && { ringBytes },
      })
      : await openQueue(script, {
        ...common,
        ...workers !== undefined && { workers },
        ...ordered !== undefined && { ordered },
        ...capacity !== undefined && { capacity },
        ...retries !== undefined && { retries },
        ...isRestarted === false && { restart: false },
      });
    return {
      main,
      fault(): Promise<void> {
        watch.workers.at(-1)?.terminate();
        return Promise.resolve();
      },
      dispose(): Promise<void> {
        watch[Symbol.dispose]();
        return Promise.resolve();
      },
    };
  } catch (error) {
    watch[Symbol.dispose]();
    throw error;
  }
}

/** The options of both sides of a socket. */
function socketOptions(
  { link, options }: LinkPlan,
): { opener: SocketOptions; acceptor: ListenOptions } {
  const { secret, resume, checksum, compression } = options;
  const both = {
    ...commonOptions(options),
    ...secret && { secret: SECRET },
    ...checksum !== undefined && { checksum },
    ...compression !== undefined && { compression },
    heartbeat: 1_000,
  };
  const isTls = link === "tls";
  return {
    opener: {
      ...both,
      ...resume &&
        { resume: { minDelay: 1, maxDelay: 20, timeout: 2_000 } },
      ...isTls && { caCerts: [CA] },
    },
    acceptor: {
      ...both,
      resume: { timeout: 2_000 },
      ...isTls && { cert: CERT, key: KEY },
    },
  };
}

async function openDirectly(plan: LinkPlan): Promise<OpenLink> {
  const { opener, acceptor } = socketOptions(plan);
  const address = {
    tcp: "tcp://127.0.0.1:0",
    tls: "tls://127.0.0.1:0",
    unix: `unix:${plan.folder}/socket`,
  }[plan.link as "tcp" | "tls" | "unix"];
  const { main, worker, listener } = await openEnds(address, opener, acceptor);
  return {
    main,
    peer: worker,
    fault: async () => {},
    dispose: () => listener.close(),
  };
}

async function openThroughProxy(plan: LinkPlan): Promise<OpenLink> {
  const { opener, acceptor } = socketOptions(plan);
  const listener = listenSocket("tcp://127.0.0.1:0", acceptor);
  let blocked = Promise.resolve();
  const faults = { delay: () => blocked };
  const proxy = new Proxy(listener.address, () => ({
    up: faults,
    down: faults,
  }));
  const dispose = async () => {
    await listener.close();
    await proxy[Symbol.asyncDispose]();
  };
  try {
    const [main, peer] = await Promise.all([
      openSocket(proxy.address, opener),
      listener.accept(),
    ]);
    return {
      main,
      peer,
      async fault(kind) {
        if (kind === "cut") return proxy.passages.at(-1)?.cut();
        blocked = sleep(STOP_MS);
        await blocked;
      },
      dispose,
    };
  } catch (error) {
    await dispose();
    throw error;
  }
}

/** Opens the link of a plan. */
export async function openLink(plan: LinkPlan): Promise<OpenLink> {
  switch (plan.link) {
    case "pair":
      return openPair(plan);
    case "pipe":
      return await openProcess(plan);
    case "queue":
    case "shm":
      return await openThreads(plan);
    case "proxy":
      return await openThroughProxy(plan);
    default:
      return await openDirectly(plan);
  }
}
