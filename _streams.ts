// Copyright 2026 the Duplex authors. MIT license.

/**
 * Web streams over a duplex, for programs that pipe: adapters over `send` and
 * `receive` that keep their waiting, never under them.
 *
 * @module
 */

import type { Duplex } from "./duplex.ts";

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
