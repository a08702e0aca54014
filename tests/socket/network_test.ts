// Copyright 2026 the Duplex authors. MIT license.

/**
 * Sockets between processes and between hosts: a listener that is killed and
 * started again, one that is stopped, the file of a Unix socket, and a network
 * that goes and comes back.
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
import { PeerExitError } from "@duplex/ipc/duplex";
import { listenSocket, openSocket } from "@duplex/ipc/socket";
import { Proxy } from "./_proxy.ts";
import { Host, startListener } from "./_hosts.ts";
import { beServed, until } from "./_peers.ts";
import { socketPath } from "./_sockets.ts";
import { test } from "../workers/_processes.ts";

const SECRET = "Only these two know";

/** What tests of processes may do: start them, end them, and connect. */
const RUN_AND_NET = { run: true, net: ["127.0.0.1"] };

/** The flags of a process that listens at a path. */
function unixFlags(path: string): string[] {
  return [
    `--allow-net=unix:${path}`,
    `--allow-read=${path}`,
    `--allow-write=${path}`,
  ];
}

/** What tests of a Unix socket may do. */
function unixAccess(path: string): Deno.PermissionOptionsObject {
  return { run: true, net: [`unix:${path}`], read: [path], write: [path] };
}

/** Kills a listener under its peer and starts another one at the address. */
async function replaceListener(
  address: string,
  permissions: string[],
): Promise<void> {
  const first = await startListener({ address, permissions });
  await using killed = first.host;
  await using main = await openSocket(first.address, {
    resume: { timeout: 20_000, minDelay: 1, maxDelay: 5 },
  });
  const ended = assertRejects(() => main.closed, PeerExitError);
  await main.send("heard");
  assertEquals(await main.receive(), "heard");
  await main.send("hold");
  await main.send("unsent");
  await main.send({ unsent: 2 });
  const receiving = assertRejects(() => main.receive(), PeerExitError);
  await killed.kill();
  const second = await startListener({ address: first.address, permissions });
  await using host = second.host;
  const error = await receiving;
  assertEquals(second.address, first.address);
  assertStringIncludes(error.message, "the session has ended");
  assertEquals(error.unsent.slice(-2), ["unsent", { unsent: 2 }]);
  assert(!error.unsent.includes("heard"));
  assertEquals(await ended, error);
  assertEquals(await assertRejects(() => main.send("late")), error);
  await beServed(second.address);
  await host.say("end");
  assertEquals((await host.status).code, 0);
}

test(
  "openSocket() rejects when the listener's process was replaced",
  async () => {
    await replaceListener("tcp://127.0.0.1:0", ["--allow-net=127.0.0.1"]);
  },
  RUN_AND_NET,
);

const REPLACED = socketPath();

test("listenSocket() replaces the Unix socket of a dead process", async () => {
  await replaceListener(`unix:${REPLACED}`, unixFlags(REPLACED));
}, unixAccess(REPLACED));

const GUARDED = socketPath();

test(
  "listenSocket() makes a file for its owner only, and removes it",
  async () => {
    const listener = listenSocket(`unix:${GUARDED}`);
    const { isSocket, mode } = await Deno.lstat(GUARDED);
    assertEquals([isSocket, mode! & 0o777], [true, 0o600]);
    await listener.close();
    await assertRejects(() => Deno.lstat(GUARDED), Deno.errors.NotFound);
  },
  unixAccess(GUARDED),
);

test("listenSocket() leaves no file behind when its process ends", async () => {
  for (const order of ["end", "exit"]) {
    const { host, address } = await startListener({
      address: `unix:${GUARDED}`,
      permissions: unixFlags(GUARDED),
    });
    await using _host = host;
    await beServed(address);
    assert((await Deno.lstat(GUARDED)).isSocket);
    await host.say(order);
    assertEquals((await host.status).code, 0, order);
    await assertRejects(() => Deno.lstat(GUARDED), Deno.errors.NotFound);
  }
}, unixAccess(GUARDED));

