// Copyright 2026 the Duplex authors. MIT license.

import { openPipe } from "@duplex/ipc/pipe";

const script = new URL("./worker.ts", import.meta.url);
await using worker = await openPipe<string>(script);
await worker.send("Hello from main!");
console.log(await worker.receive());
