// Copyright 2026 the Duplex authors. MIT license.

/**
 * The options of `openSocket` and `listen`, checked and made complete.
 *
 * @module
 */

import { checkPositive, sessionOptions } from "./_hello.ts";
import {
  formatAddress,
  isLoopback,
  type SocketAddress,
} from "./_socket_address.ts";
import type { Backoff, Target } from "./_socket_dial.ts";
import type { Wishes } from "./_socket_greeting.ts";
import { MIN_REPLAY_SIZE } from "./_socket_link.ts";
import {
  inContext,
  type ListenerOptions,
  unauthenticated,
} from "./_socket_listener.ts";
import type { ListenOptions, ResumeOptions, SocketOptions } from "./socket.ts";

/** What a cold start on a busy machine takes, ten times over. */
const DEFAULT_TIMEOUT = 10_000;
/** Three of them are longer than a program pauses, and shorter than a person waits. */
const DEFAULT_HEARTBEAT = 5_000;
/** Longer than a network takes to come back, or a Wi-Fi to change. */
const DEFAULT_RESUME_TIMEOUT = 30_000;
/** As much as the default window, so that keeping it does not slow a sender. */
const DEFAULT_REPLAY_SIZE = 4 * 1024 * 1024;
/** As many connections as a process may have files open by default. */
const DEFAULT_MAX_PEERS = 1024;
/** More than honest peers come at once; strangers cost little up to here. */
const DEFAULT_MAX_PENDING = 64;

/** What `openSocket` was told. */
export function openerOptions(
  action: string,
  address: SocketAddress,
  options: SocketOptions,
) {
  const { resume = false, caCerts = [], timeout = DEFAULT_TIMEOUT } = options;
  const limits = {
    ...sessionOptions(action, options),
    role: "opener" as const,
    name: "main",
  };
  const wishes = readWishes(action, options, {
    compression: false,
    resume: resume !== false,
  });
  checkPositive(action, "timeout", timeout);
  checkOnlyTls(action, address, { caCerts: options.caCerts });
  const chosen = typeof resume === "object" ? resume : {};
  const target: Target = { address, wishes, caCerts, timeout };
  return {
    limits,
    target,
    backoff: readBackoff(action, chosen),
    replaySize: readReplaySize(action, chosen.replaySize),
  };
}

/** What `listen` was told. */
export function listenerOptions(
  action: string,
  address: SocketAddress,
  options: ListenOptions,
): ListenerOptions {
  const {
    resume = true,
    timeout = DEFAULT_TIMEOUT,
    maxPeers = DEFAULT_MAX_PEERS,
    maxPending = DEFAULT_MAX_PENDING,
    allowUnauthenticated = false,
    cert = "",
    key = "",
    onError = () => {},
  } = options;
  const chosen = typeof resume === "object" ? resume : {};
  const resumeTimeout = chosen.timeout ?? DEFAULT_RESUME_TIMEOUT;
  const limits = {
    ...sessionOptions(action, options),
    role: "acceptor" as const,
    name: "worker",
  };
  const wishes = readWishes(action, options, {
    compression: true,
    resume: resume !== false,
  });
  checkPositive(action, "timeout", timeout);
  checkPositive(action, "resume.timeout", resumeTimeout);
  for (const [name, value] of Object.entries({ maxPeers, maxPending })) {
    checkPositive(action, name, value, { whole: value !== Infinity });
  }
  checkOnlyTls(action, address, { cert: options.cert, key: options.key });
  if (address.kind === "tls" && (cert === "" || key === "")) {
    throw new TypeError(
      `${action} as a "tls" address needs "cert" and "key", both in PEM`,
    );
  }
  const isReachable = address.kind !== "unix" && !isLoopback(address.hostname);
  if (isReachable && wishes.secret === undefined && !allowUnauthenticated) {
    const attempt = `${action} on "${formatAddress(address)}"`;
    throw inContext(attempt, unauthenticated());
  }
  const replaySize = readReplaySize(action, chosen.replaySize);
  return {
    wishes,
    limits,
    cert,
    key,
    timeout,
    maxPeers,
    maxPending,
    allowUnauthenticated,
    resumeTimeout,
    replaySize,
    onError,
  };
}

function readWishes(
  action: string,
  options: SocketOptions | ListenOptions,
  defaults: { compression: boolean; resume: boolean },
): Wishes {
  const {
    secret,
    heartbeat = DEFAULT_HEARTBEAT,
    checksum = false,
    compression = defaults.compression,
  } = options;
  checkPositive(action, "heartbeat", heartbeat);
  for (const [name, value] of Object.entries({ checksum, compression })) {
    if (typeof value === "boolean") continue;
    throw new TypeError(
      `${action} as "${name}" must be true or false: current value is ${value}`,
    );
  }
  return {
    secret: readSecret(action, secret),
    heartbeat,
    checksum,
    compression,
    resume: defaults.resume,
  };
}

function readSecret(
  action: string,
  secret: string | Uint8Array | undefined,
): Uint8Array<ArrayBuffer> | undefined {
  if (secret === undefined) return undefined;
  if (typeof secret !== "string" && !(secret instanceof Uint8Array)) {
    throw new TypeError(
      `${action} as "secret" must be a string or a Uint8Array: it is of type ${typeof secret}`,
    );
  }
  const bytes = typeof secret === "string"
    ? new TextEncoder().encode(secret)
    : secret.slice();
  // An empty secret is a variable that was not set, and no secret.
  if (bytes.length > 0) return bytes;
  throw new RangeError(
    `${action} as "secret" is empty: leave it out to have none`,
  );
}

function readBackoff(action: string, options: ResumeOptions): Backoff {
  const {
    timeout = DEFAULT_RESUME_TIMEOUT,
    minTimeout = 100,
    maxTimeout = 5_000,
    multiplier = 2,
    jitter = 1,
  } = options;
  for (
    const [name, value] of Object.entries({ timeout, minTimeout, maxTimeout })
  ) checkPositive(action, `resume.${name}`, value);
  if (minTimeout > maxTimeout) {
    throw new RangeError(
      `${action} as "resume.minTimeout" must be at most "resume.maxTimeout": current values are ${minTimeout} and ${maxTimeout}`,
    );
  }
  if (!(multiplier >= 1 && multiplier < Infinity)) {
    throw new RangeError(
      `${action} as "resume.multiplier" must be a number from 1 up: current value is ${multiplier}`,
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
