// Copyright 2026 the Duplex authors. MIT license.

import { assert, assertEquals } from "@std/assert";
import { pathToFileURL } from "node:url";

const ROOT = new URL("../", import.meta.url);

/** The files of the package other than code. */
const DOCUMENTS = [
  "CHANGELOG.md",
  "LICENSE",
  "PROTOCOL.md",
  "README.md",
  "deno.json",
];

/** The files that `deno publish` takes from a folder. */
async function published(folder: URL): Promise<string[]> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    // Types are for `deno task ok`.
    args: [
      ...["publish", "--dry-run", "--allow-dirty"],
      ...["--no-check", "--allow-slow-types"],
    ],
    cwd: folder,
    env: { NO_COLOR: "1" },
    stdin: "null",
  }).output();
  const decoder = new TextDecoder();
  const text = decoder.decode(stdout) + decoder.decode(stderr);
  assert(success, text);
  const { href } = folder;
  return Array.from(text.matchAll(/^ +(file:.*) \(.*\)$/gm), ([, url]) => {
    assert(url!.startsWith(href), url);
    return decodeURIComponent(url!.slice(href.length));
  }).sort();
}

/** The files that a file imports, or starts a worker with. */
const SPECIFIER =
  /(?:\bfrom\s+|\bimport\s*\(?\s*|\bURL\(\s*|\bresolve\(\s*)"(\.[^"]+\.ts)"/g;

/** The files that the exports are made of, and all that these load. */
async function needed(): Promise<string[]> {
  const config = JSON.parse(
    await Deno.readTextFile(new URL("deno.json", ROOT)),
  );
  const urls = new Set(
    Object.values<string>(config.exports).map((path) =>
      new URL(path, ROOT).href
    ),
  );
  for (const url of urls) {
    const code = (await Deno.readTextFile(new URL(url)))
      .replaceAll(/\/\*\*[^]*?\*\//g, "");
    for (const [, path] of code.matchAll(SPECIFIER)) {
      urls.add(new URL(path!, url).href);
    }
  }
  return Array.from(urls, (url) => url.slice(ROOT.href.length));
}

Deno.test("deno.json publishes the exports, what they load, and the documents", async () => {
  const expected = [...DOCUMENTS, ...await needed()].sort();
  assertEquals(await published(ROOT), expected);
});

/** Files that somebody may have lying about. */
const STRAYS = [
  "scratch.ts",
  "notes.md",
  "CONTRIBUTING.md",
  "package.json",
  "_scratch.ts",
  "scratch/mod.ts",
  "scratch/_private.ts",
  "bench/_private.ts",
  "tests/_private.ts",
];

Deno.test("deno.json publishes nothing else that is in the folder", async () => {
  const path = await Deno.realPath(await Deno.makeTempDir());
  try {
    const copy = pathToFileURL(`${path}/`);
    const files = await published(ROOT);
    for (const file of files) {
      await Deno.mkdir(new URL(".", new URL(file, copy)), { recursive: true });
      await Deno.copyFile(new URL(file, ROOT), new URL(file, copy));
    }
    for (const stray of STRAYS) {
      const url = new URL(stray, copy);
      await Deno.mkdir(new URL(".", url), { recursive: true });
      await Deno.writeTextFile(url, stray.endsWith(".json") ? "{}" : "");
    }
    assertEquals(await published(copy), files);
  } finally {
    await Deno.remove(path, { recursive: true });
  }
});
