// Copyright 2026 the Duplex authors. MIT license.

/**
 * Sessions between two threads whose posts are changed, lost or repeated, and
 * posts without a message between them. One thread runs both sides.
 *
 * @module
 */

import { receiveClone } from "../../_thread/clone.ts";
import { ProtocolError } from "../../_base/errors.ts";
import {
  DEFAULT_OPTIONS,
  type SessionOptions,
} from "../../_session/options.ts";
import { PortStream } from "../../_thread/port_stream.ts";
import { Session } from "../../_session/session.ts";
import type { Port } from "../../_thread/scope.ts";
import { ThreadWire } from "../../_thread/thread_wire.ts";
import { ClosedError, PeerExitError } from "../../duplex.ts";
import { type Bytes, Draw, mutate, smallerBytes } from "./draw.ts";
import { difference } from "./equal.ts";
import {
  checkMessage,
  receiveAll,
  show,
  type Target,
  turn,
  Violation,
  within,
} from "./harness.ts";
import { ValueMaker } from "./values.ts";

/** Milliseconds within which each promise must settle. */
const LIMIT = 3_000;

const KINDS = {
  cloned: true,
  changed: false,
  unsendable: false,
  json: false,
  deep: false,
};

const STOP = new Error("The campaign has ended");

/** Posts that mostly contain no message. */
const ODD: readonly ((draw: Draw) => unknown)[] = [
  () => undefined,
  () => null,
  () => "@duplex/ipc ready",
  () => "@duplex/ipc gone",
  (draw) => draw.pick([NaN, Infinity, -Infinity, -1, 0.5, 2 ** 53, 0]),
  () => [],
  () => [1],
  () => [1, 2],
  () => [0, [1, 2]],
  () => ["0", [1, [], []]],
  () => [0, [1, [], []], 2],
  () => [NaN, [1, [], []]],
  (draw) => [draw.below(4), ["other", [], []]],
  (draw) => [draw.below(4), [1, [[]], []]],
  (draw) => [draw.below(4), [1, drawNotes(draw), drawTexts(draw)]],
  () => new Uint8Array(),
  () => new Uint16Array([1, 2]),
  () => new DataView(new ArrayBuffer(4)),
  () => new ArrayBuffer(8),
  () => new Uint8Array(new SharedArrayBuffer(8)),
  () => ({ length: 2, 0: 1, 1: [1, [], []] }),
  (draw) => draw.bytes(draw.below(60)),
  (draw) => new ValueMaker(draw, KINDS).value(5),
];

/** The description of the errors in a post, valid or not. */
function drawNotes(draw: Draw): unknown[] {
  const value = () => new ValueMaker(draw, KINDS).value(7);
  return Array.from({ length: draw.size(4) }, () => {
    const note: unknown[] = [
      draw.oneIn(2) ? new Error("a") : value(),
      draw.pick([
        "TypeError",
        "AggregateError",
        "Object",
        "__proto__",
        "eval",
        value(),
      ]),
      draw.oneIn(2) ? "Name" : value(),
      draw.oneIn(2) ? [] : value(),
      draw.oneIn(2) ? undefined : value(),
      draw.oneIn(2) ? { a: 1 } : value(),
    ];
    return draw.oneIn(4) ? note.slice(draw.below(6)) : note;
  });
}

/** The texts in a post, valid or not. */
function drawTexts(draw: Draw): unknown[] {
  const value = () => new ValueMaker(draw, KINDS).value(7);
  return Array.from({ length: draw.below(3) }, () => {
    const note: unknown[] = [
      draw.oneIn(2) ? {} : value(),
      draw.oneIn(4) ? value() : draw.below(10),
      draw.pick(["a:b", "a", "2020-01-01", "12:00:00", value()]),
    ];
    return draw.oneIn(4) ? note.slice(draw.below(3)) : note;
  });
}

/** Intercepts the posts between two ports. */
class Tamperer {
  readonly #draw: Draw;
  /** One in this many posts is changed. */
  readonly #rate: number;
  readonly #listeners: ((post: unknown) => void)[] = [() => {}, () => {}];
  /** Whether anything was changed. */
  isActive = false;

  constructor(draw: Draw, rate: number) {
    this.#draw = draw;
    this.#rate = rate;
  }

