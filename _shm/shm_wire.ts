// Copyright 2026 the Duplex authors. MIT license.

/**
 * Frames through rings in shared memory. What is sent is written into the ring at
 * once, as far as there is room; what arrives is brought in by a loop that sleeps
 * while there is nothing, or by a blocking call, whichever comes first. What no
 * bytes can carry is posted beside the rings.
 *
 * A thread that works through a flood of messages comes to its event loop every
 * few milliseconds all the same.
 *
 * @module
 */

import { makeParcel } from "../_thread/clone.ts";
import { ClosedError, ProtocolError, toFault } from "../_base/errors.ts";
import { encodeControl, type FrameWireOptions } from "../_wire/frame_layout.ts";
import { FrameParser } from "../_wire/frame_parser.ts";
import { checkSize, FrameQueue, LEAD } from "../_wire/frame_queue.ts";
import type { PortEnd } from "../_thread/port_stream.ts";
import { PostBox } from "../_thread/post_box.ts";
import { INTEREST, type RingEnd } from "./ring.ts";
import type { Port } from "../_thread/scope.ts";
import { settlesWithin } from "../_base/waiting.ts";
import {
  type Agreement,
  type ControlFields,
  type ControlKind,
  KIND,
  type Wire,
  type WireEvents,
} from "../_wire/wire.ts";

/** Milliseconds that an abort has to leave behind what the far side reads late. */
const LAST_FRAMES_TIMEOUT = 500;

/** Milliseconds that posts of a thread which is gone may still be on their way. */
const LAST_POSTS_TIMEOUT = 100;

/** Milliseconds without a turn of the event loop after which there is one. */
const TURN = 2;

/** Looks at the ring between two looks at the clock. */
const SPIN_LOOKS = 8;

const NOTHING: Transferable[] = [];

/** A word of this thread alone, to sleep on. */
const nobody: Int32Array<SharedArrayBuffer> = new Int32Array(
  new SharedArrayBuffer(4),
);

/** What is at the far end of the rings. */
export interface ShmPeer {
  /** The way beside the rings. */
  readonly port: Port;
  /** What to do about the far side at the end. */
  readonly end: PortEnd;
  /** Why the rings ended, for a call that cannot wait for `end.diagnose`. */
  exitError(cause: unknown, unsent: readonly unknown[]): Error;
}

/** Frames through rings. */
export class ShmWire implements Wire {
  readonly #ring: RingEnd;
  readonly #peer: ShmPeer;
  readonly #options: FrameWireOptions;
  readonly #queue = new FrameQueue();
  readonly #posts = new PostBox();
  #events: WireEvents | undefined;
  #parser: FrameParser | undefined;
  #maxMessage = 0;
  /** What is being written and did not fit into the ring, and how far it has got. */
  #piece: Uint8Array | undefined;
  #position = 0;
  /** How often some of what waited was written. */
  #writes = 0;
  /** Whether a loop waits until the piece fits. */
  #isWriting = false;
  #isStopped = false;
  /** A ring that cannot be trusted is not touched any more. */
  #isBroken = false;
  #waiting: (() => void)[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #turnEnds = 0;
  /** Why the link is lost, once it is. */
  #loss: Error | undefined;

  /**
   * @param ring This side's end of the rings.
   * @param peer What is at the far end.
   * @param options What is checked.
   */
  constructor(ring: RingEnd, peer: ShmPeer, options: FrameWireOptions) {
    this.#ring = ring;
    this.#peer = peer;
    this.#options = options;
  }

  get isFull(): boolean {
    return this.#queue.isFull;
  }

  /** Whether the event loop has had a turn lately, so that this may go on. */
  get isInTurn(): boolean {
    return performance.now() < this.#turnEnds;
  }

  /** Why the link is lost, once it is. */
  get loss(): Error | undefined {
    return this.#loss;
  }

  /** Whether nothing is read any more: the link was lost, or the session has ended. */
  get hasEnded(): boolean {
    return this.#parser?.isStopped ?? false;
  }

  /** Whether the next message was posted and has not come. */
  get awaitsPost(): boolean {
    return this.#parser?.awaitsPost ?? false;
  }

  /** Whether something waits for room in the ring. */
  get isPending(): boolean {
    return this.#piece !== undefined;
  }

