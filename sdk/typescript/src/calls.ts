import { clone, create, type DescMessage, type DescMethodStreaming } from "@bufbuild/protobuf";
import type { MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { reflect } from "@bufbuild/protobuf/reflect";
import { Code, type StreamResponse, type Transport } from "@connectrpc/connect";
import { CableError, cancelled, describe, isOutcomeUnknown } from "./errors.js";
import { parseEndpoints, pick, type ChannelFactory, type Node } from "./pool.js";
import { hex } from "./position.js";
import { backoff, now, sleep, within } from "./time.js";
import { Credentials, type TokenSource } from "./token.js";

/** The settings of a client. */
export interface ClientOptions {
  /** One or several nodes of the same Cable, as a list or separated by commas: `https://a:7190,https://b:7190`. */
  endpoints: string | readonly string[];
  token?: TokenSource | undefined;
  /** Whether to send the token without TLS to other machines too. */
  allowPlaintextToken?: boolean;
  /** The deadline of a call, all attempts together; of a stream, until it opens. If unset, 10 s. */
  timeoutMs?: number;
  /** The longest time of one attempt. If unset, half of the deadline, so that another one can follow. */
  attemptTimeoutMs?: number;
  /** The largest number of attempts of a call. If unset, 3. A feed is not limited. */
  attempts?: number;
}

interface CallOptions {
  timeoutMs?: number | undefined;
  signal?: AbortSignal | undefined;
  header?: HeadersInit | undefined;
  attempts?: number | undefined;
}

interface Call<T> extends CallOptions {
  kind: "read" | "write" | "stream";
  send(transport: Transport, signal: AbortSignal, header: Headers): Promise<T>;
}

/** A response, with what it came from. */
interface Opened<T> {
  response: T;
  node: Node;
  token: string | undefined;
  controller: AbortController;
}

/** The longest time for connecting to one endpoint. */
const CONNECT_MS = 2_000;
const LONGEST_WAIT_MS = 2_000;
/** An attempt without a response for this long gives up its connection, which may be half open. */
const HALF_OPEN_MS = 1_000;

/** The path of every call: it picks a node, adds the token, and retries what is harmless. */
export class Calls implements Transport {
  readonly nodes: readonly Node[];
  /** The deadline of a call that has none of its own. */
  readonly timeoutMs: number;
  readonly #credentials: Credentials | undefined;

  constructor(private readonly options: ClientOptions, open: ChannelFactory) {
    for (const name of ["timeoutMs", "attemptTimeoutMs", "attempts"] as const) {
      if (!((options[name] ?? 1) > 0)) throw new CableError(`${name}: must be above 0`, Code.InvalidArgument);
    }
    this.timeoutMs = options.timeoutMs ?? 10_000;
    this.nodes = parseEndpoints(options.endpoints, open);
    if (options.token === undefined) return;
    this.#credentials = new Credentials(options.token);
    const leak = this.nodes.find((node) => !node.isPrivate && options.allowPlaintextToken !== true);
    if (!leak) return;
    const message = `token: not sent to ${leak.url} without TLS: use https://, or set allowPlaintextToken`;
    throw new CableError(message, Code.InvalidArgument);
  }

  readonly unary: Transport["unary"] = async (method, signal, timeoutMs, header, input) => {
    const message = withRequestId(method.input, input);
    const { node, response } = await this.#run({
      ...{ timeoutMs, signal, header, kind: method.input.field["requestId"] ? "write" : "read" },
      send: (transport, signal, header) => transport.unary(method, signal, 0, header, message),
    });
    node.calls--;
    return response;
  };

  /** Opens a stream once: the first attempt consumes the messages of the client. */
  readonly stream: Transport["stream"] = async (method, signal, timeoutMs, header, input) => {
    const opened = await this.#open(method, () => input, { timeoutMs, signal, header, attempts: 1 });
    return { ...opened.response, message: messagesOf(opened, signal) };
  };

  /** Opens a stream of responses to one request. A silence of the server for longer than `silenceMs` ends it. */
  async open<I extends DescMessage, O extends DescMessage>(
    method: DescMethodStreaming<I, O>,
    request: MessageInitShape<I>,
    options: CallOptions & { silenceMs: number },
  ): Promise<{ messages: AsyncGenerator<MessageShape<O>, undefined>; token: string | undefined }> {
    async function* input() {
      yield request;
    }
    const opened = await this.#open(method, input, options);
    return { messages: messagesOf(opened, options.signal, options.silenceMs), token: opened.token };
  }

  /** Returns whether there is another token than the one that a server has refused. */
  async replaceToken(token: string | undefined, error: CableError): Promise<boolean> {
    if (error.code !== Code.Unauthenticated || token === undefined) return false;
    return (await this.#credentials?.replace(token)) ?? false;
  }

  #open<I extends DescMessage, O extends DescMessage>(
    method: DescMethodStreaming<I, O>,
    input: () => AsyncIterable<MessageInitShape<I>>,
    options: CallOptions,
  ): Promise<Opened<StreamResponse<I, O>>> {
    const send: Call<StreamResponse<I, O>>["send"] = (transport, signal, header) =>
      transport.stream(method, signal, 0, header, input());
    return this.#run({ ...options, kind: "stream", send });
  }

  async #run<T>(call: Call<T>): Promise<Opened<T>> {
    const { timeoutMs = this.timeoutMs, attempts = this.options.attempts ?? 3, signal } = call;
    const attemptMs = attempts === 1 ? timeoutMs : (this.options.attemptTimeoutMs ?? timeoutMs / 2);
    const deadline = now() + timeoutMs;
    let [mayHaveApplied, isTokenReplaced] = [false, false];
    for (let failures = 1; ; failures++) {
      let token: string | undefined;
      let error: CableError;
      try {
        if (this.#credentials) token = await within(this.#credentials.current(), signal, deadline - now(), expire);
        return await this.#reach(call, Math.min(now() + attemptMs, deadline), deadline, token);
      } catch (cause) {
        error = signal?.aborted ? cancelled(signal) : CableError.from(cause);
      }
      // The server looks up the request id before it refuses a write: a refusal settles earlier attempts too.
      const isUnknown = isOutcomeUnknown(error);
      const isRefusal = !isUnknown && error.connection === undefined && !error.retryable;
      mayHaveApplied = call.kind === "write" && (isUnknown || (mayHaveApplied && !isRefusal));
      error.mayHaveApplied = mayHaveApplied;
      if (!isTokenReplaced && (await this.replaceToken(token, error))) {
        isTokenReplaced = true;
        continue;
      }
      const wait = backoff(failures, LONGEST_WAIT_MS, error);
      if (!error.retryable || failures >= attempts || now() + wait >= deadline) throw error;
      await sleep(wait, signal).catch(() => Promise.reject(error));
    }
  }

  /** Attempts a call on the first node that can be reached. A node that cannot has not received the call. */
  async #reach<T>(call: Call<T>, until: number, deadline: number, token: string | undefined): Promise<Opened<T>> {
    const untried = new Set(this.nodes);
    for (;;) {
      const node = pick([...untried]);
      if (!node) throw new CableError("no endpoint can be reached", Code.Unavailable, { connection: "refused" });
      untried.delete(node);
      node.calls++;
      const controller = new AbortController();
      const header = new Headers(call.header);
      if (token !== undefined) header.set("authorization", `Bearer ${token}`);
      // The server ends a stream at its deadline.
      if (call.kind !== "stream") header.set("grpc-timeout", `${Math.max(1, Math.ceil(deadline - now()))}m`);
      try {
        await connect(node, call.signal, until);
        const start = now();
        const sent = call.send(node.channel.transport, controller.signal, header);
        const response = await within(sent, call.signal, until - start, () => {
          const waited = Math.round(now() - start);
          if (waited >= HALF_OPEN_MS) node.reconnect();
          const code = until >= deadline ? Code.DeadlineExceeded : Code.Unavailable;
          throw new CableError(`no response from ${node.url} within ${waited} ms`, code, { connection: "lost" });
        });
        node.report();
        return { response, node, token, controller };
      } catch (cause) {
        node.calls--;
        controller.abort();
        if (call.signal?.aborted) throw cause;
        const error = CableError.from(cause, node.url);
        node.report(error);
        if (error.connection !== "refused" || untried.size === 0 || now() >= until) throw error;
      }
    }
  }
}

