// Copyright 2026 the Duplex authors. MIT license.

/**
 * Commands of the command line and their arguments.
 *
 * @module
 */

import { parseAddress, type SocketAddress } from "../_base/address.ts";
import { denyName, KINDS } from "../_base/permission_kinds.ts";
import { messageOf, quoted } from "../_base/text.ts";
import { parseArgs } from "@std/cli/parse-args";
import type { Permissions } from "../permissions.ts";

/** A command of the command line. */
export interface Command {
  /** Its purpose, in a line. */
  readonly summary: string;
  /**
   * Runs the command.
   *
   * @param args The arguments after its name.
   * @returns The exit code.
   * @throws {UsageError} If the arguments are wrong.
   */
  run(args: readonly string[]): Promise<number>;
}

/** Error of wrong arguments; the program exits with code 2. */
export class UsageError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "UsageError";
  }
}

/** The options of a command, without their dashes. */
export interface OptionNames {
  /** Options without a value. */
  readonly flags: readonly string[];
  /** Options with a value. */
  readonly values: readonly string[];
  /** Options with a value that may be repeated. */
  readonly lists: readonly string[];
  /** Flags by their letter. */
  readonly letters: Readonly<Record<string, string>>;
}

/** Arguments by their kind. */
export interface Arguments {
  readonly flags: ReadonlySet<string>;
  readonly values: ReadonlyMap<string, string>;
  readonly lists: ReadonlyMap<string, readonly string[]>;
  /** Arguments that are not options. */
  readonly operands: readonly string[];
  /** The arguments after `--`. */
  readonly rest: readonly string[];
}

/**
 * Reads arguments.
 *
 * @param args The arguments.
 * @param names The options of the command.
 * @throws {UsageError} If an argument is unknown or wrong.
 */
export function readArguments(
  args: readonly string[],
  names: OptionNames,
): Arguments {
  const { flags, letters } = names;
  const valued = [...names.values, ...names.lists];
  const known = [...valued, ...flags].map((name) => `--${name}`);
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
        throw unknownOption(arg, known);
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
    operands: (parsed["_"] as unknown[]).map(String),
    rest: parsed["--"] as string[],
  };
}

/** Error of an option that the command does not have. */
function unknownOption(arg: string, known: readonly string[]): UsageError {
  const permissions = ["--allow-all"].concat(
    ...KINDS.map((kind) => [`--allow-${kind}`, `--deny-${kind}`]),
  );
  const near = nearest(arg.replace(/=.*/s, ""), [...known, ...permissions]);
  const advice = near === undefined ? "" : `: give ${near}`;
  return new UsageError(`there is no option ${quoted(arg)}${advice}`);
}

/** Typing errors in a name that is still recognized: two letters swapped are two. */
const MAX_TYPOS = 2;

/**
 * Finds the name that was probably meant.
 *
 * @param given What was given.
 * @param names The names that exist.
 * @returns The name; `undefined` if none is similar.
 */
export function nearest(
  given: string,
  names: readonly string[],
): string | undefined {
  const [best] = names
    .map((name) => ({ name, typos: distance(given, name) }))
    // Most of a short name is right as well.
    .filter(({ name, typos }) => typos <= MAX_TYPOS && typos * 2 < name.length)
    .toSorted((a, b) => a.typos - b.typos);
  return best?.name;
}

/** Characters to insert, remove or replace; a large number if the lengths differ. */
function distance(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > MAX_TYPOS) return Infinity;
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const isSame = a[i - 1] === b[j - 1];
      const replaced = row[j - 1]! + (isSame ? 0 : 1);
      next.push(Math.min(replaced, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row.at(-1)!;
}

/** Throws if a flag has a value, which `parseArgs` ignores. */
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
 * Gives each flag the value "true". Otherwise `parseArgs` would use an operand
 * "true" or "false" after a flag as its value.
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
 * Throws if there is an option "_", the name under which `parseArgs` returns the
 * operands.
 */
function checkNames(args: readonly string[]): void {
  const end = args.indexOf("--");
  const wrong = (end < 0 ? args : args.slice(0, end))
    .find((arg) => /^(--(no-)?_([=.]|$)|-(?!-).*_)/s.test(arg));
  if (wrong === undefined) return;
  throw new UsageError(`there is no option ${quoted(wrong)}`);
}

/** The range of a number. */
export interface NumberRange {
  readonly min: number;
  readonly max?: number;
  readonly integer?: boolean;
}

/** The number of an option, or `fallback` without the option. */
export function readNumber<T>(
  { values }: Arguments,
  name: string,
  fallback: T,
  { min, max = Infinity, integer = false }: NumberRange,
): number | T {
  const text = values.get(name);
  if (text === undefined) return fallback;
  const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : NaN;
  if (
    value >= min && value <= max && (!integer || Number.isInteger(value))
  ) return value;
  const kind = integer ? "an integer" : "a number";
  const range = max === Infinity ? `from ${min} up` : `from ${min} to ${max}`;
  throw new UsageError(
    `--${name} takes ${kind} ${range}: current value is ${quoted(text)}`,
  );
}

/** Reads the address of a socket. */
export function readAddress(action: string, address: string): SocketAddress {
  try {
    return parseAddress(action, address);
  } catch (error) {
    throw new UsageError(messageOf(error), { cause: error });
  }
}

/** Deno's permission flags, for the help of a command. */
export const PERMISSIONS_USAGE = `\
  --allow-read[=PATHS]  --allow-write[=PATHS]   --allow-net[=HOSTS]
  --allow-env[=NAMES]   --allow-run[=PROGRAMS]  --allow-sys[=KINDS]
  --allow-ffi[=PATHS]   --allow-import[=HOSTS]
                        as the flags of Deno; none by default
  --deny-read[=PATHS] and so on
                        takes a part away, as the flags of Deno; for processes
  -A, --allow-all       all permissions of this program`;

/**
 * Reads the permissions of a worker, which have the form of Deno's flags.
 *
 * @param args The arguments.
 * @returns The permissions, and the other arguments.
 * @throws {UsageError} If a flag is wrong.
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
    const [, verb, kind = "", , items] =
      /^--(allow|deny)-([a-z]+)(=(.*))?$/s.exec(arg) ?? [];
    const name = verb === "deny" ? denyName(kind) : kind;
    if (arg === "-A" || arg === "--allow-all") all = arg;
    else if (!isKind(kind)) others.push(arg);
    else if (items === undefined) scopes.set(name, true);
    else addItems(scopes, name, items, arg);
  }
  const kind = [...scopes.keys()].find(isKind);
  if (all !== undefined && kind !== undefined) {
    throw new UsageError(
      `${all} grants all permissions: leave out --allow-${kind}, or ${all}`,
    );
  }
  if (scopes.size === 0) {
    return {
      permissions: all === undefined ? "none" : "inherit",
      args: others,
    };
  }
  const granted = all === undefined
    ? []
    : KINDS.map((kind) => [kind, "inherit"] as const);
  const permissions = Object.fromEntries([...granted, ...scopes]);
  return { permissions: permissions as Permissions, args: others };
}

function isKind(name: string): boolean {
  return (KINDS as readonly string[]).includes(name);
}

function addItems(
  scopes: Map<string, true | string[]>,
  name: string,
  items: string,
  arg: string,
): void {
  const list = items.split(",");
  if (list.includes("")) {
    throw new UsageError(
      `${
        arg.split("=")[0]
      } takes items separated by commas, or no "=" for all of them: current value is ${
        quoted(arg)
      }`,
    );
  }
  const scope = scopes.get(name);
  if (scope !== true) scopes.set(name, [...scope ?? [], ...list]);
}
