// Copyright 2026 the Duplex authors. MIT license.

/**
 * The forms of a worker script, over every transport that starts workers and on the
 * command line.
 *
 * @module
 */

import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import type { Duplex } from "@duplex/ipc/duplex";
import { openPipe } from "@duplex/ipc/pipe";
import { openQueue } from "@duplex/ipc/queue";
import { openShm } from "@duplex/ipc/shm";
import { within } from "../workers/_processes.ts";

const ROOT = new URL("../../", import.meta.url);

const TRANSPORTS = { openPipe, openQueue, openShm };

type Open = (
  script: string | URL,
  options?: { openTimeout?: number; permissions?: "inherit" },
) => Promise<Duplex<unknown>>;

/** The source of a worker that exposes a method. */
const SOURCE = `
  import { expose } from ${JSON.stringify(new URL("rpc.ts", ROOT).href)};
  await expose({ double: (n) => 2 * n });
`;

/** Names of files that have a meaning in URLs; Windows allows fewer. */
const NAMES = Deno.build.os === "windows"
  ? ["plain.ts", "a b#%25.ts", "%.ts"]
  : ["plain.ts", "a b#%25?c\\d|é.ts", "%.ts", "C:w.ts"];

async function double(worker: Duplex<unknown>): Promise<unknown> {
  const { remote } = await import("@duplex/ipc/rpc");
  type Methods = { double(n: number): number };
  return await remote<Methods>(worker as Duplex).double(21);
}

for (const [name, opener] of Object.entries(TRANSPORTS)) {
  const open = opener as Open;

  Deno.test({
    name: `${name}() opens a script of every form`,
    permissions: { read: true, write: true, run: true, import: true },
    fn: () =>
      within((async () => {
        const folder = await Deno.makeTempDir({ prefix: "duplex %23#" });
        const blob = URL.createObjectURL(
          new Blob([SOURCE], { type: "text/javascript" }),
        );
        try {
          const scripts: (string | URL)[] = [
            `data:text/javascript,${encodeURIComponent(SOURCE)}`,
            ...name === "openPipe" ? [] : [blob, new URL(blob)],
          ];
          for (const file of NAMES) {
            await Deno.writeTextFile(`${folder}/${file}`, SOURCE);
            scripts.push(`${folder}/${file}`);
          }
          // From the current folder up to the root and down again.
          const up = Deno.cwd().replaceAll(/\/[^/]+/g, "../");
          scripts.push(`${up}${folder}/${NAMES[1]}`.replace("//", "/"));
          for (const script of scripts) {
            await using worker = await open(script);
            assertEquals(await double(worker), 42, String(script));
          }
        } finally {
          URL.revokeObjectURL(blob);
          await Deno.remove(folder, { recursive: true });
        }
      })()),
  });

  Deno.test({
    name: `${name}() opens a script over HTTP`,
    permissions: { read: true, run: true, net: true, import: true },
    fn: () =>
      within((async () => {
        const server = new AbortController();
        // Deno may have kept the files of a server that had the same port.
        const folder = `/${crypto.randomUUID()}`;
        const { addr } = Deno.serve({
          hostname: "127.0.0.1",
          port: 0,
          signal: server.signal,
          onListen() {},
        }, async ({ url }) => {
          const pathname = new URL(url).pathname.replace(folder, "");
          const text = pathname === "/worker.ts"
            ? 'import { expose } from "./rpc.ts"; expose({ double: (n: number) => 2 * n });'
            : await Deno.readTextFile(new URL(`.${pathname}`, ROOT));
          const headers = { "content-type": "application/typescript" };
          return new Response(text, { headers });
        });
        try {
          const script = `http://127.0.0.1:${addr.port}${folder}/worker.ts`;
          await using worker = await open(script);
          assertEquals(await double(worker), 42);
        } finally {
          // A graceful shutdown would wait for the connections of this process.
          server.abort();
        }
      })()),
  });

  Deno.test({
    name: `${name}() says what is wrong with a script`,
    permissions: { read: true, run: true, import: true },
    fn: () =>
      within((async () => {
        const cases: [script: string, message: RegExp][] = [
          ["abc:d.ts", /"abc:d\.ts" has a scheme other than file/],
          ["C:\\missing.ts", /Module not found .*C:%5Cmissing\.ts/],
          ["C:/missing.ts", /Module not found .*C:\/missing\.ts/],
          ["", /the script must be a path or a URL: current value is ""/],
        ];
        if (name === "openPipe") {
          cases.push(["blob:null/x", /a blob exists only in this process/]);
        }
        for (const [script, message] of cases) {
          const error = await assertRejects(() => open(script), Error);
          assertMatch(error.message, message);
        }
      })()),
  });

  Deno.test({
    name: `${name}() asks whether a script calls parent()`,
    permissions: { read: true, run: true },
    fn: () =>
      within((async () => {
        const script = "data:text/javascript,setTimeout(() => {}, 1e6)";
        const error = await assertRejects(
          () => open(script, { openTimeout: 50 }),
          DOMException,
        );
        assertMatch(
          error.message,
          /^Cannot open .* to "data:": it did not send its hello within 50 ms; does it call parent\(\) or expose\(\)\?$/,
        );
      })()),
  });
}

Deno.test({
  name: "map opens a script of every form",
  permissions: { read: true, write: true, run: true },
  fn: () =>
    within((async () => {
      const folder = await Deno.makeTempDir({ prefix: "duplex %23#" });
      try {
        const file = `${folder}/${NAMES[1]}`;
        await Deno.writeTextFile(file, SOURCE);
        const data = `data:text/javascript,${encodeURIComponent(SOURCE)}`;
        for (const over of ["pipe", "queue", "shm"]) {
          for (const script of [file, data]) {
            const child = new Deno.Command(Deno.execPath(), {
              args: [
                "run",
                "-A",
                "--unstable-worker-options",
                new URL("cli.ts", ROOT).href,
                "map",
                "--over",
                over,
                "--workers",
                "1",
                script,
                "double",
              ],
              cwd: new URL(ROOT),
              stdin: "piped",
              stdout: "piped",
              stderr: "piped",
            }).spawn();
            const writer = child.stdin.getWriter();
            await writer.write(new TextEncoder().encode("21\n"));
            await writer.close();
            const { stdout, stderr } = await child.output();
            const decoder = new TextDecoder();
            assertEquals(
              decoder.decode(stdout),
              "42\n",
              decoder.decode(stderr),
            );
          }
        }
      } finally {
        await Deno.remove(folder, { recursive: true });
      }
    })()),
});
