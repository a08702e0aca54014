// Copyright 2026 the Duplex authors. MIT license.

/**
 * The chunks of `bench/streams.ts`, and the methods of its worker.
 *
 * @module
 */

/** A chunk of 64 KiB. */
export const CHUNK = new Uint8Array(64 * 1024).fill(7);

/** A stream of so many chunks. */
export function chunks(count: number): ReadableStream<Uint8Array<ArrayBuffer>> {
  let made = 0;
  return new ReadableStream({
    pull(controller) {
      if (made++ < count) controller.enqueue(CHUNK);
      else controller.close();
    },
  }, { highWaterMark: 0 });
}

/** The bytes of all chunks. */
export async function weighAll(
  all: AsyncIterable<Uint8Array<ArrayBuffer>>,
): Promise<number> {
  let bytes = 0;
  for await (const chunk of all) bytes += chunk.length;
  return bytes;
}

/** The methods. */
export const STREAM_METHODS = {
  read: (body: ReadableStream<Uint8Array<ArrayBuffer>>) => weighAll(body),
  give: (count: number) => ({ body: chunks(count) }),
  async *generate(count: number) {
    for (let made = 0; made < count; made++) yield CHUNK;
  },
  open() {
    let bytes = 0;
    const sink = new WritableStream<Uint8Array<ArrayBuffer>>({
      write(chunk) {
        bytes += chunk.length;
      },
    });
    return { sink, bytes: () => Promise.resolve(bytes) };
  },
};

/** The type of the methods. */
export type StreamMethods = typeof STREAM_METHODS;
