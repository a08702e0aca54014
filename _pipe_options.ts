// Copyright 2026 the Duplex authors. MIT license.

/**
 * The options of `openPipe`, checked and made into arguments, so that a child
 * gets what it was given and no more.
 *
 * @module
 */

import { checkPositive } from "./_hello.ts";
import { absolutePath } from "./_permissions_path.ts";
import { show } from "./_text.ts";
import { grant, type Permissions } from "./permissions.ts";
import type { PipeCommandOptions, PipeOptions } from "./pipe.ts";

/** How the errors of `openPipe` begin. */
export const ACTION = "Cannot open a pipe";

const MIB = 2 ** 20;

/** The arguments that make Deno run a worker script, and no more than that. */
export function denoArgs(script: string | URL, options: PipeOptions): string[] {
  const { permissions = "none", memory, args = [], env = {} } = options;
  checkEnv(permissions, env);
  const { flags } = grant(permissions);
  if (memory !== undefined) {
    checkPositive(ACTION, "memory", memory, { most: Number.MAX_SAFE_INTEGER });
    flags.push(`--v8-flags=--max-old-space-size=${Math.ceil(memory / MIB)}`);
  }
  // From the root, a path is the caller's wherever the child works, and neither a
  // flag nor the name of a task, which Deno would run in a shell.
  const target = typeof script === "string" && !URL.canParse(script)
    ? absolutePath(script)
    : String(script);
  return ["run", "--quiet", ...flags, target, ...args];
}

/** What a script is called in errors. */
export function nameOf(script: string | URL): string {
  const text = String(script);
  return text.startsWith("data:") ? "data:" : text.split("/").at(-1)!;
}

/** Refuses a target of standard error that is none. */
export function checkStderr(stderr: unknown): void {
  if (
    stderr === "inherit" || stderr === "ignore" || typeof stderr === "function"
  ) return;
  throw new TypeError(
    `Cannot open a pipe as "stderr" must be "inherit", "ignore" or a function: current value is ${
      show(stderr)
    }`,
  );
}

/** Refuses what does not say whether the child is detached. */
export function checkDetached(detached: unknown): void {
  if (detached === undefined || typeof detached === "boolean") return;
  throw new TypeError(
    `${ACTION} as "detached" must be a boolean: current value is ${
      show(detached)
    }`,
  );
}

/** A variable of Deno's that has somebody else decide on every permission. */
const BROKER = "DENO_PERMISSION_BROKER_PATH";

/** Refuses variables that would change what the permissions mean. */
function checkEnv(
  permissions: Permissions,
  env: Readonly<Record<string, string>>,
): void {
  const names = Object.keys(env);
  if (names.some((name) => name.toUpperCase() === BROKER)) {
    throw new TypeError(
      `${ACTION} as "env" must not hold ${BROKER}, which overrides "permissions"`,
    );
  }
  const run = typeof permissions === "object" ? permissions.run : undefined;
  if (!Array.isArray(run)) return;
  const command = run.find((item) =>
    typeof item === "string" && !/[\\/]/.test(item)
  );
  const changesPath = names.some((name) => /^path$/i.test(name));
  if (command === undefined || !changesPath) return;
  throw new TypeError(
    `${ACTION} as "env" changes the PATH in which "${command}" would be looked for: grant "run" of its path`,
  );
}

/** Refuses a target that cannot be opened, or not with these options. */
export function checkTarget(
  target: string | URL | PipeCommandOptions,
): void {
  if (typeof target === "string" || target instanceof URL) {
    if (!Deno.build.standalone) return;
    throw new TypeError(
      `${ACTION} to a script from a compiled program: Deno is not there to run it; use "command"`,
    );
  }
  if (typeof target?.command !== "string") {
    throw new TypeError(
      `${ACTION} as there must be a script or a "command": current value is ${
        show(target)
      }`,
    );
  }
  for (const name of ["permissions", "memory"]) {
    if (!(name in target)) continue;
    throw new TypeError(
      `${ACTION} as "${name}" cannot be applied to "${target.command}": only a worker script runs under Deno's`,
    );
  }
}
