// Copyright 2026 the Duplex authors. MIT license.

/**
 * Web streams among arguments and results. The end that sends one locks it and
 * gives it a number. The peer makes a stream of its own, which calls the number
 * when it is first used:
 *
 * - The call of a readable is answered with its chunks.
 * - The call of a writable has the number of the chunks that are written as its
 *   argument. The callee calls that number, and answers when the writable is closed.
 *
 * So requests, errors and cancellation are those of calls whose result is a stream.
 *
 * @module
 */

import { ClosedError } from "../_base/errors.ts";
import { type CallLimits, NO_LIMITS, WEB_STREAM_LIMITS } from "./caller.ts";
import { type ChunkReader, ReadableSource, WriteSource } from "./chunks.ts";
import type { ChunkSource } from "./stream.ts";

/** A stream that this end has sent, or the chunks of one. */
export interface SentStream {
  /** Handles the call of the peer. It is called once at most. */
  run(args: unknown[]): unknown;
  /** The peer does not use the stream. */
  release(reason: unknown): void;
}

/** The end that streams belong to. */
export interface StreamEnd {
  /** Gives a number to a stream, which the peer may call once. */
  offer(stream: SentStream): number;
  /** Takes the number back, if the peer has not called it. */
  withdraw(id: number): void;
  /** Calls a number of the peer, which thereby ends. */
  callOnce(id: number, args: unknown[], limits: CallLimits): Promise<unknown>;
  /** The peer's number will not be called. */
  release(id: number): void;
}

/** Why a stream ends that was sent and is not used. */
function unused(): DOMException {
  return new DOMException("The stream was not used by the peer", "AbortError");
}

/** A stream of this end that was sent. */
export class SentReadable implements SentStream {
  readonly #reader: ReadableStreamDefaultReader<unknown>;

  constructor(stream: ReadableStream<unknown>) {
    this.#reader = stream.getReader();
  }

  run(): ChunkSource {
    return new ReadableSource(this.#reader);
  }

  release(reason: unknown): void {
    // An error of the source has no receiver.
    this.#reader.cancel(reason).catch(() => {});
  }

  /** Unlocks the stream: it was not sent after all. */
  restore(): void {
    this.#reader.releaseLock();
  }
}

/** A writable of this end that was sent. */
export class SentWritable implements SentStream {
  readonly #end: StreamEnd;
  readonly #writer: WritableStreamDefaultWriter<unknown>;

  constructor(stream: WritableStream<unknown>, end: StreamEnd) {
    this.#end = end;
    this.#writer = stream.getWriter();
  }

  run([id]: unknown[]): Promise<void> {
    return writeAll(
      this.#end.callOnce(id as number, [], WEB_STREAM_LIMITS) as Promise<
        ChunkReader
      >,
      this.#writer,
    );
  }

  release(reason: unknown): void {
    // An error of the sink has no receiver.
    this.#writer.abort(reason).catch(() => {});
  }

  /** Unlocks the stream: it was not sent after all. */
  restore(): void {
    this.#writer.releaseLock();
  }
}

/**
 * Writes chunks of the peer to a writable of this end, and closes it. Rejects with
 * the error of the writable; if the peer fails, the writable is aborted.
 */
async function writeAll(
  opening: Promise<ChunkReader>,
  writer: WritableStreamDefaultWriter<unknown>,
): Promise<void> {
  let failure: { readonly error: unknown } | undefined;
  let aborted: Promise<void> | undefined;
  const abort = (error: unknown) => {
    aborted ??= writer.abort(error);
    aborted.catch(() => {});
  };
  const closed = writer.closed.catch((error) => failure = { error });
  // Each chunk that fails rejects `closed` as well.
  const ignore = () => {};
  let chunks: ChunkReader;
  try {
    chunks = await opening;
  } catch (error) {
    abort(error);
    return await aborted;
  }
  chunks.onFailure = abort;
  closed.then(() => failure && chunks.cancel(failure.error));
  try {
    for (;;) {
      await writer.ready;
      const { value, done } = await chunks.next();
      if (done) break;
      writer.write(value).catch(ignore);
    }
    if (failure === undefined) await writer.close();
  } catch (error) {
    if (aborted === undefined) failure ??= { error };
  }
  if (aborted !== undefined) return await aborted;
  if (failure !== undefined) throw failure.error;
}

/** The use of a stream of the peer; it does not keep the stream in memory. */
interface Use {
  /** The program has dropped the stream. */
  drop(reason: unknown): void;
}

/** Releases streams that the program has dropped. */
const dropped = new FinalizationRegistry<Use>((use) => use.drop(unused()));

/** The use of a readable of the peer. */
class ReadableUse implements Use, UnderlyingDefaultSource<unknown> {
  readonly #end: StreamEnd;
  readonly #id: number;
  #opening: Promise<void> | undefined;
  #chunks: ChunkReader | undefined;

