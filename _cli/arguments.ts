// Copyright 2026 the Duplex authors. MIT license.

/**
 * What the commands of the command line share: what a command is, how its
 * arguments are read, how it prints, and how signals end it.
 *
 * @module
 */

import { excerpt, messageOf as textOf, quoted } from "../_base/text.ts";
import { parseArgs } from "@std/cli/parse-args";
import type { Permissions } from "../permissions.ts";

/** A command of the command line. */
export interface Command {
  /** What it does, in a line. */
  readonly summary: string;
  /**
   * Runs it.
   *
   * @param args The arguments behind its name.
   * @returns The exit code.
   * @throws {UsageError} If the arguments are wrong.
   */
  run(args: readonly string[]): Promise<number>;
}

/** Arguments that are wrong; the program exits with code 2. */
export class UsageError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "UsageError";
  }
}

/** The options that a command has, without their dashes. */
export interface OptionNames {
  /** Those that are there or not. */
  readonly flags: readonly string[];
  /** Those with a value. */
  readonly values: readonly string[];
  /** Those with a value that may be given several times. */
  readonly lists: readonly string[];
  /** Letters that stand for flags. */
  readonly letters: Readonly<Record<string, string>>;
}

/** Arguments as they were given. */
export interface Arguments {
  readonly flags: ReadonlySet<string>;
  readonly values: ReadonlyMap<string, string>;
  readonly lists: ReadonlyMap<string, readonly string[]>;
  /** What is no option. */
  readonly operands: readonly string[];
  /** What stands behind `--`. */
  readonly rest: readonly string[];
}

/**
 * Reads arguments. Nothing that is not known is passed over.
 *
 * @param args The arguments.
 * @param names The options that there are.
 */
export function readArguments(
  args: readonly string[],
  names: OptionNames,
): Arguments {
  const { flags, letters } = names;
  const valued = [...names.values, ...names.lists];
  checkFlags(args, names);
  checkNames(args);
  const parsed: Record<string, unknown> = parseArgs(
    withFlagValues(args, names),
    {
      "--": true,
      alias: { ...letters },
      boolean: flags,
      string: [...valued, "_"],
      collect: valued,
      unknown(arg, key) {
        if (key === undefined) return true;
        throw new UsageError(`there is no option ${quoted(arg)}`);
      },
    },
  );
  const values = new Map<string, string>();
  const lists = new Map<string, string[]>();
  for (const name of valued) {
    const given = parsed[name] as string[];
    if (given.includes("")) throw new UsageError(`--${name} takes a value`);
    const isList = names.lists.includes(name);
    if (isList) lists.set(name, given);
    else if (given.length === 1) values.set(name, given[0]!);
    else if (given.length > 1) {
      throw new UsageError(`--${name} is given more than once`);
    }
  }
  return {
    flags: new Set(flags.filter((name) => parsed[name] === true)),
    values,
    lists,
    operands: (parsed._ as unknown[]).map(String),
    rest: parsed["--"] as string[],
  };
}

/** Refuses a value behind a flag, of which `parseArgs` makes `true`. */
function checkFlags(
  args: readonly string[],
  { flags, letters }: OptionNames,
): void {
  const takesNone = [
    ...flags.map((name) => `--${name}`),
    ...Object.keys(letters).map((letter) => `-${letter}`),
  ];
  const end = args.indexOf("--");
  for (const arg of end < 0 ? args : args.slice(0, end)) {
    const name = takesNone.find((name) => arg.startsWith(`${name}=`));
    if (name === undefined) continue;
    throw new UsageError(
      `${name} takes no value: current value is ${
        quoted(arg.slice(name.length + 1))
      }`,
    );
  }
}

/**
 * Gives each flag the value "true": behind a flag without a value, `parseArgs`
 * takes an operand "true" or "false" as its value.
 */
function withFlagValues(
  args: readonly string[],
  { flags, letters }: OptionNames,
): string[] {
  const end = args.indexOf("--");
  const options = end < 0 ? args : args.slice(0, end);
  const complete = options.flatMap((arg) => {
    if (flags.some((name) => arg === `--${name}`)) return [`${arg}=true`];
    const names = /^-[^-]/.test(arg)
      ? Array.from(arg.slice(1), (letter) => letters[letter])
      : [];
    const isKnown = names.length > 0 &&
      names.every((name) => name !== undefined);
    return isKnown ? names.map((name) => `--${name}=true`) : [arg];
  });
  return [...complete, ...args.slice(options.length)];
}

/**
 * Refuses an option "_": `parseArgs` keeps the operands under this name, so it
 * would take the place of them.
 */
function checkNames(args: readonly string[]): void {
  const end = args.indexOf("--");
  const wrong = (end < 0 ? args : args.slice(0, end))
    .find((arg) => /^(--(no-)?_([=.]|$)|-(?!-).*_)/s.test(arg));
  if (wrong === undefined) return;
  throw new UsageError(`there is no option ${quoted(wrong)}`);
}

/** What a number must be. */
export interface NumberRange {
  readonly least: number;
  readonly most?: number;
  readonly whole?: boolean;
}

/** The number that an option has, `fallback` where it was not given. */
export function readNumber<T>(
  { values }: Arguments,
  name: string,
  fallback: T,
  { least, most = Infinity, whole = false }: NumberRange,
): number | T {
  const text = values.get(name);
  if (text === undefined) return fallback;
  const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : NaN;
  if (
    value >= least && value <= most && (!whole || Number.isInteger(value))
  ) return value;
  const kind = whole ? "whole number" : "number";
  const range = most === Infinity
    ? `from ${least} up`
    : `from ${least} to ${most}`;
  throw new UsageError(
    `--${name} takes a ${kind} ${range}: current value is ${quoted(text)}`,
  );
}

