// Copyright 2026 the Duplex authors. MIT license.

/**
 * Paths and scripts that must have the same meaning for a child in another
 * folder.
 *
 * @module
 */

import {
  assertEquals,
  assertInstanceOf,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import {
  absolutePath,
  isAbsolute,
  isCommandPath,
  pathOf,
  type PathSystem,
  scriptName,
  scriptUrl,
} from "../../_permissions/path.ts";

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

Deno.test("scriptUrl() takes a script for a URL if it has a scheme", () => {
  const cases: [system: PathSystem, script: string, expected: string][] = [
    [posix, "/a", "file:///a"],
    [posix, "../a b", "file:///home/a%20b"],
    [posix, "#%?\t |\\ ", "file:///home/me/%23%25%3F%09%20%7C%5C%20"],
    [posix, "C:/a", "file:///home/me/C:/a"],
    [posix, "C:\\a", "file:///home/me/C:%5Ca"],
    [windows, "C:/a", "file:///C:/a"],
    [windows, "c:\\a b\\#", "file:///c:/a%20b/%23"],
    [windows, "a", "file:///C:/me/a"],
    [windows, "\\a", "file:///C:/a"],
    [windows, "\\\\host\\share\\a", "file://host/share/a"],
    [windows, "\\\\?\\C:\\a", "file:///C:/a"],
    [windows, "\\\\?\\UNC\\host\\share\\a", "file://host/share/a"],
    [share, "a", "file://host/share/me/a"],
    [posix, "file:///a%20b#c", "file:///a%20b#c"],
    [posix, "https://a.example/b", "https://a.example/b"],
    [windows, "data:text/javascript,0", "data:text/javascript,0"],
    [posix, "jsr:@a/b", "jsr:@a/b"],
  ];
  for (const [system, script, expected] of cases) {
    assertEquals(scriptUrl("Cannot open", script, system).href, expected);
  }
  const url = new URL("file:///a?b");
  assertEquals(scriptUrl("Cannot open", url).href, url.href);
});

Deno.test("scriptUrl() throws for what is neither a URL nor a path", () => {
  const cases: [script: unknown, text: string][] = [
    ["", 'must be a path or a URL: current value is ""'],
    ["a\0", "must be a path or a URL"],
    [undefined, "must be a path or a URL: current value is undefined"],
    ["http://", 'the script "http://" is not a valid URL'],
    ["ab:c.ts", 'the script "ab:c.ts" has a scheme other than file, http'],
    [new URL("C:/w.ts"), 'the script "c:/w.ts" has a scheme other than file'],
  ];
  for (const [script, text] of cases) {
    const error = assertThrows(() => scriptUrl("Cannot open", script));
    assertInstanceOf(error, TypeError);
    assertStringIncludes(
      error.message,
      `Cannot open as ${text.startsWith("must") ? "the script " : ""}${text}`,
    );
  }
});

Deno.test("scriptName() is the last part of a path", () => {
  const nameOf = (href: string) => scriptName(new URL(href));
  assertEquals(nameOf("file:///a/b%20c.ts?d#e"), "b c.ts");
  assertEquals(nameOf("file:///a/b%.ts"), "b%.ts");
  assertEquals(nameOf("data:text/javascript,a/b"), "data:");
});