const TAKEN = socketPath();

test(
  "listenSocket() does not replace the Unix socket of a living process",
  async () => {
    const { host, address } = await startListener({
      address: `unix:${TAKEN}`,
      permissions: unixFlags(TAKEN),
    });
    await using _host = host;
    const late = listenSocket(address);
    const error = await assertRejects(
      () => late.ready,
      Deno.errors.AddrInUse,
      "a living process listens there",
    );
    assertEquals(await assertRejects(() => late.accept()), error);
    assertEquals(await assertRejects(() => Array.fromAsync(late)), error);
    await late.close();
    await beServed(address);
  },
  unixAccess(TAKEN),
);

const PLAIN = socketPath();

test(
  "listenSocket() does not replace a file that is not a socket",
  async () => {
    await Deno.writeTextFile(PLAIN, "Dear diary");
    const listener = listenSocket(`unix:${PLAIN}`);
    await assertRejects(
      () => listener.ready,
      Deno.errors.AddrInUse,
      "the file at the path is not a socket",
    );
    await listener.close();
    assertEquals(await Deno.readTextFile(PLAIN), "Dear diary");
  },
  unixAccess(PLAIN),
);

test("listenSocket() refuses a TCP port that is taken", async () => {
  await using listener = listenSocket("tcp://127.0.0.1:0");
  assertThrows(
    () => listenSocket(listener.address),
    Deno.errors.AddrInUse,
    listener.address,
  );
  await beServedBy(listener);
}, RUN_AND_NET);

/** Is served by a listener of this process. */
async function beServedBy(
  listener: ReturnType<typeof listenSocket>,
): Promise<void> {
  const [main, worker] = await Promise.all([
    openSocket(listener.address),
    listener.accept(),
  ]);
  await Promise.all([main.close(), worker.close()]);
}

/** Signs of life so often that three of them are missed soon. */
const LIVELY = { heartbeat: 50 };

test("openSocket() rejects when the peer's process is stopped", async () => {
  const { host, address } = await startListener({
    address: "tcp://127.0.0.1:0",
    options: LIVELY,
  });
  await using _host = host;
  const main = await openSocket(address, LIVELY);
  await main.send("alive");
  assertEquals(await main.receive(), "alive");
  Deno.kill(host.pid, "SIGSTOP");
  try {
    await main.send("unsent");
    const error = await assertRejects(() => main.receive(), PeerExitError);
    assertInstanceOf(error.cause, DOMException);
    assertEquals(error.cause.name, "TimeoutError");
    assertStringIncludes(error.message, "it sent nothing for 3 heartbeats");
    assertEquals(error.unsent.at(-1), "unsent");
    await assertRejects(() => main.closed, PeerExitError);
  } finally {
    Deno.kill(host.pid, "SIGCONT");
  }
  // Its other peers find it as it was.
  await beServed(address);
}, RUN_AND_NET);

test(
  "openSocket() continues with a process that was stopped for a while",
  async () => {
    const { host, address } = await startListener({
      address: "tcp://127.0.0.1:0",
      options: LIVELY,
    });
    await using _host = host;
    await using proxy = new Proxy(address);
    await using main = await openSocket<number>(proxy.address, {
      ...LIVELY,
      resume: { timeout: 20_000, minDelay: 1, maxDelay: 20 },
    });
    let sent = 0;
    for (; sent < 100; sent++) await main.send(sent);
    Deno.kill(host.pid, "SIGSTOP");
    try {
      for (; sent < 200; sent++) await main.send(sent);
      // It has missed it, and tries to connect again.
      await until(() => proxy.passages.length > 1);
      for (; sent < 300; sent++) await main.send(sent);
    } finally {
      Deno.kill(host.pid, "SIGCONT");
    }
    for (; sent < 400; sent++) await main.send(sent);
    for (let number = 0; number < 400; number++) {
      assertEquals(await main.receive(), number);
    }
  },
  RUN_AND_NET,
);

