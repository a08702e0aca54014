// Copyright 2026 the Duplex authors. MIT license.

/**
 * The input of the command line: lines, arguments and addresses.
 *
 * @module
 */

import {
  readArguments,
  readPermissions,
  UsageError,
} from "../../_cli/arguments.ts";
import {
  type BadLine,
  type ByteSource,
  Items,
  LineReader,
  parseLine,
} from "../../_cli/map_input.ts";
import { readMapOptions } from "../../_cli/map_options.ts";
import { readServeOptions } from "../../_cli/serve.ts";
import { formatAddress, parseAddress } from "../../_base/address.ts";
import {
  type Bytes,
  concat,
  Draw,
  mutate,
  smallerBytes,
  utf8,
} from "./draw.ts";
import { difference, equalBytes } from "./equal.ts";
import {
  checkMessage,
  show,
  type Target,
  Violation,
  within,
} from "./harness.ts";
import { JsonMaker } from "./json_bytes.ts";

/** Milliseconds within which a read must settle. */
const LIMIT = 3_000;

/** Bytes that are read in pieces. */
class PieceSource implements ByteSource {
  readonly #bytes: Bytes;
  readonly #draw: Draw;
  readonly #most: number;
  #at = 0;

  constructor(bytes: Bytes, draw: Draw) {
    this.#bytes = bytes;
    this.#draw = draw;
    this.#most = bytes.length < 300 ? draw.pick([1, 2, 7, 65_536]) : 65_536;
  }

