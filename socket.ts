// Copyright 2026 the Duplex authors. MIT license.

/**
 * Duplexes to peers on this machine or another one, over TCP, TLS or a Unix socket.
 * Both sides can be required to prove that they hold the same secret, and a session
 * can outlive its connection.
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

import { openWithin } from "./_session/opening.ts";
import { checkRuntime, MIN_DENO } from "./_base/runtime.ts";
import { checkSignal } from "./_base/options.ts";
import { parseAddress } from "./_base/address.ts";
import {
  type DuplexListener,
  type ListenerStats,
  SocketListener,
} from "./_socket/listener.ts";
import { SocketOpener } from "./_socket/opener.ts";
import {
  listenerOptions,
  type ListenOptions,
  openerOptions,
  type ResumeOptions,
  type SocketOptions,
} from "./_socket/options.ts";
import type { SocketDuplex } from "./_socket/session.ts";

export type {
  DuplexListener,
  ListenerStats,
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
 * Requires Deno 2.9.0 or later, and `--allow-net` for the host and the port of `tcp:`
 * and `tls:` addresses. For `unix:/path` it requires `--allow-net=unix:/path`,
 * `--allow-read=/path` and `--allow-write=/path`, with an absolute path.
 *
 * Deno keeps the file of a TLS connection open until its handshake has ended, even
 * after a timeout. So at most 32 handshakes with an address are in progress at a
 * time without a check. Further ones, and those after a timeout, first check over a
 * TCP connection of their own that the server answers. If the server answers eight
 * checks in a row and does not finish the handshakes, one handshake a minute is
 * attempted; other attempts fail at once with an error that states this.
 *
 * @typeParam In The type of the messages received.
 * @typeParam Out The type of the messages sent.
 *
 * @param address The address: `tcp://host:port`, `tls://host:port` or `unix:/path`.
 * @param options The secret, resumption, and limits.
 * @returns The duplex, once both sides have sent their hello.
 * @throws {Deno.errors.NotCapable} If the caller does not have the permission.
 * @throws {Deno.errors.ConnectionRefused} If no process listens there, or the
 *   listener is closing, has `maxPeers` peers, or too many unproven connections.
 * @throws {Deno.errors.ConnectionReset} If the peer ended the connection before it
 *   had proven itself.
 * @throws {Deno.errors.PermissionDenied} If the two sides do not hold the same
 *   secret, or the system denies access to the Unix socket.
 * @throws {Deno.errors.NotFound} If the Unix socket does not exist.
 * @throws {Deno.errors.InvalidData} If the peer's certificate is not trusted, the
 *   peer does not speak TLS, or `caCerts` does not hold certificates in PEM.
 * @throws {PeerExitError} If the peer ended before its hello.
 * @throws {ProtocolError} If the peer speaks another protocol or version, or does
 *   not resume sessions although `resume` is set.
 * @throws {DOMException} If the timeout has passed, or the server did not finish
 *   eight TLS handshakes in a row less than a minute ago ("TimeoutError").
 * @throws The reason of `signal`, if it aborts.
 * @throws {Error} If the name of the host has no address.
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
  checkRuntime(action, MIN_DENO);
  const parsed = parseAddress(action, address);
  const chosen = openerOptions(action, parsed, options);
  const { signal } = options;
  checkSignal(action, signal);
  signal?.throwIfAborted();
  const opener = new SocketOpener<In, Out>(chosen);
  const { timeout } = chosen.target;
  await openWithin(opener, { timeout, signal }, () => ({
    attempt: opener.attempt,
    ...(opener.duplex === undefined ? { awaited: "answer" } : {}),
  }));
  return opener.duplex!;
}

/**
 * Listens at an address for peers that open a duplex with {@linkcode openSocket} or
 * speak the protocol of PROTOCOL.md.
 *
 * Without a `secret` it listens on loopback addresses and Unix sockets only, unless
 * `allowUnauthenticated` is set. Only the owner of a Unix socket can connect to it
 * (mode 0600). For a moment after it is made, the umask applies instead, so keep it
 * in a folder that only you can access. Its file is removed when the listener is
 * closed or the process ends. The file of a process that has died is replaced, that
 * of a living process is not.
 *
 * Until a peer has proven itself, about 2 KiB are read from it, within
 * `openTimeout`, and from at most `maxPending` such connections. Over TLS the
 * handshake is read as well, and one record of up to 16 KiB.
 *
 * Requires Deno 2.9.0 or later, and `--allow-net` for the host and the port of `tcp:`
 * and `tls:` addresses. For `unix:/path` it requires `--allow-net=unix:/path`,
 * `--allow-read=/path` and `--allow-write=/path`, with an absolute path.
 *
 * @typeParam In The type of the messages received.
 * @typeParam Out The type of the messages sent.
 *
 * @param address The address: `tcp://host:port`, `tls://host:port` or `unix:/path`.
 *   The system chooses the port if it is 0.
 * @param options The secret, resumption, and limits.
 * @returns The listener.
 * @throws {Deno.errors.NotCapable} If the caller does not have the permission.
 * @throws {Deno.errors.AddrInUse} If another listener uses the address. If it is a
 *   Unix socket, `ready`, `accept` and the iteration reject with it instead.
 * @throws {Deno.errors.AddrNotAvailable} If the host is not an address of this
 *   machine.
 * @throws {Deno.errors.PermissionDenied} If the system does not allow the port or
 *   the path.
 * @throws {Deno.errors.NotFound} If the folder of a Unix socket does not exist.
 * @throws {Deno.errors.InvalidData} If `cert` or `key` cannot be read as PEM, `key`
 *   is not the key of `cert`, or it is of a kind that TLS does not support.
 * @throws {RangeError} If an option is out of range, or the path of a Unix socket
 *   is too long.
 * @throws {TypeError} If the address or an option is of the wrong kind, or other
 *   machines could connect without a secret and `allowUnauthenticated` is not set.
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
 *   // The listener does not wait for a peer, nor fails with it.
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
  checkRuntime(action, MIN_DENO);
  const parsed = parseAddress(action, address);
  const chosen = listenerOptions(action, parsed, options);
  return new SocketListener<In, Out>(parsed, chosen);
}
