// Copyright 2026 the Duplex authors. MIT license.

/**
 * A peer on this machine or another one as the far end of a duplex, over TCP,
 * TLS or a Unix socket. Both sides may have to prove that they hold the same
 * secret, and a session can outlive its connection.
 *
 * ```ts
 * import { listenSocket, openSocket } from "@duplex/ipc/socket";
 * import { assertEquals } from "@std/assert";
 *
 * const secret = crypto.randomUUID();
 * await using listener = listenSocket<string>("tcp://127.0.0.1:0", { secret });
 * const main = await openSocket<string>(listener.address, { secret });
 * const worker = await listener.accept();
 * await main.send("Hello from main!");
 * assertEquals(await worker.receive(), "Hello from main!");
 * await Promise.all([main.close(), worker.close()]);
 * ```
 *
 * @module
 */

import { FrameWire } from "./_wire/frame_wire.ts";
import { openWithin } from "./_session/opening.ts";
import { ALL, checkRuntime } from "./_base/runtime.ts";
import { checkSignal } from "./_base/options.ts";
import { formatAddress, parseAddress } from "./_base/address.ts";
import { dial, Reconnector } from "./_socket/dial.ts";
import { inContext } from "./_socket/errors.ts";
import type { Established } from "./_socket/handshake.ts";
import { SocketLink } from "./_socket/link.ts";
import { type DuplexListener, SocketListener } from "./_socket/listener.ts";
import {
  listenerOptions,
  type ListenOptions,
  type OpenerOptions,
  openerOptions,
  type ResumeOptions,
  type SocketOptions,
} from "./_socket/options.ts";
import { type SocketDuplex, SocketSession } from "./_socket/session.ts";

export type {
  DuplexListener,
  ListenOptions,
  ResumeOptions,
  SocketDuplex,
  SocketOptions,
};
export {
  ClosedError,
  DeadlockError,
  PeerExitError,
  ProtocolError,
} from "./_base/errors.ts";
export type { Duplex, DuplexOptions } from "./duplex.ts";

/**
 * Connects to a listener and opens a duplex to it.
 *
 * Requires Deno 2.9.0 or later, and `--allow-net` for the host and the port of `tcp:` and `tls:`
 * addresses; for `unix:/path` it requires `--allow-net=unix:/path`,
 * `--allow-read=/path` and `--allow-write=/path`, the path from the root.
 *
 * Deno keeps the file of a TLS connection open until its handshake has ended, also
 * when the attempt has timed out. So at most 32 handshakes with an address are
 * made at a time without a check. More of them, and those after a timeout, first
 * check over a TCP connection of their own that the server answers. If the server
 * answers eight checks in a row and does not finish the handshakes, there is one
 * handshake a minute; other attempts fail at once with an error that says so.
 *
 * @typeParam In The type of the messages received.
 * @typeParam Out The type of the messages sent.
 *
 * @param address Where to: `tcp://host:port`, `tls://host:port`, `unix:/path`.
 * @param options What it must prove, and limits.
 * @returns The duplex, when both sides have said hello.
 * @throws {Deno.errors.NotCapable} If the caller may not connect there.
 * @throws {Deno.errors.ConnectionRefused} If nobody listens there, or the listener
 *   is closing, has as many peers as it takes, or too many that wait.
 * @throws {Deno.errors.ConnectionReset} If the far side ended the connection
 *   before it had proven itself.
 * @throws {Deno.errors.PermissionDenied} If the two sides do not hold the same
 *   secret, or the system does not let this user use the Unix socket.
 * @throws {Deno.errors.NotFound} If there is no such Unix socket.
 * @throws {Deno.errors.InvalidData} If the peer's certificate is not trusted, the
 *   peer does not speak TLS, or `caCerts` does not hold certificates in PEM.
 * @throws {PeerExitError} If the far side ended before its hello.
 * @throws {ProtocolError} If what listens there speaks something else, or another
 *   version, or does not resume sessions.
 * @throws {DOMException} If it was not done in time, or the server did not finish
 *   eight TLS handshakes in a row less than a minute ago ("TimeoutError").
 * @throws {Error} If the host's name stands for no address.
 * @throws {RangeError} If an option is out of range, or the path of a Unix socket
 *   is longer than the system allows (107 bytes on Linux, 103 on macOS).
 * @throws {TypeError} If the address or an option is of the wrong kind.
 *
 * @example A session that outlives its connection
 * ```ts
 * import { listenSocket, openSocket } from "@duplex/ipc/socket";
 * import { assertEquals } from "@std/assert";
 *
 * await using listener = listenSocket<number>("tcp://127.0.0.1:0");
 * const main = await openSocket<number>(listener.address, {
 *   resume: { timeout: 60_000 },
 * });
 * const worker = await listener.accept();
 * await main.send(1);
 * assertEquals(await worker.receive(), 1);
 * await Promise.all([main.close(), worker.close()]);
 * ```
 */
export async function openSocket<In = unknown, Out = In>(
  address: string | URL,
  options: SocketOptions = {},
): Promise<SocketDuplex<In, Out>> {
  const action = "Cannot open a socket";
  checkRuntime(action, ALL);
  const parsed = parseAddress(action, address);
  const chosen = openerOptions(action, parsed, options);
  const { signal } = options;
  checkSignal(action, signal);
  signal?.throwIfAborted();
  const opening = new SocketOpening<In, Out>(formatAddress(parsed), chosen);
  const { timeout } = chosen.target;
  await openWithin(opening, { timeout, signal }, () => ({
    attempt: opening.attempt,
    ...(opening.duplex === undefined ? { awaited: "answer" } : {}),
  }));
  return opening.duplex!;
}