/** Runs `ip`; returns whether it went well. */
async function ip(...args: string[]): Promise<boolean> {
  const { success } = await new Deno.Command("ip", {
    args,
    stdout: "null",
    stderr: "null",
  }).output();
  return success;
}

/** Runs `ip`, which must go well. */
async function mustIp(...args: string[]): Promise<void> {
  if (!await ip(...args)) throw new Error(`Failed: ip ${args.join(" ")}`);
}

/** The names of two hosts, a link between them, and the ends of it. */
const HOSTS = {
  left: `duplex-l-${Deno.pid}`,
  right: `duplex-r-${Deno.pid}`,
  leftEnd: `dpl${Deno.pid}`,
  rightEnd: `dpr${Deno.pid}`,
  leftAddress: "10.213.7.1",
  rightAddress: "10.213.7.2",
};

/** Whether this machine has `ip`, and lets us make networks with it. */
async function canMakeNetworks(): Promise<boolean> {
  const name = `duplex-p-${Deno.pid}`;
  try {
    if (!await ip("netns", "add", name)) return false;
    // A sandbox may let us make one and not enter it.
    const canEnter = await ip("-n", name, "link", "set", "lo", "up");
    return await ip("netns", "delete", name) && canEnter;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Makes two hosts with a network between them. */
async function makeNetwork(): Promise<void> {
  const { left, right, leftEnd, rightEnd } = HOSTS;
  await mustIp("netns", "add", left);
  await mustIp("netns", "add", right);
  await mustIp(
    ...["link", "add", leftEnd, "netns", left, "type", "veth"],
    ...["peer", "name", rightEnd, "netns", right],
  );
  const ends = [
    [left, leftEnd, HOSTS.leftAddress],
    [right, rightEnd, HOSTS.rightAddress],
  ] as const;
  for (const [host, end, address] of ends) {
    await mustIp("-n", host, "address", "add", `${address}/24`, "dev", end);
    await mustIp("-n", host, "link", "set", end, "up");
  }
}

const HAS_NETWORKS = Deno.build.os === "linux" && await canMakeNetworks();
if (!HAS_NETWORKS) {
  console.log(
    "There is no test between two hosts: it needs iproute2 and the right to make network namespaces",
  );
}

/** Has two hosts talk while the link between them goes and comes back. */
async function talkAcrossNetwork(): Promise<void> {
  const { left, right, leftEnd, leftAddress } = HOSTS;
  const shared = { secret: SECRET, heartbeat: 50, openTimeout: 1_000 };
  const { host: far, address } = await startListener({
    address: `tcp://${leftAddress}:0`,
    options: shared,
    namespace: left,
  });
  await using _far = far;
  await using near = new Host({
    role: "open",
    address,
    options: {
      ...shared,
      resume: { timeout: 20_000, minDelay: 5, maxDelay: 50 },
    },
    namespace: right,
  });
  for (let round = 0; round < 2; round++) {
    await near.hear("echoed");
    await mustIp("-n", left, "link", "set", leftEnd, "down");
    assertEquals(await far.hear("detached"), "1");
    await mustIp("-n", left, "link", "set", leftEnd, "up");
    assertEquals(await far.hear("detached"), "0");
  }
  await near.hear("echoed");
  await near.say("stop");
  const [sent, echoed] = (await near.hear("done")).split(" ");
  assertEquals(sent, echoed);
  assertEquals((await near.status).code, 0);
}

Deno.test({
  name: "openSocket() loses nothing when the network fails and recovers",
  ignore: !HAS_NETWORKS,
  permissions: { run: true },
  async fn() {
    try {
      await makeNetwork();
      await talkAcrossNetwork();
    } finally {
      await ip("netns", "delete", HOSTS.left);
      await ip("netns", "delete", HOSTS.right);
    }
  },
});
