// Copyright 2026 the Duplex authors. MIT license.

/**
 * The options of `openSocket` and `listenSocket`, checked and made complete.
 *
 * @module
 */

import { type SessionOptions, sessionOptions } from "../_session/options.ts";
import { checkPositive } from "../_base/options.ts";
import {
  formatAddress,
  isLocal,
  type SocketAddress,
} from "../_base/address.ts";
import type { Backoff, Target } from "./dial.ts";
import type { HandshakeOffer } from "./handshake.ts";
import { inContext, unauthenticated } from "./errors.ts";
import { MIN_REPLAY_SIZE } from "./link.ts";
import { readCaCerts } from "./pem.ts";
import { TlsAcceptor } from "./tls.ts";
import { show } from "../_base/text.ts";
import type { DuplexOptions } from "../duplex.ts";

/** How a session goes on when its connection is lost. */
export interface ResumeOptions {
  /**
   * Milliseconds after which a lost connection is given up.
   *
   * @default {30000}
   */
  timeout?: number;
  /**
   * Bytes that are kept at most, on this side and for each session, until the far
   * side has acknowledged them; at least 524288. A sender waits when there are as
   * many.
   *
   * @default {4194304}
   */
  replaySize?: number;
  /**
   * Milliseconds before the first attempt to connect again.
   *
   * @default {100}
   */
  minTimeout?: number;
  /**
   * The most milliseconds between two attempts.
   *
   * @default {5000}
   */
  maxTimeout?: number;
  /**
   * By what the time between two attempts grows.
   *
   * @default {2}
   */
  multiplier?: number;
  /**
   * How much of that time is left to chance, from 0 to 1.
   *
   * @default {1}
   */
  jitter?: number;
}

/** Options for {@linkcode openSocket}. */
export interface SocketOptions extends DuplexOptions {
  /**
   * A key that both sides hold. Each proves it to the other, by an HMAC over
   * what only this connection has, before anything else is read; the key itself
   * is never sent. Use at least 16 random bytes: who hears a proof can try out
   * short ones. It says who speaks and hides nothing: over a network, use TLS
   * beside it. One that is given and `undefined` is refused: leave it out to have
   * none.
   *
   * @default {no secret}
   */
  secret?: string | Uint8Array;
  /**
   * Milliseconds between signs of life, the smaller of both sides' offer. A
   * peer of which nothing is heard for three of them is taken for dead: with the
   * default, after 15 to 20 seconds. A peer that computes for longer without
   * coming to its event loop is silent, too. Less than 50 counts as 50; `Infinity`
   * on both sides is none.
   *
   * @default {5000}
   */
  heartbeat?: number;
  /**
   * Whether to check that nothing on the way has changed, repeated or reordered
   * the bytes, as either side offer. TCP sees to it between two machines; what
   * stands between them (a proxy, a tunnel) may not.
   *
   * @default {false}
   */
  checksum?: boolean;
  /**
   * Milliseconds to connect, to prove oneself and to say hello. `Infinity` waits
   * for ever.
   *
   * @default {10000}
   */
  openTimeout?: number;
  /**
   * Whether to connect again when the connection is lost, and to go on where it
   * was: what the far side has not received is sent again, so that every message
   * arrives once and in order, and `close` waits until the far side has said that
   * it has the last one. Waits between attempts grow as those of `retry`
   * in `@std/async` do. The listener has to allow it, as it does by default.
   *
   * @default {false}
   */
  resume?: boolean | ResumeOptions;
  /**
   * Whether to compress what is large and becomes smaller by it, where the
   * listener allows it. For slow networks: it costs more time than a fast one.
   *
   * @default {false}
   */
  compression?: boolean;
  /**
   * Certificates in PEM that are trusted in addition to the system's, for `tls:`.
   * Each text may hold several, and must hold one.
   *
   * @default {[]}
   */
  caCerts?: readonly string[];
  /** Gives the opening up; it then rejects with the signal's reason. */
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
   * Whether a session may go on when its connection is lost, for how long it is
   * kept without one (`timeout`), and how much of it (`replaySize`).
   *
   * @default {true}
   */
  resume?: boolean | Pick<ResumeOptions, "timeout" | "replaySize">;
  /**
   * Whether to compress for a peer that asks for it.
   *
   * @default {true}
   */
  compression?: boolean;
  /**
   * How many peers there may be at a time, those that have lost their connection
   * and may come back among them. One more is refused. The system bounds the open
   * files of a process as well.
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
   * Whether to let everybody in who can reach an address that is not on loopback
   * only, although there is no `secret`.
   *
   * @default {false}
   */
  allowUnauthenticated?: boolean;
  /** The certificate in PEM, with those that it stands on, for `tls:`. */
  cert?: string;
  /** The certificate's private key in PEM, not encrypted, for `tls:`. */
  key?: string;
  /**
   * Called with the error of a connection that was closed before its hello, and
   * with an error in accepting one: the first of a row, until one is accepted. The
   * listener goes on in any case. Exceptions are ignored.
   *
   * @default {no callback}
   */
  onError?: (error: unknown, remoteAddress: string) => void;
}

