// Copyright 2026 the Duplex authors. MIT license.

/**
 * The wire under a queue's session: what is sent goes into a store, from there
 * with a lease to a worker that has room, and leaves the store when the worker
 * has handled it. What the workers answer comes back, in the order of the
 * messages if that is wanted. A worker that dies is replaced, and what it had
 * not handled goes back to its place in the store.
 *
 * @module
 */

import { ByteBuffer } from "./_byte_buffer.ts";
import { makeParcel } from "./_clone.ts";
import { Outbox } from "./_credit.ts";
import { ClosedError, PeerExitError, ProtocolError } from "./_errors.ts";
import {
  helloFields,
  type PeerHello,
  reasonFields,
  reasonFrom,
  type SessionOptions,
} from "./_hello.ts";
import { AnswerMerge } from "./_queue_answers.ts";
import { isDeath, type Link, type LinkEvents } from "./_queue_link.ts";
import type { MessageStore, Payload, StoredMessage } from "./_queue_store.ts";
import { checkSize } from "./_thread_wire.ts";
import { settlesWithin } from "./_waiting.ts";
import {
  type ControlFields,
  type ControlKind,
  KIND,
  type Wire,
  type WireEvents,
} from "./_wire.ts";

/** Bytes of messages that are kept in one piece of memory. */
const SEGMENT_SIZE = 64 * 1024;

/** A message that its workers died of. */
export interface FailedMessage {
  /** The message. */
  readonly message: unknown;
  /** Its number in the queue. */
  readonly number: number;
  /** How often a worker took it. */
  readonly attempts: number;
  /** How the last of these workers ended. */
  readonly error: PeerExitError;
}

/** What a queue does, checked. */
export interface QueueWireOptions extends SessionOptions {
  workers: number;
  capacity: number | undefined;
  ordered: boolean;
  attempts: number;
  restart: number;
  timeout: number;
  onFailed: ((failed: FailedMessage) => void) | undefined;
  /** Opens a link to a worker, within `timeout` milliseconds. */
  openLink(events: LinkEvents, timeout: number): Promise<Link>;
}

/** A session's messages that are in a store until they are handled. */
class StoreOutbox extends Outbox {
  readonly #store: MessageStore;
  readonly #decode: (message: StoredMessage) => unknown;

  constructor(
    store: MessageStore,
    decode: (message: StoredMessage) => unknown,
  ) {
    super();
    this.#store = store;
    this.#decode = decode;
  }

  override get length(): number {
    return this.#store.count;
  }

  override add(_message: unknown, size: number): void {
    this.sent++;
    this.bytesSent += size;
    this.bytesInFlight = this.#store.bytes;
  }

  override acknowledge(): boolean {
    this.bytesInFlight = this.#store.bytes;
    return true;
  }

  override unsent(): unknown[] {
    return this.#store.all().map(this.#decode);
  }
}

/** Workers behind a store of messages. */
export class QueueWire implements Wire, LinkEvents {
  readonly isFull = false;
  readonly outbox: Outbox;
  readonly #options: QueueWireOptions;
  readonly #store: MessageStore;
  readonly #answers: AnswerMerge;
  #events: WireEvents | undefined;
  #links: Link[] = [];
  #restarting = 0;
  #peer: PeerHello | undefined;
  #segment = new ByteBuffer(SEGMENT_SIZE);
  #encoding = false;
  #closing = false;
  #saidGoodbye = false;
  #destroyed = false;
  #isStalled = false;
  /** Workers that died since a message was last handled. */
  #deaths = 0;

