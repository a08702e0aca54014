// Copyright 2026 the Duplex authors. MIT license.

/**
 * The acceptor's side: takes connections, has each peer prove itself within its
 * bounds, and hands out a duplex for each that has said hello, or gives a
 * session that has lost its connection the new one.
 *
 * @module
 */

import { ClosedError, withoutStack } from "../_base/errors.ts";
import { FrameWire } from "../_wire/frame_wire.ts";
import {
  formatAddress,
  isLoopback,
  peerAddress,
  type SocketAddress,
} from "../_base/address.ts";
import { Attempt, Retention } from "./admission.ts";
import { type Connection, SystemConnection } from "./connection.ts";
import { inContext, RefusedError, unauthenticated } from "./errors.ts";
import { acceptHandshake, sendRefusal, type Terms } from "./handshake.ts";
import { SocketLink } from "./link.ts";
import { withRecords } from "./records.ts";
import { SocketSession } from "./session.ts";
import { listenUnix, removeAtExit, takeOverUnix } from "./unix.ts";
import {
  Deque,
  MAX_TIMER,
  settlesWithin,
  WaitQueue,
} from "../_base/waiting.ts";
import type { ListenerOptions } from "./options.ts";
import type { SocketDuplex } from "./session.ts";

/**
 * Takes peers at an address. Iterating over it gives each peer's duplex, and
 * ends when the listener is closed.
 *
 * @typeParam In The type of the messages received.
 * @typeParam Out The type of the messages sent.
 */
export interface DuplexListener<In = unknown, Out = In>
  extends AsyncIterable<SocketDuplex<In, Out>>, AsyncDisposable {
  /** The address, with the port that the system chose where it was 0. */
  readonly address: string;
  /**
   * Fulfilled once peers can connect: at once, but where a Unix socket takes the
   * place of one that a dead process has left. Rejected if that fails, as is
   * {@linkcode DuplexListener.accept}.
   */
  readonly ready: Promise<void>;
  /** How many peers there are. */
  readonly stats: {
    /** Peers that have proven themselves and whose duplex has not ended. */
    readonly peers: number;
    /** Those of them that have lost their connection and may come back. */
    readonly detached: number;
    /** Connections that have not proven themselves yet. */
    readonly pending: number;
    /** Connections that were let go before their hello. */
    readonly refused: number;
  };
  /**
   * Waits for the next peer.
   *
   * @param options A signal that stops waiting.
   * @returns Its duplex, when both sides have said hello.
   * @throws {ClosedError} If the listener is closed.
   * @throws {Deno.errors.AddrInUse} If a living process listens on the Unix socket.
   * @throws The signal's reason, if it has aborted.
   */
  accept(options?: { signal?: AbortSignal }): Promise<SocketDuplex<In, Out>>;
  /**
   * Takes no more peers, and waits for none. Those that were accepted go on, but a
   * session that has no connection, or loses it now, has failed. Those that nobody
   * has accepted yet are aborted.
   */
  close(): Promise<void>;
}

/** Milliseconds after a failed accept, when the system may be short of files. */
const ACCEPT_PAUSE = 100;

/**
 * Milliseconds that a connection has in any case before another takes its place:
 * what a proof takes to the other side of the world. A burst of honest peers waits
 * meanwhile in the system's own queue.
 */
const MIN_PENDING_TIME = 250;

/** A connection whose peer has not proven itself yet. */
interface Pending {
  /** When it came, in milliseconds of `performance.now`. */
  readonly since: number;
  /** Closes it. */
  fail(error: Error): void;
  /** Settles when it is closed, or has become a peer. */
  readonly ended: Promise<void>;
}

/** A connection whose peer has proven itself. */
interface Greeted {
  readonly connection: Connection;
  readonly terms: Terms & { readonly resumed: boolean };
  readonly attempt: Attempt;
}

/** A session that may lose its connection and come back. */
interface Resumable {
  readonly link: SocketLink;
  readonly retention: Retention;
  /** The latest connection that has come for it. */
  attempt?: Attempt;
}

