// Copyright 2026 the Duplex authors. MIT license.

/**
 * How far `map` has come, as the last line of a terminal.
 *
 * @module
 */

import { groupDigits, printError } from "./arguments.ts";

/** Milliseconds between two looks: people read no faster. */
const INTERVAL = 200;

/** Columns of a terminal that does not say how many it has. */
const DEFAULT_COLUMNS = 80;

/** Columns of the bar, its brackets among them. */
const MIN_BAR = 10;
const MAX_BAR = 32;

/** How far a map has come. */
export interface ProgressState {
  /** Lines that have a result. */
  readonly done: number;
  /** Lines that failed. */
  readonly failed: number;
  /** Since the beginning. */
  readonly seconds: number;
  /** How much of the input is through, from 0 to 1, where its end is known. */
  readonly share: number | undefined;
}

/**
 * Writes the state in a line that is shorter than a terminal is wide; what tells
 * least is left out first.
 *
 * @param state How far it has come.
 * @param columns How wide the terminal is.
 */
export function renderProgress(state: ProgressState, columns: number): string {
  const { done, failed, seconds, share } = state;
  // In the last column many terminals go on to the next line.
  const room = Math.max(0, columns - 1);
  const counts = `${groupDigits(done)} done, ${groupDigits(failed)} failed`;
  const rate = seconds > 0
    ? `, ${formatRate((done + failed) / seconds)}/s`
    : "";
  const left = share !== undefined && share > 0
    ? `, ${formatDuration(seconds * (1 - share) / share)} left`
    : "";
  const percent = share === undefined
    ? ""
    : `${String(Math.floor(share * 100)).padStart(3)} % `;
  const whole = `${percent}${counts}${rate}${left}`;
  const bar = share === undefined ? "" : renderBar(share, room - whole.length);
  const fitting = [
    bar + whole,
    `${percent}${counts}${left}`,
    `${percent}${counts}`,
    counts,
  ].find((line) => line.length <= room);
  return fitting ?? counts.slice(0, room);
}

/** A bar that takes what room there is, if that is enough for one. */
function renderBar(share: number, room: number): string {
  const width = Math.min(room - 1, MAX_BAR);
  if (width < MIN_BAR) return "";
  const full = Math.floor(share * (width - 2));
  return `[${"=".repeat(full)}${" ".repeat(width - 2 - full)}] `;
}

function formatRate(rate: number): string {
  return rate < 10 ? rate.toFixed(1) : groupDigits(Math.round(rate));
}

/** A time that was taken; how short a short one was can be seen. */
export function formatTaken(seconds: number): string {
  const tenths = Math.max(0.1, seconds).toFixed(1);
  return Number(tenths) < 10 ? `${tenths} s` : formatDuration(seconds);
}

/** A time of which nobody wants to know more than its two first parts. */
export function formatDuration(seconds: number): string {
  const whole = Math.ceil(seconds);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${pad(whole % 60)} s`;
  return `${groupDigits(Math.floor(minutes / 60))} h ${pad(minutes % 60)} min`;
}

function pad(count: number): string {
  return String(count).padStart(2, "0");
}

/** A terminal, of which the last line is drawn again and again. */
export interface Terminal {
  /** How wide it is. */
  readonly columns: number;
  write(text: string): void;
}

/** What standard error is written to if it is a terminal. */
export function stderrTerminal(): Terminal | undefined {
  if (!Deno.stderr.isTerminal()) return undefined;
  const encoder = new TextEncoder();
  return {
    get columns() {
      try {
        // One that was made by a program may say 0.
        return Deno.consoleSize().columns || DEFAULT_COLUMNS;
      } catch {
        return DEFAULT_COLUMNS;
      }
    },
    write(text) {
      try {
        Deno.stderr.writeSync(encoder.encode(text));
      } catch {
        // Nobody looks at it any more; the program goes on without.
      }
    },
  };
}

/** Goes to the beginning of the line and removes what is on it. */
const CLEAR = "\r\u001b[K";

/**
 * The last line of a terminal, and the lines that come before it. Without a
 * terminal there are only those.
 */
export class StatusLine implements Disposable {
  readonly #terminal: Terminal | undefined;
  readonly #print: (line: string) => void;
  #text: ((columns: number) => string) | undefined;
  #timer: ReturnType<typeof setInterval> | undefined;
  #isDrawn = false;
  #isPaused = false;

  /**
   * @param terminal The terminal, if there is one.
   * @param print Prints a line where there is none.
   */
  constructor(
    terminal: Terminal | undefined,
    print: (line: string) => void = printError,
  ) {
    this.#terminal = terminal;
    this.#print = print;
  }

  /** Whether there is somebody to look at it. */
  get isShown(): boolean {
    return this.#terminal !== undefined;
  }

  /** Draws what the function gives, from now on some times a second. */
  start(text: (columns: number) => string): void {
    if (this.#terminal === undefined) return;
    this.#text = text;
    this.#timer = setInterval(() => this.#draw(), INTERVAL);
  }

  /** Prints a line that stays. */
  print(line: string): void {
    if (!this.#isDrawn) return this.#print(line);
    this.#clear();
    this.#print(line);
    this.#draw();
  }

  /** Leaves the line to somebody else who writes to the same terminal. */
  pause(): void {
    this.#isPaused = true;
    this.#clear();
  }

  /** Takes the line back, when it is drawn next. */
  resume(): void {
    this.#isPaused = false;
  }

  /** Removes the line. */
  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#clear();
    this.#text = undefined;
  }

  #draw(): void {
    const terminal = this.#terminal;
    if (terminal === undefined || this.#text === undefined) return;
    if (this.#isPaused) return;
    terminal.write(`\r${this.#text(terminal.columns)}\u001b[K`);
    this.#isDrawn = true;
  }

  #clear(): void {
    if (!this.#isDrawn) return;
    this.#terminal!.write(CLEAR);
    this.#isDrawn = false;
  }
}
