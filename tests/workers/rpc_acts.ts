// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker that exposes methods over the transport that opened it.
 *
 * @module
 */

import { expose } from "../../rpc.ts";
import { ACTS } from "./_rpc_acts.ts";

expose(ACTS);
