// Copyright 2026 the Duplex authors. MIT license.

/**
 * The options of `openSocket` and `listenSocket`, and their checks.
 *
 * @module
 */

import { type SessionOptions, sessionOptions } from "../_session/options.ts";
import {
  checkKind,
  checkNumber,
  checkPositive,
  DEFAULT_OPEN_TIMEOUT,
} from "../_base/options.ts";
import type { SocketAddress } from "../_base/address.ts";
import { readCaCerts } from "./pem.ts";
import { MIN_REPLAY_SIZE } from "./stream.ts";
import { TlsAcceptor } from "./tls.ts";
import { show } from "../_base/text.ts";
import type { DuplexOptions } from "../duplex.ts";

/** Options for resuming a session whose connection is lost. */
export interface ResumeOptions {
  /**
   * Milliseconds after which a session without a connection fails.
   *
   * @default {30000}
   */
  timeout?: number;
  /**
   * Maximum number of bytes kept for each session on this side until the peer has
   * acknowledged them; at least 524288. `send` waits while the buffer is full.
   *
   * @default {4194304}
   */
  replayBytes?: number;
  /**
   * Milliseconds before the first attempt to reconnect.
   *
   * @default {100}
   */
  minDelay?: number;
  /**
   * Maximum number of milliseconds between two attempts.
   *
   * @default {5000}
   */
  maxDelay?: number;
  /**
   * Factor by which the delay grows with each attempt.
   *
   * @default {2}
   */
  multiplier?: number;
  /**
   * Random fraction subtracted from each delay, 0 to 1.
   *
   * @default {1}
   */
  jitter?: number;
}

/** Options for {@linkcode openSocket}. */
export interface SocketOptions extends DuplexOptions {
  /**
   * A key that both sides hold. Each side proves that it has the key, by an HMAC
   * over values that only this connection has; the key is never sent. Use at least
   * 16 random bytes; a short secret can be brute-forced from a recorded handshake.
   * It authenticates, it does not encrypt: use TLS on a network.
   * `secret: undefined` throws; omit the option instead.
   *
   * @default {no secret}
   */
  secret?: string | Uint8Array;
  /**
   * Milliseconds between heartbeats; the smaller value of both sides applies. A
   * peer that sends nothing for three heartbeats counts as dead: with the default,
   * after 15 to 20 seconds. A peer sends nothing while its event loop is blocked, or
   * its process is stopped with Ctrl+Z: it then finds that the connection was lost.
   * Less than 50 counts as 50; `Infinity` on both sides disables heartbeats.
   *
   * @default {5000}
   */
  heartbeat?: number;
  /**
   * Sends a checksum with all data, so that changed, repeated or reordered bytes
   * are an error. Applies if either side sets it. TCP detects such faults between
   * two machines, but not inside a proxy or a tunnel between them.
   *
   * @default {false}
   */
  checksum?: boolean;
  /**
   * Milliseconds to connect and to complete the handshake. `Infinity` sets no
   * limit.
   *
   * @default {10000}
   */
  openTimeout?: number;
  /**
   * Reconnects when the connection is lost and continues the session: what the peer
   * has not received is sent again, so every message arrives once and in order.
   * `close` waits until the peer has acknowledged the last message. The delays
   * between attempts grow as those of `retry` in `@std/async`. The listener must
   * allow it, as it does by default.
   *
   * @default {false}
   */
  resume?: boolean | ResumeOptions;
  /**
   * Compresses data that becomes smaller by it, if the listener allows it. Useful
   * on slow networks; on fast ones it reduces the throughput.
   *
   * @default {false}
   */
  compression?: boolean;
  /**
   * Certificates in PEM that are trusted in addition to the system's, for `tls:`.
   * Each string must hold at least one certificate.
   *
   * @default {[]}
   */
  caCerts?: readonly string[];
  /** Cancels the opening, which then rejects with the signal's reason. */
  signal?: AbortSignal;
}

/** Options for {@linkcode listenSocket}. */
export interface ListenOptions extends
  DuplexOptions,
  Pick<
    SocketOptions,
    "secret" | "heartbeat" | "checksum" | "openTimeout"
  > {
  /**
   * Allows openers to resume a session whose connection is lost. `timeout` limits
   * how long a session is kept without a connection, `replayBytes` its buffer.
   *
   * @default {true}
   */
  resume?: boolean | Pick<ResumeOptions, "timeout" | "replayBytes">;
  /**
   * Allows compression if the opener requests it.
   *
   * @default {true}
   */
  compression?: boolean;
  /**
   * Maximum number of peers at a time, including sessions that wait for their peer
   * to reconnect. Further peers are refused. The system's limit on open files
   * applies as well.
   *
   * @default {1024}
   */
  maxPeers?: number;
  /**
   * Limit on connections that have not authenticated, over TLS also those whose
   * handshake is not done. When it is reached, the oldest one older than 250 ms is
   * closed, so that idle connections cannot lock others out; more than 4 ×
   * `maxPending` new ones per second can. The same happens when the process has no
   * open file left for another connection.
   *
   * @default {256}
   */
  maxPending?: number;
  /**
   * Allows listening without a `secret` on an address that other machines can
   * reach: every program that can connect becomes a peer.
   *
   * @default {false}
   */
  allowUnauthenticated?: boolean;
  /** The certificate chain in PEM, the own certificate first, for `tls:`. */
  cert?: string;
  /** The certificate's private key in PEM, not encrypted, for `tls:`. */
  key?: string;
  /**
   * Called with the error of a connection that was closed before its hello, and with
   * the error of a failed accept, only once until the next connection is accepted. The
   * listener continues in both cases. Exceptions are ignored.
   *
   * @default {no callback}
   */
  onError?: (error: unknown, remoteAddress: string) => void;
}

