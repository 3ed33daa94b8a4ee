// The conformance driver: commands as JSON lines on standard input, events as JSON lines on standard output.
import { createInterface } from "node:readline";
import { fromJson, toJson, type DescMethodUnary, type JsonObject, type JsonValue } from "@bufbuild/protobuf";
import * as v1 from "../src/gen/v1.js";
import {
  ArticleView,
  BodyFormat,
  Code,
  connect,
  CableError,
  FilePositionStore,
  fileToken,
  MemoryPositionStore,
  pages,
  type Cable,
  type Entity,
  type Feed,
  type FeedOptions,
  type Mirror,
  type Position,
} from "../src/node.js";

interface Command {
  command: string;
  id: string;
  of?: string;
  endpoints?: string[];
  timeout_ms?: number;
  token?: string;
  token_file?: string;
  method?: string;
  request?: JsonObject;
  max_pages?: number;
  filter?: JsonObject;
  start?: "now" | "snapshot" | { after: JsonObject };
  reset?: boolean;
  view?: keyof typeof VIEWS;
  body_format?: keyof typeof FORMATS;
  include_backfill?: boolean;
  checkpoint_interval_ms?: number;
  store?: string;
}

const CAPABILITIES = [
  ...["call", "pages", "stream", "follow", "mirror", "token", "token_file", "store_file", "endpoints"],
];
const VIEWS = {
  ARTICLE_VIEW_REFERENCE: ArticleView.REFERENCE,
  ARTICLE_VIEW_BASIC: ArticleView.BASIC,
  ARTICLE_VIEW_FULL: ArticleView.FULL,
};
const FORMATS = Object.fromEntries(
  Object.entries(BodyFormat).flatMap(([name, value]) =>
    typeof value === "number" ? [[`BODY_FORMAT_${name}`, value]] : [],
  ),
);
const METHODS: { [name: string]: DescMethodUnary } = {
  get_article: v1.ContentService.method.getArticle,
  list_articles: v1.ContentService.method.listArticles,
  put_article: v1.PublishingService.method.putArticle,
  patch_article: v1.PublishingService.method.patchArticle,
  remove_article: v1.PublishingService.method.removeArticle,
  put_tag: v1.PublishingService.method.putTag,
  commit: v1.PublishingService.method.commit,
  get_status: v1.StatusService.method.getStatus,
};

let client: Cable | undefined;
const feeds = new Map<string, Feed>();
const mirrors = new Map<string, Mirror>();
/** For each paused follower, the promise that its handler waits for. */
const paused = new Map<string, { until: Promise<void>; resume: () => void }>();

function print(event: string, id: string, fields: JsonObject = {}): void {
  process.stdout.write(`${JSON.stringify({ event, id, ...fields })}\n`);
}

function errorJson(cause: unknown): JsonObject {
  // The parser of requests has errors of its own.
  const error = cause instanceof CableError ? cause : new CableError(String(cause), Code.InvalidArgument);
  const code = Code[error.code].replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
  return {
    code: code === "CANCELED" ? "CANCELLED" : code,
    reason: error.reason ?? null,
    field: error.field ?? null,
    retryable: error.retryable,
    may_have_applied: error.mayHaveApplied,
    message: error.message,
  };
}

const positionJson = (position: Position): JsonValue => toJson(v1.PositionSchema, position, { alwaysEmitImplicit: true });

const itemOf = ({ value: { name, etag, revision } }: Entity): JsonObject => ({ name, etag, revision: String(revision) });

function cable(): Cable {
  if (!client) throw new CableError("connect: must come first", Code.InvalidArgument);
  return client;
}

function find<T>(all: Map<string, T>, { of = "" }: Command): T {
  const found = all.get(of);
  if (!found) throw new CableError(`of: no ${of}`, Code.InvalidArgument);
  return found;
}

async function call(command: Command): Promise<void> {
  const method = METHODS[command.method ?? ""];
  if (!method) throw new CableError(`method: no ${command.method}`, Code.InvalidArgument);
  const request = fromJson(method.input, command.request ?? {});
  const { message } = await cable().transport.unary(method, undefined, command.timeout_ms, undefined, request);
  print("result", command.id, { response: toJson(method.output, message) });
}

