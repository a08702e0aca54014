// Copyright 2026 the Duplex authors. MIT license.

/**
 * Sends what a worker prints to its standard error, because its standard output
 * carries the messages.
 *
 * @module
 */

/** Makes every method of `console` that writes to standard output write to standard error. */
export function redirectConsole(): void {
  const { error } = console;
  const counts = new Map<string, number>();
  const timers = new Map<string, number>();
  const elapsed = (label: string) => {
    const since = timers.get(label) ?? performance.now();
    return `${label}: ${(performance.now() - since).toFixed(3)}ms`;
  };
  Object.assign(console, {
    log: error,
    info: error,
    debug: error,
    dirxml: error,
    dir: (value: unknown, options?: Deno.InspectOptions) =>
      error(Deno.inspect(value, options)),
    table: (value: unknown) => error(value),
    count(label: string = "default") {
      const count = (counts.get(label) ?? 0) + 1;
      counts.set(label, count);
      error(`${label}: ${count}`);
    },
    countReset: (label: string = "default") => counts.delete(label),
    time: (label: string = "default") => timers.set(label, performance.now()),
    timeLog: (label: string = "default", ...rest: unknown[]) =>
      error(elapsed(label), ...rest),
    timeEnd(label: string = "default") {
      error(elapsed(label));
      timers.delete(label);
    },
  });
}
