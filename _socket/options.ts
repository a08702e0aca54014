// Copyright 2026 the Duplex authors. MIT license.

/**
 * The options of `openSocket` and `listen`, checked and made complete.
 *
 * @module
 */

import {
  checkPositive,
  type SessionOptions,
  sessionOptions,
} from "../_session/hello.ts";
import { formatAddress, isLoopback, type SocketAddress } from "./address.ts";
import type { Backoff, Target } from "./dial.ts";
import type { HandshakeOffer } from "./handshake.ts";
import { inContext, unauthenticated } from "./errors.ts";
import { MIN_REPLAY_SIZE } from "./link.ts";
import { readCaCerts } from "./pem.ts";
import { TlsAcceptor } from "./tls.ts";
import { show } from "../_base/text.ts";
import type { ListenerOptions } from "./listener.ts";
import type { ListenOptions, ResumeOptions, SocketOptions } from "../socket.ts";

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
  const { resume = false, caCerts = [], timeout = DEFAULT_TIMEOUT } = options;
  const limits: SessionOptions = {
    ...sessionOptions(action, options),
    role: "opener",
    name: "main",
  };
  const chosen = readResume(action, resume);
  const offer = readOffer(action, options, false, chosen !== undefined);
  checkPositive(action, "timeout", timeout);
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

/** Reads the options of `listen`. */
export function listenerOptions(
  action: string,
  address: SocketAddress,
  options: ListenOptions,
): ListenerOptions {
  const {
    timeout = DEFAULT_TIMEOUT,
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
  checkPositive(action, "timeout", timeout);
  checkPositive(action, "resume.timeout", resumeTimeout);
  for (const [name, value] of Object.entries({ maxPeers, maxPending })) {
    checkPositive(action, name, value, { whole: value !== Infinity });
  }
  checkBooleans(action, { allowUnauthenticated });
  if (typeof onError !== "function") {
    throw new TypeError(`${action} as "onError" must be a function`);
  }
  const tls = readTls(action, address, options);
  const isReachable = address.kind !== "unix" && !isLoopback(address.hostname);
  if (isReachable && offer.secret === undefined && !allowUnauthenticated) {
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
