// Copyright 2026 the Duplex authors. MIT license.

/**
 * The acceptor's side: takes connections, has each peer prove itself within its
 * bounds, and hands out a duplex for each that has said hello, or gives a
 * session that has lost its connection the new one.
 *
 * @module
 */

import { ClosedError } from "./_errors.ts";
import { FrameWire } from "./_frame.ts";
import type { SessionOptions } from "./_hello.ts";
import {
  addressOf,
  formatAddress,
  isLoopback,
  type SocketAddress,
} from "./_socket_address.ts";
import { type Connection, SystemConnection } from "./_socket_connection.ts";
import {
  type Door,
  greetOpener,
  refusalFrame,
  RefusedError,
  type Terms,
  type Wishes,
} from "./_socket_greeting.ts";
import { type Resumption, SocketLink } from "./_socket_link.ts";
import { withRecords } from "./_socket_records.ts";
import { SocketSession } from "./_socket_session.ts";
import { listenUnix, removeAtExit, takeOverUnix } from "./_socket_unix.ts";
import { Deque, MAX_TIMER, settlesWithin, WaitQueue } from "./_waiting.ts";
import type { ReceiveOptions } from "./duplex.ts";
import type { DuplexListener, ListenerStats, SocketDuplex } from "./socket.ts";

/** Milliseconds after a failed accept, when the system may be short of files. */
const ACCEPT_PAUSE = 100;

/**
 * Milliseconds that a connection has in any case before another takes its place:
 * more than three times around the world. A burst of honest peers waits meanwhile
 * in the system's own queue.
 */
const MIN_PENDING_TIME = 1_000;

/** Milliseconds that a refusal has to leave. */
const REFUSAL_TIMEOUT = 500;

/** What a listener was told, checked and complete. */
export interface ListenerOptions {
  readonly wishes: Wishes;
  readonly limits: SessionOptions;
  readonly cert: string;
  readonly key: string;
  /** Milliseconds for a peer to prove itself and to say hello. */
  readonly timeout: number;
  readonly maxPeers: number;
  readonly maxPending: number;
  readonly allowUnauthenticated: boolean;
  /** Milliseconds for which a session without a connection is kept. */
  readonly resumeTimeout: number;
  readonly replaySize: number;
  readonly onError: (error: unknown, remote: string) => void;
}

/** A connection whose peer has not proven itself yet. */
interface Pending {
  /** When it came, in milliseconds of `performance.now`. */
  readonly since: number;
  /** Lets it go. */
  fail(error: Error): void;
}

/** A connection whose peer has proven itself. */
interface Greeted {
  readonly connection: Connection;
  readonly terms: Terms & { readonly resumed: boolean };
  readonly visit: Visit;
}

/** A session that may come back. */
interface Resumable {
  readonly link: SocketLink;
  readonly guest: Guest;
  /** The latest that has come back for it. */
  visit?: Visit;
}

/** A session that waits for its connection to come back. */
class Guest implements Resumption {
  readonly replaySize: number;
  readonly #timeout: number;
  readonly #canReturn: () => boolean;
  readonly #onEnded: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #link: SocketLink | undefined;

  constructor(
    { replaySize, resumeTimeout }: ListenerOptions,
    canReturn: () => boolean,
    onEnded: () => void,
  ) {
    this.replaySize = replaySize;
    this.#timeout = resumeTimeout;
    this.#canReturn = canReturn;
    this.#onEnded = onEnded;
  }

  watch(link: SocketLink): void {
    this.#link = link;
  }

