// Copyright 2026 the Duplex authors. MIT license.

/**
 * The README's first example works when pasted.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";

const ROOT = new URL("../", import.meta.url);

/** What the example needs of a clone. */
async function copyProject(to: string): Promise<void> {
  for await (const { name, isFile } of Deno.readDir(ROOT)) {
    if (isFile) await Deno.copyFile(new URL(name, ROOT), `${to}/${name}`);
  }
  await Deno.mkdir(`${to}/tools/jsr`, { recursive: true });
  for (const folder of ["tools/", "tools/jsr/"]) {
    for await (const { name, isFile } of Deno.readDir(new URL(folder, ROOT))) {
      if (!isFile) continue;
      const source = new URL(folder + name, ROOT);
      await Deno.copyFile(source, `${to}/${folder}${name}`);
    }
  }
}

Deno.test("README.md begins with an example that works when pasted", async () => {
  const readme = await Deno.readTextFile(new URL("README.md", ROOT));
  const example = /```sh\n(.*?)```/s.exec(readme)?.[1];
  assert(example !== undefined);
  const folder = await Deno.makeTempDir();
  try {
    await copyProject(folder);
    const { code, stdout, stderr } = await new Deno.Command("bash", {
      args: ["-c", example],
      cwd: folder,
      // The example says `deno`: the one that runs this test.
      env: { PATH: await pathWithDeno(folder) },
    }).output();
    assertEquals(new TextDecoder().decode(stdout), "1\n4\n9\n");
    assertEquals(code, 0, new TextDecoder().decode(stderr));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

async function pathWithDeno(folder: string): Promise<string> {
  await Deno.mkdir(`${folder}/bin`);
  await Deno.symlink(Deno.execPath(), `${folder}/bin/deno`);
  return `${folder}/bin:${Deno.env.get("PATH")}`;
}
