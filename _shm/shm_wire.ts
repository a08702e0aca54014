// Copyright 2026 the Duplex authors. MIT license.

/**
 * Frames through rings in shared memory. What is sent is written into the ring at
 * once, as far as there is room. What arrives is read by a loop that sleeps while
 * there is nothing, or by a blocking call, whichever is first. What bytes cannot
 * carry is posted next to the rings.
 *
 * A thread that reads many messages without a pause still runs its event loop
 * every few milliseconds.
 *
 * @module
 */

import { ClosedError, ProtocolError, toFault } from "../_base/errors.ts";
import {
  abortFrame,
  creditFrame,
  goodbyeFrame,
  helloFrame,
  stallFrame,
} from "../_wire/control_frames.ts";
import { FrameDecoder } from "../_wire/frame_decoder.ts";
import { FrameEncoder, LEAD } from "../_wire/frame_encoder.ts";
import type { PortEnd } from "../_thread/port_stream.ts";
import { foreignPost, PostBox, postMessage } from "../_thread/post_box.ts";
import { whileWatching } from "../_thread/watch.ts";
import { INTEREST, type RingEnd } from "./ring.ts";
import type { Port } from "../_thread/scope.ts";
import { nextTurn, settlesWithin } from "../_base/waiting.ts";
import type { FlowCounts, OwnHello, Wire, WireEvents } from "../_wire/wire.ts";

/** Milliseconds for an abort to be written behind what the peer reads late. */
const LAST_FRAMES_TIMEOUT = 500;

/** Milliseconds for which posts of a thread that is gone may still arrive. */
const LAST_POSTS_TIMEOUT = 100;

/** Milliseconds after which the event loop must run. */
const MAX_BUSY_TIME = 2;

/** Checks of the ring between two readings of the clock. */
const SPIN_LOOKS = 8;

/**
 * Milliseconds after which a blocked thread has the peer watched: starting the watcher
 * takes 15 ms of a core, and few answers take as long.
 */
const WATCH_DELAY = 1_000;

/** The thread at the other end of the rings. */
export interface ShmPeer {
  /** For messages that are posted separately from the rings. */
  readonly port: Port;
  /** How the thread ends. */
  readonly end: PortEnd;
  /** As `end.diagnose`, for a call that cannot wait for it. */
  exitError(cause: unknown, unsent: readonly unknown[]): Error;
  /**
   * The Web Lock of the thread, if it may end while this thread is blocked. A worker
   * ends with the thread that started it.
   */
  lock?(): string | undefined;
}

/** The result of a blocking wait. */
export type Blocked = "ready" | "timeout" | "deadlock";

/** A {@linkcode Wire} through rings. */
export class ShmWire implements Wire {
  readonly #ring: RingEnd;
  readonly #peer: ShmPeer;
  readonly #posts = new PostBox();
  #events!: WireEvents;
  #flow!: FlowCounts;
  #encoder!: FrameEncoder;
  #decoder: FrameDecoder | undefined;
  /** The bytes being written that did not fit into the ring, and how many were written. */
  #piece: Uint8Array | undefined;
  #position = 0;
  /** How often a part of what waited was written. */
  #writes = 0;
  /** Whether a loop waits until the piece fits. */
  #isWriting = false;
  #isStopped = false;
  /** Whether the ring holds impossible values; it is not used any more then. */
  #isBroken = false;
  #flushers: (() => void)[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #turnEnds = 0;
  #loss: Error | undefined;

  /**
   * @param ring This side's end of the rings.
   * @param peer The thread at the other end.
   */
  constructor(ring: RingEnd, peer: ShmPeer) {
    this.#ring = ring;
    this.#peer = peer;
  }

  get isFull(): boolean {
    return this.#encoder.isFull;
  }

  /** Whether the event loop has run lately, so that a call need not yield to it. */
  get isInTurn(): boolean {
    return performance.now() < this.#turnEnds;
  }

  /** Why the link was lost, once it was. */
  get loss(): Error | undefined {
    return this.#loss;
  }

  /** Whether nothing is read any more: the link was lost, or the session has ended. */
  get hasEnded(): boolean {
    return this.#decoder?.isStopped ?? false;
  }

  /** Whether the next message was posted and has not arrived. */
  get awaitsPost(): boolean {
    return this.#decoder?.awaitsPost ?? false;
  }

  /** Whether something waits for room in the ring. */
  get isPending(): boolean {
    return this.#piece !== undefined;
  }