/** The kinds of permission that there are flags for. */
const KINDS: readonly string[] = [
  "env",
  "ffi",
  "import",
  "net",
  "read",
  "run",
  "sys",
  "write",
];

/** The flags of the permissions as Deno has them, for a command's help. */
export const PERMISSIONS_USAGE = `\
  --allow-read[=PATHS]  --allow-write[=PATHS]   --allow-net[=HOSTS]
  --allow-env[=NAMES]   --allow-run[=PROGRAMS]  --allow-sys[=KINDS]
  --allow-ffi[=PATHS]   --allow-import[=HOSTS]
                        as Deno's own flags; nothing by default
  -A, --allow-all       all that this program may do itself`;

/**
 * Reads the permissions that a worker is given, which are written as Deno's own
 * flags are.
 *
 * @param args The arguments.
 * @returns The permissions, and the arguments without them.
 */
export function readPermissions(
  args: readonly string[],
): { permissions: Permissions; args: string[] } {
  const scopes = new Map<string, true | string[]>();
  const others: string[] = [];
  let all: string | undefined;
  for (const [index, arg] of args.entries()) {
    if (arg === "--") {
      others.push(...args.slice(index));
      break;
    }
    const [, kind, , items] = /^--allow-([a-z]+)(=(.*))?$/s.exec(arg) ?? [];
    if (arg === "-A" || arg === "--allow-all") all = arg;
    else if (kind === undefined || !KINDS.includes(kind)) others.push(arg);
    else if (items === undefined) scopes.set(kind, true);
    else addItems(scopes, kind, items, arg);
  }
  if (all !== undefined && scopes.size > 0) {
    const [kind] = scopes.keys();
    throw new UsageError(
      `${all} is all that there is: leave out --allow-${kind}, or ${all}`,
    );
  }
  const permissions = all !== undefined
    ? "inherit"
    : scopes.size === 0
    ? "none"
    : Object.fromEntries(scopes) as Deno.PermissionOptionsObject;
  return { permissions, args: others };
}

function addItems(
  scopes: Map<string, true | string[]>,
  kind: string,
  items: string,
  arg: string,
): void {
  const list = items.split(",");
  if (list.includes("")) {
    throw new UsageError(
      `--allow-${kind} takes items with commas between them, or no "=" for all of them: current value is ${
        quoted(arg)
      }`,
    );
  }
  const scope = scopes.get(kind);
  if (scope !== true) scopes.set(kind, [...scope ?? [], ...list]);
}

/** Characters of an error's text that are shown. */
const MAX_SHOWN_LENGTH = 1000;

/** What colours text in a terminal, as Deno's errors are even in a pipe. */
const COLOR = new RegExp("\u001b\\[[\\d;]*m", "g");

/**
 * The text of what was thrown, on one line: a peer may have chosen it, and must
 * neither begin a line nor colour a terminal.
 */
export function messageOf(thrown: unknown): string {
  const text = textOf(thrown).replace(COLOR, "").replaceAll("\n", " ");
  return excerpt(text, MAX_SHOWN_LENGTH);
}

/** A number with a space between thousands, as in the README. */
export function groupDigits(value: number): string {
  return String(value).replace(/(?<!\.\d*)\B(?=(\d{3})+(?!\d))/g, " ");
}

/** Prints a line to standard output. */
export function printLine(line: string): void {
  write(Deno.stdout, line);
}

/** Prints a line to standard error. */
export function printError(line: string): void {
  write(Deno.stderr, line);
}

function write(stream: typeof Deno.stdout, line: string): void {
  const bytes = new TextEncoder().encode(`${line}\n`);
  try {
    writeAllSync(stream, bytes);
  } catch {
    // Nobody reads it any more; the program goes on without.
  }
}

/** Writes all bytes, in as many parts as it takes. */
export function writeAllSync(
  sink: { writeSync(bytes: Uint8Array): number },
  bytes: Uint8Array,
): void {
  for (let start = 0; start < bytes.length;) {
    start += sink.writeSync(bytes.subarray(start));
  }
}

/** A signal that ends the program. */
export interface EndSignal {
  readonly name: Deno.Signal;
  /** The exit code of a program that it has ended. */
  readonly code: number;
}

const END_SIGNALS: readonly EndSignal[] = Deno.build.os === "windows"
  ? [{ name: "SIGINT", code: 130 }, { name: "SIGBREAK", code: 149 }]
  : [{ name: "SIGINT", code: 130 }, { name: "SIGTERM", code: 143 }];

/** Waits for a signal to end in good order; a second one ends the program. */
export class EndSignals implements Disposable {
  readonly #listeners: (readonly [Deno.Signal, () => void])[] = [];
  readonly #first = Promise.withResolvers<EndSignal>();
  #count = 0;

  /** @param onSecond Called right before a second signal ends the program. */
  constructor(onSecond: () => void = () => {}) {
    for (const signal of END_SIGNALS) {
      const onSignal = () => {
        this.#first.resolve(signal);
        if (++this.#count === 1) return;
        onSecond();
        Deno.exit(signal.code);
      };
      Deno.addSignalListener(signal.name, onSignal);
      this.#listeners.push([signal.name, onSignal]);
    }
  }

  /** Settles with the first signal. */
  get first(): Promise<EndSignal> {
    return this.#first.promise;
  }

  [Symbol.dispose](): void {
    for (const [signal, onSignal] of this.#listeners) {
      Deno.removeSignalListener(signal, onSignal);
    }
  }
}
