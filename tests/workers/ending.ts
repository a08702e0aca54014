// Copyright 2026 the Duplex authors. MIT license.

/**
 * Two ends that notify, call, stream and call back in both directions until one of
 * them, or both, end the duplex in the middle. Both sides run the same code.
 *
 * @module
 */

import { ClosedError, type Duplex, PeerExitError } from "../../duplex.ts";
import { parent } from "../../parent.ts";
import { expose, notifier, remote } from "../../rpc.ts";

/** What the ends do, and when and how the duplex is ended. */
export interface Plan {
  readonly kinds: readonly Kind[];
  /** The side that ends the duplex. */
  readonly by: "main" | "worker" | "both";
  readonly how: "close" | "using" | "abort";
  /** The number of the event at which that side ends it. */
  readonly at: number;
}

type Side = "main" | "worker";
type Callback = (n: number) => Promise<number>;

/** The methods of both ends. */
interface Methods {
  tick(): void;
  echo(value: number): number;
  slow(value: number): Promise<number>;
  count(): AsyncGenerator<number>;
  readable(): AsyncIterable<number>;
  callBack(callback: Callback): Promise<void>;
  keep(callback: Callback): void;
}

/** The reason of every abort. */
const REASON = "The plan ends here";

/** Notifications and calls after the duplex has ended. */
const LATE = 3;

/** Turns of the event loop within which promises settle after the end. */
const TURNS = 20;

const turn = () => new Promise<void>((resolve) => setTimeout(resolve));

/** One side of a plan. */
class End {
  readonly #duplex: Duplex;
  readonly #plan: Plan;
  readonly #side: Side;
  readonly #ending = Promise.withResolvers<void>();
  #events = 0;
  #isOver = false;
  #pending = 0;
  readonly #kept: Callback[] = [];

  constructor(duplex: Duplex, plan: Plan, side: Side) {
    this.#duplex = duplex;
    this.#plan = plan;
    this.#side = side;
  }

  async run(): Promise<void> {
    const duplex = this.#duplex;
    const onOver = () => {
      this.#isOver = true;
    };
    duplex.closed.then(onOver, onOver);
    const served = this.#served();
    for (const kind of this.#plan.kinds) ACTIONS[kind](this);
    const { by, how } = this.#plan;
    const isEnding = by === this.#side || by === "both";
    if (isEnding) {
      await Promise.race([this.#ending.promise, duplex.closed.catch(() => {})]);
      if (how === "abort") duplex.abort(new RangeError(REASON));
      else if (how === "close") await duplex.close();
      else await duplex[Symbol.asyncDispose]();
    }
    const closed = await duplex.closed.then(() => "closed", String);
    if (closed !== (how === "abort" ? `RangeError: ${REASON}` : "closed")) {
      throw new Error(`The ${this.#side} ended with ${closed}`);
    }
    await served;
    for (let count = 0; this.#pending > 0 && count < TURNS; count++) {
      await turn();
    }
    if (this.#pending > 0) throw new Error(`${this.#pending} pending`);
  }

  async #served(): Promise<void> {
    try {
      await expose(this.#methods(), this.#duplex);
    } catch (error) {
      this.check(error);
    }
  }

  #methods(): Methods {
    const event = () => this.event();
    const isOver = () => this.#isOver;
    return {
      tick: event,
      echo(value) {
        event();
        return value;
      },
      async slow(value) {
        event();
        await turn();
        return value;
      },
      async *count() {
        for (let n = 0; !isOver(); n++) {
          event();
          yield n;
        }
      },
      readable: () =>
        new ReadableStream<number>({
          pull: (controller) => {
            event();
            controller.enqueue(1);
          },
        }),
      callBack: (callback) => this.settles(() => repeat(this, callback)),
      keep: (callback) => {
        event();
        this.#kept.push(callback);
      },
    };
  }

  /** Counts an event. */
  event(): void {
    if (++this.#events >= this.#plan.at) this.#ending.resolve();
  }

  get api() {
    return remote<Methods>(this.#duplex);
  }

  get notifier() {
    return notifier<Methods>(this.#duplex);
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  get kept(): readonly Callback[] {
    return this.#kept;
  }

  /** Counts an act that must settle, with no error but a documented one. */
  async settles(act: () => Promise<unknown>): Promise<void> {
    this.#pending++;
    try {
      await act();
    } catch (error) {
      this.check(error);
    } finally {
      this.#pending--;
    }
  }

  /** Throws unless an error is one that the documentation names. */
  check(error: unknown): void {
    const isDocumented = error instanceof ClosedError ||
      error instanceof PeerExitError ||
      error instanceof RangeError && error.message === REASON;
    if (!isDocumented) throw error;
  }
}

/** Calls a function until it rejects, and some times after the end. */
async function repeat(
  end: End,
  call: (n: number) => Promise<unknown>,
): Promise<void> {
  for (let n = 0; !end.isOver; n++) {
    await call(n);
    if (n % 8 === 0) await turn();
  }
  for (let n = 0; n < LATE; n++) await call(n);
}

/** What an end does until the end of the duplex. */
const ACTIONS = {
  /** Handles no error. */
  async notify(end: End) {
    for (let n = 0; !end.isOver; n++) {
      end.notifier.tick();
      if (n % 4 === 0) await turn();
    }
    for (let n = 0; n < LATE; n++) end.notifier.tick();
  },
  calls: (end: End) => {
    for (let n = 0; n < 3; n++) end.settles(() => repeat(end, end.api.echo));
  },
  slowCalls: (end: End) => {
    for (let n = 0; n < 3; n++) end.settles(() => repeat(end, end.api.slow));
  },
  stream: (end: End) =>
    end.settles(async () => {
      for await (const _ of end.api.count());
    }),
  readable: (end: End) =>
    end.settles(async () => {
      for await (const _ of end.api.readable());
    }),
  callback: (end: End) =>
    end.settles(() =>
      end.api.callBack((n) => {
        end.event();
        return Promise.resolve(n);
      })
    ),
  kept: (end: End) =>
    end.settles(() =>
      repeat(end, async () => {
        await end.api.keep((n) => Promise.resolve(n));
        for (const callback of end.kept.slice(-2)) {
          await end.settles(() => callback(1));
          // Its promise may be ignored.
          callback(2);
        }
        await turn();
      })
    ),
} satisfies Record<string, (end: End) => unknown>;

/** One of the actions. */
export type Kind = keyof typeof ACTIONS;

/** All actions. */
export const KINDS = Object.keys(ACTIONS) as Kind[];

/** Runs one side of a plan. */
export async function play(
  duplex: Duplex,
  plan: Plan,
  side: Side,
): Promise<void> {
  await new End(duplex, plan, side).run();
}

/** Runs the side of a worker. */
export async function work(plan: Plan): Promise<void> {
  await play(await parent(), plan, "worker");
}
