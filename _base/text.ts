// Copyright 2026 the Duplex authors. MIT license.

/**
 * Values as text, for errors and logs. A value may come from a peer: it may have
 * a `toString` that is not a function, a message that is not a string, or
 * characters that move a terminal's cursor. No function here throws, whatever the
 * value. Code that shows a value which it did not
 * make itself uses these in place of `String`, a template or `JSON.stringify`.
 *
 * @module
 */

/** Characters of a value that are shown. An error must stay readable. */
export const MAX_SHOWN_LENGTH = 200;

/** Characters of a reason that are shown within the text of another error. */
const MAX_REASON_LENGTH = 1000;

/** Bits up to which a bigint is shown: the time to write one grows as its square. */
const MAX_BIGINT_BITS = 1024;

/**
 * Control and format characters (terminal escapes, line breaks, bidirectional
 * overrides, characters without width), surrogates without a partner, and code
 * points that Unicode assigns no character.
 */
const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}]/gu;

/** Escapes every character that a terminal does not show as itself. */
export function printable(text: string): string {
  return text.replace(
    UNPRINTABLE,
    (char) => `\\u{${char.codePointAt(0)!.toString(16)}}`,
  );
}

/** Sequences that color text on a terminal, as in Deno's errors. */
const COLOR = new RegExp("\u001b\\[[\\d;]*m", "g");

/** A text without the sequences that color it. */
export function withoutColor(text: string): string {
  return text.replace(COLOR, "");
}

/** The first characters of a text, printable; "…" marks what was left out. */
export function excerpt(
  text: string,
  length: number = MAX_SHOWN_LENGTH,
): string {
  return text.length > length
    ? `${printable(text.slice(0, length))}…`
    : printable(text);
}

/** A text in quotation marks, on one line, printable and cut. */
export function quoted(
  text: string,
  length: number = MAX_SHOWN_LENGTH,
): string {
  const cut = text.slice(0, length);
  const mark = cut.length < text.length ? "…" : "";
  return printable(JSON.stringify(cut)) + mark;
}

/** A value as an error shows it: a string in quotation marks, an object by its kind. */
export function show(
  value: unknown,
  length: number = MAX_SHOWN_LENGTH,
): string {
  switch (typeof value) {
    case "string":
      return quoted(value, length);
    case "bigint":
      return showBigInt(value);
    case "symbol":
      return excerpt(value.toString(), length);
    case "function":
      return "a function";
    case "object":
      return value === null ? "null" : showObject(value);
    default:
      return `${value}`;
  }
}

function showBigInt(value: bigint): string {
  return BigInt.asIntN(MAX_BIGINT_BITS, value) === value
    ? `${value}n`
    : `a bigint of more than ${MAX_BIGINT_BITS} bits`;
}

function showObject(value: object): string {
  try {
    if (Array.isArray(value)) return "an array";
    const name: unknown = value.constructor?.name;
    return typeof name === "string" && name !== "" && name !== "Object"
      ? `an instance of ${excerpt(name)}`
      : "an object";
  } catch {
    // A proxy or a getter threw.
    return "an object";
  }
}

/**
 * The message of an error; any other value that was thrown as {@linkcode show} has
 * it. The text is neither escaped nor cut: {@linkcode excerpt} does that.
 */
export function messageOf(thrown: unknown): string {
  if (typeof thrown === "string") return thrown;
  try {
    if (thrown instanceof Error) {
      const { message } = thrown as { message: unknown };
      return typeof message === "string" ? message : show(message);
    }
  } catch {
    // A proxy or a getter threw.
  }
  return show(thrown);
}

/** The message of what was thrown, printable and cut, for the text of another error. */
export function reasonText(thrown: unknown): string {
  return excerpt(messageOf(thrown), MAX_REASON_LENGTH);
}