  port(index: number): Port {
    return {
      postMessage: (message, transfer) => {
        const post = structuredClone(message, { transfer });
        for (const part of this.#pass(post)) this.deliver(1 - index, part);
      },
      listen: (listener) => void (this.#listeners[index] = listener),
    };
  }

  /** Delivers a post to a side, one turn later. */
  deliver(index: number, post: unknown): void {
    setImmediate(() => this.#listeners[index]!(post));
  }

  /** A post that neither side has made. */
  inject(): void {
    this.isActive = true;
    const draw = this.#draw;
    const post = draw.pick(ODD)(draw);
    // Shared memory, which cannot be cloned outside of a post.
    const isPlain = !(post instanceof Uint8Array);
    this.deliver(draw.below(2), isPlain ? structuredClone(post) : post);
  }

  #pass(post: unknown): unknown[] {
    const draw = this.#draw;
    if (this.#rate === 0 || draw.below(this.#rate) > 0) return [post];
    this.isActive = true;
    switch (draw.below(6)) {
      case 0:
        return [];
      case 1:
        return [post, structuredClone(post)];
      case 2:
        return [draw.pick(ODD)(draw), post];
      default:
        return [this.#alter(post)];
    }
  }

  #alter(post: unknown): unknown {
    const draw = this.#draw;
    if (post instanceof Uint8Array) return mutate(post as Bytes, draw);
    if (typeof post === "number") {
      return draw.pick([post + 1, -post, 2 ** 40, NaN]);
    }
    if (!Array.isArray(post)) return post;
    const at = draw.below(post.length);
    if (at === 0 && typeof post[0] === "number") {
      return post.with(0, draw.pick([post[0] + 1, 0, draw.boundary(), -1]));
    }
    const value = draw.pick<unknown>([
      new ValueMaker(draw, KINDS).value(6),
      [1, drawNotes(draw), drawTexts(draw)],
      null,
    ]);
    return post.with(at, value);
  }
}

/** A message; half of them can only be posted. */
function drawMessage(draw: Draw): unknown {
  const value = new ValueMaker(draw, { ...KINDS, cloned: false }).value(4);
  switch (draw.below(6)) {
    case 0: {
      const cycle: unknown[] = [value];
      cycle.push(cycle);
      return cycle;
    }
    case 1: {
      const part = { value };
      return [part, part];
    }
    case 2: {
      const error = new RangeError("wrong", { cause: new TypeError("inner") });
      return [error, error, value];
    }
    case 3:
      return draw.bytes(draw.oneIn(4) ? 70_000 : 100);
    default:
      return value;
  }
}

function makeSession(tamperer: Tamperer, index: number, postsBulk: boolean): {
  readonly session: Session;
  readonly stream: PortStream;
} {
  const role = index === 0 ? "opener" : "acceptor";
  const options: SessionOptions = {
    ...DEFAULT_OPTIONS,
    role,
    name: role,
    deadlockTimeout: Infinity,
    closeTimeout: 200,
  };
  const stream = new PortStream(tamperer.port(index), {
    diagnose: (cause, unsent) =>
      Promise.resolve(
        new PeerExitError("The campaign has ended the posts", {
          cause,
          unsent,
        }),
      ),
    close: () => Promise.resolve(),
    destroy: () => Promise.resolve(),
  });
  return {
    session: new Session(new ThreadWire(stream, { postsBulk }), options),
    stream,
  };
}

/** Checks the reason of a failure. */
function checkFailure(error: unknown): void {
  if (error === undefined) return;
  // Some bytes of its text may be changed.
  const isStop = error instanceof Error &&
    /peer aborted|The camp|has ended/.test(error.message);
  // A changed hello may contain another limit.
  const isTooLarge = error instanceof RangeError &&
    error.message.startsWith("Cannot send a message of ");
  // The fault that the other side found in a post and reported to its peer.
  const isTold = error instanceof Error && error.name === "ProtocolError";
  const isKnown = isStop || isTooLarge || isTold ||
    error instanceof ClosedError || error instanceof PeerExitError;
  if (!isKnown) {
    throw new Violation(
      `A session fails with an unexpected error: ${show(error)}`,
    );
  }
  checkMessage(error as Error);
}

async function runSessions(draw: Draw): Promise<void> {
  const tamperer = new Tamperer(draw, draw.pick([0, 3, 12, 40]));
  const postsBulk = draw.oneIn(2);
  const ends = [0, 1].map((index) => makeSession(tamperer, index, postsBulk));
  const opened = ends.map(({ session }) =>
    session.open().catch((error) => error)
  );
  const found: unknown[][] = [[], []];
  const receiving = ends.map(({ session }, index) =>
    receiveAll(session, found[index]!)
  );
  const sent: unknown[][] = [[], []];
  const sending: Promise<unknown>[] = [];
  for (let left = 1 + draw.below(14); left > 0; left--) {
    const index = draw.below(2);
    const message = drawMessage(draw);
    sent[index]!.push(message);
    const { session } = ends[index]!;
    sending.push(session.send(message).then(() => undefined, (error) => error));
    if (draw.below(3) === 2) await turn();
    if (draw.below(20) === 19) tamperer.inject();
  }
  const { isActive } = tamperer;
  if (!isActive) {
    await within(Promise.all(sending), LIMIT, "a send");
    for (let left = 200; left > 0 && isMissing(found, sent, tamperer); left--) {
      await turn();
    }
  } else for (let left = draw.below(6); left > 0; left--) await turn();
  if (draw.oneIn(2)) {
    for (const { session } of ends) session.abort(STOP);
  } else {
    for (const { session } of ends) {
      session.close({ timeout: 100 }).catch(() => {});
    }
    await turn();
    await turn();
    // The other side may never send its goodbye.
    if (tamperer.isActive) {
      for (const { session } of ends) session.abort(STOP);
    }
  }
  const pending = Promise.all([...receiving, ...opened, ...sending]);
  for (const error of await within(pending, LIMIT, "a session")) {
    checkFailure(error);
  }
  for (const { session } of ends) {
    await within(session.closed.catch(checkFailure), LIMIT, "closed");
  }
  if (tamperer.isActive) return;
  for (const [index, messages] of found.entries()) {
    compareAll(messages, sent[1 - index]!);
  }
}

/** Whether messages are missing although nothing was changed. */
function isMissing(
  found: readonly unknown[][],
  sent: readonly unknown[][],
  { isActive }: Tamperer,
): boolean {
  return !isActive &&
    found.some(({ length }, index) => length < sent[1 - index]!.length);
}

function compareAll(found: readonly unknown[], sent: readonly unknown[]): void {
  if (found.length !== sent.length) {
    throw new Violation(`${found.length} of ${sent.length} messages arrive`);
  }
  for (const [index, message] of found.entries()) {
    const where = difference(message, sent[index]);
    if (where === undefined || /stack$/.test(where)) continue;
    throw new Violation(
      `A message arrives changed, at ${where}: ${show(message)}`,
    );
  }
}

/** Reads a message that the package did not prepare. */
function runClone(draw: Draw): void {
  const odd = draw.oneIn(3)
    ? draw.pick(ODD)(draw)
    : [new ValueMaker(draw, KINDS).value(5), drawNotes(draw), drawTexts(draw)];
  const isShared = ArrayBuffer.isView(odd);
  const before = Reflect.ownKeys(Object.prototype).length;
  try {
    receiveClone(isShared ? odd : structuredClone(odd));
  } catch (error) {
    if (!(error instanceof ProtocolError)) {
      throw new Violation(`A post throws an unexpected error: ${show(error)}`);
    }
    checkMessage(error);
    const { cause } = error;
    if (
      cause !== undefined &&
      !(cause instanceof TypeError || cause instanceof RangeError ||
        cause instanceof ProtocolError)
    ) {
      throw new Violation(`A refusal has another cause: ${show(error)}`);
    }
  }
  const { prototype } = Object;
  if (
    Reflect.ownKeys(prototype).length !== before ||
    Object.getPrototypeOf(prototype) !== null
  ) throw new Violation("A post changes the prototype of all objects");
}

const posts: Target = {
  batch: 4_000,
  group: 200,
  isAsync: true,
  make(draw) {
    const bytes = draw.bytes(draw.between(20, 800));
    return draw.oneIn(3) ? mutate(bytes, draw) : bytes;
  },
  async run(input) {
    const draw = Draw.from(input);
    if (draw.below(4) === 3) runClone(draw);
    else await runSessions(draw);
  },
  budget: (size) => ({ ms: 800 + size * 0.1, bytes: 48 * 2 ** 20 }),
  smaller: smallerBytes,
};

/** The targets of this file. */
export const POST_TARGETS: Readonly<Record<string, Target>> = { posts };
