import type { DescService, MessageInitShape } from "@bufbuild/protobuf";
import { Code, createClient, type CallOptions, type Client, type Transport } from "@connectrpc/connect";
import { Calls, once, type ClientOptions } from "./calls.js";
import { CableError, malformed } from "./errors.js";
import { Feed, type FeedOptions } from "./feed.js";
import * as v1 from "./gen/v1.js";
import { Mirror, type MirrorOptions } from "./mirror.js";
import type { ChannelFactory } from "./pool.js";
import { consumerStore } from "./position.js";

/** The options of one call. */
export type CallSettings = Pick<CallOptions, "signal" | "timeoutMs">;

type ListRequest = MessageInitShape<typeof v1.ListArticlesRequestSchema>;
type StreamRequest = MessageInitShape<typeof v1.StreamArticlesRequestSchema>;

/** The longest silence of a stream of articles. */
const SILENCE_MS = 30_000;
const MIRRORED = { start: "snapshot", allowReset: true, includeBackfill: true } as const;

/** A client of one Cable with one or several nodes. It connects when it makes its first call. */
export class Cable {
  /** Reads of live versions. */
  readonly content: Client<typeof v1.ContentService>;
  /** Writes. Each one gets a random request id unless it has one, and keeps it over retries. */
  readonly publishing: Client<typeof v1.PublishingService>;
  readonly status: Client<typeof v1.StatusService>;
  readonly #calls: Calls;

  /** Use `connect` of `@cable/client/node` or `@cable/client/web` instead. */
  constructor(options: ClientOptions, open: ChannelFactory, closing = new AbortController()) {
    this.#calls = new Calls(options, open, closing);
    this.content = this.client(v1.ContentService);
    this.publishing = this.client(v1.PublishingService);
    this.status = this.client(v1.StatusService);
  }

  /** The transport of all calls, with the endpoints, the token, the deadlines and the retries of this client. */
  get transport(): Transport { return this.#calls; }

  /** Returns a client of another service. To end one of its streams early, pass a signal and abort it. */
  client<S extends DescService>(service: S): Client<S> { return createClient(service, this.#calls); }

  /** Lists the articles that match a filter. If the server cannot read some of them, an error follows the others. */
  async *articles(request: ListRequest = {}, settings?: CallSettings): AsyncGenerator<v1.Article, undefined> {
    let damage: v1.Damage | undefined;
    const list = (pageToken: string) => this.content.listArticles({ ...request, pageToken }, settings);
    for await (const page of pages(list, request.pageToken)) {
      yield* page.articles;
      damage = page.damage ?? damage;
    }
    if (damage) throw CableError.incomplete(damage);
  }

  /** Streams all articles that match a filter. It ends without an error only if it is complete. */
  async *streamArticles(request: StreamRequest = {}, settings?: CallSettings): AsyncGenerator<v1.Article, undefined> {
    const { streamArticles } = v1.ContentService.method;
    const stream = await this.#calls.open(streamArticles, () => once(request), { ...settings, silenceMs: SILENCE_MS });
    let count = 0n;
    for await (const { articles, end } of stream.messages) {
      yield* articles;
      count += BigInt(articles.length);
      if (end?.damage) throw CableError.incomplete(end.damage);
      if (end?.count === count) return undefined;
      if (end) break;
    }
    throw new CableError(`the stream ended early, after ${count} articles`, Code.Unavailable);
  }

  /** Follows the changes that match a filter. The feed connects when its first event is requested. */
  feed(options: FeedOptions = {}): Feed { return new Feed(this.#calls, options); }

  /** Mirrors what a filter matches, and keeps the copy up to date until it is closed. */
  mirror({ consumer, ...options }: MirrorOptions = {}): Mirror {
    // The node must not start the feed: a stored position without its content would leave a gap.
    return new Mirror(this.feed({ ...options, ...MIRRORED, positionStore: consumerStore(this.#calls, consumer) }));
  }

  /** Closes all connections. Calls, feeds and mirrors that still run end with an error, and so do later ones. */
  close(): void { this.#calls.close(); }
}

/**
 * Iterates over the pages of a listing: `pages((pageToken) => cable.content.listTags({ pageToken }))`. A page is
 * requested once the previous one is consumed.
 */
export async function* pages<R extends { nextPageToken: string }>(list: (pageToken: string) => Promise<R>, first = "") {
  for (let token = first, page: R | undefined; !page || token !== ""; token = page.nextPageToken) {
    page = await list(token);
    if (token !== "" && page.nextPageToken === token) throw malformed("a page that leads to itself");
    yield page;
  }
}
