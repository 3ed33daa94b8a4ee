import { clone, create, type DescMessage, type DescMethodStreaming } from "@bufbuild/protobuf";
import type { MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { Code, type CallOptions as ConnectOptions, type StreamResponse, type Transport } from "@connectrpc/connect";
import { CableError, describe, isOutcomeUnknown, stoppedBy } from "./errors.js";
import { parseEndpoints, ranked, type ChannelFactory, type Node } from "./pool.js";
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
  /** The longest time of one attempt. If unset, half of the deadline, but at least 2 s. */
  attemptTimeoutMs?: number;
  /** The largest number of attempts of a call. If unset, 3. A feed is not limited. */
  attempts?: number;
}

type CallOptions = Pick<ConnectOptions, "timeoutMs" | "signal" | "headers"> & { attempts?: number };
type Call = CallOptions & { kind: "read" | "write" | "stream" };
type StreamOptions = CallOptions & { silenceMs?: number };
type Send<T> = (transport: Transport, signal: AbortSignal, headers: Headers) => Promise<T>;

/** A response, with what it came from. */
interface Opened<T> {
  response: T;
  node: Node;
  token: string | undefined;
  closed: AbortSignal;
  /** Ends the call, which no longer counts as in flight. */
  end(): void;
}

/** The longest time for connecting to one endpoint. */
const CONNECT_MS = 2_000;
const LONGEST_WAIT_MS = 2_000;
/** An attempt that fails after this time gives up its connection. */
const HALF_OPEN_MS = 1_000;

/** The path of every call: it picks a node, adds the token, and retries what is harmless. */
export class Calls implements Transport {
  readonly nodes: readonly Node[];
  /** The deadline of a call that has none of its own. */
  readonly timeoutMs: number;
  readonly #credentials: Credentials | undefined;

  constructor(private readonly options: ClientOptions, open: ChannelFactory, private readonly closing: AbortController) {
    const invalid = (["timeoutMs", "attemptTimeoutMs", "attempts"] as const).find((name) => !((options[name] ?? 1) > 0));
    if (invalid) throw new CableError(`${invalid}: must be above 0`, Code.InvalidArgument);
    this.timeoutMs = options.timeoutMs ?? 10_000;
    this.nodes = parseEndpoints(options.endpoints, open);
    const leak = this.nodes.find(({ isPrivate }) => !isPrivate && !options.allowPlaintextToken);
    if (options.token === undefined) return;
    const message = `token: not sent to ${leak?.url} without TLS: use https://, or set allowPlaintextToken`;
    if (leak) throw new CableError(message, Code.InvalidArgument);
    this.#credentials = new Credentials(options.token);
  }