/** What a listener was told, checked and complete. */
export interface ListenerOptions {
  readonly offer: HandshakeOffer;
  readonly limits: SessionOptions;
  /** The TLS of a `tls` address. */
  readonly tls: TlsAcceptor | undefined;
  /** Milliseconds for a peer to prove itself and to say hello. */
  readonly timeout: number;
  readonly maxPeers: number;
  readonly maxPending: number;
  readonly allowUnauthenticated: boolean;
  /** Milliseconds for which a session without a connection is kept. */
  readonly resumeTimeout: number;
  readonly replaySize: number;
  readonly onError: (error: unknown, remote: string) => void;
}

/** What a cold start on a busy machine takes, ten times over. */
const DEFAULT_TIMEOUT = 10_000;
/** Three of them are longer than a program pauses, and shorter than a person waits. */
const DEFAULT_HEARTBEAT = 5_000;
/** Longer than a network takes to come back, or a Wi-Fi to change. */
const DEFAULT_RESUME_TIMEOUT = 30_000;
/** As much as the default window, so that keeping it does not slow a sender. */
const DEFAULT_REPLAY_SIZE = 4 * 1024 * 1024;
/** A bound and no promise: each takes an open file, of which a process has so many. */
const DEFAULT_MAX_PEERS = 1024;
/** More than honest peers come at once; strangers cost little up to here. */
const DEFAULT_MAX_PENDING = 256;
/** Soon enough not to be noticed, where only the connection was lost. */
const DEFAULT_MIN_TIMEOUT = 100;
/** A listener that is back is found after that, at the latest. */
const DEFAULT_MAX_TIMEOUT = 5_000;
/** As in `retry` of `@std/async`. */
const DEFAULT_MULTIPLIER = 2;
const DEFAULT_JITTER = 1;

/** What an opener was told, checked and complete. */
export interface OpenerOptions {
  readonly limits: SessionOptions;
  readonly target: Target;
  readonly backoff: Backoff;
  readonly replaySize: number;
}

/** Reads the options of `openSocket`. */
export function openerOptions(
  action: string,
  address: SocketAddress,
  options: SocketOptions,
): OpenerOptions {
  const {
    resume = false,
    caCerts = [],
    openTimeout: timeout = DEFAULT_TIMEOUT,
  } = options;
  const limits: SessionOptions = {
    ...sessionOptions(action, options),
    role: "opener",
    name: "main",
  };
  const chosen = readResume(action, resume);
  const offer = readOffer(action, options, false, chosen !== undefined);
  checkPositive(action, "openTimeout", timeout);
  checkOnlyTls(action, address, { caCerts: options.caCerts });
  const target: Target = {
    address,
    offer,
    caCerts: readCaCerts(action, caCerts),
    timeout,
  };
  return {
    limits,
    target,
    backoff: readBackoff(action, chosen ?? {}),
    replaySize: readReplaySize(action, chosen?.replaySize),
  };
}

/** Reads the options of `listenSocket`. */
export function listenerOptions(
  action: string,
  address: SocketAddress,
  options: ListenOptions,
): ListenerOptions {
  const {
    openTimeout: timeout = DEFAULT_TIMEOUT,
    maxPeers = DEFAULT_MAX_PEERS,
    maxPending = DEFAULT_MAX_PENDING,
    allowUnauthenticated = false,
    onError = () => {},
  } = options;
  const limits: SessionOptions = {
    ...sessionOptions(action, options),
    role: "acceptor",
    name: "worker",
  };
  const chosen = readResume(action, options.resume ?? true);
  const resumeTimeout = chosen?.timeout ?? DEFAULT_RESUME_TIMEOUT;
  const offer = readOffer(action, options, true, chosen !== undefined);
  checkPositive(action, "openTimeout", timeout);
  checkPositive(action, "resume.timeout", resumeTimeout);
  for (const [name, value] of Object.entries({ maxPeers, maxPending })) {
    checkPositive(action, name, value, { whole: value !== Infinity });
  }
  checkBooleans(action, { allowUnauthenticated });
  if (typeof onError !== "function") {
    throw new TypeError(`${action} as "onError" must be a function`);
  }
  const tls = readTls(action, address, options);
  if (
    !isLocal(address) && offer.secret === undefined && !allowUnauthenticated
  ) {
    const attempt = `${action} on "${formatAddress(address)}"`;
    throw inContext(attempt, unauthenticated());
  }
  return {
    offer,
    limits,
    tls,
    timeout,
    maxPeers,
    maxPending,
    allowUnauthenticated,
    resumeTimeout,
    replaySize: readReplaySize(action, chosen?.replaySize),
    onError,
  };
}

