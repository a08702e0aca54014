// Copyright 2026 the Duplex authors. MIT license.

/**
 * Bugs to insert into `_shm/ring.ts`, each of which the model checker must
 * find.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import type { RingCode } from "./_ring_model.ts";

/** Text of `_shm/ring.ts`, and its replacement. */
export interface Edit {
  was: string;
  is: string;
}

/**
 * Loads `_shm/ring.ts` with public names instead of private ones, and with
 * replacements.
 */
export async function loadRing(edits: Edit[] = []): Promise<RingCode> {
  let text = await Deno.readTextFile(
    new URL("../../_shm/ring.ts", import.meta.url),
  );
  for (const { was, is } of edits) {
    const count = text.split(was).length - 1;
    assertEquals(count, 1, `_shm/ring.ts must have this text once: ${was}`);
    text = text.replace(was, () => is);
  }
  const errors = new URL("../../_base/errors.ts", import.meta.url).href;
  text = text.replace('"../_base/errors.ts"', JSON.stringify(errors))
    .replaceAll(/#(\w+)/g, "$$$1");
  const type = "data:application/typescript;charset=utf-8,";
  return await import(`${type}${encodeURIComponent(text)}`);
}

const PUBLISH_WRITTEN =
  `Atomics.store(this.#words, this.#outWritten, this.#written);
    this.#ring(INTEREST.bytes);`;

const PUBLISH_READ = `Atomics.store(this.#words, this.#inRead, this.#read);
    this.#ring(INTEREST.room);`;

const ARM = `const before = Atomics.or(this.#words, this.#ownBell, interest);
    return this.isReady(interest) ? 0 : before | interest;`;

/** The bugs by description. */
export const BUGS: Record<string, Edit[]> = {
  "the writer rings before it publishes bytes": [{
    was: PUBLISH_WRITTEN,
    is: `this.#ring(INTEREST.bytes);
    Atomics.store(this.#words, this.#outWritten, this.#written);`,
  }],
  "the reader rings before it publishes room": [{
    was: PUBLISH_READ,
    is: `this.#ring(INTEREST.room);
    Atomics.store(this.#words, this.#inRead, this.#read);`,
  }],
  "the reader never rings": [{
    was: PUBLISH_READ,
    is: "Atomics.store(this.#words, this.#inRead, this.#read);",
  }],
  "a side rings for the wrong interest": [{
    was: "& interest) === 0) return;",
    is: "& interest) !== 0) return;",
  }],
  "a side does not check again before it sleeps": [{
    was: "return this.isReady(interest) ? 0 : before | interest;",
    is: "return before | interest;",
  }],
  "a side checks before it publishes its interest": [{
    was: ARM,
    is: `const isReady = this.isReady(interest);
    const before = Atomics.or(this.#words, this.#ownBell, interest);
    return isReady ? 0 : before | interest;`,
  }],
  "a side forgets the interest of its other wait": [{
    was: ARM,
    is: `Atomics.store(this.#words, this.#ownBell, interest);
    return this.isReady(interest) ? 0 : interest;`,
  }],
  "a side withdraws its interest while another wait is pending": [{
    was: ARM,
    is: `const before = Atomics.or(this.#words, this.#ownBell, interest);
    if (!this.isReady(interest)) return before | interest;
    Atomics.store(this.#words, this.#ownBell, 0);
    return 0;`,
  }],
  "a side wakes before its bell is cleared": [{
    was: `Atomics.store(this.#words, this.#peerBell, 0);
    Atomics.notify(this.#words, this.#peerBell);`,
    is: `Atomics.notify(this.#words, this.#peerBell);
    Atomics.store(this.#words, this.#peerBell, 0);`,
  }],
  "bytes are published before they are written": [{
    was: "    copy(bytes, start, this.#out, at, first);",
    is:
      `    Atomics.store(this.#words, this.#outWritten, this.#written + size | 0);
    copy(bytes, start, this.#out, at, first);`,
  }],
  "room is published before it is read": [{
    was: "    copy(this.#in, at, into, start, first);",
    is: `    Atomics.store(this.#words, this.#inRead, this.#read + size | 0);
    copy(this.#in, at, into, start, first);`,
  }],
  "the writer counts one byte too much room": [{
    was: "return this.#capacity - used;",
    is: "return this.#capacity - used + 1;",
  }],
  "the reader checks for the end after the bytes": [{
    was: `const closed = this.#closed();
    return (closed & this.#ownBit) !== 0 ||
      closed !== 0 && this.available() === 0;`,
    is: `const isEmpty = this.available() === 0;
    const closed = this.#closed();
    return (closed & this.#ownBit) !== 0 || closed !== 0 && isEmpty;`,
  }],
  "closing wakes only a side whose bell is set": [{
    was: "      Atomics.store(this.#words, bell, 0);\n",
    is: `      if (Atomics.load(this.#words, bell) === 0) continue;
      Atomics.store(this.#words, bell, 0);\n`,
  }],
  "closing does not wake the closing side": [{
    was: "of [this.#ownBell, this.#peerBell]",
    is: "of [this.#peerBell]",
  }],
  "closing does not wake the other side": [{
    was: "of [this.#ownBell, this.#peerBell]",
    is: "of [this.#ownBell]",
  }],
  "closing wakes before it sets its flag": [{
    was: "    Atomics.or(this.#words, WORD.closed, bit);\n    for",
    is: "    for",
  }, {
    was: `      Atomics.notify(this.#words, bell);
    }`,
    is: `      Atomics.notify(this.#words, bell);
    }
    Atomics.or(this.#words, WORD.closed, bit);`,
  }],
  "closing does not clear the bells": [{
    was: "      Atomics.store(this.#words, bell, 0);\n",
    is: "",
  }],
};
