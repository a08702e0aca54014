// Copyright 2026 the Duplex authors. MIT license.

/**
 * Runs a command that imports from JSR: `deno run -A tools/with_jsr.ts COMMAND…`.
 *
 * If JSR answers, or `JSR_URL` is set, the command runs as it is. Otherwise `JSR_URL`
 * names a replacement: a folder in the layout of JSR with the `@std` packages of
 * `deno.json`, made once from an npm package with the same code as JavaScript, and
 * with the declarations in `tools/jsr/`. Deno reads it through a `file:` URL, so no
 * server is necessary, and child processes inherit the variable. The folder is in
 * Deno's cache, because `deno publish` would include a folder of this package.
 *
 * A program may import files without a permission, but a Web Worker only those that
 * its parent may read: a test that narrows `read`, and starts a Web Worker that
 * imports `@std`, must add the folder.
 *
 * @module
 */

import { fileURLToPath, pathToFileURL } from "node:url";
import { runCommand } from "./_run.ts";

/** The `@std` code as an npm package: one folder for each `@std` package. */
const SOURCE = "npm:deno-std@1.4.0";

/**
 * The folders that each package is made of. The packages in {@linkcode SOURCE}
 * import each other by relative path, so each needs the folders that it imports.
 */
const FOLDERS: Record<string, string[]> = {
  assert: ["assert", "internal"],
  cli: ["cli"],
  msgpack: ["msgpack", "bytes"],
  streams: ["streams", "bytes"],
};

/** Milliseconds for JSR to answer: a network without it may never respond. */
const PROBE_TIMEOUT = 3_000;

/** Milliseconds for which the result of a probe without an answer is kept. */
const VERDICT_TTL = 3_600_000;

const ROOT = new URL("../", import.meta.url);

async function sha256(data: string): Promise<string> {
  const bytes = new TextEncoder().encode(data);
  const hash = await crypto.subtle.digest("SHA-256", bytes);
  return new Uint8Array(hash).toHex();
}

async function exists(url: URL): Promise<boolean> {
  try {
    await Deno.lstat(url);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

interface DenoInfo {
  denoDir: string;
  npmPackages?: Record<string, { localPath: string }>;
}

/**
 * The output of `deno info`, which downloads the named packages. Without the
 * configuration it does not download the npm packages of this project.
 */
async function denoInfo(...args: string[]): Promise<DenoInfo> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["info", "--json", "--no-config", ...args],
    env: { NO_COLOR: "1" },
  }).output();
  if (!success) throw new Error(new TextDecoder().decode(stderr).trim());
  return JSON.parse(new TextDecoder().decode(stdout));
}

/** The folder of {@linkcode SOURCE}, downloaded if it is not there yet. */
async function sourceFolder(): Promise<URL> {
  const { npmPackages } = await denoInfo(`${SOURCE}/assert/mod.js`);
  const localPath = npmPackages?.[SOURCE.slice("npm:".length)]?.localPath;
  if (!localPath) throw new Error(`Cannot download "${SOURCE}"`);
  return pathToFileURL(`${localPath}/`);
}

/** Whether JSR answers. `cache` remembers a probe that had to be given up. */
async function jsrAnswers(cache: URL): Promise<boolean> {
  const verdict = new URL("unreachable", cache);
  const { mtime } = await Deno.stat(verdict).catch(() => ({ mtime: null }));
  if (mtime && Date.now() - mtime.getTime() < VERDICT_TTL) return false;
  try {
    const response = await fetch("https://jsr.io/@std/assert/meta.json", {
      signal: AbortSignal.timeout(PROBE_TIMEOUT),
    });
    return typeof (await response.json()).versions === "object";
  } catch (error) {
    if (error instanceof DOMException && error.name === "TimeoutError") {
      await Deno.mkdir(cache, { recursive: true });
      await Deno.writeTextFile(verdict, "");
    }
    return false;
  }
}

/** The versions of the `@std` packages that `deno.json` asks for. */
function stdVersions(denoJson: string): Map<string, string> {
  const imports: Record<string, string> = JSON.parse(denoJson).imports;
  const versions = new Map<string, string>();
  for (const specifier of Object.values(imports)) {
    const match = specifier.match(/^jsr:@std\/([\w-]+)@\^(\d+\.\d+\.\d+)$/);
    if (match) versions.set(match[1]!, match[2]!);
    else if (specifier.startsWith("jsr:")) {
      throw new Error(
        `Cannot stand in for JSR as an import is not of the form "jsr:@std/NAME@^VERSION": current value is "${specifier}"`,
      );
    }
  }
  return versions;
}

