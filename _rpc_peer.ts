// Copyright 2026 the Duplex authors. MIT license.

/**
 * One end of a duplex over which calls go, in both directions: the loop that
 * reads what arrives and hands it to the caller or the callee of this end. The
 * loop never waits for a method, so that a call can be made from inside a call.
 *
 * @module
 */

import { claim } from "./_claim.ts";
import { ClosedError, PeerExitError } from "./_errors.ts";
import { Callee } from "./_rpc_callee.ts";
import { Caller, labelOf, refusalOf } from "./_rpc_caller.ts";
import { CallPromise } from "./_rpc_promise.ts";
import { type Message, readMessage, TAG } from "./_rpc_messages.ts";
import type { Duplex } from "./duplex.ts";

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
  readonly #ended = Promise.withResolvers<void>();

  private constructor(duplex: Duplex) {
    this.#duplex = duplex;
    const post = (message: Message) => void this.#post(message);
    this.caller = new Caller(post);
    this.callee = new Callee({
      post,
      postInTurn: (message) => this.#post(message),
      callback: (id) => this.caller.callback(id),
      callBack: (id, args) =>
        CallPromise.from(this.caller.call(id, args, CALLBACK_LIMITS)),
    });
    this.#read();
  }

  /** The peer of a duplex, whose messages it takes from now on. */
  static of(duplex: Duplex): Peer {
    checkDuplex(duplex);
    let peer = peers.get(duplex);
    if (peer === undefined) {
      claim(duplex);
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
      await this.#duplex.send([TAG.notice, method, args]);
    } catch (error) {
      throw refusalOf(error, `notify ${labelOf(method)}`);
    }
  }

  /**
   * Sends a message; a promise where it has to wait, for room of its own or of
   * what takes its place when it cannot be sent. Never rejects.
   */
  #post(message: Message): Promise<void> | undefined {
    try {
      if (this.#duplex.trySend(message)) return undefined;
    } catch (error) {
      return this.#refuse(message, error);
    }
    return this.#duplex.send(message).catch(async (error) => {
      // When the duplex fails, what reads it is told right after those that send;
      // what waits for answers is then told by it.
      await undefined;
      await this.#refuse(message, error);
    });
  }

  /** What cannot be sent must not leave anybody waiting. */
  #refuse(message: Message, error: unknown): Promise<void> | undefined {
    this.caller.refuse(message, error);
    return this.callee.refuse(message, error);
  }

  /** Hands on what arrives, until nothing does. Never rejects. */
  async #read(): Promise<void> {
    const duplex = this.#duplex;
    // What has arrived already is for methods that are exposed right after this.
    await undefined;
    try {
      for (;;) {
        const result = duplex.tryReceive();
        this.#take(
          result.state === "ok" ? result.value : await duplex.receive(),
        );
      }
    } catch (error) {
      this.#onEnd(error);
    }
  }

  /** Hands a message on; what breaks the protocol ends the duplex. */
  #take(value: unknown): void {
    try {
      this.#onMessage(value);
    } catch (error) {
      this.#duplex.abort(error);
    }
  }

  #onMessage(value: unknown): void {
    const message = readMessage(value);
    switch (message[0]) {
      case TAG.call:
      case TAG.batch:
      case TAG.notice:
      case TAG.pull:
      case TAG.cancel:
      case TAG.recall:
        return this.callee.onMessage(message);
      default:
        return this.caller.onAnswer(message);
    }
  }

  #onEnd(error: unknown): void {
    const isGoodbye = error instanceof ClosedError &&
      !(error instanceof PeerExitError);
    this.caller.end(isGoodbye ? goodbye() : error);
    if (isGoodbye) this.callee.drain();
    else this.callee.end(error);
    this.#ended.resolve();
    // After a goodbye answers still go; when they cannot either, nobody is left.
    this.#duplex.closed.then(
      () => this.callee.end(goodbye()),
      (reason) => this.callee.end(reason),
    );
  }
}

/** Refuses what is no duplex, which a program without types may well give. */
function checkDuplex(duplex: Duplex): void {
  if (
    typeof duplex?.trySend === "function" &&
    typeof duplex.tryReceive === "function"
  ) return;
  const what = duplex as unknown instanceof Promise
    ? "a promise; await it first"
    : String(duplex);
  throw new TypeError(
    `Cannot make calls as "duplex" must be a Duplex: current value is ${what}`,
  );
}

function goodbye(): ClosedError {
  return new ClosedError("The far side has said goodbye");
}
