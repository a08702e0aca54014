// Copyright 2026 the Duplex authors. MIT license.

/**
 * The worker of the demonstration: it gets paths and answers each with the
 * file's facts, or with the error that reading it gave. It runs over every
 * transport as it is.
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