  readonly unary: Transport["unary"] = async (method, signal, timeoutMs, headers, input) => {
    const message = withRequestId(method.input, input);
    const kind = "requestId" in message ? "write" : "read";
    const opened = await this.#run({ timeoutMs, signal, headers, kind }, (transport, signal, headers) =>
      transport.unary(method, signal, 0, headers, message),
    );
    opened.end();
    return opened.response;
  };

  /** Opens a stream once: the first attempt consumes the messages of the client. */
  readonly stream: Transport["stream"] = async (method, signal, timeoutMs, headers, input) => {
    const opened = await this.open(method, () => input, { timeoutMs, signal, headers, attempts: 1 });
    return { ...opened.response, message: opened.messages };
  };

  /** Opens a stream. A silence of the server for longer than `silenceMs` ends it. */
  async open<I extends DescMessage, O extends DescMessage>(
    method: DescMethodStreaming<I, O>,
    input: () => AsyncIterable<MessageInitShape<I>>,
    options: StreamOptions,
  ): Promise<Opened<StreamResponse<I, O>> & { messages: AsyncGenerator<MessageShape<O>, undefined> }> {
    const opened = await this.#run({ ...options, kind: "stream" }, (transport, signal, headers) =>
      transport.stream(method, signal, 0, headers, input()),
    );
    return { ...opened, messages: messagesOf(opened.response.message, opened, options) };
  }

  /** The signal that aborts when the client is closed. */
  get closed(): AbortSignal { return this.closing.signal; }

  close(): void { this.closing.abort(); this.nodes.forEach((node) => node.disconnect(false)); }

  /** Returns whether there is another token than the one that a server has refused. */
  async replaceToken(token: string | undefined, error: CableError): Promise<boolean> {
    if (error.code !== Code.Unauthenticated || token === undefined) return false;
    return (await this.#credentials?.replace(token)) === true;
  }

  async #run<T>(call: Call, send: Send<T>): Promise<Opened<T>> {
    const { timeoutMs = this.timeoutMs, attempts = this.options.attempts ?? 3, signal } = call;
    const attemptMs = attempts === 1 ? timeoutMs : (this.options.attemptTimeoutMs ?? Math.max(timeoutMs / 2, 2_000));
    const deadline = now() + timeoutMs;
    let [mayHaveApplied, isTokenReplaced] = [false, false];
    for (let failures = 1; ; failures++) {
      let [token, isSent]: [string | undefined, boolean] = [undefined, false];
      let error: CableError;
      try {
        token = await within(Promise.resolve(this.#credentials?.current()), [signal, this.closed], deadline - now(), () => {
          throw new CableError("no token before the deadline", Code.DeadlineExceeded, { connection: "refused" });
        });
        isSent = true;
        return await this.#reach(call, send, Math.min(now() + attemptMs, deadline), deadline, token);
      } catch (cause) {
        error = stoppedBy(signal, this.closed) ?? CableError.from(cause);
      }
      // The server looks up the request id before it refuses a write: a refusal settles earlier attempts too.
      const isUnknown = isSent && isOutcomeUnknown(error);
      const isRefusal = isSent && !isUnknown && error.connection === undefined && error.code !== Code.Unavailable;
      mayHaveApplied = call.kind === "write" && (isUnknown || (mayHaveApplied && !isRefusal));
      error.mayHaveApplied = mayHaveApplied;
      if (!isTokenReplaced && (isTokenReplaced = await this.replaceToken(token, error))) continue;
      const wait = backoff(failures, LONGEST_WAIT_MS, error);
      if (error.code !== Code.Unavailable || failures >= attempts || now() + wait >= deadline) throw error;
      await sleep(wait, signal, this.closed).catch(() => undefined);
    }
  }

  /** Attempts a call on the first node that can be reached. A node that cannot has not received the call. */
  async #reach<T>(call: Call, send: Send<T>, until: number, deadline: number, token?: string): Promise<Opened<T>> {
    for (const [index, node] of ranked(this.nodes).entries()) {
      node.calls++;
      const controller = new AbortController();
      // The listener is removed when the call ends.
      call.signal?.addEventListener("abort", () => controller.abort(), { signal: controller.signal });
      const end = (): void => { node.calls--; controller.abort(); };
      const headers = new Headers(call.headers);
      if (token !== undefined) headers.set("authorization", `Bearer ${token}`);
      // The server ends a stream at its deadline.
      if (call.kind !== "stream") headers.set("grpc-timeout", `${Math.max(1, Math.ceil(deadline - now()))}m`);
      const start = now();
      try {
        await connect(node, [call.signal, this.closed], Math.min(CONNECT_MS, until - now()));
        const sent = send(node.channel.transport, controller.signal, headers);
        const response = await within(sent, [call.signal, this.closed], until - now(), () => {
          const message = `no response from ${node.url} within ${Math.round(now() - start)} ms`;
          const code = until >= deadline ? Code.DeadlineExceeded : Code.Unavailable;
          throw new CableError(message, code, { connection: "lost" });
        });
        node.report();
        return { response, node, token, closed: this.closed, end };
      } catch (cause) {
        end();
        if (call.signal?.aborted || this.closed.aborted) throw cause;
        const error = CableError.from(cause, node.url);
        // A connection that takes too long may be half open, or never open.
        if (error.connection && now() - start >= HALF_OPEN_MS) node.disconnect(true);
        node.report(error);
        if (error.connection !== "refused" || index + 1 === this.nodes.length || now() >= until) throw error;
      }
    }
    throw new CableError("no endpoint", Code.Unavailable);
  }
}

async function connect({ channel, url }: Node, signals: (AbortSignal | undefined)[], limitMs: number): Promise<void> {
  const refuse = (problem: string, cause?: unknown): never => {
    throw new CableError(`cannot reach ${url}: ${problem}`, Code.Unavailable, { connection: "refused", cause });
  };
  const connected = channel.connect?.().catch((cause: unknown) => refuse(describe(cause), cause));
  await within(Promise.resolve(connected), signals, limitMs, () => refuse(`no connection within ${Math.round(limitMs)} ms`));
}

/** Returns the message with a request id, if it can have one: that of the caller, or a random one. */
function withRequestId<I extends DescMessage>(schema: I, input: MessageInitShape<I>): MessageShape<I> {
  try {
    const message = create(schema, input);
    if (!("requestId" in message)) return message;
    const requestId = message.requestId || hex(crypto.getRandomValues(new Uint8Array(16)));
    return Object.assign(clone(schema, message), { requestId }); // The copy is checked, unlike what is encoded.
  } catch (cause) { // A value of a wrong type, or a text with half of a surrogate pair.
    throw new CableError(`request: ${describe(cause)}`, Code.InvalidArgument, { cause });
  }
}

/** Returns the messages of an open stream. To leave the iteration closes the stream. */
async function* messagesOf<T>(stream: AsyncIterable<T>, { node, closed, end }: Opened<unknown>, options: StreamOptions) {
  const { signal, silenceMs = Number.POSITIVE_INFINITY } = options;
  try {
    const messages = stream[Symbol.asyncIterator]();
    for (;;) {
      // The timer belongs to this stream and this message.
      const next = await within(messages.next(), [signal, closed], silenceMs, () => {
        node.disconnect(true);
        const message = `no message from ${node.url} for ${silenceMs} ms`;
        throw new CableError(message, Code.Unavailable, { connection: "lost" });
      });
      if (next.done === true) return undefined;
      yield next.value;
    }
  } catch (cause) {
    const error = stoppedBy(signal, closed) ?? CableError.from(cause, node.url);
    node.report(error);
    throw error;
  } finally {
    end();
  }
}

/** Returns the input of a call with one request. */
export async function* once<T>(request: T): AsyncGenerator<T, undefined> { yield request; }
