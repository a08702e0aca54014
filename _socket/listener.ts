// Copyright 2026 the Duplex authors. MIT license.

/**
 * The acceptor's side: accepts connections, makes the handshake with limits on time
 * and number, and opens a duplex for each new peer, or resumes the session of a
 * peer that has reconnected.
 *
 * @module
 */

import { ClosedError, withoutStack } from "../_base/errors.ts";
import {
  formatAddress,
  isLoopback,
  peerAddress,
  type SocketAddress,
} from "../_base/address.ts";
import { AdmissionTicket, WaitingResumption } from "./admission.ts";
import { type Connection, SystemConnection } from "./connection.ts";
import { inContext, RefusedError } from "./errors.ts";
import { acceptHandshake, sendRefusal, type Terms } from "./handshake.ts";
import type { ListenerOptions } from "./options.ts";
import { withRecords } from "./records.ts";
import { type SocketDuplex, SocketSession } from "./session.ts";
import { SocketStream } from "./stream.ts";
import { listenUnix, removeAtExit, takeOverUnix } from "./unix.ts";
import { Deque, settlesWithin, WaitQueue } from "../_base/waiting.ts";

/** Numbers of peers and connections, from {@linkcode DuplexListener.stats}. */
export interface ListenerStats {
  /** Peers that have proven themselves and whose duplex has not ended. */
  readonly peers: number;
  /** Peers that have lost their connection and may reconnect. */
  readonly detached: number;
  /** Connections that have not proven themselves yet. */
  readonly pending: number;
  /** Connections that were closed before their hello. */
  readonly refused: number;
}

/**
 * A listener for peers at an address. Iterating over it gives the duplex of each
 * peer, and ends when the listener is closed.
 *
 * @typeParam In The type of the messages received.
 * @typeParam Out The type of the messages sent.
 */
export interface DuplexListener<In = unknown, Out = In>
  extends AsyncIterable<SocketDuplex<In, Out>>, AsyncDisposable {
  /** The address, with the port chosen by the system if it was 0. */
  readonly address: string;
  /**
   * Fulfilled once peers can connect. That is at once, unless a Unix socket of a
   * process that has died is replaced. If that fails, it rejects, and so does
   * {@linkcode DuplexListener.accept}.
   */
  readonly ready: Promise<void>;
  /** Numbers of peers and connections. */
  readonly stats: ListenerStats;
  /**
   * Waits for the next peer. An open listener keeps the program running, even if
   * nothing waits for a peer.
   *
   * @param options A signal that cancels the wait.
   * @returns The duplex of the peer, once both sides have sent their hello.
   * @throws {ClosedError} If the listener is closed.
   * @throws {Deno.errors.AddrInUse} If a living process listens on the Unix socket.
   * @throws The signal's reason, if it aborts.
   */
  accept(options?: { signal?: AbortSignal }): Promise<SocketDuplex<In, Out>>;
  /** Lets this program end although the listener is open. */
  unref(): void;
  /** Undoes {@linkcode DuplexListener.unref}. */
  ref(): void;
  /**
   * Stops listening. Peers that `accept` has returned stay connected, but a session
   * without a connection fails, now or when it loses it. Peers that `accept` has not
   * returned yet are aborted.
   */
  close(): Promise<void>;
}

/** Milliseconds after a failed accept: the system may be short of open files. */
const ACCEPT_PAUSE = 100;

/**
 * Milliseconds before a connection without a proof can be dropped for another one:
 * one intercontinental handshake. Bursts wait in the accept queue of the system.
 */
const MIN_PENDING_TIME = 250;

/** A connection whose peer has proven itself. */
interface Greeted {
  readonly connection: Connection;
  readonly terms: Terms & { readonly resumed: boolean };
}

/** A session that can be resumed. */
interface Resumable {
  readonly stream: SocketStream;
  readonly resumption: WaitingResumption;
  /** The latest connection that resumes the session. */
  ticket?: AdmissionTicket;
}

/** A listener on TCP, TLS or a Unix socket. */
export class SocketListener<In, Out> implements DuplexListener<In, Out> {
  readonly #options: ListenerOptions;
  readonly #kind: SocketAddress["kind"];
  #address: string;
  #listener: Deno.Listener | undefined;
  #isRef = true;
  readonly ready: Promise<void>;
  /** Connections that have not proven themselves, the oldest first. */
  readonly #unproven = new Set<AdmissionTicket>();
  /** Connections that have proven themselves and not sent their hello. */
  readonly #opening = new Set<AdmissionTicket>();
  /** Settles when the number of unproven connections decreases. */
  #vacancy: PromiseWithResolvers<void> | undefined;
  readonly #sessions = new Map<string, Resumable>();
  #peers = 0;
  #refused = 0;
  /** Peers for the next calls of `accept`, or calls that wait for a peer. */
  readonly #opened = new Deque<SocketDuplex<In, Out>>();
  readonly #accepts = new WaitQueue<void, SocketDuplex<In, Out>>();
  #closed: { readonly error: unknown } | undefined;
  /** Ends with the listener. Never rejects. */
  #accepting: Promise<void> | undefined;
  /** Cancels the removal of a Unix socket's file at exit. */
  #onFileRemoved: (() => void) | undefined;

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

