// Copyright 2026 the Duplex authors. MIT license.

/**
 * The addresses of sockets: `tcp://host:port`, `tls://host:port`, `unix:/path`.
 *
 * @module
 */

import { quoted, show } from "./text.ts";

/** The address of a socket. */
export type SocketAddress =
  | {
    readonly kind: "tcp" | "tls";
    readonly hostname: string;
    readonly port: number;
  }
  | { readonly kind: "unix"; readonly path: string };

/** Maximum size of the path of a Unix socket, with the NUL byte at its end. */
const MAX_PATH_SIZE = Deno.build.os === "darwin" ? 104 : 108;

const FORMS = '"tcp://host:port", "tls://host:port" or "unix:/path"';

/** Parses an address; `action` is the attempted action, for errors. */
export function parseAddress(action: string, address: unknown): SocketAddress {
  const text = address instanceof URL ? address.href : address;
  if (typeof text !== "string") {
    throw new TypeError(
      `${action} as the address must be a string or a URL: current value is ${
        show(text)
      }`,
    );
  }
  if (text.startsWith("unix:")) {
    const rest = text.slice("unix:".length).replace(/^\/\/(?=\/)/, "");
    // Only a URL has escapes.
    const path = address instanceof URL ? unescaped(action, rest) : rest;
    checkPath(action, path);
    return { kind: "unix", path };
  }
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const kind = url?.protocol === "tcp:"
    ? "tcp"
    : url?.protocol === "tls:"
    ? "tls"
    : undefined;
  const isBare = url !== undefined && /^\/?$/.test(url.pathname) &&
    url.search === "" && url.hash === "" && url.username === "" &&
    url.password === "" && !url.hostname.includes("%");
  if (kind === undefined || !isBare || url.hostname === "" || url.port === "") {
    throw new TypeError(
      `${action} as the address must be ${FORMS}: current value is ${
        quoted(text)
      }`,
    );
  }
  // Deno expects an IPv6 address without brackets.
  const hostname = url.hostname.replace(/^\[|\]$/g, "").toLowerCase();
  return { kind, hostname, port: Number(url.port) };
}

/** The path of a URL without its escapes. */
function unescaped(action: string, path: string): string {
  try {
    return decodeURIComponent(path);
  } catch (cause) {
    throw new TypeError(
      `${action} as the escapes in the address must be UTF-8: current value is ${
        quoted(`unix:${path}`)
      }`,
      { cause },
    );
  }
}

function checkPath(action: string, path: string): void {
  if (path === "" || path.includes("\0")) {
    throw new TypeError(
      `${action} as the address must have a path after "unix:": current value is ${
        quoted(path)
      }`,
    );
  }
  const size = new TextEncoder().encode(path).length;
  if (size < MAX_PATH_SIZE) return;
  throw new RangeError(
    `${action} as the path of a Unix socket may have at most ${
      MAX_PATH_SIZE - 1
    } bytes: current value is ${quoted(path)} with ${size}`,
  );
}

/** An address as text, as {@linkcode parseAddress} reads it. */
export function formatAddress(address: SocketAddress): string {
  if (address.kind === "unix") {
    const { path } = address;
    // "unix:///x" is read as the path "/x".
    return path.startsWith("//") ? `unix://${path}` : `unix:${path}`;
  }
  const { kind, hostname, port } = address;
  return hostname.includes(":")
    ? `${kind}://[${hostname}]:${port}`
    : `${kind}://${hostname}:${port}`;
}

/** The address of a peer as text. */
export function peerAddress(kind: "tcp" | "tls", addr: Deno.NetAddr): string {
  const { hostname, port } = addr;
  return formatAddress({ kind, hostname, port });
}

/** Whether only programs on this machine can reach an address. */
export function isLocal(address: SocketAddress): boolean {
  return address.kind === "unix" || isLoopback(address.hostname);
}

/** Whether only programs on this machine can reach a host. */
export function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "::1" ||
    /^(::ffff:)?127(\.\d{1,3}){3}$/.test(hostname);
}
