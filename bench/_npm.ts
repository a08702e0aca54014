// Copyright 2026 the Duplex authors. MIT license.

/**
 * Packages of npm for peers that run in Node, installed once into a folder in
 * Deno's cache.
 *
 * @module
 */

const decoder = new TextDecoder();

/** What a program prints. */
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
  // npm warns of this and that before it says what is wrong.
  const lines = decoder.decode(stderr).trim().split("\n");
  const words = lines.find((line) => !line.startsWith("npm warn"));
  throw new Error(`${command} ended with ${code}: ${words ?? "no reason"}`);
}

/** Whether Node can load what is installed in the folder. */
async function loads(folder: string, names: string[]): Promise<boolean> {
  const code = names.map((name) => `import ${JSON.stringify(name)};`).join("");
  const args = ["--input-type=module", "--eval", code];
  try {
    await output("node", args, folder);
    return true;
  } catch {
    return false;
  }
}

/**
 * The folder with packages, installed if they are not there yet.
 *
 * @param use What they are for, which the folder is called after.
 * @param packages Their names, each with its version.
 * @returns The path of the folder.
 */
export async function npmFolder(
  use: string,
  packages: Record<string, string>,
): Promise<string> {
  const info = await output(Deno.execPath(), ["info", "--json", "--no-config"]);
  const { denoDir }: { denoDir: string } = JSON.parse(info);
  const versions = Object.values(packages).join("-");
  const folder = `${denoDir}/duplex_bench/${use}-${versions}`;
  const names = Object.keys(packages);
  if (await loads(folder, names)) return folder;
  await Deno.mkdir(folder, { recursive: true });
  // Scripts would compile what the packages hold as programs already.
  const flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-save"];
  flags.push("--fetch-retries=1", "--fetch-timeout=20000");
  const specs = names.map((name) => `${name}@${packages[name]}`);
  await output("npm", ["install", "--prefix", folder, ...flags, ...specs]);
  if (await loads(folder, names)) return folder;
  throw new Error(`${specs.join(", ")} do not load in Node`);
}
