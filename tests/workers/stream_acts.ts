// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker with methods that take and return web streams.
 *
 * @module
 */

import { expose } from "../../rpc.ts";
import { STREAM_ACTS } from "./_stream_acts.ts";

expose(STREAM_ACTS);