/** A listener on TCP, TLS or a Unix socket. */
export class SocketListener<In, Out> implements DuplexListener<In, Out> {
  readonly #options: ListenerOptions;
  readonly #kind: SocketAddress["kind"];
  #address: string;
  #listener: Deno.Listener | undefined;
  readonly ready: Promise<void>;
  /** In the order in which they came. */
  readonly #pending = new Set<Pending>();
  /** Those that have proven themselves and not said hello. */
  readonly #opening = new Set<Pending>();
  /** Settles when a pending one has gone. */
  #vacancy: PromiseWithResolvers<void> | undefined;
  readonly #sessions = new Map<string, Resumable>();
  #peers = 0;
  #refused = 0;
  /** Peers that nobody has taken yet, or else takers that wait. */
  readonly #opened = new Deque<SocketDuplex<In, Out>>();
  readonly #takers = new WaitQueue<void, SocketDuplex<In, Out>>();
  #closed: { readonly error: unknown } | undefined;
  /** Ends with the listener. Never rejects. */
  #accepting: Promise<void> | undefined;
  /** The file of a Unix socket need not be removed at the end any more. */
  #onFileGone: (() => void) | undefined;

  constructor(address: SocketAddress, options: ListenerOptions) {
    this.#options = options;
    this.#kind = address.kind;
    this.#address = formatAddress(address);
    this.ready = this.#listen(address);
    this.ready.catch((error) => this.#end(error));
  }

  get address(): string {
    return this.#address;
  }

  get stats(): DuplexListener["stats"] {
    let detached = 0;
    for (const { link } of this.#sessions.values()) {
      if (link.isDetached) detached++;
    }
    return {
      peers: this.#peers,
      pending: this.#pending.size,
      detached,
      refused: this.#refused,
    };
  }

  async accept(
    options?: { signal?: AbortSignal },
  ): Promise<SocketDuplex<In, Out>> {
    if (this.#opened.length > 0) return this.#opened.shift();
    if (this.#closed !== undefined) throw this.#closed.error;
    return await this.#takers.wait(undefined, options?.signal);
  }

  async *[Symbol.asyncIterator](): AsyncIterableIterator<
    SocketDuplex<In, Out>
  > {
    for (;;) {
      try {
        yield await this.accept();
      } catch (error) {
        // The end of a listener that was closed is no fault.
        if (error === this.#closed?.error && error instanceof ClosedError) {
          return;
        }
        throw error;
      }
    }
  }

  async close(): Promise<void> {
    this.#end(new ClosedError(`The listener on "${this.#address}" is closed`));
    // A socket may just be taking the place of a dead one. Its address is free
    // once no accept is under way.
    await this.ready.catch(() => {});
    await this.#accepting;
    this.#onFileGone?.();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Binds to the address: at once, but where a dead process is in the way. */
  #listen(address: SocketAddress): Promise<void> {
    const attempt = `Cannot listen on "${this.#address}"`;
    try {
      this.#begin(address, this.#bind(address));
    } catch (error) {
      const isInUse = error instanceof Deno.errors.AddrInUse;
      if (address.kind !== "unix" || !isInUse) {
        throw inContext(attempt, error);
      }
      return takeOverUnix(address.path).then(
        (listener) => this.#begin(address, listener),
        (error) => {
          throw inContext(attempt, error);
        },
      );
    }
    return Promise.resolve();
  }

  #bind(address: SocketAddress): Deno.Listener {
    if (address.kind === "unix") return listenUnix(address.path);
    const { hostname, port } = address;
    return Deno.listen({ hostname, port });
  }

  #begin(address: SocketAddress, listener: Deno.Listener): void {
    if (this.#closed !== undefined) return listener.close();
    this.#listener = listener;
    if (address.kind === "unix") {
      this.#onFileGone = removeAtExit(address.path);
    } else {
      const { hostname, port } = listener.addr as Deno.NetAddr;
      this.#address = formatAddress({ ...address, port });
      this.#checkBound(hostname);
    }
    this.#accepting = this.#acceptAll(listener);
  }

  /** A name may stand for an address that others can reach. */
  #checkBound(hostname: string): void {
    const { offer, allowUnauthenticated } = this.#options;
    if (
      offer.secret !== undefined || allowUnauthenticated ||
      isLoopback(hostname)
    ) return;
    this.#listener!.close();
    throw unauthenticated();
  }

  async #acceptAll(listener: Deno.Listener): Promise<void> {
    let isFailing = false;
    while (this.#closed === undefined) {
      try {
        await this.#awaitVacancy();
        this.#admit(await listener.accept());
        isFailing = false;
      } catch (error) {
        if (this.#closed !== undefined) return;
        // Reported once until a connection is accepted. It is tried ten times a
        // second.
        if (!isFailing) this.#reportAccept(error);
        isFailing = true;
        await this.#awaitResources(error);
      }
    }
  }

  #reportAccept(error: unknown): void {
    const attempt = `Cannot accept a connection on "${this.#address}"`;
    this.#report(inContext(attempt, error), this.#address);
  }

