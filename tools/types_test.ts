// Copyright 2026 the Duplex authors. MIT license.

/**
 * The package passes `deno check` in a program that links to it, with the strictest
 * options of the compiler, and whose packages bring types of an older Node.js, which
 * describe the modules of `node:` that the package imports. With the same options the
 * types of calls are what a table of methods says.
 *
 * @module
 */

import { assert } from "@std/assert";
import { fileURLToPath } from "node:url";

/** Deno applies these to the files of a linked package, too. */
const COMPILER_OPTIONS = {
  erasableSyntaxOnly: true,
  exactOptionalPropertyTypes: true,
  isolatedDeclarations: true,
  lib: ["deno.window", "dom"],
  noFallthroughCasesInSwitch: true,
  noImplicitOverride: true,
  noImplicitReturns: true,
  noPropertyAccessFromIndexSignature: true,
  noUncheckedIndexedAccess: true,
  noUnusedLocals: true,
  noUnusedParameters: true,
  verbatimModuleSyntax: true,
};

const ROOT = new URL("../", import.meta.url);
const { name, version, exports, imports } = JSON.parse(
  await Deno.readTextFile(new URL("deno.json", ROOT)),
);

/** Checks the types of a program with a configuration in a new folder. */
async function check(
  config: Record<string, unknown>,
  program: string | URL,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    const configFile = `${folder}/deno.json`;
    await Deno.writeTextFile(
      configFile,
      JSON.stringify({
        lock: false,
        compilerOptions: COMPILER_OPTIONS,
        ...config,
      }),
    );
    const main = `${folder}/main.ts`;
    if (typeof program === "string") await Deno.writeTextFile(main, program);
    const file = typeof program === "string" ? main : fileURLToPath(program);
    const { success, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["check", "--quiet", "--config", configFile, file],
      cwd: folder,
      env: { NO_COLOR: "1" },
      stdin: "null",
    }).output();
    assert(success, new TextDecoder().decode(stderr));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

// The oldest and the newest; 18.0, 18 and 20.11 have passed as well.
for (const types of ["16.18.0", "22"]) {
  Deno.test(`the package can be checked with the types of Node.js ${types}`, async () => {
    const modules = Object.keys(exports).map((path) =>
      `import "jsr:${name}@${version}${path.slice(1)}";\n`
    );
    await check(
      { links: [fileURLToPath(ROOT)] },
      `/// <reference types="npm:@types/node@${types}" />\n${modules.join("")}`,
    );
  });
}

Deno.test("the types of calls are those of the table of methods", async () => {
  await check({ imports }, new URL("tests/rpc/shapes_test.ts", ROOT));
});
