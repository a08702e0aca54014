// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker that reports its permissions: "env" queries all of a kind, "env
 * HOME" one item.
 *
 * @module
 */

import { parent } from "../../parent.ts";

await using main = await parent<string>();
for await (const question of main) {
  const [name, item] = question.split(" ");
  const descriptor = { name, variable: item } as Deno.EnvPermissionDescriptor;
  await main.send(Deno.permissions.querySync(descriptor).state);
}
