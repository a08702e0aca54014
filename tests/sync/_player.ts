// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker of a campaign (`_sync_campaign.ts`), as seen by the main thread.
 *
 * @module
 */

import type { Part, Start } from "../workers/sync_campaign.ts";

const { locks } = navigator as unknown as {
  locks: { request(name: string, run: () => void): Promise<unknown> };
};

/** A worker of a campaign. */
export class Player {
  readonly seat: number;
  readonly #worker: Worker;
  /** Settles when the thread has ended. */
  readonly ended: Promise<void>;
  isGone = false;
  isTerminated = false;
  #listen: ((message: unknown) => void) | undefined;

  private constructor(
    seat: number,
    life: string,
    worker: Worker,
    onGone: (player: Player) => void,
  ) {
    this.seat = seat;
    this.#worker = worker;
    this.ended = locks.request(life, () => {}).then(() => {
      this.isGone = true;
      onGone(this);
    });
  }

  static async start(
    start: Start,
    onWrong: (error: Error) => void,
    onGone: (player: Player) => void,
  ): Promise<Player> {
    const url = new URL("../workers/sync_campaign.ts", import.meta.url);
    const worker = new Worker(url, { type: "module" });
    worker.onerror = (event) => {
      event.preventDefault();
      if (!event.message.includes("The end of a thread")) {
        onWrong(new Error(`worker ${start.seat}: ${event.message}`));
      }
    };
    const messages = () => new Promise((resolve) => worker.onmessage = resolve);
    // Messages posted before it listens would be lost.
    await messages();
    worker.postMessage(start);
    await messages();
    const player = new Player(start.seat, start.life, worker, onGone);
    worker.onmessage = ({ data }) => {
      if (typeof data === "object") onWrong(new Error(data.wrong));
      else player.#listen?.(data);
    };
    return player;
  }

  /**
   * Runs a part; settles when the part has ended, or the thread has ended or is
   * busy.
   */
  play(part: Part): Promise<void> {
    const message = new Promise<void>((resolve) =>
      this.#listen = () => resolve()
    );
    this.#worker.postMessage(part);
    return Promise.race([message, this.ended]);
  }

  terminate(): void {
    this.isTerminated = true;
    this.#worker.terminate();
  }
}
