// Copyright 2026 the Duplex authors. MIT license.

/**
 * The file of a Unix socket. Only its owner may connect. It is removed with its
 * listener, and the file of a process that has died is replaced.
 *
 * @module
 */

/** The owner may connect, other users may not. */
const MODE = 0o600;

/**
 * Listens at a path where no file exists. Until the mode is set, the umask of the
 * process decides who may connect. Deno removes the file when the listener closes,
 * and when the process ends other than by `Deno.exit` or a signal.
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
 * Removes the file at `Deno.exit`. Closing the listener there is not enough: Deno
 * removes the file once no accept is in progress, and the process ends before.
 *
 * @returns A function that cancels this, for when the file was removed.
 */
export function removeAtExit(path: string): () => void {
  const own = Deno.lstatSync(path);
  const onUnload = () => {
    try {
      removeIfSame(path, own);
    } catch {
      // The process ends, so an error cannot be reported.
    }
  };
  addEventListener("unload", onUnload);
  return () => removeEventListener("unload", onUnload);
}

/**
 * Listens at the path of a process that has died.
 *
 * @throws {Deno.errors.AddrInUse} If a living process listens there, or the file is
 *   not a socket.
 */
export async function takeOverUnix(path: string): Promise<Deno.UnixListener> {
  const stale = await Deno.lstat(path);
  if (stale.isSocket === false) {
    throw new Deno.errors.AddrInUse("the file at the path is not a socket");
  }
  if (await isAlive(path)) {
    throw new Deno.errors.AddrInUse("a living process listens there");
  }
  removeIfSame(path, stale);
  return listenUnix(path);
}

/**
 * Removes the file, unless it was replaced by another one, which may have the same
 * inode number.
 */
function removeIfSame(path: string, seen: Deno.FileInfo): void {
  try {
    if (isSame(Deno.lstatSync(path), seen)) Deno.removeSync(path);
  } catch (error) {
    // The process that made it has removed it.
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

function isSame(a: Deno.FileInfo, b: Deno.FileInfo): boolean {
  return a.ino === b.ino && a.dev === b.dev &&
    a.birthtime?.getTime() === b.birthtime?.getTime();
}

/** Whether a process listens on the socket at the path. */
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
