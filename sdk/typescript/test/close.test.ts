import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { create } from "@bufbuild/protobuf";
import * as v1 from "../src/gen/v1.js";
import { CableError, Code, connect, type MirrorUpdate } from "../src/node.js";
import { failure, FakeServer, put, refusal, serverTest } from "./support.js";

/** Rejects if a promise takes longer than 10 s. */
async function soon<T>(promise: Promise<T>): Promise<T> {
  const controller = new AbortController();
  const late = sleep(10_000, undefined, controller).then(() => assert.fail("no result within 10 s"));
  late.catch(() => undefined);
  return Promise.race([promise, late]).finally(() => controller.abort());
}

function assertClosed(error: CableError): void {
  assert.deepEqual([error.message, error.code, error.retryable], ["the client is closed", Code.Canceled, false]);
}

serverTest("a closed client ends its feeds, mirrors and calls, and refuses others", async (server) => {
  const cable = connect({ endpoints: server.endpoint });
  await put(cable, "x");
  const retries: CableError[] = [];
  const onRetry = (error: CableError) => void retries.push(error);
  const feed = cable.feed({ onRetry });
  await feed.next();
  const [ended, mirror] = [failure(feed.next()), cable.mirror({ onRetry })];
  await mirror.ready();
  const left = cable.feed();
  await left.next();
  const leaving = left.next();
  const changes = failure(mirror.changes().next());
  const slow = failure(cable.content.getArticle({ name: "articles/x", freshness: { atLeastRevision: 1n << 40n, maxWait: { seconds: 9n } } }));
  await sleep(200);
  await left.close();
  cable.close();
  assert.equal((await leaving).done, true, "a feed that was closed before ends without an error");
  for (const error of [ended, slow, changes]) assertClosed(await soon(error));
  assertClosed(await soon(failure(cable.content.getArticle({ name: "articles/x" }))));
  const write = await soon(failure(put(cable, "y")));
  assertClosed(write);
  assert.equal(write.mayHaveApplied, false);
  assertClosed(await soon(failure(cable.feed({ onRetry }).next())));
  assertClosed(await soon(failure(cable.mirror({ onRetry }).ready())));
  assertClosed(await soon(failure(cable.streamArticles().next())));
  assert.deepEqual([retries, feed.reconnects], [[], 0]);
});

test("to close the client ends the wait before a retry, and a write in flight may have been applied", { timeout: 60_000 }, async () => {
  await using server = await FakeServer.start((router) => {
    router.service(v1.PublishingService, {
      putTag() { throw refusal(Code.Unavailable, "OVERLOADED", 8_000); },
      putArticle: (_, context) => new Promise((_, reject) => context.signal.addEventListener("abort", reject)),
    });
  });
  const cable = connect({ endpoints: server.endpoint });
  const waiting = failure(cable.publishing.putTag({ tag: { name: "tags/a" } }));
  const sent = failure(cable.publishing.putArticle({ article: { name: "articles/a" } }));
  await sleep(300);
  const start = performance.now();
  cable.close();
  assertClosed(await soon(waiting));
  const error = await soon(sent);
  assertClosed(error);
  assert.deepEqual([(await waiting).mayHaveApplied, error.mayHaveApplied], [false, true]);
  assert.ok(performance.now() - start < 5_000);
});

test("a write that was cancelled before it was sent was not applied", { timeout: 60_000 }, async () => {
  const cable = connect({ endpoints: "http://127.0.0.1:9" });
  const settings = { signal: AbortSignal.abort() };
  const error = await failure(cable.publishing.putTag({ tag: { name: "tags/a" } }, settings));
  assert.deepEqual([error.code, error.mayHaveApplied], [Code.Canceled, false]);
});

serverTest("a request above the limit is refused before it is sent, as the server refuses it", async (server) => {
  const cable = connect({ endpoints: server.endpoint });
  await put(cable, "x");
  const putOf = (bytes: number) => cable.publishing.putArticle({ article: { name: "articles/big", headline: "x", dek: "x".repeat(bytes) } });
  const errors = await Promise.all([putOf(12e6), putOf(2e7), putOf(4.2e6)].map((call) => soon(failure(call))));
  const read = soon(cable.content.getArticle({ name: "articles/x" }));
  for (const error of errors) {
    assert.deepEqual([error.code, error.reason, error.mayHaveApplied], [Code.InvalidArgument, "LIMIT_EXCEEDED", false]);
    assert.match(error.message, /^request: \d+ exceeds the maximum of 4194304 \(write_request_bytes\)$/);
    assert.deepEqual([error.metadata["limit"], error.metadata["maximum"]], ["write_request_bytes", "4194304"]);
  }
  assert.equal((await read).article?.name, "articles/x");
  const { limits } = await cable.status.getStatus({});
  assert.equal(limits.find(({ name }) => name === "write_request_bytes")?.maximum, 4194304n);
  cable.close();
});