  get stats(): ListenerStats {
    let detached = 0;
    for (const { stream } of this.#sessions.values()) {
      if (stream.isDetached) detached++;
    }
    return {
      peers: this.#peers,
      pending: this.#unproven.size,
      detached,
      refused: this.#refused,
    };
  }

  async accept(
    options?: { signal?: AbortSignal },
  ): Promise<SocketDuplex<In, Out>> {
    if (this.#opened.length > 0) return this.#opened.shift();
    if (this.#closed !== undefined) throw this.#closed.error;
    return await this.#accepts.wait(undefined, options?.signal);
  }

  unref(): void {
    this.#isRef = false;
    this.#listener?.unref();
  }

  ref(): void {
    this.#isRef = true;
    this.#listener?.ref();
  }

  async *[Symbol.asyncIterator](): AsyncIterableIterator<
    SocketDuplex<In, Out>
  > {
    for (;;) {
      try {
        yield await this.accept();
      } catch (error) {
        // The close of the listener ends the iteration.
        if (error === this.#closed?.error && error instanceof ClosedError) {
          return;
        }
        throw error;
      }
    }
  }

  async close(): Promise<void> {
    this.#end(new ClosedError(`The listener on "${this.#address}" is closed`));
    // A Unix socket may be replacing another one. The address is free once no
    // accept is in progress.
    await this.ready.catch(() => {});
    await this.#accepting;
    this.#onFileRemoved?.();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Binds to the address: at once, unless the file of another process exists. */
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
    this.#checkHost(hostname);
    const listener = Deno.listen({ hostname, port });
    try {
      // The name may stand for an address that other machines can reach.
      this.#checkHost((listener.addr as Deno.NetAddr).hostname);
    } catch (error) {
      listener.close();
      throw error;
    }
    return listener;
  }

  /** Throws if other machines could connect without a secret. */
  #checkHost(hostname: string): void {
    const { offer, allowUnauthenticated } = this.#options;
    if (
      offer.secret !== undefined || allowUnauthenticated ||
      isLoopback(hostname)
    ) return;
    throw new TypeError(
      'without a "secret" any program on another machine could connect: set "secret" or "allowUnauthenticated"',
    );
  }

  #begin(address: SocketAddress, listener: Deno.Listener): void {
    if (this.#closed !== undefined) return listener.close();
    this.#listener = listener;
    if (!this.#isRef) listener.unref();
    if (address.kind === "unix") {
      this.#onFileRemoved = removeAtExit(address.path);
    } else {
      const { port } = listener.addr as Deno.NetAddr;
      this.#address = formatAddress({ ...address, port });
    }
    this.#accepting = this.#acceptAll(listener);
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
        // Reported once until a connection is accepted, since it is tried ten times
        // a second.
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
    const [oldest] = this.#unproven;
    const isEvictable = isShortage(error) && oldest !== undefined &&
      performance.now() - oldest.since >= MIN_PENDING_TIME;
    if (!isEvictable) {
      return await new Promise((resolve) => setTimeout(resolve, ACCEPT_PAUSE));
    }
    const text =
      "the system has no open file left, and this connection is the oldest without a proof";
    this.#evict(oldest, text);
    await settlesWithin(oldest.ended, ACCEPT_PAUSE);
  }

  /**
   * Waits until another connection can be accepted. The oldest connection that has
   * not authenticated is closed, so that idle connections cannot lock others out.
   */
  async #awaitVacancy(): Promise<void> {
    const { maxPending } = this.#options;
    while (this.#unproven.size >= maxPending) {
      const [oldest] = this.#unproven;
      const age = performance.now() - oldest!.since;
      if (age >= MIN_PENDING_TIME) {
        const text =
          `more than ${maxPending} connections are without a proof, and this one is the oldest`;
        return this.#evict(oldest!, text);
      }
      this.#vacancy = Promise.withResolvers();
      await settlesWithin(this.#vacancy.promise, MIN_PENDING_TIME - age);
    }
  }

  /** Closes a connection that has not proven itself. */
  #evict(ticket: AdmissionTicket, text: string): void {
    this.#removeUnproven(ticket);
    ticket.fail(new RefusedError("full", text));
  }

  #report(error: unknown, remote: string): void {
    try {
      this.#options.onError(error, remote);
    } catch {
      // As documented: an exception must not end the listener.
    }
  }

