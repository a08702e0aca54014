// Copyright 2026 the Duplex authors. MIT license.

/**
 * The peer process of `socket_zeromq.mjs`, `socket_zeromq_far.mjs ROLE ADDRESS
 * FOLDER`, in the roles "echo" and "take-…" of `_threads.mjs`. It ends at `null`.
 *
 * @module
 */

import process from "node:process";
import { weigh } from "../_messages.mjs";
import { pair, send, value } from "./socket_zeromq_shared.mjs";

const [, , role, address, folder] = process.argv;
const socket = pair(folder, role);
socket.connect(address);

async function echo() {
  for (;;) {
    const message = value(await socket.receive());
    if (message === null) return;
    await send(socket, message);
  }
}

async function take(read) {
  for (;;) {
    const count = value(await socket.receive());
    if (count === null) return;
    let sum = 0;
    for (let index = 0; index < count; index++) {
      sum += weigh(read(await socket.receive()));
    }
    await send(socket, sum);
  }
}

if (role === "take-lines") await take(value);
else if (role === "take-bytes") await take(([bytes]) => bytes);
else await echo();
socket.close();