function readTypes(name: string): Promise<string> {
  return Deno.readTextFile(new URL(`jsr/${name}.d.ts`, import.meta.url));
}

/** Lays one package out as JSR does: two metadata files and a folder. */
async function layOut(
  name: string,
  version: string,
  source: URL,
  target: URL,
): Promise<void> {
  const folders = FOLDERS[name];
  if (!folders) {
    throw new Error(
      `Cannot stand in for JSR as "tools/with_jsr.ts" knows no folders for "@std/${name}"`,
    );
  }
  const files = new Map<string, string>();
  const exports: Record<string, string> = {};
  for (const folder of folders) {
    for await (const { name: file } of Deno.readDir(new URL(folder, source))) {
      const path = `${folder}/${file}`;
      let code = await Deno.readTextFile(new URL(path, source));
      if (folder === name && !file.startsWith("_")) {
        code = `// @ts-self-types="./mod.d.ts"\n${code}`;
        const key = file.replace(/\.js$/, "").replaceAll("_", "-");
        exports[key === "mod" ? "." : `./${key}`] = `./${path}`;
      }
      files.set(path, code);
    }
  }
  files.set(`${name}/mod.d.ts`, await readTypes(name));

  const manifest: Record<string, { size: number; checksum: string }> = {};
  for (const [path, code] of files) {
    const url = new URL(`${version}/${path}`, target);
    await Deno.mkdir(new URL(".", url), { recursive: true });
    await Deno.writeTextFile(url, code);
    manifest[`/${path}`] = {
      size: (await Deno.stat(url)).size,
      checksum: `sha256-${await sha256(code)}`,
    };
  }
  await Deno.writeTextFile(
    new URL("meta.json", target),
    JSON.stringify({
      scope: "std",
      name,
      latest: version,
      versions: { [version]: {} },
    }),
  );
  await Deno.writeTextFile(
    new URL(`${version}_meta.json`, target),
    JSON.stringify({ manifest, exports }),
  );
}

/**
 * The folder of the replacement inside `cache`, which is made if necessary. Its name is
 * a hash of its content, so it is never outdated, and it is moved into place in one
 * step, so that two tasks may make it at once.
 */
async function standIn(cache: URL): Promise<URL> {
  const denoJson = await Deno.readTextFile(new URL("deno.json", ROOT));
  const versions = stdVersions(denoJson);
  const parts = [
    JSON.stringify([...versions]),
    await Deno.readTextFile(new URL(import.meta.url)),
  ];
  for (const name of versions.keys()) {
    parts.push(await readTypes(name));
  }
  const hash = (await sha256(parts.join("\0"))).slice(0, 16);
  const folder = new URL(`${hash}/`, cache);
  if (await exists(folder)) return folder;

  const source = await sourceFolder();
  await Deno.mkdir(cache, { recursive: true });
  const draft = await Deno.makeTempDir({ dir: fileURLToPath(cache) });
  try {
    for (const [name, version] of versions) {
      const target = new URL(`@std/${name}/`, pathToFileURL(`${draft}/`));
      await layOut(name, version, source, target);
    }
    await Deno.rename(draft, folder);
  } catch (error) {
    await Deno.remove(draft, { recursive: true });
    if (!(await exists(folder))) throw error;
  }
  return folder;
}

/** The value of `JSR_URL` for the command, or `undefined` to leave it. */
async function jsrUrl(): Promise<string | undefined> {
  if (Deno.env.has("JSR_URL")) return undefined;
  const { denoDir } = await denoInfo();
  const cache = pathToFileURL(`${denoDir}/duplex_jsr/`);
  if (await jsrAnswers(cache)) return undefined;
  try {
    return (await standIn(cache)).href;
  } catch (error) {
    // All that the command needs may be in Deno's cache.
    console.error(`JSR does not answer and has no stand-in: ${error}`);
    return undefined;
  }
}

if (import.meta.main) {
  const [command, ...args] = Deno.args;
  if (command === undefined) {
    console.error("Usage: deno run -A tools/with_jsr.ts COMMAND [ARGUMENT…]");
    Deno.exit(2);
  }
  const url = await jsrUrl();
  const env = url === undefined ? {} : { JSR_URL: url };
  Deno.exit(await runCommand(command, args, env));
}
