// Copyright 2026 the Duplex authors. MIT license.

/**
 * The contract over sockets, in each form of address.
 *
 * @module
 */

import type { Duplex } from "@duplex/ipc/duplex";
import {
  type ListenOptions,
  listenSocket,
  openSocket,
  type SocketOptions,
} from "@duplex/ipc/socket";
import { behave } from "../_behaviours.ts";
import { conformance } from "../_conformance.ts";
import {
  CA,
  CERT,
  KEY,
  socketPath,
  unixPermissions,
  watchAccepted,
} from "./_sockets.ts";

/** Opens a duplex to a peer that works, or ends as a process that is killed. */
async function open(
  address: string,
  options: SocketOptions,
  far: ListenOptions,
): Promise<Duplex> {
  using accepted = watchAccepted();
  const listener = listenSocket(address, { closeTimeout: Infinity, ...far });
  const [main, worker] = await Promise.all([
    openSocket(listener.address, options),
    listener.accept(),
  ]);
  // A listener is done when its only peer has come.
  await listener.close();
  const [conn] = accepted.conns;
  behave(worker, () => conn!.close()).catch(() => {});
  return main;
}

const PATH = socketPath();

/** A socket of Linux holds some 6 MB each way. */
const ROUNDS = 10;

conformance({
  name: "openSocket() over TCP",
  rounds: ROUNDS,
  permissions: { net: ["127.0.0.1"] },
  open: (options, far) => open("tcp://127.0.0.1:0", options, far),
});

conformance({
  name: "openSocket() over a Unix socket",
  rounds: ROUNDS,
  permissions: unixPermissions(PATH),
  open: (options, far) => open(`unix:${PATH}`, options, far),
});

conformance({
  name: "openSocket() over TLS",
  rounds: ROUNDS,
  permissions: { net: ["localhost"] },
  open: (options, far) =>
    open("tls://localhost:0", { ...options, caCerts: [CA] }, {
      ...far,
      cert: CERT,
      key: KEY,
    }),
});

// A session in records that can be resumed: a peer that
// ended does not connect again, so the timeout is short.
const resume = { timeout: 100, minDelay: 5 };
const secret = "Only these two know";

conformance({
  name: "openSocket() with everything on",
  rounds: ROUNDS,
  permissions: { net: ["127.0.0.1"] },
  open: (options, far) =>
    open("tcp://127.0.0.1:0", {
      ...options,
      secret,
      resume,
      checksum: true,
      compression: true,
    }, { ...far, secret, resume }),
});
