// Copyright 2026 the Duplex authors. MIT license.

/**
 * A proxy between an opener and a listener that does to a connection what a bad
 * network, a bad proxy and an attacker do: cuts it, delays, repeats, reorders and
 * changes what passes. It counts bytes, so that a fault happens at a given byte
 * and not at a given time.
 *
 * @module
 */

/** Bytes that are read at a time. */
const CHUNK_SIZE = 64 * 1024;

/** One direction of a connection: "up" goes from the opener to the listener. */
export type Direction = "up" | "down";

/** What is done to what passes in one direction. */
export interface Faults {
  /** Bytes that pass; with the last of them both sides are cut off. */
  cutAfter?: number;
  /**
   * Gives what passes in place of a chunk.
   *
   * @param chunk What was read.
   * @param position Bytes that were read before it.
   */
  alter?: (chunk: Bytes, position: number) => Bytes[];
  /** Puts off what passes until it settles. */
  delay?: () => Promise<void>;
}

/** What is done to one connection. */
export type Plan = Partial<Record<Direction, Faults>>;

type Bytes = Uint8Array<ArrayBuffer>;

/** One connection through a proxy. */
export class Passage {
  readonly #plan: Plan;
  readonly #ends: Deno.Conn[] = [];
  /** Bytes that were let through. */
  readonly passed: Record<Direction, number> = { up: 0, down: 0 };
  /** Settles when nothing passes any more. */
  readonly ended: Promise<void>;
  #isCut = false;

  constructor(opener: Deno.Conn, target: Deno.ConnectOptions, plan: Plan) {
    this.#plan = plan;
    this.#ends.push(opener);
    this.ended = this.#run(opener, target);
  }

  /** Closes both sides; what is under way in the proxy is lost. */
  cut(): void {
    this.#isCut = true;
    for (const end of this.#ends.splice(0)) end.close();
  }

  async #run(opener: Deno.Conn, target: Deno.ConnectOptions): Promise<void> {
    const listener = await Deno.connect(target).catch(() => undefined);
    if (listener === undefined || this.#isCut) {
      listener?.close();
      return this.cut();
    }
    this.#ends.push(listener);
    await Promise.all([
      this.#pass(opener, listener, "up"),
      this.#pass(listener, opener, "down"),
    ]);
    // Both have ended their half.
    for (const end of this.#ends.splice(0)) end.close();
  }

  /** Passes on what one side says until it ends, or an end is gone. */
  async #pass(from: Deno.Conn, to: Deno.Conn, way: Direction): Promise<void> {
    const { cutAfter = Infinity, alter, delay } = this.#plan[way] ?? {};
    const buffer = new Uint8Array(CHUNK_SIZE);
    try {
      if (cutAfter === 0) return this.cut();
      for (let position = 0;;) {
        const size = await from.read(buffer);
        if (size === null) return await to.closeWrite();
        const chunk = buffer.slice(0, size);
        const chunks = alter === undefined ? [chunk] : alter(chunk, position);
        position += size;
        await delay?.();
        for (const bytes of chunks) {
          const part = bytes.subarray(0, cutAfter - this.passed[way]);
          await writeAll(to, part);
          this.passed[way] += part.length;
          if (this.passed[way] >= cutAfter) return this.cut();
        }
      }
    } catch {
      // One end is gone, so the other one goes.
      for (const end of this.#ends.splice(0)) end.close();
    }
  }
}

/** Passes connections on to a listener, with faults. */
export class Proxy implements AsyncDisposable {
  readonly #listener: Deno.Listener;
  readonly #target: Deno.ConnectOptions;
  readonly #plan: (index: number) => Plan;
  readonly #running: Promise<void>;
  /** Every connection so far. */
  readonly passages: Passage[] = [];
  /** Where openers connect to. */
  readonly address: string;

