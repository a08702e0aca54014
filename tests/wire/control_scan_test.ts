// Copyright 2026 the Duplex authors. MIT license.

/**
 * Control frames, which are read before a peer is authenticated: what they may
 * contain, and what is rejected before it is decoded.
 *
 * @module
 */

import { assertEquals, assertThrows } from "@std/assert";
import { msgpack } from "../../codec.ts";
import { ProtocolError } from "../../_base/errors.ts";
import {
  type ControlFields,
  decodeControl,
  encodeControl,
  KIND,
  LENGTH_SIZE,
} from "../../_wire/frame_layout.ts";

/** A test that needs no permission. */
function test(name: string, fn: () => void): void {
  Deno.test({ name, permissions: "none", fn });
}

/** The body of a credit frame that contains a map. */
function body(hex: string): Uint8Array {
  return Uint8Array.fromHex(`05${hex.replaceAll(" ", "")}`);
}

function bodyOf(fields: unknown): Uint8Array {
  return new Uint8Array([KIND.credit, ...msgpack.encode(fields)]);
}

test("decodeControl() reads what encodeControl() writes", () => {
  const fields: ControlFields = {
    version: 1,
    name: "größe",
    codecs: Array.from({ length: 40 }, (_, at) => `codec ${at}`),
    window: 2 ** 40,
    ratio: -1.5,
    secret: false,
    session: null,
    nonce: new Uint8Array(300),
    later: { nested: [[1]] },
  };
  for (const kind of [KIND.hello, KIND.abort, KIND.ping, KIND.greeting]) {
    const frame = encodeControl(kind, fields);
    assertEquals(decodeControl(frame.subarray(LENGTH_SIZE)), fields);
  }
});

test("decodeControl() accepts every format of a plain value", () => {
  const values = "c0 c2 c3 7f e0 cc01 cd0001 ce00000001 cf0000000000000001 " +
    "d001 d10001 d200000001 d30000000000000001 ca3f800000 cb3ff0000000000000 " +
    "a161 d90161 da000161 db0000000161 c40107 c5000107 c60000000107 " +
    "90 dc000101 dd0000000101 80 de0001a16101 df00000001a16101";
  for (const value of values.split(" ")) {
    for (const key of ["a166", "d90166", "da000166", "db0000000166"]) {
      const fields = decodeControl(body(`82 ${key} ${value} a167 07`));
      assertEquals(Object.keys(fields), ["f", "g"], value);
      assertEquals(fields.g, 7, value);
    }
  }
});

test("decodeControl() rejects extension types", () => {
  const values = [
    undefined,
    /a/,
    10n ** 30n,
    new Date(0),
    new Map(),
    new Set(),
    new Error("m"),
    new ArrayBuffer(1),
    new Float32Array(1),
    "\ud800",
    Object.assign([], { field: 1 }),
  ];
  for (const value of values) {
    for (const fields of [{ value }, { list: [1, [value]] }]) {
      assertThrows(
        () => decodeControl(bodyOf(fields)),
        ProtocolError,
        "Cannot read a control frame of kind 5: it holds an extension type",
      );
    }
  }
  for (
    const format of ["c7 00 01", "c8 0000 01", "c9 00000000 01", "d4 06 00"]
  ) {
    assertThrows(
      () => decodeControl(body(`81 a166 ${format}`)),
      ProtocolError,
      "it holds an extension type",
    );
  }
});

test("decodeControl() rejects more than a control frame may contain", () => {
  const many = Array.from({ length: 65 }, (_, at) => at);
  const cases: [unknown, string][] = [
    [{ many }, "it holds more than 64 items"],
    [Object.fromEntries(many.map((at) => [at, 1])), "more than 64 items"],
    [{ a: many.slice(0, 32), b: many.slice(0, 32) }, "more than 64 items"],
    [{ a: [[[[1]]]] }, "more than 4 maps and arrays within each other"],
    [{ a: { b: { c: { d: {} } } } }, "more than 4 maps and arrays within"],
  ];
  for (const [fields, text] of cases) {
    assertThrows(() => decodeControl(bodyOf(fields)), ProtocolError, text);
  }
  assertThrows(
    () => decodeControl(body("81 a166 dd ff ff ff ff")),
    ProtocolError,
    "more than 64 items",
  );
});

test("decodeControl() rejects keys that are not strings", () => {
  for (const key of ["01", "c0", "c4 00", "90", "80", "c7 00 01"]) {
    assertThrows(
      () => decodeControl(body(`81 ${key} 01`)),
      ProtocolError,
      "it holds a key that is not a string",
    );
  }
});

test("decodeControl() rejects truncated bytes and trailing bytes", () => {
  const whole = body("83 a161 91 01 a162 c4 02 0102 a163 cd 0102");
  decodeControl(whole);
  for (let length = 1; length < whole.length; length++) {
    assertThrows(
      () => decodeControl(whole.subarray(0, length)),
      ProtocolError,
      "it holds no MessagePack",
    );
  }
  for (const hex of ["", "81 a161 c1", "80 00"]) {
    assertThrows(() => decodeControl(body(hex)), ProtocolError, "no Mess");
  }
  for (const hex of ["90", "01", "c0", "a161", "c4 00"]) {
    assertThrows(() => decodeControl(body(hex)), ProtocolError, "holds no map");
  }
});