  constructor(end: StreamEnd, id: number) {
    this.#end = end;
    this.#id = id;
  }

  pull(
    controller: ReadableStreamDefaultController<unknown>,
  ): Promise<void> | void {
    if (this.#chunks === undefined) {
      return this.#open().then(() => this.pull(controller));
    }
    const result = this.#chunks.next();
    if (!(result instanceof Promise)) return deliver(controller, result);
    return result.then((result) => deliver(controller, result));
  }

  async cancel(reason: unknown): Promise<void> {
    try {
      // A call that is cancelled might not be begun, which would keep the stream.
      await this.#open();
    } catch {
      // The stream has ended with its duplex.
    }
    this.#chunks?.cancel(reason);
  }

  drop(reason: unknown): void {
    if (this.#opening === undefined) this.#end.release(this.#id);
    else this.cancel(reason);
  }

  #open(): Promise<void> {
    return this.#opening ??= this.#end.callOnce(this.#id, [], WEB_STREAM_LIMITS)
      .then((chunks) => {
        this.#chunks = chunks as ChunkReader;
      });
  }
}

function deliver(
  controller: ReadableStreamDefaultController<unknown>,
  { value, done }: IteratorResult<unknown>,
): void {
  if (done) controller.close();
  else controller.enqueue(value);
}

/** A stream with the chunks of a readable of the peer. */
export function remoteReadable(
  end: StreamEnd,
  id: number,
): ReadableStream<unknown> {
  const use = new ReadableUse(end, id);
  // The chunks ahead are those of the use.
  const stream = new ReadableStream(use, { highWaterMark: 0 });
  dropped.register(stream, use);
  return stream;
}

/** The use of a writable of the peer. */
class WritableUse implements Use, UnderlyingSink<unknown> {
  readonly #end: StreamEnd;
  readonly #id: number;
  readonly #source: WriteSource;
  /** The answer to the call. */
  #answer: Promise<unknown> | undefined;
  #controller: WeakRef<WritableStreamDefaultController> | undefined;

  constructor(end: StreamEnd, id: number) {
    this.#end = end;
    this.#id = id;
    this.#source = new WriteSource((reason) => this.#fail(reason));
  }

  start(controller: WritableStreamDefaultController): void {
    this.#controller = new WeakRef(controller);
    const { signal } = controller;
    // `abort` is called only after a chunk that waits was written.
    signal.addEventListener("abort", () => this.#source.fail(signal.reason));
  }

  write(chunk: unknown): Promise<void> {
    this.#open();
    return this.#source.write(chunk);
  }

  async close(): Promise<void> {
    const answer = this.#open();
    this.#source.close();
    await answer;
  }

  async abort(): Promise<void> {
    await this.#open();
  }

  drop(reason: unknown): void {
    if (this.#answer === undefined) this.#end.release(this.#id);
    else this.#source.fail(reason);
  }

  /** Calls the writable; returns its answer. */
  #open(): Promise<unknown> {
    if (this.#answer === undefined) {
      this.#answer = this.#call();
      // `#fail` has reported it.
      this.#answer.catch(() => {});
    }
    return this.#answer;
  }

  async #call(): Promise<void> {
    const source = this.#source;
    const id = this.#end.offer({
      run: () => source.open(),
      release: (reason) => source.cancel(reason),
    });
    try {
      await this.#end.callOnce(this.#id, [id], NO_LIMITS);
      this.#fail(
        new ClosedError("Cannot write: the peer has closed the stream"),
      );
    } catch (error) {
      this.#fail(error);
      throw error;
    } finally {
      this.#end.withdraw(id);
    }
  }

  /** Fails the stream, unless it is closed. */
  #fail(error: unknown): void {
    this.#source.stop(error);
    this.#controller?.deref()?.error(error);
  }
}

/** A stream whose chunks are written to a writable of the peer. */
export function remoteWritable(
  end: StreamEnd,
  id: number,
): WritableStream<unknown> {
  const use = new WritableUse(end, id);
  const stream = new WritableStream(use);
  dropped.register(stream, use);
  return stream;
}