async function connect(node: Node, signal: AbortSignal | undefined, until: number): Promise<void> {
  const limit = Math.min(CONNECT_MS, until - now());
  const refuse = (problem: string, cause?: unknown): never => {
    const message = `cannot reach ${node.url}: ${problem}`;
    throw new CableError(message, Code.Unavailable, { connection: "refused", cause });
  };
  const connected = node.channel.connect?.().catch((cause: unknown) => refuse(describe(cause), cause));
  await within(Promise.resolve(connected), signal, limit, () => {
    node.reconnect();
    refuse(`no connection within ${Math.round(limit)} ms`);
  });
}

function expire(): never {
  throw new CableError("no token before the deadline", Code.DeadlineExceeded, { connection: "refused" });
}

/** Returns the message with a request id, if it can have one: that of the caller, or a random one. */
function withRequestId<I extends DescMessage>(schema: I, input: MessageInitShape<I>): MessageShape<I> {
  const message = create(schema, input);
  const field = schema.field["requestId"];
  if (field?.fieldKind !== "scalar" || reflect(schema, message).get(field) !== "") return message;
  const copy = clone(schema, message);
  reflect(schema, copy).set(field, hex(crypto.getRandomValues(new Uint8Array(16))));
  return copy;
}

/** Returns the messages of an open stream. To leave the iteration closes the stream. */
async function* messagesOf<I extends DescMessage, O extends DescMessage>(
  { response, node, controller }: Opened<StreamResponse<I, O>>,
  signal: AbortSignal | undefined,
  silenceMs = Number.POSITIVE_INFINITY,
): AsyncGenerator<MessageShape<O>, undefined> {
  const close = () => controller.abort();
  signal?.addEventListener("abort", close);
  try {
    const messages = response.message[Symbol.asyncIterator]();
    for (;;) {
      // The timer belongs to this stream and this message.
      const next = await within(messages.next(), signal, silenceMs, () => {
        node.reconnect();
        const message = `no message from ${node.url} for ${silenceMs} ms`;
        throw new CableError(message, Code.Unavailable, { connection: "lost" });
      });
      if (next.done === true) return undefined;
      yield next.value;
    }
  } catch (cause) {
    if (signal?.aborted) throw cancelled(signal);
    const error = CableError.from(cause, node.url);
    node.report(error);
    throw error;
  } finally {
    node.calls--;
    signal?.removeEventListener("abort", close);
    close();
  }
}
