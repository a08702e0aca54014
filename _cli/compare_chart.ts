// Copyright 2026 the Duplex authors. MIT license.

/**
 * What `compare` has measured, for people: figures as text, a table, and a chart
 * that is a file of its own, without a script and without anything from elsewhere.
 *
 * @module
 */

import { groupDigits, messageOf } from "./terminal.ts";
import {
  type Figures,
  type Outcome,
  type Outcomes,
  type Transport,
  TRANSPORTS,
} from "./compare_measure.ts";

/** Two figures count: another run gives another third one. */
function round(value: number): number {
  return Number(value.toPrecision(2));
}

/** A number as people compare it. */
export function formatNumber(value: number): string {
  return groupDigits(round(value));
}

/** A time that is given in microseconds. */
export function formatTime(microseconds: number): string {
  const time = round(microseconds);
  if (time < 1e3) return `${formatNumber(time)} µs`;
  if (time < 1e6) return `${formatNumber(time / 1e3)} ms`;
  return `${formatNumber(time / 1e6)} s`;
}

/** Bytes as a command line takes them, in words. */
export function formatSize(bytes: number): string {
  return bytes === 1 ? "1 byte" : `${bytes} bytes`;
}

/**
 * Messages a second in the way that is the slower one, of which a program that
 * talks both ways has to be sure.
 */
export function rateOf(figures: Figures): number {
  return Math.min(figures.out, figures.in);
}

/** Megabytes a second. */
function megabytes(rate: number, size: number): string {
  return formatNumber(rate * size / 1e6);
}

/** Why a transport has no figures. */
function whyNone(outcome: Exclude<Outcome, { state: "measured" }>): string {
  return outcome.state === "missing"
    ? `left out: ${outcome.why}`
    : `failed: ${messageOf(outcome.error)}`;
}

/** Outcomes in the order of the transports. */
function inOrder(outcomes: Outcomes): [Transport, Outcome][] {
  return TRANSPORTS.flatMap((transport) => {
    const outcome = outcomes.get(transport);
    return outcome === undefined ? [] : [[transport, outcome]];
  });
}

/** Characters of the columns of the table behind the first. */
const WIDTHS: readonly number[] = [9, 9, 11, 7, 11, 7, 10];

/** What stands over two columns each, and over each. */
const HEADS: readonly (readonly string[])[] = [
  ["", "there and back", "", "to the worker", "", "from the worker"],
  ["median", "99 % in", "a second", "MB/s", "a second", "MB/s", "to open"],
];

/** The characters of the first column. */
const NAME_WIDTH = 2 + Math.max(...TRANSPORTS.map(({ length }) => length));

/** Makes the table, line by line. */
export function renderTable(size: number, outcomes: Outcomes): string[] {
  const [over = [], heads = []] = HEADS;
  const groups = [];
  for (let index = 0; index < over.length; index += 2) {
    groups.push(over[index + 1]!.padStart(WIDTHS[index]! + WIDTHS[index + 1]!));
  }
  return [
    " ".repeat(NAME_WIDTH) + groups.join(""),
    " ".repeat(NAME_WIDTH) + pad(heads),
    ...inOrder(outcomes).map(([transport, outcome]) => {
      const name = `  ${transport}`.padEnd(NAME_WIDTH);
      return outcome.state === "measured"
        ? name + pad(cellsOf(size, outcome.figures))
        : `${name}  ${whyNone(outcome)}`;
    }),
  ];
}

function pad(cells: readonly string[]): string {
  return cells.map((cell, index) => cell.padStart(WIDTHS[index]!)).join("");
}

function cellsOf(size: number, figures: Figures): string[] {
  return [
    formatTime(figures.trip),
    formatTime(figures.slowTrip),
    formatNumber(figures.out),
    megabytes(figures.out, size),
    formatNumber(figures.in),
    megabytes(figures.in, size),
    formatTime(figures.open * 1e3),
  ];
}

/** What a chart is made of. */
export interface Chart {
  /** Bytes of a message. */
  readonly size: number;
  readonly outcomes: Outcomes;
  /** The transport that stands out. */
  readonly best?: Transport;
  /** What the chart says, in words, for who cannot see it. */
  readonly text: string;
}

