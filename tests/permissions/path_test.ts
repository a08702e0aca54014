// Copyright 2026 the Duplex authors. MIT license.

/**
 * Paths and scripts that must have the same meaning for a child in another
 * folder.
 *
 * @module
 */

import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import {
  absolutePath,
  isAbsolute,
  isCommandPath,
  isUrl,
  pathOf,
  type PathSystem,
} from "../../_permissions/path.ts";
import { denoArgs } from "../../_pipe/options.ts";

const posix: PathSystem = { windows: false, cwd: () => "/home/me" };
const windows: PathSystem = { windows: true, cwd: () => "C:\\me" };
const share: PathSystem = { windows: true, cwd: () => "\\\\host\\share\\me" };

Deno.test("absolutePath() resolves a path like its system", () => {
  const cases: [system: PathSystem, path: string, expected: string][] = [
    [posix, "/a", "/a"],
    [posix, "a", "/home/me/a"],
    [posix, "../a", "/home/me/../a"],
    [posix, "c:/..", "/home/me/c:/.."],
    [posix, "c:\\..", "/home/me/c:\\.."],
    [posix, "\\/..", "/home/me/\\/.."],
    [posix, "~/a", "/home/me/~/a"],
    [{ windows: false, cwd: () => "/" }, "a", "/a"],
    [windows, "c:/a", "c:/a"],
    [windows, "C:\\a", "C:\\a"],
    [windows, "\\\\host\\share\\a", "\\\\host\\share\\a"],
    [windows, "\\\\?\\C:\\a", "\\\\?\\C:\\a"],
    [windows, "\\a", "C:\\a"],
    [windows, "/a", "C:/a"],
    [windows, "a", "C:\\me\\a"],
    [share, "\\a", "\\\\host\\share\\a"],
    [share, "a", "\\\\host\\share\\me\\a"],
  ];
  for (const [system, path, expected] of cases) {
    assertEquals(absolutePath(path, system), expected);
    assertEquals(isAbsolute(expected, system), true);
  }
  const error = assertThrows(() => absolutePath("c:a", windows), TypeError);
  assertStringIncludes(error.message, 'Cannot use the path "c:a"');
});

Deno.test("pathOf() reads the URL of a file like its system", () => {
  const url = (href: string) => new URL(href);
  assertEquals(pathOf(url("file:///a%20b/c"), posix), "/a b/c");
  assertEquals(pathOf(url("file:///100%"), posix), "/100%");
  assertEquals(pathOf(url("file:///C:/a"), posix), "/C:/a");
  assertEquals(pathOf(url("file:///C:/a"), windows), "C:/a");
  assertEquals(pathOf(url("file://host/share/a"), windows), "//host/share/a");
  const error = assertThrows(
    () => pathOf(url("file://host/share/a"), posix),
    TypeError,
  );
  assertStringIncludes(error.message, "it names a host");
});

Deno.test("isCommandPath() distinguishes a path from a name like Deno", () => {
  for (const name of ["ls", "a.b", "-a"]) {
    assertEquals(isCommandPath(name, posix), false);
    assertEquals(isCommandPath(name, windows), false);
  }
  for (const path of ["./ls", "/bin/ls", "a/b"]) {
    assertEquals(isCommandPath(path, posix), true);
    assertEquals(isCommandPath(path, windows), true);
  }
  assertEquals(isCommandPath("a\\b", posix), false);
  assertEquals(isCommandPath("a\\b", windows), true);
});

Deno.test({
  name: "denoArgs() treats a script with a colon as a path unless it is a URL",
  permissions: "inherit",
  fn() {
    const scriptOf = (script: string) => denoArgs(script, {}).at(-1);
    const cwd = Deno.cwd();
    assertEquals(scriptOf("data:text/javascript,0"), "data:text/javascript,0");
    assertEquals(isUrl("c:/a.ts"), false);
    if (Deno.build.os === "windows") return;
    assertEquals(scriptOf("c:/a.ts"), `${cwd}/c:/a.ts`);
    assertEquals(scriptOf("\\/a.ts"), `${cwd}/\\/a.ts`);
  },
});
