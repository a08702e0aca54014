// Copyright 2026 the Duplex authors. MIT license.

/**
 * The types of `@std/cli/parse-args` for `tools/with_jsr.ts`, as far as they are
 * used. The rest of `@std/cli` is not in the stand-in.
 *
 * @module
 */

export interface ParseOptions {
  "--"?: boolean;
  alias?: Record<string, string | readonly string[]>;
  boolean?: readonly string[];
  string?: readonly string[];
  collect?: readonly string[];
  unknown?: (arg: string, key?: string, value?: unknown) => unknown;
}

export interface Args {
  [name: string]: unknown;
  _: (string | number)[];
  "--"?: string[];
}

export function parseArgs(args: string[], options?: ParseOptions): Args;
