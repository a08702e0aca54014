// Copyright 2026 the Duplex authors. MIT license.

/**
 * The methods with web streams that tests call over every transport.
 *
 * @module
 */

/** A stream of values that counts what was read, and reports how it ended. */
export class Source<T> {
  made = 0;
  readonly #closed = Promise.withResolvers<void>();
  readonly #cancelled = Promise.withResolvers<unknown>();
  readonly stream: ReadableStream<T>;

  /**
   * @param make Makes a value by its index; throws the error of the stream.
   * @param count The number of values.
   */
  constructor(make: (index: number) => T, count = Infinity) {
    this.stream = new ReadableStream<T>({
      pull: (controller) => {
        if (this.made === count) {
          this.#closed.resolve();
          return controller.close();
        }
        controller.enqueue(make(this.made++));
      },
      cancel: this.#cancelled.resolve,
    }, { highWaterMark: 0 });
  }

  /** Settles when the stream has ended, unless it fails. */
  get status(): Promise<"closed" | "cancelled"> {
    return Promise.race([
      this.#closed.promise.then(() => "closed" as const),
      this.cancelled.then(() => "cancelled" as const),
    ]);
  }

  /** Settles with the reason when the stream is cancelled. */
  get cancelled(): Promise<unknown> {
    return this.#cancelled.promise;
  }
}

/** A sink that keeps what was written, and reports how it ended. */
export class Sink<T> {
  readonly chunks: T[] = [];
  isClosed = false;
  readonly #closed = Promise.withResolvers<void>();
  readonly #aborted = Promise.withResolvers<unknown>();
  readonly stream: WritableStream<T>;

  /** @param write Called with each chunk before it is kept. */
  constructor(write: (chunk: T) => unknown = () => {}) {
    this.stream = new WritableStream<T>({
      write: async (chunk) => {
        await write(chunk);
        this.chunks.push(chunk);
      },
      close: () => {
        this.isClosed = true;
        this.#closed.resolve();
      },
      abort: this.#aborted.resolve,
    });
  }

  /** Settles when the stream has ended, unless it fails. */
  get status(): Promise<"closed" | "aborted"> {
    return Promise.race([
      this.#closed.promise.then(() => "closed" as const),
      this.aborted.then(() => "aborted" as const),
    ]);
  }

  /** Settles with the reason when the stream is aborted. */
  get aborted(): Promise<unknown> {
    return this.#aborted.promise;
  }
}

/** A chunk of bytes, each with the value of its index. */
export function bytes(index: number, size = 1000): Uint8Array<ArrayBuffer> {
  return new Uint8Array(size).fill(index);
}

let sink = new Sink<unknown>();

/** The methods. */
export const STREAM_ACTS = {
  pid: () => Deno.pid,
  count: (to: number) => ({
    name: "count",
    body: new Source((index) => index, to).stream,
  }),
  bytes: (count: number, size: number) => ({
    body: new Source((index) => bytes(index, size), count).stream,
  }),
  endless: (size: number) => ({
    body: new Source((index) => bytes(index, size)).stream,
  }),
  collect: (body: ReadableStream<unknown>) => Array.fromAsync(body),
  async sum({ parts }: { parts: Map<string, ReadableStream<number>> }) {
    let sum = 0;
    for (const part of parts.values()) {
      for await (const number of part) sum += number;
    }
    return sum;
  },
  double() {
    const { readable, writable } = new TransformStream<number, number>({
      transform: (number, controller) => controller.enqueue(number * 2),
    });
    return { readable, writable };
  },
  open() {
    sink = new Sink();
    return { sink: sink.stream };
  },
  written: () => ({ chunks: sink.chunks, isClosed: sink.isClosed }),
  aborted: () => sink.aborted,
  async exit({ body }: { body: ReadableStream<unknown> }) {
    for await (const _ of body) Deno.exit(1);
  },
  async fill(writable: WritableStream<unknown>, count: number) {
    const writer = writable.getWriter();
    for (let index = 0; index < count; index++) {
      await writer.write(bytes(index));
    }
    await writer.close();
  },
};
