// Copyright 2026 the Duplex authors. MIT license.

/**
 * What PROTOCOL.md says of sockets, held against the bytes on a connection: the
 * proof, made here with Web Crypto from what the page says, and the names and
 * types of the fields.
 *
 * @module
 */

import { msgpack } from "@duplex/ipc/codec";
import { listenSocket, openSocket } from "@duplex/ipc/socket";
import { assert, assertEquals, assertRejects } from "@std/assert";

const PROTOCOL = Deno.readTextFileSync(
  new URL("../../PROTOCOL.md", import.meta.url),
);
const SECRET = new TextEncoder().encode("Only these two know");
const MAGIC = Uint8Array.fromHex("894455504c4558");
const permissions = { net: ["127.0.0.1"] };

type Fields = Record<string, unknown>;

/** A proof as PROTOCOL.md describes it. */
async function proofOf(
  secret: Uint8Array<ArrayBuffer>,
  role: "opener" | "acceptor",
  received: number,
  greetings: readonly Uint8Array<ArrayBuffer>[],
): Promise<Uint8Array> {
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const hash = await crypto.subtle.digest("SHA-256", secret);
  const key = await crypto.subtle.importKey("raw", hash, algorithm, false, [
    "sign",
  ]);
  const position = new DataView(new ArrayBuffer(8));
  position.setBigUint64(0, BigInt(received));
  const data = new Blob([
    `@duplex/ipc 1 ${role}`,
    new Uint8Array(1),
    position,
    ...greetings,
  ]);
  return new Uint8Array(
    await crypto.subtle.sign("HMAC", key, await data.arrayBuffer()),
  );
}

/** The rows of the first table with fields behind a text: each name's type. */
function tableBehind(text: string): Fields {
  const at = PROTOCOL.indexOf(text);
  assert(at !== -1, `PROTOCOL.md says nothing of ${text}`);
  const [, table] = PROTOCOL.slice(at).match(
    /\n\| field .*\n\| -.*\n((?:\|.*\n)+)/,
  )!;
  const rows = table!.matchAll(/^\| `(\w+)` +\| (\w+)/gm);
  return Object.fromEntries(rows.map(([, name, type]) => [name, type]));
}

/** The type of each field in a control frame, in the words of PROTOCOL.md. */
function typesOf(fields: Fields): Fields {
  const typeOf = (value: unknown) =>
    value instanceof Uint8Array
      ? "binary"
      : typeof value === "number"
      ? "integer"
      : typeof value;
  return Object.fromEntries(
    Object.entries(fields).map(([name, value]) => [name, typeOf(value)]),
  );
}

async function readExactly(
  conn: Deno.Conn,
  size: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(size);
  for (let filled = 0; filled < size;) {
    const count = await conn.read(bytes.subarray(filled));
    assert(count !== null, "The connection has ended");
    filled += count;
  }
  return bytes;
}

interface Frame {
  kind: number;
  bytes: Uint8Array<ArrayBuffer>;
  fields: Fields;
}

/** Reads a control frame. */
async function readFrame(conn: Deno.Conn): Promise<Frame> {
  const length = await readExactly(conn, 4);
  const body = await readExactly(
    conn,
    new DataView(length.buffer).getUint32(0),
  );
  const kind = body[0]!;
  const hasMagic = kind === 0x01 || kind === 0x0c;
  if (hasMagic) assertEquals(body.subarray(1, 8), MAGIC);
  const fields = msgpack.decode(body.subarray(hasMagic ? 8 : 1)) as Fields;
  return { kind, bytes: Uint8Array.of(...length, ...body), fields };
}

/** Writes a control frame; returns its bytes. */
async function writeFrame(
  conn: Deno.Conn,
  kind: number,
  fields: Fields,
): Promise<Uint8Array<ArrayBuffer>> {
  const magic = kind === 0x0c ? MAGIC : [];
  const body = [kind, ...magic, ...msgpack.encode(fields)];
  const bytes = new Uint8Array(4 + body.length);
  new DataView(bytes.buffer).setUint32(0, body.length);
  bytes.set(body, 4);
  assertEquals(await conn.write(bytes), bytes.length);
  return bytes;
}

