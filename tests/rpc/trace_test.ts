// Copyright 2026 the Duplex authors. MIT license.

/**
 * Spans of calls, as a program and its workers send them to a collector, and the
 * contexts of functions among arguments.
 *
 * @module
 */

import { AsyncLocalStorage } from "node:async_hooks";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { duplexPair } from "../../pair.ts";
import { Pool } from "../../pool.ts";
import { expose, remote } from "../../rpc.ts";
import { ReactionContext } from "../../_rpc/context.ts";
import { within, workerUrl } from "../workers/_processes.ts";

interface Span {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId: string;
  readonly name: string;
  readonly kind: number;
  readonly startTimeUnixNano: string;
  readonly status: { readonly code: number; readonly message: string };
  readonly attributes: Attribute[];
  /** The name of the service. */
  service: string;
}

interface Attribute {
  readonly key: string;
  readonly value: { readonly stringValue?: string };
}

/** What a collector receives: https://opentelemetry.io/docs/specs/otlp/#otlphttp */
interface Traces {
  readonly resourceSpans?: {
    readonly resource: { readonly attributes: Attribute[] };
    readonly scopeSpans: { readonly spans: Span[] }[];
  }[];
}

function attribute(attributes: Attribute[], key: string): string | undefined {
  return attributes.find((one) => one.key === key)?.value.stringValue;
}

