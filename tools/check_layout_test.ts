// Copyright 2026 the Duplex authors. MIT license.

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { checkLayout, checkTexts } from "./check_layout.ts";
import { dirname } from "node:path";
import { pathToFileURL } from "node:url";

const HEAD =
  "// Copyright 2026 the Duplex authors. MIT license.\n\n/**\n * A file.\n *\n * @module\n */\n\n";

const GOOD: Record<string, string> = {
  "deno.json":
    `{ "exports": { ".": "./mod.ts", "./pipe": "./pipe.ts" }, "imports": {} }`,
  "_base/errors.ts":
    `/** Not a use: Deno.exit() */\nexport const F = "Deno.exit";\n`,
  "_cli/map.ts": `import "../_base/errors.ts";\nimport "../pool.ts";\n`,
  "_codec/json.ts": `import "../_base/errors.ts";\n`,
  "_pipe/child.ts": `import "../duplex.ts";\nexport const P = Deno.pid;\n`,
  "_rpc/endpoint.ts": `import type {} from "../duplex.ts";\n`,
  "_sync/mutex.ts": `import "../_base/errors.ts";\n`,
  "_task/worker.ts": `import "../rpc.ts";\n`,
  "_wire/frame.ts": `import "../_codec/json.ts";\n`,
  "cli.ts": `${HEAD}import "./_cli/map.ts";\n`,
  "duplex.ts": `${HEAD}export { F } from "./_base/errors.ts";\n`,
  "mod.ts": `${HEAD}export * from "./duplex.ts";\nexport * from "./pipe.ts";\n`,
  "parent.ts":
    `${HEAD}import "./duplex.ts";\nimport type {} from "./pipe.ts";\nawait import("./_wire/frame.ts");\n`,
  "pipe.ts": `${HEAD}import "./_pipe/child.ts";\nimport "./duplex.ts";\n`,
  "pool.ts": `${HEAD}import "./rpc.ts";\n`,
  "rpc.ts": `${HEAD}import "./_rpc/endpoint.ts";\nimport "./parent.ts";\n`,
  "sync.ts": `${HEAD}import "./_sync/mutex.ts";\n`,
};

