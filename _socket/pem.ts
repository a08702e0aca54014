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
/** What a private key that is not encrypted begins with. */
const BEGIN_KEY = /-----BEGIN (RSA |EC )?PRIVATE KEY-----/;
const END = "-----END CERTIFICATE-----";

/** Characters of an option that an error shows: enough to recognise it. */
const SAMPLE_LENGTH = 40;

/**
 * Throws unless every entry of `caCerts` holds certificates that can be trusted.
 *
 * @param action What is attempted, for the error.
 * @param caCerts The option's value.
 * @returns A copy.
 */
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
      // The check that Deno makes when it connects, without a connection.
      Deno.createHttpClient({ caCerts: [text] }).close();
    } catch (cause) {
      throw unreadable(action, name, cause);
    }
    return text;
  });
}

/** Throws unless an option is a text. */
export function readPem(action: string, name: string, value: unknown): string {
  if (typeof value === "string" && value !== "") return value;
  // Never the value of a key.
  const found = typeof value === "string" ? "empty" : `of type ${typeof value}`;
  throw new TypeError(
    `${action} as "${name}" must be a text in PEM: it is ${found}`,
  );
}

/** Throws unless a text holds whole certificates in PEM. */
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
        } has no "${END}"; is the text cut off?`,
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

/** Throws unless a text holds a private key in PEM that is not encrypted. */
export function checkKey(action: string, name: string, pem: string): void {
  if (BEGIN_KEY.test(pem)) return;
  // The text may be the key in another form, so it is not shown.
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
    // Parameters of its curve may stand before it.
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

/** An error about an option in PEM that holds something else inside. */
function unreadable(action: string, name: string, cause: unknown): Error {
  return new Deno.errors.InvalidData(
    `${action} as "${name}" cannot be read: ${excerpt(messageOf(cause))}`,
    { cause },
  );
}

/** The beginning of a text that is not a secret. */
function sample(text: string): string {
  // A key in the place of a certificate is not shown.
  return text.includes("PRIVATE KEY")
    ? "a private key"
    : quoted(text, SAMPLE_LENGTH);
}
