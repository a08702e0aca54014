// Copyright 2026 the Duplex authors. MIT license.

/**
 * Certificates and keys that cannot be used: they are found before anything
 * connects or listens, and the error names the option.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import {
  type ListenOptions,
  listenSocket,
  openSocket,
  type SocketOptions,
} from "@duplex/ipc/socket";
import { CA, CERT, KEY, openEnds, WEAK_CERT, WEAK_KEY } from "./_sockets.ts";

const TLS = "tls://localhost:0";

type ErrorClass = typeof TypeError | typeof Deno.errors.InvalidData;

const { InvalidData } = Deno.errors;

/** A text in PEM that holds something. */
function pem(label: string, body: string): string {
  return `-----BEGIN ${label}-----\n${body}\n-----END ${label}-----\n`;
}

/** A certificate that is cut off in its middle, and one whose bytes are. */
const TRUNCATED = CA.slice(0, CA.length / 2);
const BROKEN = pem("CERTIFICATE", "MIIBdzCC");

/** What is wrong, the error's class and text, and whether it has a cause. */
type Case = [string, unknown, ErrorClass, string, boolean?];

const CA_CERTS: Case[] = [
  ["null", null, TypeError, '"caCerts" must be an array of strings'],
  ["a text", CA, TypeError, '"caCerts" must be an array of strings'],
  ["an object", { 0: CA }, TypeError, '"caCerts" must be an array of strings'],
  ["a number", [5], TypeError, '"caCerts[0]" must be a string in PEM'],
  ["a hole", [CA, , CA], TypeError, '"caCerts[1]" must be a string in PEM'],
  ["bytes", [new Uint8Array(3)], TypeError, '"caCerts[0]" must be a string'],
  [
    "nothing",
    [CA, ""],
    TypeError,
    '"caCerts[1]" must be a string in PEM: it is',
  ],
  ["no PEM", [CA, "/a/path.pem"], InvalidData, '"caCerts[1]" must hold'],
  ["a key", [KEY], InvalidData, "it has no"],
  ["cut off", [CA, TRUNCATED], InvalidData, '"caCerts[1]" must hold'],
  ["cut off behind another", [CA + TRUNCATED], InvalidData, "certificate 2"],
  [
    "not in base64",
    [pem("CERTIFICATE", "A*BC")],
    InvalidData,
    "certificate 1 is not in base64",
    true,
  ],
  [
    "no certificate",
    [BROKEN],
    InvalidData,
    '"caCerts[0]" cannot be read',
    true,
  ],
];

Deno.test({
  name: "openSocket() rejects invalid certificates in caCerts",
  permissions: "none",
  async fn() {
    for (const [what, caCerts, type, text, hasCause = false] of CA_CERTS) {
      const error = await assertRejects(
        () => openSocket("tls://localhost:1", { caCerts } as SocketOptions),
        type,
        text,
        what,
      );
      assertStringIncludes(error.message, "Cannot open a socket as");
      assertEquals(error.cause instanceof Error, hasCause, what);
    }
  },
});

/** A key that is not that of the certificate. */
async function otherKey(): Promise<string> {
  const { privateKey } = await crypto.subtle.generateKey(
    { name: "ECDSA", namedCurve: "P-256" },
    true,
    ["sign"],
  );
  const bytes = await crypto.subtle.exportKey("pkcs8", privateKey);
  return pem("PRIVATE KEY", new Uint8Array(bytes).toBase64());
}

const ENCRYPTED = pem("ENCRYPTED PRIVATE KEY", "MIIBdzCC");

/** The same of `cert` and `key`. */
type PairCase = [string, ListenOptions, ErrorClass, string];

async function pairs(): Promise<PairCase[]> {
  const cert = (cert: unknown) => ({ cert, key: KEY }) as ListenOptions;
  const key = (key: unknown) => ({ cert: CERT, key }) as ListenOptions;
  const weak = { cert: WEAK_CERT, key: WEAK_KEY };
  return [
    ["neither", {}, TypeError, 'needs "cert" and "key"'],
    ["no key", key(undefined), TypeError, 'needs "cert" and "key"'],
    ["a number", cert(5), TypeError, '"cert" must be a string in PEM'],
    ["null", key(null), TypeError, '"key" must be a string in PEM'],
    ["an array", cert([CERT]), TypeError, '"cert" must be a string in PEM'],
    ["nothing", cert(""), TypeError, '"cert" must be a string in PEM'],
    ["no PEM", cert("x"), InvalidData, '"cert" must hold certificates in PEM'],
    ["cut off", cert(TRUNCATED), InvalidData, "certificate 1 has no"],
    [
      "a second one cut off",
      cert(CERT + TRUNCATED),
      InvalidData,
      "certificate 2",
    ],
    ["no certificate", cert(BROKEN), InvalidData, '"cert" cannot be read'],
    ["a key", cert(KEY), InvalidData, "starts with a private key"],
    [
      "a key that is none",
      key("x"),
      InvalidData,
      '"key" must be a private key',
    ],
    ["a certificate", key(CERT), InvalidData, "it is a certificate"],
    ["encrypted", key(ENCRYPTED), InvalidData, "it is encrypted"],
    ["a key cut off", key(KEY.slice(0, 60)), InvalidData, '"key" cannot be'],
    [
      "a key without bytes",
      key(pem("PRIVATE KEY", "")),
      InvalidData,
      '"key" cannot be read',
    ],
    [
      "another key",
      key(await otherKey()),
      InvalidData,
      "it belongs to another certificate",
    ],
    ["a short key", weak, InvalidData, "RSA with 2048 bits or more"],
  ];
}

Deno.test({
  name: "listenSocket() rejects an invalid certificate or key",
  // It is found before a permission is asked for.
  permissions: "none",
  async fn() {
    for (const [what, options, type, text] of await pairs()) {
      const error = assertThrows(
        () => listenSocket(TLS, options),
        type,
        text,
        what,
      );
      assertStringIncludes(error.message, "Cannot listen as");
      const secrets = options.key?.split("\n").filter((line) =>
        line.length > 20 && !line.startsWith("-----")
      ) ?? [];
      for (const secret of secrets) {
        assert(!Deno.inspect(error).includes(secret), what);
      }
    }
  },
});

Deno.test({
  name: "openSocket() trusts one of several certificates",
  permissions: { net: ["localhost"] },
  async fn() {
    const { main, worker, listener } = await openEnds<string>(
      TLS,
      { caCerts: [WEAK_CERT, `A comment\n${WEAK_CERT}${CA}`] },
      { cert: `A comment\n${CERT}${CA}`, key: `\n${KEY}` },
    );
    await main.send("trusted");
    assertEquals(await worker.receive(), "trusted");
    await Promise.all([main.close(), worker.close(), listener.close()]);
  },
});

Deno.test({
  name: "openSocket() gives the fault of a certificate as the cause",
  permissions: { net: ["localhost"] },
  async fn() {
    await using listener = listenSocket(TLS, { cert: CERT, key: KEY });
    const error = await assertRejects(
      () => openSocket(listener.address, { caCerts: [WEAK_CERT] }),
      InvalidData,
      "Cannot open a socket to",
    );
    assertInstanceOf(error.cause, InvalidData);
  },
});
