// Copyright 2026 the Duplex authors. MIT license.

/**
 * Checks the rules of the house that no linter knows:
 *
 * - `rpc.ts` and `pool.ts` stand on `duplex.ts` and on no transport, and no
 *   transport stands on another.
 * - `Deno` is used only where the package meets the system.
 * - `parent.ts` loads only what a worker needs.
 * - Files and functions stay short enough to read.
 * - Public files say what they are for, and every export is there.
 * - What a peer or a program may have given becomes text through `_base/text.ts`.
 *
 * `deno task ok` runs it over the repository; it exits with code 1 if a rule
 * is broken.
 *
 * @module
 */

// Not in `deno.json`, since `deno task` downloads what is named there, and
// nothing but this file needs the compiler.
// deno-lint-ignore no-import-prefix
import ts from "npm:typescript@5.9.3";
import { fileURLToPath } from "node:url";

const COPYRIGHT = "// Copyright 2026 the Duplex authors. MIT license.\n";
const MAX_FILE_LINES = 800;
const MAX_FUNCTION_LINES = 60;

const TRANSPORTS = ["pipe.ts", "queue.ts", "shm.ts", "socket.ts"];
const OVER_ANY_TRANSPORT = ["rpc.ts", "pool.ts"];
const USES_DENO = /^(_?(pipe|socket|permissions|parent|cli)(_\w+)?)\.ts$/;
const WORKER_NEEDS = /^(parent|duplex|codec|_\w+)\.ts$/;

/** Those that make the texts, and in which values were checked before. */
const MAY_CONVERT = new Set([
  "_codec/json.ts",
  "_base/text.ts",
  "_codec/value_path.ts",
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

/** Reads what the rules ask about from the code of one file. */
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

async function readSources(dir: URL): Promise<Source[]> {
  const sources: Source[] = [];
  try {
    for await (const { name, isFile } of Deno.readDir(dir)) {
      if (!isFile || !name.endsWith(".ts")) continue;
      sources.push(parse(name, await Deno.readTextFile(new URL(name, dir))));
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return sources.sort((a, b) => a.name < b.name ? -1 : 1);
}

/** The root files and the outside modules that a root file brings along. */
function graphOf(
  name: string,
  sources: Map<string, Source>,
  { imports = {}, exports }: Config,
  types: boolean,
): { files: Set<string>; modules: Set<string> } {
  const files = new Set([name]);
  const modules = new Set<string>();
  for (const file of files) {
    for (const { specifier, typeOnly } of sources.get(file)?.imports ?? []) {
      if (typeOnly && !types) continue;
      const own = specifier.match(/^@duplex\/ipc(\/.*)?$/);
      const path = own ? exports[`.${own[1] ?? ""}`] ?? specifier : specifier;
      if (path.startsWith("./")) files.add(path.slice(2));
      else modules.add(imports[path] ?? path);
    }
  }
  files.delete(name);
  return { files, modules };
}

function checkImports(
  sources: Map<string, Source>,
  config: Config,
): string[] {
  const problems: string[] = [];
  for (const name of [...OVER_ANY_TRANSPORT, ...TRANSPORTS]) {
    const source = sources.get(name);
    if (!source) continue;
    const { files } = graphOf(name, sources, config, true);
    for (const file of files) {
      if (!TRANSPORTS.includes(file)) continue;
      problems.push(
        `${name}: must not import a transport, directly or not, but imports ${file}`,
      );
    }
    if (OVER_ANY_TRANSPORT.includes(name) && !files.has("duplex.ts")) {
      problems.push(`${name}: must stand on duplex.ts, but does not import it`);
    }
  }
  const { files, modules } = graphOf("parent.ts", sources, config, false);
  for (const file of files) {
    if (WORKER_NEEDS.test(file)) continue;
    problems.push(`parent.ts: a worker does not need ${file}, but loads it`);
  }
  for (const module of modules) {
    problems.push(
      `parent.ts: a worker must load no package, but loads "${module}"`,
    );
  }
  return problems;
}

function checkRootFile(source: Source): string[] {
  const { name, text } = source;
  const problems: string[] = [];
  if (!USES_DENO.test(name) && source.denoLines.length > 0) {
    problems.push(
      `${name}:${
        source.denoLines[0]
      }: must not use "Deno": only pipe.ts, socket.ts, permissions.ts, parent.ts, cli.ts and their private files may`,
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
 * Whether a value of this type may be any value: of no type, of what is left of a
 * type when an option was found to be of another one, or of what is left when some
 * types were excluded. As a text, an object other than a URL is as bad.
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
 * Finds where a value that may be anything is converted to a text by `String`, a
 * template or `JSON.stringify`: these throw for some values, and show others as
 * they are, with the characters that move a terminal's cursor.
 *
 * @param root The repository's folder, ending with a slash.
 * @param names The files to look at.
 * @returns What is wrong, a line each.
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
      // What Deno and packages add is of no known type, and not looked at.
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
 * @returns What is wrong, a line each.
 */
export async function checkHouse(root: URL): Promise<string[]> {
  const config: Config = JSON.parse(
    await Deno.readTextFile(new URL("deno.json", root)),
  );
  const rootSources = await readSources(root);
  const sources = new Map(rootSources.map((source) => [source.name, source]));
  const problems = rootSources.flatMap(checkRootFile);
  problems.push(...checkImports(sources, config));
  for (const dir of ["", "bench/", "tests/"]) {
    const files = dir ? await readSources(new URL(dir, root)) : rootSources;
    for (const { name, lines } of files) {
      if (lines <= MAX_FILE_LINES) continue;
      problems.push(
        `${dir}${name}: has ${lines} lines: at most ${MAX_FILE_LINES} are allowed`,
      );
    }
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
  const problems = await checkHouse(root);
  const names = (await readSources(root)).map(({ name }) => name);
  problems.push(
    ...checkTexts(root, names.filter((name) => !MAY_CONVERT.has(name))),
  );
  for (const problem of problems) console.error(problem);
  if (problems.length > 0) {
    console.error(`Found ${problems.length} against the rules of the house`);
    Deno.exit(1);
  }
}
