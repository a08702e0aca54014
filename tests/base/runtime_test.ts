// Copyright 2026 the Duplex authors. MIT license.

import { assertEquals, assertThrows } from "@std/assert";
import {
  checkRuntime,
  MIN_DENO,
  MIN_DENO_FOR_PROCESSES,
} from "../../_base/runtime.ts";

Deno.test("checkRuntime() throws if Deno is too old", () => {
  const rows: [current: string, minimum: string][] = [
    ["2.4.0", "2.9.0"],
    ["2.8.3", "2.9.0"],
    ["2.9.9", "2.10.0"],
    ["1.46.3", "2.4.0"],
    ["2.9.0", "2.9.1"],
    ["2.9.0+a1b2c3d", "2.9.1"],
  ];
  for (const [current, minimum] of rows) {
    const error = assertThrows(
      () => checkRuntime("Cannot open a queue", minimum, current),
      Error,
    );
    assertEquals(
      error.message,
      `Cannot open a queue as it needs Deno ${minimum} or later: current version is ${current}`,
    );
  }
});

Deno.test("checkRuntime() accepts a Deno that is new enough", () => {
  const rows: [current: string, minimum: string][] = [
    ["2.9.0", "2.9.0"],
    ["2.9.6", "2.9.0"],
    ["2.10.0", "2.9.0"],
    ["3.0.0", "2.9.0"],
    ["2.9.0+a1b2c3d", "2.9.0"],
    ["Node.js/24", "2.9.0"],
  ];
  for (const [current, minimum] of rows) {
    checkRuntime("Cannot open a queue", minimum, current);
  }
});

Deno.test("checkRuntime() compares with the current version of Deno", () => {
  for (const minimum of [MIN_DENO_FOR_PROCESSES, MIN_DENO, Deno.version.deno]) {
    checkRuntime("Cannot open a queue", minimum);
  }
  assertThrows(
    () => checkRuntime("Cannot open a queue", "99.0.0"),
    Error,
    `current version is ${Deno.version.deno}`,
  );
});
