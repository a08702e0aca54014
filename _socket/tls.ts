// Copyright 2026 the Duplex authors. MIT license.

/**
 * TLS on the acceptor's side, by the engine of `node:tls` over a TCP connection of
 * Deno. `Deno.listenTls` cannot be used: a connection that it has accepted keeps its
 * file open until the peer ends the handshake, even after `close`. Here the file is
 * that of the TCP connection, which `close` frees at once.
 *
 * The engine is used for acceptors only. As a client it trusts a certificate of
 * version 1 by the name of its issuer, without a check of the signature; openers use
 * `Deno.startTls`.
 *
 * @module
 */

import type { Buffer } from "node:buffer";
import type * as Crypto from "node:crypto";
import type * as Stream from "node:stream";
import type * as Tls from "node:tls";
import { INITIAL_BUFFER_SIZE } from "../_wire/frame_layout.ts";
import { type Connection, drain, SystemConnection } from "./connection.ts";
import { checkCertificates, checkKey, checkPair, readPem } from "./pem.ts";
import { reasonText } from "../_base/text.ts";

/** Bytes of the large read buffer: four TLS records. */
const BUFFER_SIZE = 64 * 1024;

/**
 * Number of reads in a row that fill the small buffer, after which the large one is
 * used: two TLS records. An unproven peer is refused before it can send as much.
 */
const FULL_READS = 8;

/**
 * Ticks until a stream has emitted "end": one for buffered data, one for the event,
 * and two in reserve.
 */
const END_TICKS = 4;

const EMPTY = new Uint8Array();

/** The modules of `node:` that TLS needs. */
interface NodeModules {
  readonly process: { nextTick(callback: () => void): void };
  readonly stream: typeof Stream;
  readonly tls: typeof Tls;
}

/** Makes an engine that reads and writes its records through a stream. */
type MakeEngine = (wire: Stream.Duplex) => Tls.TLSSocket;

/**
 * Loads a module of Deno on first use: `node:tls` takes 40 ms. `listenSocket` is
 * synchronous, so `import` cannot be used.
 */
function loadBuiltin(name: string): unknown {
  const { process } = globalThis as unknown as {
    process: { getBuiltinModule(name: string): unknown };
  };
  return process.getBuiltinModule(name);
}

function loadNode(): NodeModules {
  return {
    process: loadBuiltin("node:process") as NodeModules["process"],
    stream: loadBuiltin("node:stream") as typeof Stream,
    tls: loadBuiltin("node:tls") as typeof Tls,
  };
}

/** Waits for the next tick, after the callbacks queued for it. */
function tick({ process }: NodeModules): Promise<void> {
  return new Promise((resolve) => process.nextTick(resolve));
}

/** Wraps the TCP connections of a listener in TLS. */
export class TlsAcceptor {
  readonly #node = loadNode();
  readonly #context: Tls.SecureContext;

  /**
   * @param action The attempted action, for errors.
   * @param cert The certificate in PEM.
   * @param key Its private key in PEM.
   * @throws {Deno.errors.InvalidData} If they cannot be used.
   */
  constructor(action: string, cert: unknown, key: unknown) {
    const pair = {
      cert: readPem(action, "cert", cert),
      key: readPem(action, "key", key),
    };
    checkCertificates(action, "cert", pair.cert);
    checkKey(action, "key", pair.key);
    const crypto = loadBuiltin("node:crypto") as typeof Crypto;
    checkPair(action, pair, crypto);
    try {
      this.#context = this.#node.tls.createSecureContext(pair);
      this.#checkEngine();
    } catch (cause) {
      throw new Deno.errors.InvalidData(
        `${action} as "cert" and "key" cannot be used for TLS: the key must be of RSA with 2048 bits or more, of ECDSA over P-256, P-384 or P-521, or of Ed25519`,
        { cause },
      );
    }
  }

  /** Wraps a connection in TLS. The handshake begins with the first read. */
  wrap(conn: Deno.Conn): TlsConnection {
    return new TlsConnection(conn, this.#node, this.#makeEngine);
  }

  readonly #makeEngine = (wire: Stream.Duplex) => {
    const options = { isServer: true, secureContext: this.#context };
    // The documentation allows a stream in place of a socket, the types do not.
    return new this.#node.tls.TLSSocket(wire as never, options);
  };

  /** Throws if the engine does not support the certificate and the key. */
  #checkEngine(): void {
    const wire = new this.#node.stream.Duplex({ read: () => {} });
    const engine = this.#makeEngine(wire);
    // The error is emitted as well, after `listenSocket` has returned.
    engine.on("error", () => {});
    const { _initError: error } = engine as { _initError?: unknown };
    // This destroys the engine as well, in a later tick. Deno does not free an engine
    // that is destroyed in the tick in which it was made (8 KB each).
    wire.destroy();
    if (error) throw error;
  }
}

