// Copyright 2026 the Duplex authors. MIT license.

/**
 * Tables of medians, with their targets.
 *
 * @module
 */

import { alignColumns, median } from "../_cli/measure.ts";

/** The figures of a contender, one or more for each round. */
export interface Row {
  label: string;
  samples: number[];
}

/** A target for a figure. */
export interface Target {
  /** The label of the row that should meet it. */
  label: string;
  /** The target in words. */
  text: string;
  /**
   * The labels of the rows to compare it with; the best of them counts. Without it
   * `bound` is a figure.
   */
  against?: readonly string[];
  /**
   * The largest allowed ratio to the best of `against`, or the smallest if more is
   * better; without `against` the figure itself.
   */
  bound: number;
}

/** A column with the ratios of one row to all of them. */
export interface Column {
  title: string;
  /** The label of the row. */
  label: string;
}

/** A table. */
export interface Table {
  title: string;
  unit: string;
  /** Whether more is better. */
  isRate: boolean;
  rows: Row[];
  columns: Column[];
  targets: readonly Target[];
}

function figure(value: number): string {
  const digits = value < 1_000 ? 1 : 0;
  return value.toLocaleString("en", {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });
}

/** "met", or by which share of the bound the target was missed. */
export function verdict(own: number, bound: number, isRate: boolean): string {
  if (isRate ? own >= bound : own <= bound) return "met";
  return `missed by ${(Math.abs(own / bound - 1) * 100).toFixed(0)} %`;
}

function targetLine(
  target: Target,
  middles: Map<string, number>,
  isRate: boolean,
): string {
  const { label, text, against, bound } = target;
  const line = `Target: ${text}:`;
  const own = middles.get(label)!;
  if (against === undefined) {
    return `${line} ${figure(own)}, ${verdict(own, bound, isRate)}`;
  }
  const others = against.filter((other) => middles.has(other))
    .map((other) => middles.get(other)!);
  if (others.length === 0) return `${line} not compared`;
  const best = isRate ? Math.max(...others) : Math.min(...others);
  const ratio = (own / best).toFixed(2);
  return `${line} ${ratio}, ${verdict(own, best * bound, isRate)}`;
}

/** Prints a table and whether its targets are met. */
export function printTable(table: Table): void {
  const { title, unit, isRate, rows, columns, targets } = table;
  const middles = new Map(
    rows.map(({ label, samples }) => [label, median(samples)]),
  );
  const heads = [
    ...[title, unit, "lowest", "highest"],
    ...columns.map(({ title }) => title),
  ];
  const lines = alignColumns([
    heads,
    ...rows.map(({ label, samples }) => {
      const middle = middles.get(label)!;
      const extremes = [Math.min(...samples), Math.max(...samples)];
      const ratios = columns.map((column) =>
        (middles.get(column.label)! / middle).toFixed(2)
      );
      return [label, ...[middle, ...extremes].map(figure), ...ratios];
    }),
  ]);
  console.log();
  for (const line of lines) console.log(line);
  for (const target of targets) {
    console.log(targetLine(target, middles, isRate));
  }
}
