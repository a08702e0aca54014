// Copyright 2026 the Duplex authors. MIT license.

/**
 * Checks the layout of the package, and rules that no linter knows:
 *
 * - The folders of private files, the rooms, have an order; a room imports only
 *   rooms on its left, and the contract. Types count as well.
 * - The transports do not import each other, and `_cli` imports public files and `_base`.
 * - No file imports itself, directly or through others.
 * - `Deno` is used only in the files that access the system.
 * - `parent.ts` loads only what a worker needs.
 * - Files and functions stay short enough to read.
 * - Public files have a module comment, and every export exists.
 * - Values of a peer or a program become text through `_base/text.ts`.
 *
 * `deno task ok` runs it over the repository; it exits with code 1 if a rule
 * is broken.
 *
 * @module
 */

// Not in `deno.json`, because `deno task` downloads the packages of that file, and
// only this file uses the compiler.
// deno-lint-ignore no-import-prefix
import ts from "npm:typescript@5.9.3";
import { fileURLToPath } from "node:url";

const COPYRIGHT = "// Copyright 2026 the Duplex authors. MIT license.\n";
const MAX_FILE_LINES = 800;
const MAX_FUNCTION_LINES = 60;

/** The transports have the same place in the order, and do not import each other. */
const TRANSPORTS = ["pipe", "queue", "shm", "socket"];

/**
 * The rooms, from left to right. A room imports rooms on its left only. So does the
 * public file of the same name, which may import its own room and public files of
 * rooms on its left as well. `sync` stands apart: it imports `base` only.
 */
const ORDER: readonly (readonly string[])[] = [
  ["base"],
  ["codec"],
  ["permissions"],
  ["duplex"],
  ["wire"],
  ["session"],
  ["pair"],
  ["thread"],
  TRANSPORTS,
  ["parent"],
  ["rpc"],
  ["pool"],
  ["task"],
  ["cli"],
];

/** Public files that every room may import. */
const CONTRACT = new Set(["duplex.ts", "codec.ts", "permissions.ts"]);

/** The command line: a program that uses public files, and the helpers of `_base`. */
const PROGRAM = "cli";

/** Scripts of workers, which import public files as other workers do. */
const SCRIPTS = new Set(["_task/worker.ts"]);

const USES_DENO =
  /^(_?(pipe|socket|permissions|cli)\b.*|parent|_base\/(address|permission_kinds|prints|worker_options)|_rpc\/context|_thread\/(permissions|parent_end))\.ts$/;

/** The files that a worker may load. */
const WORKER_NEEDS =
  /^((parent|duplex|codec)|_(base|codec|wire|session|thread|shm)\/\w+|_queue\/lease|_pipe\/memory|_\w+\/parent)\.ts$/;

/** What a worker loads only if it may have too little memory. */
const LOADED_LATE = new Set(["node:v8", "node:vm"]);

/** Files that make the texts, or convert checked values only. */
const MAY_CONVERT = new Set([
  "_codec/json.ts",
  "_base/text.ts",
]);

interface Import {
  specifier: string;
  typeOnly: boolean;
}

interface Source {
  name: string;
  text: string;
  lines: number;
  imports: Import[];
  longFunctions: { name: string; line: number; lines: number }[];
  denoLines: number[];
}

interface Config {
  exports: Record<string, string>;
  imports?: Record<string, string>;
}

/** The specifier of an import, an export from, or an `import()`. */
function importOf(node: ts.Node): Import | undefined {
  if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) {
    const { moduleSpecifier } = node;
    if (!moduleSpecifier || !ts.isStringLiteral(moduleSpecifier)) return;
    const typeOnly = ts.isImportDeclaration(node)
      ? node.importClause?.isTypeOnly ?? false
      : node.isTypeOnly;
    return { specifier: moduleSpecifier.text, typeOnly };
  }
  if (
    ts.isCallExpression(node) &&
    node.expression.kind === ts.SyntaxKind.ImportKeyword
  ) {
    const specifier = node.arguments[0];
    if (specifier && ts.isStringLiteral(specifier)) {
      return { specifier: specifier.text, typeOnly: false };
    }
  }
}

