// Copyright 2026 the Duplex authors. MIT license.

import { listenSocket } from "@duplex/ipc/socket";

const [address = "tcp://127.0.0.1:9000"] = Deno.args;
const secret = "Only we two know";
await using listener = listenSocket<string>(address, { secret });
await listener.ready;
console.log(`Run socket_main.py ${listener.address}`);
await using peer = await listener.accept();
console.log(await peer.receive());
await peer.send("Hello from Deno!");
