// Copyright 2026 the Duplex authors. MIT license.

/**
 * The permissions that this program holds, and whether it may grant them.
 *
 * Deno passes the denied items of this program on to a Web Worker, but not to a
 * process, and does not list them. So a process is granted only what cannot contain a
 * denied item, as far as Deno reveals it.
 *
 * @module
 */

import { type Host, probeAddresses, readHost, sampleHosts } from "./host.ts";
import type { Kind, Scope } from "../_base/permission_kinds.ts";
import { excerpt, messageOf, printable, quoted } from "../_base/text.ts";

/**
 * The state of a kind, or of an item of it. Requires no permission and never prompts.
 *
 * @throws {TypeError} If Deno does not have such an item.
 */
export function query(kind: Kind, item?: string): Deno.PermissionStatus {
  try {
    return Deno.permissions.querySync(describe(kind, item));
  } catch (cause) {
    throw new TypeError(
      `Cannot grant permissions: ${
        quoted(item ?? "")
      } is not an item of "${kind}" that Deno has: ${
        excerpt(messageOf(cause))
      }`,
      { cause },
    );
  }
}

/** Whether this program holds a kind completely. */
export function isHeldWhole(kind: Kind): boolean {
  const { state, partial } = query(kind);
  return state === "granted" && !partial;
}

function describe(
  kind: Kind,
  item: string | undefined,
): Deno.PermissionDescriptor {
  if (item === undefined) return { name: kind };
  switch (kind) {
    case "env":
      return { name: kind, variable: item };
    case "import":
    case "net":
      return { name: kind, host: item } as Deno.PermissionDescriptor;
    case "run":
      return { name: kind, command: item };
    case "sys":
      return { name: kind, kind: item } as Deno.PermissionDescriptor;
    default:
      return { name: kind, path: item };
  }
}

/**
 * A host from which Deno allows imports by default. A list of allowed hosts replaces
 * the default, and a denied host takes precedence over an allowed one: together they
 * allow none. `--deny-import` alone keeps the default (Deno 2.9).
 */
const ALLOWED_AND_DENIED = "jsr.io:443";

/** The flags of a scope for `deno run`. */
export function scopeFlags(kind: Kind, scope: Scope): string[] {
  if (scope === true) return [`--allow-${kind}`];
  if (scope.length > 0) return [`--allow-${kind}=${scope.join(",")}`];
  return kind === "import"
    ? [
      `--allow-import=${ALLOWED_AND_DENIED}`,
      `--deny-import=${ALLOWED_AND_DENIED}`,
    ]
    : [];
}

/** The flags of denied items for `deno run`. */
export function denyScopeFlag(kind: Kind, scope: Scope): string {
  return scope === true
    ? `--deny-${kind}`
    : `--deny-${kind}=${scope.join(",")}`;
}

/** The kind of worker. */
export type Target = "process" | "thread";

/**
 * Throws unless this program may grant a kind, or an item of it.
 *
 * @throws {Deno.errors.NotCapable} If it may not.
 * @throws {TypeError} If Deno does not have such an item.
 */
export function check(
  kind: Kind,
  item: string | undefined,
  target: Target,
): void {
  const why = item === undefined
    ? whyNotAll(kind, target)
    : whyNotItem(kind, item, target);
  if (why === undefined) return;
  const what = item === undefined
    ? `all of "${kind}"`
    : `"${kind}" of ${quoted(item)}`;
  throw new Deno.errors.NotCapable(`Cannot grant ${what}: ${why}`);
}

/**
 * Whether "inherit" passes on a kind: if this program holds all of it.
 *
 * @throws {Deno.errors.NotCapable} If a part is denied, which a process would get.
 */
export function isInherited(kind: Kind, target: Target): boolean {
  const { state, partial } = query(kind);
  if (!partial || target === "thread") return state === "granted";
  throw new Deno.errors.NotCapable(
    `Cannot pass on "${kind}" by "inherit": ${describePart(kind)}`,
  );
}

function whyNotAll(kind: Kind, target: Target): string | undefined {
  const { state, partial } = query(kind);
  if (state !== "granted") return describeState(kind, true, state);
  return partial && target === "process" ? describePart(kind) : undefined;
}