  start(events: WireEvents, hello: OwnHello): void {
    this.#events = events;
    this.#flow = events.flow;
    const encoder = new FrameEncoder(events.flow);
    this.#encoder = encoder;
    const posts = this.#posts;
    this.#decoder = new FrameDecoder({
      events,
      hello,
      encoder,
      options: {},
      posts,
    });
    this.#peer.port.listen((message) => {
      if (posts.put(message)) {
        // A receive may have read its frame while the loop was about to sleep on
        // the ring, where a post does not wake it.
        if (this.awaitsPost) this.poll();
      } else if (!this.#isStopped) {
        this.#onError(foreignPost());
      }
    });
    this.#readLoop();
    this.#control(helloFrame(hello));
  }

  message(message: unknown, transfer?: readonly Transferable[]): number {
    if (transfer !== undefined && transfer.length > 0) {
      return this.#post(message, transfer);
    }
    let size: number;
    try {
      size = this.#encoder.message(message);
    } catch (error) {
      if (this.#encoder.hasPending) this.#push();
      if (!(error instanceof TypeError)) throw error;
      return this.#post(message);
    }
    this.#push();
    return size;
  }

  #post(message: unknown, transfer?: readonly Transferable[]): number {
    const { port } = this.#peer;
    const size = postMessage(port, this.#encoder, message, transfer);
    this.#push();
    return size;
  }

  credit(): void {
    this.#control(creditFrame(this.#flow));
  }

  stall(isAnswer: boolean): void {
    this.#control(stallFrame(this.#flow, isAnswer));
  }

  goodbye(): void {
    this.#control(goodbyeFrame(this.#flow), false);
  }

  abort(reason: unknown): void {
    this.#control(abortFrame(reason, this.#encoder.codec));
  }

  #control(frame: Uint8Array<ArrayBuffer>, mayOvertake = true): void {
    if (this.#isStopped) return;
    const isWriting = this.#piece !== undefined;
    if (this.#encoder.control(frame, mayOvertake, isWriting)) this.#push();
  }

  flushed(): Promise<void> {
    if (this.#piece === undefined) return Promise.resolve();
    return new Promise((resolve) => this.#flushers.push(resolve));
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
      `Cannot close a link cleanly: the peer did not read what was sent within ${timeout} ms`,
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

  /** Must be called when the peer is gone. What it has written is still read. */
  onPeerGone(): void {
    this.#ring.closePeer();
    if (this.#isStopped) return;
    this.#timer = setTimeout(() => this.#posts.end(), LAST_POSTS_TIMEOUT);
  }

  /**
   * Writes and reads what can be written and read now.
   *
   * @returns Whether something was written or read, so that there may be more.
   */
  poll(): boolean {
    const decoder = this.#decoder!;
    if (decoder.isStopped) return false;
    const before = this.#writes;
    try {
      if (this.#piece !== undefined) this.#push();
      if (this.#encoder.takeDrained()) this.#events.onDrain();
      if (decoder.awaitsPost) {
        decoder.resume();
        return !decoder.awaitsPost || this.#writes !== before;
      }
      decoder.prepare();
      const size = this.#ring.read(decoder.into, decoder.from, decoder.to);
      if (size > 0) {
        decoder.advance(size);
        return true;
      }
      if (this.#ring.hasEnded()) this.#onLost(decoder.endOfStream());
    } catch (error) {
      this.#onError(toFault(error));
    }
    return this.#writes !== before;
  }

  /**
   * Blocks until {@linkcode ShmWire.poll} has something to do.
   *
   * @param timeout Milliseconds to wait at most.
   * @param isPeerAwaited Whether only the peer can end the wait, and its result is
   *   "deadlock" if the peer waits for this side as well.
   */
  waitSync(timeout: number, isPeerAwaited = false): Blocked {
    if (this.#decoder!.isStopped) return "ready";
    const room = this.#piece === undefined ? 0 : INTEREST.room;
    const interest = INTEREST.bytes | room;
    try {
      if (this.#ring.isReadySoon(interest)) return "ready";
      return isPeerAwaited
        ? this.#sleepForPeer(interest, timeout)
        : this.#sleep(interest, timeout);
    } catch (error) {
      this.#onError(error);
      return "ready";
    }
  }

  #sleepForPeer(interest: number, timeout: number): Blocked {
    try {
      const isDeadlock = this.#ring.block(timeout !== Infinity);
      if (isDeadlock && this.#piece === undefined) return "deadlock";
      return this.#sleep(interest, timeout);
    } finally {
      this.#ring.unblock();
    }
  }

  #sleep(interest: number, timeout: number): Blocked {
    const ring = this.#ring;
    const lock = this.#peer.lock?.();
    const first = lock === undefined ? timeout : Math.min(timeout, WATCH_DELAY);
    if (ring.sleepSync(interest, first)) return "ready";
    const rest = timeout - first;
    if (lock === undefined || !(rest > 0)) return "timeout";
    const isReady = whileWatching(
      lock,
      ring.closing,
      () => ring.sleepSync(interest, rest),
    );
    return isReady ? "ready" : "timeout";
  }

  /** Writes as much of what waits as there is room for. */
  #push(): void {
    if (this.#isBroken) return;
    try {
      if (this.#piece === undefined && this.#pushBatch()) return;
      this.#pushAll();
    } catch (error) {
      // Not inside of the call that sends, which has not counted its message yet.
      queueMicrotask(() => this.#onError(error));
      this.#isBroken = true;
      this.#loss ??= error as Error;
      this.#drop();
    }
  }

  /** Writes the batch that fills, if nothing else waits, as is usual. */
  #pushBatch(): boolean {
    const encoder = this.#encoder;
    if (!encoder.isOnlyBatch || this.#isStopped) return false;
    const { bytes, length } = encoder.batch;
    const written = this.#ring.write(bytes, LEAD, length);
    if (written < length - LEAD) {
      this.#piece = encoder.next(false);
      this.#position = written;
      return false;
    }
    encoder.emptyBatch();
    return true;
  }

  #pushAll(): void {
    for (;;) {
      if (this.#piece === undefined) {
        this.#piece = this.#encoder.next(this.#isStopped);
        this.#position = 0;
        if (this.#piece === undefined) return this.#onFlushed();
      }
      const piece = this.#piece;
      const size = this.#ring.write(piece, this.#position, piece.length);
      if (size > 0) this.#writes++;
      this.#position += size;
      if (this.#position < piece.length) break;
      this.#piece = undefined;
      this.#encoder.written();
    }
    if (!this.#isWriting) this.#writeLoop();
  }

  /** Writes the rest when there is room. */
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
        if (this.#encoder.takeDrained() && !this.#isStopped) {
          this.#events.onDrain();
        }
      }
    } catch (error) {
      this.#drop();
      this.#onError(error);
    }
    this.#isWriting = false;
  }

  /** Reads what arrives, and sleeps while there is nothing. Never rejects. */
  async #readLoop(): Promise<void> {
    const decoder = this.#decoder!;
    while (!decoder.isStopped) {
      if (this.poll()) {
        // The promises of receivers run before the next read.
        if (this.isInTurn) await undefined;
        else await this.#turn();
        continue;
      }
      if (decoder.isStopped) return;
      if (decoder.awaitsPost) {
        if (await this.#posts.arrival()) continue;
        return this.#onLost(undefined);
      }
      try {
        if (await this.#spin()) continue;
        await this.#ring.wait(INTEREST.bytes);
      } catch (error) {
        return this.#onError(error);
      }
      this.#turnEnds = performance.now() + MAX_BUSY_TIME;
    }
  }

  /** Checks the ring for a while; promises of other tasks run in between. */
  async #spin(): Promise<boolean> {
    const { spin } = this.#ring;
    const end = spin?.begin() ?? 0;
    if (end === 0) return false;
    do {
      for (let look = 0; look < SPIN_LOOKS; look++) {
        if (this.#decoder!.isStopped || this.#ring.isReady(INTEREST.bytes)) {
          spin!.end(true);
          return true;
        }
        await undefined;
      }
    } while (performance.now() < end);
    spin!.end(false);
    return false;
  }

  /** Waits for one turn of the event loop. */
  async #turn(): Promise<void> {
    await nextTurn();
    this.#turnEnds = performance.now() + MAX_BUSY_TIME;
  }

  #onError(error: unknown): void {
    if (this.#isStopped) return;
    this.#decoder?.stop();
    if (error instanceof ProtocolError) {
      this.#loss = error;
      this.#events.onFault(error);
    } else {
      this.#onLost(error);
    }
  }

  #onLost(cause: unknown): void {
    if (this.#isStopped) return;
    this.#decoder?.stop();
    this.#events.onLost(cause);
  }

  /** Stops reading, and writing all but urgent control frames. */
  #stop(): void {
    this.#isStopped = true;
    this.#decoder?.stop();
    // The first use of a timer costs a thread 4 ms.
    if (this.#timer !== undefined) clearTimeout(this.#timer);
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
    this.#encoder.dropUrgent();
    this.#onFlushed();
  }

  #onFlushed(): void {
    const flushers = this.#flushers;
    this.#flushers = [];
    for (const resolve of flushers) resolve();
  }
}
