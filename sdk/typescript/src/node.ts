import { setMaxListeners } from "node:events";
import { open, readFile, readlink, rename, stat, writeFile } from "node:fs/promises";
import { dirname, isAbsolute } from "node:path";
import type { SecureClientSessionOptions } from "node:http2";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { Cable } from "./cable.js";
import type { ClientOptions } from "./calls.js";
import type { Position } from "./gen/v1.js";
import type { Channel } from "./pool.js";
import { formatPosition, parsePosition, type PositionStore } from "./position.js";

export * from "./index.js";
export { TestServer, type TestServerOptions } from "./testing.js";

/** The settings of a client in Node. */
export interface NodeOptions extends ClientOptions {
  /** TLS for `https:` endpoints, in PEM: CAs in place of those of the system, and a client certificate with its key. */
  tls?: Pick<SecureClientSessionOptions, "ca" | "cert" | "key" | "passphrase" | "servername">;
}

/** Returns a client over gRPC, for Node. */
export function connect({ tls, ...options }: NodeOptions): Cable {
  const closing = new AbortController();
  setMaxListeners(0, closing.signal); // Each call in flight has one. Node warns of more than ten.
  return new Cable(options, (url) => openChannel(url, tls), closing);
}

/** Returns a token source that reads a file. A rotation needs no restart. */
export const fileToken = (path: string) => (): Promise<string> => readFile(path, "utf8");

/** The intervals of HTTP/2 pings while calls are in flight, by which a dead connection shows. */
const PINGS = { pingIntervalMs: 10_000, pingTimeoutMs: 5_000, idleConnectionTimeoutMs: 300_000 };
/**
 * The bytes that a server may send ahead of a slow reader; and the MB that a connection may hold, without which Node
 * refuses more calls at 10 MB: 200 streams, each with a request of 4 MiB and a window of 1 MiB.
 */
const SESSION = { settings: { initialWindowSize: 2 ** 20 }, maxSessionMemory: 1_024 };
/** The limit of a server, `write_request_bytes`. It reads no more of a larger request. */
const MAX_REQUEST_BYTES = 4 * 2 ** 20;
/** No message of a server is larger than 3.5 MiB. */
const MAX_MESSAGE_BYTES = 8 * 2 ** 20;
const RETIRE_INTERVAL_MS = 1_000;

function openChannel(baseUrl: string, tls: NodeOptions["tls"]): Channel {
  const sessionManager = new Http2SessionManager(baseUrl, PINGS, { ...tls, ...SESSION });
  return {
    transport: createGrpcTransport({ baseUrl, sessionManager, readMaxBytes: MAX_MESSAGE_BYTES, writeMaxBytes: MAX_REQUEST_BYTES }),
    async connect() { if ((await sessionManager.connect()) === "error") throw sessionManager.error(); },
    close(isGraceful) {
      if (!isGraceful) return sessionManager.abort();
      const timer = setInterval(() => {
        if (sessionManager.state() === "open") return;
        sessionManager.abort();
        clearInterval(timer);
      }, RETIRE_INTERVAL_MS).unref();
    },
  };
}

/**
 * A file that contains one position. Each position is written to a new file, which is synced and then renamed: after a
 * crash, the file contains either the old position or the new one. A file belongs to one feed.
 */
export class FilePositionStore implements PositionStore {
  constructor(private readonly path: string) {}

  async load(): Promise<Position | undefined> {
    const missing = (error: NodeJS.ErrnoException) => (error.code === "ENOENT" ? undefined : Promise.reject(error));
    const file = await stat(this.path).catch(missing);
    if (!file) return undefined;
    const text = file.isFile() ? await readFile(this.path, "utf8") : ""; // To read a pipe could take forever.
    // Only a complete line is a position.
    if (/^[0-9a-f]{8}:\d+:[0-9a-f]+\n$/.test(text)) return parsePosition(text.slice(0, -1));
    throw new Error(`${this.path}: not a position: restore the file, or delete it and take a snapshot`);
  }

  async save(position: Position): Promise<void> {
    const path = await targetOf(this.path);
    await writeFile(`${path}.new`, `${formatPosition(position)}\n`, { flush: true });
    await rename(`${path}.new`, path);
    // The rename is on disk once the directory is synced.
    const directory = await open(dirname(path));
    await directory.sync().finally(() => directory.close());
  }
}

/** Returns the file that a path names. A symbolic link remains, and its target is replaced, which need not exist yet. */
async function targetOf(path: string): Promise<string> {
  const target = await readlink(path).catch(() => undefined);
  return target === undefined ? path : targetOf(isAbsolute(target) ? target : `${dirname(path)}/${target}`);
}
