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

let found: boolean | undefined;

/** Whether the flag was given, on the command line or in a configuration file. */
export async function hasWorkerOptions(): Promise<boolean> {
  if (found !== undefined) return found;
  const [children, diagnostics] = await Promise.all([
    import("node:child_process"),
    import("node:diagnostics_channel"),
  ]);
  return found ??= findFlag(children, diagnostics);
}

/** As {@linkcode hasWorkerOptions}; blocks while the modules are loaded. */
export function hasWorkerOptionsSync(): boolean {
  return found ??= findFlag(
    builtinModule<ChildProcess>("node:child_process"),
    builtinModule<DiagnosticsChannel>("node:diagnostics_channel"),
  );
}

type ChildProcess = Pick<typeof import("node:child_process"), "fork">;
type DiagnosticsChannel = Pick<
  typeof import("node:diagnostics_channel"),
  "channel"
>;

/** Loads a module of Node.js without the event loop. */
export function builtinModule<Module>(name: string): Module {
  const { process } = globalThis as unknown as {
    process: { getBuiltinModule(name: string): Module };
  };
  return process.getBuiltinModule(name);
}

function findFlag(
  { fork }: ChildProcess,
  { channel }: DiagnosticsChannel,
): boolean {
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
