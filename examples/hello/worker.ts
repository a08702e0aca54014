// Copyright 2026 the Duplex authors. MIT license.

import { parent } from "@duplex/ipc/parent";

await using main = await parent<string>();
console.log(await main.receive());
await main.send("Hello from worker!");
