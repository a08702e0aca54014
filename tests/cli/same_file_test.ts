// Copyright 2026 the Duplex authors. MIT license.

/**
 * Files that a shell gives to the command line in two places: what would be lost
 * is refused, before anything is written. Pipes, terminals and `/dev/null` may be
 * in several places.
 *
 * @module
 */

import { assertEquals, assertStringIncludes } from "@std/assert";
import { ROOT } from "./_server.ts";
import { within } from "../workers/_processes.ts";

/** A folder of this run's own. */
const FOLDER = Deno.makeTempDirSync({ prefix: "duplex_same_" });
addEventListener("unload", () => Deno.removeSync(FOLDER, { recursive: true }));

const FILE = `${FOLDER}/file`;
const SYMLINK = `${FOLDER}/symlink`;
const LINK = `${FOLDER}/link`;
const OTHER = `${FOLDER}/other`;

const METHODS = `${ROOT}examples/hello/methods.ts`;
const SVG = "compare --svg";
const ERRORS = `map ${METHODS} --errors`;

/** A test that fails by name when it would wait forever. */
function test(name: string, fn: () => Promise<void>): void {
  const ignore = Deno.build.os === "windows";
  Deno.test({ name, ignore, fn: () => within(fn()) });
}

/** Runs the command line as a shell does; what a pipe carries is in `out`. */
async function shell(
  line: string,
): Promise<{ code: number; out: string; err: string }> {
  const { code, stdout, stderr } = await new Deno.Command("sh", {
    args: ["-c", `cli() { "$DENO" run -A --quiet "$CLI" "$@"; }; ${line}`],
    env: { DENO: Deno.execPath(), CLI: `${ROOT}cli.ts`, NO_COLOR: "1" },
  }).output();
  const decoder = new TextDecoder();
  return { code, out: decoder.decode(stdout), err: decoder.decode(stderr) };
}

async function reset(): Promise<void> {
  await Promise.all([SYMLINK, LINK].map((path) => Deno.remove(path)))
    .catch(() => {});
  await Deno.writeTextFile(FILE, "2\n");
  await Deno.symlink(FILE, SYMLINK);
  await Deno.link(FILE, LINK);
}

test("cli.ts refuses to read or write one file in two places", async () => {
  await reset();
  const cases: [line: string, text: string][] = [
    [`cli ${ERRORS} ${FILE} < ${FILE}`, 'file" is standard input as well'],
    [`cli ${ERRORS} ${FILE} >> ${FILE}`, 'file" is standard output as well'],
    [`cli ${ERRORS} ${SYMLINK} >> ${FILE}`, 'symlink" is standard output as'],
    [`cli ${ERRORS} ${LINK} >> ${SYMLINK}`, 'link" is standard output as well'],
    [`cli map ${METHODS} < ${LINK} >> ${FILE}`, "standard input and standard"],
    [`cli ${SVG} ${LINK} >> ${FILE}`, 'link" is standard output as well'],
  ];
  const results = await Promise.all(cases.map(([line]) => shell(line)));
  for (const [index, { code, out, err }] of results.entries()) {
    assertEquals([code, out], [2, ""], err);
    assertStringIncludes(err, cases[index]![1]);
  }
  assertEquals(await Deno.readTextFile(FILE), "2\n");
  // The reason is in the file here.
  const { code } = await shell(`cli ${ERRORS} ${FILE} 2>> ${FILE} < /dev/null`);
  assertEquals(code, 2);
  assertStringIncludes(
    await Deno.readTextFile(FILE),
    'file" is standard error as well',
  );
});

test("cli.ts takes pipes and /dev/null in several places, and files that differ", async () => {
  await reset();
  const cases: [line: string, out: string][] = [
    [`echo 3 | cli ${ERRORS} /dev/null | cat`, "9\n"],
    [`cli ${ERRORS} /dev/null < /dev/null > /dev/null 2> /dev/null`, ""],
    [`cli ${ERRORS} ${OTHER} < ${FILE} > ${OTHER}2; cat ${OTHER}2`, "4\n"],
    [`cli map ${METHODS} < ${FILE} > ${OTHER}3 2>&1; cat ${OTHER}3`, "4\n"],
  ];
  const results = await Promise.all(cases.map(([line]) => shell(line)));
  for (const [index, { code, out, err }] of results.entries()) {
    assertEquals([code, out, err], [0, cases[index]![1], ""]);
  }
});