  onDetached(cause: unknown): void {
    this.onAttached();
    if (!this.#canReturn()) {
      return this.#link?.giveUp(new Error("its listener is closed", { cause }));
    }
    const onTimeout = () =>
      this.#link?.giveUp(
        new Error(`it did not come back within ${this.#timeout} ms`, { cause }),
      );
    this.#timer = setTimeout(onTimeout, Math.min(this.#timeout, MAX_TIMER));
  }

  onAttached(): void {
    clearTimeout(this.#timer);
  }

  onEnded(): void {
    clearTimeout(this.#timer);
    this.#onEnded();
  }
}

/** The door as one connection finds it: shut once the connection was let go. */
class Visit implements Door {
  readonly #door: Door;
  #isAdmitted = false;
  #hasLeft = false;

  constructor(door: Door) {
    this.#door = door;
  }

  admit(): void {
    this.#checkOpen();
    this.#door.admit();
    this.#isAdmitted = true;
  }

  detach(session: string): number {
    this.#checkOpen();
    return this.#door.detach(session);
  }

  /** Leaves; returns whether it was counted in. */
  leave(): boolean {
    this.#hasLeft = true;
    return this.#isAdmitted;
  }

  #checkOpen(): void {
    if (this.#hasLeft) throw new RefusedError("closed", "it took too long");
  }
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
  /** Settles when one of them has gone. */
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

  get stats(): ListenerStats {
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

  async accept(options?: ReceiveOptions): Promise<SocketDuplex<In, Out>> {
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
    const { kind, hostname, port } = address;
    const { cert, key } = this.#options;
    return kind === "tls"
      ? Deno.listenTls({ hostname, port, cert, key })
      : Deno.listen({ hostname, port });
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
    const { wishes, allowUnauthenticated } = this.#options;
    if (
      wishes.secret !== undefined || allowUnauthenticated ||
      isLoopback(hostname)
    ) return;
    this.#listener!.close();
    throw unauthenticated();
  }

  async #acceptAll(listener: Deno.Listener): Promise<void> {
    while (this.#closed === undefined) {
      try {
        await this.#awaitVacancy();
        this.#admit(await listener.accept());
      } catch (error) {
        if (this.#closed !== undefined) return;
        this.#options.onError(error, this.#address);
        await new Promise((resolve) => setTimeout(resolve, ACCEPT_PAUSE));
      }
    }
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
        this.#leave(oldest!);
        const text =
          `more than ${maxPending} connections wait to prove themselves, and this one waited the longest`;
        return oldest!.fail(new RefusedError("full", text));
      }
      this.#vacancy = Promise.withResolvers();
      await settlesWithin(this.#vacancy.promise, MIN_PENDING_TIME - age);
    }
  }

  #leave(pending: Pending): void {
    this.#pending.delete(pending);
    this.#vacancy?.resolve();
  }

  /** Takes a connection to its hello, or lets it go. */
  async #admit(conn: Deno.Conn): Promise<void> {
    const { timeout, onError } = this.#options;
    const remote = this.#kind === "unix"
      ? this.#address
      : addressOf(this.#kind, conn.remoteAddr);
    const failed = Promise.withResolvers<never>();
    failed.promise.catch(() => {});
    const pending = { since: performance.now(), fail: failed.reject };
    this.#pending.add(pending);
    const timer = timeout > MAX_TIMER ? undefined : setTimeout(() => {
      const text = `it did not say hello within ${timeout} ms`;
      failed.reject(new DOMException(text, "TimeoutError"));
    }, timeout);
    try {
      const connection = new SystemConnection(conn);
      const greeted = await this.#greet(connection, failed.promise);
      // One that has proven itself is a peer, and makes room for strangers.
      this.#leave(pending);
      await this.#welcome(greeted, remote, failed.promise);
    } catch (error) {
      this.#refused++;
      onError(inContext(`Cannot admit "${remote}"`, error), remote);
    } finally {
      clearTimeout(timer);
      this.#leave(pending);
    }
  }

  /** Has a peer prove itself. */
  async #greet(
    connection: SystemConnection,
    failed: Promise<never>,
  ): Promise<Greeted> {
    const visit: Visit = new Visit({
      admit: () => this.#admitPeer(),
      detach: (session) => this.#detach(session, visit),
    });
    try {
      const greeting = greetOpener(connection, this.#options.wishes, visit);
      const terms = await Promise.race([greeting, failed]);
      const wrapped = await withRecords(connection, terms);
      return { terms, connection: wrapped, visit };
    } catch (error) {
      if (visit.leave()) this.#peers--;
      await refuse(connection, error);
      throw error;
    }
  }

  /** Gives a peer that has proven itself a duplex, or its session back. */
  async #welcome(
    { connection, terms, visit }: Greeted,
    remote: string,
    failed: Promise<never>,
  ): Promise<void> {
    if (!terms.resumed) {
      return await this.#open(connection, terms, remote, failed);
    }
    const session = this.#sessions.get(terms.session!);
    // Where it has come yet again, that connection was told the same position.
    if (session?.visit !== visit) return connection.close();
    session.link.attach(connection, terms.heartbeat, terms.received);
    session.guest.onAttached();
  }

  async #open(
    connection: Connection,
    { heartbeat, session }: Terms,
    remote: string,
    failed: Promise<never>,
  ): Promise<void> {
    const { limits } = this.#options;
    const guest = session === undefined ? undefined : new Guest(
      this.#options,
      () => this.#closed === undefined,
      () => this.#sessions.delete(session),
    );
    const link = new SocketLink(remote, guest);
    if (guest !== undefined) {
      guest.watch(link);
      this.#sessions.set(session!, { link, guest });
    }
    const wire = new FrameWire(link, {
      ...limits,
      onPing: (fields) => link.onPing(fields),
    });
    const duplex = new SocketSession<In, Out>(wire, limits, remote);
    const onEnd = () => this.#peers--;
    duplex.closed.then(onEnd, onEnd);
    link.attach(connection, heartbeat);
    failed.catch((error) => duplex.fail(error));
    await duplex.open();
    this.#handOver(duplex);
  }

  #handOver(duplex: SocketDuplex<In, Out>): void {
    if (this.#closed !== undefined) return duplex.abort(this.#closed.error);
    if (this.#takers.length > 0) this.#takers.shift().resolve(duplex);
    else this.#opened.push(duplex);
  }

  #admitPeer(): void {
    const { maxPeers } = this.#options;
    if (this.#peers >= maxPeers) {
      throw new RefusedError("full", `there are ${maxPeers} peers already`);
    }
    this.#peers++;
  }

  #detach(name: string, visit: Visit): number {
    const session = this.#sessions.get(name);
    if (session === undefined) {
      throw new RefusedError("session", "there is no such session any more");
    }
    session.visit = visit;
    session.link.detach();
    return session.link.received;
  }

  #end(error: unknown): void {
    if (this.#closed !== undefined) return;
    this.#closed = { error };
    this.#listener?.close();
    this.#takers.rejectAll(error);
    const closed = new RefusedError("closed", "the listener is closed");
    for (const pending of this.#pending) pending.fail(closed);
    while (this.#opened.length > 0) this.#opened.shift().abort(error);
    for (const { link } of this.#sessions.values()) {
      // It can never come back.
      if (link.isDetached) link.giveUp(closed);
    }
  }
}

/** Tells a peer why it is let go, and lets it go. */
async function refuse(connection: Connection, error: unknown): Promise<void> {
  const told = connection.write(refusalFrame(error)).catch(() => {});
  await settlesWithin(told, REFUSAL_TIMEOUT);
  connection.close();
}

/** The same error, saying what was attempted. */
export function inContext(attempt: string, error: unknown): Error {
  if (!(error instanceof Error)) return new Error(attempt, { cause: error });
  const message = `${attempt}: ${error.message}`;
  if (error instanceof RefusedError) {
    return error.refusal === "secret"
      ? new Deno.errors.PermissionDenied(message, { cause: error })
      : new Deno.errors.ConnectionRefused(message, { cause: error });
  }
  if (error instanceof DOMException) {
    const copy = new DOMException(message, error.name);
    Object.defineProperty(copy, "cause", { value: error, configurable: true });
    return copy;
  }
  if (error instanceof AggregateError) {
    return new AggregateError(error.errors, message, { cause: error });
  }
  const Class = error.constructor as ErrorConstructor;
  return new Class(message, { cause: error });
}

/** Why an address that everybody can reach is not listened on. */
export function unauthenticated(): TypeError {
  return new TypeError(
    'without a "secret" everybody who reaches it could speak: give one, or set "allowUnauthenticated"',
  );
}
