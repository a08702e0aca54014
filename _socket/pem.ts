// Copyright 2026 the Duplex authors. MIT license.

/**
 * Checks of certificates and keys in PEM, before anything connects or listens.
 * Deno reports a truncated certificate late, or not at all.
 *
 * @module
 */

import type * as Crypto from "node:crypto";
import { excerpt, messageOf, quoted, show } from "../_base/text.ts";

const BEGIN = "-----BEGIN CERTIFICATE-----";
/** The beginning of a private key that is not encrypted. */
const BEGIN_KEY = /-----BEGIN (RSA |EC )?PRIVATE KEY-----/;
const END = "-----END CERTIFICATE-----";

/** Characters of an option shown in an error: enough to recognise it. */
const SAMPLE_LENGTH = 40;

/** Returns a copy of `caCerts`; throws unless each entry holds certificates. */
export function readCaCerts(action: string, caCerts: unknown): string[] {
  if (!Array.isArray(caCerts)) {
    throw new TypeError(
      `${action} as "caCerts" must be an array of strings: current value is ${
        show(caCerts)
      }`,
    );
  }
  // An array may have holes, which `map` would skip.
  return Array.from(caCerts, (pem, index) => {
    const name = `caCerts[${index}]`;
    const text = readPem(action, name, pem);
    checkCertificates(action, name, text);
    try {
      // Deno makes this check when it connects; here it needs no connection.
      Deno.createHttpClient({ caCerts: [text] }).close();
    } catch (cause) {
      throw unreadable(action, name, cause);
    }
    return text;
  });
}

/** Returns an option; throws unless it is a string that is not empty. */
export function readPem(action: string, name: string, value: unknown): string {
  if (typeof value === "string" && value !== "") return value;
  // The value may be a key, so it is not shown.
  const found = typeof value === "string" ? "empty" : `of type ${typeof value}`;
  throw new TypeError(
    `${action} as "${name}" must be a string in PEM: it is ${found}`,
  );
}

/** Throws unless a string holds complete certificates in PEM. */
export function checkCertificates(
  action: string,
  name: string,
  pem: string,
): void {
  const blocks = pem.split(BEGIN).slice(1);
  if (blocks.length === 0) {
    throw new Deno.errors.InvalidData(
      `${action} as "${name}" must hold certificates in PEM: it has no "${BEGIN}" and starts with ${
        sample(pem)
      }`,
    );
  }
  for (const [index, block] of blocks.entries()) {
    const size = block.indexOf(END);
    if (size < 0) {
      throw new Deno.errors.InvalidData(
        `${action} as "${name}" must hold certificates in PEM: certificate ${
          index + 1
        } has no "${END}"; the string may be truncated`,
      );
    }
    try {
      Uint8Array.fromBase64(block.slice(0, size));
    } catch (cause) {
      throw new Deno.errors.InvalidData(
        `${action} as "${name}" must hold certificates in PEM: certificate ${
          index + 1
        } is not in base64`,
        { cause },
      );
    }
  }
}

/** Throws unless a string holds a private key in PEM that is not encrypted. */
export function checkKey(action: string, name: string, pem: string): void {
  if (BEGIN_KEY.test(pem)) return;
  // It may be the key in another form, so it is not shown.
  const found = pem.includes("ENCRYPTED PRIVATE KEY")
    ? "it is encrypted; decrypt it first"
    : pem.includes(BEGIN)
    ? "it is a certificate"
    : 'it has no "-----BEGIN PRIVATE KEY-----"';
  throw new Deno.errors.InvalidData(
    `${action} as "${name}" must be a private key in PEM: ${found}`,
  );
}

/** Throws unless a key in PEM is that of a certificate in PEM. */
export function checkPair(
  action: string,
  { cert, key }: { readonly cert: string; readonly key: string },
  crypto: typeof Crypto,
): void {
  let certificate: Crypto.X509Certificate;
  try {
    certificate = new crypto.X509Certificate(cert.slice(cert.indexOf(BEGIN)));
  } catch (cause) {
    throw unreadable(action, "cert", cause);
  }
  let isPair: boolean;
  try {
    // The parameters of its curve may precede it.
    const text = key.slice(key.search(BEGIN_KEY));
    isPair = certificate.checkPrivateKey(crypto.createPrivateKey(text));
  } catch (cause) {
    throw unreadable(action, "key", cause);
  }
  if (isPair) return;
  throw new Deno.errors.InvalidData(
    `${action} as "key" must be the private key of the first certificate in "cert": it belongs to another certificate`,
  );
}

/** The error of an option that is in PEM and cannot be parsed. */
function unreadable(action: string, name: string, cause: unknown): Error {
  return new Deno.errors.InvalidData(
    `${action} as "${name}" cannot be read: ${excerpt(messageOf(cause))}`,
    { cause },
  );
}

/** The beginning of an option, unless it is a key. */
function sample(text: string): string {
  return text.includes("PRIVATE KEY")
    ? "a private key"
    : quoted(text, SAMPLE_LENGTH);
}
