// Copyright 2026 the Duplex authors. MIT license.

/**
 * The arguments of calls, validated by schemas of any library that implements
 * Standard Schema, version 1 (https://standardschema.dev). The interface below is that
 * of `@standard-schema/spec` 1.1.0, which its authors allow to be copied.
 *
 * @module
 */

import { excerpt, show } from "../_base/text.ts";
import { propertyStep, quotedPath } from "../_codec/values.ts";
import { isThenable } from "./batch.ts";
import { methodLabel } from "./caller.ts";
import type { Method } from "./methods.ts";

/**
 * A schema of Zod, Valibot, ArkType, or another library that implements Standard
 * Schema, version 1.
 *
 * @typeParam Input The values that the schema describes.
 * @typeParam Output What it makes of them.
 */
export interface StandardSchema<Input = unknown, Output = Input> {
  /** The properties of the standard. */
  readonly "~standard": {
    /** The version of the standard. */
    readonly version: 1;
    /** The name of the library. */
    readonly vendor: string;
    /** Validates a value. */
    readonly validate: (
      value: unknown,
    ) => SchemaResult<Output> | Promise<SchemaResult<Output>>;
    /** The types of the schema, which exist for the compiler only. */
    readonly types?:
      | { readonly input: Input; readonly output: Output }
      | undefined;
  };
}

/**
 * What a schema makes of a value.
 *
 * @typeParam Output The type of the result.
 */
export type SchemaResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly SchemaIssue[] };

/** Why a value is not valid. */
export interface SchemaIssue {
  /** The reason. */
  readonly message: string;
  /** The keys of the part that is not valid, from the outside. */
  readonly path?:
    | readonly (PropertyKey | { readonly key: PropertyKey })[]
    | undefined;
}

/**
 * Maximum issues that an error names. A peer may send a list in which each item is
 * wrong, and the error is sent back.
 */
const MAX_ISSUES = 20;

/** Maximum keys in the path of an issue. The codec allows values about as deep. */
const MAX_KEYS = 100;

/**
 * Makes methods validate their arguments first. A schema receives them as an array,
 * with functions and signals in their places, and without the signal of `withSignal`.
 *
 * @param action What is attempted, for errors.
 * @param methods The methods; those with a schema are replaced.
 * @param schemas The schemas by the names of the methods.
 * @throws {TypeError} If one is not a schema, or is for a method that does not exist.
 */
export function addSchemas(
  action: string,
  methods: Map<string, Method>,
  schemas: object,
): void {
  if (
    typeof schemas !== "object" || schemas === null || Array.isArray(schemas)
  ) {
    throw new TypeError(
      `${action} as "schemas" must be an object with a schema for each name: current value is ${
        show(schemas)
      }`,
    );
  }
  for (const [name, schema] of Object.entries(schemas)) {
    const method = methods.get(name);
    if (method === undefined) {
      throw new TypeError(
        `${action} as "schemas" has a schema for ${
          methodLabel(name)
        }, and there is no such method`,
      );
    }
    const standard = standardOf(schema);
    if (standard === undefined) {
      throw new TypeError(
        `${action} as "schemas" must have a Standard Schema of version 1 for ${
          methodLabel(name)
        }: current value is ${show(schema)}`,
      );
    }
    methods.set(name, { ...method, run: validated(name, method, standard) });
  }
}

/** The properties of a schema, or `undefined` if it is not one. Some are functions. */
function standardOf(schema: unknown): StandardSchema["~standard"] | undefined {
  const isObject = typeof schema === "object" && schema !== null ||
    typeof schema === "function";
  const standard = isObject
    ? (schema as Partial<StandardSchema>)["~standard"]
    : undefined;
  return standard?.version === 1 && typeof standard.validate === "function"
    ? standard
    : undefined;
}

/** A method that is called with what a schema makes of its arguments. */
function validated(
  name: string,
  { run, takesSignal }: Method,
  standard: StandardSchema["~standard"],
): (this: unknown, ...args: unknown[]) => unknown {
  const signals = takesSignal ? 1 : 0;
  return function (this: unknown, ...args: unknown[]): unknown {
    const begin = (result: SchemaResult<unknown>) => {
      const valid = validArgs(name, result);
      return Reflect.apply(run, this, [...args.slice(0, signals), ...valid]);
    };
    const result = standard.validate(args.slice(signals));
    return isThenable(result)
      ? (result as Promise<SchemaResult<unknown>>).then(begin)
      : begin(result);
  };
}

/** The arguments in a result. Throws if there are none. */
function validArgs(name: string, result: SchemaResult<unknown>): unknown[] {
  if (result.issues !== undefined) throw issuesError(name, result.issues);
  const { value } = result;
  if (Array.isArray(value)) return value;
  throw new TypeError(
    `Cannot call ${
      methodLabel(name)
    }: its schema must return an array of arguments: current value is ${
      show(value)
    }`,
  );
}

/** The error of a call whose arguments are not valid. Its `issues` are sent with it. */
function issuesError(name: string, issues: readonly SchemaIssue[]): TypeError {
  const shown = issues.slice(0, MAX_ISSUES).map(({ message, path = [] }) => ({
    message: excerpt(message),
    path: path.slice(0, MAX_KEYS).map(pathKey),
  }));
  const [first] = shown;
  const text = first === undefined
    ? "its schema gives no reason"
    : `${
      quotedPath(`$${first.path.map(pathStep).join("")}`)
    }: ${first.message}`;
  const more = issues.length > 1 ? ` (and ${issues.length - 1} more)` : "";
  const error = new TypeError(
    `Cannot call ${
      methodLabel(name)
    } as its arguments are not valid: ${text}${more}`,
  );
  return Object.assign(error, { issues: shown });
}

/** A key of a path as every codec carries it. */
function pathKey(
  segment: PropertyKey | { readonly key: PropertyKey },
): string | number {
  const key = typeof segment === "object" ? segment.key : segment;
  return typeof key === "number"
    ? key
    : excerpt(typeof key === "symbol" ? show(key) : key);
}

/** The step of a path to a key: `[0]`, `.name` or `["two words"]`. */
function pathStep(key: string | number): string {
  return typeof key === "number" ? `[${key}]` : propertyStep(key);
}
