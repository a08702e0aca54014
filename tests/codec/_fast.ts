// Copyright 2026 the Duplex authors. MIT license.

/**
 * The codecs with the faster methods that the package itself uses.
 *
 * @module
 */

import * as codecs from "../../codec.ts";
import type { FastCodec } from "../../_codec/fast_codec.ts";

export const msgpack = codecs.msgpack as Required<FastCodec>;
export const json = codecs.json as Required<FastCodec>;
