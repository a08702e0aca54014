// Copyright 2026 the Duplex authors. MIT license.

/**
 * The worker of the demonstration: it receives paths and answers each with a
 * description of the file, or with the error from reading it. It runs unchanged
 * over every transport.
 *
 * @module
 */

import { parent } from "@duplex/ipc/parent";
import {
  asError,
  describeFile,
  type FileFacts,
  type Unreadable,
} from "./_demo_files.ts";

await using main = await parent<string, FileFacts | Unreadable>();
for await (const path of main) {
  try {
    await main.send(await describeFile(path));
  } catch (error) {
    await main.send({ path, error: asError(error) });
  }
}
