// Copyright 2026 the Duplex authors. MIT license.

/**
 * A peer in Python over sockets: `examples/hello/duplex.py` connects to what
 * `listenSocket()` listens on.
 *
 * @module
 */

import { msgpack } from "@duplex/ipc/codec";
import { PeerExitError, ProtocolError } from "@duplex/ipc/duplex";
import { type ListenOptions, listenSocket } from "@duplex/ipc/socket";
import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { assertRepeats } from "../_repeats.ts";
import { countFrames, Proxy } from "./_proxy.ts";
import { until } from "./_peers.ts";
import { greeting, LINK, ready } from "./_raw.ts";
import { CERT, KEY, socketPath, unixPermissions } from "./_sockets.ts";
import { within } from "../workers/_processes.ts";

const HELLO = new URL("../../examples/hello/", import.meta.url);
const CA_PATH = decodeURIComponent(
  new URL("../certs/ca.pem", import.meta.url).pathname,
);
const SECRET = "Only these two know";
const PATH = socketPath();
const DENO = Deno.execPath();

const HAS_PYTHON = hasPython();

function hasPython(): boolean {
  try {
    return new Deno.Command("python3", { args: ["--version"] }).outputSync()
      .success;
  } catch {
    return false;
  }
}

/** A test that needs Python. */
function pythonTest(
  name: string,
  permissions: Deno.PermissionOptionsObject,
  fn: () => Promise<void>,
) {
  Deno.test({
    name,
    // Python for Windows has no Unix sockets, and Windows no SIGSTOP.
    ignore: !HAS_PYTHON || Deno.build.os === "windows",
    permissions: { run: ["python3"], ...permissions },
    fn,
  });
}

const TCP = { net: ["127.0.0.1"] };

/** A program in Python. */
interface Python extends AsyncDisposable {
  readonly child: Deno.ChildProcess;
  /** Its code, what it has printed, and its errors, once it has ended. */
  readonly output: Promise<{ code: number; stdout: string; stderr: string }>;
}

