// Copyright 2026 the Duplex authors. MIT license.

/**
 * The child of `pipe_deno.ts`: bare standard streams, no frames, no values.
 *
 * @module
 */

const [role, size] = Deno.args;
const MIB = 2 ** 20;
const buffer = new Uint8Array(64 * 1024);

function writeAll(bytes: Uint8Array): void {
  for (let start = 0; start < bytes.length;) {
    start += Deno.stdout.writeSync(bytes.subarray(start));
  }
}

/** Counts bytes; sends "k" after every `total` bytes. */
async function take(total: number): Promise<void> {
  const done = new TextEncoder().encode("k");
  let seen = 0;
  for (;;) {
    const read = await Deno.stdin.read(buffer);
    if (read === null) return;
    seen += read;
    if (seen < total) continue;
    seen -= total;
    writeAll(done);
  }
}

/** The same, with new memory for every MiB, as that of a message. */
async function keep(total: number): Promise<void> {
  const done = new TextEncoder().encode("k");
  for (;;) {
    for (let seen = 0; seen < total; seen += MIB) {
      const message = new Uint8Array(MIB);
      for (let filled = 0; filled < MIB;) {
        const read = await Deno.stdin.read(message.subarray(filled));
        if (read === null) return;
        filled += read;
      }
    }
    writeAll(done);
  }
}

/** Sends `count` times a MiB for every byte that arrives. */
async function give(count: number): Promise<void> {
  const bytes = new Uint8Array(MIB).fill(7);
  while (await Deno.stdin.read(buffer.subarray(0, 1)) !== null) {
    for (let index = 0; index < count; index++) writeAll(bytes);
  }
}

async function echo(): Promise<void> {
  for (;;) {
    const read = await Deno.stdin.read(buffer);
    if (read === null) return;
    writeAll(buffer.subarray(0, read));
  }
}

if (role === "take") await take(Number(size));
else if (role === "keep") await keep(Number(size));
else if (role === "give") await give(Number(size));
else await echo();
