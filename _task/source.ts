// Copyright 2026 the Duplex authors. MIT license.

/**
 * The source of a function, as a worker script that exposes it. A function that
 * cannot run in a worker is refused with the reason before a worker starts.
 *
 * @module
 */

import { excerpt, messageOf, quoted, show } from "../_base/text.ts";

/**
 * Maximum characters of a function's source. It is parsed here and by each worker:
 * this many take some 10 ms here and a third of a second there.
 */
const MAX_SOURCE_LENGTH = 1024 * 1024;

/**
 * Maximum bytes of a script for a process, which gets it as an argument: Linux
 * allows 131072. In a URL some characters of the source take three bytes or more.
 */
const MAX_ARGUMENT_LENGTH = 131_000;

/** A function of esbuild that `deno bundle --keep-names` has other functions call. */
const NAME_HELPER = "const __name = (fn) => fn;\n";

const ADVICE = "wrap it: (n) => …";

/** White space and comments between two tokens. */
const GAP = String
  .raw`(?:\s|/\*(?:[^*]|\*(?!/))*\*/|//.*(?=[\n\r\u2028\u2029]))`;

/** The source of a getter or a setter with any name. */
const ACCESSOR = new RegExp(String
  .raw`^(?:get|set)(?:${GAP}+[^\s(/]|["'\[#\d.])`);

/** The source of a method with a computed name, which the worker cannot evaluate. */
const COMPUTED = new RegExp(String
  .raw`^(?:async\b${GAP}*)?(?:\*${GAP}*)?\[`);

/** The source of a method up to its parameters. */
const METHOD_HEAD = new RegExp(
  String
    .raw`^(async\b${GAP}*)?(\*${GAP}*)?(?:"(?:[^"\\]|\\[^])*"|'(?:[^'\\]|\\[^])*'|[^\s("'\[#*/]+)${GAP}*(?=\()`,
);

/** The source of a function with a name that a module does not allow. */
const NAMED_AWAIT = new RegExp(
  String.raw`^function${GAP}*(?:\*${GAP}*)?await(?![\w$])`,
);

/** The source of a built-in or a bound function. */
const NATIVE = /\{\s*\[native code\]\s*\}\s*$/;

/**
 * Creates a worker script that exposes a function.
 *
 * @param action What is attempted, for the error.
 * @param fn The function.
 * @param isThread Whether it runs in a Web Worker; otherwise in a process.
 * @returns The address of the script.
 * @throws {TypeError} If it is not a function, or its source cannot run in a
 *   worker.
 * @throws {RangeError} If its source is too long.
 */
export function taskScript(
  action: string,
  fn: unknown,
  isThread: boolean,
): string {
  if (typeof fn !== "function") {
    throw new TypeError(
      `${action} as "fn" must be a function: current value is ${show(fn)}`,
    );
  }
  const text = Function.prototype.toString.call(fn);
  const attempt = `${action} of ${functionLabel(fn)}`;
  checkText(attempt, text);
  checkNotBundled(attempt);
  const source = `import { exposeTask } from ${
    JSON.stringify(import.meta.resolve("./worker.ts"))
  };\n${NAME_HELPER}exposeTask(${toExpression(attempt, text)});\n`;
  const script = `data:text/javascript,${encodeURIComponent(source)}`;
  if (isThread || script.length <= MAX_ARGUMENT_LENGTH) return script;
  throw new RangeError(
    `${attempt}: its script has ${script.length} bytes, and at most ${MAX_ARGUMENT_LENGTH} can be sent to a process; set isolate: "thread", pass large values as arguments, or import them inside`,
  );
}

/**
 * Loads the module that workers import. It is never called: the import has `deno
 * compile` include the module in a program.
 */
export function loadWorker(): Promise<unknown> {
  return import("./worker.ts");
}

/** Throws if this file is a part of a bundle, as its workers load another file. */
function checkNotBundled(attempt: string): void {
  if (import.meta.url.endsWith("/_task/source.ts")) return;
  throw new TypeError(
    `${attempt}: its workers load a module of this package, which is bundled in ${
      quoted(import.meta.url)
    }; bundle with --external "@duplex/ipc*" or --external "jsr:@duplex/ipc*", or use a Pool with a worker script`,
  );
}

