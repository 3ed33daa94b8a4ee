import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { rename, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { once } from "node:events";
import { join } from "node:path";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { Code, CableError, connect, fileToken, pages, type TestServer } from "../src/node.js";
import * as v1 from "../src/gen/v1.js";
import { failure, FakeServer, newToken, Proxy, put, refusal, serverTest } from "./support.js";

serverTest("an article is put and read", async (server) => {
  const cable = connect({ endpoints: server.endpoint });
  const revision = await put(cable, "storm", "Storm");
  const { article } = await cable.content.getArticle({ name: "articles/storm" });
  assert.equal(article?.headline, "Storm");
  assert.equal(article.revision, revision);
  assert.equal(typeof article.revision, "bigint");
  const { head } = await cable.status.getStatus({});
  assert.equal(head?.revision, revision);
  cable.close();
});

serverTest("pages and streams deliver every article once", async (server) => {
  const cable = connect({ endpoints: server.endpoint });
  const names = Array.from({ length: 25 }, (_, index) => `articles/n${String(index).padStart(2, "0")}`);
  const changes = names.map((name) => ({
    change: { case: "putArticle" as const, value: create(v1.ArticleSchema, { name, headline: name, tags: ["tags/a"] }) },
  }));
  await cable.publishing.commit({ changes });
  const filter = { allTags: ["tags/a"] };
  const listed: string[] = [];
  for await (const article of cable.articles({ filter, pageSize: 7 })) listed.push(article.name);
  assert.deepEqual(listed.sort(), names);
  const streamed: string[] = [];
  for await (const article of cable.streamArticles({ filter })) streamed.push(article.name);
  assert.deepEqual(streamed.sort(), names);
  const sizes: number[] = [];
  const list = (pageToken: string) => cable.content.listArticles({ filter, pageSize: 10, pageToken });
  for await (const page of pages(list)) sizes.push(page.articles.length);
  assert.deepEqual(sizes, [10, 10, 5]);
  // To leave the loop closes the stream: the node has no call left.
  for await (const _ of cable.streamArticles({ filter })) break;
  cable.close();
});

serverTest("an error has its reason, field and metadata", async (server) => {
  const cable = connect({ endpoints: server.endpoint });
  const missing = await failure(cable.content.getArticle({ name: "articles/none" }));
  assert.deepEqual([missing.code, missing.reason, missing.retryable], [Code.NotFound, "ARTICLE_NOT_FOUND", false]);
  const invalid = await failure(cable.publishing.putArticle({ article: { name: "articles/x" } }));
  assert.deepEqual([invalid.code, invalid.reason, invalid.field], [Code.InvalidArgument, "FIELD_INVALID", "article.headline"]);
  assert.equal(invalid.mayHaveApplied, false);
  await put(cable, "x");
  const precondition = { condition: { case: "mustBeAbsent" as const, value: true } };
  const exists = await failure(
    cable.publishing.putArticle({ article: { name: "articles/x", headline: "y" }, precondition }),
  );
  assert.equal(exists.reason, "NAME_EXISTS");
  assert.match(exists.metadata["etag"] ?? "", /^[0-9a-f]{8}-/);
  const token = await failure(cable.content.listArticles({ pageToken: "AQAA" }));
  assert.equal(token.reason, "PAGE_TOKEN_INVALID");
  cable.close();
});

serverTest("a write whose response is lost is retried with its request id and applied once", async (server) => {
  await using proxy = await Proxy.start(server.endpoint);
  const cable = connect({ endpoints: proxy.endpoint, attemptTimeoutMs: 1_200, timeoutMs: 20_000 });
  const before = await put(cable, "first");
  proxy.isDeaf = true;
  setTimeout(() => (proxy.isDeaf = false), 600);
  const precondition = { condition: { case: "mustBeAbsent" as const, value: true } };
  // Without its request id, the second attempt would fail its precondition.
  const { result } = await cable.publishing.putArticle({
    article: { name: "articles/second", headline: "Second" },
    precondition,
  });
  assert.equal(result?.revision, before + 1n);
  assert.ok(proxy.connections >= 2, "the second attempt has a connection of its own");
  cable.close();
});

serverTest("a write without response may have been applied", async (server) => {
  await using proxy = await Proxy.start(server.endpoint);
  const cable = connect({ endpoints: proxy.endpoint, timeoutMs: 800 });
  proxy.isDeaf = true;
  const request = { article: { name: "articles/x", headline: "X" }, requestId: "mine-1" };
  const error = await failure(cable.publishing.putArticle(request));
  assert.deepEqual([error.code, error.mayHaveApplied], [Code.DeadlineExceeded, true]);
  proxy.isDeaf = false;
  proxy.cut();
  const { result } = await cable.publishing.putArticle(request);
  assert.equal(result?.changed, true);
  const read = await failure(connect({ endpoints: "http://127.0.0.1:9" }).content.getArticle({ name: "articles/x" }));
  assert.equal(read.mayHaveApplied, false);
  cable.close();
});

serverTest("a call to a stopped process ends at its deadline, and works after it continues", async (server) => {
  const cable = connect({ endpoints: server.endpoint });
  await put(cable, "x");
  server.signal("SIGSTOP");
  const start = performance.now();
  const error = await failure(cable.content.getArticle({ name: "articles/x" }, { timeoutMs: 2_000 }));
  assert.equal(error.code, Code.DeadlineExceeded);
  assert.ok(performance.now() - start < 10_000);
  server.signal("SIGCONT");
  assert.equal((await cable.content.getArticle({ name: "articles/x" })).article?.headline, "x");
  cable.close();
});

serverTest("a dead endpoint and a silent one are passed over", async (server) => {
  const silent = createServer(() => undefined).listen(0, "127.0.0.1");
  await once(silent, "listening");
  const address = silent.address();
  const port = typeof address === "object" ? address?.port : undefined;
  const endpoints = ["http://127.0.0.1:9", `http://127.0.0.1:${port}`, server.endpoint];
  const cable = connect({ endpoints, timeoutMs: 20_000, attemptTimeoutMs: 1_000, attempts: 5 });
  for (let index = 0; index < 10; index++) await put(cable, `n${index}`);
  assert.equal((await cable.status.getStatus({})).counts?.articles, 10n);
  cable.close();
  silent.close();
});

test("a connection that is refused names the endpoint and the cause", async () => {
  const error = await failure(connect({ endpoints: "http://127.0.0.1:9", attempts: 1 }).status.getStatus({}));
  assert.equal(error.code, Code.Unavailable);
  assert.match(error.message, /cannot reach http:\/\/127\.0\.0\.1:9: .*ECONNREFUSED/);
  assert.equal(error.retryable, true);
});

test("only UNAVAILABLE is retried, a bounded number of times, after the requested wait", async () => {
  let calls = 0;
  const ids = new Set<string>();
  let error = refusal(Code.Unavailable, "OVERLOADED", 120);
  await using server = await FakeServer.start((router) => {
    router.service(v1.PublishingService, {
      putTag(request) {
        calls++;
        ids.add(request.requestId);
        throw error;
      },
    });
  });
  const cable = connect({ endpoints: server.endpoint });
  const start = performance.now();
  const overloaded = await failure(cable.publishing.putTag({ tag: { name: "tags/a", displayName: "A" } }));
  assert.deepEqual([calls, overloaded.reason, overloaded.mayHaveApplied], [3, "OVERLOADED", false]);
  assert.equal(ids.size, 1);
  assert.ok(performance.now() - start >= 240, "two waits of 120 ms");
  for (const code of [Code.InvalidArgument, Code.Aborted, Code.ResourceExhausted, Code.Internal, Code.DeadlineExceeded]) {
    [calls, error] = [0, refusal(code, "INTERNAL")];
    await failure(cable.publishing.putTag({ tag: { name: "tags/a" }, requestId: "mine" }));
    assert.equal(calls, 1, Code[code]);
  }
  assert.deepEqual([...ids].length, 2);
  assert.ok(ids.has("mine"));
  error = refusal(Code.Unavailable, "OUTCOME_UNKNOWN");
  assert.equal((await failure(cable.publishing.putTag({ tag: { name: "tags/a" } }))).mayHaveApplied, true);
  cable.close();
});

test("a call that may succeed later is retryable, but not repeated", async () => {
  let calls = 0;
  let error = refusal(Code.ResourceExhausted, "RATE_LIMITED", 1);
  await using server = await FakeServer.start((router) => {
    router.service(v1.StatusService, {
      getStatus() {
        calls++;
        throw error;
      },
    });
  });
  const cable = connect({ endpoints: server.endpoint });
  const limited = await failure(cable.status.getStatus({}));
  assert.deepEqual([limited.reason, limited.retryable, calls], ["RATE_LIMITED", true, 1]);
  error = refusal(Code.DeadlineExceeded, "DEADLINE_TOO_SHORT");
  const late = await failure(cable.status.getStatus({}));
  assert.deepEqual([late.code, late.retryable, calls], [Code.DeadlineExceeded, true, 2]);
  cable.close();
});

serverTest("a write that was not sent, or not read, was not applied", async (server) => {
  const request = { article: { name: "articles/x", headline: "X" } };
  const hanging = connect({ endpoints: server.endpoint, token: () => new Promise<string>(() => {}), timeoutMs: 300 });
  const unsent = await failure(hanging.publishing.putArticle(request));
  assert.deepEqual([unsent.code, unsent.mayHaveApplied, unsent.retryable], [Code.DeadlineExceeded, false, true]);
  hanging.close();
  const cable = connect({ endpoints: server.endpoint, timeoutMs: 5_000 });
  const headers = { note: "x".repeat(20_000) };
  const unread = await failure(cable.publishing.putArticle(request, { headers }));
  assert.deepEqual([unread.code, unread.mayHaveApplied], [Code.InvalidArgument, false], unread.message);
  assert.match(unread.message, /headers/);
  cable.close();
});

test("an aborted call is cancelled", async () => {
  const cable = connect({ endpoints: "http://127.0.0.1:9" });
  const controller = new AbortController();
  const call = failure(cable.content.getArticle({ name: "articles/x" }, { signal: controller.signal }));
  controller.abort(new Error("enough"));
  const error = await call;
  assert.equal(error.code, Code.Canceled);
  assert.equal((error.cause as Error).message, "enough");
});

test("settings are checked when the client is made", () => {
  for (const endpoints of ["", " , ", "127.0.0.1:7190", "http://a/path", "ftp://a", "http://me@a", "https://", "http://a:", "http://a:/", "http://a:0", "http://a:65536"]) {
    assert.throws(() => connect({ endpoints }), /^CableError: endpoints: /, endpoints);
  }
  const token = "canary";
  for (const endpoints of ["http://10.0.0.7:7190", "http://[2001:db8::1]", "http://127.0.0.1.example.com"]) {
    assert.throws(() => connect({ endpoints, token }), /without TLS/);
    connect({ endpoints, token, allowPlaintextToken: true });
  }
  for (const endpoints of ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1", "https://a"]) {
    connect({ endpoints, token });
  }
  assert.throws(() => connect({ endpoints: "http://a", timeoutMs: 0 }), /timeoutMs/);
  for (const bad of ["", "two words", "caf\u{e9}", "x".repeat(5000)]) {
    assert.throws(() => connect({ endpoints: "https://a", token: bad }), (error) => {
      return error instanceof CableError && error.message.startsWith("token: ") && !error.message.includes("two");
    });
  }
});

function revokeToken(server: TestServer, name: string): void {
  const program = process.env["CABLE_PROGRAM"] ?? "cable";
  execFileSync(program, ["token", "revoke", name, "--data", join(server.directory, "store")], { stdio: "pipe" });
}

serverTest("a token in a file is rotated without a restart, also for an open feed", async (server) => {
  const path = join(server.directory, "token");
  const tokens = [newToken(server, "one"), newToken(server, "two")] as const;
  await server.restart();
  await writeFile(path, `${tokens[0]}\n`);
  const cable = connect({ endpoints: server.endpoint, token: fileToken(path) });
  await put(cable, "x");
  const feed = cable.feed({ start: "snapshot", checkpointIntervalMs: 1_000 });
  const seen: string[] = [];
  const followed = (async () => {
    for await (const event of feed) {
      if (event.type !== "changes") continue;
      seen.push(...event.changes.map(({ name }) => name));
      if (seen.includes("articles/last")) break;
    }
  })();
  await writeFile(`${path}.new`, tokens[1]);
  await rename(`${path}.new`, path);
  revokeToken(server, "one");
  // The server refuses the old token within 5 s. Calls never notice.
  const end = performance.now() + 7_000;
  for (let index = 0; performance.now() < end; index++) {
    await put(cable, "x", `headline ${index}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  await put(cable, "last");
  await followed;
  assert.ok(feed.reconnects >= 1, "the feed ended with the old token");
  const wrong = connect({ endpoints: server.endpoint, token: "cable_wrong" });
  const refused = await failure(wrong.content.getArticle({ name: "articles/x" }));
  assert.deepEqual([refused.code, refused.reason], [Code.Unauthenticated, "UNAUTHENTICATED"]);
  const end2 = await failure(wrong.feed().next());
  assert.equal(end2.code, Code.Unauthenticated);
  cable.close();
  wrong.close();
});

test("a token function that fails later leaves the last token", async () => {
  const tokens: string[] = [];
  await using server = await FakeServer.start((router) => {
    router.service(v1.StatusService, {
      getStatus(_, context) {
        tokens.push(context.requestHeader.get("authorization") ?? "");
        if (tokens.length === 2) throw refusal(Code.Unauthenticated, "UNAUTHENTICATED");
        return {};
      },
    });
  });
  let reads = 0;
  const token = async () => {
    reads++;
    if (reads === 1) throw new Error("not yet");
    if (reads === 2) return " first\n";
    return "second";
  };
  const cable = connect({ endpoints: server.endpoint, token, attempts: 1 });
  const error = await failure(cable.status.getStatus({}));
  assert.match(error.message, /cannot get a token: not yet/);
  await cable.status.getStatus({});
  await cable.status.getStatus({});
  assert.deepEqual(tokens, ["Bearer first", "Bearer first", "Bearer second"]);
  cable.close();
});