/** Runs a program and its workers, and collects their spans. */
async function collect(program: URL): Promise<Span[]> {
  const all: Span[] = [];
  const server = Deno.serve(
    { port: 0, hostname: "127.0.0.1", onListen() {} },
    async (request) => {
      const { resourceSpans = [] }: Traces = await request.json();
      for (const { resource, scopeSpans } of resourceSpans) {
        const service = attribute(resource.attributes, "service.name")!;
        for (const { spans } of scopeSpans) {
          all.push(...spans.map((span) => ({ ...span, service })));
        }
      }
      return Response.json({});
    },
  );
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-all", "--unstable-worker-options", program.href],
    env: {
      OTEL_DENO: "true",
      OTEL_SERVICE_NAME: "main",
      OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${server.addr.port}`,
      NO_COLOR: "1",
    },
  }).output();
  await server.shutdown();
  assert(success, new TextDecoder().decode(stderr));
  return all;
}

const KINDS = ["", "internal", "server", "client"];

/** The spans below one, each on a line behind its parent. */
function tree(spans: Span[], root: Span, depth = 0): string[] {
  const lines = spans
    .filter((span) => span.parentSpanId === root.spanId)
    .toSorted((a, b) => a.startTimeUnixNano < b.startTimeUnixNano ? -1 : 1)
    .flatMap((span) => {
      assertEquals(span.traceId, root.traceId);
      const error = attribute(span.attributes, "error.type");
      const failed = span.status.code === 2
        ? ` failed with ${error}: ${span.status.message}`
        : "";
      const kind = KINDS[span.kind];
      if (kind !== "internal") {
        assertEquals(attribute(span.attributes, "rpc.method"), span.name);
        assertEquals(
          attribute(span.attributes, "rpc.system.name"),
          "@duplex/ipc",
        );
      }
      const line = `${"  ".repeat(depth)}${span.service} ${kind} ${span.name}`;
      return [line + failed, ...tree(spans, span, depth + 1)];
    });
  return lines;
}

/** The spans of a call to a worker. */
function call(service: string, name: string, inside: string[] = []): string[] {
  return [
    `main client ${name}`,
    `  ${service} server ${name}`,
    ...inside.map((line) => `    ${line}`),
  ];
}

function failed(lines: string[]): string[] {
  return lines.map((line) => `${line} failed with RangeError: It fails`);
}

function callback(service: string, scenario: string): string[] {
  return call(service, "back", [
    `${service} client callback`,
    "  main server callback",
    `    main internal callback in ${scenario}`,
  ]);
}

Deno.test("remote(), notifier() and Pool make spans of calls over processes and threads", async () => {
  const spans = await within(collect(workerUrl("traced_main")));
  const expected: Record<string, string[]> = {};
  for (const [name, service] of [["pipe", "worker"], ["shm", "main"]]) {
    const inside = (name: string) => `${service} internal ${name}`;
    expected[`${name} calls`] = [
      ...call(service!, "add", [inside("inside")]),
      ...call(service!, "later", [inside("later inside")]),
      ...call(service!, "signalled"),
      ...failed(call(service!, "fail")),
    ];
    expected[`${name} stream`] = call(service!, "count", [
      inside("value 0"),
      inside("value 1"),
    ]);
    expected[`${name} callback`] = callback(service!, `${name} callback`);
    expected[`${name} notification`] = [
      ...call(service!, "note"),
      ...call(service!, "signalled"),
    ];
  }
  expected["pool run"] = [
    ...call("worker", "add", ["worker internal inside"]),
    ...failed(call("worker", "fail")),
  ];
  expected["pool callback"] = [
    "main client back",
    ...callback("worker", "pool callback").map((line) => `  ${line}`),
  ];
  expected["pool map"] = [
    ...call("worker", "signalled"),
    "  worker server signalled",
  ];
  for (const [name, lines] of Object.entries(expected)) {
    const root = spans.find((span) => span.name === name);
    assert(root !== undefined, `There is no span "${name}"`);
    assertEquals(tree(spans, root), lines, name);
  }
});

type Step = (n: number) => Promise<unknown>;

/** Methods that call back. */
const steps = {
  twice: async (step: Step) => [await step(1), await step(2)],
  option: async ({ step }: { step: Step }) => await step(1),
  deep: async (list: { step: Step }[]) => await list[0]!.step(1),
  fails: async (step: Step) => await step(1),
  async together(step: Step) {
    return await Promise.all([step(1), step(2), step(3)]);
  },
};

const storage = new AsyncLocalStorage<string>();

/** What a callback sees: its argument, and the context before and after it waits. */
async function seen(n: number): Promise<unknown[]> {
  const before = storage.getStore();
  await undefined;
  return [n, before, storage.getStore()];
}

Deno.test("remote() calls back in the contexts of the calls", async () => {
  const [main, worker] = duplexPair();
  // The endpoints are made in another context.
  const api = storage.run("other", () => {
    expose(steps, worker);
    return remote<typeof steps>(main);
  });
  const results = await Promise.all(
    ["a", "b", "c"].map((name) =>
      storage.run(name, async () => [
        await api.twice((n) => seen(n)),
        await api.option({ step: (n) => seen(n) }),
        await api.deep([{ step: (n) => seen(n) }]),
        await api.together((n) => seen(n)),
      ])
    ),
  );
  assertEquals(
    results,
    ["a", "b", "c"].map((name) => {
      const [one, two, three] = [1, 2, 3].map((n) => [n, name, name]);
      return [[one, two], one, one, [one, two, three]];
    }),
  );
  await storage.run("d", async () => {
    await assertRejects(
      () =>
        api.fails(() => {
          throw new RangeError(storage.getStore());
        }),
      RangeError,
      "d",
    );
  });
  // Functions that are found late, in calls that waited for room.
  const [near, far] = duplexPair({ windowMessages: 1 });
  expose(steps, far);
  const slow = remote<typeof steps>(near);
  const late = await Promise.all(
    ["g", "h", "i", "j"].map((name) =>
      storage.run(name, () => slow.deep([{ step: (n) => seen(n) }]))
    ),
  );
  assertEquals(late, ["g", "h", "i", "j"].map((name) => [1, name, name]));
  await near.close();
  // One function that is sent in several calls runs in the context of the last.
  const step: Step = (n) => seen(n);
  for (const name of ["e", "f"]) {
    const [first] = await storage.run(name, () => api.twice(step));
    assertEquals(first, [1, name, name]);
  }
  await main.close();
});

Deno.test("ReactionContext.run() runs jobs in its context, in their order", async () => {
  const seen: unknown[] = [];
  const contexts = ["a", "b"].map((name) =>
    storage.run(name, () => new ReactionContext())
  );
  for (const round of [1, 2]) {
    const done = Promise.withResolvers<void>();
    storage.run("other", () => {
      for (const context of contexts) {
        for (const job of [1, 2]) {
          context.run(() => seen.push([storage.getStore(), round, job]));
        }
      }
      contexts[1]!.run(() => done.resolve());
    });
    assertEquals(seen.splice(0), []);
    await done.promise;
    assertEquals(
      seen.splice(0),
      ["a", "b"].flatMap((name) => [[name, round, 1], [name, round, 2]]),
    );
  }
});

Deno.test("Pool calls back in the contexts of run() and of maps", async () => {
  await using pool = new Pool<typeof steps>(() => {
    const [main, worker] = duplexPair();
    expose(steps, worker);
    return Promise.resolve(main);
  }, { workers: 1 });
  const names = ["a", "b", "c"];
  const results = await Promise.all(
    names.map((name) =>
      storage.run(name, async () => [
        await pool.run("option", [{ step: (n) => seen(n) }]),
        await pool.run("deep", [[{ step: (n) => seen(n) }]]),
        ...await Array.fromAsync(pool.map([{ step: seen }], "option")),
      ])
    ),
  );
  assertEquals(
    results,
    names.map((name) => Array(3).fill([1, name, name])),
  );
});

Deno.test("expose() keeps the contexts of methods", async () => {
  const [main, worker] = duplexPair();
  const methods = {
    keep: (name: string) =>
      storage.run(name, async () => {
        await api.tick();
        return storage.getStore();
      }),
  };
  expose(methods, worker);
  expose({ tick: () => {} }, main);
  const api = remote<{ tick(): void }>(worker);
  const remoteApi = remote<typeof methods>(main);
  assertEquals(
    await Promise.all(["a", "b"].map((name) => remoteApi.keep(name))),
    ["a", "b"],
  );
  await main.close();
});
