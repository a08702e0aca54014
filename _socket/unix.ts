// Copyright 2026 the Duplex authors. MIT license.

/**
 * The file of a Unix socket: only its owner may connect, it goes with its
 * listener, and what a dead process has left behind does not stand in the way.
 *
 * @module
 */

/** Only the owner may connect. */
const MODE = 0o600;

/**
 * Listens, if nothing is at the path yet. For the moment until the mode is set
 * the process's umask decides who may connect. Deno removes the file when the listener
 * closes, and when the process ends other than by `Deno.exit` or a signal.
 */
export function listenUnix(path: string): Deno.UnixListener {
  const listener = Deno.listen({ transport: "unix", path });
  try {
    Deno.chmodSync(path, MODE);
  } catch (error) {
    listener.close();
    throw error;
  }
  return listener;
}

/**
 * Has the file go at `Deno.exit`, too. To close the listener would not do: Deno
 * removes the file once no accept is under way, and by then the process is gone.
 *
 * @returns What ends that, when the file has gone.
 */
export function removeAtExit(path: string): () => void {
  const own = Deno.lstatSync(path);
  const onUnload = () => {
    try {
      removeIfSame(path, own);
    } catch {
      // There is nobody left to tell.
    }
  };
  addEventListener("unload", onUnload);
  return () => removeEventListener("unload", onUnload);
}

/**
 * Listens in the place of a process that has died.
 *
 * @throws {Deno.errors.AddrInUse} If a living process listens, or what is there
 *   is no socket.
 */
export async function takeOverUnix(path: string): Promise<Deno.UnixListener> {
  const stale = await Deno.lstat(path);
  if (stale.isSocket === false) {
    throw new Deno.errors.AddrInUse("what is at the path is no socket");
  }
  if (await isAlive(path)) {
    throw new Deno.errors.AddrInUse("a living process listens there");
  }
  removeIfSame(path, stale);
  return listenUnix(path);
}

/**
 * Removes the file, if it is the one that was seen before. Somebody may have put
 * another in its place, to which the system may have given the same number.
 */
function removeIfSame(path: string, seen: Deno.FileInfo): void {
  try {
    if (isSame(Deno.lstatSync(path), seen)) Deno.removeSync(path);
  } catch (error) {
    // Its owner has removed it, who was not quite dead.
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

function isSame(a: Deno.FileInfo, b: Deno.FileInfo): boolean {
  return a.ino === b.ino && a.dev === b.dev &&
    a.birthtime?.getTime() === b.birthtime?.getTime();
}

/** Whether somebody listens on the socket at the path. */
async function isAlive(path: string): Promise<boolean> {
  try {
    (await Deno.connect({ transport: "unix", path })).close();
    return true;
  } catch (error) {
    const isDead = error instanceof Deno.errors.ConnectionRefused ||
      error instanceof Deno.errors.ConnectionReset ||
      error instanceof Deno.errors.NotFound;
    if (isDead) return false;
    throw error;
  }
}
