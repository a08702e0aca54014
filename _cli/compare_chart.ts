// Copyright 2026 the Duplex authors. MIT license.

/**
 * The results of `compare`: a table, and a chart as an SVG file without scripts and
 * without links.
 *
 * @module
 */

import { groupDigits, messageLine } from "./terminal.ts";
import {
  type Figures,
  type Outcome,
  type Outcomes,
  type Transport,
  TRANSPORTS,
} from "./compare_measure.ts";
import { alignColumns } from "./measure.ts";

/** Rounds to two digits: the third one differs from run to run. */
function round(value: number): number {
  return Number(value.toPrecision(2));
}

/** A number with two digits. */
export function formatNumber(value: number): string {
  return groupDigits(round(value));
}

/** A time in microseconds, with its unit. */
export function formatTime(microseconds: number): string {
  const time = round(microseconds);
  if (time < 1e3) return `${formatNumber(time)} µs`;
  if (time < 1e6) return `${formatNumber(time / 1e3)} ms`;
  return `${formatNumber(time / 1e6)} s`;
}

/** A number of bytes. */
export function formatSize(bytes: number): string {
  return bytes === 1 ? "1 byte" : `${bytes} bytes`;
}

/** Messages per second in the slower direction. */
export function rateOf(figures: Figures): number {
  return Math.min(figures.out, figures.in);
}

/** Megabytes per second. */
function megabytes(rate: number, size: number): string {
  return formatNumber(rate * size / 1e6);
}

/** Why there are no figures. */
function whyNone(outcome: Exclude<Outcome, { state: "measured" }>): string {
  return outcome.state === "missing"
    ? `left out: ${outcome.why}`
    : `failed: ${messageLine(outcome.error)}`;
}

/** The results in the order of the transports. */
function inOrder(outcomes: Outcomes): [Transport, Outcome][] {
  return TRANSPORTS.flatMap((transport) => {
    const outcome = outcomes.get(transport);
    return outcome === undefined ? [] : [[transport, outcome]];
  });
}

const HEADS: readonly string[] = [
  ...["", "round trip", "99 % within", "sent/s", "MB/s", "received/s", "MB/s"],
  "to open",
];

/** Makes the table, line by line. */
export function renderTable(size: number, outcomes: Outcomes): string[] {
  const rows = inOrder(outcomes).map(([transport, outcome]) =>
    outcome.state === "measured"
      ? [transport, ...cellsOf(size, outcome.figures)]
      : [transport, whyNone(outcome)]
  );
  return alignColumns([HEADS, ...rows]).map((line) => `  ${line}`);
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

/** The content of a chart. */
export interface Chart {
  /** The size of a message in bytes. */
  readonly size: number;
  readonly outcomes: Outcomes;
  /** The transport to highlight. */
  readonly best?: Transport;
  /** A description for screen readers. */
  readonly text: string;
}

/** The layout in pixels. */
const WIDTH = 720;
const MARGIN = 24;
const BAR_LEFT = 130;
const BAR_MOST = 340;
const ROW = 28;
const BAR = 18;

/** The limit on the characters of a line below the bars. */
const MAX_NOTE = 96;

/** Light and dark colors, as the reader prefers. */
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

/** Escapes text for an element or an attribute; replaces characters that XML forbids. */
export function escapeXml(text: string): string {
  return text.replace(
    /[^\t\n\r\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]/gu,
    "\u{fffd}",
  ).replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);
}

/** Draws elements below each other. */
class Drawing {
  readonly #lines: string[] = [];
  #y = MARGIN;

  /** Draws a line of text, with the distance to the next element. */
  text(kind: string, text: string, height: number): void {
    this.#text(kind, MARGIN, this.#y + 12, text);
    this.#y += height;
  }

  /** Draws a bar between its name and its label. */
  bar(name: string, share: number, label: string, isBest: boolean): void {
    // The smallest bar is visible.
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

  /** Leaves a gap. */
  skip(height: number): void {
    this.#y += height;
  }

  /** The SVG document. */
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

/** Makes the chart. */
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