test("many large writes at a time share a connection", { timeout: 60_000 }, async () => {
  await using server = await FakeServer.start((router) => {
    router.service(v1.PublishingService, { putArticle: () => ({}) });
  });
  const cable = connect({ endpoints: server.endpoint, timeoutMs: 60_000 });
  const article = { name: "articles/a", dek: "x".repeat(3e6) };
  const warnings: Error[] = [];
  const warn = (warning: Error) => void warnings.push(warning);
  process.on("warning", warn);
  await Promise.all(Array.from({ length: 20 }, () => cable.publishing.putArticle({ article })));
  cable.close();
  process.off("warning", warn);
  assert.deepEqual(warnings, []);
});

serverTest("a value that cannot be encoded is an invalid argument", async (server) => {
  const cable = connect({ endpoints: server.endpoint });
  const article = { name: "articles/x", headline: "\ud800" };
  for (const requestId of ["", "mine-1"]) {
    const error = await failure(cable.publishing.putArticle({ article, requestId }));
    assert.deepEqual([error.code, error.mayHaveApplied], [Code.InvalidArgument, false]);
  }
  cable.close();
});

serverTest("a signal ends the waits for a mirror with a CableError", async (server) => {
  const cable = connect({ endpoints: server.endpoint });
  const mirror = cable.mirror();
  await mirror.ready();
  const absent = connect({ endpoints: "http://127.0.0.1:9" });
  const empty = absent.mirror();
  for (const wait of [
    (signal: AbortSignal) => empty.ready(signal),
    (signal: AbortSignal) => mirror.changes(signal).next(),
  ]) {
    const reason = new Error("enough");
    const controller = new AbortController();
    setTimeout(() => controller.abort(reason), 50);
    const error = await soon(failure(wait(controller.signal)));
    assert.deepEqual([error.code, error.cause], [Code.Canceled, reason]);
    assert.equal((await failure(wait(AbortSignal.abort(reason)))).cause, reason);
  }
  absent.close();
  cable.close();
});

test("an iterator of changes that is dropped before its first use holds no names", { timeout: 60_000 }, async () => {
  setFlagsFromString("--expose-gc");
  const gc = runInNewContext("gc") as () => void;
  let next = () => {};
  await using server = await FakeServer.start((router) => {
    router.service(v1.FeedService, {
      async *watch(_, context) {
        const message = (revision: bigint, event: object) =>
          create(v1.WatchResponseSchema, { position: { logId: "0123abcd", revision }, ...event });
        yield message(1n, { event: { case: "snapshotEnd", value: {} } });
        yield message(1n, { event: { case: "checkpoint", value: {} } });
        for (let revision = 2n; !context.signal.aborted; revision++) {
          await new Promise<void>((resolve) => {
            next = resolve;
            context.signal.addEventListener("abort", () => resolve());
          });
          const change = { revision, change: { case: "left" as const, value: `articles/n${revision}` } };
          yield message(revision, { event: { case: "changes", value: { changes: [change] } } });
        }
      },
    });
  });
  const cable = connect({ endpoints: server.endpoint });
  const mirror = cable.mirror();
  await mirror.ready();
  const held: WeakRef<AsyncGenerator<MirrorUpdate, undefined>>[] = [];
  for (let index = 0; index < 50; index++) held.push(new WeakRef(mirror.changes()));
  const kept = mirror.changes(); // From now on, although it is not iterated yet.
  for (const name of ["articles/n2", "articles/n3"]) {
    await sleep(50);
    gc();
    next();
    while (mirror.position?.revision !== BigInt(name.slice(10))) await sleep(10);
  }
  const [left, update] = [held.filter((reference) => reference.deref()).length, await kept.next()];
  cable.close();
  assert.ok(left < 5, `${left} of 50 iterators are held`);
  assert.deepEqual([...(update.value?.names ?? [])], ["articles/n2", "articles/n3"]);
});
