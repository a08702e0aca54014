// Copyright 2026 the Duplex authors. MIT license.

/**
 * All targets of the fuzzing campaign, by name.
 *
 * @module
 */

import { CALL_TARGETS } from "./call_targets.ts";
import { CLI_TARGETS } from "./cli_targets.ts";
import { CODEC_TARGETS } from "./codec_targets.ts";
import { FRAME_TARGETS } from "./frame_targets.ts";
import type { Target } from "./harness.ts";
import { POST_TARGETS } from "./post_targets.ts";
import { RECORD_TARGETS } from "./record_targets.ts";
import { RING_TARGETS } from "./ring_targets.ts";
import { SECRET_TARGETS } from "./secret_targets.ts";

/** All targets. */
export const TARGETS: Readonly<Record<string, Target>> = {
  ...CODEC_TARGETS,
  ...FRAME_TARGETS,
  ...SECRET_TARGETS,
  ...RECORD_TARGETS,
  ...RING_TARGETS,
  ...CALL_TARGETS,
  ...POST_TARGETS,
  ...CLI_TARGETS,
};
