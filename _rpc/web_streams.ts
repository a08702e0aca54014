// Copyright 2026 the Duplex authors. MIT license.

/**
 * Web streams among arguments and results. The end that sends one locks it and
 * gives it a number, as to a function. The peer makes a stream of its own, which
 * calls the number when it is first used:
 *
 * - The call of a readable is answered with its chunks.
 * - The call of a writable has a number as its argument. The callee calls it, reads
 *   the chunks that are written, and answers when the writable is closed.
 *
 * So requests, errors and cancellation are those of calls whose result is a stream.
 *
 * @module
 */

import { ClosedError } from "../_base/errors.ts";
import { type ChunkReader, ReadableSource, WriteSource } from "./chunks.ts";

/** The end that streams belong to. */
export interface StreamEnd {
  /** Reads the chunks of a stream of the peer. */
  read(id: unknown): Promise<ChunkReader>;
  /** Lets a stream of the peer read chunks of this end; settles when it has ended. */
  write(id: number, chunks: SentStream): Promise<void>;
  /** A stream of the peer was used. */
  release(id: number): void;
}

/** A stream of this end that the peer can use once. */
export abstract class SentStream {
  /** The stream. */
  readonly stream: unknown;
  #isUsed = false;

  constructor(stream: unknown) {
    this.stream = stream;
  }

  /** Whether the peer has used it, or will not. */
  get isUsed(): boolean {
    return this.#isUsed;
  }

  /** Handles the call of the peer. */
  use(id: unknown): unknown {
    if (this.#isUsed) {
      throw new TypeError("Cannot use the stream: it was used before");
    }
    this.#isUsed = true;
    return this.run(id);
  }

  /** The peer will not use it, unless it has. */
  release(reason: unknown): void {
    if (this.#isUsed) return;
    this.#isUsed = true;
    this.end(reason);
  }

  protected abstract run(id: unknown): unknown;

  /** Ends a stream that was not used. */
  protected abstract end(reason: unknown): void;

  /** Unlocks the stream: it was not sent after all. */
  restore(): void {}
}

/** Why a stream ends that was sent and is not used. */
export function unused(): DOMException {
  return new DOMException("The stream is not used by the peer", "AbortError");
}

function lockedError(kind: string): TypeError {
  return new TypeError(
    `Cannot send a stream: the ${kind} is locked; release its lock, or send another one`,
  );
}

/** A readable of this end. */
export class SentReadable extends SentStream {
  readonly #reader: ReadableStreamDefaultReader<unknown>;

  constructor(stream: ReadableStream<unknown>) {
    super(stream);
    if (stream.locked) throw lockedError("ReadableStream");
    this.#reader = stream.getReader();
  }

  protected override run(): ReadableSource {
    return new ReadableSource(this.#reader);
  }

  protected override end(reason: unknown): void {
    // An error of the source has no receiver.
    this.#reader.cancel(reason).catch(() => {});
  }

  override restore(): void {
    this.#reader.releaseLock();
  }
}

/** A writable of this end. */
export class SentWritable extends SentStream {
  readonly #end: StreamEnd;
  readonly #writer: WritableStreamDefaultWriter<unknown>;

  constructor(stream: WritableStream<unknown>, end: StreamEnd) {
    super(stream);
    this.#end = end;
    if (stream.locked) throw lockedError("WritableStream");
    this.#writer = stream.getWriter();
    // Its error is reported to the peer.
    this.#writer.closed.catch(() => {});
  }

  protected override run(id: unknown): Promise<void> {
    return writeAll(this.#end.read(id), this.#writer);
  }

  protected override end(reason: unknown): void {
    // An error of the sink has no receiver.
    this.#writer.abort(reason).catch(() => {});
  }

  override restore(): void {
    this.#writer.releaseLock();
  }
}

/** The chunks that this end writes to a writable of the peer. */
class SentChunks extends SentStream {
  readonly #source: WriteSource;

  constructor(source: WriteSource) {
    super(source);
    this.#source = source;
  }

  protected override run(): WriteSource {
    return this.#source.open();
  }

  protected override end(reason: unknown): void {
    this.#source.cancel(reason);
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
  chunks.onFailure(abort);
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

/** Ends streams that are used and that the program has dropped. */
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
    if (this.#opening !== undefined) this.cancel(reason);
  }

  #open(): Promise<void> {
    return this.#opening ??= this.#read();
  }

  async #read(): Promise<void> {
    try {
      this.#chunks = await this.#end.read(this.#id);
    } finally {
      this.#end.release(this.#id);
    }
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
  #answer: Promise<void> | undefined;
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
    if (this.#answer !== undefined) this.#source.fail(reason);
  }

  /** Calls the writable; returns its answer. */
  #open(): Promise<void> {
    if (this.#answer === undefined) {
      this.#answer = this.#call();
      // `#fail` has reported it.
      this.#answer.catch(() => {});
    }
    return this.#answer;
  }

  async #call(): Promise<void> {
    try {
      await this.#end.write(this.#id, new SentChunks(this.#source));
      this.#fail(
        new ClosedError("Cannot write: the peer has closed the stream"),
      );
    } catch (error) {
      this.#fail(error);
      throw error;
    } finally {
      this.#end.release(this.#id);
    }
  }

  /** Fails the stream, unless it is closed. */
  #fail(error: unknown): void {
    this.#source.fail(error);
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
