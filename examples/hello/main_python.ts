// Copyright 2026 the Duplex authors. MIT license.

import { openPipe } from "@duplex/ipc/pipe";

const script = `${import.meta.dirname}/worker.py`;
await using worker = await openPipe<string>({
  command: "python3",
  args: [script],
});
await worker.send("Hello from main!");
console.log(await worker.receive());
