// Copyright 2026 the Duplex authors. MIT license.

/**
 * Every kind and form of permission, granted by programs that have it in every
 * form, and tested with real operations. A worker never has a permission that
 * its parent does not have.
 *
 * @module
 */

import type { Permissions } from "../../permissions.ts";
import {
  denied,
  type Grant,
  lacks,
  only,
  partly,
  ROOT,
  type Row,
  runRows,
  unknown,
  World,
} from "./_permission_rows.ts";

const DENO = Deno.execPath();

/** An operation of every kind. */
function actsOf({ dir, port, modulePort }: World): string[] {
  return [
    `read ${dir}/in/file`,
    `write ${dir}/in/new`,
    `net 127.0.0.1:${port}`,
    "env DUPLEX_A",
    `run ${dir}/in/tool`,
    "sys hostname",
    `ffi ${dir}/in/file`,
    `import http://127.0.0.1:${modulePort}/a.ts`,
    `unix ${dir}/socket`,
  ];
}

/** A program with all permissions. */
function wholeRow(world: World): Row {
  const { dir, port, modulePort } = world;
  const kinds = "read write net env run sys ffi import".split(" ");
  const single = kinds.map((kind, index) => ({
    grant: { [kind]: true },
    pipe: only(9, index),
  }));
  const items = {
    read: [`${dir}/in/file`, "socket"],
    write: ["./in/../in/new", `${dir}/socket`],
    net: [`127.0.0.1:${port}`, `unix:${dir}/x/../socket`],
    env: ["DUPLEX_*"],
    run: ["in/tool"],
    sys: ["hostname"],
    ffi: ["in"],
    import: [`127.0.0.1:${modulePort}`],
  } as const;
  return {
    name: "all",
    flags: ["-A"],
    cwd: dir,
    acts: actsOf(world),
    own: only(9, 0, 1, 2, 3, 4, 5, 6, 7, 8),
    grants: [
      { grant: "none", pipe: only(9) },
      { grant: "inherit", pipe: only(9, 0, 1, 2, 3, 4, 5, 6, 7, 8) },
      ...single,
      {
        grant: items as never,
        pipe: only(9, 0, 1, 2, 3, 4, 5, 6, 7, 8),
      },
    ],
  };
}

/** An item that the program does not have, and the required flag. */
function lacking(kind: string, item: string): Grant {
  const what = `"${kind}" of "${item}"`;
  const all = lacks(what, `--allow-${kind}`);
  const listed = lacks(what, `--allow-${kind}=${item}`);
  const isRange = /^[0-9.]+\/[0-9]+$/.test(item);
  const isWildcard = item.includes("*");
  return {
    grant: { [kind]: [item] },
    pipe: isRange || isWildcard ? all : listed,
    thread: isRange ? all : listed,
  };
}

/** A program with only the permissions to open a worker. */
function nothingRow(world: World): Row {
  const { dir, port, modulePort } = world;
  const refusals: [kind: string, item: string][] = [
    ["read", `${dir}/in/file`],
    ["write", `${dir}/in/new`],
    ["net", `127.0.0.1:${port}`],
    ["net", "localhost"],
    ["net", "*.example.com"],
    ["net", "10.0.0.0/8"],
    ["net", `unix:${dir}/socket`],
    ["net", "vsock:1:5"],
    ["env", "DUPLEX_A"],
    ["env", "DUPLEX_*"],
    ["run", `${dir}/in/tool`],
    ["run", "ls"],
    ["sys", "hostname"],
    ["ffi", dir],
    ["import", `127.0.0.1:${modulePort}`],
  ];
  const kinds = new Set(refusals.map(([kind]) => kind));
  return {
    name: "nothing",
    flags: [],
    acts: actsOf(world),
    own: only(9),
    grants: [
      ...[...kinds].map((kind) => ({
        grant: { [kind]: true },
        pipe: lacks(`all of "${kind}"`, `--allow-${kind}`),
      })),
      ...refusals.map(([kind, item]) => lacking(kind, item)),
      { grant: "inherit", pipe: only(9), thread: null },
    ],
  };
}

