// Copyright 2026 the Duplex authors. MIT license.

/**
 * Bytes of MessagePack, valid or nearly: all formats and extension types, wrong
 * lengths, deep nesting, and few bytes with a high cost.
 *
 * @module
 */

import { type Bytes, concat, type Draw, repeat, uint32, utf8 } from "./draw.ts";

/** Maximum bytes of a generated value, except for amplified ones. */
const MAX_NODES = 60;

/** Maximum number of repetitions of an element. */
const MAX_REPEATED = 100_000;

/** Keys and texts that code may handle specially. */
export const WORDS: readonly string[] = [
  ...["a", "b", "c", "d", "id", "name", "text", "key", "", "length", "0", "7"],
  ...["__proto__", "constructor", "prototype", "toString", "valueOf", "toJSON"],
  ...["then", "cause", "errors", "error", "suppressed", "message", "stack"],
  ...["4294967293", "4294967294", "4294967295", "1023", "01", "-1", "1e3"],
  ...["\ufeffa", "\ufffd", "größe", "中", "𝄞", "\u202e", "\0", "\u001b[2J"],
  ..."x".repeat(31).padStart(32, "y").padStart(40, "z").match(/.{8}/g)!,
  "k".repeat(32),
  "k".repeat(64),
  "k".repeat(65),
  "n".repeat(300),
];

/** Regular expressions that V8 parses slowly. */
const EXPRESSIONS: readonly string[] = [
  ...["", "a+", "(?:)", "(", "[", "\\", "a{1,2}{3}", "(?<x>a)\\k<x>"],
  ...["\\p{L}", "\\p{RGI_Emoji}", "[\\p{L}--[a-z]]", "[\\W\\W\\W]", "(?=a)*"],
  ...["(a|b)*", "\\1()", "(?i:a)", "[^]", "\ud800", "/", "\n", "(((())))"],
];

/** Parts of long regular expressions. */
const EXPRESSION_PARTS: readonly string[] = [
  ...["(", "()", "(a)\\1", "\\1", "[\\W\\W]", "\\W", "\\p{L}", "\\P{Lu}"],
  ...["\\p{RGI_Emoji}", "a{2}", "(?:", "|", "a?", "[a-z]", "\\u{1f600}", "x"],
];

const FLAGS: readonly string[] = [
  "",
  "g",
  "i",
  "u",
  "v",
  "iu",
  "gimsuy",
  "uv",
  "gg",
];

/** Parts that V8 parses slowly, and the flags for them. */
const COSTLY_EXPRESSIONS: readonly (readonly [part: string, flags: string])[] =
  [
    ["\\p{RGI_Emoji}", "v"],
    ["\\p{L}", "u"],
    ["\\P{Lu}", "iu"],
    ["[\\W\\W\\W]", "iu"],
    ["(a)\\1", ""],
  ];

/** Class names of errors. */
const CLASSES: readonly string[] = [
  ...["Error", "TypeError", "RangeError", "AggregateError", "DOMException"],
  ...["SuppressedError", "URIError", "EvalError", "MyError", "", "Object"],
  ...["Function", "__proto__", "RemoteError"],
];

const VIEW_KINDS = 14;

