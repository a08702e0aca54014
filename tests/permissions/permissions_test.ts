// Copyright 2026 the Duplex authors. MIT license.

/**
 * What may be granted and what may not. Each test has exactly the permissions
 * that it needs.
 *
 * @module
 */

import {
  assertEquals,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { grant, type Permissions } from "../../permissions.ts";
import { openPipe } from "../../pipe.ts";
import { Processes, workerUrl } from "../workers/_processes.ts";

const EXEC = Deno.execPath();

function test(
  name: string,
  permissions: Deno.PermissionOptions,
  fn: (t: Deno.TestContext) => void | Promise<void>,
) {
  Deno.test({ name, permissions, fn });
}

/** The flags of a grant, without the one that is always present. */
function flagsOf(permissions: Permissions): string[] {
  const [noPrompt, ...flags] = grant(permissions).flags;
  assertEquals(noPrompt, "--no-prompt");
  return flags;
}

/** Permissions as written by a caller without types. */
function untyped(permissions: unknown): Permissions {
  return permissions as Permissions;
}

test("grant() grants nothing by default", "none", () => {
  const nothing = { flags: ["--no-prompt"], worker: "none" as const };
  assertEquals(grant(), nothing);
  assertEquals(grant("none"), nothing);
  assertEquals(grant({}), nothing);
  assertEquals(grant({ read: false, net: [], env: [] }), nothing);
  assertEquals(grant({ read: "inherit" }), nothing);
});

test("grant() grants everything that the caller has", {
  read: true,
  net: true,
  env: false,
}, () => {
  assertEquals(grant("inherit"), {
    flags: ["--no-prompt", "--allow-net", "--allow-read"],
    worker: { net: true, read: true },
  });
  assertEquals(flagsOf({ read: "inherit", env: "inherit" }), ["--allow-read"]);
});

test("grant() grants every kind", "inherit", () => {
  const kinds = ["env", "ffi", "import", "net", "read", "run", "sys", "write"];
  assertEquals(flagsOf("inherit"), kinds.map((kind) => `--allow-${kind}`));
  const all = Object.fromEntries(kinds.map((kind) => [kind, true]));
  assertEquals(flagsOf(all), kinds.map((kind) => `--allow-${kind}`));
  assertEquals(grant(all).worker, all);
});

test("grant() grants the named parts", {
  env: ["HOME"],
  net: ["example.com:80"],
  read: ["/data"],
  run: ["/bin/ls"],
  sys: ["hostname"],
}, () => {
  const permissions = {
    env: ["HOME"],
    net: ["example.com:80"],
    read: ["/data/a", "/data/b c"],
    run: ["/bin/ls"],
    sys: ["hostname"],
  } as const;
  assertEquals(flagsOf(untyped(permissions)), [
    "--allow-env=HOME",
    "--allow-net=example.com:80",
    "--allow-read=/data/a,/data/b c",
    "--allow-run=/bin/ls",
    "--allow-sys=hostname",
  ]);
  assertEquals(grant(untyped(permissions)).worker, untyped(permissions));
});

test("grant() makes relative paths absolute", "inherit", () => {
  const cwd = Deno.cwd();
  assertEquals(
    flagsOf({ read: ["data", "./a/../b"], write: ["/data"], ffi: ["x.so"] }),
    [
      `--allow-read=${cwd}/data,${cwd}/./a/../b`,
      "--allow-write=/data",
      `--allow-ffi=${cwd}/x.so`,
    ],
  );
  // A command without a slash is looked up in PATH, wherever that is.
  assertEquals(flagsOf({ run: ["ls", "./tool", "bin/tool"] }), [
    `--allow-run=ls,${cwd}/./tool,${cwd}/bin/tool`,
  ]);
});

test("grant() accepts URLs of files", "inherit", () => {
  const flags = flagsOf({
    read: [new URL("file:///data/a%20b")],
    run: [new URL("file:///bin/ls")],
  });
  assertEquals(flags, ["--allow-read=/data/a b", "--allow-run=/bin/ls"]);
});

test("grant() rejects permissions that the caller does not have", {
  env: ["HOME"],
  net: ["example.com:80"],
  read: ["/data"],
  run: [EXEC],
}, async (t) => {
  const cases: [string, Permissions][] = [
    ['all of "read"', { read: true }],
    ['"read" of "/etc"', { read: ["/etc"] }],
    ['"read" of "/etc"', { read: ["/data/a", "/etc"] }],
    ['"read" of "/data/../etc"', { read: ["/data/../etc"] }],
    ['"read" of "/"', { read: ["/"] }],
    ['"write" of "/data"', { write: ["/data"] }],
    ['all of "net"', { net: true }],
    ['"net" of "example.com"', { net: ["example.com"] }],
    ['"net" of "example.com:81"', { net: ["example.com:81"] }],
    ['all of "env"', { env: true }],
    ['"env" of "PATH"', { env: ["PATH"] }],
    ['"env" of "H*"', { env: ["H*"] }],
    ['all of "run"', { run: true }],
    ['"run" of "ls"', { run: ["ls"] }],
    ['all of "sys"', { sys: true }],
    ['all of "ffi"', { ffi: true }],
    ['all of "import"', { import: true }],
  ];
  for (const [text, permissions] of cases) {
    await t.step(`${text} in ${JSON.stringify(permissions)}`, () => {
      const error = assertThrows(
        () => grant(permissions),
        Deno.errors.NotCapable,
      );
      assertStringIncludes(error.message, `Cannot grant ${text}`);
    });
  }
});

test("grant() rejects invalid permissions", "inherit", async (t) => {
  const cases: [string, unknown][] = [
    ['"disk" is not a kind of permission', { disk: true }],
    ['"all" is not a kind of permission', { all: true }],
    ['"constructor" is not a kind of permission', { constructor: true }],
    ['"none", "inherit" or an object: current value is "all"', "all"],
    ["or an object: current value is true", true],
    ["or an object: current value is null", null],
    [
      '"read" must be true, false, "inherit" or an array: current value is "x"',
      {
        read: "x",
      },
    ],
    ["or an array: current value is an object", { read: { 0: "x" } }],
    ["or an array: current value is an object", {
      read: { toJSON: () => "\u001b[2J" },
    }],
    ['"read" must be a string without a comma: current value is "/a,/b"', {
      read: ["/a,/b"],
    }],
    ['"net" must be a string without a comma: current value is "a,b"', {
      net: ["a,b"],
    }],
    ['"env" must be a string without a comma: current value is ""', {
      env: [""],
    }],
    ['"read" must be a string without a comma: current value is ""', {
      read: [""],
    }],
    ['"run" must be a string without a comma: current value is 5', {
      run: [5],
    }],
    ['current value is "/a,b"', { read: [new URL("file:///a%2Cb")] }],
    ['"run" must be a string without a comma: current value is "a\\u0000b"', {
      run: ["a\0b"],
    }],
    [
      '"net" must be a string without a comma: current value is an instance of URL',
      {
        net: [new URL("http://example.com")],
      },
    ],
  ];
  for (const [text, permissions] of cases) {
    await t.step(text, () => {
      const error = assertThrows(() => grant(untyped(permissions)), TypeError);
      assertStringIncludes(error.message, "Cannot grant permissions: ");
      assertStringIncludes(error.message, text);
    });
  }
});

test("grant() rejects invalid hosts", "inherit", async (t) => {
  const cases: [item: string, hint: string][] = [
    ["::1", '; write "[::1]"'],
    ["[::1", ""],
    ["[1.2.3.4]", ""],
    ["fc00::/7", ""],
    ["10.0.0.0/33", ""],
    ["http://example.com/a", "; leave the scheme and the path out"],
    ["b\u00fccher.example", '; write "xn--bcher-kva.example"'],
    ["*", ""],
    ["a.*", ""],
    ["a..b", ""],
    ["a:65536", ""],
    ["a:", ""],
    ["a:b", ""],
    ["a b", ""],
  ];
  for (const kind of ["net", "import"]) {
    for (const [item, hint] of cases) {
      await t.step(`${kind} of ${JSON.stringify(item)}`, () => {
        const error = assertThrows(
          () => grant(untyped({ [kind]: [item] })),
          TypeError,
        );
        const text = `an item of "${kind}" must be a host, as "example.com"`;
        assertStringIncludes(error.message, text);
        const end = `current value is ${JSON.stringify(item)}${hint}`;
        assertEquals(error.message.slice(-end.length), end);
      });
    }
  }
  const sockets = ["unix:", "unix:a", "vsock:1", "vsock:a:1", "vsock:1:2:3"];
  for (const item of sockets) {
    await t.step(item, () => {
      const error = assertThrows(() => grant({ net: [item] }), TypeError);
      assertStringIncludes(error.message, `current value is "${item}"`);
    });
  }
});

test("grant() rejects URLs that are not paths", "inherit", () => {
  for (const href of ["https://x/y", "data:a", "x:../../etc", "file:///%FF"]) {
    const error = assertThrows(
      () => grant({ read: [new URL(href)] }),
      TypeError,
    );
    assertStringIncludes(error.message, `Cannot use the URL "${href}"`);
  }
});

test("grant() omits the hosts from which Deno allows imports", {
  import: ["jsr.io:443"],
}, () => {
  const nothing = ["--allow-import=jsr.io:443", "--deny-import=jsr.io:443"];
  assertEquals(flagsOf({ import: false }), nothing);
  assertEquals(flagsOf({ import: [] }), nothing);
  assertEquals(grant({ import: false }).worker, "none");
  assertEquals(flagsOf({ import: ["jsr.io:443"] }), nothing.slice(0, 1));
});

/** The output of a program with these flags about what it may grant. */
async function grantIn(
  flags: string[],
  permissions: Permissions,
): Promise<string> {
  const { stdout } = await new Deno.Command(EXEC, {
    args: [
      ...["run", "--quiet", "--no-prompt", ...flags],
      workerUrl("granter").pathname,
      JSON.stringify(permissions),
    ],
  }).output();
  return new TextDecoder().decode(stdout).trim();
}

test(
  "grant() does not grant what is denied to the caller",
  { run: [EXEC] },
  async (t) => {
    const refused = "NotCapable";
    const cases: [string[], Permissions, string][] = [
      [["--allow-read", "--deny-read=/etc"], "inherit", refused],
      [["--allow-read", "--deny-read=/etc"], { read: "inherit" }, refused],
      [["--allow-read", "--deny-read=/etc"], { read: true }, refused],
      [["--allow-read", "--deny-read=/etc"], { read: ["/"] }, refused],
      [["--allow-read", "--deny-read=/etc"], { read: ["/etc/x"] }, refused],
      [
        ["--allow-read", "--deny-read=/etc"],
        { read: ["/data"] },
        "--no-prompt --allow-read=/data",
      ],
      // Deno does not report that a part is granted, so it is not passed on.
      [["--allow-read=/data"], "inherit", "--no-prompt"],
      [["--allow-env", "--deny-env=KEY"], { env: ["KEY"] }, refused],
      [["--allow-env", "--deny-env=KEY"], { env: ["K*"] }, refused],
      [["--allow-env=K*", "--deny-env=KEY"], { env: ["K*"] }, refused],
      [["--allow-env"], { env: ["K*"] }, "--no-prompt --allow-env=K*"],
      [["--allow-net", "--deny-net=a.b:80"], { net: ["a.b"] }, refused],
      [
        ["--allow-net", "--deny-net=10.0.0.1"],
        { net: ["10.0.0.0/8"] },
        refused,
      ],
      [
        ["--allow-net", "--deny-net=a.b:80"],
        { net: ["a.b:81"] },
        refused,
      ],
      [
        ["--allow-net", "--deny-net=a.b:80"],
        { net: ["10.0.0.1:81"] },
        "--no-prompt --allow-net=10.0.0.1:81",
      ],
      [["--allow-net=a.b"], { net: ["a.b"] }, "--no-prompt --allow-net=a.b"],
      [["--allow-run", "--deny-run=ls"], { run: ["/bin/ls"] }, refused],
    ];
    for (const [flags, permissions, expected] of cases) {
      const name = `${flags.join(" ")}, ${JSON.stringify(permissions)}`;
      await t.step(name, async () => {
        assertEquals(await grantIn(flags, permissions), expected);
      });
    }
  },
);

/** Whether opening a worker with these permissions is rejected early. */
async function assertRefused(permissions: Permissions) {
  using processes = new Processes();
  await assertRejects(
    () => openPipe(workerUrl("acts"), { args: ["echo"], permissions }),
    Deno.errors.NotCapable,
  );
  assertEquals(processes.started, 0);
}

test("openPipe() starts no process if a grant is rejected", {
  run: [EXEC],
  read: ["/data"],
}, async () => {
  await assertRefused({ read: ["/etc"] });
  await assertRefused({ read: true });
  await assertRefused({ net: true });
  await assertRefused({ run: true });
});

test("openPipe() starts no process if Deno may not be run", {
  run: ["ls"],
  read: true,
}, async () => {
  await assertRefused("none");
  await assertRefused({ read: true });
});

test("openPipe() gives a worker exactly the granted permissions", {
  run: [EXEC],
  read: ["/data"],
}, async () => {
  await using worker = await openPipe(workerUrl("acts"), {
    args: ["held", "read", "/data", "/data/a", "/data/../etc", "/"],
    permissions: { read: ["/data/a"] },
  });
  assertEquals(
    await worker.receive(),
    ["prompt", "granted", "prompt", "prompt"],
  );
});