/** Reads the parts of a file that the rules concern. */
function parse(name: string, text: string): Source {
  const file = ts.createSourceFile(name, text, ts.ScriptTarget.Latest, true);
  const lineAt = (pos: number) => file.getLineAndCharacterOfPosition(pos).line;
  const source: Source = {
    name,
    text,
    lines: text.split("\n").length - 1,
    imports: [],
    longFunctions: [],
    denoLines: [],
  };
  function visit(node: ts.Node) {
    const found = importOf(node);
    if (found) source.imports.push(found);
    if (ts.isIdentifier(node) && node.text === "Deno") {
      source.denoLines.push(lineAt(node.getStart(file)) + 1);
    }
    if (ts.isFunctionLike(node) && "body" in node && node.body) {
      const line = lineAt(node.getStart(file));
      const lines = lineAt(node.end) - line + 1;
      if (lines > MAX_FUNCTION_LINES) {
        const functionName = node.name?.getText(file) ?? "A function";
        source.longFunctions.push({
          name: functionName,
          line: line + 1,
          lines,
        });
      }
    }
    ts.forEachChild(node, visit);
  }
  visit(file);
  return source;
}

/** The TypeScript files in a folder and in those inside it, by their path from root. */
async function readSources(root: URL, folder: string): Promise<Source[]> {
  const sources: Source[] = [];
  try {
    for await (const entry of Deno.readDir(new URL(folder, root))) {
      const name = folder + entry.name;
      if (entry.isDirectory) {
        sources.push(...await readSources(root, `${name}/`));
      } else if (name.endsWith(".ts")) {
        const text = await Deno.readTextFile(new URL(name, root));
        sources.push(parse(name, text));
      }
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return sources.sort((a, b) => a.name < b.name ? -1 : 1);
}

/** The files of the package: at the root, and in the rooms. */
async function readPackage(root: URL): Promise<Source[]> {
  const sources: Source[] = [];
  for await (const { name, isFile, isDirectory } of Deno.readDir(root)) {
    if (isDirectory && name.startsWith("_")) {
      sources.push(...await readSources(root, `${name}/`));
    } else if (isFile && name.endsWith(".ts")) {
      sources.push(parse(name, await Deno.readTextFile(new URL(name, root))));
    }
  }
  return sources.sort((a, b) => a.name < b.name ? -1 : 1);
}

/** The name of the room that a file is in, or is the public file of. */
function roomOf(name: string): string {
  return name.replace(/^_/, "").replace(/(\.ts|\/.*)$/, "");
}

/** The files of the package that a file imports. */
function importsOf(source: Source, { exports }: Config): Import[] {
  return source.imports.flatMap(({ specifier, typeOnly }) => {
    const own = specifier.match(/^@duplex\/ipc(\/.*)?$/);
    const path = own ? exports[`.${own[1] ?? ""}`] ?? specifier : specifier;
    if (!path.startsWith(".")) return [];
    const base = own ? "file:///" : `file:///${source.name}`;
    return [{ specifier: new URL(path, base).pathname.slice(1), typeOnly }];
  });
}

/** Why an import is wrong; `undefined` if it is right. */
function wrongImport(from: string, to: string): string | undefined {
  const [room, other] = [roomOf(from), roomOf(to)];
  const isRoom = to.startsWith("_");
  if (room === other) {
    if (isRoom || from === to) return;
    return "a room must not import its own public file";
  }
  if (room === PROGRAM) {
    if (!isRoom || other === "base") return;
    return "the command line uses public files, and _base";
  }
  if (from === "mod.ts" && !isRoom) return;
  if (SCRIPTS.has(from) && !isRoom) return;
  if (room === "sync") {
    return other === "base" ? undefined : "locks stand alone, over _base";
  }
  const place = ORDER.findIndex((rooms) => rooms.includes(room));
  const otherPlace = ORDER.findIndex((rooms) => rooms.includes(other));
  if (place < 0) return `"${room}" has no place in the order of rooms`;
  if (otherPlace < 0) return `"${other}" has no place in the order of rooms`;
  if (from.startsWith("_") && !isRoom) {
    return CONTRACT.has(to)
      ? undefined
      : "a room imports no public file but the contract";
  }
  if (TRANSPORTS.includes(room) && TRANSPORTS.includes(other)) {
    return "a transport must not import another";
  }
  return otherPlace < place ? undefined : `${other} is not below ${room}`;
}

function checkDirections(
  sources: Map<string, Source>,
  config: Config,
): string[] {
  return [...sources.values()].flatMap((source) =>
    importsOf(source, config).flatMap(({ specifier }) => {
      const problem = wrongImport(source.name, specifier);
      return problem
        ? [`${source.name}: must not import ${specifier}: ${problem}`]
        : [];
    })
  );
}

/** Files that import themselves through others, each circle once. */
function checkCircles(sources: Map<string, Source>, config: Config): string[] {
  const problems: string[] = [];
  const done = new Set<string>();
  const path: string[] = [];
  const visit = (name: string) => {
    const at = path.indexOf(name);
    if (at >= 0) {
      const circle = [...path.slice(at), name].join(" → ");
      problems.push(`${name}: imports itself: ${circle}`);
      return;
    }
    const source = sources.get(name);
    if (source === undefined || done.has(name)) return;
    path.push(name);
    for (const { specifier } of importsOf(source, config)) visit(specifier);
    path.pop();
    done.add(name);
  };
  for (const name of sources.keys()) visit(name);
  return problems;
}

function checkWorker(sources: Map<string, Source>, config: Config): string[] {
  const { imports = {} } = config;
  const problems: string[] = [];
  const files = new Set(["parent.ts"]);
  for (const file of files) {
    const source = sources.get(file);
    if (source === undefined) continue;
    if (!WORKER_NEEDS.test(file)) {
      problems.push(`parent.ts: a worker does not need ${file}, but loads it`);
    }
    for (const { specifier, typeOnly } of importsOf(source, config)) {
      if (!typeOnly) files.add(specifier);
    }
    for (const { specifier, typeOnly } of source.imports) {
      if (typeOnly || /^(\.|@duplex\/)/.test(specifier)) continue;
      if (LOADED_LATE.has(specifier)) continue;
      const module = imports[specifier] ?? specifier;
      problems.push(
        `parent.ts: a worker must load no package, but loads "${module}"`,
      );
    }
  }
  return problems;
}

function checkFile(source: Source): string[] {
  const { name, text } = source;
  const problems: string[] = [];
  if (!USES_DENO.test(name) && source.denoLines.length > 0) {
    problems.push(
      `${name}:${
        source.denoLines[0]
      }: must not use "Deno": only pipe, socket, permissions, parent and cli may`,
    );
  }
  for (const { name: functionName, line, lines } of source.longFunctions) {
    problems.push(
      `${name}:${line}: ${functionName} has ${lines} lines: at most ${MAX_FUNCTION_LINES} are allowed`,
    );
  }
  if (!name.startsWith("_")) {
    const comment = text.startsWith(COPYRIGHT)
      ? text.slice(COPYRIGHT.length).match(/^\s*\/\*\*[^]*?\*\//)
      : null;
    if (!comment?.[0].includes("@module")) {
      problems.push(
        `${name}: must start with the copyright line and then a comment with "@module" that says what the file is for`,
      );
    }
  }
  return problems;
}

/**
 * Whether a value of this type may be any value: its type is unknown, a parameter, or
 * the rest of a type of which other cases were excluded. As a text, an object other
 * than a URL counts as well.
 */
function isAnything(type: ts.Type, asText: boolean): boolean {
  const { Unknown, Never, TypeParameter, ESSymbolLike, Object, NonPrimitive } =
    ts.TypeFlags;
  const any = Unknown | Never | TypeParameter;
  const object = ESSymbolLike | Object | NonPrimitive;
  return (type.isUnion() ? type.types : [type]).some((part) =>
    (part.flags & any) !== 0 ||
    ((part.flags & object) !== 0 && part.symbol?.name !== "URL" &&
      (asText || part.getProperties().length === 0))
  );
}

/**
 * Finds the conversions of a value of any type to text by `String`, a template or
 * `JSON.stringify`. These throw for some values, and keep characters that control a
 * terminal in others.
 *
 * @param root The repository's folder, ending with a slash.
 * @param names The files.
 * @returns The problems, a line each.
 */
export function checkTexts(root: URL, names: readonly string[]): string[] {
  const program = ts.createProgram(
    names.map((name) => fileURLToPath(new URL(name, root))),
    {
      strict: true,
      exactOptionalPropertyTypes: true,
      noUncheckedIndexedAccess: true,
      noEmit: true,
      allowImportingTsExtensions: true,
      target: ts.ScriptTarget.ESNext,
      module: ts.ModuleKind.ESNext,
      moduleResolution: ts.ModuleResolutionKind.Bundler,
      // The types of Deno and of packages are unknown, and are not checked.
      lib: ["lib.esnext.d.ts", "lib.webworker.d.ts"],
      types: [],
    },
  );
  const checker = program.getTypeChecker();
  const problems: string[] = [];
  for (const name of names) {
    const file = program.getSourceFile(fileURLToPath(new URL(name, root)))!;
    const look = (value: ts.Expression | undefined, asText: boolean) => {
      if (value === undefined) return;
      if (!isAnything(checker.getTypeAtLocation(value), asText)) return;
      const { line } = file.getLineAndCharacterOfPosition(value.getStart(file));
      problems.push(
        `${name}:${line + 1}: must show \`${
          value.getText(file)
        }\` through _base/text.ts, as it may be any value`,
      );
    };
    const visit = (node: ts.Node) => {
      if (ts.isTemplateSpan(node)) look(node.expression, true);
      if (ts.isCallExpression(node)) {
        const called = node.expression.getText(file);
        if (called === "String") look(node.arguments[0], true);
        if (called === "JSON.stringify") look(node.arguments[0], false);
      }
      ts.forEachChild(node, visit);
    };
    visit(file);
  }
  return problems;
}

/**
 * Checks the repository in the folder `root`.
 *
 * @param root The repository's folder, ending with a slash.
 * @returns The problems, a line each.
 */
export async function checkLayout(root: URL): Promise<string[]> {
  const config: Config = JSON.parse(
    await Deno.readTextFile(new URL("deno.json", root)),
  );
  const files = await readPackage(root);
  const sources = new Map(files.map((source) => [source.name, source]));
  const problems = [
    ...files.flatMap(checkFile),
    ...checkDirections(sources, config),
    ...checkCircles(sources, config),
    ...checkWorker(sources, config),
  ];
  for (const folder of ["bench/", "examples/", "tests/", "tools/"]) {
    files.push(...await readSources(root, folder));
  }
  for (const { name, lines } of files) {
    if (lines <= MAX_FILE_LINES) continue;
    problems.push(
      `${name}: has ${lines} lines: at most ${MAX_FILE_LINES} are allowed`,
    );
  }
  for (const [key, path] of Object.entries(config.exports)) {
    if (sources.has(path.replace(/^\.\//, ""))) continue;
    problems.push(
      `deno.json: export "${key}" names "${path}", which is not there`,
    );
  }
  return problems;
}

if (import.meta.main) {
  const root = new URL("../", import.meta.url);
  const problems = await checkLayout(root);
  const names = (await readPackage(root)).map(({ name }) => name);
  problems.push(
    ...checkTexts(root, names.filter((name) => !MAY_CONVERT.has(name))),
  );
  for (const problem of problems) console.error(problem);
  if (problems.length > 0) {
    console.error(`Found ${problems.length} errors of the layout`);
    Deno.exit(1);
  }
}
