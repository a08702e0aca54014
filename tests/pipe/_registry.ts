// Copyright 2026 the Duplex authors. MIT license.

/**
 * A registry of npm on this machine, with one package whose installation runs a script.
 *
 * @module
 */

/** The name of the package in the registry. */
export const PACKAGE = "duplex-test-scripted";

/** Serves a package whose script, run at its installation, makes a file. */
export class Registry implements AsyncDisposable {
  readonly #server: Deno.HttpServer<Deno.NetAddr>;

  private constructor(server: Deno.HttpServer<Deno.NetAddr>) {
    this.#server = server;
  }

  /**
   * Starts the server.
   *
   * @param made The file that the script makes.
   */
  static async start(made: string): Promise<Registry> {
    const manifest = {
      name: PACKAGE,
      version: "1.0.0",
      main: "index.js",
      scripts: { postinstall: `echo made > ${made}` },
    };
    const archive = await pack({
      "package/package.json": JSON.stringify(manifest),
      "package/index.js": "module.exports = 1;",
    });
    const digest = await crypto.subtle.digest("SHA-512", archive);
    const integrity = `sha512-${new Uint8Array(digest).toBase64()}`;
    const server: Deno.HttpServer<Deno.NetAddr> = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen: () => {} },
      (request) => {
        if (request.url.endsWith(".tgz")) return new Response(archive);
        const tarball = `http://127.0.0.1:${server.addr.port}/package.tgz`;
        return Response.json({
          name: PACKAGE,
          "dist-tags": { latest: "1.0.0" },
          versions: {
            "1.0.0": {
              ...manifest,
              hasInstallScript: true,
              dist: { tarball, integrity },
            },
          },
        });
      },
    );
    return new Registry(server);
  }

  get url(): string {
    return `http://127.0.0.1:${this.#server.addr.port}/`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }
}

/** Packs files as an archive of npm: a compressed tar file. */
async function pack(
  files: Record<string, string>,
): Promise<Uint8Array<ArrayBuffer>> {
  const parts = Object.entries(files).map(([name, text]) => entry(name, text));
  const stream = new Blob([...parts, new Uint8Array(1024)]).stream()
    .pipeThrough(new CompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** A file in a tar file: a header and the text, each in blocks of 512 bytes. */
function entry(name: string, text: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(512 * (1 + Math.ceil(text.length / 512)));
  const put = (value: string, at: number) =>
    bytes.set(new TextEncoder().encode(value), at);
  const octal = (value: number, digits: number) =>
    value.toString(8).padStart(digits, "0");
  put(name, 0);
  put(octal(0o644, 7), 100);
  put(octal(text.length, 11), 124);
  put(octal(0, 11), 136);
  // While the checksum is computed, its field holds spaces.
  put("        0", 148);
  put("ustar\u000000", 257);
  const sum = bytes.subarray(0, 512).reduce((sum, byte) => sum + byte, 0);
  put(`${octal(sum, 6)}\0 `, 148);
  put(text, 512);
  return bytes;
}
