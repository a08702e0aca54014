// Copyright 2026 the Duplex authors. MIT license.

/**
 * Operations that need a permission, tried for real.
 *
 * @module
 */

/**
 * The result of an operation: "yes" if it succeeded, or failed for any reason
 * but the permission; "no" if the permission was missing, or if Deno pretended
 * that the item does not exist.
 */
export type Verdict = "yes" | "no";

const SYS: Record<string, () => unknown> = {
  hostname: Deno.hostname,
  loadavg: Deno.loadavg,
  osRelease: Deno.osRelease,
};

const ACTS: Record<string, (item: string) => unknown> = {
  read: (path) => Deno.readTextFileSync(path),
  write: (path) => Deno.writeTextFileSync(path, "written"),
  env: (name) => {
    if (Deno.env.get(name) === undefined) throw new Deno.errors.NotFound();
  },
  run: (command) => new Deno.Command(command).output(),
  sys: (kind) => SYS[kind]!(),
  ffi: (path) => Deno.dlopen(path, {}),
  net: async (host) => {
    const { hostname, port } = /^(?<hostname>.*):(?<port>\d+)$/.exec(host)!
      .groups as { hostname: string; port: string };
    const bare = hostname.replace(/^\[(.*)\]$/, "$1");
    (await Deno.connect({ hostname: bare, port: Number(port) })).close();
  },
  unix: async (path) => {
    (await Deno.connect({ transport: "unix", path })).close();
  },
  import: (url) => import(url),
  /** The error of Deno for a host that a test cannot reach. */
  says: (item) => {
    const [name, host] = item.split(" ");
    const descriptor = { name, host } as Deno.NetPermissionDescriptor;
    const { state } = Deno.permissions.querySync(descriptor);
    if (state !== "granted") throw new Deno.errors.NotCapable();
  },
};

/**
 * Tries an operation, written as its name and its object, such as "read
 * /etc/hosts".
 */
async function attempt(act: string): Promise<Verdict> {
  const [, name, item] = /^(\w+) (.*)$/.exec(act)!;
  try {
    await ACTS[name!]!(item!);
    return "yes";
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) return "no";
    if (/Requires \w+ access/.test(String(error))) return "no";
    const pretended = name === "read" || name === "env";
    return pretended && error instanceof Deno.errors.NotFound ? "no" : "yes";
  }
}

/** Tries operations in turn. */
export async function attemptAll(acts: readonly string[]): Promise<Verdict[]> {
  const verdicts: Verdict[] = [];
  for (const act of acts) verdicts.push(await attempt(act));
  return verdicts;
}