  /**
   * Waits until another connection can be accepted, after an accept has failed. If
   * there is no file left, the oldest connection that has not authenticated is
   * closed, so that idle connections cannot lock others out.
   */
  async #awaitResources(error: unknown): Promise<void> {
    const [oldest] = this.#pending;
    const isEvictable = isShortage(error) && oldest !== undefined &&
      performance.now() - oldest.since >= MIN_PENDING_TIME;
    if (!isEvictable) {
      return await new Promise((resolve) => setTimeout(resolve, ACCEPT_PAUSE));
    }
    const text =
      "the system has no file left, and this connection waited the longest to prove itself";
    this.#evict(oldest, text);
    await settlesWithin(oldest.ended, ACCEPT_PAUSE);
  }

  /**
   * Waits until one more connection may be pending. The one that has kept us
   * waiting the longest goes, so that silent ones cannot keep the others out.
   */
  async #awaitVacancy(): Promise<void> {
    const { maxPending } = this.#options;
    while (this.#pending.size >= maxPending) {
      const [oldest] = this.#pending;
      const age = performance.now() - oldest!.since;
      if (age >= MIN_PENDING_TIME) {
        const text =
          `more than ${maxPending} connections wait to prove themselves, and this one waited the longest`;
        return this.#evict(oldest!, text);
      }
      this.#vacancy = Promise.withResolvers();
      await settlesWithin(this.#vacancy.promise, MIN_PENDING_TIME - age);
    }
  }

  /** Closes a connection that has not proven itself. */
  #evict(pending: Pending, text: string): void {
    this.#leave(pending);
    pending.fail(new RefusedError("full", text));
  }

  /** Tells of trouble. What its hearer throws must not end the listener. */
  #report(error: unknown, remote: string): void {
    try {
      this.#options.onError(error, remote);
    } catch {
      // There is nobody else to tell.
    }
  }

  #leave(pending: Pending): void {
    this.#pending.delete(pending);
    this.#vacancy?.resolve();
  }

  /** Takes a connection to its hello, or lets it go. */
  async #admit(conn: Deno.Conn): Promise<void> {
    const { timeout } = this.#options;
    const remote = this.#kind === "unix"
      ? this.#address
      : peerAddress(this.#kind, conn.remoteAddr as Deno.NetAddr);
    const failed = Promise.withResolvers<never>();
    failed.promise.catch(() => {});
    const ended = Promise.withResolvers<void>();
    const pending: Pending = {
      since: performance.now(),
      fail: failed.reject,
      ended: ended.promise,
    };
    this.#pending.add(pending);
    const timer = timeout > MAX_TIMER ? undefined : setTimeout(() => {
      const text = `it did not say hello within ${timeout} ms`;
      failed.reject(new DOMException(text, "TimeoutError"));
    }, timeout);
    try {
      const connection = this.#options.tls?.wrap(conn) ??
        new SystemConnection(conn);
      const greeted = await this.#greet(connection, failed.promise);
      // One that has proven itself is a peer, and makes room for strangers.
      this.#leave(pending);
      this.#opening.add(pending);
      await this.#establish(greeted, remote, failed.promise);
    } catch (error) {
      this.#refused++;
      this.#report(inContext(`Cannot admit "${remote}"`, error), remote);
    } finally {
      clearTimeout(timer);
      this.#leave(pending);
      this.#opening.delete(pending);
      ended.resolve();
    }
  }

  /** Has a peer prove itself. */
  async #greet(
    connection: Connection,
    failed: Promise<never>,
  ): Promise<Greeted> {
    const attempt: Attempt = new Attempt({
      admit: () => this.#admitPeer(),
      detach: (session) => this.#detach(session, attempt),
    });
    try {
      const greeting = acceptHandshake(
        connection,
        this.#options.offer,
        attempt,
      );
      const terms = await Promise.race([greeting, failed]);
      const wrapped = await withRecords(connection, terms);
      return { terms, connection: wrapped, attempt };
    } catch (error) {
      if (attempt.leave()) this.#peers--;
      await sendRefusal(connection, error);
      connection.close();
      throw error;
    }
  }

  /** Gives a peer that has proven itself a duplex, or its session back. */
  async #establish(
    { connection, terms, attempt }: Greeted,
    remote: string,
    failed: Promise<never>,
  ): Promise<void> {
    if (!terms.resumed) {
      return await this.#open(connection, terms, remote, failed);
    }
    const session = this.#sessions.get(terms.session!);
    // Where it has come yet again, that connection was told the same position.
    if (session?.attempt !== attempt) return connection.close();
    session.link.attach(connection, terms.heartbeat, terms.received);
    session.retention.onAttached();
  }

  async #open(
    connection: Connection,
    { heartbeat, session }: Terms,
    remote: string,
    failed: Promise<never>,
  ): Promise<void> {
    const { limits, replaySize, resumeTimeout } = this.#options;
    const retention = session === undefined ? undefined : new Retention({
      replaySize,
      timeout: resumeTimeout,
      canReturn: () => this.#closed === undefined,
      onEnded: () => void this.#sessions.delete(session),
    });
    const link = new SocketLink(remote, retention);
    if (retention !== undefined) {
      retention.watch(link);
      this.#sessions.set(session!, { link, retention });
    }
    const wire = new FrameWire(link, {
      onPing: (fields) => link.onPing(fields),
    });
    const duplex = new SocketSession<In, Out>(wire, limits, remote);
    const onEnd = () => this.#peers--;
    duplex.closed.then(onEnd, onEnd);
    link.attach(connection, heartbeat);
    failed.catch((error) => duplex.fail(error));
    await duplex.open();
    this.#enqueue(duplex);
  }

  #enqueue(duplex: SocketDuplex<In, Out>): void {
    if (this.#closed !== undefined) return this.#turnAway(duplex);
    if (this.#takers.length > 0) this.#takers.shift().resolve(duplex);
    else this.#opened.push(duplex);
  }

  /** Lets a peer go that nobody will take any more. */
  #turnAway(duplex: SocketDuplex<In, Out>): void {
    duplex.abort(withoutStack(new ClosedError("The listener is closed")));
  }

  #admitPeer(): void {
    const { maxPeers } = this.#options;
    if (this.#peers >= maxPeers) {
      throw new RefusedError("full", `there are ${maxPeers} peers already`);
    }
    this.#peers++;
  }

  #detach(name: string, attempt: Attempt): number {
    const session = this.#sessions.get(name);
    if (session === undefined) {
      throw new RefusedError("session", "there is no such session any more");
    }
    session.attempt = attempt;
    session.link.detach();
    return session.link.received;
  }

  #end(error: unknown): void {
    if (this.#closed !== undefined) return;
    this.#closed = { error };
    this.#listener?.close();
    this.#takers.rejectAll(error);
    const closed = new RefusedError("closed", "the listener is closed");
    for (const one of [...this.#pending, ...this.#opening]) one.fail(closed);
    while (this.#opened.length > 0) this.#turnAway(this.#opened.shift());
    for (const { link } of this.#sessions.values()) {
      // It can never come back.
      if (link.isDetached) link.giveUp(closed);
    }
  }
}

/** Whether an accept failed because the system lacks resources. */
function isShortage(error: unknown): boolean {
  const { code } = error as { code?: unknown };
  return code === "EMFILE" || code === "ENFILE" || code === "ENOBUFS" ||
    code === "ENOMEM";
}
