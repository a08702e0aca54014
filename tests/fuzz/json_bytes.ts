// Copyright 2026 the Duplex authors. MIT license.

/**
 * Bytes of JSON, valid or nearly.
 *
 * @module
 */

import { type Bytes, concat, type Draw, repeat, utf8 } from "./draw.ts";
import { WORDS } from "./msgpack_bytes.ts";

/** Texts that are a value, or look like one. */
const ATOMS: readonly string[] = [
  ...["null", "true", "false", "0", "-0", "1", "-1", "1.5", "1e3", "1E-7"],
  ...[
    "1e400",
    "-1e400",
    "5e-400",
    "9007199254740993",
    "0.1e+1",
    "12345678901234567890",
  ],
  ...['""', '"a"', '"\\u0000"', '"\\ud800"', '"\\ud83d\\ude00"', '"\\n\\/\\""'],
  ...["[]", "{}", '{"__proto__":1}', '{"toJSON":1}', '{"a":1,"a":2}'],
];

const WRONG: readonly string[] = [
  ...[
    "nul",
    "undefined",
    "NaN",
    "Infinity",
    "01",
    "1.",
    ".5",
    "+1",
    "-",
    "0x1",
  ],
  ...[
    '"',
    "'a'",
    '"\\x"',
    '"\\u12"',
    '"\n"',
    '"\t"',
    "[1,]",
    "{a:1}",
    "[",
    "}",
  ],
  ...["\ufeff", "1 2", "//", '{"a"}', '{"a":}', "[,]", "{1:1}", "\0", "\u00a0"],
];

const SPACES: readonly string[] = [
  "",
  "",
  "",
  "",
  " ",
  "\n",
  "\r\n\t ",
  "\u2028",
];

/** Generates JSON. */
export class JsonMaker {
  readonly #draw: Draw;
  #left = 60;
  readonly #hasErrors: boolean;

  constructor(draw: Draw, hasErrors: boolean) {
    this.#draw = draw;
    this.#hasErrors = hasErrors;
  }

  value(depth = 0): string {
    const draw = this.#draw;
    this.#left--;
    const space = this.#space();
    if (this.#hasErrors && draw.oneIn(40)) return draw.pick(WRONG);
    const isLeaf = this.#left <= 0 || depth > 8;
    switch (draw.below(isLeaf ? 3 : 6)) {
      case 0:
        return space + draw.pick(ATOMS) + this.#space();
      case 1:
        return space + this.#text();
      case 2:
        return String(
          draw.pick([
            draw.below(1000),
            draw.fraction() * 1e9,
            -draw.boundary(),
          ]),
        );
      case 3:
      case 4: {
        const items = this.#list(() => this.value(depth + 1));
        return `${space}[${items}${this.#space()}]${this.#space()}`;
      }
      default: {
        const fields = this.#list(() => {
          const value = this.value(depth + 1);
          return `${this.#space()}${this.#text()}${this.#space()}:${value}`;
        });
        return `{${fields}}`;
      }
    }
  }

  #list(make: () => string): string {
    return Array.from({ length: this.#draw.size(15) }, make).join(",");
  }

  #space(): string {
    // The last one is not white space in JSON.
    const draw = this.#draw;
    const space = draw.pick(SPACES);
    return space === "\u2028" && !(this.#hasErrors && draw.oneIn(10))
      ? ""
      : space;
  }

  #text(): string {
    const draw = this.#draw;
    const text = draw.pick(WORDS);
    const written = JSON.stringify(text);
    if (!draw.oneIn(6)) return written;
    // The same text with all characters escaped.
    const units = Array.from(
      { length: text.length },
      (_, at) => `\\u${text.charCodeAt(at).toString(16).padStart(4, "0")}`,
    );
    return `"${units.join("")}"`;
  }

  /** A large text. */
  amplified(): Bytes {
    const draw = this.#draw;
    const count = draw.oneIn(3)
      ? draw.between(1, 100_000)
      : draw.between(1, 3_000);
    switch (draw.below(6)) {
      case 0: {
        const levels = draw.pick([499, 500, 501, 1_001, count]);
        const open = draw.pick(["[", '{"a":', "[[],"]);
        const close = open.startsWith("[") ? "]" : "}";
        return utf8(open.repeat(levels) + "1" + close.repeat(levels));
      }
      case 1:
        return utf8(
          `[${"1".repeat(count)},-${"9".repeat(count)}e9,0.${
            "0".repeat(count)
          }1]`,
        );
      case 2: {
        const make = draw.pick<(index: number) => string>([
          (index) => String((index + 1) * 65_536),
          (index) => `key ${index}`,
          (index) => String(index),
          (index) => `\\u00${(index % 64 + 32).toString(16)}${index}`,
        ]);
        const fields = Array.from(
          { length: Math.min(count, 20_000) },
          (_, index) => `"${make(index)}":0`,
        );
        return utf8(`{${fields.join()}}`);
      }
      case 3: {
        const text = draw.pick([
          "a",
          "é",
          "中",
          "\ufffd",
          "\\n",
          "\\u0000",
          "\\\\",
        ]);
        return utf8(`"${text.repeat(count)}"`);
      }
      default: {
        this.#left = 5;
        const element = utf8(this.value(5));
        const times = Math.min(
          count,
          Math.ceil(600_000 / (element.length + 1)),
        );
        const items = repeat(concat(element, utf8(",")), times);
        return concat(utf8("["), items, utf8("0]"));
      }
    }
  }
}

/** Bytes of JSON, valid or nearly. */
export function makeJson(draw: Draw): Bytes {
  if (draw.oneIn(300)) return new JsonMaker(draw, false).amplified();
  return utf8(new JsonMaker(draw, draw.oneIn(2)).value());
}
