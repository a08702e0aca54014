// Copyright 2026 the Duplex authors. MIT license.

import { assertEquals, assertStringIncludes } from "@std/assert";
import { checkHouse, checkTexts } from "./check_house.ts";
import { pathToFileURL } from "node:url";

const HEAD =
  "// Copyright 2026 the Duplex authors. MIT license.\n\n/**\n * A file.\n *\n * @module\n */\n\n";

const GOOD: Record<string, string> = {
  "deno.json": `{ "exports": { ".": "./mod.ts" }, "imports": {} }`,
  "_frame.ts": `/** Not a use: Deno.exit() */\nexport const F = "Deno.exit";\n`,
  "duplex.ts": `${HEAD}export { F } from "./_frame.ts";\n`,
  "mod.ts": `${HEAD}export * from "./duplex.ts";\nexport * from "./pipe.ts";\n`,
  "parent.ts":
    `${HEAD}import "./duplex.ts";\nimport type {} from "./pipe.ts";\n`,
  "pipe.ts": `${HEAD}import "./duplex.ts";\nexport const P = Deno.pid;\n`,
  "rpc.ts": `${HEAD}import type {} from "./duplex.ts";\n`,
};

async function problemsOf(changes: Record<string, string>): Promise<string[]> {
  const dir = await Deno.makeTempDir();
  try {
    for (const [name, text] of Object.entries({ ...GOOD, ...changes })) {
      await Deno.writeTextFile(`${dir}/${name}`, text);
    }
    return await checkHouse(pathToFileURL(`${dir}/`));
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

Deno.test("checkHouse() finds nothing in a good house", async () => {
  assertEquals(await problemsOf({}), []);
});

Deno.test("checkHouse() finds what breaks a rule", async (t) => {
  const body = "  0;\n".repeat(60);
  const cases: [string, Record<string, string>, string][] = [
    [
      "a call layer on a transport",
      { "rpc.ts": `${HEAD}import "./duplex.ts";\nimport "./mod.ts";\n` },
      "rpc.ts: must not import a transport, directly or not, but imports pipe.ts",
    ],
    [
      "a call layer beside the contract",
      { "rpc.ts": HEAD },
      "rpc.ts: must stand on duplex.ts",
    ],
    [
      "a transport on a transport",
      { "shm.ts": `${HEAD}await import("./pipe.ts");\n` },
      "shm.ts: must not import a transport",
    ],
    [
      "Deno in the wrong file",
      { "_frame.ts": "\nexport const F = Deno.pid;\n" },
      `_frame.ts:2: must not use "Deno"`,
    ],
    [
      "a worker that loads a transport",
      { "parent.ts": `${HEAD}import "./pipe.ts";\n` },
      "parent.ts: a worker does not need pipe.ts",
    ],
    [
      "a worker that loads an npm module",
      { "_frame.ts": `export * as F from "npm:x@1";\n` },
      `parent.ts: a worker must load no package, but loads "npm:x@1"`,
    ],
    [
      "a long file",
      { "_frame.ts": `export const F = 1;\n${"\n".repeat(800)}` },
      "_frame.ts: has 801 lines",
    ],
    [
      "a long function",
      { "_frame.ts": `export function F() {\n${body}}\n` },
      "_frame.ts:1: F has 62 lines",
    ],
    [
      "a public file that does not say what it is for",
      { "duplex.ts": `export { F } from "./_frame.ts";\n` },
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
      const problems = await problemsOf(changes);
      assertEquals(problems.length, 1, problems.join("\n"));
      assertStringIncludes(problems[0]!, expected);
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
