import { readFileSync } from "node:fs";
import { open, readFile, rename, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import type { SecureClientSessionOptions } from "node:http2";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { Code } from "@connectrpc/connect";
import { Cable } from "./cable.js";
import type { ClientOptions } from "./calls.js";
import { CableError } from "./errors.js";
import type { Position } from "./gen/v1.js";
import type { Channel } from "./pool.js";
import { formatPosition, parsePosition, type PositionStore } from "./position.js";

export * from "./index.js";
export { TestServer, type TestServerOptions } from "./testing.js";

/** The settings of a client in Node. */
export interface NodeOptions extends Omit<ClientOptions, "endpoints"> {
  /** One or several nodes. If unset, those of `CABLE_ENDPOINTS`, else `http://127.0.0.1:7190`. */
  endpoints?: string | readonly string[];
  /** TLS for `https:` endpoints, in PEM: CAs in place of those of the system, and a client certificate with its key. */
  tls?: Pick<SecureClientSessionOptions, "ca" | "cert" | "key" | "passphrase" | "servername">;
}

/**
 * Returns a client over gRPC, for Node. What the options do not set comes from the environment: `CABLE_ENDPOINTS`,
 * `CABLE_TOKEN` or `CABLE_TOKEN_FILE`, `CABLE_CA`, `CABLE_CLIENT_CERT` and `CABLE_CLIENT_KEY`. If the options have
 * endpoints, the environment is ignored, because its token belongs to its own service.
 */
export function connect(options: NodeOptions = {}): Cable {
  const { tls, endpoints, ...rest } = { ...(options.endpoints === undefined ? fromEnvironment() : {}), ...options };
  return new Cable({ ...rest, endpoints: endpoints ?? "http://127.0.0.1:7190" }, (url) => openChannel(url, tls));
}

/** Returns a token source that reads a file. A rotation needs no restart. */
export function fileToken(path: string): () => Promise<string> {
  return () => readFile(path, "utf8");
}

function fromEnvironment(): NodeOptions {
  const get = (name: string) => process.env[name]?.trim() || undefined;
  const file = (name: string) => {
    const path = get(name);
    return path === undefined ? undefined : readFileSync(path);
  };
  const [endpoints, token, path] = [get("CABLE_ENDPOINTS"), get("CABLE_TOKEN"), get("CABLE_TOKEN_FILE")];
  if (token !== undefined && path !== undefined) {
    throw new CableError("CABLE_TOKEN and CABLE_TOKEN_FILE are both set", Code.InvalidArgument);
  }
  const [ca, cert, key] = [file("CABLE_CA"), file("CABLE_CLIENT_CERT"), file("CABLE_CLIENT_KEY")];
  return {
    ...(endpoints !== undefined && { endpoints }),
    ...(path === undefined ? token !== undefined && { token } : { token: fileToken(path) }),
    tls: { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) },
  };
}

/** The intervals of HTTP/2 pings while calls are in flight, by which a dead connection shows. */
const PINGS = { pingIntervalMs: 10_000, pingTimeoutMs: 5_000, idleConnectionTimeoutMs: 300_000 };
/** The bytes that a server may send ahead of a slow reader. */
const STREAM_WINDOW_BYTES = 2 ** 20;
/** No message of a server is larger than 3.5 MiB. */
const MAX_MESSAGE_BYTES = 8 * 2 ** 20;
const RETIRE_INTERVAL_MS = 1_000;

function openChannel(baseUrl: string, tls: NodeOptions["tls"]): Channel {
  const settings = { initialWindowSize: STREAM_WINDOW_BYTES };
  const sessionManager = new Http2SessionManager(baseUrl, PINGS, { ...tls, settings });
  return {
    transport: createGrpcTransport({ baseUrl, sessionManager, readMaxBytes: MAX_MESSAGE_BYTES }),
    async connect() {
      if ((await sessionManager.connect()) === "error") throw sessionManager.error();
    },
    close(isGraceful) {
      if (!isGraceful) return sessionManager.abort();
      const timer = setInterval(() => {
        if (sessionManager.state() === "open") return;
        sessionManager.abort();
        clearInterval(timer);
      }, RETIRE_INTERVAL_MS);
      timer.unref();
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
    let text: string;
    try {
      text = await readFile(this.path, "utf8");
    } catch (error) {
      if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
      throw error;
    }
    // Only a complete line is a position.
    if (!text.endsWith("\n")) throw new Error(`${this.path}: not a whole line`);
    return parsePosition(text.slice(0, -1));
  }

  async save(position: Position): Promise<void> {
    const temporary = `${this.path}.new`;
    await writeFile(temporary, `${formatPosition(position)}\n`, { flush: true });
    await rename(temporary, this.path);
    // The rename is on disk once the directory is synced.
    const directory = await open(dirname(this.path));
    await directory.sync().finally(() => directory.close());
  }
}
