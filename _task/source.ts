// Copyright 2026 the Duplex authors. MIT license.

/**
 * The source of a function, as a worker script that exposes it. What cannot work
 * in a worker is refused before one starts, with the reason.
 *
 * @module
 */

import { excerpt, messageOf, quoted, show } from "../_base/text.ts";

/**
 * Characters of a function's source at most. It is parsed here, and again by each
 * worker: this many take some 10 ms here and a third of a second there.
 */
const MAX_SOURCE_LENGTH = 1024 * 1024;

const ADVICE = "wrap it: (n) => …";

/** White space and comments between two tokens. */
const GAP = String
  .raw`(?:\s|/\*(?:[^*]|\*(?!/))*\*/|//.*(?=[\n\r\u2028\u2029]))`;

/** The source of a getter or a setter, whatever its name is. */
const ACCESSOR = new RegExp(String
  .raw`^(?:get|set)(?:${GAP}+[^\s(/]|["'\[#\d.])`);

/** The source of a method whose name is an expression, which the worker cannot evaluate. */
const COMPUTED = new RegExp(String
  .raw`^(?:async\b${GAP}*)?(?:\*${GAP}*)?\[`);

/** The source of a method up to its parameters. */
const METHOD_HEAD = new RegExp(
  String
    .raw`^(async\b${GAP}*)?(\*${GAP}*)?(?:"(?:[^"\\]|\\[^])*"|'(?:[^'\\]|\\[^])*'|[^\s("'\[#*/]+)${GAP}*(?=\()`,
);

/** The source of a function whose own name a module does not allow. */
const NAMED_AWAIT = new RegExp(
  String.raw`^function${GAP}*(?:\*${GAP}*)?await(?![\w$])`,
);

/** The source of a function that is not written in JavaScript, or is bound. */
const NATIVE = /\{\s*\[native code\]\s*\}\s*$/;

/**
 * A worker script that exposes a function.
 *
 * @param action What is attempted, for the error.
 * @param fn The function.
 * @returns The address of the script.
 * @throws {TypeError} If it is not a function, or its source cannot run in a
 *   worker.
 * @throws {RangeError} If its source is too long.
 */
export function scriptOf(action: string, fn: unknown): string {
  if (typeof fn !== "function") {
    throw new TypeError(
      `${action} as "fn" must be a function: current value is ${show(fn)}`,
    );
  }
  const text = Function.prototype.toString.call(fn);
  const attempt = `${action} of ${nameOf(fn)}`;
  checkText(attempt, text);
  const source = `import { exposeTask } from ${
    JSON.stringify(import.meta.resolve("./worker.ts"))
  };\nexposeTask(${expressionOf(attempt, text)});\n`;
  return `data:text/javascript,${encodeURIComponent(source)}`;
}

/** What a function is called in errors. */
function nameOf(fn: unknown): string {
  try {
    const { name } = fn as { name: unknown };
    if (typeof name === "string" && name !== "") return quoted(name);
  } catch {
    // A static method or a proxy stands for the name, and threw.
  }
  return "a function";
}

function checkText(attempt: string, text: string): void {
  if (text.length > MAX_SOURCE_LENGTH) {
    throw new RangeError(
      `${attempt}: its source has ${text.length} characters, and at most ${MAX_SOURCE_LENGTH} can be sent to a worker; give it large values as arguments, or import them inside`,
    );
  }
  if (!text.isWellFormed()) {
    throw new TypeError(
      `${attempt}: its source holds half of a surrogate pair, which a script cannot have; write it as an escape: "\\ud83d"`,
    );
  }
  if (NATIVE.test(text)) {
    throw refusal(attempt, "a bound or a built-in function");
  }
  // A script allows it, and the check of the source parses one.
  if (NAMED_AWAIT.test(text)) {
    throw new TypeError(
      `${attempt}: its source cannot run in a worker, which runs it as a part of a module: a module has no function of the name "await"; rename it`,
    );
  }
  if (/^class\b/.test(text)) throw refusal(attempt, "a class");
}

/** An expression that gives the function. */
function expressionOf(attempt: string, text: string): string {
  const asFunction = `(${text}\n)`;
  const error = faultOf(asFunction);
  if (error === undefined) return asFunction;
  // A method is a function only within an object, whatever its name is there.
  const asMethod = `Object.values({${text}\n})[0]`;
  const isMethod = faultOf(asMethod) === undefined;
  if (!isMethod) throw faultError(attempt, error, faultOf(asMethod));
  if (ACCESSOR.test(text)) throw refusal(attempt, "a getter or a setter");
  if (COMPUTED.test(text)) {
    throw refusal(attempt, "a method with a computed name");
  }
  // An object around it would hide that its "super" is another one there.
  const head = METHOD_HEAD.exec(text);
  if (head !== null) {
    const [{ length }, isAsync, isGenerator] = head;
    const plain = `(${isAsync === undefined ? "" : "async "}function${
      isGenerator === undefined ? "" : "*"
    } ${text.slice(length)}\n)`;
    const error = faultOf(plain);
    if (error !== undefined) throw faultError(attempt, error);
  }
  return asMethod;
}

/** What is wrong with an expression. It is parsed as a module's, and not run. */
function faultOf(expression: string): unknown {
  try {
    new Function(`"use strict"; return ${expression};`);
    return undefined;
  } catch (error) {
    return error;
  }
}

/** The error for a source that cannot be parsed; its text has the first fault. */
function faultError(attempt: string, ...faults: unknown[]): TypeError {
  const texts = faults.map(messageOf);
  const cause = faults[0];
  if (texts.some((text) => text.includes("import.meta"))) {
    return new TypeError(
      `${attempt}: it uses "import.meta", which is that of another file in a worker; give it what it needs as an argument`,
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
    `${attempt}: its source cannot run in a worker, which runs it as a part of a module: ${
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
