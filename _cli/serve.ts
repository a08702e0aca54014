// Copyright 2026 the Duplex authors. MIT license.

/**
 * The command `serve`: listens at addresses and gives each peer a worker of its
 * own.
 *
 * @module
 */

import {
  type Command,
  EndSignals,
  messageOf,
  printError,
  printLine,
  UsageError,
} from "./arguments.ts";
import { bridge, reasonOf } from "./bridge.ts";
import {
  readServeOptions,
  SERVE_USAGE,
  type ServeOptions,
} from "./serve_options.ts";
import { openWorker, whyNotGranted } from "./worker.ts";
import { withoutStack } from "../_socket/errors.ts";
import { settlesWithin } from "../_base/waiting.ts";
import type { Duplex } from "../duplex.ts";
import {
  type DuplexListener,
  listenSocket,
  type SocketDuplex,
} from "../socket.ts";

/** The command `serve`. */
export const serve: Command = {
  summary: "Listens and gives each peer a worker of its own",
  async run(args) {
    const options = await readServeOptions(args);
    if (options === "help") {
      printLine(SERVE_USAGE);
      return 0;
    }
    const why = await whyNotGranted(options.worker);
    if (why !== undefined) {
      printError(`warning: no worker will start: ${why}`);
    }
    using signals = new EndSignals();
    const server = new Server(options);
    try {
      await server.listen();
    } catch (error) {
      // An address that is none is an argument that is wrong.
      if (error instanceof TypeError || error instanceof RangeError) {
        throw new UsageError(messageOf(error), { cause: error });
      }
      printError(`error: ${messageOf(error)}`);
      return 1;
    }
    for (const address of server.addresses) {
      printLine(`listening on ${address}`);
    }
    await signals.first;
    await server.close();
    return 0;
  },
};

/** Listens, and has a worker for each peer. */
class Server {
  readonly #options: ServeOptions;
  readonly #listeners: DuplexListener[] = [];
  /** Peers whose duplex has not ended. */
  readonly #peers = new Set<SocketDuplex>();
  /** What is done for peers, until their workers have ended. */
  readonly #services = new Set<Promise<void>>();
  #count = 0;
  #workers = 0;
  /** Settles when a worker has ended. */
  #freed = Promise.withResolvers<void>();

  constructor(options: ServeOptions) {
    this.#options = options;
  }

  /** The addresses, with the ports that the system chose. */
  get addresses(): string[] {
    return this.#listeners.map(({ address }) => address);
  }

  /** Listens at all addresses, or at none. */
  async listen(): Promise<void> {
    const { addresses, listenOptions } = this.#options;
    try {
      for (const { address, tls } of addresses) {
        const listener = listenSocket(address, {
          ...listenOptions,
          ...tls,
          onError: (error, remote) =>
            this.#log(`refused ${remote}: ${messageOf(error)}`),
        });
        this.#listeners.push(listener);
      }
      await Promise.all(this.#listeners.map(({ ready }) => ready));
    } catch (error) {
      await this.#closeListeners();
      throw error;
    }
    for (const listener of this.#listeners) this.#acceptAll(listener);
  }

  /**
   * Takes no more peers, lets those that are there finish, and then ends them
   * with their workers.
   */
  async close(): Promise<void> {
    const { grace } = this.#options;
    this.#log(`ending; peers: ${this.#peers.size}`);
    await this.#closeListeners();
    if (!await settlesWithin(this.#served(), grace)) {
      const text = "The server is shutting down";
      const reason = withoutStack(new DOMException(text, "AbortError"));
      for (const peer of this.#peers) peer.abort(reason);
      await this.#served();
    }
    this.#log("ended");
  }

  #closeListeners(): Promise<unknown> {
    return Promise.all(this.#listeners.map((listener) => listener.close()));
  }

  async #served(): Promise<void> {
    while (this.#services.size > 0) await Promise.all(this.#services);
  }

  async #acceptAll(listener: DuplexListener): Promise<void> {
    try {
      for await (const peer of listener) this.#admit(peer);
    } catch (error) {
      this.#log(`cannot take peers any more: ${messageOf(error)}`);
    }
  }

  /** Has a peer served; never rejects. */
  #admit(peer: SocketDuplex): void {
    const name = `peer ${++this.#count} (${peer.remoteAddress})`;
    const { maxWorkers } = this.#options;
    if (this.#peers.size >= maxWorkers) {
      // Each listener has its own bound, and this is that of all together.
      const reason = new Error(
        `Cannot have a worker: all ${maxWorkers} are in use; try again later`,
      );
      this.#log(`${name} refused: ${reason.message}`);
      peer.abort(withoutStack(reason));
      return;
    }
    this.#peers.add(peer);
    const onEnd = () => this.#peers.delete(peer);
    peer.closed.then(onEnd, onEnd);
    this.#log(`${name} came; peers: ${this.#peers.size} of ${maxWorkers}`);
    const service = this.#serve(peer, name).then((why) => {
      this.#services.delete(service);
      this.#log(`${name} left${why}; peers: ${this.#peers.size}`);
    });
    this.#services.add(service);
  }

  /** Serves a peer to its end; returns why it left, if it did not say goodbye. */
  async #serve(peer: SocketDuplex, name: string): Promise<string> {
    // The worker of a peer that has just left may still be ending.
    while (this.#workers >= this.#options.maxWorkers) {
      await this.#freed.promise;
    }
    if (!this.#peers.has(peer)) return " before its worker started";
    this.#workers++;
    try {
      let worker: Duplex;
      try {
        // What a worker prints may be what its peer has said.
        const onLine = (line: string) =>
          printError(`${name}: ${messageOf(line)}`);
        worker = await openWorker(this.#options.worker, onLine);
      } catch (error) {
        const reason = reasonOf("worker", error);
        peer.abort(reason instanceof Error ? withoutStack(reason) : reason);
        await peer.closed.catch(() => {});
        return `: its worker did not start: ${messageOf(error)}`;
      }
      const collapse = await bridge(peer, worker);
      if (collapse === undefined) return "";
      return `: ${collapse.side}: ${messageOf(collapse.error)}`;
    } finally {
      this.#workers--;
      this.#freed.resolve();
      this.#freed = Promise.withResolvers();
    }
  }

  #log(line: string): void {
    if (!this.#options.quiet) printError(line);
  }
}