/**
 * The first message of a TLS client. The answer must not be given to an engine of
 * `node:tls`, which does not check it as `Deno.startTls` does.
 *
 * @param hostname The name or address of the server.
 */
export async function clientHello(
  hostname: string,
): Promise<Uint8Array<ArrayBuffer>> {
  const { stream, tls } = loadNode();
  const isIp = hostname.includes(":") || /^[\d.]+$/.test(hostname);
  const written = Promise.withResolvers<Uint8Array<ArrayBuffer>>();
  const socket = new stream.Duplex({
    read: () => {},
    write: (bytes: Buffer) => written.resolve(new Uint8Array(bytes)),
  });
  const options = { socket, ...(isIp ? {} : { servername: hostname }) };
  // Older types of Node.js require a socket of the system.
  const engine = tls.connect(options as unknown as Tls.ConnectionOptions);
  engine.on("error", written.reject);
  try {
    return await written.promise;
  } finally {
    engine.destroy();
  }
}

/** A connection in TLS. */
export class TlsConnection implements Connection {
  readonly #conn: SystemConnection;
  readonly #node: NodeModules;
  readonly #makeEngine: MakeEngine;
  /** The stream of the engine's records. */
  #wire: Stream.Duplex | undefined;
  /** Made when the first bytes arrive: a silent peer costs only its file. */
  #engine: Tls.TLSSocket | undefined;
  #input: Uint8Array<ArrayBuffer> = new Uint8Array(INITIAL_BUFFER_SIZE);
  #fullReads = 0;
  /** Decrypted bytes that have not been read. */
  readonly #plain: Uint8Array[] = [];
  #isSecured = false;
  /** Whether the peer has sent its close_notify. */
  #hasEnded = false;
  #failure: { readonly error: unknown } | undefined;
  /** Why writes fail; bytes that have arrived can still be read. */
  #writeFailure: { readonly error: unknown } | undefined;
  /** Reads records for the engine. Never rejects. */
  #feeding: Promise<void> | undefined;
  /** Settles when the state has changed that a read waits for. */
  #progress: PromiseWithResolvers<void> | undefined;
  #writing: PromiseWithResolvers<void> | undefined;
  /** Records of the engine to be written. */
  readonly #records: Uint8Array<ArrayBuffer>[] = [];
  /** Writes them. Never rejects. */
  #sending: Promise<void> | undefined;

  constructor(conn: Deno.Conn, node: NodeModules, makeEngine: MakeEngine) {
    this.#conn = new SystemConnection(conn);
    this.#node = node;
    this.#makeEngine = makeEngine;
  }

