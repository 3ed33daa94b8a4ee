import { Code, type Transport } from "@connectrpc/connect";
import { CableError } from "./errors.js";
import { jittered, now } from "./time.js";

/** A connection to one endpoint. */
export interface Channel {
  readonly transport: Transport;
  /** Connects if necessary. Rejects if the server cannot be reached. A browser connects by itself. */
  connect?(): Promise<void>;
  /** Closes the connection: once its calls have ended, or at once. */
  close?(isGraceful: boolean): void;
}

export type ChannelFactory = (endpoint: string) => Channel;

const FIRST_EJECTION_MS = 250;
const LONGEST_EJECTION_MS = 10_000;
/** The time for which other calls avoid a node while one call probes it. */
const PROBE_MS = 1_000;

/** An endpoint: its connection, its calls in flight and its health. */
export class Node {
  calls = 0;
  ejectedUntil = 0;
  #failures = 0;
  #channel: Channel | undefined;

  constructor(readonly url: string, private readonly open: ChannelFactory) {}

  get channel(): Channel {
    return (this.#channel ??= this.open(this.url));
  }

  /** Whether the traffic is encrypted, or stays on this machine. */
  get isPrivate(): boolean {
    return /^(https:|http:\/\/(localhost|127(\.\d+){3}|\[::1\])(:\d+)?$)/.test(this.url);
  }

  /** Reports the outcome of a call. A node that fails is ejected: for 250 ms at first, doubling up to 10 s. */
  report(error?: CableError): void {
    const isFailure = error !== undefined && (error.connection !== undefined || error.reason === "DRAINING");
    const longest = Math.min(FIRST_EJECTION_MS * 2 ** this.#failures, LONGEST_EJECTION_MS);
    this.ejectedUntil = isFailure ? now() + jittered(longest) : 0;
    this.#failures = isFailure ? this.#failures + 1 : 0;
  }

  /** Lets new calls open another connection. */
  reconnect(): void {
    this.#channel?.close?.(true);
    this.#channel = undefined;
  }

  close(): void {
    this.#channel?.close?.(false);
    this.#channel = undefined;
  }
}

/** Returns the nodes of a client. */
export function parseEndpoints(endpoints: string | readonly string[], open: ChannelFactory): Node[] {
  const texts = [endpoints].flat().flatMap((text) => text.split(",").map((part) => part.trim()));
  const nodes = texts.filter((text) => text !== "").map((text) => {
    const url = URL.canParse(text) ? new URL(text) : undefined;
    // Neither a path nor a user: the URL is its origin.
    if (url && /^https?:$/.test(url.protocol) && url.href === `${url.origin}/`) return new Node(url.origin, open);
    throw new CableError(`endpoints: want http://HOST:PORT or https://HOST:PORT, not ${text}`, Code.InvalidArgument);
  });
  if (nodes.length === 0) throw new CableError("endpoints: none is set", Code.InvalidArgument);
  return nodes;
}

/** Returns the least busy usable node or, if all are ejected, the one whose ejection ends first. */
export function pick(nodes: readonly Node[]): Node | undefined {
  const time = now();
  const rank = (node: Node) => Math.max(node.ejectedUntil - time, 0) * 1e6 + node.calls + Math.random();
  const ranked = nodes.map((node) => ({ node, rank: rank(node) })).sort((one, other) => one.rank - other.rank);
  const node = ranked[0]?.node;
  // One call at a time probes an ejected node.
  if (node && node.ejectedUntil > 0) node.ejectedUntil = time + PROBE_MS;
  return node;
}
