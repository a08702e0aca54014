// Copyright 2026 the Duplex authors. MIT license.

/**
 * The package passes `deno check` in a program whose packages bring types of an
 * older Node.js, which describe the modules of `node:` that the package imports.
 *
 * @module
 */

import { assert } from "@std/assert";

for (const version of ["16", "18", "20.11", "22"]) {
  Deno.test(`the package can be checked with the types of Node.js ${version}`, async () => {
    const folder = await Deno.makeTempDir();
    try {
      const specifiers = ["mod.ts", "cli.ts"].map((name) =>
        import.meta.resolve(`../${name}`)
      );
      const program = `${folder}/main.ts`;
      await Deno.writeTextFile(
        program,
        `/// <reference types="npm:@types/node@${version}" />\n` +
          specifiers.map((specifier) => `import "${specifier}";\n`).join(""),
      );
      const { success, stderr } = await new Deno.Command(Deno.execPath(), {
        args: ["check", "--quiet", program],
        cwd: new URL("..", import.meta.url),
        env: { NO_COLOR: "1" },
        stdin: "null",
      }).output();
      assert(success, new TextDecoder().decode(stderr));
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
}