function whyNotItem(
  kind: Kind,
  item: string,
  target: Target,
): string | undefined {
  // If the program holds the kind completely, only the worker's Deno parses the item.
  const host = kind === "net" || kind === "import"
    ? readHost(kind, item)
    : undefined;
  if (isHeldWhole(kind)) return undefined;
  if (host?.form === "range" || host?.form === "wildcard") {
    return whyNotMany(kind, item, host, target);
  }
  const isPrefix = kind === "env" && item.endsWith("*");
  const { state, partial } = query(kind, item);
  if (state !== "granted") {
    const needed = isPrefix && target === "process" ? true : [item];
    return describeState(kind, needed, state);
  }
  if (partial) {
    return `a part of it is denied to this program (${
      denyFlags(kind)
    }); grant parts that are not denied`;
  }
  if (target === "thread" || host?.form === "socket") return undefined;
  if (host !== undefined) {
    return query(kind).state === "granted"
      ? whyNotBesideDenied(kind, item, host)
      : whyNotFromList(kind, item, host);
  }
  return isPrefix
    ? describeUnknown(kind, "variables by their names")
    : undefined;
}

/** For a range or a wildcard: Deno can be queried about its members only. */
function whyNotMany(
  kind: Kind,
  item: string,
  host: Host,
  target: Target,
): string | undefined {
  // Deno compares a wildcard with the list, and passes the denied items on.
  const isCompared = target === "thread" && host.form === "wildcard" &&
    query(kind).state !== "granted";
  const states = sampleHosts(host).map((member) => query(kind, member).state);
  const state = states.find((state) => state !== "granted");
  if (state !== undefined) {
    return describeState(kind, isCompared ? [item] : true, state);
  }
  if (isCompared) return undefined;
  const single = host.form === "range" ? "single addresses" : "single hosts";
  return describeUnknown(kind, single);
}

/** For a program that holds the kind except a denied part. */
function whyNotBesideDenied(
  kind: Kind,
  item: string,
  { form, port }: Host,
): string | undefined {
  const part = `a part of "${kind}" is denied to this program (${
    denyFlags(kind)
  })`;
  if (form === "name") {
    return `${part}, and the name may stand for an address in that part; ${
      insteadOfName(kind, item)
    }`;
  }
  return port === ""
    ? `${part}, which may be a port of this address; grant the address with a port`
    : undefined;
}

/** For a program that holds a list of hosts. */
function whyNotFromList(
  kind: Kind,
  item: string,
  host: Host,
): string | undefined {
  const found = probeAddresses(host)
    .find((address) => query(kind, address).state === "denied");
  if (found === undefined) return undefined;
  const denied = `this program is denied ${quoted(found)} (${denyFlags(kind)})`;
  return host.form === "name"
    ? `${denied}, and the name may stand for that address; ${
      insteadOfName(kind, item)
    }`
    : `${denied}, which may be a part of a range with this address; grant addresses, or run this program again without ${
      denyFlags(kind)
    }`;
}

function insteadOfName(kind: Kind, item: string): string {
  const [flag] = scopeFlags(kind, [item]);
  return `grant the IP address and the port, or run this program again with ${flag} and without ${
    denyFlags(kind)
  }`;
}

/** The reason if something is not granted to this program, which needs `needed`. */
function describeState(
  kind: Kind,
  needed: Scope,
  state: Deno.PermissionState,
): string {
  if (state === "denied") {
    return `it is denied to this program (${
      denyFlags(kind)
    }, or at a prompt); run this program again without that flag`;
  }
  const [flag] = scopeFlags(kind, needed);
  return `this program does not hold it; run it again with ${printable(flag!)}`;
}

function describePart(kind: Kind): string {
  return `a part of it is denied to this program (${
    denyFlags(kind)
  }), and Deno does not say which; list what the worker may use`;
}

/** The reason if this program may hold only a part of an item. */
function describeUnknown(kind: Kind, instead: string): string {
  return `Deno does not say whether this program holds all of it; grant ${instead}, or run this program again with --allow-${kind} and without ${
    denyFlags(kind)
  }`;
}

/** The flags that deny a part of a kind. */
function denyFlags(kind: Kind): string {
  switch (kind) {
    case "env":
    case "read":
      return `--deny-${kind} or --ignore-${kind}`;
    case "write":
      // Deno denies writing to programs that may be run.
      return "--deny-write, or --allow-run with a list";
    default:
      return `--deny-${kind}`;
  }
}