  start(events: WireEvents): void {
    this.#events = events;
    this.#parser = new FrameParser(events, this.#options, this.#posts);
    this.#peer.port.listen((message) => {
      if (this.#posts.put(message)) {
        // A receive may have read its frame while the loop went to sleep on the
        // ring, where no post wakes it.
        if (this.awaitsPost) this.poll();
        return;
      }
      if (this.#isStopped) return;
      this.#onError(
        new ProtocolError(
          "Cannot take a post as it holds no message: a worker whose duplex is open must not post messages of its own",
        ),
      );
    });
    this.#readLoop();
  }

  agree(agreement: Agreement): void {
    this.#queue.agree(agreement);
    this.#parser?.agree(agreement.codec);
    this.#maxMessage = agreement.maxMessageBytes;
  }

  message(
    number: number,
    taken: number,
    message: unknown,
    _inFlight: number,
    transfer: readonly Transferable[] = NOTHING,
  ): number {
    if (transfer.length > 0) {
      return this.#post(number, taken, message, transfer);
    }
    let size: number;
    try {
      size = this.#queue.message(number, taken, message);
    } catch (error) {
      if (this.#queue.hasUrgent) this.#push();
      if (!(error instanceof TypeError)) throw error;
      return this.#post(number, taken, message, NOTHING);
    }
    this.#push();
    return size;
  }

  control(kind: ControlKind, fields: ControlFields): void {
    if (this.#isStopped) return;
    const urgent = kind !== KIND.goodbye && this.#piece !== undefined;
    if (this.#queue.control(encodeControl(kind, fields), urgent)) this.#push();
  }

  hold(held: boolean): void {
    this.#peer.end.hold?.(held);
  }

  flushed(): Promise<void> {
    if (this.#piece === undefined) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  diagnose(cause: unknown, unsent: readonly unknown[]): Promise<Error> {
    this.#loss = this.#peer.exitError(cause, unsent);
    this.#stop();
    return this.#peer.end.diagnose(cause, unsent);
  }

  async close(timeout: number, unsent: readonly unknown[]): Promise<void> {
    const flushed = this.#piece === undefined ||
      await settlesWithin(this.flushed(), timeout);
    this.#end();
    if (flushed) return await this.#peer.end.close(timeout, unsent);
    await this.#peer.end.destroy();
    throw new ClosedError(
      `Cannot close a link in good order: the far side did not read what was sent within ${timeout} ms`,
      { unsent },
    );
  }

  async destroy(): Promise<void> {
    this.#stop();
    if (this.#piece !== undefined) {
      await settlesWithin(this.flushed(), LAST_FRAMES_TIMEOUT);
    }
    this.#end();
    await this.#peer.end.destroy();
  }

  /** The far side is gone; what it has written is still read. */
  onPeerGone(): void {
    this.#ring.closePeer();
    if (this.#isStopped) return;
    this.#timer = setTimeout(() => this.#posts.end(), LAST_POSTS_TIMEOUT);
  }

  /**
   * Writes and reads what can be written and read now.
   *
   * @returns Whether something came or left, so that there may be more to do.
   */
  poll(): boolean {
    const parser = this.#parser!;
    if (parser.isStopped) return false;
    const before = this.#writes;
    try {
      if (this.#piece !== undefined) this.#push();
      if (this.#queue.takeDrained()) this.#events!.onDrain();
      if (parser.awaitsPost) {
        parser.resume();
        return !parser.awaitsPost || this.#writes !== before;
      }
      parser.prepare();
      const size = this.#ring.read(parser.into, parser.from, parser.to);
      if (size > 0) {
        parser.advance(size);
        return true;
      }
      if (this.#ring.hasEnded()) this.#onLost(parser.endOfStream());
    } catch (error) {
      this.#onError(toFault(error));
    }
    return this.#writes !== before;
  }

  /**
   * Blocks until {@linkcode ShmWire.poll} has something to do.
   *
   * @returns Whether it has; otherwise the time was up.
   */
  waitSync(timeout: number): boolean {
    if (this.#parser!.isStopped) return true;
    const room = this.#piece === undefined ? 0 : INTEREST.room;
    try {
      return this.#ring.waitSync(INTEREST.bytes | room, timeout);
    } catch (error) {
      this.#onError(error);
      return true;
    }
  }

  #post(
    number: number,
    taken: number,
    message: unknown,
    transfer: readonly Transferable[],
  ): number {
    const { parcel, size } = makeParcel(message, transfer);
    checkSize(size, this.#maxMessage);
    try {
      this.#peer.port.postMessage([number >>> 0, parcel], [...transfer]);
    } catch (cause) {
      throw new TypeError(
        `Cannot send a message to a thread: ${(cause as Error).message}`,
        { cause },
      );
    }
    this.#queue.posted(number, taken, size);
    this.#push();
    return size;
  }

  /** Writes as much of what waits as there is room for. */
  #push(): void {
    if (this.#isBroken) return;
    try {
      if (this.#piece === undefined && this.#pushBatch()) return;
      this.#pushAll();
    } catch (error) {
      // Not inside of the call that sends, which has not accounted for it yet.
      queueMicrotask(() => this.#onError(error));
      this.#isBroken = true;
      this.#loss ??= error as Error;
      this.#drop();
    }
  }

  /** Writes the batch that fills, if that is all; the common case. */
  #pushBatch(): boolean {
    const queue = this.#queue;
    if (!queue.isOnlyBatch || this.#isStopped) return false;
    const { bytes, length } = queue.batch;
    const written = this.#ring.write(bytes, LEAD, length);
    if (written < length - LEAD) {
      this.#piece = queue.next(false);
      this.#position = written;
      return false;
    }
    queue.emptyBatch();
    return true;
  }

  #pushAll(): void {
    for (;;) {
      if (this.#piece === undefined) {
        this.#piece = this.#queue.next(this.#isStopped);
        this.#position = 0;
        if (this.#piece === undefined) return this.#wake();
      }
      const piece = this.#piece;
      const size = this.#ring.write(piece, this.#position, piece.length);
      if (size > 0) this.#writes++;
      this.#position += size;
      if (this.#position < piece.length) break;
      this.#piece = undefined;
      this.#queue.written();
    }
    if (!this.#isWriting) this.#writeLoop();
  }

  /** Writes the rest as room comes. */
  async #writeLoop(): Promise<void> {
    this.#isWriting = true;
    try {
      while (this.#piece !== undefined) {
        if (this.#ring.isClosed()) {
          this.#drop();
          break;
        }
        if (this.isInTurn) await this.#ring.wait(INTEREST.room);
        else await this.#turn();
        this.#push();
        if (this.#queue.takeDrained() && !this.#isStopped) {
          this.#events!.onDrain();
        }
      }
    } catch (error) {
      this.#drop();
      this.#onError(error);
    }
    this.#isWriting = false;
  }

  /** Brings in what comes, and sleeps while there is nothing. Never rejects. */
  async #readLoop(): Promise<void> {
    const parser = this.#parser!;
    while (!parser.isStopped) {
      if (this.poll()) {
        // What came is handled first. Whoever handles it may well be asleep.
        if (this.isInTurn) await undefined;
        else await this.#turn();
        continue;
      }
      if (parser.isStopped) return;
      if (parser.awaitsPost) {
        if (await this.#posts.arrival()) continue;
        return this.#onLost(undefined);
      }
      try {
        if (await this.#spin()) continue;
        await this.#ring.wait(INTEREST.bytes);
      } catch (error) {
        return this.#onError(error);
      }
      this.#turnEnds = performance.now() + TURN;
    }
  }

  /** Looks at the ring again and again for a while, between others' turns. */
  async #spin(): Promise<boolean> {
    const { spin } = this.#ring;
    const end = spin?.begin() ?? 0;
    if (end === 0) return false;
    do {
      for (let look = 0; look < SPIN_LOOKS; look++) {
        if (this.#parser!.isStopped || this.#ring.isReady(INTEREST.bytes)) {
          spin!.end(true);
          return true;
        }
        await undefined;
      }
    } while (performance.now() < end);
    spin!.end(false);
    return false;
  }

  /** Lets the event loop do what waits for it. */
  async #turn(): Promise<void> {
    // The first immediate of a thread costs 5 ms, and each twice of this.
    const sleep = Atomics.waitAsync(nobody, 0, 0);
    Atomics.notify(nobody, 0);
    await sleep.value;
    this.#turnEnds = performance.now() + TURN;
  }

  #onError(error: unknown): void {
    if (this.#isStopped) return;
    this.#parser?.stop();
    if (error instanceof ProtocolError) {
      this.#loss = error;
      this.#events?.onFault(error);
    } else {
      this.#onLost(error);
    }
  }

  #onLost(cause: unknown): void {
    if (this.#isStopped) return;
    this.#parser?.stop();
    this.#events?.onLost(cause);
  }

  /** Hands on nothing more, and writes nothing but what goes first. */
  #stop(): void {
    this.#isStopped = true;
    this.#parser?.stop();
    clearTimeout(this.#timer);
  }

  /** Ends the rings on this side. */
  #end(): void {
    this.#stop();
    this.#drop();
    this.#ring.close();
    this.#posts.end();
  }

  #drop(): void {
    this.#piece = undefined;
    this.#queue.dropUrgent();
    this.#wake();
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }
}