/** A program with a list for every kind. */
function listRow(world: World): Row {
  const { dir, port, modulePort } = world;
  const net = [
    `127.0.0.1:${port}`,
    `localhost:${port}`,
    `unix:${dir}/socket`,
    "10.0.0.0/8",
    "*.example.com",
    "vsock:1:5",
  ];
  return {
    name: "lists",
    flags: [
      `--allow-read=${dir}/in,${dir}/socket,${ROOT}`,
      `--allow-write=${dir}/in,${dir}/socket`,
      `--allow-net=${net}`,
      "--allow-env=DUPLEX_A,DUPLEX_B_*",
      `--allow-run=${DENO},${dir}/in/tool`,
      "--allow-sys=hostname,osRelease",
      `--allow-ffi=${dir}/in`,
      `--allow-import=127.0.0.1:${modulePort}`,
    ],
    acts: [
      ...actsOf(world),
      `net localhost:${port}`,
      "says net 10.1.2.3:80",
      "says net a.example.com:443",
      "says net vsock:1:5",
      "env DUPLEX_B_1",
      "sys osRelease",
    ],
    own: only(15, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14),
    grants: [
      ...listPartsOf(world),
      ...listRefusalsOf(world),
    ],
  };
}

function listPartsOf({ dir, port, modulePort }: World): Grant[] {
  const parts: [grant: Permissions, ...yes: number[]][] = [
    [{ read: [`${dir}/in`, `${dir}/in/deep/..`] }, 0],
    [{ write: [`${dir}/in`] }],
    [{ write: [`${dir}/in/new`] }, 1],
    [{ net: [`127.0.0.1:${port}`, "vsock:1:5"] }, 2, 12],
    [{ net: [`LOCALHOST.:${port}`] }, 9],
    [{ net: ["10.1.2.3", "a.example.com:443"] }, 10, 11],
    [{
      net: [`unix:${dir}/socket`],
      read: [`${dir}/socket`],
      write: [`${dir}/socket`],
    }, 8],
    [{ env: ["DUPLEX_A", "DUPLEX_B_1"] }, 3, 13],
    [{ run: [`${dir}/in/tool`] }, 4],
    [{ sys: ["osRelease"] }, 14],
    [{ ffi: [`${dir}/in/file`] }, 6],
    [{ import: [`127.0.0.1:${modulePort}`] }, 7],
  ];
  return parts.map(([grant, ...yes]) => ({
    grant,
    // A tool that may be run must not be replaced.
    pipe: yes.length === 0
      ? partly(`"write" of "${dir}/in"`, "--deny-write, or --allow-run")
      : only(15, ...yes),
  }));
}

function listRefusalsOf({ dir, port, modulePort }: World): Grant[] {
  const missing: [kind: string, item: string][] = [
    ["read", `${dir}/out/file`],
    ["read", `${dir}/in/../out`],
    ["read", dir],
    ["write", `${dir}/out`],
    ["net", "127.0.0.1"],
    ["net", `127.0.0.2:${port}`],
    ["net", "localhost"],
    ["net", `127.1:${port}`],
    ["net", `[::1]:${port}`],
    ["net", "11.0.0.0/8"],
    ["net", "example.org"],
    ["net", "*.example.org"],
    ["net", "vsock:1:6"],
    ["net", `unix:${dir}/other`],
    ["env", "DUPLEX_C"],
    ["env", "DUPLEX_*"],
    ["run", `${dir}/out/tool`],
    ["run", "tool"],
    ["sys", "loadavg"],
    ["ffi", `${dir}/out`],
    ["import", "jsr.io:443"],
    ["import", `localhost:${modulePort}`],
  ];
  // Deno compares the permissions of a Web Worker with the lists; a process has
  // none.
  const many: [kind: string, item: string, thread?: string | RegExp][] = [
    ["net", "10.0.0.0/8"],
    ["net", "10.1.0.0/16"],
    ["net", "*.example.com", only(15, 11)],
    ["net", "*.a.example.com:443", /^NotCapable: .*escalate/],
    ["env", "DUPLEX_B_*", only(15, 13)],
  ];
  return [
    ...missing.map(([kind, item]) => lacking(kind, item)),
    ...many.map(([kind, item, thread]) => ({
      grant: { [kind]: [item] },
      pipe: unknown(`"${kind}" of "${item}"`),
      ...(thread === undefined ? {} : { thread }),
    })),
  ];
}

