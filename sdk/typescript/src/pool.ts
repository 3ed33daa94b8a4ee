import { Code, type Transport } from "@connectrpc/connect";
import { CableError } from "./errors.js";
import { now } from "./time.js";

/** A connection to one endpoint. */
export interface Channel {
  readonly transport: Transport;
  /** Connects if necessary. Rejects if the server cannot be reached. A browser connects by itself. */
  connect?(): Promise<void>;
  /** Closes the connection: once its calls have ended, or at once. */
  close?(isGraceful: boolean): void;
}

export type ChannelFactory = (endpoint: string) => Channel;

/** The time for which calls avoid a node that has failed, if another one is there. */
const AVOIDED_MS = 5_000;

/** An endpoint: its connection, its calls in flight and its health. */
export class Node {
  calls = 0;
  #avoidedUntil = 0;
  #channel: Channel | undefined;

  constructor(readonly url: string, private readonly open: ChannelFactory) {}

  get channel(): Channel { return (this.#channel ??= this.open(this.url)); }

  /** Whether the traffic is encrypted, or stays on this machine. */
  get isPrivate(): boolean { return /^(https:|http:\/\/(localhost|127(\.\d+){3}|\[::1\])(:\d+)?$)/.test(this.url); }

  /** The rank by which nodes are tried: a usable one that is least busy, else the one that failed first. */
  rank(): number { return Math.max(this.#avoidedUntil - now(), 0) * 1e6 + this.calls + Math.random(); }

  /** Reports the outcome of a call. */
  report(error?: CableError): void {
    this.#avoidedUntil = error?.connection !== undefined || error?.reason === "DRAINING" ? now() + AVOIDED_MS : 0;
  }

  /** Gives up the connection: it ends with its calls or, if not graceful, before. New calls open another one. */
  disconnect(isGraceful: boolean): void { this.#channel?.close?.(isGraceful); this.#channel = undefined; }
}

/** Returns the nodes of a client. */
export function parseEndpoints(endpoints: string | readonly string[], open: ChannelFactory): Node[] {
  const texts = [endpoints].flat().flatMap((list) => list.split(",").map((text) => text.trim()));
  if (!texts.some(Boolean)) throw new CableError("endpoints: none is set", Code.InvalidArgument);
  return texts.filter(Boolean).map((text) => {
    // An empty port would be the one of the scheme.
    const url = URL.canParse(text) && !/:0*\/?$/.test(text) ? new URL(text) : undefined;
    // Neither a path nor a user: the URL is its origin.
    if (url && /^https?:$/.test(url.protocol) && url.href === `${url.origin}/`) return new Node(url.origin, open);
    throw new CableError(`endpoints: want http://HOST:PORT or https://HOST:PORT, not ${text}`, Code.InvalidArgument);
  });
}

/** Returns the nodes in the order in which to try them. */
export const ranked = (nodes: readonly Node[]): Node[] =>
  nodes.map((node) => ({ node, rank: node.rank() })).sort((a, b) => a.rank - b.rank).map(({ node }) => node);