async function problemsOf(changes: Record<string, string>): Promise<string[]> {
  const dir = await Deno.makeTempDir();
  try {
    for (const [name, text] of Object.entries({ ...GOOD, ...changes })) {
      await Deno.mkdir(dirname(`${dir}/${name}`), { recursive: true });
      await Deno.writeTextFile(`${dir}/${name}`, text);
    }
    return await checkLayout(pathToFileURL(`${dir}/`));
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

Deno.test("checkLayout() finds nothing in a good layout", async () => {
  assertEquals(await problemsOf({}), []);
});

Deno.test("checkLayout() finds what breaks a rule", async (t) => {
  const body = "  0;\n".repeat(60);
  const cases: [string, Record<string, string>, string][] = [
    [
      "a room that imports a room on its right",
      { "_codec/json.ts": `import type {} from "../_wire/wire.ts";\n` },
      "_codec/json.ts: must not import _wire/wire.ts: wire is not below codec",
    ],
    [
      "a public file that imports one above it",
      { "pipe.ts": `${HEAD}import type {} from "./rpc.ts";\n` },
      "pipe.ts: must not import rpc.ts: rpc is not below pipe",
    ],
    [
      "a public file that imports one above it by its export",
      { "rpc.ts": `${HEAD}import type {} from "@duplex/ipc";\n` },
      "rpc.ts: must not import mod.ts",
    ],
    [
      "a room that imports its own public file",
      { "_rpc/endpoint.ts": `import type {} from "../rpc.ts";\n` },
      "_rpc/endpoint.ts: must not import rpc.ts: a room must not import its own",
    ],
    [
      "a room that imports a public file other than the contract",
      { "_rpc/endpoint.ts": `import "../pipe.ts";\n` },
      "_rpc/endpoint.ts: must not import pipe.ts: a room imports no public file",
    ],
    [
      "a transport that imports another",
      { "_shm/ring.ts": `import "../_pipe/child.ts";\n` },
      "_shm/ring.ts: must not import _pipe/child.ts: a transport must not",
    ],
    [
      "a lock that imports a room",
      { "_sync/mutex.ts": `import type {} from "../_codec/json.ts";\n` },
      "_sync/mutex.ts: must not import _codec/json.ts: locks stand alone",
    ],
    [
      "a command that imports a room",
      { "_cli/map.ts": `import "../_rpc/endpoint.ts";\n` },
      "_cli/map.ts: must not import _rpc/endpoint.ts: the command line uses",
    ],
    [
      "a room without a place",
      { "_new/a.ts": `import "../_base/errors.ts";\n` },
      `_new/a.ts: must not import _base/errors.ts: "new" has no place`,
    ],
    [
      "a circle",
      { "_base/errors.ts": `import type {} from "./text.ts";\n` },
      "_base/errors.ts: imports itself: _base/errors.ts → _base/text.ts →",
    ],
    [
      "Deno in the wrong file",
      { "_wire/frame.ts": "\nexport const F = Deno.pid;\n" },
      `_wire/frame.ts:2: must not use "Deno"`,
    ],
    [
      "a worker that loads a transport",
      { "parent.ts": `${HEAD}import "./pipe.ts";\n` },
      "parent.ts: a worker does not need pipe.ts",
    ],
    [
      "a worker that loads an npm module",
      { "_wire/frame.ts": `export * as F from "npm:x@1";\n` },
      `parent.ts: a worker must load no package, but loads "npm:x@1"`,
    ],
    [
      "a long file",
      { "tests/pipe/a_test.ts": `export const F = 1;\n${"\n".repeat(800)}` },
      "tests/pipe/a_test.ts: has 801 lines",
    ],
    [
      "a long function",
      { "_wire/frame.ts": `export function F() {\n${body}}\n` },
      "_wire/frame.ts:1: F has 62 lines",
    ],
    [
      "a public file that does not say what it is for",
      { "duplex.ts": `export { F } from "./_base/errors.ts";\n` },
      "duplex.ts: must start with the copyright line",
    ],
    [
      "an export that is not there",
      { "deno.json": `{ "exports": { "./no": "./no.ts" } }` },
      `deno.json: export "./no" names "./no.ts"`,
    ],
  ];
  for (const [name, changes, expected] of cases) {
    await t.step(name, async () => {
      const text = { "_base/text.ts": `import "./errors.ts";\n` };
      const problems = await problemsOf({ ...text, ...changes });
      assert(
        problems.some((problem) => problem.includes(expected)),
        problems.join("\n"),
      );
    });
  }
});

/** Lines that convert what may be any value, and lines that convert what may not. */
const TEXTS = `
declare const anything: unknown;
declare const option: number;
declare const list: string[];
declare const found: { name: string };
export function bad(key: symbol, object: object) {
  String(anything);
  \`\${anything}\`;
  JSON.stringify(anything);
  if (typeof option !== "number") return \`\${option}\`;
  if (anything !== undefined) \`\${anything}\`;
  try {
    bad(key, object);
  } catch (error) {
    \`\${error}\`;
  }
  \`\${list}\`;
  \`\${object}\`;
  String(key);
}
export function good(url: URL, text: string, script: string | URL) {
  String(url);
  \`\${option} \${text} \${script} \${list.length}\`;
  JSON.stringify(list);
  JSON.stringify(found);
  if (typeof anything === "string") \`\${anything}\`;
}
`;

Deno.test("checkTexts() finds conversions of what may be any value", async () => {
  const dir = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${dir}/a.ts`, TEXTS);
    const problems = checkTexts(pathToFileURL(`${dir}/`), ["a.ts"]);
    const lines = problems.map((problem) => Number(problem.split(":")[1]));
    assertEquals(lines, [7, 8, 9, 10, 11, 15, 17, 18, 19]);
    assertStringIncludes(problems[0]!, "must show `anything`");
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
