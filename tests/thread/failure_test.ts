// Copyright 2026 the Duplex authors. MIT license.

/**
 * Uncaught errors of Web Workers, as they arrive in the program that opened them.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertMatch,
  assertRejects,
} from "@std/assert";
import { PeerExitError } from "@duplex/ipc/duplex";
import { openQueue } from "@duplex/ipc/queue";
import { openShm } from "@duplex/ipc/shm";
import { failurePost, isFailurePost } from "../../_thread/failure.ts";
import { within, workerUrl } from "../workers/_processes.ts";

const READ = { read: [new URL("../..", import.meta.url)] };

/** The transports whose workers are Web Workers; none is replaced. */
const TRANSPORTS = {
  openQueue: (script: string | URL) =>
    openQueue<string>(script, { restart: false, retries: 0 }),
  openShm: (script: string | URL) => openShm<string>(script),
};

/** When a worker throws: as its script loads, once it is open, or later. */
const TIMES = ["load", "open", "later"] as const;

/** How often each error is thrown: its post and its event arrive in any order. */
const RUNS = 30;

/** Workers at the same time. */
const LANES = 4;

/** Opens a worker and returns the error that it ends with. */
async function failureOf(
  open: (typeof TRANSPORTS)[keyof typeof TRANSPORTS],
  when: (typeof TIMES)[number],
  what: string,
): Promise<PeerExitError> {
  const script = workerUrl("thread_throws");
  script.hash = `${when}-${what}`;
  const error = await assertRejects(async () => {
    const worker = await open(script);
    if (when === "later") worker.trySend("now");
    await worker.receive();
  });
  assertInstanceOf(error, PeerExitError);
  return error;
}

for (const [name, open] of Object.entries(TRANSPORTS)) {
  Deno.test({
    name: `${name}() rejects with the uncaught error of a worker`,
    permissions: READ,
    fn: () =>
      within((async () => {
        let run = 0;
        async function lane(): Promise<void> {
          while (run < RUNS) {
            const error = await failureOf(open, TIMES[run++ % 3]!, "error");
            assertMatch(
              error.message,
              /^The worker "thread_throws\.ts" ended without a goodbye: RangeError: Too many at "file:.*thread_throws\.ts\S*:17:11"$/,
            );
            const { cause, stderr } = error;
            assertInstanceOf(cause, RangeError);
            assertEquals(cause.message, "Too many");
            assertMatch(cause.stack!, /thread_throws\.ts\S*:17:11/);
            assertEquals(stderr, cause.stack);
            assertInstanceOf(cause.cause, TypeError);
            assertEquals(cause.cause.message, "No list");
          }
        }
        await Promise.all(Array.from({ length: LANES }, lane));
      })()),
  });

  const cases: [what: string, message: RegExp, cause?: string][] = [
    ["rejection", /: OrderError: No such order at ".*:20:20"$/, "OrderError"],
    ["second", /: RangeError: Too many at ".*:17:11"$/, "RangeError"],
    ["text", /: Uncaught (?:\(in promise\) )?"a text"$/],
    ["proxy", /: Uncaught (?:\(in promise\) )?Error: hidden$/],
    [
      "parse",
      /^(?!.*\\u\{a\}).*: Unexpected token `=`.* at "data:…:1:10"$/,
      "TypeError",
    ],
    ["syntax", /: SyntaxError: .* has already been .*:2:7$/, "SyntaxError"],
  ];
  for (const [what, message, className] of cases) {
    Deno.test({
      name: `${name}() rejects with a worker's uncaught "${what}"`,
      permissions: READ,
      fn: () =>
        within((async () => {
          for (const when of TIMES) {
            const error = await failureOf(open, when, what);
            assertMatch(error.message, message);
            const { cause } = error;
            const isSent = cause instanceof Error && cause.name === className;
            assert(className === undefined || isSent);
          }
        })()),
    });
  }

  Deno.test({
    name: `${name}() names the place of a syntax error`,
    permissions: READ,
    fn: () =>
      within((async () => {
        const script = "data:text/javascript,const a = 1;%0Aconst a = 2;";
        const error = await assertRejects(() => open(script), PeerExitError);
        assertMatch(error.message, /: .*SyntaxError: .*:2:7"?$/);
      })()),
  });
}

Deno.test("isFailurePost() accepts the texts of an error and nothing else", () => {
  const event = { error: new Error("a", { cause: new TypeError("b") }) };
  const post = failurePost(event as unknown as Event);
  assert(isFailurePost(post));
  assert(isFailurePost([post[0], null]));
  const note = post[1]!;
  for (
    const part of [
      1,
      {},
      undefined,
      { ...note, stack: 1 },
      { ...note, name: undefined },
      { ...note, cause: {} },
    ]
  ) {
    assert(!isFailurePost([post[0], part]));
  }
  let deep = note;
  for (let depth = 0; depth < 20; depth++) deep = { ...note, cause: deep };
  assert(!isFailurePost([post[0], deep]));
  // An error may be its own cause.
  event.error.cause = event.error;
  assert(isFailurePost(failurePost(event as unknown as Event)));
});

/** A program whose worker ends with an uncaught error, which Deno prints. */
const PRINTER = (module: string, name: string) => `
  import { ${name} } from ${JSON.stringify(module)};
  const script = ${JSON.stringify(workerUrl("thread_throws").href)};
  await ${name}(script + "#load-error", { permissions: "inherit" }).catch(() => {});
`;

Deno.test({
  name:
    "openQueue() and openShm() start workers with the names of their scripts",
  permissions: { ...READ, run: [Deno.execPath()] },
  async fn() {
    for (const [room, name] of [["queue", "openQueue"], ["shm", "openShm"]]) {
      const module = import.meta.resolve(`../../${room}.ts`);
      const source = encodeURIComponent(PRINTER(module, name!));
      const { stderr } = await new Deno.Command(Deno.execPath(), {
        args: [
          "run",
          "--no-config",
          "--no-prompt",
          "--allow-read",
          `data:text/javascript,${source}`,
        ],
        env: { NO_COLOR: "1" },
        stdin: "null",
        stdout: "null",
      }).output();
      assertMatch(
        new TextDecoder().decode(stderr),
        new RegExp(
          `^error: Uncaught \\(in worker "thread_throws\\.ts \\(@duplex/ipc ${room} [0-9a-f]{12}\\)"\\) `,
        ),
      );
    }
  },
});
