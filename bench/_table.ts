// Copyright 2026 the Duplex authors. MIT license.

/**
 * Medians, and tables of them with a target beside each.
 *
 * @module
 */

/** What one contender measured, one figure a round or more. */
export interface Row {
  label: string;
  samples: number[];
}

/** How far a figure may be from that of another contender. */
export interface Target {
  /** Whose figure it is held against, in words. */
  text: string;
  /** The labels of the rows that it is held against; the best of them counts. */
  against: readonly string[];
  /** At most this times the other's figure, or at least, if more is better. */
  ratio: number;
}

/** A table whose first row is this module's. */
export interface Table {
  title: string;
  unit: string;
  /** Whether more is better. */
  isRate: boolean;
  rows: Row[];
  target: Target;
}

/** The middle one of the figures. */
export function median(samples: readonly number[]): number {
  const sorted = [...samples].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? sorted[half]!
    : (sorted[half - 1]! + sorted[half]!) / 2;
}

function figure(value: number): string {
  const digits = value < 1_000 ? 1 : 0;
  return value.toLocaleString("en", {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });
}

/** "met", or by how much of what the target allows it was missed. */
export function verdict(
  own: number,
  other: number,
  isRate: boolean,
  target: Target,
): string {
  const bound = other * target.ratio;
  if (isRate ? own >= bound : own <= bound) return "met";
  return `missed by ${(Math.abs(own / bound - 1) * 100).toFixed(0)} %`;
}

/** Prints a table and whether its target is met. */
export function printTable(table: Table): void {
  const { title, unit, isRate, rows, target } = table;
  const own = median(rows[0]!.samples);
  console.log(
    `\n${title}`.padEnd(43) + unit.padStart(14) + "lowest".padStart(14) +
      "highest".padStart(14) + "this/it".padStart(10),
  );
  for (const { label, samples } of rows) {
    const middle = median(samples);
    console.log(
      label.padEnd(42) + figure(middle).padStart(14) +
        figure(Math.min(...samples)).padStart(14) +
        figure(Math.max(...samples)).padStart(14) +
        (own / middle).toFixed(2).padStart(10),
    );
  }
  const others = rows.filter(({ label }) => target.against.includes(label))
    .map(({ samples }) => median(samples));
  if (others.length === 0) {
    console.log(`Target: ${target.text}: nothing here to hold it against`);
    return;
  }
  const best = isRate ? Math.max(...others) : Math.min(...others);
  console.log(
    `Target: ${target.text}: ${(own / best).toFixed(2)}, ` +
      verdict(own, best, isRate, target),
  );
}