/** Generates MessagePack. */
/** Texts of each kind of extension 0x0f, some of which are not in their normal form. */
const WRITTEN: readonly (readonly string[])[] = [
  [""],
  ["a:b", "http://h/?q#f", "http://h", "a", "file://~/C:/x", "http://ä/"],
  ["2020-01-01T00:00:00Z", "2020-01-01T00:00Z", "2020-01-01T00:00:00+01:00"],
  [
    "2020-01-01T00:00:00Z[Europe/Berlin]",
    "2020-01-01T00:00:00Z[-01:00][u-ca=roc]",
    "2020-01-01T01:00:00+01:00[Europe/Berlin]",
    "2020-01-01T00:00:00Z[No/Where]",
  ],
  ["2020-02-29", "2020-02-29[u-ca=hebrew]", "2020-02-30", "20200229"],
  ["12:34:56.789", "12:34:00", "12:34", "25:00:00"],
  ["2020-02-29T00:00:00", "2020-02-29T00:00", "2020-02-29T00:00:00[u-ca=x]"],
  ["2020-02-01[u-ca=iso8601]", "2020-02", "2020-02-07[u-ca=hebrew]"],
  ["1972-02-29[u-ca=iso8601]", "02-29", "1972-02-09[u-ca=chinese]"],
  ["0,0,0,0,0,0,0,1500,0,0", "PT1S", "1,2,3", "1,-1,0,0,0,0,0,0,0,0", "-0"],
  ["x"],
];

export class MsgpackMaker {
  readonly #draw: Draw;
  /** The number of values that may still be generated. */
  #left = MAX_NODES;
  /** Whether lengths and payloads may be wrong. */
  readonly #hasErrors: boolean;
  /** The number of containers that have started in graph form, at least. */
  #started = 0;
  #isGraph = false;

  constructor(draw: Draw, hasErrors: boolean) {
    this.#draw = draw;
    this.#hasErrors = hasErrors;
  }

  /** One value of any kind. */
  value(depth = 0): Bytes {
    const draw = this.#draw;
    this.#left--;
    const isLeaf = this.#left <= 0 || depth > 6;
    if (this.#isGraph && this.#started > 0 && draw.oneIn(4)) {
      return this.#reference();
    }
    if (this.#hasErrors && draw.oneIn(200)) {
      return draw.oneIn(2)
        ? this.#reference()
        : this.extension(12, this.text());
    }
    switch (draw.below(isLeaf ? 8 : 14)) {
      case 0:
        return new Uint8Array([draw.pick([0xc0, 0xc2, 0xc3])]);
      case 1:
        return new Uint8Array([
          draw.pick([draw.below(128), 255 - draw.below(32)]),
        ]);
      case 2:
      case 3:
        return this.#number();
      case 4:
      case 5:
        return this.text();
      case 6:
        return this.#binary();
      case 7:
        return this.#leafExtension();
      case 8:
      case 9:
        return this.#array(depth);
      case 15:
        return this.extension(15, ...this.#written());
      case 10:
      case 11:
        return this.#map(depth);
      default:
        return this.#structure(depth);
    }
  }

  /** A message in graph form. */
  graph(): Bytes {
    this.#isGraph = true;
    this.#started = 0;
    return this.extension(12, this.value());
  }

  /** A reference, in most cases to a container that has started. */
  #reference(): Bytes {
    const draw = this.#draw;
    const isWrong = this.#hasErrors && draw.oneIn(10);
    const number = isWrong ? draw.boundary() : draw.below(this.#started + 1);
    const sizes = number < 256 ? [1, 2, 4] : number < 65_536 ? [2, 4] : [4];
    const size = isWrong ? draw.pick([0, 1, 2, 3, 4, 8]) : draw.pick(sizes);
    const bytes = uint32(number);
    return this.extension(
      13,
      size <= 4 ? bytes.subarray(4 - size) : concat(bytes, bytes),
    );
  }

  /** A number in any format. */
  #number(): Bytes {
    const draw = this.#draw;
    const format = draw.between(0xca, 0xd3);
    const size = [4, 8, 1, 2, 4, 8, 1, 2, 4, 8][format - 0xca]!;
    const bytes = draw.oneIn(2) ? draw.bytes(size) : new Uint8Array(size);
    if (size >= 4 && draw.oneIn(2)) {
      bytes.set(uint32(draw.boundary()), size - 4);
    }
    if (size === 8 && draw.oneIn(3)) {
      bytes.set(
        uint32(draw.pick([0, 0x1f_ffff, 0x20_0000, 0xffe0_0000, 2 ** 31])),
      );
    }
    return concat(new Uint8Array([format]), bytes);
  }