/** Starts a program in Python, with an address as its argument. */
function startPython(program: string, address: string): Python {
  const child = new Deno.Command("python3", {
    args: ["-c", `import sys\nfrom duplex import *\n${program}`, address],
    env: {
      PYTHONPATH: decodeURIComponent(HELLO.pathname),
      PYTHONDONTWRITEBYTECODE: "1",
    },
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const decoder = new TextDecoder();
  const output = child.output().then(({ code, stdout, stderr }) => ({
    code,
    stdout: decoder.decode(stdout).trim(),
    stderr: decoder.decode(stderr).trim(),
  }));
  return {
    child,
    output,
    async [Symbol.asyncDispose]() {
      try {
        child.kill("SIGKILL");
      } catch {
        // It has ended.
      }
      await output;
    },
  };
}

const DONE = { code: 0, stdout: "", stderr: "" };

const ECHO = (options: string) => `
with connect(sys.argv[1], ${options}) as far:
    for message in far:
        far.send(message)
`;

const LARGE = new Uint8Array(1_000_001).map((_, index) => index);

const VALUES: unknown[] = [
  null,
  true,
  ...[0, 255, 65_536, 2 ** 53 - 1, -1, -32_769, 2n ** 63n, -0.25],
  ...["", "grüße", "x".repeat(70_000), new Uint8Array(0)],
  LARGE,
  { a: [{ b: [null] }] },
];

/** Values with objects that occur again, which Python reads. */
const PYTHON_REPEATS: (() => unknown)[] = [
  () => {
    const tree = { name: "root", children: [] as unknown[] };
    const child = { name: "child", parent: tree };
    tree.children.push(child, { name: "other", parent: tree });
    return { tree, same: child };
  },
  () => Array(3).fill({ n: 1 }),
  () => {
    const list: unknown[] = [[]];
    list.push(list, list[0]);
    return list;
  },
  () => {
    const list: unknown[] = Array.from({ length: 70_000 }, (_, n) => [n]);
    return [list, list[0], list[254], list[255], list[65_533], list[65_535]];
  },
];

/** Sends all values, gets them back, and sends goodbye first. */
async function echoAll(
  address: string,
  options: ListenOptions,
  python: string,
): Promise<void> {
  await using listener = listenSocket(address, options);
  await using far = startPython(ECHO(python), listener.address);
  const peer = await listener.accept();
  const sending = (async () => {
    for (const value of VALUES) await peer.send(value);
  })();
  for (const value of VALUES) assertEquals(await peer.receive(), value);
  await sending;
  await peer.close();
  assertEquals(await far.output, DONE);
  assertEquals(listener.stats.peers, 0);
}

pythonTest(
  "duplex.py gives values back over TCP",
  TCP,
  () => echoAll("tcp://127.0.0.1:0", { secret: SECRET }, `secret="${SECRET}"`),
);

pythonTest(
  "duplex.py gives values back over a Unix socket, with checksums",
  unixPermissions(PATH),
  () =>
    echoAll(
      `unix:${PATH}`,
      { secret: SECRET, checksum: true },
      `secret=b"${SECRET}"`,
    ),
);

pythonTest(
  "duplex.py gives values back over TLS",
  { net: ["localhost"] },
  () =>
    echoAll(
      "tls://localhost:0",
      { cert: CERT, key: KEY },
      `checksum=True, context=__import__("ssl").create_default_context(cafile="${CA_PATH}")`,
    ),
);

pythonTest(
  "duplex.py keeps objects that occur again, and cycles",
  TCP,
  async () => {
    await using listener = listenSocket("tcp://127.0.0.1:0");
    await using far = startPython(
      `
with connect(sys.argv[1]) as far:
    for message in far:
        far.send(message)
        if isinstance(message, dict) and "tree" in message:
            tree = message["tree"]
            assert tree["children"][0]["parent"] is tree
            assert message["same"] is tree["children"][0]
        if message == "own":
            key = {"n": 1}
            far.send({"map": {1: key, "two": key}, "tuple": ((), (), key)})
`,
      listener.address,
    );
    const peer = await listener.accept();
    for (const make of PYTHON_REPEATS) {
      const value = make();
      await peer.send(value);
      assertRepeats(value, await peer.receive(), "a value");
    }
    await peer.send("own");
    assertEquals(await peer.receive(), "own");
    const { map, tuple } = await peer.receive() as {
      map: Map<unknown, unknown>;
      tuple: unknown[];
    };
    assertEquals(
      map,
      new Map<unknown, unknown>([[1, { n: 1 }], ["two", { n: 1 }]]),
    );
    assertEquals(map.get(1) === map.get("two"), true);
    assertEquals(tuple, [[], [], { n: 1 }]);
    assertEquals(tuple[2] === map.get(1), true);
    await peer.close();
    assertEquals(await far.output, DONE);
  },
);

pythonTest("duplex.py rejects malformed graph form", {}, async () => {
  await using far = startPython(
    `
from duplex_msgpack import pack, unpack
for text in sys.argv[1].split():
    try:
        print(unpack(bytes.fromhex(text)))
    except ProtocolError as error:
        print(error)
`,
    "d40d00 c7030cd40d00 c7040c91d40d01 c7050c92d40d0190 c7040c91c7000d " +
      "c7070c91c7030d000000 c7030c91d50d c7050c81d40d0001 c7030c810102 91d40c90 " +
      "c7030cd40c90 d40c90d40c90 d50c9090 c7000c c7090c90",
  );
  const { stdout, stderr } = await far.output;
  assertEquals(stderr, "");
  const lines = stdout.split("\n");
  assertEquals(lines.length, 15);
  for (const line of lines) {
    assertMatch(line, /^Cannot decode a message: /);
  }
});

pythonTest(
  "duplex.py sends copies to a peer without graph form",
  {},
  async () => {
    await using far = startPython(
      `
from duplex_msgpack import pack, unpack
shared = {"n": 1}
print(unpack(pack([shared, {"b": shared}], graph=False)))
shared["list"] = [0, shared]
value = []
for _ in range(100):
    value = [value, value]
for value in (shared, value):
    try:
        print(pack(value, graph=False, limit=1 << 28))
    except UnsupportedValue as error:
        print(error)
`,
      "",
    );
    const { stdout, stderr } = await far.output;
    assertEquals(stderr, "");
    const [copies, cycle, large] = stdout.split("\n");
    assertEquals(copies, "[{'n': 1}, {'b': {'n': 1}}]");
    assertStringIncludes(
      cycle!,
      "the value at $['list'][1]: it contains itself",
    );
    assertStringIncludes(large!, "more than 268435456 bytes");
  },
);

pythonTest("duplex.py sends goodbye first", TCP, async () => {
  await using listener = listenSocket("tcp://127.0.0.1:0", { checksum: true });
  await using far = startPython(
    `
far = connect(sys.argv[1], heartbeat=0)
far.send("last")
far.close()
try:
    far.send("more")
except Closed as error:
    print(error)
`,
    listener.address,
  );
  const peer = await listener.accept();
  const received: unknown[] = [];
  for await (const message of peer) received.push(message);
  assertEquals(received, ["last"]);
  await peer.close();
  const { code, stdout } = await far.output;
  assertEquals([code, stdout], [0, "Cannot send to a closed duplex"]);
});

const REFUSALS: readonly [
  name: string,
  options: ListenOptions,
  python: string,
  text: string,
][] = [
  [
    "with another secret",
    { secret: SECRET },
    'secret="Another"',
    "the two sides do not hold the same secret",
  ],
  [
    "without a secret",
    { secret: SECRET },
    "",
    "the acceptor requires a secret and the opener has none",
  ],
  [
    "with a secret where there is none",
    {},
    'secret="Another"',
    "the opener requires a secret and the acceptor has none",
  ],
];

for (const [name, options, python, text] of REFUSALS) {
  pythonTest(`duplex.py ${name} is refused`, TCP, async () => {
    const refused = Promise.withResolvers<unknown>();
    const onError = refused.resolve;
    await using listener = listenSocket("tcp://127.0.0.1:0", {
      ...options,
      onError,
    });
    await using far = startPython(
      `
try:
    connect(sys.argv[1], ${python})
except Refused as error:
    print(error)
`,
      listener.address,
    );
    const error = await refused.promise;
    assert(error instanceof Deno.errors.PermissionDenied);
    assertStringIncludes(error.message, text);
    const { code, stdout, stderr } = await far.output;
    assertEquals([code, stderr], [0, ""]);
    assertStringIncludes(
      stdout,
      `Cannot connect: the peer rejected it: ${text}`,
    );
  });
}

pythonTest(
  "duplex.py keeps an idle connection alive, and is missed when it stops",
  TCP,
  async () => {
    const { counts, plan } = countFrames(LINK.ping);
    await using listener = listenSocket("tcp://127.0.0.1:0", {
      heartbeat: 100,
    });
    await using proxy = new Proxy(listener.address, () => plan);
    await using far = startPython(ECHO(""), proxy.address);
    const peer = await listener.accept();
    // Three heartbeats in silence would have ended it.
    const pings = until(() => Math.min(counts.up, counts.down) > 3);
    await within(Promise.race([pings, peer.closed]));
    await peer.send("still here");
    assertEquals(await peer.receive(), "still here");
    far.child.kill("SIGSTOP");
    const error = await assertRejects(
      () => within(peer.receive()),
      PeerExitError,
      "it sent nothing for 3 heartbeats",
    );
    assertInstanceOf(error.cause, DOMException);
    assertEquals(error.cause.name, "TimeoutError");
    await assertRejects(() => peer.closed);
  },
);

/** A hello. */
function hello(fields: Record<string, unknown>): Uint8Array {
  const magic = Uint8Array.fromHex("894455504c4558");
  const body = [0x01, ...magic, ...msgpack.encode(fields)];
  return Uint8Array.of(0, 0, 0, body.length, ...body);
}

pythonTest(
  "duplex.py notices a peer that sends nothing more",
  TCP,
  async () => {
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    await using near = startPython(
      `
far = connect(sys.argv[1])
try:
    far.receive()
except PeerEnded as error:
    print(error)
`,
      `tcp://127.0.0.1:${listener.addr.port}`,
    );
    using conn = await listener.accept();
    const bytes = new Uint8Array(1024);
    const theirs = bytes.slice(0, (await conn.read(bytes))!);
    const ours = greeting({ heartbeat: 100 });
    await conn.write(ours);
    await conn.read(bytes);
    await conn.write(await ready("acceptor", [theirs, ours]));
    await conn.write(hello({
      version: 1,
      codecs: ["msgpack"],
      ...{ window: 1, messages: 1, maxMessage: 1 },
    }));
    // Its hello and its pings, until it has given up.
    while (await conn.read(bytes) !== null);
    assertEquals(await near.output, {
      ...DONE,
      stdout: "Cannot read from the peer: nothing has arrived for 0.3 seconds",
    });
  },
);

pythonTest("duplex.py and its peer check each record", TCP, async () => {
  await using listener = listenSocket("tcp://127.0.0.1:0", { checksum: true });
  await using far = startPython(
    `
for damaged in ("_records_written", "_records_read"):
    far = connect(sys.argv[1])
    far.send("whole")
    far.receive()
    setattr(far._link, damaged, 7)
    far.send("perhaps damaged")
    try:
        far.receive()
    except (PeerEnded, ProtocolError) as error:
        print(error)
    far.abort("It has ended already")
`,
    listener.address,
  );
  for (const text of ["Cannot read record 2: ", "Cannot read record 7: "]) {
    const peer = await listener.accept();
    assertEquals(await peer.receive(), "whole");
    await peer.send("whole");
    const error = await assertRejects(async () => {
      await peer.receive();
      await peer.send("perhaps damaged");
      await peer.receive();
    }, ProtocolError);
    assertStringIncludes(error.message, text);
    await assertRejects(() => peer.closed);
  }
  const { code, stdout, stderr } = await far.output;
  assertEquals([code, stderr], [0, ""]);
  const [written, read, ...more] = stdout.split("\n");
  assertMatch(
    written!,
    /^The peer reported a violation: Cannot read record 2: its checksum is \d+, that of its bytes is \d+$/,
  );
  assertEquals(
    read,
    "Cannot read record 7: its checksum does not match its bytes",
  );
  assertEquals(more, []);
});

pythonTest(
  "hello/socket_main.py greets hello/socket_main.ts and is greeted",
  { run: [DENO, "python3"] },
  async () => {
    const deno = new Deno.Command(DENO, {
      args: [
        ...["run", "--quiet", "--allow-net=127.0.0.1"],
        ...[new URL("socket_main.ts", HELLO).href, "tcp://127.0.0.1:0"],
      ],
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const printed = deno.stdout.pipeThrough(new TextDecoderStream());
    const lines: string[] = [];
    let python: Promise<Deno.CommandOutput> | undefined;
    for await (const text of printed) {
      lines.push(text);
      const address = text.match(/^Run socket_main.py (.+)/)?.[1];
      if (address === undefined) continue;
      python = new Deno.Command("python3", {
        args: [`${decodeURIComponent(HELLO.pathname)}socket_main.py`, address],
        env: { PYTHONDONTWRITEBYTECODE: "1" },
        stderr: "inherit",
      }).output();
    }
    assertEquals((await deno.status).code, 0);
    assertEquals(lines.slice(1).join("").trim(), "Hello from Python!");
    const { code, stdout } = await python!;
    assertEquals(code, 0);
    assertEquals(new TextDecoder().decode(stdout).trim(), "Hello from Deno!");
  },
);

pythonTest("duplex.py aborts, and is aborted, with a reason", TCP, async () => {
  await using listener = listenSocket("tcp://127.0.0.1:0");
  await using far = startPython(
    `
try:
    with connect(sys.argv[1]) as far:
        far.receive()
except Aborted as error:
    print("aborted:", error)
with connect(sys.argv[1]) as far:
    raise KeyError("no such thing")
`,
    listener.address,
  );
  const first = await listener.accept();
  first.abort(new RangeError("Enough"));
  const second = await listener.accept();
  const error = await assertRejects(() => second.receive(), Error);
  assertStringIncludes(error.message, "KeyError: 'no such thing'");
  await assertRejects(() => second.closed);
  const { code, stdout } = await far.output;
  assertEquals([code, stdout], [1, "aborted: Enough"]);
});
