// Copyright 2026 the Duplex authors. MIT license.

/**
 * Files that options of the command line name to be written, with the permission
 * to write them and no other.
 *
 * @module
 */

import { assertEquals, assertRejects } from "@std/assert";
import { closeSync, constants, fstatSync, openSync } from "node:fs";
import { OutputFile } from "../../_cli/files.ts";
import { writeAll } from "../../_base/writing.ts";

/** A folder of this run's own. */
const FOLDER = Deno.makeTempDirSync({ prefix: "duplex_files_" });
addEventListener("unload", () => Deno.removeSync(FOLDER, { recursive: true }));

/** Bytes of a file, which need not be read for it. */
function sizeOf(path: string): number {
  const file = openSync(path, constants.O_WRONLY);
  try {
    return fstatSync(file).size;
  } finally {
    closeSync(file);
  }
}

const ignore = Deno.build.os === "windows";

Deno.test({
  name: "OutputFile keeps what is there until it is cleared",
  ignore,
  permissions: { write: [FOLDER, "/dev/null"] },
  async fn() {
    const path = `${FOLDER}/file`;
    {
      using file = await OutputFile.open("svg", path);
      assertEquals(file.isNew, true);
      await file.write(new Uint8Array(100));
    }
    {
      using file = await OutputFile.open("svg", path);
      assertEquals([file.isNew, sizeOf(path)], [false, 100]);
      await file.clear();
      file.writeSync(new Uint8Array(2));
      assertEquals(sizeOf(path), 2);
      await file.remove();
      await file.remove();
    }
    // What is no file has nothing to be cleared.
    using none = await OutputFile.open("svg", "/dev/null");
    await none.clear();
    await assertRejects(
      () => OutputFile.open("svg", "/none"),
      Deno.errors.NotCapable,
      '--svg "/none" cannot be written: run it again with --allow-write=/none',
    );
    await assertRejects(
      () => OutputFile.open("svg", FOLDER),
      Error,
      "cannot be written: Is a directory",
    );
  },
});

Deno.test("writeAll() goes on where not everything was written", async () => {
  const parts: number[] = [];
  await writeAll({
    write(bytes) {
      const count = Math.min(3, bytes.length);
      parts.push(...bytes.subarray(0, count));
      return Promise.resolve(count);
    },
  }, Uint8Array.of(1, 2, 3, 4, 5));
  assertEquals(parts, [1, 2, 3, 4, 5]);
});
