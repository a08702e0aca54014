// Copyright 2026 the Duplex authors. MIT license.

/**
 * The items of `net` and `import`: addresses, names, ranges and sockets.
 *
 * Deno checks a name twice: first the name itself, and after the lookup its address
 * against the denied ones. The denied addresses of the parent do not apply to a child
 * process, and Deno does not list them. So Deno is queried about single addresses that
 * an item may stand for.
 *
 * @module
 */

import type { Kind } from "../_base/permission_kinds.ts";
import { quoted } from "../_base/text.ts";

/** An item of `net` or `import`. */
export interface Host {
  /**
   * `address` and `name` stand for one host, with one port or with all; `range`
   * and `wildcard` for many; `socket` for a Unix socket or a vsock.
   */
  readonly form: "address" | "name" | "range" | "wildcard" | "socket";
  /** The address, the name, the first address, or the common end of the names. */
  readonly host: string;
  /** The port with its colon; empty for all ports. */
  readonly port: string;
}

const PORT = "(:[0-9]{1,5})?";
const IPV4 = "(?:[0-9]{1,3}\\.){3}[0-9]{1,3}";
const NAME = "[a-zA-Z0-9_-]+(?:\\.[a-zA-Z0-9_-]+)*\\.?";
const V6_HOST = new RegExp(`^(\\[[0-9a-fA-F:.]+(?:%[^\\]]+)?\\])${PORT}$`);
const V4_RANGE = new RegExp(`^(${IPV4})/([0-9]{1,2})${PORT}$`);
const V4_HOST = new RegExp(`^(${IPV4})${PORT}$`);
const WILDCARD = new RegExp(`^\\*\\.(${NAME})${PORT}$`);
const NAMED = new RegExp(`^(${NAME})${PORT}$`);

/**
 * Reads an item of `net` or `import`.
 *
 * @throws {TypeError} If Deno does not have such an item.
 */
export function readHost(kind: Kind, item: string): Host {
  if (kind === "net" && /^(?:unix|vsock):/.test(item)) return readSocket(item);
  const host = readIp(item) ?? readName(item);
  if (host !== undefined && Number(host.port.slice(1)) < 65_536) return host;
  throw new TypeError(
    `Cannot grant permissions: an item of "${kind}" must be a host, ${
      describeForms(kind)
    }: current value is ${quoted(item)}${hintFor(item)}`,
  );
}

function readSocket(item: string): Host {
  const isUnix = item.startsWith("unix:");
  const valid = isUnix
    ? /^unix:(?:\/|[a-zA-Z]:[\\/]|\\\\)/.test(item)
    : /^vsock:(?:-1|[0-9]+):[0-9]+$/.test(item);
  if (valid) return { form: "socket", host: item, port: "" };
  throw new TypeError(
    `Cannot grant permissions: an item of "net" must be ${
      isUnix ? '"unix:" and an absolute path' : '"vsock:CID:PORT"'
    }: current value is ${quoted(item)}`,
  );
}

function readIp(item: string): Host | undefined {
  const [, v6, v6Port = ""] = V6_HOST.exec(item) ?? [];
  if (v6 !== undefined) return readIpv6(v6.replace(/%.*\]/, "]"), v6Port);
  const [, first, length, rangePort = ""] = V4_RANGE.exec(item) ?? [];
  if (first !== undefined) {
    return isIpv4(first) && Number(length) <= 32
      ? { form: "range", host: first, port: rangePort }
      : undefined;
  }
  const [, v4, port = ""] = V4_HOST.exec(item) ?? [];
  return v4 !== undefined && isIpv4(v4)
    ? { form: "address", host: v4, port }
    : undefined;
}

function readIpv6(text: string, port: string): Host | undefined {
  if (!URL.canParse(`http://${text}`)) return undefined;
  const { hostname } = new URL(`http://${text}`);
  // Deno treats an IPv4 address that is mapped to IPv6 as the IPv4 address.
  const [, high, low] = /^\[::ffff:([0-9a-f]+):([0-9a-f]+)\]$/.exec(hostname) ??
    [];
  if (high === undefined) return { form: "address", host: hostname, port };
  const parts = [high, low!].flatMap((word) => {
    const value = parseInt(word, 16);
    return [value >> 8, value & 255];
  });
  return { form: "address", host: parts.join("."), port };
}

