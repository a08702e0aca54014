// Copyright 2026 the Duplex authors. MIT license.

/**
 * What tests of sockets share: addresses, certificates, two ends of a
 * connection, and the connection itself.
 *
 * @module
 */

import {
  type DuplexListener,
  type ListenOptions,
  listenSocket,
  openSocket,
  type SocketDuplex,
  type SocketOptions,
} from "@duplex/ipc/socket";

const CERTS = new URL("../certs/", import.meta.url);

/**
 * A certificate for localhost, 127.0.0.1 and ::1, its key, and the authority that
 * signed it, which trusts nothing else. They are for tests alone, and last until
 * the year 2126.
 */
export const CA: string = Deno.readTextFileSync(new URL("ca.pem", CERTS));
export const CERT: string = Deno.readTextFileSync(
  new URL("localhost.pem", CERTS),
);
export const KEY: string = Deno.readTextFileSync(
  new URL("localhost.key", CERTS),
);

/** A certificate of its own authority, and a key that is too short for TLS. */
export const WEAK_CERT: string = Deno.readTextFileSync(
  new URL("weak.pem", CERTS),
);
export const WEAK_KEY: string = Deno.readTextFileSync(
  new URL("weak.key", CERTS),
);

/** A folder of this run's own for the files of sockets. */
const FOLDER = Deno.makeTempDirSync({ prefix: "duplex_" });
addEventListener("unload", () => {
  try {
    Deno.removeSync(FOLDER, { recursive: true });
  } catch {
    // If a test with narrow permissions ends the process, its own error is reported.
  }
});

let paths = 0;

/** A path for a Unix socket, where nothing is yet. */
export function socketPath(): string {
  return `${FOLDER}/${paths++}.sock`;
}

/** What `listenSocket` and `openSocket` need for Unix sockets of {@linkcode socketPath}. */
export function unixPermissions(path: string): Deno.PermissionOptionsObject {
  return { net: [`unix:${path}`], read: [path], write: [path] };
}

/** Two ends of a socket, and the listener between them. */
export interface Ends<In, Out> {
  main: SocketDuplex<In, Out>;
  worker: SocketDuplex<Out, In>;
  listener: DuplexListener<Out, In>;
}

/** Opens a listener and both ends of one connection. */
export async function openEnds<In = unknown, Out = In>(
  address: string,
  options: SocketOptions = {},
  far: ListenOptions = {},
): Promise<Ends<In, Out>> {
  const listener = listenSocket<Out, In>(address, far);
  try {
    const [main, worker] = await Promise.all([
      openSocket<In, Out>(listener.address, options),
      listener.accept(),
    ]);
    return { main, worker, listener };
  } catch (error) {
    await listener.close();
    throw error;
  }
}

/** The first bytes that a TLS client sends. */
export async function clientHello(): Promise<Uint8Array<ArrayBuffer>> {
  using listener = Deno.listen({ hostname: "localhost", port: 0 });
  const [client, server] = await Promise.all([
    Deno.connect({ hostname: "localhost", port: listener.addr.port }),
    listener.accept(),
  ]);
  using secured = await Deno.startTls(client, { hostname: "localhost" });
  const handshake = secured.handshake().catch(() => {});
  const bytes = new Uint8Array(4096);
  const size = await server.read(bytes);
  server.close();
  await handshake;
  return bytes.slice(0, size!);
}

/** The connections that listeners have accepted since. */
export interface Accepted extends Disposable {
  readonly conns: Deno.Conn[];
}

/**
 * Watches what listeners accept, to do to a connection what no duplex can: end it
 * where it stands, as the system does when a process dies.
 */
export function watchAccepted(): Accepted {
  const conns: Deno.Conn[] = [];
  const { listen, listenTls } = Deno;
  const watched = <L extends Deno.Listener>(listener: L): L => {
    const accept = listener.accept.bind(listener);
    listener.accept = async () => {
      const conn = await accept();
      conns.push(conn);
      return conn;
    };
    return listener;
  };
  const replace = (functions: Partial<typeof Deno>) =>
    Object.assign(Deno, functions);
  replace({
    listen: ((options: Deno.TcpListenOptions) =>
      watched(listen(options))) as typeof listen,
    listenTls: (options) =>
      watched(listenTls(options)),
  });
  return {
    conns,
    [Symbol.dispose]: () => void replace({ listen, listenTls }),
  };
}
