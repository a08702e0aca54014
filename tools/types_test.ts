// Copyright 2026 the Duplex authors. MIT license.

/**
 * The package passes `deno check` in a program that links to it, with the strictest
 * options of the compiler, and whose packages bring types of an older Node.js, which
 * describe the modules of `node:` that the package imports.
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
const { name, version, exports } = JSON.parse(
  await Deno.readTextFile(new URL("deno.json", ROOT)),
);

// The oldest and the newest; 18.0, 18 and 20.11 have passed as well.
for (const types of ["16.18.0", "22"]) {
  Deno.test(`the package can be checked with the types of Node.js ${types}`, async () => {
    const folder = await Deno.makeTempDir();
    try {
      const config = {
        links: [fileURLToPath(ROOT)],
        lock: false,
        compilerOptions: COMPILER_OPTIONS,
      };
      const imports = Object.keys(exports).map((path) =>
        `import "jsr:${name}@${version}${path.slice(1)}";\n`
      );
      const program = `${folder}/main.ts`;
      await Deno.writeTextFile(`${folder}/deno.json`, JSON.stringify(config));
      await Deno.writeTextFile(
        program,
        `/// <reference types="npm:@types/node@${types}" />\n${
          imports.join("")
        }`,
      );
      const { success, stderr } = await new Deno.Command(Deno.execPath(), {
        args: ["check", "--quiet", program],
        cwd: folder,
        env: { NO_COLOR: "1" },
        stdin: "null",
      }).output();
      assert(success, new TextDecoder().decode(stderr));
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
}