/** A program with all permissions except for a part of every kind. */
function deniedRow(world: World): Row {
  const { dir, port, modulePort } = world;
  const deep = `${dir}/in/deep`;
  const parts: Record<
    string,
    [item: string, allowed: string, place: number]
  > = {
    read: [deep, `${dir}/out/file`, 8],
    write: [deep, `${dir}/out/new`, 9],
    net: [`127.0.0.1:${port}`, "10.1.2.3:80", 10],
    env: ["DUPLEX_A", "DUPLEX_B_1", 11],
    run: [`${dir}/in/tool`, `${dir}/out/tool`, 12],
    sys: ["hostname", "osRelease", 13],
    ffi: [deep, `${dir}/out`, 14],
    import: [`127.0.0.1:${modulePort}`, "10.1.2.3:80", 15],
  };
  const kinds = Object.entries(parts);
  const flags = kinds.map(([kind, [item]]) => `--deny-${kind}=${item}`);
  return {
    name: "all but a part of each kind",
    flags: ["-A", ...flags],
    acts: [
      `read ${deep}/er/file`,
      `write ${deep}/new`,
      `net 127.0.0.1:${port}`,
      "env DUPLEX_A",
      `run ${dir}/in/tool`,
      "sys hostname",
      `ffi ${deep}/x`,
      `import http://127.0.0.1:${modulePort}/a.ts`,
      `read ${dir}/out/file`,
      `write ${dir}/out/new`,
      "says net 10.1.2.3:80",
      "env DUPLEX_B_1",
      `run ${dir}/out/tool`,
      "sys osRelease",
      `ffi ${dir}/out/x`,
      "says import 10.1.2.3:80",
    ],
    own: only(16, 8, 9, 10, 11, 12, 13, 14, 15),
    grants: [
      ...kinds.flatMap(([kind, [item, allowed, place]]) => [
        {
          grant: { [kind]: true },
          pipe: partly(`all of "${kind}"`, "--"),
          thread: only(16, place),
        },
        {
          grant: { [kind]: [item] },
          pipe: denied(`"${kind}" of "${item}"`, `--deny-${kind}`),
        },
        { grant: { [kind]: [allowed] }, pipe: only(16, place) },
      ]),
      ...["read", "write", "ffi"].flatMap((kind) =>
        [dir, `${dir}/in`, "/"].map((item) => ({
          grant: { [kind]: [item] },
          pipe: partly(`"${kind}" of "${item}"`, "--"),
        }))
      ),
      {
        grant: { env: ["DUPLEX_*"] },
        pipe: unknown('"env" of "DUPLEX_*"'),
        thread: only(16, 11),
      },
      {
        grant: "inherit",
        pipe: /Cannot pass on "env" by "inherit": a part of it is denied/,
        thread: only(16, 8, 9, 10, 11, 12, 13, 14, 15),
      },
    ],
  };
}

Deno.test({
  name:
    "workers may do what they are granted, and never more than their parent",
  ignore: Deno.build.os === "windows",
  fn: async (t) => {
    await using world = new World();
    await runRows(t, [
      wholeRow(world),
      nothingRow(world),
      listRow(world),
      deniedRow(world),
    ]);
  },
});