  /**
   * @param target The listener's address, `tcp:` or `unix:`.
   * @param plan What to do to each connection, counted from 0.
   * @param path Where the proxy listens, if its target is a Unix socket.
   */
  constructor(
    target: string,
    plan: (index: number) => Plan = () => ({}),
    path: string = "",
  ) {
    this.#plan = plan;
    if (target.startsWith("unix:")) {
      const at = target.slice("unix:".length);
      this.#target = { transport: "unix", path: at } as never;
      this.#listener = Deno.listen({ transport: "unix", path });
      this.address = `unix:${path}`;
    } else {
      const { hostname, port } = new URL(target);
      this.#target = { hostname, port: Number(port) };
      const listener = Deno.listen({ hostname, port: 0 });
      this.#listener = listener;
      this.address = `tcp://${hostname}:${listener.addr.port}`;
    }
    this.#running = this.#run();
  }

  async #run(): Promise<void> {
    try {
      for await (const conn of this.#listener) {
        if ("setNoDelay" in conn) (conn as Deno.TcpConn).setNoDelay(true);
        const plan = this.#plan(this.passages.length);
        this.passages.push(new Passage(conn, this.#target, plan));
      }
    } catch {
      // It was closed while a connection was being accepted.
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    await this.#running;
    for (const passage of this.passages) passage.cut();
    await Promise.all(this.passages.map(({ ended }) => ended));
  }
}

/** Writes all of `bytes`. */
export async function writeAll(
  conn: Deno.Conn,
  bytes: Uint8Array,
): Promise<void> {
  for (let start = 0; start < bytes.length;) {
    start += await conn.write(bytes.subarray(start));
  }
}

/** What happens to pieces of a stream: given with odds, drawn with `draw`. */
export interface Mischief {
  /** The odds that a piece is repeated. */
  repeat?: number;
  /** The odds that a piece comes behind the next one. */
  reorder?: number;
  /** The odds that a bit of a piece is flipped. */
  flip?: number;
  /** Whether it happens now. */
  isOn(): boolean;
}

/** Plays mischief with pieces as they come. */
export function mischief(
  draw: () => number,
  { repeat = 0, reorder = 0, flip = 0, isOn }: Mischief,
): (piece: Bytes) => Bytes[] {
  let held: Bytes | undefined;
  return (piece) => {
    const pieces = [piece];
    if (held !== undefined) pieces.push(held);
    held = undefined;
    if (!isOn()) return pieces;
    if (draw() < flip) {
      piece[Math.floor(draw() * piece.length)]! ^= 1 << Math.floor(draw() * 8);
    }
    if (draw() < repeat) pieces.unshift(piece);
    if (pieces.length === 1 && draw() < reorder) {
      held = piece;
      return [];
    }
    return pieces;
  };
}

/** Counts the frames of a kind that pass in each direction. */
export function countFrames(
  kind: number,
): { readonly counts: Record<Direction, number>; readonly plan: Plan } {
  const counts = { up: 0, down: 0 };
  const count = (way: Direction) => ({
    alter: frameByFrame((frame) => {
      if (frame[4] === kind) counts[way]++;
      return [frame];
    }),
  });
  return { counts, plan: { up: count("up"), down: count("down") } };
}

/** Has whole frames altered, in place of the chunks that they come in. */
export function frameByFrame(
  alter: (frame: Bytes, index: number) => Bytes[],
): (chunk: Bytes) => Bytes[] {
  let rest: Bytes = new Uint8Array();
  let index = 0;
  return (chunk) => {
    const bytes = new Uint8Array(rest.length + chunk.length);
    bytes.set(rest);
    bytes.set(chunk, rest.length);
    const view = new DataView(bytes.buffer);
    const frames: Bytes[] = [];
    let start = 0;
    while (bytes.length - start >= 4) {
      const end = start + 4 + view.getUint32(start);
      if (end > bytes.length) break;
      frames.push(...alter(bytes.slice(start, end), index++));
      start = end;
    }
    rest = bytes.slice(start);
    return frames;
  };
}
