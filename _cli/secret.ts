// Copyright 2026 the Duplex authors. MIT license.

/**
 * The secret that both sides of a socket hold, and other files that options of the
 * command line name. A secret is never given on the command line, where every user
 * of the machine could read it.
 *
 * @module
 */

import { type Arguments, messageOf, UsageError } from "./arguments.ts";
import { quoted } from "../_base/text.ts";

/** The variable that a secret may be in. */
export const SECRET_VARIABLE = "DUPLEX_SECRET";

/**
 * Reads the secret from where it is, if there is one.
 *
 * @throws {UsageError} If there are two, or it is empty or cannot be read.
 */
export async function readSecret(
  { values }: Arguments,
): Promise<Uint8Array | undefined> {
  const variable = takeVariable();
  const file = values.get("secret-file");
  if (file !== undefined && variable !== undefined) {
    throw new UsageError(
      `there are two secrets, in --secret-file and in ${SECRET_VARIABLE}: give one of them`,
    );
  }
  if (file !== undefined) {
    const bytes = withoutNewline(await readFile("secret-file", file));
    if (bytes.length > 0) return bytes;
    throw new UsageError(`--secret-file ${quoted(file)} is empty`);
  }
  if (variable === undefined) return undefined;
  if (variable !== "") return new TextEncoder().encode(variable);
  throw new UsageError(
    `${SECRET_VARIABLE} is empty: set it to the secret, or not at all`,
  );
}

/**
 * Takes the variable out of the environment, which workers inherit. Asks for no
 * permission: without it there is no variable.
 */
function takeVariable(): string | undefined {
  const { state } = Deno.permissions.querySync({
    name: "env",
    variable: SECRET_VARIABLE,
  });
  if (state !== "granted") return undefined;
  const secret = Deno.env.get(SECRET_VARIABLE);
  if (secret !== undefined) Deno.env.delete(SECRET_VARIABLE);
  return secret;
}

function withoutNewline(bytes: Uint8Array): Uint8Array {
  let end = bytes.length;
  if (bytes[end - 1] === 0x0a) end--;
  if (end < bytes.length && bytes[end - 1] === 0x0d) end--;
  return bytes.subarray(0, end);
}

/**
 * Reads a file that an option names.
 *
 * @throws {UsageError} If it cannot be read.
 */
export async function readFile(
  option: string,
  path: string,
): Promise<Uint8Array> {
  try {
    return await Deno.readFile(path);
  } catch (error) {
    throw new UsageError(
      `--${option} ${quoted(path)} cannot be read: ${messageOf(error)}`,
      { cause: error },
    );
  }
}
