// Copyright 2026 the Duplex authors. MIT license.

/**
 * Loops and web streams over a duplex: adapters over `send` and
 * `receive` that keep their waiting, never under them.
 *
 * @module
 */

import type { Duplex } from "../duplex.ts";

/**
 * The messages of a duplex in a loop. `isEnd` says whether a receive that
 * rejects is the end and no failure.
 */
export function iteratorOf<In>(
  duplex: Duplex<In, never>,
  isEnd: () => boolean,
): AsyncIterableIterator<In> {
  const wrap = (value: In): IteratorResult<In> => ({ value, done: false });
  const end = (error: unknown): IteratorResult<In> => {
    if (isEnd()) return { value: undefined, done: true };
    throw error;
  };
  const iterator: AsyncIterableIterator<In> = {
    next: () => {
      const result = duplex.tryReceive();
      // What has arrived needs no second promise.
      return result.state === "ok"
        ? Promise.resolve({ value: result.value, done: false })
        : duplex.receive().then(wrap, end);
    },
    return: () => Promise.resolve({ value: undefined, done: true }),
    [Symbol.asyncIterator]: () => iterator,
  };
  return iterator;
}

/** The messages of a duplex as a stream that reads nothing ahead. */
export function readableOf<In>(
  duplex: Duplex<In, never>,
): ReadableStream<In> {
  const messages = duplex[Symbol.asyncIterator]();
  return new ReadableStream<In>({
    async pull(controller) {
      const { value, done } = await messages.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
    cancel(reason) {
      duplex.abort(reason);
    },
  }, { highWaterMark: 0 });
}

/** A stream whose chunks are sent; `end` says goodbye when it closes. */
export function writableOf<Out>(
  duplex: Duplex<unknown, Out>,
  end: () => Promise<void>,
): WritableStream<Out> {
  return new WritableStream<Out>({
    start(controller) {
      // A pipe that has nothing to write learns of the failure as well.
      duplex.closed.catch((error) => controller.error(error));
    },
    write: (chunk) => duplex.send(chunk),
    close: end,
    abort(reason) {
      duplex.abort(reason);
    },
  });
}
