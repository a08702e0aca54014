// Copyright 2026 the Duplex authors. MIT license.

/**
 * Objects that are sent as a text: `URL` and the classes of `Temporal`. The text of an
 * object is the only one for its value, so that a receiver can check it.
 *
 * @module
 */

import {
  TEMPORAL_COST,
  URL_BYTE_COST,
  URL_COST,
  urlLabelCost,
  ZONED_COST,
} from "./message_cost.ts";
import { quoted } from "../_base/text.ts";

/** Maximum characters of a URL: its receiver takes a quarter of a second to read it. */
const MAX_URL_LENGTH: number = 2 ** 22;

/**
 * Maximum characters of a text of `Temporal`. A `ZonedDateTime` with a long time zone and
 * calendar has 90, a `Duration` with large parts some 170.
 */
const MAX_TEMPORAL_LENGTH = 256;

/** A class whose objects are sent as a text. */
export interface WrittenClass {
  /** The byte that stands for the class. */
  readonly kind: number;
  readonly name: string;
  readonly constructor: abstract new (...args: never[]) => object;
  readonly maxLength: number;
  /** Returns the text of an object. Throws for an object of another class. */
  write(value: object): string;
  /** Returns the object of a text. Throws if the text is malformed. */
  parse(text: string): object;
  /** The cost of the object, without that of its text. */
  cost(text: string): number;
}

/** A class of `Temporal`, for which TypeScript may have no types. */
interface TemporalClass {
  new (...parts: readonly (number | string)[]): object;
  from(text: string): object;
  readonly prototype: {
    toString(this: object, options?: { calendarName: "always" }): string;
  };
}

const { Temporal } = globalThis as unknown as {
  readonly Temporal?: Readonly<Record<string, TemporalClass>>;
};

const readHref = Object.getOwnPropertyDescriptor(URL.prototype, "href")!.get!;

const URL_CLASS: WrittenClass = {
  kind: 1,
  name: "URL",
  constructor: URL,
  maxLength: MAX_URL_LENGTH,
  write: (value) => readHref.call(value),
  parse: (text) => new URL(text),
  cost: (text) => URL_COST + URL_BYTE_COST * text.length + urlLabelCost(text),
};

/** What differs from a class whose text is that of `toString` and `from`. */
type Form = Partial<Pick<WrittenClass, "write" | "parse" | "cost">>;

/** The text of a year and month, or of a month and day: the date that it refers to. */
const REFERENCE = /^([+-]\d{6}|\d{4})-(\d\d)-(\d\d)\[u-ca=([a-z0-9-]+)\]$/;

/** The class of a year and month, or of a month and day. `from` loses its other part. */
function partOfDate(
  constructor: TemporalClass,
  order: (
    ...parts: [year: number, month: number, day: number, calendar: string]
  ) => readonly (number | string)[],
): Form {
  const { toString } = constructor.prototype;
  return {
    write: (value) => toString.call(value, { calendarName: "always" }),
    parse(text) {
      const match = REFERENCE.exec(text);
      if (match === null) throw new RangeError("The date is malformed");
      const [, year, month, day, calendar] = match;
      const parts = order(Number(year), Number(month), Number(day), calendar!);
      return new constructor(...parts);
    },
  };
}

/** The exact time and the time zone: the text of `toString` has a rounded offset. */
function zoned(
  { prototype }: TemporalClass,
  { prototype: { toString } }: TemporalClass,
): Form {
  const { toInstant } = prototype as unknown as { toInstant(): object };
  return {
    write(value) {
      const text = prototype.toString.call(value);
      const instant = toString.call(toInstant.call(value));
      return `${instant}${text.slice(text.indexOf("["))}`;
    },
    cost: () => ZONED_COST,
  };
}

const UNITS = [
  ...["years", "months", "weeks", "days", "hours", "minutes", "seconds"],
  ...["milliseconds", "microseconds", "nanoseconds"],
];

/** The integers of a duration: the text of `toString` has no milliseconds of their own. */
function duration(constructor: TemporalClass): Form {
  const getters = UNITS.map((unit) =>
    Object.getOwnPropertyDescriptor(constructor.prototype, unit)!.get!
  );
  return {
    write: (value) =>
      getters.map((get) => BigInt(get.call(value) as number)).join(),
    parse: (text) => new constructor(...text.split(",").map(Number)),
  };
}

