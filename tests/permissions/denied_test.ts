// Copyright 2026 the Duplex authors. MIT license.

/**
 * Denied permissions that have other names: a denied address under another
 * name, a path that the child resolves in another folder, a command in another
 * `PATH`, and the hosts from which Deno allows imports by default.
 *
 * @module
 */

import {
  denied,
  type Grant,
  lacks,
  only,
  partly,
  type Row,
  runRows,
  unknown,
  World,
} from "./_permission_rows.ts";

const DENO = Deno.execPath();

/** Other spellings of 127.0.0.1 that this system resolves. */
const NUMERIC = ["127.1", "2130706433", "0x7f.1", "0177.0.0.1"];

/** The error for a name that may resolve to a denied address. */
function alias(item: string, address: string): RegExp {
  const text =
    `Cannot grant "net" of "${item}": this program is denied "${address}" (--deny-net), and the name may stand for that address`;
  return new RegExp(`^NotCapable: ${RegExp.escape(text)}`);
}

/** A program that may connect anywhere, and what it may grant. */
function anywhereRow({ dir, port }: World): Row {
  const names = ["localhost", "LOCALHOST.", ...NUMERIC];
  return {
    name: "anywhere",
    flags: ["--allow-net", "--allow-env"],
    acts: [
      `net 127.0.0.1:${port}`,
      `net [::ffff:127.0.0.1]:${port}`,
      ...["localhost", ...NUMERIC].map((name) => `net ${name}:${port}`),
      "says net 10.1.2.3:80",
      "says net a.example.com:443",
      "says net vsock:1:5",
      `says net unix:${dir}/x`,
    ],
    own: only(11, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
    grants: [
      ...names.map((name, index) => ({
        grant: { net: [`${name}:${port}`] },
        pipe: only(11, index < 2 ? 2 : index + 1),
      })),
      { grant: { net: ["[::ffff:127.0.0.1]"] }, pipe: only(11, 0, 1) },
      { grant: { net: [`:${port}`] }, pipe: only(11, 0, 1, 2) },
      { grant: { net: [`127.0.0.0/8:${port}`] }, pipe: only(11, 0, 1) },
      {
        grant: { net: ["10.1.0.0/16", "*.example.com"] },
        pipe: only(11, 7, 8),
      },
      {
        grant: { net: [`unix:${dir}/../x`, "vsock:1:5", `unix:${dir}/x`] },
        pipe: only(11, 9, 10),
      },
    ],
  };
}

/** A program that may connect anywhere but to one address. */
function nearlyAnywhereRow({ port }: World): Row {
  const names = ["localhost", "LOCALHOST.", "example.com", ...NUMERIC];
  return {
    name: "anywhere but to an address",
    flags: ["--allow-net", `--deny-net=127.0.0.1:${port}`],
    acts: [
      `net 127.0.0.1:${port}`,
      `net [::ffff:127.0.0.1]:${port}`,
      ...["localhost", ...NUMERIC].map((name) => `net ${name}:${port}`),
      `net 0.0.0.0:${port}`,
      "says net 10.1.2.3:80",
      "says net unix:/x",
    ],
    own: only(10, 7, 8, 9),
    grants: [
      ...names.flatMap((name): Grant[] => [
        {
          grant: { net: [`${name}:${port}`] },
          pipe: partly(`"net" of "${name}:${port}"`, "--deny-net"),
          thread: only(10),
        },
        {
          grant: { net: [name] },
          pipe: partly(`"net" of "${name}"`, "--deny-net"),
          thread: null,
        },
      ]),
      ...[`127.0.0.1:${port}`, `[::ffff:127.0.0.1]:${port}`].map((item) => ({
        grant: { net: [item] },
        pipe: denied(`"net" of "${item}"`, "--deny-net"),
      })),
      {
        grant: { net: [`:${port}`] },
        pipe: denied(`"net" of "127.0.0.1:${port}"`, "--deny-net"),
        thread: null,
      },
      {
        grant: { net: ["127.0.0.1"] },
        pipe: partly('"net" of "127.0.0.1"', "--deny-net"),
        thread: only(10),
      },
      ...["127.0.0.0/8", "10.0.0.0/8:80", "*.example.com"].map((item) => ({
        grant: { net: [item] },
        pipe: unknown(`"net" of "${item}"`),
      })),
      { grant: { net: ["10.1.2.3:80", "unix:/x"] }, pipe: only(10, 8, 9) },
      { grant: { net: [`0.0.0.0:${port}`] }, pipe: only(10, 7) },
    ],
  };
}

/**
 * Programs with a list of hosts, some of which are denied without an indication
 * by Deno.
 */
function deniedListRows({ port }: World): Row[] {
  const names = ["localhost", ...NUMERIC];
  const acts = [
    ...names.map((name) => `net ${name}:${port}`),
    `net 127.0.0.1:${port}`,
    "says net 10.1.2.3:80",
    "says net 10.9.9.9:80",
  ];
  const listed = names.map((name) => `${name}:${port}`);
  const list = [...listed, `127.0.0.1:${port}`, "10.1.2.3", "example.com:443"];
  return [`127.0.0.1:${port}`, "127.0.0.1", "127.0.0.0/8"].map((
    item,
    index,
  ) => ({
    name: `a list, and ${item} is denied`,
    flags: [`--allow-net=${list}`, `--deny-net=${item},10.0.0.0/8`],
    acts,
    // Deno reports that 10.1.2.3 is allowed, but rejects the connection to it.
    own: only(8, 6),
    grants: [
      ...listed.map((name) => ({
        grant: { net: [name] },
        pipe: alias(name, index === 0 ? `127.0.0.1:${port}` : "127.0.0.1"),
        thread: only(8),
      })),
      {
        grant: { net: [`127.0.0.1:${port}`] },
        pipe: index === 0
          ? denied(`"net" of "127.0.0.1:${port}"`, "--deny-net")
          : /this program is denied "127\.0\.0\.1" \(--deny-net\), which may be/,
        thread: index === 0
          ? denied(`"net" of "127.0.0.1:${port}"`, "--deny-net")
          : only(8),
      },
      {
        grant: { net: ["10.1.2.3:80"] },
        pipe:
          /this program is denied "10\.1\.2\.2" \(--deny-net\), which may be/,
        thread: null,
      },
      {
        grant: { net: ["10.9.9.9:80"] },
        pipe: denied('"net" of "10.9.9.9:80"', "--deny-net"),
        thread: null,
      },
      {
        grant: { net: ["example.com:443"] },
        pipe: alias("example.com:443", index === 0 ? "10.0.0.1" : "127.0.0.1"),
        thread: only(8),
      },
    ],
  }));
}

/**
 * Paths that only Windows considers absolute, and a child in another folder.
 */
function folderRow({ dir }: World): Row {
  return {
    name: "a child in another folder",
    flags: [`--allow-read=${dir}/in,${dir}/c:`, `--allow-write=${dir}/in`],
    cwd: `${dir}/in`,
    acts: [
      `read ${dir}/in/file`,
      `read ${dir}/out/file`,
      `write ${dir}/out/new`,
    ],
    own: only(3, 0),
    grants: [
      ["file", 0],
      ["./deep/../file", 0],
      ["c:/../file", 0],
      ["c:\\/../file", 0],
      ["\\/../file", 0],
      ["c:/..", 0],
      ["\\/..", 0],
    ].map(([path, ...yes]) => ({
      grant: { read: [path as string] },
      cwd: `${dir}/out`,
      pipe: only(3, ...yes as number[]),
      thread: null,
    })),
  };
}

/** Commands that a child finds in another folder than its parent. */
function commandRows({ dir }: World): Row[] {
  const acts = [`run ${dir}/in/tool`, `run ${dir}/out/bin/tool`];
  const path = Deno.env.get("PATH")!;
  const flags = [`--allow-run=${DENO},tool`];
  const cwd = `${dir}/in`;
  const away = { cwd: `${dir}/out`, thread: null };
  const paths = [
    { grant: { run: [`${dir}/in/tool`] }, ...away, pipe: only(2, 0) },
    { grant: { run: ["./tool"] }, ...away, pipe: only(2, 0) },
    { grant: { run: ["tool"] }, pipe: only(2, 0) },
    {
      grant: { run: ["true"] },
      ...away,
      pipe: lacks('"run" of "true"', "--allow-run=true"),
    },
  ];
  return [
    {
      name: "a command, and PATH has a relative folder",
      flags,
      env: { PATH: `bin:${dir}/in:${path}` },
      cwd,
      acts,
      own: only(2, 0),
      grants: [
        ...paths.slice(0, 3),
        {
          grant: { run: ["tool"] },
          ...away,
          pipe:
            /^NotCapable: .*"cwd" may change where "tool" would be looked for/,
        },
      ],
    },
    {
      name: "a command, and PATH has a relative folder and may be read",
      flags: [...flags, "--allow-env=PATH"],
      env: { PATH: `bin:${dir}/in:${path}` },
      cwd,
      acts,
      own: only(2, 0),
      grants: [
        ...paths.slice(0, 3),
        {
          grant: { run: ["tool"] },
          ...away,
          pipe:
            /^TypeError: .*"cwd" changes where "tool" would be looked for, by "bin" in PATH/,
        },
      ],
    },
    {
      name: "a command, and PATH has folders from the root",
      flags: [...flags, "--allow-env=PATH"],
      env: { PATH: `${dir}/in:${path}` },
      cwd,
      acts,
      own: only(2, 0),
      grants: [
        ...paths,
        { grant: { run: ["tool"] }, ...away, pipe: only(2, 0) },
        {
          grant: { run: ["tool"] },
          ...away,
          env: { PATH: `${dir}/out` },
          pipe: /^TypeError: .*"env" changes the PATH in which "tool"/,
        },
      ],
    },
    {
      name: "a command in a common folder, and PATH may not be read",
      flags: [`--allow-run=${DENO},true`],
      acts: ["run true", ...acts],
      own: only(3, 0),
      grants: [{ grant: { run: ["true"] }, ...away, pipe: only(3, 0) }],
    },
  ];
}

/** The hosts from which Deno allows imports by default. */
function importRows({ modulePort }: World): Row[] {
  const acts = [
    "says import jsr.io:443",
    "says import esm.sh:443",
    `import http://127.0.0.1:${modulePort}/a.ts`,
  ];
  const url = `http://127.0.0.1:${modulePort}/`;
  const script = `${url}worker.ts`;
  const none = { grant: { import: false }, pipe: only(3) };
  const registry = {
    grant: "none",
    env: { JSR_URL: url },
    thread: null,
  } as const;
  return [
    {
      name: "what is imported by default",
      flags: [],
      acts,
      own: only(3, 0, 1),
      grants: [
        none,
        { grant: { import: [] }, pipe: only(3) },
        { grant: "none", pipe: only(3, 0, 1), thread: only(3) },
        { grant: "inherit", pipe: only(3, 0, 1), thread: null },
        { grant: { import: ["esm.sh:443"] }, pipe: only(3, 1) },
        { ...registry, pipe: only(3, 0, 1) },
        {
          grant: "none",
          script,
          pipe:
            /^NotCapable: .*may not import from there; run it again with --allow-import=127/,
          thread: null,
        },
      ],
    },
    {
      name: "what is imported by default, but for a host",
      flags: ["--deny-import=jsr.io:443"],
      acts,
      own: only(3, 1),
      grants: [
        { grant: "none", pipe: only(3, 1), thread: null },
        { grant: { read: [] }, pipe: only(3, 1), thread: null },
        none,
      ],
    },
    {
      name: "a list of hosts to import from",
      flags: [`--allow-import=127.0.0.1:${modulePort}`],
      acts,
      own: only(3, 2),
      grants: [
        { grant: "none", pipe: only(3) },
        { ...registry, pipe: only(3, 2) },
        // The module is not a worker, but it is loaded.
        { grant: "none", script, pipe: /^PeerExitError/, thread: null },
        { grant: { import: [`127.0.0.1:${modulePort}`] }, pipe: only(3, 2) },
      ],
    },
  ];
}

/**
 * Denials without an explicit flag: by `--ignore-…`, and writing to programs.
 */
function hiddenRows({ dir }: World): Row[] {
  const inside = `${dir}/in`;
  return [
    {
      name: "a part is ignored",
      flags: [
        "--allow-read",
        `--ignore-read=${inside}/deep`,
        "--allow-env",
        "--ignore-env=DUPLEX_A",
      ],
      acts: [
        `read ${inside}/deep/er/file`,
        `read ${inside}/file`,
        "env DUPLEX_A",
        "env DUPLEX_B_1",
      ],
      own: only(4, 1, 3),
      grants: [
        {
          grant: { read: true },
          pipe: partly('all of "read"', "--deny-read or --ignore-read"),
          thread: only(4, 1),
        },
        {
          grant: { env: true },
          pipe: partly('all of "env"', "--deny-env or --ignore-env"),
          thread: only(4, 3),
        },
        {
          grant: { read: [inside] },
          pipe: partly(`"read" of "${inside}"`, "--deny-read or --ignore-read"),
        },
        {
          grant: { env: ["DUPLEX_A"] },
          pipe: denied('"env" of "DUPLEX_A"', "--deny-env or --ignore-env"),
        },
        {
          grant: { read: [`${inside}/file`], env: ["DUPLEX_B_1"] },
          pipe: only(4, 1, 3),
        },
      ],
    },
    {
      name: "a program that may be run is not written",
      flags: ["--allow-write", `--allow-run=${DENO},${inside}/tool`],
      acts: [`write ${inside}/tool`, `write ${dir}/out/new`],
      own: only(2, 1),
      grants: [
        {
          grant: { write: true },
          pipe: partly('all of "write"', "--deny-write, or --allow-run"),
          thread: only(2, 1),
        },
        {
          grant: "inherit",
          pipe:
            /^NotCapable: Cannot pass on "write" by "inherit": a part of it/,
          thread: only(2, 1),
        },
        {
          grant: { write: [inside] },
          pipe: partly(
            `"write" of "${inside}"`,
            "--deny-write, or --allow-run",
          ),
        },
        { grant: { write: [`${dir}/out`] }, pipe: only(2, 1) },
        { grant: { run: [`${inside}/tool`] }, pipe: only(2) },
      ],
    },
  ];
}

function test(name: string, rowsOf: (world: World) => Row[]): void {
  Deno.test({
    name,
    ignore: Deno.build.os === "windows",
    async fn(t) {
      await using world = new World();
      await runRows(t, rowsOf(world));
    },
  });
}

test("openPipe() does not grant a name of a denied address", (world) => [
  anywhereRow(world),
  nearlyAnywhereRow(world),
  ...deniedListRows(world),
]);

test("openPipe() resolves paths and commands as the caller does", (world) => [
  folderRow(world),
  ...commandRows(world),
]);

test(
  "openPipe() restricts a worker's imports to the caller's hosts",
  importRows,
);

test("openPipe() does not grant items that are denied silently", hiddenRows);
