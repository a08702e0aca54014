// Copyright 2026 the Duplex authors. MIT license.

/**
 * The terminal: printed lines, the progress of `map` on the last line, and the
 * signals that end the program.
 *
 * @module
 */

import { excerpt, messageOf, withoutColor } from "../_base/text.ts";
import { writeAllSync } from "../_base/writing.ts";

/** The limit on the characters of an error's text that are printed. */
const MAX_SHOWN_LENGTH = 1000;

/**
 * The text of a thrown value on one line. A peer may have chosen it, so it is
 * printed without line breaks and without sequences that control a terminal.
 */
export function messageLine(thrown: unknown): string {
  const text = withoutColor(messageOf(thrown)).replaceAll("\n", " ");
  return excerpt(text, MAX_SHOWN_LENGTH);
}

/** A number with a space between thousands, as in the README. */
export function groupDigits(value: number): string {
  return String(value).replace(/(?<!\.\d*)\B(?=(\d{3})+(?!\d))/g, " ");
}

/** Prints a line to standard output. */
export function printLine(line: string): void {
  write(Deno.stdout, `${line}\n`);
}

/** Prints a line to standard error. */
export function printError(line: string): void {
  write(Deno.stderr, `${line}\n`);
}

function write(stream: typeof Deno.stdout, text: string): void {
  try {
    writeAllSync(stream, new TextEncoder().encode(text));
  } catch {
    // The reader of the stream has ended; the program continues without it.
  }
}

/** Milliseconds between two updates of the line: people do not read faster. */
const INTERVAL = 200;

/** The assumed width of a terminal that does not report it. */
const DEFAULT_COLUMNS = 80;

/** Columns of the bar with its brackets. */
const MIN_BAR = 10;
const MAX_BAR = 32;

/** The progress of a map. */
export interface ProgressState {
  /** Lines that have a result. */
  readonly done: number;
  /** Lines that failed. */
  readonly failed: number;
  /** Seconds since the start. */
  readonly seconds: number;
  /** The done part of the input, from 0 to 1; `undefined` if its size is unknown. */
  readonly share: number | undefined;
}

/**
 * Formats the progress as a line that fits into the terminal. The least important
 * parts are left out first.
 *
 * @param state The progress.
 * @param columns The width of the terminal.
 */
export function renderProgress(state: ProgressState, columns: number): string {
  const { done, failed, seconds, share } = state;
  // Many terminals wrap after the last column.
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

/** A bar that fills the room; empty if there is too little. */
function renderBar(share: number, room: number): string {
  const width = Math.min(room - 1, MAX_BAR);
  if (width < MIN_BAR) return "";
  const full = Math.floor(share * (width - 2));
  return `[${"=".repeat(full)}${" ".repeat(width - 2 - full)}] `;
}

function formatRate(rate: number): string {
  return rate < 10 ? rate.toFixed(1) : groupDigits(Math.round(rate));
}

/** Elapsed time, with one decimal below 10 s. */
export function formatTaken(seconds: number): string {
  const tenths = Math.max(0.1, seconds).toFixed(1);
  return Number(tenths) < 10 ? `${tenths} s` : formatDuration(seconds);
}

/** A duration as its two largest units. */
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

/** A terminal whose last line is redrawn. */
export interface Terminal {
  /** Its width. */
  readonly columns: number;
  write(text: string): void;
}

/** Standard error, if it is a terminal. */
export function stderrTerminal(): Terminal | undefined {
  if (!Deno.stderr.isTerminal()) return undefined;
  return {
    get columns() {
      try {
        // A terminal that a program created may report 0.
        return Deno.consoleSize().columns || DEFAULT_COLUMNS;
      } catch {
        return DEFAULT_COLUMNS;
      }
    },
    write: (text) => write(Deno.stderr, text),
  };
}

/** Returns to the start of the line and clears it. */
const CLEAR = "\r\u001b[K";

/** The status on the last line of a terminal, and lines that are printed above it. */
export class StatusLine implements Disposable {
  readonly #terminal: Terminal | undefined;
  readonly #print: (line: string) => void;
  #text: ((columns: number) => string) | undefined;
  #timer: ReturnType<typeof setInterval> | undefined;
  #isDrawn = false;
  #isPaused = false;

  /**
   * @param terminal The terminal; without one only lines are printed.
   * @param print Prints a line.
   */
  constructor(
    terminal: Terminal | undefined,
    print: (line: string) => void = printError,
  ) {
    this.#terminal = terminal;
    this.#print = print;
  }

  /** Whether there is a terminal. */
  get isShown(): boolean {
    return this.#terminal !== undefined;
  }

  /** Draws the text, and draws it again several times a second. */
  start(text: (columns: number) => string): void {
    if (this.#terminal === undefined) return;
    this.#text = text;
    this.#timer = setInterval(() => this.#draw(), INTERVAL);
  }

  /** Prints a line above the status. */
  print(line: string): void {
    if (!this.#isDrawn) return this.#print(line);
    this.#clear();
    this.#print(line);
    this.#draw();
  }

  /** Clears the line, so that something else can write to the terminal. */
  pause(): void {
    this.#isPaused = true;
    this.#clear();
  }

  /** Ends the pause; the next update draws the line again. */
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

/** A signal that ends the program. */
export interface EndSignal {
  readonly name: Deno.Signal;
  /** The exit code of a program that it ends. */
  readonly code: number;
}

const END_SIGNALS: readonly EndSignal[] = Deno.build.os === "windows"
  ? [{ name: "SIGINT", code: 130 }, { name: "SIGBREAK", code: 149 }]
  : [{ name: "SIGINT", code: 130 }, { name: "SIGTERM", code: 143 }];

/** Reports the first signal; a second one ends the program at once. */
export class EndSignals implements Disposable {
  readonly #listeners: (readonly [Deno.Signal, () => void])[] = [];
  readonly #first = Promise.withResolvers<EndSignal>();
  #count = 0;

  /** @param onSecond Called before a second signal ends the program. */
  constructor(onSecond: () => void = () => {}) {
    for (const signal of END_SIGNALS) {
      const onSignal = () => {
        this.#first.resolve(signal);
        if (++this.#count === 1) return;
        onSecond();
        Deno.exit(signal.code);
      };
      Deno.addSignalListener(signal.name, onSignal);
      this.#listeners.push([signal.name, onSignal]);
    }
  }

  /** Resolves with the first signal. */
  get first(): Promise<EndSignal> {
    return this.#first.promise;
  }

  [Symbol.dispose](): void {
    for (const [signal, onSignal] of this.#listeners) {
      Deno.removeSignalListener(signal, onSignal);
    }
  }
}