/** The properties of a connection that this side offers. */
export interface HandshakeOffer {
  readonly secret: Uint8Array<ArrayBuffer> | undefined;
  /** Milliseconds between heartbeats; none if it is longer than a timer. */
  readonly heartbeat: number;
  readonly checksum: boolean;
  /** An acceptor compresses if the opener requests it and this allows it. */
  readonly compression: boolean;
  /** Whether to resume the session when the connection is lost. */
  readonly resume: boolean;
}

/** The server to connect to, and the options of a connection. */
export interface Target {
  readonly address: SocketAddress;
  readonly offer: HandshakeOffer;
  /** Certificates in PEM that are trusted in addition to the system's. */
  readonly caCerts: readonly string[];
  /** Milliseconds for one attempt. */
  readonly timeout: number;
}

/** The delays between attempts to reconnect, as in `retry` of `@std/async`. */
export interface Backoff {
  /** Milliseconds after which the session fails. */
  readonly timeout: number;
  readonly minDelay: number;
  readonly maxDelay: number;
  readonly multiplier: number;
  readonly jitter: number;
}

/** The options of an opener, checked and complete. */
export interface OpenerOptions {
  readonly limits: SessionOptions;
  readonly target: Target;
  readonly backoff: Backoff;
  readonly replayBytes: number;
}

/** The options of a listener, checked and complete. */
export interface ListenerOptions {
  readonly offer: HandshakeOffer;
  readonly limits: SessionOptions;
  /** The TLS of a `tls` address. */
  readonly tls: TlsAcceptor | undefined;
  /** Milliseconds for a peer to complete the handshake. */
  readonly timeout: number;
  readonly maxPeers: number;
  readonly maxPending: number;
  readonly allowUnauthenticated: boolean;
  /** Milliseconds for which a session without a connection is kept. */
  readonly resumeTimeout: number;
  readonly replayBytes: number;
  readonly onError: (error: unknown, remote: string) => void;
}

/** Three heartbeats are longer than most programs block their event loop. */
const DEFAULT_HEARTBEAT = 5_000;
/** Longer than a restart of a router, or a change of the Wi-Fi. */
const DEFAULT_RESUME_TIMEOUT = 30_000;
/** As large as the default window, so that it does not slow a sender. */
const DEFAULT_REPLAY_SIZE = 4 * 1024 * 1024;
/** Each peer takes an open file, of which a process often has 1024. */
const DEFAULT_MAX_PEERS = 1024;
/** More than connect at once in practice; an unproven connection costs little. */
const DEFAULT_MAX_PENDING = 256;
/** Short enough not to be noticed if only the connection was lost. */
const DEFAULT_MIN_DELAY = 100;
/** A listener that is available again is found within this time. */
const DEFAULT_MAX_DELAY = 5_000;
/** As in `retry` of `@std/async`. */
const DEFAULT_MULTIPLIER = 2;
const DEFAULT_JITTER = 1;

/** Checks and completes the options of `openSocket`. */
export function openerOptions(
  action: string,
  address: SocketAddress,
  options: SocketOptions,
): OpenerOptions {
  const {
    resume = false,
    caCerts = [],
    openTimeout: timeout = DEFAULT_OPEN_TIMEOUT,
  } = options;
  const limits = sessionOptions(action, "opener", options);
  const chosen = readResume(action, resume);
  const offer = readOffer(action, options, false, chosen !== undefined);
  checkPositive(action, "openTimeout", timeout);
  checkOnlyTls(action, address, { caCerts: options.caCerts });
  return {
    limits,
    target: { address, offer, caCerts: readCaCerts(action, caCerts), timeout },
    backoff: readBackoff(action, chosen ?? {}),
    replayBytes: readReplayBytes(action, chosen?.replayBytes),
  };
}

