// Copyright 2026 the Duplex authors. MIT license.

/**
 * Calls over a duplex that is being opened. They are sent, in order, once it is open;
 * their timeout and signal apply from the moment of the call.
 *
 * @module
 */

import { parentPromises } from "../_base/errors.ts";
import type { Duplex } from "../duplex.ts";
import { MAX_TIMER, RunningTimer } from "../_base/waiting.ts";
import { type CallLimits, methodLabel } from "./caller.ts";
import { RpcEndpoint } from "./endpoint.ts";

/** The endpoint of a duplex, or of one that is being opened. */
export type Endpoint = Pick<RpcEndpoint, "call" | "notify">;

/** The endpoint of a duplex or of a promise of one. */
export function endpointOf(
  action: string,
  duplex: Duplex | Promise<Duplex>,
): Endpoint {
  return duplex instanceof Promise
    ? new PendingEndpoint(action, duplex)
    : RpcEndpoint.of(duplex, action);
}

class PendingEndpoint implements Endpoint {
  readonly #duplex: Promise<Duplex>;
  readonly #endpoint: Promise<RpcEndpoint>;

  constructor(action: string, duplex: Promise<Duplex>) {
    this.#duplex = duplex;
    this.#endpoint = duplex.then((duplex) => RpcEndpoint.of(duplex, action));
    // Every call reports it.
    this.#endpoint.catch(() => {});
  }

  call(
    method: string,
    args: readonly unknown[],
    limits: CallLimits,
  ): Promise<unknown> {
    const { signal, timeout } = limits;
    if (signal?.aborted) return Promise.reject(signal.reason);
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const timer = timeout > MAX_TIMER ? undefined : new RunningTimer(
      timeout,
      () => stop(timeoutError(method, timeout)),
    );
    const onAbort = () => stop(signal!.reason);
    let isStopped = false;
    function stop(reason: unknown): void {
      isStopped = true;
      release();
      reject(reason);
    }
    function release(): void {
      timer?.clear();
      signal?.removeEventListener("abort", onAbort);
    }
    signal?.addEventListener("abort", onAbort, { once: true });
    this.#endpoint.then((endpoint) => {
      if (isStopped) return;
      release();
      const rest = timer?.left ?? timeout;
      if (rest <= 0) throw timeoutError(method, timeout);
      resolve(endpoint.call(method, args, { ...limits, timeout: rest }));
    }).catch((error) => {
      release();
      reject(error);
    });
    return promise;
  }

  notify(method: string, args: unknown[]): Promise<void> {
    const settle = Promise.withResolvers<void>();
    const { promise } = settle;
    const reject = (error: unknown, isHandled: boolean) => {
      settle.reject(error);
      if (isHandled) promise.catch(() => {});
    };
    this.#endpoint.then((endpoint) => {
      endpoint.notify(method, args)
        .then(settle.resolve, (error) => reject(error, endpoint.isEnd(error)));
    }, (error) => reject(error, !parentPromises.has(this.#duplex)));
    return promise;
  }
}

function timeoutError(method: string, timeout: number): DOMException {
  return new DOMException(
    `The call of ${
      methodLabel(method)
    } did not end within ${timeout} ms: its duplex is not open yet`,
    "TimeoutError",
  );
}
