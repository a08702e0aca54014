// Copyright 2026 the Duplex authors. MIT license.

/**
 * The end of a worker that its parent has aborted: a script that does not catch the
 * reason of the abort ends without printing it, since the parent knows it.
 *
 * @module
 */

import { ProtocolError } from "../_base/errors.ts";
import { onPeerAbort, type Session } from "./session.ts";

/**
 * Ends a worker quietly if nothing catches the reason of its parent's abort. Any other
 * error is reported as usual, and so is a fault of the worker.
 *
 * @param session The session with the parent.
 * @param end Ends the worker, in place of the error.
 */
export function endQuietly(
  session: Session<unknown, unknown>,
  end: () => void,
): void {
  session[onPeerAbort] = (reason) => {
    if (reason instanceof ProtocolError) return;
    const onUncaught = (event: Event, thrown: unknown) => {
      if (thrown !== reason) return;
      event.preventDefault();
      end();
    };
    addEventListener("error", (event) => onUncaught(event, event.error));
    addEventListener(
      "unhandledrejection",
      (event) => onUncaught(event, event.reason),
    );
  };
}