function temporalClass(
  kind: number,
  name: string,
  constructor: TemporalClass,
  form: Form = {},
): WrittenClass {
  const { toString } = constructor.prototype;
  return {
    kind,
    name: `Temporal.${name}`,
    constructor,
    maxLength: MAX_TEMPORAL_LENGTH,
    write: (value) => toString.call(value),
    parse: (text) => constructor.from(text),
    cost: () => TEMPORAL_COST,
    ...form,
  };
}

function temporalClasses(
  temporal: Readonly<Record<string, TemporalClass>>,
): WrittenClass[] {
  const of = (name: string) => temporal[name]!;
  return [
    temporalClass(2, "Instant", of("Instant")),
    temporalClass(
      3,
      "ZonedDateTime",
      of("ZonedDateTime"),
      zoned(of("ZonedDateTime"), of("Instant")),
    ),
    temporalClass(4, "PlainDate", of("PlainDate")),
    temporalClass(5, "PlainTime", of("PlainTime")),
    temporalClass(6, "PlainDateTime", of("PlainDateTime")),
    temporalClass(
      7,
      "PlainYearMonth",
      of("PlainYearMonth"),
      partOfDate(
        of("PlainYearMonth"),
        (year, month, day, calendar) => [year, month, calendar, day],
      ),
    ),
    temporalClass(
      8,
      "PlainMonthDay",
      of("PlainMonthDay"),
      partOfDate(
        of("PlainMonthDay"),
        (year, month, day, calendar) => [month, day, calendar, year],
      ),
    ),
    temporalClass(9, "Duration", of("Duration"), duration(of("Duration"))),
  ];
}

/** The classes that this runtime has. */
const CLASSES: readonly WrittenClass[] = [
  URL_CLASS,
  ...Temporal === undefined ? [] : temporalClasses(Temporal),
];

/** The classes by their kind byte. */
export const WRITTEN_KINDS: ReadonlyMap<number, WrittenClass> = new Map(
  CLASSES.map((written) => [written.kind, written]),
);

/**
 * The class of an object that is sent as a text.
 *
 * @param value The object.
 * @returns The class, or `undefined` if the object is of another one.
 */
export function writtenClass(value: object): WrittenClass | undefined {
  return CLASSES.find(({ constructor }) => value instanceof constructor);
}

/**
 * Reads the object of a text.
 *
 * @param written The class.
 * @param text The text.
 * @returns The object.
 * @throws {Error} If the text is malformed, or is not the one of its value.
 */
export function readWritten(written: WrittenClass, text: string): object {
  if (text.length > written.maxLength) {
    throw new RangeError(`The text is longer than ${written.maxLength}`);
  }
  const value = written.parse(text);
  if (written.write(value) !== text) {
    throw new RangeError("The text is not in its normal form");
  }
  return value;
}

/** The class of an object, and its text. */
export interface Written {
  readonly written: WrittenClass;
  readonly text: string;
}

/**
 * The text of an object that can be sent as one. It is read once, so that a receiver
 * does not reject it.
 *
 * @param value The object.
 * @returns The class and the text, or `undefined` if it cannot be sent so.
 */
export function toWritten(value: object): Written | undefined {
  const written = writtenClass(value);
  if (written === undefined) return undefined;
  try {
    const text = written.write(value);
    readWritten(written, text);
    return { written, text };
  } catch {
    // A proxy, or an object whose text is too long or has another value.
    return undefined;
  }
}

/**
 * Why an object that {@linkcode toWritten} returns nothing for cannot be sent.
 *
 * @param written The class of the object.
 * @param value The object.
 * @returns A description, or `undefined` for a proxy or the like.
 */
export function describeUnwritten(
  written: WrittenClass,
  value: object,
): string | undefined {
  let text: string;
  try {
    text = written.write(value);
  } catch {
    return undefined;
  }
  return text.length > written.maxLength
    ? `a ${written.name} of ${text.length} characters, which is more than ${written.maxLength}`
    : `a ${written.name} whose text is that of another value: ${quoted(text)}`;
}