  async read(into: Uint8Array<ArrayBuffer>): Promise<number | null> {
    for (;;) {
      if (this.#plain.length > 0) return this.#readPlain(into);
      this.#checkFailure();
      if (this.#hasEnded) return null;
      await this.#awaitProgress();
    }
  }

  async write(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    this.#checkWritable();
    if (!this.#isSecured) {
      // The engine would buffer it until then, and the peer can delay that.
      throw new Deno.errors.NotConnected("The TLS handshake is not done");
    }
    this.#writing = Promise.withResolvers();
    this.#engine!.write(bytes, this.#onWritten);
    await this.#writing.promise;
    await this.#sending;
    this.#checkWritable();
  }

  async shutdown(timeout: number): Promise<boolean> {
    const isDrained = await drain(this, () => this.#closeWrite(), timeout);
    this.close();
    return isDrained;
  }

  setRef(isRef: boolean): void {
    this.#conn.setRef(isRef);
  }

  close(): void {
    this.#conn.close();
    this.#fail(new Deno.errors.Interrupted("The connection was closed"));
  }

  /** Copies decrypted bytes; returns how many. */
  #readPlain(into: Uint8Array): number {
    let filled = 0;
    while (filled < into.length && this.#plain.length > 0) {
      const bytes = this.#plain[0]!;
      const size = Math.min(bytes.length, into.length - filled);
      into.set(bytes.subarray(0, size), filled);
      filled += size;
      if (size === bytes.length) this.#plain.shift();
      else this.#plain[0] = bytes.subarray(size);
    }
    return filled;
  }

  /** Reads records once, and passes them to the engine. */
  async #feed(): Promise<void> {
    try {
      const size = await this.#conn.read(this.#input);
      if (size === null) await this.#onEndOfRecords();
      // The engine copies them before this returns.
      else await this.#receive(this.#input.subarray(0, size));
    } catch (error) {
      this.#fail(error);
    }
    this.#feeding = undefined;
    this.#onProgress();
  }

  async #receive(records: Uint8Array): Promise<void> {
    if (this.#engine === undefined) {
      this.#begin();
      // The engine starts in the next tick. Before that, invalid records would cause
      // an exception that cannot be caught.
      await tick(this.#node);
      if (this.#failure !== undefined) return;
    }
    this.#wire!.emit("data", records);
    if (records.length < this.#input.length) {
      this.#fullReads = 0;
    } else if (++this.#fullReads === FULL_READS) {
      this.#input = new Uint8Array(BUFFER_SIZE);
    }
  }

  /** Handles the end of the TCP connection: an error without a close_notify. */
  async #onEndOfRecords(): Promise<void> {
    for (let count = 0; count < END_TICKS && !this.#hasEnded; count++) {
      await tick(this.#node);
    }
    if (this.#hasEnded) return;
    throw new Deno.errors.UnexpectedEof(
      this.#isSecured
        ? "The peer ended the connection without a TLS close_notify"
        : "The peer ended the connection during the TLS handshake",
    );
  }

  #begin(): void {
    const wire = new this.#node.stream.Duplex({ read: () => {} });
    // The method of the stream would drop the alert that the engine writes after it
    // has destroyed the stream.
    wire.write = this.#send as typeof wire.write;
    wire.on("error", (error) => this.#fail(error));
    const engine = this.#makeEngine(wire);
    engine.on("secure", () => {
      this.#isSecured = true;
    });
    engine.on("data", (bytes: Uint8Array) => {
      this.#plain.push(bytes);
      this.#onProgress();
    });
    engine.on("end", () => {
      this.#hasEnded = true;
      this.#onProgress();
    });
    const onFault = (error: unknown) =>
      this.#fail(
        new Deno.errors.InvalidData(reasonText(error), { cause: error }),
      );
    engine.on("error", onFault);
    // After the handshake the engine reports faults only by this event.
    engine.on("_tlsError", onFault);
    this.#wire = wire;
    this.#engine = engine;
  }

  /** Handles records of the engine, in place of the stream's `write`. */
  readonly #send = (
    records: Uint8Array<ArrayBuffer>,
    onSent: () => void,
  ): boolean => {
    if (this.#writeFailure === undefined) {
      this.#records.push(records);
      this.#sending ??= this.#flush();
    }
    // The engine makes the next records while these are written. The size of a write
    // limits their number.
    onSent();
    return true;
  };

  async #flush(): Promise<void> {
    try {
      for (let records; (records = this.#records.shift()) !== undefined;) {
        await this.#conn.write(records);
      }
    } catch (error) {
      this.#writeFailure = { error };
      this.#records.length = 0;
    }
    this.#sending = undefined;
  }

  readonly #onWritten = (error?: Error | null) => {
    if (error) this.#fail(error);
    else this.#writing?.resolve();
    this.#writing = undefined;
  };

  /** Ends this side with a close_notify. */
  async #closeWrite(): Promise<void> {
    const engine = this.#engine;
    if (engine === undefined || !this.#isSecured || this.#failure) {
      throw new Deno.errors.NotConnected("The TLS handshake is not done");
    }
    await new Promise<void>((resolve) => engine.end(resolve));
    // Deno 2.9.0 writes the close_notify with the next records.
    this.#wire!.emit("data", EMPTY);
    // The engine passes its records on in the next microtask.
    await Promise.resolve();
    await this.#sending;
    this.#checkWritable();
    await this.#conn.closeWrite();
  }

  #awaitProgress(): Promise<void> {
    this.#feeding ??= this.#feed();
    return (this.#progress ??= Promise.withResolvers()).promise;
  }

  #onProgress(): void {
    this.#progress?.resolve();
    this.#progress = undefined;
  }

  #checkFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  #checkWritable(): void {
    this.#checkFailure();
    if (this.#writeFailure !== undefined) throw this.#writeFailure.error;
  }

  #fail(error: unknown): void {
    if (this.#failure !== undefined) return;
    this.#failure = { error };
    this.#writing?.reject(error);
    this.#writing = undefined;
    this.#onProgress();
    this.#engine?.destroy();
  }
}