/** What is asked of the far side in the handshake. */
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
  checkBooleans(action, { checksum, compression });
  const secret = readSecret(action, options);
  return { secret, heartbeat, checksum, compression, resume };
}

/** The rules for going on after a cut, `undefined` if it should not. */
function readResume(
  action: string,
  resume: unknown,
): ResumeOptions | undefined {
  if (resume === false) return undefined;
  if (resume === true) return {};
  if (typeof resume === "object" && resume !== null) return resume;
  throw new TypeError(
    `${action} as "resume" must be true, false or an object: current value is ${
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

function checkBooleans(action: string, values: Record<string, unknown>): void {
  for (const [name, value] of Object.entries(values)) {
    if (typeof value === "boolean") continue;
    throw new TypeError(
      `${action} as "${name}" must be true or false: current value is ${
        show(value)
      }`,
    );
  }
}

function readSecret(
  action: string,
  options: SocketOptions | ListenOptions,
): Uint8Array<ArrayBuffer> | undefined {
  if (!("secret" in options)) return undefined;
  const { secret } = options;
  if (typeof secret !== "string" && !(secret instanceof Uint8Array)) {
    // Never its value, which may be the secret in another form.
    throw new TypeError(
      `${action} as "secret" must be a string or a Uint8Array: it is ${
        secret === undefined ? "undefined" : `of type ${typeof secret}`
      }; is the variable set that it comes from? Leave it out to have none`,
    );
  }
  const bytes = typeof secret === "string"
    ? new TextEncoder().encode(secret)
    : secret.slice();
  if (bytes.length > 0) return bytes;
  throw new RangeError(
    `${action} as "secret" is empty: leave it out to have none`,
  );
}

function readBackoff(action: string, options: ResumeOptions): Backoff {
  const {
    timeout = DEFAULT_RESUME_TIMEOUT,
    minTimeout = DEFAULT_MIN_TIMEOUT,
    maxTimeout = DEFAULT_MAX_TIMEOUT,
    multiplier = DEFAULT_MULTIPLIER,
    jitter = DEFAULT_JITTER,
  } = options;
  for (
    const [name, value] of Object.entries({ timeout, minTimeout, maxTimeout })
  ) checkPositive(action, `resume.${name}`, value);
  if (minTimeout > maxTimeout) {
    throw new RangeError(
      `${action} as "resume.minTimeout" must be at most "resume.maxTimeout": current values are ${minTimeout} and ${maxTimeout}`,
    );
  }
  checkPositive(action, "resume.multiplier", multiplier);
  if (!(multiplier >= 1 && multiplier < Infinity)) {
    throw new RangeError(
      `${action} as "resume.multiplier" must be a number from 1 up: current value is ${multiplier}`,
    );
  }
  if (typeof jitter !== "number") {
    throw new TypeError(
      `${action} as "resume.jitter" must be a number: current value is ${
        show(jitter)
      }`,
    );
  }
  if (!(jitter >= 0 && jitter <= 1)) {
    throw new RangeError(
      `${action} as "resume.jitter" must be between 0 and 1: current value is ${jitter}`,
    );
  }
  return { timeout, minTimeout, maxTimeout, multiplier, jitter };
}

function readReplaySize(
  action: string,
  replaySize: number = DEFAULT_REPLAY_SIZE,
): number {
  checkPositive(action, "resume.replaySize", replaySize, { whole: true });
  if (replaySize >= MIN_REPLAY_SIZE) return replaySize;
  throw new RangeError(
    `${action} as "resume.replaySize" must be at least ${MIN_REPLAY_SIZE}: current value is ${replaySize}`,
  );
}

/** Refuses certificates where nothing would look at them. */
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
