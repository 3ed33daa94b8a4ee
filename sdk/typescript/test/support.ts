import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { once } from "node:events";
import { accessSync, constants } from "node:fs";
import { createServer as createHttp2Server, type Http2Server, type ServerHttp2Session } from "node:http2";
import { connect as connectSocket, createServer, type Socket } from "node:net";
import { delimiter, join, resolve } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { create, type DescMessage, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { ConnectError, type Code, type ConnectRouter } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { ErrorInfoSchema, RetryInfoSchema } from "../src/gen/google/rpc/error_details_pb.js";
import { CableError, TestServer, type Cable, type Feed, type FeedEvent, type TestServerOptions } from "../src/node.js";

/** Returns the reason to skip the tests that need the program. In CI it must be there. */
function missingProgram(): string | false {
  const named = process.env["CABLE_PROGRAM"];
  const directories = (process.env["PATH"] ?? "").split(delimiter);
  const paths = named ? [named] : directories.map((directory) => join(directory, "cable"));
  const isThere = paths.some((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
  if (isThere) return false;
  const problem = `no program at ${named ?? "cable in PATH"}: set CABLE_PROGRAM to the program cable`;
  if (process.env["CI"]) throw new Error(problem);
  return problem;
}

/** The reason to skip the tests that need the program. */
export const skip = missingProgram();

/** A test against a server of its own, which is stopped at the end. */
export function serverTest(
  name: string,
  body: (server: TestServer) => Promise<void>,
  options: TestServerOptions = {},
): void {
  test(name, { skip, timeout: 120_000 }, async () => {
    await using server = await TestServer.start(options);
    await body(server);
  });
}

/** A TCP proxy in front of a server: it can cut connections, and hold back what the server sends. */
export class Proxy implements AsyncDisposable {
  readonly #server = createServer((client) => this.#accept(client));
  readonly #sockets = new Set<Socket>();
  /** Whether what the server sends is dropped. */
  isDeaf = false;
  connections = 0;

  private constructor(private readonly target: URL) {}

  static async start(target: string): Promise<Proxy> {
    const proxy = new Proxy(new URL(target));
    proxy.#server.listen(0, "127.0.0.1");
    await once(proxy.#server, "listening");
    return proxy;
  }

  get endpoint(): string {
    const address = this.#server.address();
    return `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`;
  }

  /** Cuts all connections. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut();
    this.#server.close();
    await once(this.#server, "close");
  }

  #accept(client: Socket): void {
    this.connections++;
    const server = connectSocket(Number(this.target.port), this.target.hostname);
    client.on("data", (data) => server.write(data));
    server.on("data", (data) => this.isDeaf || client.write(data));
    for (const [socket, other] of [[client, server] as const, [server, client] as const]) {
      this.#sockets.add(socket);
      socket.on("error", () => undefined);
      socket.on("close", () => {
        this.#sockets.delete(socket);
        other.destroy();
      });
    }
  }
}

/** A gRPC server whose services are written by a test. */
export class FakeServer implements AsyncDisposable {
  readonly #sessions = new Set<ServerHttp2Session>();
  private constructor(private readonly server: Http2Server) {}

  static async start(routes: (router: ConnectRouter) => void): Promise<FakeServer> {
    const fake = new FakeServer(createHttp2Server(connectNodeAdapter({ routes })));
    fake.server.on("session", (session) => fake.#sessions.add(session));
    fake.server.listen(0, "127.0.0.1");
    await once(fake.server, "listening");
    return fake;
  }

  get endpoint(): string {
    const address = this.server.address();
    return `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const session of this.#sessions) session.destroy();
    this.server.close();
    await once(this.server, "close");
  }
}

/** Returns the error of a server with a reason. */
export function refusal(code: Code, reason: string, retryAfterMs?: number): ConnectError {
  const details: { desc: DescMessage; value: MessageInitShape<DescMessage> }[] = [
    { desc: ErrorInfoSchema, value: { reason, domain: "cable.v1", metadata: {} } as MessageInitShape<DescMessage> },
  ];
  if (retryAfterMs !== undefined) {
    const value = create(RetryInfoSchema, { retryDelay: durationFromMs(retryAfterMs) });
    details.push({ desc: RetryInfoSchema, value });
  }
  return new ConnectError(`refused: ${reason}`, code, undefined, details);
}

/** Returns the error of a promise that must reject with a CableError. */
export async function failure(promise: Promise<unknown>): Promise<CableError> {
  try {
    await promise;
  } catch (error) {
    assert.ok(error instanceof CableError, String(error));
    return error;
  }
  assert.fail("succeeded");
}

/** Returns the next event of a type. */
export async function nextOf<T extends FeedEvent["type"]>(feed: Feed, type: T): Promise<Extract<FeedEvent, { type: T }>> {
  for (;;) {
    const next = await feed.next();
    assert.ok(next.done !== true, "the feed ended");
    if (next.value.type === type) return next.value as Extract<FeedEvent, { type: T }>;
  }
}

export async function put(cable: Cable, id: string, headline = id, tags: string[] = ["tags/a"]): Promise<bigint> {
  const { result } = await cable.publishing.putArticle({ article: { name: `articles/${id}`, headline, tags } });
  assert.ok(result);
  return result.revision;
}

/** Returns the revisions of the consumers that `cable consumer ls` shows, by name. */
export async function consumers(server: TestServer): Promise<Record<string, bigint>> {
  const program = resolve(process.env["CABLE_PROGRAM"] || "cable");
  const args = ["consumer", "ls", "--endpoint", server.endpoint, "-o", "jsonl"];
  const { stdout } = await promisify(execFile)(program, args, { cwd: server.directory });
  const lines = stdout.split("\n").filter(Boolean).map((line) => JSON.parse(line));
  return Object.fromEntries(lines.map(({ consumer, position }) => [consumer, BigInt(position.revision ?? 0)]));
}

/** Creates a token on a server, as an operator does. */
export function newToken(server: TestServer, name: string): string {
  const program = process.env["CABLE_PROGRAM"] ?? "cable";
  const data = join(server.directory, "store");
  return execFileSync(program, ["token", "new", name, "--role", "publisher", "--data", data], { encoding: "utf8", stdio: "pipe" }).trim();
}