  #removeUnproven(ticket: AdmissionTicket): void {
    this.#unproven.delete(ticket);
    this.#vacancy?.resolve();
  }

  /** Makes a connection a peer, or closes it. */
  async #admit(conn: Deno.Conn): Promise<void> {
    const remote = this.#kind === "unix"
      ? this.#address
      : peerAddress(this.#kind, conn.remoteAddr as Deno.NetAddr);
    const ticket: AdmissionTicket = new AdmissionTicket({
      admit: () => this.#admitPeer(),
      detach: (session) => this.#detach(session, ticket),
    }, this.#options.timeout);
    this.#unproven.add(ticket);
    try {
      const connection = this.#options.tls?.wrap(conn) ??
        new SystemConnection(conn);
      const greeted = await this.#greet(connection, ticket);
      this.#removeUnproven(ticket);
      this.#opening.add(ticket);
      await this.#establish(greeted, remote, ticket);
    } catch (error) {
      this.#refused++;
      this.#report(inContext(`Cannot admit "${remote}"`, error), remote);
    } finally {
      this.#removeUnproven(ticket);
      this.#opening.delete(ticket);
      ticket.end();
    }
  }

  /** Makes the handshake. */
  async #greet(
    connection: Connection,
    ticket: AdmissionTicket,
  ): Promise<Greeted> {
    try {
      const { offer } = this.#options;
      const greeting = acceptHandshake(connection, offer, ticket);
      const terms = await Promise.race([greeting, ticket.failed]);
      return { terms, connection: await withRecords(connection, terms) };
    } catch (error) {
      if (ticket.refuse()) this.#peers--;
      await sendRefusal(connection, error);
      connection.close();
      throw error;
    }
  }

  /** Opens a duplex for a peer that has proven itself, or resumes its session. */
  async #establish(
    { connection, terms }: Greeted,
    remote: string,
    ticket: AdmissionTicket,
  ): Promise<void> {
    if (!terms.resumed) {
      return await this.#open(connection, terms, remote, ticket);
    }
    const session = this.#sessions.get(terms.session!);
    // A later connection for the session was given the same position.
    if (session?.ticket !== ticket) return connection.close();
    session.stream.attach(connection, terms.heartbeat, terms.received);
    session.resumption.onAttached();
  }

  async #open(
    connection: Connection,
    { heartbeat, session }: Terms,
    remote: string,
    ticket: AdmissionTicket,
  ): Promise<void> {
    const { limits, replayBytes, resumeTimeout } = this.#options;
    const resumption = session === undefined
      ? undefined
      : new WaitingResumption({
        replayBytes,
        timeout: resumeTimeout,
        canReturn: () => this.#closed === undefined,
        onEnded: () => void this.#sessions.delete(session),
      });
    const stream = new SocketStream(remote, resumption);
    if (resumption !== undefined) {
      resumption.watch(stream);
      this.#sessions.set(session!, { stream, resumption });
    }
    const duplex = new SocketSession<In, Out>(stream, limits, remote);
    const onEnd = () => this.#peers--;
    duplex.closed.then(onEnd, onEnd);
    stream.attach(connection, heartbeat);
    ticket.failed.catch((error) => duplex.fail(error));
    await duplex.open();
    this.#enqueue(duplex);
  }

  #enqueue(duplex: SocketDuplex<In, Out>): void {
    if (this.#closed !== undefined) return this.#turnAway(duplex);
    if (this.#accepts.length > 0) this.#accepts.shift().resolve(duplex);
    else this.#opened.push(duplex);
  }

  /** Aborts a peer that `accept` will not return. */
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

  #detach(name: string, ticket: AdmissionTicket): number {
    const session = this.#sessions.get(name);
    if (session === undefined) {
      throw new RefusedError("session", "the session has ended");
    }
    session.ticket = ticket;
    session.stream.detach();
    return session.stream.received;
  }

  #end(error: unknown): void {
    if (this.#closed !== undefined) return;
    this.#closed = { error };
    this.#listener?.close();
    this.#accepts.rejectAll(error);
    const closed = new RefusedError("closed", "the listener is closed");
    for (const ticket of [...this.#unproven, ...this.#opening]) {
      ticket.fail(closed);
    }
    while (this.#opened.length > 0) this.#turnAway(this.#opened.shift());
    // Their openers cannot reconnect.
    for (const { stream } of this.#sessions.values()) {
      if (stream.isDetached) stream.abandon(closed);
    }
  }
}

/** Whether an accept failed because the system lacks resources. */
function isShortage(error: unknown): boolean {
  const { code } = error as { code?: unknown };
  return code === "EMFILE" || code === "ENFILE" || code === "ENOBUFS" ||
    code === "ENOMEM";
}