/** The fields of a greeting as PROTOCOL.md has them. */
function greeting(fields: Fields = {}): Fields {
  return {
    version: 1,
    nonce: crypto.getRandomValues(new Uint8Array(32)),
    secret: true,
    heartbeat: 50,
    checksum: false,
    compression: false,
    resume: true,
    ...fields,
  };
}

Deno.test("PROTOCOL.md shows the proof that it describes", async () => {
  const [, block] = PROTOCOL.match(/```text proof\n([^`]*)```/)!;
  const secret = Uint8Array.from({ length: 16 }, (_, index) => index);
  const greetings = [
    Uint8Array.of(0, 0, 0, 1, 0x0c),
    Uint8Array.of(0, 0, 0, 2, 0x0c, 0x80),
  ];
  assertEquals(
    (await proofOf(secret, "opener", 0, greetings)).toHex(),
    block!.replace(/\s/g, ""),
  );
});

Deno.test({
  name: "PROTOCOL.md names the fields that an acceptor sends",
  permissions,
  async fn() {
    await using listener = listenSocket("tcp://127.0.0.1:0", {
      secret: SECRET,
    });
    const port = Number(new URL(listener.address).port);
    using conn = await Deno.connect({ hostname: "127.0.0.1", port });
    const ours = await writeFrame(conn, 0x0c, greeting());
    const theirs = await readFrame(conn);
    assertEquals(theirs.kind, 0x0c);
    assertEquals(typesOf(theirs.fields), tableBehind("**greeting** has"));
    const greetings = [ours, theirs.bytes];
    await writeFrame(conn, 0x0d, {
      received: 0,
      proof: await proofOf(SECRET, "opener", 0, greetings),
    });
    const ready = await readFrame(conn);
    assertEquals(ready.kind, 0x0d);
    assertEquals(typesOf(ready.fields), tableBehind("**ready** ends"));
    assertEquals(ready.fields, {
      received: 0,
      proof: await proofOf(SECRET, "acceptor", 0, greetings),
    });
    const hello = await readFrame(conn);
    assertEquals(hello.kind, 0x01);
    // It has received nothing from this side yet, and sends a ping.
    const ping = await readFrame(conn);
    assertEquals(ping.kind, 0x08);
    assertEquals(typesOf(ping.fields), tableBehind("**ping** says"));
  },
});

Deno.test({
  name: "PROTOCOL.md names the fields that an opener sends",
  permissions,
  async fn() {
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const address = `tcp://127.0.0.1:${listener.addr.port}`;
    const opening = assertRejects(
      () => openSocket(address, { secret: SECRET }),
      Deno.errors.ConnectionReset,
    );
    using conn = await listener.accept();
    const theirs = await readFrame(conn);
    assertEquals(theirs.kind, 0x0c);
    const { session, ...fields } = tableBehind("**greeting** has");
    assertEquals(typesOf(theirs.fields), fields);
    assertEquals(session, "binary");
    const ours = await writeFrame(conn, 0x0c, greeting({ resume: false }));
    const ready = await readFrame(conn);
    assertEquals(ready.kind, 0x0d);
    assertEquals(ready.fields, {
      received: 0,
      proof: await proofOf(SECRET, "opener", 0, [theirs.bytes, ours]),
    });
    conn.close();
    await opening;
  },
});

Deno.test({
  name: "PROTOCOL.md names the fields of a refusal",
  permissions,
  async fn() {
    await using listener = listenSocket("tcp://127.0.0.1:0", {
      secret: SECRET,
    });
    const port = Number(new URL(listener.address).port);
    for (
      const [fields, fault] of [[{ secret: false }, false], [
        { version: 2 },
        true,
      ]] as const
    ) {
      using conn = await Deno.connect({ hostname: "127.0.0.1", port });
      await writeFrame(conn, 0x0c, greeting(fields));
      const abort = await readFrame(conn);
      assertEquals(abort.kind, 0x0a);
      assertEquals(abort.fields.fault, fault);
      const { text: _, fault: __, ...more } = abort.fields;
      assertEquals(
        typesOf(more),
        fault ? {} : tableBehind("if it is not for a fault it may have"),
      );
    }
  },
});
