// Copyright 2026 the Duplex authors. MIT license.

/**
 * One end of a duplex over which calls go, in both directions: the loop that
 * reads what arrives and hands it to the caller or the callee of this end. The
 * loop never waits for a method, so that a call can be made from inside a call.
 *
 * @module
 */

import {
  beforeGoodbye,
  type CallHooks,
  pinPeer,
  receiveWindow,
} from "../_session/session.ts";
import { ClosedError, isEnd, isInstance } from "../_base/errors.ts";
import { Backlog, MESSAGES_PER_TURN } from "./backlog.ts";
import { Callee } from "./callee.ts";
import { Caller, labelOf, refusalOf } from "./caller.ts";
import { Outlet } from "./outlet.ts";
import { CallPromise } from "./promise.ts";
import { type Message, readMessage, TAG } from "./messages.ts";
import { show } from "../_base/text.ts";
import type { Duplex } from "../duplex.ts";

/** The one peer of each duplex. */
const peers = new WeakMap<Duplex, Peer>();

/** Values of a callback's stream that are asked for ahead. */
export const DEFAULT_READ_AHEAD = 16;

const CALLBACK_LIMITS = {
  signal: undefined,
  timeout: Infinity,
  readAhead: DEFAULT_READ_AHEAD,
};

/** One end over which calls go. */
export class Peer {
  readonly caller: Caller;
  readonly callee: Callee;
  readonly #duplex: Duplex;
  readonly #outlet: Outlet;
  readonly #backlog: Backlog;
  readonly #ended = Promise.withResolvers<void>();

  private constructor(duplex: Duplex) {
    this.#duplex = duplex;
    const outlet = new Outlet(duplex, {
      onFirstAsk: () => this.#backlog.checkRoom(),
      isAwaited: (id) => this.caller.isAwaited(id),
      onAnswered: () => void this.#backlog.begin(),
      refuse: (message, error) => this.#refuse(message, error),
      onFault: (error) => duplex.abort(error),
    });
    this.#outlet = outlet;
    this.caller = new Caller((message) => outlet.ask(message));
    this.callee = new Callee({
      post: (message) => void outlet.answer(message),
      postInTurn: (message) => outlet.answer(message),
      callback: (id) => this.caller.callback(id),
      callBack: (id, args) =>
        CallPromise.from(this.caller.call(id, args, CALLBACK_LIMITS)),
      isHolding: () => !this.#backlog.isEmpty,
    });
    const hooks = hooksOf(duplex);
    this.#backlog = new Backlog(outlet, hooks[receiveWindow], {
      handle: (message) => this.callee.onMessage(message),
      onFault: (error) => duplex.abort(error),
      onEmpty: () => this.callee.checkIdle(),
    });
    hooks[beforeGoodbye] = () => {
      this.#backlog.flush();
      outlet.flush();
    };
    this.#read();
  }

  /** The peer of a duplex, whose messages it takes from now on. */
  static of(duplex: Duplex): Peer {
    checkDuplex(duplex);
    let peer = peers.get(duplex);
    if (peer === undefined) {
      hooksOf(duplex)[pinPeer]?.();
      peer = new Peer(duplex);
      peers.set(duplex, peer);
    }
    return peer;
  }

  /** Settles when nothing more arrives. Never rejects. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** Calls a method and wants no answer; settles when it was sent. */
  async notify(method: string, args: unknown[]): Promise<void> {
    try {
      await this.#outlet.notify([TAG.notice, method, args]);
    } catch (error) {
      throw refusalOf(error, `notify ${labelOf(method)}`);
    }
  }

  /** What cannot be sent must not leave anybody waiting. */
  #refuse(message: Message, error: unknown): Promise<void> | undefined {
    // No answer can be sent any more, so none is waited for.
    if (isEnd(error)) this.#backlog.flush();
    this.caller.refuse(message, error);
    return this.callee.refuse(message, error);
  }

  /** Hands on what arrives, until nothing does. Never rejects. */
  async #read(): Promise<void> {
    const duplex = this.#duplex;
    const backlog = this.#backlog;
    // What has arrived already is for methods that are exposed right after this.
    await undefined;
    try {
      for (let count = 0;;) {
        if (!backlog.isEmpty && backlog.isFull) await backlog.room();
        const result = duplex.tryReceive();
        if (result.state === "ok") {
          this.#take(result.value);
          if (++count % MESSAGES_PER_TURN === 0) await undefined;
        } else {
          count = 0;
          this.#take(await duplex.receive());
        }
      }
    } catch (error) {
      this.#onEnd(error);
    }
  }

  /** Hands a message on; what breaks the protocol ends the duplex. */
  #take(value: unknown): void {
    try {
      const message = readMessage(value);
      switch (message[0]) {
        case TAG.call:
        case TAG.batch:
        case TAG.notice:
          return this.#backlog.takeCall(message);
        case TAG.pull:
        case TAG.cancel:
        case TAG.recall:
          return this.#backlog.take(message);
        default:
          return this.caller.onAnswer(message);
      }
    } catch (error) {
      this.#duplex.abort(error);
    }
  }

  #onEnd(error: unknown): void {
    const isClosed = isInstance(error, ClosedError);
    try {
      this.caller.end(isClosed ? goodbye() : error);
      if (isClosed) this.callee.drain();
      else this.#onGone(error);
    } finally {
      this.#ended.resolve();
      // After a goodbye answers still go; when they cannot either, nobody is left.
      this.#duplex.closed.then(
        () => this.#onGone(goodbye()),
        (reason) => this.#onGone(reason),
      );
    }
  }

  /** No answer can be sent any more. */
  #onGone(reason: unknown): void {
    this.#backlog.flush();
    this.callee.end(reason);
  }
}

/** What a duplex offers to calls: nothing, if it is not one of this package. */
function hooksOf(duplex: Duplex): CallHooks {
  return receiveWindow in duplex ? duplex as CallHooks : {};
}

/** Refuses what is no duplex, which a program without types may well give. */
function checkDuplex(duplex: Duplex): void {
  if (
    typeof duplex?.trySend === "function" &&
    typeof duplex.tryReceive === "function"
  ) return;
  const what = duplex as unknown instanceof Promise
    ? "a promise; await it first"
    : show(duplex);
  throw new TypeError(
    `Cannot make calls as "duplex" must be a Duplex: current value is ${what}`,
  );
}

function goodbye(): ClosedError {
  return new ClosedError("The far side has said goodbye");
}
