// Copyright 2026 the Duplex authors. MIT license.

/**
 * Runs programs that grant permissions, and compares the permissions of their
 * workers with the expected ones and with those of the programs.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import type { Permissions } from "../../permissions.ts";
import type { Opening, Plan, Report } from "../workers/permission_parent.ts";
import { within, workerUrl } from "../workers/_processes.ts";

export const ROOT = new URL("../..", import.meta.url).pathname.replace(
  /\/$/,
  "",
);

/** Files, programs and listeners for the programs and their workers. */
export class World implements AsyncDisposable {
  readonly dir: string;
  readonly tcp = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly unix: Deno.UnixListener;
  readonly modules: Deno.HttpServer<Deno.NetAddr>;

  constructor() {
    this.dir = Deno.realPathSync(Deno.makeTempDirSync());
    for (const folder of ["in", "in/deep", "in/deep/er", "out", "out/bin"]) {
      Deno.mkdirSync(`${this.dir}/${folder}`);
    }
    for (const file of ["in/file", "in/deep/er/file", "out/file"]) {
      Deno.writeTextFileSync(`${this.dir}/${file}`, "text");
    }
    for (const tool of ["in/tool", "out/tool", "out/bin/tool"]) {
      Deno.writeTextFileSync(`${this.dir}/${tool}`, "#!/bin/sh\n", {
        mode: 0o755,
      });
    }
    Deno.symlinkSync(`${this.dir}/out/file`, `${this.dir}/in/link`);
    this.unix = Deno.listen({ transport: "unix", path: `${this.dir}/socket` });
    for (const listener of [this.tcp, this.unix]) closeAll(listener);
    this.modules = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen: () => {} },
      () =>
        new Response("export {};", {
          headers: { "content-type": "text/javascript" },
        }),
    );
  }

  get port(): number {
    return this.tcp.addr.port;
  }

  get modulePort(): number {
    return this.modules.addr.port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.tcp.close();
    this.unix.close();
    await this.modules.shutdown();
    await Deno.remove(this.dir, { recursive: true });
  }
}

async function closeAll(listener: Deno.Listener): Promise<void> {
  for await (const connection of listener) connection.close();
}

/**
 * The expected result of a grant: the permissions of the worker, or the error.
 */
export type Outcome = string | RegExp;

/** A grant, and the expected result for a process and for a Web Worker. */
export interface Grant extends Partial<Omit<Opening, "over" | "permissions">> {
  readonly grant: Permissions;
  readonly pipe: Outcome;
  /** The same as `pipe` if omitted, and not tested if `null`. */
  readonly thread?: Outcome | null;
}

/** A program with flags. */
export interface Row {
  readonly name: string;
  readonly flags: readonly string[];
  /** Environment variables of the program. */
  readonly env?: Record<string, string>;
  readonly cwd?: string;
  readonly acts: readonly string[];
  /** The permissions of the program itself, as "yes no". */
  readonly own: string;
  readonly grants: readonly Grant[];
}

/** The flags that every program needs to open a worker. */
function baseFlags(flags: readonly string[]): string[] {
  const has = (name: string) =>
    flags.some((flag) => flag.split("=")[0] === name || flag === "-A");
  return [
    ...(has("--allow-run") ? [] : [`--allow-run=${Deno.execPath()}`]),
    ...(has("--allow-read") ? [] : [`--allow-read=${ROOT}`]),
    ...flags,
  ];
}

/** The two transports of Web Workers alternate. */
function openingsOf({ grants }: Row): Opening[] {
  return grants.flatMap(({ grant, pipe: _, thread, ...rest }, index) => {
    const over = index % 2 === 0 ? "shm" : "queue";
    return [
      { ...rest, over: "pipe" as const, permissions: grant },
      ...(thread === null ? [] : [{ over, permissions: grant } as const]),
    ];
  });
}

async function run(row: Row): Promise<Report> {
  const plan: Plan = { acts: row.acts, openings: openingsOf(row) };
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--quiet", "--no-check", "--no-prompt"],
      ...["--config", `${ROOT}/deno.json`, ...baseFlags(row.flags)],
      workerUrl("permission_parent").pathname,
      JSON.stringify(plan),
    ],
    env: { DUPLEX_A: "a", DUPLEX_B_1: "b", ...row.env },
    ...(row.cwd === undefined ? {} : { cwd: row.cwd }),
  }).output();
  const text = new TextDecoder().decode(stdout);
  assert(text.startsWith("{"), new TextDecoder().decode(stderr));
  return JSON.parse(text);
}

function check(row: Row, report: Report): void {
  const { own, workers } = report;
  const openings = openingsOf(row);
  assertEquals(own.join(" "), row.own, `${row.name}: the program itself`);
  assertEquals(workers.length, openings.length);
  let at = 0;
  for (const { grant, pipe, thread = pipe } of row.grants) {
    for (const expected of [pipe, thread]) {
      if (expected === null) continue;
      const { over } = openings[at]!;
      const worker = workers[at++]!;
      const name = `${row.name}: ${JSON.stringify(grant)} over ${over}`;
      if (typeof expected !== "string") {
        assert(typeof worker === "string", `${name} is not refused: ${worker}`);
        assert(expected.test(worker), `${name}: ${worker} for ${expected}`);
        continue;
      }
      assert(typeof worker !== "string", `${name}: ${worker}`);
      assertEquals(worker.join(" "), expected, name);
      for (const [index, verdict] of worker.entries()) {
        const more = verdict === "yes" && own[index] === "no";
        assert(!more, `${name}: the worker may ${row.acts[index]}`);
      }
    }
  }
}

/** The error if the program does not have the permission, with the flag. */
export function lacks(item: string, flag: string): RegExp {
  const text =
    `Cannot grant ${item}: this program does not hold it; run it again with ${flag}`;
  return new RegExp(`^NotCapable: ${RegExp.escape(text)}$`);
}

export function denied(item: string, flag: string): RegExp {
  const text = `Cannot grant ${item}: it is denied to this program (${flag}`;
  return new RegExp(`^NotCapable: ${RegExp.escape(text)}`);
}

export function partly(item: string, flag: string): RegExp {
  const text = `Cannot grant ${item}: a part of `;
  return new RegExp(
    `^NotCapable: ${RegExp.escape(text)}.*denied to this program \\(${flag}`,
  );
}

export function unknown(item: string): RegExp {
  const text =
    `Cannot grant ${item}: Deno does not say whether this program holds all of it; grant `;
  return new RegExp(`^NotCapable: ${RegExp.escape(text)}`);
}

/** A verdict list with "yes" at some places only. */
export function only(count: number, ...yes: number[]): string {
  return Array.from(
    { length: count },
    (_, index) => yes.includes(index) ? "yes" : "no",
  ).join(" ");
}

/** Runs rows two at a time, each as a step of a test. */
export async function runRows(
  t: Deno.TestContext,
  rows: readonly Row[],
): Promise<void> {
  const reports = new Map<Row, Promise<Report>>();
  const start = (row: Row | undefined) => {
    if (row !== undefined) reports.set(row, within(run(row)));
  };
  start(rows[0]);
  for (const [index, row] of rows.entries()) {
    start(rows[index + 1]);
    await t.step(row.name, async () => check(row, await reports.get(row)!));
  }
}
