// Copyright 2026 the Duplex authors. MIT license.

/**
 * Deno's child processes without this package, for `bench/pipe.ts`:
 * `pipe_deno.ts SCENARIO COUNT WARM [keep]` prints a JSON array. With `keep` each MiB
 * is read into new memory, as that of a message; without, into the same memory.
 *
 * @module
 */

const CHILD = new URL("./pipe_deno_child.ts", import.meta.url);
const MIB = 2 ** 20;
const [scenario, count, warm, how] = Deno.args;
const kept = how === "keep";

/** The bytes of a log line with its frame. */
const LINE_SIZE = 140;
/** The bytes of the read buffer: the capacity of a pipe. */
const READ_SIZE = 64 * 1024;

/** A child, its input and its output. */
class Child implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reader: ReadableStreamBYOBReader;
  #buffer = new Uint8Array(READ_SIZE);

  constructor(...args: string[]) {
    this.#child = new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", "--no-prompt", CHILD.href, ...args],
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    this.#writer = this.#child.stdin.getWriter();
    this.#reader = this.#child.stdout.getReader({ mode: "byob" });
  }

  write(bytes: Uint8Array): Promise<void> {
    return this.#writer.write(bytes);
  }

  /** Reads `total` bytes. */
  async read(total: number): Promise<void> {
    for (let left = total; left > 0;) {
      const { value, done } = await this.#reader.read(this.#buffer);
      if (done) throw new Error("The child ended");
      this.#buffer = new Uint8Array(value.buffer);
      left -= value.length;
    }
  }

  /** Reads `count` times a MiB, each into new memory. */
  async keep(count: number): Promise<void> {
    for (let index = 0; index < count; index++) {
      let message = new Uint8Array(MIB);
      for (let filled = 0; filled < MIB;) {
        const rest = message.subarray(filled);
        const { value, done } = await this.#reader.read(rest);
        if (done) throw new Error("The child ended");
        message = new Uint8Array(value.buffer);
        filled += value.length;
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writer.close();
    await this.#child.status;
    await this.#reader.cancel();
  }
}

async function roundTrip(count: number, warm: number): Promise<number[]> {
  await using child = new Child("echo");
  const line = new Uint8Array(LINE_SIZE).fill(7);
  let start = 0;
  for (let trip = -warm; trip < count; trip++) {
    if (trip === 0) start = performance.now();
    await child.write(line);
    await child.read(LINE_SIZE);
  }
  return [(performance.now() - start) * 1e3 / count];
}

/** `warm` divides `count`: the child confirms every `warm` messages. */
async function bytesOut(count: number, warm: number): Promise<number[]> {
  await using child = new Child(kept ? "keep" : "take", String(warm * MIB));
  const bytes = new Uint8Array(MIB).fill(7);
  for (let index = 0; index < warm; index++) await child.write(bytes);
  await child.read(1);
  const start = performance.now();
  for (let index = 0; index < count; index++) await child.write(bytes);
  await child.read(count / warm);
  return [count * MIB / 1e3 / (performance.now() - start)];
}

/** `warm` divides `count`: the child sends `warm` messages when asked. */
async function bytesIn(count: number, warm: number): Promise<number[]> {
  await using child = new Child("give", String(warm));
  const ask = new Uint8Array(1);
  await child.write(ask);
  await child.read(warm * MIB);
  const start = performance.now();
  await child.write(new Uint8Array(count / warm));
  if (kept) await child.keep(count);
  else await child.read(count * MIB);
  return [count * MIB / 1e3 / (performance.now() - start)];
}

async function opening(count: number, warm: number): Promise<number[]> {
  const samples: number[] = [];
  const hello = new TextEncoder().encode("hello");
  for (let round = 0; round < count + warm; round++) {
    const start = performance.now();
    await using child = new Child("echo");
    await child.write(hello);
    await child.read(hello.length);
    if (round >= warm) samples.push(performance.now() - start);
  }
  return samples;
}

const [times, first] = [Number(count), Number(warm)];
let samples: number[];
if (scenario === "round-trip") samples = await roundTrip(times, first);
else if (scenario === "bytes-out") samples = await bytesOut(times, first);
else if (scenario === "bytes-in") samples = await bytesIn(times, first);
else samples = await opening(times, first);
console.log(JSON.stringify(samples));
