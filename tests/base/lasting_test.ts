// Copyright 2026 the Duplex authors. MIT license.

/**
 * Which errors of a start last: those that another attempt would not change.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { PeerExitError, ProtocolError } from "@duplex/ipc/duplex";
import { isLasting, markLasting } from "../../_base/lasting.ts";
import { test } from "../workers/_processes.ts";

/** An error with a cause. */
function causedBy(cause: unknown, error: Error = new Error("It failed")) {
  return Object.defineProperty(error, "cause", { value: cause });
}

/** A worker that ended before its hello. */
function exit(stderr: string, code: number | null = 1): PeerExitError {
  return new PeerExitError("The worker exited", { code, stderr });
}

const own = new Error("It is its own cause");
causedBy(own, own);
const throws = new Proxy(new Error(), {
  get() {
    throw new Error("Not to be read");
  },
});

const ERRORS: [string, unknown, boolean][] = [
  ["an invalid option", new TypeError('"timeout" must be a number'), true],
  ["a value out of range", new RangeError("must be positive"), true],
  ["a missing permission", new Deno.errors.NotCapable("Requires read"), true],
  ["a wrong secret", new Deno.errors.PermissionDenied("secret"), true],
  ["a cause that lasts", causedBy(new TypeError("x")), true],
  ["a marked error", markLasting(new Error("x")), true],
  ["a marked cause", causedBy(markLasting(new Error("x"))), true],
  ["a connection refused", new Deno.errors.ConnectionRefused("x"), false],
  ["a missing socket", new Deno.errors.NotFound("x"), false],
  ["fetch", causedBy(new Error("sending"), new TypeError("failed")), false],
  ["no memory", new RangeError("Array buffer allocation failed"), false],
  ["a timeout", new DOMException("x", "TimeoutError"), false],
  ["another protocol", new ProtocolError("x"), false],
  ["an error", new Error("x"), false],
  ["an error that is its own cause", own, false],
  ["a proxy that throws", throws, false],
  ["a string", "TypeError", false],
  ["undefined", undefined, false],
  ["a script that ends at once", exit("", 0), true],
  ["a missing script", exit('error: Module not found "file:///x.ts"'), true],
  ["a colored error", exit("\x1b[31merror\x1b[0m: SyntaxError: x"), true],
  ["a type error", exit("TS2322 [ERROR]: Type 'string'"), true],
  ["a wrong flag", exit("error: unexpected argument '--x' found"), true],
  ["a worker without permission", exit("NotCapable: Requires env"), true],
  ["a worker that throws", exit("error: Uncaught Error: no database"), false],
  ["a worker that is killed", exit("", null), false],
];

for (const [name, error, expected] of ERRORS) {
  test(`isLasting() is ${expected} for ${name}`, () => {
    assertEquals(isLasting(error), expected);
    return Promise.resolve();
  }, "none");
}
