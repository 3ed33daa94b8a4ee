import assert from "node:assert/strict";
import { ArticleView, Code, connect, type Cable, type FeedEvent } from "../src/web.js";
import { failure, put, serverTest } from "./support.js";

async function names(cable: Cable): Promise<string[]> {
  const all: string[] = [];
  for await (const article of cable.streamArticles({ view: ArticleView.REFERENCE })) all.push(article.name);
  return all.sort();
}

serverTest("reads, writes and errors work over gRPC-Web", async (server) => {
  const cable = connect({ endpoints: server.endpoint });
  await put(cable, "storm", "Storm");
  await put(cable, "flood", "Flood");
  assert.equal((await cable.content.getArticle({ name: "articles/storm" })).article?.headline, "Storm");
  assert.deepEqual(await names(cable), ["articles/flood", "articles/storm"]);
  const error = await failure(cable.content.getArticle({ name: "articles/none" }));
  assert.deepEqual([error.code, error.reason], [Code.NotFound, "ARTICLE_NOT_FOUND"]);
  const invalid = await failure(cable.publishing.putArticle({ article: { name: "articles/x" } }));
  assert.equal(invalid.field, "article.headline");
});

serverTest("a feed over gRPC-Web continues over kill -9, and a stopped process is noticed", async (server) => {
  const cable = connect({ endpoints: server.endpoint });
  await put(cable, "one");
  const seen: string[] = [];
  let wake = () => {};
  const reached = async (name: string) => {
    while (!seen.includes(name)) await new Promise<void>((resolve) => (wake = resolve));
  };
  const feed = cable.feed({ start: "snapshot", checkpointIntervalMs: 1_000 });
  const namesOf = (event: FeedEvent) => {
    if (event.type === "snapshot") return event.entities.map(({ value }) => value.name);
    return event.type === "changes" ? event.changes.map(({ name }) => name) : [event.type];
  };
  const loop = (async () => {
    for await (const event of feed) {
      seen.push(...namesOf(event));
      wake();
    }
  })();
  await reached("checkpoint");
  await server.kill();
  await server.restart();
  await put(cable, "two");
  await reached("articles/two");
  server.signal("SIGSTOP");
  const reconnects = feed.reconnects;
  setTimeout(() => server.signal("SIGCONT"), 4_500);
  while (feed.reconnects === reconnects) await new Promise((resolve) => setTimeout(resolve, 50));
  await put(cable, "three");
  await reached("articles/three");
  assert.deepEqual(seen.filter((name) => name.startsWith("articles/")), ["articles/one", "articles/two", "articles/three"]);
  await feed.close();
  await loop;
});

serverTest("a page of another origin is refused, and one in web.origins is not", async (server) => {
  const from = (origin: string) => {
    const fetch: typeof globalThis.fetch = (input, init) => {
      const headers = new Headers(init?.headers);
      headers.set("origin", origin);
      return globalThis.fetch(input, { ...init, headers });
    };
    return connect({ endpoints: server.endpoint, fetch, attempts: 1 });
  };
  const error = await failure(from("https://evil.example").status.getStatus({}));
  assert.equal(error.code, Code.PermissionDenied);
  assert.match(error.message, /responded with HTTP 403/);
  await from("https://news.example").status.getStatus({});
}, { settings: { "web.origins": "https://news.example" } });
