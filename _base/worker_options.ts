// Copyright 2026 the Duplex authors. MIT license.

/**
 * Whether Deno was started with `--unstable-worker-options`, which a Web Worker with
 * permissions of its own requires. Without it Deno ends the process when such a
 * worker starts, and no `catch` prevents that.
 *
 * Deno shows its unstable flags in one place only: the arguments that
 * `node:child_process` makes for a fork. So a fork is attempted with two IPC pipes,
 * which `node:child_process` refuses after it has made the arguments, and before it
 * starts anything or requests a permission.
 *
 * @module
 */

/** The flag, or "worker-options" in the configuration file. */
export const WORKER_OPTIONS_FLAG = "--unstable-worker-options";

const TWO_IPC: ("ipc")[] = ["ipc", "ipc"];

let found: Promise<boolean> | undefined;

/** Whether the flag was given, on the command line or in a configuration file. */
export function hasWorkerOptions(): Promise<boolean> {
  return found ??= findFlag();
}

async function findFlag(): Promise<boolean> {
  const [{ fork }, { channel }] = await Promise.all([
    import("node:child_process"),
    import("node:diagnostics_channel"),
  ]);
  let args: readonly unknown[] = [];
  let child: unknown;
  const onChild = (message: unknown) => {
    child = (message as { process?: unknown }).process;
  };
  // The fork reads a variable, for which Deno would prompt.
  const { get } = Deno.env;
  Deno.env.get = () => undefined;
  // Types of Node.js before 18.7 have no `subscribe` outside of a channel.
  const children = channel("child_process");
  children.subscribe(onChild);
  try {
    fork("none", [], {
      execPath: "deno",
      execArgv: [],
      env: {},
      stdio: TWO_IPC,
    });
  } catch {
    ({ spawnargs: args = [] } = child as { spawnargs?: readonly unknown[] });
  } finally {
    children.unsubscribe(onChild);
    Deno.env.get = get;
  }
  return args.includes(WORKER_OPTIONS_FLAG);
}
