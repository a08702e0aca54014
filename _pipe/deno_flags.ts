// Copyright 2026 the Duplex authors. MIT license.

/**
 * The flags that a caller may give to the Deno of a worker: those that cannot give it
 * a permission.
 *
 * @module
 */

import { absolutePath, isUrl, pathOf } from "../_permissions/path.ts";
import { quoted, show } from "../_base/text.ts";
import { BROKER } from "./permissions.ts";

/** The value of a flag: how it is checked, and whether it is a file of the caller. */
type Value = "any" | "file" | "inspector" | "module" | "v8";

/** The flags, and their values. Deno itself checks a value that can be `any`. */
const FLAGS: Readonly<Record<string, Value>> = {
  "--cached-only": "any",
  "--check": "any",
  "--conditions": "any",
  "--config": "file",
  "--frozen": "any",
  "--import": "module",
  "--import-map": "file",
  "--inspect": "inspector",
  "--inspect-brk": "inspector",
  "--inspect-wait": "inspector",
  "--location": "any",
  "--lock": "file",
  "--no-check": "any",
  "--no-config": "any",
  "--no-lock": "any",
  "--no-npm": "any",
  "--no-remote": "any",
  "--node-modules-dir": "any",
  "--preload": "module",
  "--require": "module",
  "--seed": "any",
  "--v8-flags": "v8",
  "--vendor": "any",
};

/**
 * The flags of V8 that are accepted: limits and modes. Others write files, or remove
 * checks on which Deno's sandbox relies.
 */
const V8_FLAGS = [
  "expose-gc",
  "jitless",
  "max-heap-size",
  "max-old-space-size",
  "max-semi-space-size",
  "min-semi-space-size",
  "optimize-for-size",
  "single-threaded",
  "stack-size",
  "stack-trace-limit",
];

/** The flags of V8 that the option `memory` sets. */
const MEMORY_FLAGS = ["max-heap-size", "max-old-space-size"];

/** Flags that are refused, and why. */
const REFUSED: readonly (readonly [RegExp, string])[] = [
  [
    /^--allow-scripts$/,
    "scripts of npm packages run outside of the sandbox",
  ],
  [
    /^(?:-A|-[RWINESP]|--(?:allow|deny|ignore)-[a-z]+|--permission-set|--no-prompt)$/,
    'the option "permissions" determines what a worker may do',
  ],
  [
    /^--env-file$/,
    `its file may contain ${BROKER}, which overrides "permissions"; read the file here, and pass its variables as "env"`,
  ],
];

const ADDRESS = /^(?:(?:127(?:\.\d{1,3}){3}|localhost|\[::1\])(?::\d+)?|\d+)$/;

/**
 * Checks flags for the Deno of a worker, and makes the paths in them absolute.
 *
 * @param action The attempted action, for errors.
 * @param flags The flags, each as `--name` or `--name=value`.
 * @param hasMemory Whether the option `memory` is given.
 * @throws {TypeError} If a flag is not accepted.
 */
export function readDenoFlags(
  action: string,
  flags: unknown,
  hasMemory: boolean,
): string[] {
  if (!Array.isArray(flags)) {
    throw new TypeError(
      `${action} as "denoFlags" must be an array of strings: current value is ${
        show(flags)
      }`,
    );
  }
  return Array.from(flags, (flag: unknown, index) => {
    if (typeof flag !== "string" || flag.includes("\0")) {
      throw new TypeError(
        `${action} as "denoFlags[${index}]" must be a string without a NUL character: current value is ${
          show(flag)
        }`,
      );
    }
    const refuse = (why: string) =>
      new TypeError(
        `${action} as "denoFlags" must not contain ${quoted(flag)}: ${why}`,
      );
    return readFlag(flag, refuse, hasMemory);
  });
}

/** Whether a worker with these flags waits for a debugger before it runs. */
export function waitsForDebugger(flags: unknown): boolean {
  return Array.isArray(flags) &&
    flags.some((flag) =>
      typeof flag === "string" && /^--inspect-(?:brk|wait)(?:=|$)/.test(flag)
    );
}

function readFlag(
  flag: string,
  refuse: (why: string) => TypeError,
  hasMemory: boolean,
): string {
  const [, name = flag, value] = /^(-[^=]*)(?:=(.*))?$/s.exec(flag) ?? [];
  if (!name.startsWith("-")) {
    throw refuse(
      'it is not a flag; write a value behind its flag, as "--config=deno.json", and arguments of the worker into "args"',
    );
  }
  if (/^--unstable-[a-z0-9-]+$/.test(flag)) return flag;
  const [, why] = REFUSED.find(([pattern]) => pattern.test(name)) ?? [];
  if (why !== undefined) throw refuse(why);
  const kind = Object.hasOwn(FLAGS, name) ? FLAGS[name] : undefined;
  switch (kind) {
    case "any":
      return flag;
    case "file":
    case "module":
      return `${name}=${readPath(value, kind === "module", refuse)}`;
    case "inspector":
      if (value === undefined || ADDRESS.test(value)) return flag;
      throw refuse(
        "everyone who can connect to an inspector controls the worker; use a loopback address",
      );
    case "v8":
      checkV8(value, refuse, hasMemory);
      return flag;
    default:
      throw refuse(
        `it is not known to leave the permissions as they are; use one of ${
          Object.keys(FLAGS).join(", ")
        } and --unstable-…`,
      );
  }
}

/** The absolute path of a file of the caller, or the URL of a module. */
function readPath(
  value: string | undefined,
  isModule: boolean,
  refuse: (why: string) => TypeError,
): string {
  if (value === undefined || value === "") {
    throw refuse('a path must follow, as in "--config=deno.json"');
  }
  if (!isUrl(value)) return absolutePath(value);
  if (isModule) return value;
  if (value.startsWith("file:")) return pathOf(new URL(value));
  throw refuse(
    "it must be a file, since Deno would load it without permission",
  );
}

function checkV8(
  value: string | undefined,
  refuse: (why: string) => TypeError,
  hasMemory: boolean,
): void {
  for (const item of value?.split(",") ?? [""]) {
    const [, name = ""] = /^--?([a-zA-Z0-9_-]+)(?:=[0-9.]+)?$/.exec(item) ?? [];
    const plain = name.replaceAll("_", "-").replace(/^no-/, "");
    if (!V8_FLAGS.includes(plain)) {
      throw refuse(
        `${
          quoted(item)
        } is not one of the flags of V8 that leave the sandbox intact; use --${
          V8_FLAGS.join(", --")
        }`,
      );
    }
    if (hasMemory && MEMORY_FLAGS.includes(plain)) {
      throw refuse('the option "memory" sets this flag of V8');
    }
  }
}