  read(into: Uint8Array): Promise<number | null> {
    const left = this.#bytes.length - this.#at;
    if (left === 0) return Promise.resolve(null);
    const most = Math.min(left, into.length, this.#most);
    // The whole input if no choices are left.
    const size = most - this.#draw.below(most);
    into.set(this.#bytes.subarray(this.#at, this.#at + size));
    this.#at += size;
    return Promise.resolve(size);
  }
}

const LINES: readonly string[] = [
  ...["", "", " ", "\t", "\r", "\ufeff", "\ufeff1", "\ufeff\ufeff1", "1\r\r"],
  ...["\u2028", "\u00a0", "\0", "\ufffd", '"\ufffd"', "{", "nul", " 1 "],
];

/** Bytes that are invalid UTF-8, or a part of valid UTF-8. */
const WRONG_BYTES: readonly number[][] = [
  ...[[0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xef, 0xbf], [0xe2, 0x82]],
  ...[[0xf4, 0x90, 0x80, 0x80], [0x22, 0xf0, 0x9f, 0x98, 0x22]],
];

function drawInput(draw: Draw): Bytes {
  const parts: Uint8Array[] = [];
  if (draw.oneIn(6)) parts.push(utf8("\ufeff"));
  // A line longer than a chunk.
  let isLong = draw.oneIn(8);
  for (let left = draw.size(30); left > 0; left--) {
    switch (draw.below(6)) {
      case 0:
        parts.push(utf8(draw.pick(LINES)));
        break;
      case 1:
        parts.push(new Uint8Array(draw.pick(WRONG_BYTES)));
        break;
      case 2:
        parts.push(utf8("x".repeat(isLong ? 140_000 : draw.below(90))));
        isLong = false;
        break;
      default:
        parts.push(
          utf8(
            new JsonMaker(draw, draw.oneIn(3)).value().replaceAll("\n", " "),
          ),
        );
    }
    parts.push(utf8(draw.pick(["\n", "\n", "\r\n", "\n\n", "", "\r"])));
  }
  const bytes = concat(...parts);
  return draw.oneIn(3) ? mutate(bytes, draw) : bytes;
}

/** Parses a line with a second implementation. */
type Expected =
  | { readonly kind: "blank" }
  | { readonly kind: "bad" }
  | { readonly kind: "item"; readonly item: unknown };

const TEXT = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function splitLines(input: Bytes): Bytes[] {
  const lines: Bytes[] = [];
  let start = 0;
  for (let at; (at = input.indexOf(0x0a, start)) >= 0; start = at + 1) {
    lines.push(input.slice(start, at));
  }
  if (start < input.length) lines.push(input.slice(start));
  return lines;
}

function readExpected(bytes: Bytes, number: number, max: number): Expected {
  if (bytes.length > max) return { kind: "bad" };
  let text: string;
  try {
    text = TEXT.decode(bytes);
  } catch {
    return { kind: "bad" };
  }
  if (text.endsWith("\r")) text = text.slice(0, -1);
  if (number === 1 && text.startsWith("\ufeff")) text = text.slice(1);
  if (text.replaceAll(" ", "").replaceAll("\t", "") === "") {
    return { kind: "blank" };
  }
  try {
    return { kind: "item", item: JSON.parse(text) };
  } catch {
    return { kind: "bad" };
  }
}

async function runReader(draw: Draw): Promise<void> {
  const input = drawInput(draw);
  const max = draw.oneIn(3) ? draw.below(80) : 200_000;
  const reader = new LineReader(new PieceSource(input, draw), max);
  const lines = splitLines(input);
  for (const [index, expected] of lines.entries()) {
    const line = await within(reader.next(), LIMIT, "a line");
    const isLast = index === lines.length - 1 && input.at(-1) !== 0x0a;
    if (
      line === undefined || line.number !== index + 1 ||
      line.size !== expected.length + (isLast ? 0 : 1)
    ) throw new Violation(`Another line ${index + 1} is read: ${show(line)}`);
    const kept = expected.subarray(0, max + 1);
    if (!equalBytes(line.bytes, kept) && !equalBytes(line.bytes, expected)) {
      throw new Violation(`Line ${index + 1} has other bytes: ${show(line)}`);
    }
    const parsed = parseLine(line, max);
    const right = readExpected(expected, index + 1, max);
    if (parsed.kind !== right.kind) {
      throw new Violation(
        `Line ${index + 1} is "${parsed.kind}" and not "${right.kind}"`,
      );
    }
    if (parsed.kind === "bad") checkMessage(parsed.error);
    if (parsed.kind !== "item" || right.kind !== "item") continue;
    if (difference(parsed.item, right.item) === undefined) continue;
    throw new Violation(
      `Line ${index + 1} gives another value: ${show(parsed.item)}`,
    );
  }
  if (await within(reader.next(), LIMIT, "the end") !== undefined) {
    throw new Violation("There is an additional line");
  }
}

/** Reads all items, and settles some of them in another order. */
async function runItems(draw: Draw): Promise<void> {
  const input = drawInput(draw);
  const bad: BadLine[] = [];
  const items = new Items(
    new PieceSource(input, draw),
    (line) => bad.push(line),
    400,
  );
  const found: unknown[] = [];
  const open: number[] = [];
  const settled: [index: number, line: number][] = [];
  const settleOne = () => {
    const [index] = open.splice(draw.below(open.length), 1);
    settled.push([index!, items.lineOf(index!)]);
    items.settle(index!);
  };
  for (;;) {
    const next = items.next();
    let isDone = false;
    const waiting = next.finally(() => isDone = true);
    for (let left = 400; left > 0 && !isDone; left--) {
      // It continues to read only when there is room.
      await undefined;
      if (left < 380 && open.length > 0 && left % 8 === 0) settleOne();
    }
    const { value, done } = await within(waiting, LIMIT, "an item");
    if (done) break;
    open.push(found.length);
    found.push(value);
    while (open.length > 0 && draw.oneIn(2)) settleOne();
  }
  while (open.length > 0) settleOne();
  checkItems(input, { found, bad, settled, items });
}

interface Read {
  readonly found: readonly unknown[];
  readonly bad: readonly BadLine[];
  readonly settled: readonly (readonly [number, number])[];
  readonly items: Items;
}

function checkItems(input: Bytes, { found, bad, settled, items }: Read): void {
  const expected = splitLines(input).map((bytes, index) => ({
    line: index + 1,
    ...readExpected(bytes, index + 1, Infinity),
  }));
  const right = expected.filter(({ kind }) => kind === "item");
  const wrong = expected.filter(({ kind }) => kind === "bad");
  const values = right.map((line) =>
    (line as unknown as { item: unknown }).item
  );
  const where = difference(found, values);
  if (where !== undefined) {
    throw new Violation(`Other items are read, at ${where}`);
  }
  const badPlace = difference(
    bad.map(({ line }) => line),
    wrong.map(({ line }) => line),
  );
  if (badPlace !== undefined) {
    throw new Violation(`Other lines are refused, at ${badPlace}`);
  }
  for (const [index, line] of settled) {
    if (line === right[index]!.line) continue;
    throw new Violation(`Item ${index} reports line ${line}`);
  }
  if (items.doneBytes !== input.length || items.left !== undefined) {
    throw new Violation(
      `${items.doneBytes} of ${input.length} bytes are done`,
    );
  }
}

/** Possible arguments of a command. */
const TOKENS: readonly string[] = [
  ...["worker.ts", "method", "--help", "-h", "-q", "--", "-", "---", "", " "],
  ...[
    "--workers",
    "--workers=3",
    "--workers=0",
    "--workers=1e3",
    "--workers=",
    "2",
  ],
  ...[
    "--unordered",
    "--unordered=1",
    "--no-unordered",
    "--retries=0x1",
    "--timeout",
  ],
  ...[
    "--timeout=Infinity",
    "--over",
    "--over=queue",
    "--over=tcp://a:1",
    "--memory=1",
  ],
  ...[
    "--over=unix:",
    "--over=tls://[::1]:5",
    "--secret-file=none/such",
    "--ca-cert",
  ],
  ...[
    "--listen",
    "--listen=tcp://127.0.0.1:0",
    "--listen=unix:/x",
    "--grace=-1",
  ],
  ...[
    "--max-workers=9999999999999999999",
    "--resume=0",
    "--cert=none/such",
    "--key",
  ],
  ...[
    "--allow-read",
    "--allow-read=a,b",
    "--allow-read=",
    "--allow-net=,",
    "-A",
  ],
  ...[
    "--allow-all",
    "--allow-unauthenticated",
    "--allow-x",
    "--__proto__",
    "--a.b=1",
  ],
  ...[
    "--constructor=1",
    "--__proto__.x=1",
    "--toString",
    "-hq",
    "-qh=1",
    "-x",
    "--=1",
  ],
  ...[
    "--no-",
    "--no-help",
    "--workers.x=1",
    "--errors=\u001b[31m",
    "\u202e",
    "--_=1",
  ],
  ...["--_", "--quiet=false", "--help=false", "--listen=http://a", "-5", "--5"],
];

function drawToken(draw: Draw): string {
  const token = draw.pick(TOKENS);
  if (draw.below(6) < 5) return token;
  // An argument is a text without a NUL character.
  const bytes = mutate(utf8(token), draw);
  return new TextDecoder().decode(bytes).replaceAll("\0", "x");
}

async function runArguments(draw: Draw): Promise<void> {
  const args = Array.from({ length: draw.below(8) }, () => drawToken(draw));
  for (const read of [readMapOptions, readServeOptions, readPermissions]) {
    try {
      await read(args);
    } catch (error) {
      if (!(error instanceof UsageError)) {
        throw new Violation(`Arguments ${show(args)} throw ${show(error)}`);
      }
      checkMessage(error);
    }
  }
}

const NAMES = {
  flags: ["help", "quiet", "no-check"],
  values: ["size", "over", "file"],
  lists: ["listen"],
  letters: { h: "help" },
};

const VALUES: readonly string[] = [
  ...["a", "1", "1e3", "0x10", "007", "true", "false", "a=b", "=", "a,b", " "],
  ...["é", "null", "NaN", "tcp://a:1", "[]", "{}", "__proto__", "3.10", "\n"],
];

/** Valid arguments, and their meaning. */
function runRightArguments(draw: Draw): void {
  const args: string[] = [];
  const flags = new Set<string>();
  const values = new Map<string, string>();
  const listen: string[] = [];
  const operands: string[] = [];
  const rest: string[] = [];
  for (let left = draw.below(7); left > 0; left--) {
    const value = draw.pick(VALUES);
    const name = draw.pick([...NAMES.values, ...NAMES.lists]);
    switch (draw.below(4)) {
      case 0: {
        const flag = draw.pick(["help", "quiet"]);
        flags.add(flag);
        args.push(flag === "help" && draw.oneIn(2) ? "-h" : `--${flag}`);
        break;
      }
      case 1:
        // The argument after a flag must not be its value.
        operands.push(value);
        args.push(value);
        break;
      default:
        if (values.has(name)) break;
        if (name === "listen") listen.push(value);
        else values.set(name, value);
        args.push(
          ...(draw.oneIn(2) ? [`--${name}=${value}`] : [`--${name}`, value]),
        );
    }
  }
  if (draw.below(4) === 3) {
    rest.push(
      ...Array.from({ length: draw.below(3) }, () => draw.pick(TOKENS)),
    );
    args.push("--", ...rest);
  }
  const expected = {
    flags,
    values,
    lists: new Map([["listen", listen]]),
    operands,
    rest,
  };
  let found: unknown;
  try {
    found = readArguments(args, NAMES);
  } catch (error) {
    throw new Violation(`Arguments ${show(args)} are refused: ${show(error)}`);
  }
  const sorted = (value: unknown) => {
    const { flags, values, ...others } = value as typeof expected;
    return { flags: [...flags].sort(), values: [...values].sort(), ...others };
  };
  const where = difference(sorted(found), sorted(expected));
  if (where === undefined) return;
  throw new Violation(
    `Arguments ${show(args)} are read as ${show(found)}, at ${where}`,
  );
}

const ADDRESSES: readonly string[] = [
  ...[
    "tcp://localhost:1",
    "tcp://127.0.0.1:0",
    "tls://[::1]:443",
    "unix:/tmp/x",
  ],
  ...[
    "unix:x",
    "unix:///tmp/x",
    "unix://host/x",
    "unix:",
    "unix:/a%zz",
    "unix:/%00",
  ],
  ...["unix:/a%20b%2f", "tcp://a:65535", "tcp://a:65536", "tcp://a", "tcp:a:1"],
  ...["tcp://a:1/", "tcp://a:1/x", "tcp://a:1?x", "tcp://u:p@a:1", "TCP://A:1"],
  ...[
    "tcp://[::ffff:1.2.3.4]:1",
    "tcp://[::1%25eth0]:1",
    "tcp://é:1",
    "tcp://a%41:1",
  ],
  ...[
    "tls://a:443",
    "http://a:1",
    "tcp:///x",
    "tcp://:1",
    "tcp://a:01",
    "tcp://a: 1",
  ],
  ...[
    "unix:/" + "x".repeat(106),
    "unix:/" + "é".repeat(60),
    "unix:/a\nb",
    "//a:1",
    "",
  ],
];

function runAddress(draw: Draw): void {
  const picked = draw.pick(ADDRESSES);
  const text = draw.oneIn(2)
    ? picked
    : new TextDecoder().decode(mutate(utf8(picked), draw));
  const inputs: unknown[] = [text, draw.pick([undefined, null, 1, {}, [text]])];
  if (URL.canParse(text)) inputs.push(new URL(text));
  for (const input of inputs) {
    try {
      const address = parseAddress("Cannot listen", input);
      const again = parseAddress("Cannot listen", formatAddress(address));
      const where = difference(address, again);
      if (where === undefined) continue;
      throw new Violation(
        `Two implementations read an address differently, at ${where}: ${
          show(input)
        }`,
      );
    } catch (error) {
      if (error instanceof Violation) throw error;
      if (!(error instanceof TypeError) && !(error instanceof RangeError)) {
        throw new Violation(
          `An address throws another error: ${show({ input, error })}`,
        );
      }
      checkMessage(error);
      if (error.message.startsWith("Cannot listen as ")) continue;
      throw new Violation(
        `An address throws another error: ${show({ input, error })}`,
      );
    }
  }
}

const cli: Target = {
  batch: 20_000,
  group: 1_000,
  isAsync: true,
  make(draw) {
    const bytes = draw.bytes(draw.between(10, 800));
    return draw.oneIn(3) ? mutate(bytes, draw) : bytes;
  },
  async run(input) {
    const draw = Draw.from(input);
    switch (draw.below(8)) {
      case 0:
      case 1:
        return await runReader(draw);
      case 2:
      case 3:
        return await runItems(draw);
      case 4:
      case 5:
        return await runArguments(draw);
      case 6:
        return runRightArguments(draw);
      default:
        return runAddress(draw);
    }
  },
  // A line of 140 KB has several copies, and is measured together with its
  // reference.
  budget: (size) => ({ ms: 400 + size * 0.2, bytes: 24 * 2 ** 20 }),
  smaller: smallerBytes,
};

/** The targets of this file. */
export const CLI_TARGETS: Readonly<Record<string, Target>> = { cli };