  /** A header with a size in one of its formats. */
  #sized(size: number, least: number, formats: readonly number[]): Bytes {
    const draw = this.#draw;
    const said = this.#hasErrors && draw.oneIn(40) ? draw.boundary() : size;
    const [tiny, ...others] = formats as [number, ...number[]];
    if (said < least && !draw.oneIn(4)) return new Uint8Array([tiny | said]);
    const widths = others.length === 3 ? [1, 2, 4] : [2, 4];
    const fitting = widths.filter((width) => said < 256 ** width);
    const width = draw.pick(fitting.length === 0 ? [4] : fitting);
    const format = others[widths.indexOf(width)]!;
    return concat(new Uint8Array([format]), uint32(said).subarray(4 - width));
  }

  /** A string. */
  text(): Bytes {
    const draw = this.#draw;
    const bytes = this.#hasErrors && draw.oneIn(8)
      ? draw.bytes(draw.size(50))
      : utf8(draw.pick(WORDS).repeat(draw.oneIn(20) ? draw.between(1, 40) : 1));
    return this.textOf(bytes);
  }

  /** A string of these bytes. */
  textOf(bytes: Uint8Array): Bytes {
    const header = this.#sized(bytes.length, 32, [0xa0, 0xd9, 0xda, 0xdb]);
    return concat(header, bytes);
  }

  #binary(): Bytes {
    const draw = this.#draw;
    const bytes = draw.bytes(draw.oneIn(500) ? 70_000 : draw.size(100));
    const header = this.#sized(bytes.length, 0, [0, 0xc4, 0xc5, 0xc6]);
    return concat(header, bytes);
  }

  #arrayOf(items: readonly Uint8Array[]): Bytes {
    return concat(this.#sized(items.length, 16, [0x90, 0xdc, 0xdd]), ...items);
  }

  #items(depth: number, most = 6): Bytes[] {
    return Array.from(
      { length: this.#draw.size(most) },
      () => this.value(depth + 1),
    );
  }

  #array(depth: number): Bytes {
    this.#started++;
    return this.#arrayOf(this.#items(depth, 20));
  }

  #map(depth: number): Bytes {
    const draw = this.#draw;
    const count = draw.size(20);
    this.#started++;
    const isMixed = !this.#isGraph && draw.oneIn(5);
    const fields = Array.from({ length: count }, () => {
      const key = isMixed && draw.oneIn(3)
        ? this.value(depth + 1)
        : this.text();
      return concat(key, this.value(depth + 1));
    });
    return concat(this.#sized(count, 16, [0x80, 0xde, 0xdf]), ...fields);
  }

  /** An extension with a payload. */
  extension(type: number, ...payload: Uint8Array[]): Bytes {
    const bytes = concat(...payload);
    const { length } = bytes;
    const fixed = [1, 2, 4, 8, 16].indexOf(length);
    if (fixed >= 0 && !this.#draw.oneIn(4)) {
      return concat(new Uint8Array([0xd4 + fixed, type]), bytes);
    }
    const header = this.#sized(length, 0, [0, 0xc7, 0xc8, 0xc9]);
    return concat(header, new Uint8Array([type]), bytes);
  }

  #leafExtension(): Bytes {
    const draw = this.#draw;
    const type = draw.pick([1, 2, 3, 6, 7, 9, 10, 14, 15, 0xff, 0xff, 0]);
    if (this.#hasErrors && draw.oneIn(6)) {
      return this.extension(
        draw.pick([type, draw.below(256)]),
        draw.bytes(draw.size(20)),
      );
    }
    switch (type) {
      case 2: {
        const sign = new Uint8Array([draw.below(2)]);
        return this.extension(2, sign, draw.bytes(draw.size(80)));
      }
      case 3:
        return this.#regexp();
      case 6:
        return this.extension(6, draw.bytes(draw.size(40)));
      case 7: {
        const kind = new Uint8Array([draw.below(VIEW_KINDS)]);
        return this.extension(7, kind, draw.bytes(8 * draw.below(4)));
      }
      case 14:
        return this.extension(14, draw.oneIn(2) ? this.text() : this.#number());
      case 10:
        return this.extension(10, draw.bytes(2 * draw.size(40)));
      case 0xff:
        return this.#date();
      default:
        return this.extension(type);
    }
  }

  /** The kind and the text of an object that is sent as a text. */
  #written(): [kind: Bytes, text: Bytes] {
    const draw = this.#draw;
    const kind = draw.below(11);
    const text = draw.pick(
      this.#hasErrors && draw.oneIn(4) ? WRITTEN.flat() : WRITTEN[kind]!,
    );
    return [new Uint8Array([kind]), utf8(text)];
  }

  #date(): Bytes {
    const draw = this.#draw;
    const bytes = draw.bytes(draw.pick([4, 8, 12, 12]));
    if (bytes.length === 12) {
      bytes.set(uint32(draw.pick([0, 999_999_999, 1e9, draw.below(1e9)])));
      bytes.set(uint32(draw.pick([0, 0, 2 ** 32 - 1, 2011, 2012])), 4);
    }
    return this.extension(0xff, bytes);
  }

  #regexp(): Bytes {
    const draw = this.#draw;
    const source = draw.oneIn(4)
      ? Array.from(
        { length: draw.size(200) },
        () => draw.pick(EXPRESSION_PARTS),
      )
        .join("")
      : draw.pick(EXPRESSIONS);
    return this.#regexpOf(source, draw.pick(FLAGS));
  }

  #regexpOf(source: string, flags: string): Bytes {
    return this.extension(
      3,
      this.textOf(utf8(source)),
      this.textOf(utf8(flags)),
    );
  }

  /** An extension that contains values. */
  #structure(depth: number): Bytes {
    const draw = this.#draw;
    this.#started++;
    switch (draw.below(4)) {
      case 0: {
        const items = this.#items(depth, 12);
        const isOdd = this.#hasErrors && draw.oneIn(10);
        if (items.length % 2 === 1 && !isOdd) items.pop();
        return this.extension(4, this.#arrayOf(items));
      }
      case 1:
        return this.extension(5, this.#arrayOf(this.#items(depth, 12)));
      case 2:
        return this.#error(depth);
      default:
        return this.extension(
          11,
          this.#arrayOf(this.#items(depth)),
          this.#hasErrors && draw.oneIn(6)
            ? this.value(depth + 1)
            : this.#fields(depth),
          ...draw.oneIn(3) ? [this.#ranges()] : [],
        );
    }
  }

  /** Ranges of missing items, most of which are within an array. */
  #ranges(): Bytes {
    const draw = this.#draw;
    const ranges: Bytes[] = [];
    for (let at = draw.below(2); ranges.length < 4; at += 3) {
      if (ranges.length > 0 && draw.oneIn(2)) break;
      ranges.push(new Uint8Array([at]), new Uint8Array([1 + draw.below(2)]));
    }
    if (this.#hasErrors && draw.oneIn(6)) ranges.pop();
    if (this.#hasErrors && draw.oneIn(6)) ranges.push(this.value(1));
    return this.#arrayOf(ranges);
  }

  /** A map with string keys. */
  #fields(depth: number): Bytes {
    const fields = Array.from(
      { length: this.#draw.size(5) },
      () => concat(this.text(), this.value(depth + 1)),
    );
    return concat(
      this.#sized(fields.length, 16, [0x80, 0xde, 0xdf]),
      ...fields,
    );
  }

  #error(depth: number): Bytes {
    const draw = this.#draw;
    const optional = () => draw.oneIn(3) ? new Uint8Array([0xc0]) : this.text();
    const causes = draw.oneIn(2) ? [] : [this.value(depth + 1)];
    const parts = [
      this.textOf(utf8(draw.pick(CLASSES))),
      this.text(),
      optional(),
      optional(),
      this.#arrayOf(causes),
      this.#arrayOf(this.#items(depth)),
      this.#fields(depth),
    ];
    if (this.#hasErrors && draw.oneIn(8)) {
      parts[draw.below(parts.length)] = this.value(depth + 1);
    }
    if (this.#hasErrors && draw.oneIn(20)) parts.splice(draw.below(7), 1);
    return this.extension(8, this.#arrayOf(parts));
  }

  /** Few bytes with a high cost, or many equal ones. */
  amplified(): Bytes {
    const draw = this.#draw;
    const count = draw.oneIn(4)
      ? draw.between(1, MAX_REPEATED)
      : draw.between(1, 3_000);
    switch (draw.below(9)) {
      case 0:
        return this.#manyReferences(count);
      case 1:
      case 2:
      case 8:
        return this.#repeated(count);
      case 3:
        return this.#deep(draw.pick([499, 500, 501, draw.below(2_000), count]));
      case 4:
        return this.#withKeys(count);
      case 5: {
        const digits = draw.bytes(draw.pick([count, 20 * count]));
        return this.extension(2, new Uint8Array([draw.below(2)]), digits);
      }
      case 6: {
        const [part, flags] = draw.oneIn(2)
          ? draw.pick(COSTLY_EXPRESSIONS)
          : [draw.pick(EXPRESSION_PARTS), draw.pick(FLAGS)];
        const size = draw.pick([50, 500, 6_000, 25_000]);
        const times = 1 + Math.floor(draw.fraction() * size / part.length);
        return this.#regexpOf(part.repeat(times), flags);
      }
      default: {
        const text = utf8(draw.pick([...WORDS, "a", "é", "\ufffd", "中a"]));
        return this.textOf(repeat(text, count));
      }
    }
  }

  /** Many references, or many containers that have numbers. */
  #manyReferences(count: number): Bytes {
    const draw = this.#draw;
    const element = draw.pick(
      [[0xd4, 13, 0], [0xd4, 13, 1], [0x90], [0x80], [0x91, 0xd4, 13, 0]],
    );
    const items = repeat(new Uint8Array(element), count);
    const list = concat(new Uint8Array([0xdd]), uint32(count + 1));
    const first = new Uint8Array([0x90]);
    const container = draw.oneIn(3)
      ? this.extension(5, list, first, items)
      : concat(list, first, items);
    return this.extension(12, container);
  }

  /** One value many times, in a container. */
  #repeated(count: number): Bytes {
    const draw = this.#draw;
    this.#left = 4;
    const isCostly = draw.oneIn(2);
    const element = isCostly
      ? draw.pick([
        ...[[0xc4, 0], [0x90], [0x80], [0xc7, 0, 9], [0xa0], [0xc7, 0, 10]],
        ...[[0xd7, 8, 0x97, 0xa0, 0xa0, 0xc0, 0xc0, 0x90, 0x90, 0x80]],
        ...[[0xd5, 4, 0x90], [0xd5, 5, 0x90], [0xc7, 2, 3, 0xa0, 0xa0]],
        ...[[0x81, 0xa1, 0x37, 0xc0], [0x81, 1, 1], [0xd6, 0xff, 0, 0, 0, 0]],
        ...[[0xd4, 6, 0], [0xd4, 7, 1], [0x91, 0xc0], [0xd4, 2, 0], [0xc0]],
        ...[[0xca, 0x3f, 0x8f, 0, 0], [0xc7, 3, 11, 0x90, 0x81, 0xa0, 0xc0]],
      ].map((bytes) => new Uint8Array(bytes)))
      : this.value(4);
    const limit = Math.ceil(600_000 / Math.max(1, element.length));
    const isMany = isCostly && draw.oneIn(2);
    const times = Math.min(isMany ? MAX_REPEATED : count, limit);
    const items = repeat(element, times);
    const isEven = times - times % 2;
    switch (draw.below(5)) {
      case 0:
        return concat(
          new Uint8Array([0xdf]),
          uint32(isEven / 2),
          items.subarray(0, isEven * element.length),
        );
      case 1:
        return this.extension(5, new Uint8Array([0xdd]), uint32(times), items);
      case 2:
        return this.extension(
          4,
          new Uint8Array([0xdd]),
          uint32(isEven),
          items.subarray(0, isEven * element.length),
        );
      default:
        return concat(new Uint8Array([0xdd]), uint32(times), items);
    }
  }

  /** Nested containers. */
  #deep(levels: number): Bytes {
    const draw = this.#draw;
    const open = draw.pick([[0x91], [0x81, 0xa1, 0x61], [0x81, 0xc0], [
      0x82,
      0xa0,
      0xc0,
      1,
    ]]);
    const inner = new Uint8Array([0xc0]);
    if (!draw.oneIn(3)) {
      return concat(repeat(new Uint8Array(open), levels), inner);
    }
    // The size of an extension comes first, so these are built from the inside.
    const type = draw.pick([4, 5, 8, 11]);
    const parts: Uint8Array[] = [inner];
    let size = 1;
    for (let level = 0; level < Math.min(levels, 1_500); level++) {
      const before = new Uint8Array(
        {
          4: [0x92, 1],
          5: [0x91],
          8: [0x97, 0xa0, 0xa0, 0xc0, 0xc0, 0x91],
          11: [0x91],
        }[type]!,
      );
      const after = new Uint8Array(
        { 4: [], 5: [], 8: [0x90, 0x80], 11: [0x80] }[type]!,
      );
      size += before.length + after.length;
      const header = concat(
        new Uint8Array([0xc9]),
        uint32(size),
        new Uint8Array([type]),
      );
      size += header.length;
      parts.unshift(header, before);
      parts.push(after);
    }
    return concat(...parts);
  }

  /** A container with many keys, which may collide in V8's hash tables. */
  #withKeys(count: number): Bytes {
    const draw = this.#draw;
    const start = draw.below(1_000);
    const makeKey = draw.pick<(index: number) => Uint8Array>([
      (index) => this.textOf(utf8(String((index + 1) * 65_536))),
      (index) => this.textOf(utf8(`key ${index}`)),
      (index) => this.textOf(utf8(String(index))),
      (index) => concat(new Uint8Array([0xce]), uint32(index * 2 ** 15)),
      (index) => concat(new Uint8Array([0xcf]), uint32(index), uint32(0)),
      (index) =>
        this.extension(
          2,
          new Uint8Array([0]),
          uint32(index),
          new Uint8Array(8),
        ),
    ]);
    const keys = Array.from(
      { length: Math.min(count, 20_000) },
      (_, index) => makeKey(start + index),
    );
    const entries = keys.flatMap((key) => [key, new Uint8Array([0xc0])]);
    switch (draw.below(3)) {
      case 0:
        return concat(new Uint8Array([0xdf]), uint32(keys.length), ...entries);
      case 1:
        return this.extension(
          5,
          new Uint8Array([0xdd]),
          uint32(keys.length),
          ...keys,
        );
      default:
        return this.extension(
          4,
          new Uint8Array([0xdd]),
          uint32(entries.length),
          ...entries,
        );
    }
  }
}

/** One in this many inputs is large. */
const AMPLIFIED_ONE_IN = 100;

/** Bytes of MessagePack, valid or nearly. */
export function makeMsgpack(draw: Draw): Bytes {
  if (draw.oneIn(AMPLIFIED_ONE_IN)) {
    return new MsgpackMaker(draw, false).amplified();
  }
  const maker = new MsgpackMaker(draw, draw.oneIn(2));
  return draw.oneIn(4) ? maker.graph() : maker.value();
}
