// Copyright 2026 the Duplex authors. MIT license.

/**
 * A fast use of Deno's sockets: the length of a message in four bytes, then a value as
 * JSON, or a byte array.
 *
 * @module
 */

/** The default size of the buffers in bytes. */
const BUFFER_SIZE = 64 * 1024;
/** The bytes of the length before each message. */
const HEADER_SIZE = 4;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

type Bytes = Uint8Array<ArrayBuffer>;

/** A connection to an address such as "tcp://127.0.0.1:4000" or "unix:/tmp/x". */
export async function connect(address: string): Promise<Deno.Conn> {
  if (address.startsWith("unix:")) {
    const path = address.slice("unix:".length);
    return await Deno.connect({ transport: "unix", path });
  }
  const { hostname, port } = new URL(address);
  const conn = await Deno.connect({ hostname, port: Number(port) });
  conn.setNoDelay();
  return conn;
}

/** A listener, its address, and a function that accepts a connection. */
export function bind(address: string): {
  listener: Disposable;
  address: string;
  accept: () => Promise<Deno.Conn>;
} {
  if (address.startsWith("unix:")) {
    const path = address.slice("unix:".length);
    const listener = Deno.listen({ transport: "unix", path });
    return { listener, address, accept: () => listener.accept() };
  }
  const { hostname, port } = new URL(address);
  const listener = Deno.listen({ hostname, port: Number(port) });
  return {
    listener,
    address: `tcp://${hostname}:${listener.addr.port}`,
    async accept() {
      const conn = await listener.accept();
      conn.setNoDelay();
      return conn;
    },
  };
}

/** Messages over a connection. */
export class Frames implements Disposable {
  readonly #conn: Deno.Conn;
  readonly #size: number;
  #buffer: Bytes;
  #view: DataView;
  #start = 0;
  #end = 0;
  #batch: Bytes | undefined;

  /**
   * @param conn The connection.
   * @param size The bytes of the buffers: for reading, which grows for larger
   *   messages, and for writing several messages together.
   */
  constructor(conn: Deno.Conn, size = BUFFER_SIZE) {
    this.#conn = conn;
    this.#size = size;
    this.#buffer = new Uint8Array(size);
    this.#view = new DataView(this.#buffer.buffer);
  }

  /** The next message if it has arrived, without a promise. */
  next(): unknown {
    const length = this.#length();
    if (length === undefined) return undefined;
    const start = this.#start + HEADER_SIZE;
    const end = start + length;
    if (end > this.#end) return undefined;
    this.#start = end;
    return JSON.parse(decoder.decode(this.#buffer.subarray(start, end)));
  }

  /** Waits for more bytes; `false` at the end. */
  async fill(): Promise<boolean> {
    if (this.#start > 0) {
      this.#buffer.copyWithin(0, this.#start, this.#end);
      this.#end -= this.#start;
      this.#start = 0;
    }
    if (this.#end === this.#buffer.length) {
      const larger = new Uint8Array(this.#buffer.length * 2);
      larger.set(this.#buffer);
      this.#buffer = larger;
      this.#view = new DataView(larger.buffer);
    }
    const read = await this.#conn.read(this.#buffer.subarray(this.#end));
    if (read === null) return false;
    this.#end += read;
    return true;
  }

  /** The next message; `undefined` at the end. */
  async receive(): Promise<unknown> {
    for (;;) {
      const message = this.next();
      if (message !== undefined) return message;
      if (!await this.fill()) return undefined;
    }
  }

  /** The next byte array, in new memory. */
  async receiveBytes(): Promise<Bytes> {
    let length = this.#length();
    while (length === undefined) {
      if (!await this.fill()) throw new Error("The peer ended");
      length = this.#length();
    }
    const start = this.#start + HEADER_SIZE;
    const end = Math.min(start + length, this.#end);
    const message = new Uint8Array(length);
    message.set(this.#buffer.subarray(start, end));
    this.#start = end;
    for (let filled = end - start; filled < length;) {
      const read = await this.#conn.read(message.subarray(filled));
      if (read === null) throw new Error("The peer ended");
      filled += read;
    }
    return message;
  }

  async send(message: unknown): Promise<void> {
    await this.#write(this.#room().subarray(0, this.#encode(message, 0)));
  }

  /** Sends messages in turn, as many in a write as the buffer holds. */
  async sendAll(
    count: number,
    messageOf: (index: number) => unknown,
  ): Promise<void> {
    let filled = 0;
    for (let index = 0; index < count; index++) {
      filled = this.#encode(messageOf(index), filled);
      // No message is larger than a quarter of the buffer.
      if (filled < this.#size * 3 / 4) continue;
      await this.#write(this.#room().subarray(0, filled));
      filled = 0;
    }
    if (filled > 0) await this.#write(this.#room().subarray(0, filled));
  }

  async sendBytes(bytes: Uint8Array): Promise<void> {
    const header = new Uint8Array(HEADER_SIZE);
    new DataView(header.buffer).setUint32(0, bytes.length);
    await this.#write(header);
    await this.#write(bytes);
  }

  [Symbol.dispose](): void {
    this.#conn.close();
  }

  #length(): number | undefined {
    if (this.#end - this.#start < HEADER_SIZE) return undefined;
    return this.#view.getUint32(this.#start);
  }

  #room(): Bytes {
    return this.#batch ??= new Uint8Array(this.#size);
  }

  /** @returns The end of the message. */
  #encode(message: unknown, start: number): number {
    const room = this.#room();
    const from = start + HEADER_SIZE;
    const text = JSON.stringify(message);
    const { written } = encoder.encodeInto(text, room.subarray(from));
    room[start] = written >>> 24;
    room[start + 1] = written >>> 16;
    room[start + 2] = written >>> 8;
    room[start + 3] = written;
    return from + written;
  }

  async #write(bytes: Uint8Array): Promise<void> {
    for (let start = 0; start < bytes.length;) {
      start += await this.#conn.write(bytes.subarray(start));
    }
  }
}
