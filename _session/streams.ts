// Copyright 2026 the Duplex authors. MIT license.

/**
 * Iteration and web streams over a duplex, made of `send` and `receive`, so that
 * they wait as these do.
 *
 * @module
 */

import type { Duplex } from "../duplex.ts";

/**
 * Iterates the messages of a duplex.
 *
 * @param isEnd Whether a receive that rejects means the end and not a failure.
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
      // One promise is enough for a message that has arrived.
      return result.state === "ok"
        ? Promise.resolve({ value: result.value, done: false })
        : duplex.receive().then(wrap, end);
    },
    return: () => Promise.resolve({ value: undefined, done: true }),
    [Symbol.asyncIterator]: () => iterator,
  };
  return iterator;
}

/** The messages of a duplex as a stream that does not read ahead. */
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

/** A stream whose chunks are sent; `end` sends the goodbye when it closes. */
export function writableOf<Out>(
  duplex: Duplex<unknown, Out>,
  end: () => Promise<void>,
): WritableStream<Out> {
  return new WritableStream<Out>({
    start(controller) {
      // A source that writes nothing must see the failure as well.
      duplex.closed.catch((error) => controller.error(error));
    },
    write: (chunk) => duplex.send(chunk),
    close: end,
    abort(reason) {
      duplex.abort(reason);
    },
  });
}