/** A duplex on its way from the connection to the hello. */
class SocketOpening<In, Out> {
  readonly #address: string;
  readonly #options: OpenerOptions;
  readonly #dialing = new AbortController();
  duplex: SocketSession<In, Out> | undefined;

  constructor(address: string, options: OpenerOptions) {
    this.#address = address;
    this.#options = options;
  }

  /** What is attempted, for errors. */
  get attempt(): string {
    return `Cannot open a socket to "${this.#address}"`;
  }

  async open(): Promise<void> {
    const { target, limits, backoff, replaySize } = this.#options;
    const { connection, terms } = await this.#dial();
    const reconnector = terms.session === undefined
      ? undefined
      : new Reconnector(target, backoff, replaySize);
    const link = new SocketLink(this.#address, reconnector);
    reconnector?.watch(link, terms.session!);
    const wire = new FrameWire(link, {
      onPing: (fields) => link.onPing(fields),
    });
    const duplex = new SocketSession<In, Out>(wire, limits, this.#address);
    this.duplex = duplex;
    link.attach(connection, terms.heartbeat);
    try {
      await duplex.open();
    } catch (error) {
      await duplex.closed.catch(() => {});
      throw error;
    }
  }

  fail(error: unknown): void {
    this.#dialing.abort(error);
    this.duplex?.fail(error);
  }

  async #dial(): Promise<Established> {
    const { signal } = this.#dialing;
    try {
      return await dial(this.#options.target, signal);
    } catch (error) {
      if (error === signal.reason) throw error;
      throw inContext(this.attempt, error);
    }
  }
}

/**
 * Listens at an address for peers that open a duplex with
 * {@linkcode openSocket}, or speak the wire that PROTOCOL.md describes.
 *
 * Without a `secret` it listens on loopback addresses and Unix sockets only,
 * unless `allowUnauthenticated` says otherwise. A Unix socket can be used by its
 * owner only (mode 0600); in the moment between its making and that, the umask
 * decides, so keep it in a folder of yours. Its file goes when the listener is closed or the
 * process ends; one that a dead process has left behind is replaced, one that a
 * living process listens on is not.
 *
 * What a stranger can do is bounded before it has proven itself: some 2 KiB are
 * read from it, within `timeout`, from `maxPending` connections at most. Over TLS
 * the handshake is read as well, and one record of up to 16 KiB.
 *
 * Requires Deno 2.9.0 or later, and `--allow-net` for the host and the port of `tcp:` and `tls:`
 * addresses; for `unix:/path` it requires `--allow-net=unix:/path`,
 * `--allow-read=/path` and `--allow-write=/path`, the path from the root.
 *
 * @typeParam In The type of the messages received.
 * @typeParam Out The type of the messages sent.
 *
 * @param address Where: `tcp://host:port`, `tls://host:port`, `unix:/path`; the
 *   system chooses the port where it is 0.
 * @param options Who may speak, and limits.
 * @returns The listener.
 * @throws {Deno.errors.NotCapable} If the caller may not listen there.
 * @throws {Deno.errors.AddrInUse} If somebody listens there already; where a Unix
 *   socket is in the way, `ready`, `accept` and the iteration reject with it.
 * @throws {Deno.errors.AddrNotAvailable} If the host is none of this machine's.
 * @throws {Deno.errors.PermissionDenied} If the system does not allow the port or
 *   the path.
 * @throws {Deno.errors.NotFound} If the folder of a Unix socket is not there.
 * @throws {Deno.errors.InvalidData} If `cert` or `key` cannot be read as PEM, `key`
 *   is not the key of `cert`, or it is of a kind that TLS does not use.
 * @throws {RangeError} If an option is out of range, or the path of a Unix socket
 *   is too long.
 * @throws {TypeError} If the address or an option is of the wrong kind, or
 *   everybody could connect and `allowUnauthenticated` is not set.
 *
 * @example Usage
 * ```ts
 * import { listenSocket, openSocket, type SocketDuplex } from "@duplex/ipc/socket";
 * import { assertEquals } from "@std/assert";
 *
 * async function serve(peer: SocketDuplex<string>) {
 *   for await (const message of peer) await peer.send(message.toUpperCase());
 *   await peer.close();
 * }
 *
 * const listener = listenSocket<string>("tcp://127.0.0.1:0");
 * const serving = (async () => {
 *   // Nobody waits for the peer before, nor fails with it.
 *   for await (const peer of listener) serve(peer).catch(console.error);
 * })();
 *
 * const main = await openSocket<string>(listener.address);
 * await main.send("hello");
 * assertEquals(await main.receive(), "HELLO");
 * await main.close();
 * await listener.close();
 * await serving;
 * ```
 */
export function listenSocket<In = unknown, Out = In>(
  address: string | URL,
  options: ListenOptions = {},
): DuplexListener<In, Out> {
  const action = "Cannot listen";
  checkRuntime(action, ALL);
  const parsed = parseAddress(action, address);
  const chosen = listenerOptions(action, parsed, options);
  return new SocketListener<In, Out>(parsed, chosen);
}
