// Copyright 2026 the Duplex authors. MIT license.

/**
 * The greetings of a socket by hand, for peers that break their rules on purpose.
 * Nothing in here comes from the package.
 *
 * @module
 */

import { decode, encode, type ValueMap } from "@std/msgpack";
import { writeAll } from "./_proxy.ts";
import { concat, control, frame, uint32 } from "../workers/_wire.ts";

/** The kinds of frame that only sockets have. */
export const LINK = { ping: 8, greeting: 12, ready: 13 } as const;

export const MAGIC: Uint8Array = new Uint8Array([
  0x89,
  ...new TextEncoder().encode("DUPLEX"),
]);

/** A greeting in good order, but for what is given. */
export function greeting(fields: ValueMap = {}): Uint8Array<ArrayBuffer> {
  const map = encode({
    version: 1,
    nonce: crypto.getRandomValues(new Uint8Array(32)),
    secret: false,
    heartbeat: 0,
    checksum: false,
    compression: false,
    resume: false,
    ...fields,
  });
  return concat(frame(LINK.greeting, MAGIC, map));
}

/** A ready, with its proof. */
export async function ready(
  role: "opener" | "acceptor",
  greetings: Uint8Array[],
  secret: string = "",
  received: number = 0,
): Promise<Uint8Array> {
  const text = new TextEncoder();
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const key = await crypto.subtle.importKey(
    "raw",
    await crypto.subtle.digest("SHA-256", text.encode(secret)),
    algorithm,
    false,
    ["sign"],
  );
  const label = text.encode(`@duplex/ipc 1 ${role}\0`);
  const data = concat(label, uint32(0, received), ...greetings);
  const proof = new Uint8Array(await crypto.subtle.sign("HMAC", key, data));
  return control(LINK.ready, { received, proof });
}

/** A connection read frame by frame. */
export class RawPeer implements Disposable {
  readonly conn: Deno.Conn;

  constructor(conn: Deno.Conn) {
    this.conn = conn;
  }

  /** Connects to a listener on TCP. */
  static async connect(address: string): Promise<RawPeer> {
    const { hostname, port } = new URL(address);
    return new RawPeer(await Deno.connect({ hostname, port: Number(port) }));
  }

  /**
   * Greets a listener in good order.
   *
   * @param secret What it holds, if anything.
   * @param fields Additional fields of its greeting.
   * @param received Bytes that it says it has received.
   * @returns What the listener's greeting says.
   */
  async greet(
    secret?: string,
    fields: ValueMap = {},
    received: number = 0,
  ): Promise<ValueMap> {
    const own = greeting({ secret: secret !== undefined, ...fields });
    await this.write(own);
    const theirs = await this.frame();
    await this.write(await ready("opener", [own, theirs!], secret, received));
    await this.frame();
    return decode(theirs!.slice(5 + MAGIC.length)) as ValueMap;
  }

  write(...frames: Uint8Array[]): Promise<void> {
    return writeAll(this.conn, concat(...frames));
  }

  /** The next whole frame, `null` at the end. */
  async frame(): Promise<Uint8Array | null> {
    const head = await this.#exactly(4);
    if (head === null) return null;
    const rest = await this.#exactly(new DataView(head.buffer).getUint32(0));
    return rest && concat(head, rest);
  }

  /** Waits for the end of the connection; returns what came before. */
  async untilEnd(): Promise<Uint8Array> {
    const parts: Uint8Array[] = [];
    const buffer = new Uint8Array(64 * 1024);
    try {
      for (let size; (size = await this.conn.read(buffer)) !== null;) {
        parts.push(buffer.slice(0, size));
      }
    } catch (error) {
      if (!(error instanceof Deno.errors.ConnectionReset)) throw error;
    }
    return concat(...parts);
  }

  /** Reads that it is refused and why, and the end. */
  async refusal(): Promise<ValueMap> {
    const bytes = await this.untilEnd();
    let start = 0;
    const view = new DataView(bytes.buffer);
    while (start < bytes.length && bytes[start + 4] !== 10) {
      start += 4 + view.getUint32(start);
    }
    if (start >= bytes.length) throw new Error("There is no refusal");
    return decode(bytes.slice(start + 5)) as ValueMap;
  }

  async #exactly(size: number): Promise<Uint8Array<ArrayBuffer> | null> {
    const bytes = new Uint8Array(size);
    for (let filled = 0; filled < size;) {
      const count = await this.conn.read(bytes.subarray(filled));
      if (count === null) return null;
      filled += count;
    }
    return bytes;
  }

  [Symbol.dispose](): void {
    try {
      this.conn.close();
    } catch {
      // It was closed already.
    }
  }
}