/** Pixels of the chart, and where bars begin and how long they may be. */
const WIDTH = 720;
const MARGIN = 24;
const BAR_LEFT = 130;
const BAR_MOST = 340;
const ROW = 28;
const BAR = 18;

/** Characters of a line below the bars that fit into the width. */
const MAX_NOTE = 96;

/** Light and dark, as whoever looks has it. */
const CSS = `
  svg { color-scheme: light dark; font: 14px system-ui, sans-serif; }
  .paper { fill: #ffffff; }
  text { fill: #1f2328; }
  .head { font-size: 18px; font-weight: 600; }
  .panel { font-weight: 600; }
  .note { fill: #59636e; font-size: 12px; }
  .bar { fill: #8fa8c4; }
  .best { fill: #1a5fb4; }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #0d1117; }
    text { fill: #e6edf3; }
    .note { fill: #9198a1; }
    .bar { fill: #4d6a8c; }
    .best { fill: #78aeed; }
  }
`;

/** Text inside an element or an attribute; what XML cannot hold is replaced. */
export function escapeXml(text: string): string {
  return text.replace(
    /[^\t\n\r\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]/gu,
    "\u{fffd}",
  ).replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);
}

/** Puts elements below each other. */
class Drawing {
  readonly #lines: string[] = [];
  #y = MARGIN;

  /** A line of text, and the pixels from it to what comes next. */
  text(kind: string, text: string, height: number): void {
    this.#text(kind, MARGIN, this.#y + 12, text);
    this.#y += height;
  }

  /** A bar between its name and its label. */
  bar(name: string, share: number, label: string, isBest: boolean): void {
    // What is not nothing can be seen.
    const width = Math.max(1, Math.round(share * BAR_MOST));
    const baseline = this.#y + BAR - 4;
    this.#text("name", MARGIN, baseline, name);
    this.#lines.push(
      `<rect class="${
        isBest ? "best" : "bar"
      }" x="${BAR_LEFT}" y="${this.#y}" width="${width}" height="${BAR}" rx="2"/>`,
    );
    this.#text("label", BAR_LEFT + width + 8, baseline, label);
    this.#y += ROW;
  }

  /** Leaves room. */
  skip(height: number): void {
    this.#y += height;
  }

  /** The whole of it. */
  render(title: string, text: string): string {
    const height = this.#y + MARGIN - 12;
    return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-label="${
      escapeXml(title)
    }">
<title>${escapeXml(title)}</title>
<desc>${escapeXml(text)}</desc>
<style>${CSS}</style>
<rect class="paper" width="${WIDTH}" height="${height}"/>
${this.#lines.join("\n")}
</svg>
`;
  }

  #text(kind: string, x: number, y: number, text: string): void {
    this.#lines.push(
      `<text class="${kind}" x="${x}" y="${y}">${escapeXml(text)}</text>`,
    );
  }
}

/** Makes the chart: an SVG document. */
export function renderChart({ size, outcomes, best, text }: Chart): string {
  const drawing = new Drawing();
  const title = `A message of ${formatSize(size)} over each transport`;
  const all = inOrder(outcomes);
  const measured = all.flatMap(([transport, outcome]) =>
    outcome.state === "measured" ? [[transport, outcome.figures] as const] : []
  );
  const panel = (
    head: string,
    valueOf: (figures: Figures) => number,
    labelOf: (value: number) => string,
  ) => {
    drawing.text("panel", head, 26);
    const most = Math.max(...measured.map(([_, figures]) => valueOf(figures)));
    for (const [transport, figures] of measured) {
      const value = valueOf(figures);
      const isBest = transport === best;
      drawing.bar(transport, value / most, labelOf(value), isBest);
    }
    drawing.skip(12);
  };
  drawing.text("head", title, 40);
  panel("There and back: less is better", ({ trip }) => trip, formatTime);
  panel(
    "Without waiting for answers, the slower way: more is better",
    rateOf,
    (rate) => `${formatNumber(rate)} a second, ${megabytes(rate, size)} MB/s`,
  );
  for (const [transport, outcome] of all) {
    if (outcome.state === "measured") continue;
    const note = `${transport}, ${whyNone(outcome)}`;
    const isLong = note.length > MAX_NOTE;
    drawing.text("note", isLong ? `${note.slice(0, MAX_NOTE)}…` : note, 18);
  }
  return drawing.render(title, text);
}