  constructor(options: QueueWireOptions, store: MessageStore) {
    this.#options = options;
    this.#store = store;
    this.#answers = new AnswerMerge(options);
    this.outbox = new StoreOutbox(store, (message) => this.#decode(message));
  }

  start(events: WireEvents): void {
    this.#events = events;
    this.#answers.start(events);
    this.#openAll().catch((error) => this.#failToOpen(error));
  }

  agree(): void {}

  message(
    number: number,
    taken: number,
    message: unknown,
    _inFlight: number,
    transfer: readonly Transferable[] = [],
  ): number {
    const { payload, size } = this.#encode(message, transfer);
    this.#answers.onTaken(taken);
    this.#store.append({ number, payload, size, attempts: 0 });
    this.#answers.onSent(number);
    this.#isStalled = false;
    this.#dispatch();
    return size;
  }

  control(kind: ControlKind, fields: ControlFields): void {
    if (kind === KIND.credit || kind === KIND.goodbye) {
      this.#isStalled = false;
      this.#answers.onTaken(fields.taken as number);
      this.#pull();
    }
    if (kind === KIND.goodbye) {
      this.#closing = true;
      this.#sayGoodbye();
    } else if (kind === KIND.stall) {
      this.#isStalled = true;
      this.#checkStall();
    } else if (kind === KIND.abort) {
      const reason = reasonFrom(fields, this.#peer?.codec);
      this.#destroyed = true;
      for (const link of this.#links) link.abort(reason);
    }
  }

  flushed(): Promise<void> {
    return Promise.resolve();
  }

  diagnose(cause: unknown, unsent: readonly unknown[]): Promise<Error> {
    if (!(cause instanceof PeerExitError)) {
      return Promise.resolve(cause as Error);
    }
    const { message, stderr } = cause;
    return Promise.resolve(
      new PeerExitError(message, { cause, unsent, stderr }),
    );
  }

  async close(timeout: number): Promise<void> {
    const closed = Promise.all(this.#links.map((link) => link.close()));
    const inTime = await settlesWithin(closed.catch(() => {}), timeout);
    if (inTime && this.#store.count === 0) return;
    await this.destroy();
    if (inTime) {
      throw new ClosedError(
        `Cannot close a queue in good order: its workers said goodbye and left ${this.#store.count} messages`,
        { unsent: this.outbox.unsent() },
      );
    }
    throw new ClosedError(
      `Cannot close a queue in good order: its workers did not end within ${timeout} ms`,
    );
  }

  async destroy(): Promise<void> {
    this.#destroyed = true;
    const error = new ClosedError("The queue has ended");
    await Promise.all(this.#links.map((link) => link.abort(error)));
  }

  // What the links bring

  onProgress(link: Link): void {
    // Nothing is sent before all workers have said hello.
    if (this.#peer === undefined) return;
    this.#finish(link);
    this.#pull();
    this.#dispatch();
    this.#sayGoodbye();
    this.#hearGoodbye();
  }

  onStall(): void {
    this.#checkStall();
  }

  onEnd(link: Link, error: unknown): void {
    if (this.#destroyed) return;
    if (this.#peer === undefined) return this.#failToOpen(error);
    this.#finish(link);
    this.#answers.flush(link);
    const unhandled = link.takeBack();
    this.#links = this.#links.filter((other) => other !== link);
    if (error === undefined) {
      // It may not have taken all that it was given.
      this.#store.handBack(unhandled);
      if (this.#links.length > 0) this.#dispatch();
      this.#hearGoodbye();
    } else if (isDeath(error)) {
      this.#onDeath(error, unhandled);
    } else if (error instanceof ProtocolError) {
      this.#events!.onFault(error);
    } else {
      this.#events!.onControl(
        KIND.abort,
        reasonFields(error, this.#peer?.codec),
      );
    }
  }

  // Beginning

  async #openAll(): Promise<void> {
    const { workers, timeout } = this.#options;
    const results = await Promise.allSettled(
      Array.from({ length: workers }, () => this.#openLink(timeout)),
    );
    const failed = results.find((result) => result.status === "rejected");
    if (failed !== undefined) throw failed.reason;
    if (this.#destroyed) return;
    this.#onOpened();
  }

  #failToOpen(error: unknown): void {
    if (this.#destroyed) return;
    this.#destroyed = true;
    this.#events!.onLost(
      error ?? new ClosedError("A worker said goodbye before the others began"),
    );
  }

  async #openLink(timeout: number): Promise<void> {
    const link = await this.#options.openLink(this, timeout);
    if (this.#destroyed) {
      await link.abort(new ClosedError("The queue has ended"));
      return;
    }
    this.#links.push(link);
  }

  /** Says hello for all workers, which run the same script. */
  #onOpened(): void {
    const peers = this.#links.map((link) => link.peer);
    const sum = (of: (peer: PeerHello) => number) =>
      peers.reduce((total, peer) => total + of(peer), 0);
    const { capacity } = this.#options;
    const first = peers[0]!;
    const { name } = first.codec;
    const codec = this.#options.codecs.find((codec) => codec.name === name)!;
    this.#peer = {
      ...first,
      codec,
      window: sum((peer) => peer.window),
      windowMessages: capacity ?? sum((peer) => peer.windowMessages),
      maxMessage: Math.min(...peers.map((peer) => peer.maxMessage)),
    };
    const hello = { ...this.#options, ...this.#peer, codecs: [codec] };
    this.#events!.onControl(KIND.hello, helloFields(hello));
  }

  // Messages

  #encode(
    message: unknown,
    transfer: readonly Transferable[],
  ): { payload: Payload; size: number } {
    if (this.#encoding) {
      throw new TypeError(
        "Cannot send a message: a getter of another message that is being sent calls send",
      );
    }
    const { maxMessage } = this.#peer!;
    this.#encoding = true;
    try {
      if (transfer.length > 0) return keepClone(message, transfer, maxMessage);
      try {
        return this.#keepBytes(message, maxMessage);
      } catch (error) {
        if (!(error instanceof TypeError)) throw error;
        return keepClone(message, transfer, maxMessage);
      }
    } finally {
      this.#encoding = false;
    }
  }

  #keepBytes(
    message: unknown,
    maxMessage: number,
  ): { payload: Payload; size: number } {
    const { codec } = this.#peer!;
    if (this.#segment.length >= SEGMENT_SIZE) {
      this.#segment = new ByteBuffer(SEGMENT_SIZE);
    }
    const buffer = this.#segment;
    const start = buffer.length;
    if (codec.encodeInto !== undefined) {
      codec.encodeInto(message, buffer);
    } else {
      const bytes = codec.encode(message);
      buffer.reserve(bytes.length);
      buffer.bytes.set(bytes, start);
      buffer.length += bytes.length;
    }
    const end = buffer.length;
    try {
      checkSize(end - start, maxMessage);
    } catch (error) {
      buffer.length = start;
      throw error;
    }
    return {
      payload: { kind: "bytes", buffer, start, end },
      size: end - start,
    };
  }

  #decode({ payload }: StoredMessage): unknown {
    if (payload.kind === "clone") return payload.parcel[0];
    const { buffer, start, end } = payload;
    return this.#peer!.codec.decode(buffer.bytes.slice(start, end));
  }

  /** Gives workers what waits, as far as they have room. */
  #dispatch(): void {
    const links = this.#links;
    const isShared = links.length > 1;
    // A worker that has said goodbye may take something still, if it is alone.
    const others = links.some((link) => !link.hasEnded);
    while (this.#store.waiting > 0) {
      let chosen: Link | undefined;
      for (const link of links) {
        if (link.isClosing || (link.hasEnded && others)) continue;
        if (chosen !== undefined && link.leased >= chosen.leased) continue;
        if (link.hasRoom(isShared)) chosen = link;
      }
      if (chosen === undefined) return;
      chosen.give(this.#store.take());
    }
  }

  /** Ends the messages that a worker has handled. */
  #finish(link: Link): void {
    const handled = link.takeHandled();
    if (handled.length === 0) return;
    for (const message of handled) {
      this.#store.acknowledge(message);
      this.#answers.onHandled(message.number);
    }
    this.#deaths = 0;
    // The session asks the store how much room there is.
    this.#events!.onControl(KIND.credit, { taken: 0 });
  }

  #pull(): void {
    this.#answers.pull(this.#links);
  }

  // Deadlock

  /** Tells both sides where each waits for the other to receive. */
  #checkStall(): void {
    const busy = this.#links.filter((link) => link.leased > 0);
    if (!this.#isStalled || busy.length === 0) return;
    if (!busy.every((link) => link.isStalled)) return;
    for (const link of busy) link.notifyStall();
    this.#events!.onControl(KIND.stall, { taken: this.#answers.taken });
  }

  // End

  /** Says goodbye to the workers once everything was given to one of them. */
  #sayGoodbye(): void {
    if (!this.#closing || this.#store.waiting > 0) return;
    for (const link of this.#links) link.close().catch(() => {});
  }

  /** Every worker has said goodbye, and all that they sent was handed on. */
  #hearGoodbye(): void {
    if (this.#saidGoodbye || this.#restarting > 0) return;
    if (!this.#links.every((link) => link.hasEnded)) return;
    if (!this.#answers.isEmpty(this.#links)) return;
    this.#saidGoodbye = true;
    this.#events!.onControl(KIND.goodbye, {
      sent: this.#answers.delivered,
      taken: 0,
    });
  }

  #onDeath(error: PeerExitError, unhandled: StoredMessage[]): void {
    const { attempts, restart } = this.#options;
    const failed = unhandled.filter((message) => message.attempts >= attempts);
    this.#store.handBack(
      unhandled.filter((message) => !failed.includes(message)),
    );
    for (const message of failed) {
      if (!this.#giveUp(message, error)) return;
    }
    this.#deaths++;
    if (failed.length > 0) this.#deaths = 0;
    const isOpen = this.#links.some((link) => !link.isClosing) ||
      this.#restarting > 0;
    if (restart > 0 && this.#deaths <= attempts) {
      this.#restart();
    } else if (!isOpen && (this.#store.waiting > 0 || !this.#closing)) {
      this.#events!.onLost(error);
      return;
    }
    this.#dispatch();
    this.#hearGoodbye();
  }

  /** Hands back a message that cannot be handled; `false` if that ends the queue. */
  #giveUp(message: StoredMessage, error: PeerExitError): boolean {
    const { onFailed } = this.#options;
    const { number, attempts } = message;
    if (onFailed === undefined) {
      this.#store.handBack([message]);
      this.#events!.onLost(
        new PeerExitError(
          `Message ${number} was taken ${attempts} times and its worker ended each time: ${error.message}; take such messages with "onFailed"`,
          { cause: error, stderr: error.stderr },
        ),
      );
      return false;
    }
    this.#store.acknowledge(message);
    this.#answers.onHandled(number);
    try {
      onFailed({ message: this.#decode(message), number, attempts, error });
    } catch (cause) {
      this.#events!.onFault(cause as Error);
      return false;
    }
    this.#events!.onControl(KIND.credit, { taken: 0 });
    return true;
  }

  async #restart(): Promise<void> {
    this.#restarting++;
    try {
      await this.#openLink(this.#options.restart);
      this.#restarting--;
    } catch (error) {
      this.#restarting--;
      if (this.#destroyed) return;
      if (isDeath(error)) this.#onDeath(error, []);
      else this.#events!.onLost(error);
      return;
    }
    if (this.#destroyed) return;
    this.#dispatch();
    this.#sayGoodbye();
  }
}

/** Keeps a message as only a clone can carry it; buffers move into it. */
function keepClone(
  message: unknown,
  transfer: readonly Transferable[],
  maxMessage: number,
): { payload: Payload; size: number } {
  const { parcel, size } = makeParcel(message, transfer);
  checkSize(size, maxMessage);
  try {
    const kept = structuredClone(parcel, { transfer: [...transfer] });
    return { payload: { kind: "clone", parcel: kept }, size };
  } catch (cause) {
    throw new TypeError(
      `Cannot send a message to a thread: ${(cause as Error).message}`,
      { cause },
    );
  }
}