/** Checks and completes the options of `listenSocket`. */
export function listenerOptions(
  action: string,
  address: SocketAddress,
  options: ListenOptions,
): ListenerOptions {
  const {
    openTimeout: timeout = DEFAULT_OPEN_TIMEOUT,
    maxPeers = DEFAULT_MAX_PEERS,
    maxPending = DEFAULT_MAX_PENDING,
    allowUnauthenticated = false,
    onError = () => {},
  } = options;
  const limits = sessionOptions(action, "acceptor", options);
  const chosen = readResume(action, options.resume ?? true);
  const resumeTimeout = chosen?.timeout ?? DEFAULT_RESUME_TIMEOUT;
  const offer = readOffer(action, options, true, chosen !== undefined);
  checkPositive(action, "openTimeout", timeout);
  checkPositive(action, "resume.timeout", resumeTimeout);
  for (const [name, value] of Object.entries({ maxPeers, maxPending })) {
    checkPositive(action, name, value, { integer: value !== Infinity });
  }
  checkKind(action, "allowUnauthenticated", allowUnauthenticated, "boolean");
  checkKind(action, "onError", onError, "function");
  return {
    offer,
    limits,
    tls: readTls(action, address, options),
    timeout,
    maxPeers,
    maxPending,
    allowUnauthenticated,
    resumeTimeout,
    replayBytes: readReplayBytes(action, chosen?.replayBytes),
    onError,
  };
}

function readOffer(
  action: string,
  options: SocketOptions | ListenOptions,
  compresses: boolean,
  resume: boolean,
): HandshakeOffer {
  const {
    heartbeat = DEFAULT_HEARTBEAT,
    checksum = false,
    compression = compresses,
  } = options;
  checkPositive(action, "heartbeat", heartbeat);
  checkKind(action, "checksum", checksum, "boolean");
  checkKind(action, "compression", compression, "boolean");
  const secret = readSecret(action, options);
  return { secret, heartbeat, checksum, compression, resume };
}

/** The options for resuming a session, `undefined` if it cannot be resumed. */
function readResume(
  action: string,
  resume: unknown,
): ResumeOptions | undefined {
  if (resume === false) return undefined;
  if (resume === true) return {};
  if (typeof resume === "object" && resume !== null) return resume;
  throw new TypeError(
    `${action} as "resume" must be a boolean or an object: current value is ${
      show(resume)
    }`,
  );
}

/** The TLS of a listener on a `tls` address. */
function readTls(
  action: string,
  address: SocketAddress,
  { cert, key }: ListenOptions,
): TlsAcceptor | undefined {
  checkOnlyTls(action, address, { cert, key });
  if (address.kind !== "tls") return undefined;
  if (cert === undefined || key === undefined) {
    throw new TypeError(
      `${action} as a "tls" address needs "cert" and "key", both in PEM`,
    );
  }
  return new TlsAcceptor(action, cert, key);
}

function readSecret(
  action: string,
  options: SocketOptions | ListenOptions,
): Uint8Array<ArrayBuffer> | undefined {
  if (!("secret" in options)) return undefined;
  const { secret } = options;
  if (typeof secret !== "string" && !(secret instanceof Uint8Array)) {
    // The value is not shown: it may be the secret in another form.
    throw new TypeError(
      `${action} as "secret" must be a string or a Uint8Array: it is ${
        secret === undefined ? "undefined" : `of type ${typeof secret}`
      }; check the variable that it comes from, or omit the option for no secret`,
    );
  }
  const bytes = typeof secret === "string"
    ? new TextEncoder().encode(secret)
    : secret.slice();
  if (bytes.length > 0) return bytes;
  throw new RangeError(
    `${action} as "secret" is empty: omit the option for no secret`,
  );
}

function readBackoff(action: string, options: ResumeOptions): Backoff {
  const {
    timeout = DEFAULT_RESUME_TIMEOUT,
    minDelay = DEFAULT_MIN_DELAY,
    maxDelay = DEFAULT_MAX_DELAY,
    multiplier = DEFAULT_MULTIPLIER,
    jitter = DEFAULT_JITTER,
  } = options;
  for (
    const [name, value] of Object.entries({ timeout, minDelay, maxDelay })
  ) checkPositive(action, `resume.${name}`, value);
  if (minDelay > maxDelay) {
    throw new RangeError(
      `${action} as "resume.minDelay" must be at most "resume.maxDelay": current values are ${minDelay} and ${maxDelay}`,
    );
  }
  checkNumber(action, "resume.multiplier", multiplier, { min: 1 });
  checkNumber(action, "resume.jitter", jitter, { min: 0, max: 1 });
  return { timeout, minDelay, maxDelay, multiplier, jitter };
}

function readReplayBytes(
  action: string,
  replayBytes: number = DEFAULT_REPLAY_SIZE,
): number {
  const range = { min: MIN_REPLAY_SIZE, integer: true };
  checkNumber(action, "resume.replayBytes", replayBytes, range);
  return replayBytes;
}

/** Throws if options for TLS are given with another kind of address. */
function checkOnlyTls(
  action: string,
  { kind }: SocketAddress,
  options: Record<string, unknown>,
): void {
  if (kind === "tls") return;
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined) continue;
    throw new TypeError(
      `${action} as "${name}" is for "tls" addresses: this one is "${kind}"`,
    );
  }
}
