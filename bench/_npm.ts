// Copyright 2026 the Duplex authors. MIT license.

/**
 * Packages of npm for programs in Node, installed once into a folder of Deno's cache.
 *
 * @module
 */

const decoder = new TextDecoder();

/** The output of a program. */
async function output(
  command: string,
  args: string[],
  cwd?: string,
): Promise<string> {
  const { success, code, stdout, stderr } = await new Deno.Command(command, {
    args,
    ...(cwd === undefined ? {} : { cwd }),
  }).output();
  if (success) return decoder.decode(stdout);
  // npm prints warnings before the error.
  const lines = decoder.decode(stderr).trim().split("\n");
  const words = lines.find((line) => !line.startsWith("npm warn"));
  throw new Error(`${command} ended with ${code}: ${words ?? "no reason"}`);
}

/** Whether Node can load the packages in the folder, and the others are there. */
async function loads(
  folder: string,
  names: string[],
  others: string[],
): Promise<boolean> {
  const code = names.map((name) => `import ${JSON.stringify(name)};`).join("");
  const args = ["--input-type=module", "--eval", code];
  try {
    await output("node", args, folder);
    for (const name of others) {
      await Deno.stat(`${folder}/node_modules/${name}`);
    }
    return true;
  } catch {
    return false;
  }
}

/**
 * The folder with packages, which are installed if necessary.
 *
 * @param use Their purpose, for the name of the folder.
 * @param packages Their names and versions.
 * @param others Those that Node cannot load, in the same way.
 * @returns The path of the folder.
 */
export async function npmFolder(
  use: string,
  packages: Record<string, string>,
  others: Record<string, string> = {},
): Promise<string> {
  const info = await output(Deno.execPath(), ["info", "--json", "--no-config"]);
  const { denoDir }: { denoDir: string } = JSON.parse(info);
  const all = { ...packages, ...others };
  const versions = Object.values(all).join("-");
  const folder = `${denoDir}/duplex_bench/${use}-${versions}`;
  const names = Object.keys(packages);
  const rest = Object.keys(others);
  if (await loads(folder, names, rest)) return folder;
  await Deno.mkdir(folder, { recursive: true });
  // Scripts would compile programs that the packages contain already.
  const flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-save"];
  flags.push("--fetch-retries=1", "--fetch-timeout=20000");
  const specs = Object.entries(all).map((entry) => entry.join("@"));
  await output("npm", ["install", "--prefix", folder, ...flags, ...specs]);
  if (await loads(folder, names, rest)) return folder;
  throw new Error(`${specs.join(", ")} do not load in Node`);
}