/** The name of a function in errors. */
function functionLabel(fn: unknown): string {
  try {
    const { name } = fn as { name: unknown };
    if (typeof name === "string" && name !== "") return quoted(name);
  } catch {
    // `name` is a getter that threw, or the function is a proxy.
  }
  return "a function";
}

function checkText(attempt: string, text: string): void {
  if (text.length > MAX_SOURCE_LENGTH) {
    throw new RangeError(
      `${attempt}: its source has ${text.length} characters, and at most ${MAX_SOURCE_LENGTH} can be sent to a worker; pass large values as arguments, or import them inside`,
    );
  }
  if (!text.isWellFormed()) {
    throw new TypeError(
      `${attempt}: its source contains half of a surrogate pair, which a script cannot contain; write it as an escape: "\\ud83d"`,
    );
  }
  if (NATIVE.test(text)) {
    throw refusal(attempt, "a bound or a built-in function");
  }
  // The check below parses a script, which allows this name.
  if (NAMED_AWAIT.test(text)) {
    throw new TypeError(
      `${attempt}: its source cannot run in a worker, which runs it in a module: a function in a module cannot have the name "await"; rename it`,
    );
  }
  if (/^class\b/.test(text)) throw refusal(attempt, "a class");
}

/** An expression whose value is the function. */
function toExpression(attempt: string, text: string): string {
  const asFunction = `(${text}\n)`;
  const error = syntaxError(asFunction);
  if (error === undefined) return asFunction;
  // The source of a method is valid only in an object.
  const asMethod = `Object.values({${text}\n})[0]`;
  const isMethod = syntaxError(asMethod) === undefined;
  if (!isMethod) throw sourceError(attempt, error, syntaxError(asMethod));
  if (ACCESSOR.test(text)) throw refusal(attempt, "a getter or a setter");
  if (COMPUTED.test(text)) {
    throw refusal(attempt, "a method with a computed name");
  }
  // In an object, "super" would be valid and stand for another object.
  const head = METHOD_HEAD.exec(text);
  if (head !== null) {
    const [{ length }, isAsync, isGenerator] = head;
    const plain = `(${isAsync === undefined ? "" : "async "}function${
      isGenerator === undefined ? "" : "*"
    } ${text.slice(length)}\n)`;
    const error = syntaxError(plain);
    if (error !== undefined) throw sourceError(attempt, error);
  }
  return asMethod;
}

/** The syntax error of an expression in strict mode, or `undefined`. It is not run. */
function syntaxError(expression: string): unknown {
  try {
    new Function(`"use strict"; return ${expression};`);
    return undefined;
  } catch (error) {
    return error;
  }
}

/** The error for a source with syntax errors; its text has the first one. */
function sourceError(attempt: string, ...faults: unknown[]): TypeError {
  const texts = faults.map(messageOf);
  const cause = faults[0];
  if (texts.some((text) => text.includes("import.meta"))) {
    return new TypeError(
      `${attempt}: it uses "import.meta", which is that of another file in a worker; pass what it needs as an argument`,
      { cause },
    );
  }
  if (texts.some((text) => text.includes("super"))) {
    return new TypeError(
      `${attempt}: it uses "super", which a worker does not have; ${ADVICE}`,
      { cause },
    );
  }
  if (texts.some((text) => text.includes("rivate"))) {
    return new TypeError(
      `${attempt}: it uses a private name, which only its class has; ${ADVICE}`,
      { cause },
    );
  }
  return new TypeError(
    `${attempt}: its source cannot run in a worker, which runs it in a module: ${
      excerpt(texts[0]!)
    }`,
    { cause },
  );
}

function refusal(attempt: string, what: string): TypeError {
  return new TypeError(
    `${attempt}: its source cannot be sent, as it is ${what}; ${ADVICE}`,
  );
}