/** Whether Deno parses a string as an IPv4 address: decimal, without leading zeros. */
function isIpv4(text: string): boolean {
  return text.split(".").every((part) =>
    Number(part) < 256 && part === String(Number(part))
  );
}

function readName(item: string): Host | undefined {
  const [, end, endPort = ""] = WILDCARD.exec(item) ?? [];
  if (end !== undefined) return { form: "wildcard", host: end, port: endPort };
  const [, host, port = ""] = NAMED.exec(item) ?? [];
  return host === undefined ? undefined : { form: "name", host, port };
}

function describeForms(kind: Kind): string {
  const forms =
    'as "example.com", "*.example.com", "127.0.0.1", "[::1]" or "10.0.0.0/8", also with a port';
  return kind === "net"
    ? `${forms}, or ":8000", "unix:/path" or "vsock:CID:PORT"`
    : forms;
}

function hintFor(item: string): string {
  if (URL.canParse(`http://[${item}]`)) return `; write "[${item}]"`;
  if (/^https?:\/\//.test(item)) return "; leave the scheme and the path out";
  if (!/[^\p{L}\p{N}.-]/u.test(item) && URL.canParse(`http://${item}`)) {
    const { hostname } = new URL(`http://${item}`);
    if (hostname !== item) return `; write ${quoted(hostname)}`;
  }
  return "";
}

/** The hosts that Deno derives from a port alone. */
export function expandPort(kind: Kind, item: string): string[] {
  return kind === "net" && /^:[0-9]{1,5}$/.test(item)
    ? [`0.0.0.0${item}`, `127.0.0.1${item}`, `localhost${item}`]
    : [item];
}

/**
 * Addresses that are usually denied: loopback, unspecified, private, shared and
 * link-local addresses, those at which clouds serve credentials, and a public one, for
 * lists that deny every address. A name may stand for any of them. A query is about
 * one address and takes 4 µs, so not all addresses can be queried.
 */
const SPECIAL_ADDRESSES = [
  "127.0.0.1",
  "127.0.0.2",
  "[::1]",
  "0.0.0.0",
  "[::]",
  "10.0.0.1",
  "10.255.255.254",
  "100.64.0.1",
  "169.254.169.254",
  "172.16.0.1",
  "172.31.255.254",
  "192.168.0.1",
  "192.168.1.1",
  "192.168.255.254",
  "[fc00::1]",
  "[fd00::1]",
  "[fd00:ec2::254]",
  "[fe80::1]",
  "1.1.1.1",
];

/**
 * Addresses to query for a host if the program holds a list of hosts. Deno does not
 * report to such a program whether anything is denied.
 */
export function probeAddresses({ form, host, port }: Host): string[] {
  const addresses = form === "name"
    ? [...numericAddresses(host), ...SPECIAL_ADDRESSES]
    : [host, ...neighbours(host)];
  return addresses.flatMap((address) =>
    port === "" ? [address] : [address, `${address}${port}`]
  );
}

/** The address of a numeric name such as "127.1", and its neighbour. */
function numericAddresses(name: string): string[] {
  // A name whose last part is a number is an address in some notation.
  if (!URL.canParse(`http://${name}`)) return [];
  const { hostname } = new URL(`http://${name}`);
  return V4_HOST.test(hostname) ? [hostname, ...neighbours(hostname)] : [];
}

/** The address next to one: every range of more than one address has both. */
function neighbours(address: string): string[] {
  const [, start, last] = /^(.*\.)([0-9]+)$/.exec(address) ?? [];
  return start === undefined ? [] : [`${start}${Number(last) ^ 1}`];
}

/** A label that is in no list, so that only a wildcard matches its name. */
const UNLIKELY_LABEL = "0b6f3c55-duplex-ipc-looks-for-a-wildcard";

/** Some of the hosts that an item matches. */
export function sampleHosts({ form, host, port }: Host): string[] {
  const member = `${host}${port}`;
  return form === "wildcard"
    ? [member, `${UNLIKELY_LABEL}.${member}`]
    : [member];
}
