// Copyright 2026 the Duplex authors. MIT license.

/**
 * A session on a socket whose program is stopped in a terminal.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { within, workerUrl } from "../workers/_processes.ts";
import { HAS_PTY, inTerminal, JOB, Program } from "../workers/_programs.ts";

async function stopOpener(): Promise<void> {
  const host = workerUrl("socket_host").pathname;
  const limits = { heartbeat: 50, secret: "a secret of a test" };
  await using listener = new Program(Deno.execPath(), [
    ...["run", "-A", host, "listen", "tcp://127.0.0.1:0"],
    JSON.stringify(limits),
  ]);
  const [, address] = await listener.stdout.until(/listening (.*)\n/);
  const options = { ...limits, resume: true };
  const args = ["open", address!, JSON.stringify(options)];
  await using opener = inTerminal("socket_host", args, JOB);
  await opener.stdout.until(/echoed 50\r\n/);
  await opener.write("\x1a");
  await opener.stdout.until(/stopped 148\r\n/);
  // The listener misses the heartbeats.
  await listener.stdout.until(/detached 1\n/);
  const echoed = Number(/.*echoed (\d+)/s.exec(opener.stdout.text)![1]);
  await opener.write("\n");
  await listener.stdout.until(/detached 0\n/);
  await opener.stdout.until(new RegExp(`echoed ${echoed + 50}\\r\\n`));
  await opener.write("stop\n");
  const { code, out } = await opener.result();
  assertEquals(code, 0, out);
  const [, sent, received] = /done (\d+) (\d+)/.exec(out) ?? [];
  assertEquals(sent, received, out);
  assertEquals((await listener.ended()).err, "");
}

Deno.test({
  name: "openSocket() resumes a session after Ctrl+Z and fg",
  ignore: !HAS_PTY,
  fn: () => within(stopOpener()),
});