async function listPages(command: Command): Promise<void> {
  const request = fromJson(v1.ListArticlesRequestSchema, command.request ?? {});
  const list = (pageToken: string) => cable().content.listArticles({ ...request, pageToken });
  let [count, read] = [0, 0];
  for await (const page of pages(list, request.pageToken)) {
    for (const value of page.articles) print("item", command.id, itemOf({ case: "article", value }));
    count += page.articles.length;
    if (++read === command.max_pages) break;
  }
  print("end", command.id, { count });
}

async function stream(command: Command): Promise<void> {
  const request = fromJson(v1.StreamArticlesRequestSchema, command.request ?? {});
  let count = 0;
  for await (const value of cable().streamArticles(request)) {
    print("item", command.id, itemOf({ case: "article", value }));
    count++;
  }
  print("end", command.id, { count });
}

function feedOptions({ filter, view, body_format, checkpoint_interval_ms }: Command): FeedOptions {
  return {
    filter: filter && fromJson(v1.FeedFilterSchema, filter),
    view: view && VIEWS[view],
    bodyFormat: body_format === undefined ? undefined : FORMATS[body_format],
    checkpointIntervalMs: checkpoint_interval_ms,
  };
}

async function follow(command: Command): Promise<void> {
  const { id, start, store } = command;
  const feed = cable().feed({
    ...feedOptions(command),
    onRetry: (error) => print("retry", id, { error: errorJson(error) }),
    start: typeof start === "object" ? { after: fromJson(v1.PositionSchema, start.after) } : start,
    allowReset: command.reset,
    includeBackfill: command.include_backfill,
    positionStore:
      store === "memory" ? new MemoryPositionStore() : store ? new FilePositionStore(store.slice(5)) : undefined,
  });
  feeds.set(id, feed);
  print("following", id);
  for await (const event of feed) {
    const position: JsonObject = "position" in event ? { position: positionJson(event.position) } : {};
    switch (event.type) {
      case "changes": {
        const changes = event.changes.map(({ revision, type, name, entity }) => ({
          ...{ revision: String(revision), op: type, name },
          ...(entity && { etag: entity.value.etag }),
        }));
        print("changes", id, { ...position, changes });
        break;
      }
      case "snapshot":
        print("snapshot", id, { records: event.entities.map(itemOf) });
        break;
      case "snapshotEnd":
        print("snapshot_end", id, { ...position, count: event.count });
        break;
      case "checkpoint":
        print("checkpoint", id, { ...position, behind: event.behind });
        break;
      case "reset":
        print("reset", id, { reason: event.reason });
    }
    await paused.get(id)?.until;
  }
}

async function startMirror(command: Command): Promise<void> {
  const mirror = cable().mirror(feedOptions(command));
  mirrors.set(command.id, mirror);
  print("following", command.id);
  await mirror.ready();
  print("ready", command.id);
}

async function run(command: Command): Promise<void> {
  const { id } = command;
  switch (command.command) {
    case "hello":
      return print("hello", id, { language: "typescript", sdk: "0.1.0", capabilities: CAPABILITIES });
    case "connect": {
      const { endpoints = [], token, token_file: path, timeout_ms: timeoutMs } = command;
      client = connect({
        endpoints,
        token: path === undefined ? token : fileToken(path),
        ...(timeoutMs !== undefined && { timeoutMs }),
      });
      return print("connected", id);
    }
    case "call":
      return call(command);
    case "pages":
      return listPages(command);
    case "stream":
      return stream(command);
    case "follow":
      return follow(command);
    case "mirror":
      return startMirror(command);
    case "pause": {
      let resume = () => {};
      paused.set(id, { until: new Promise((resolve) => (resume = resolve)), resume });
      return print("paused", id);
    }
    case "resume":
      paused.get(id)?.resume();
      paused.delete(id);
      return print("resumed", id);
    case "state": {
      const { position, entities } = find(mirrors, command);
      const items = Array.from(entities.values(), itemOf);
      return print("state", id, { position: position ? positionJson(position) : null, items });
    }
    case "stop": {
      const of = command.of ?? "";
      await (mirrors.get(of) ?? find(feeds, command)).close();
      return print("stopped", id);
    }
    default:
      throw new CableError(`command: no ${command.command}`, Code.InvalidArgument);
  }
}

const input = createInterface({ input: process.stdin });
input.on("line", (line) => {
  const command = JSON.parse(line) as Command;
  run(command).catch((error: unknown) => print("error", command.id, errorJson(error)));
});
input.on("close", () => process.exit(0));
