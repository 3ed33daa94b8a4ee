import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdir, readFile, readlink, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import * as v1 from "../src/gen/v1.js";
import {
  ArticleView,
  CableError,
  Code,
  connect,
  FilePositionStore,
  formatPosition,
  MemoryPositionStore,
  parsePosition,
  type Cable,
  type Feed,
  type FeedEvent,
  type Position,
  type TokenSource,
} from "../src/node.js";
import { consumers, failure, FakeServer, nextOf, Proxy, put, refusal, serverTest } from "./support.js";

/** A copy that applies events as a follower does, and checks the promises of a feed. */
class Copy {
  readonly etags = new Map<string, string>();
  revision = 0n;
  resets = 0;

  apply(event: FeedEvent): void {
    if (event.type === "reset") {
      this.etags.clear();
      this.revision = 0n;
      this.resets++;
    }
    if (event.type === "snapshot") for (const { value } of event.entities) this.etags.set(value.name, value.etag);
    if (event.type === "changes") {
      for (const { type, name, revision, entity } of event.changes) {
        assert.ok(revision > this.revision, `${name}: ${revision} after ${this.revision}`);
        this.revision = revision;
        if (entity) this.etags.set(name, entity.value.etag);
        else if (type !== "unreadable") this.etags.delete(name);
      }
    }
    if ("position" in event) {
      assert.ok(event.position.revision >= this.revision);
      this.revision = event.position.revision;
    }
  }

  /** Applies events until the feed has delivered a revision. */
  async follow(feed: Feed, revision: bigint): Promise<void> {
    while (this.revision < revision) {
      const next = await feed.next();
      assert.ok(next.done !== true);
      this.apply(next.value);
    }
  }
}

async function etagsOf(cable: Cable): Promise<Map<string, string>> {
  const feed = cable.feed({ start: "snapshot" });
  const copy = new Copy();
  for await (const event of feed) {
    copy.apply(event);
    if (event.type === "snapshotEnd") break;
  }
  return copy.etags;
}

serverTest("a feed continues over kill -9 and restarts, without gaps and repeats", async (server) => {
  const cable = connect({ endpoints: server.endpoint });
  await put(cable, "n0");
  const feed = cable.feed({ start: "snapshot", checkpointIntervalMs: 1_000 });
  const copy = new Copy();
  for (let round = 0; round < 4; round++) {
    await put(cable, `n${round}`, `headline ${round}`);
    const last = await put(cable, "x", `headline ${round}`);
    if (round % 2 === 0) await copy.follow(feed, last);
    await server.kill(round === 3 ? "SIGTERM" : "SIGKILL");
    await server.restart();
  }
  const { result } = await cable.publishing.removeArticle({ name: "articles/n1", reason: v1.RemovalReason.DELETED });
  assert.ok(result);
  await copy.follow(feed, result.revision);
  assert.deepEqual(new Map([...copy.etags].sort()), new Map([...(await etagsOf(cable))].sort()));
  assert.ok(feed.reconnects >= 2);
  assert.equal(copy.resets, 0);
  await feed.close();
  cable.close();
});

serverTest("a stopped process is noticed by missed checkpoints", async (server) => {
  const cable = connect({ endpoints: server.endpoint });
  const errors: CableError[] = [];
  const onRetry = (error: CableError) => void errors.push(error);
  const feed = cable.feed({ checkpointIntervalMs: 1_000, onRetry });
  await nextOf(feed, "checkpoint");
  server.signal("SIGSTOP");
  const changes = nextOf(feed, "changes");
  while (errors.length === 0) await new Promise((resolve) => setTimeout(resolve, 50));
  assert.match(errors[0]?.message ?? "", /no message from .* for 3000 ms/);
  server.signal("SIGCONT");
  await put(cable, "x");
  assert.equal((await changes).changes[0]?.name, "articles/x");
  await feed.close();
  cable.close();
});

serverTest("a feed moves to the next endpoint when one is cut off or falls silent", async (server) => {
  await using proxy = await Proxy.start(server.endpoint);
  const cable = connect({ endpoints: server.endpoint });
  for (const fault of ["cut", "deaf"] as const) {
    const both = connect({ endpoints: [proxy.endpoint, "http://127.0.0.1:9"], timeoutMs: 2_000 });
    const feed = both.feed({ checkpointIntervalMs: 1_000 });
    await nextOf(feed, "checkpoint");
    if (fault === "cut") proxy.cut();
    else {
      proxy.isDeaf = true;
      setTimeout(() => (proxy.isDeaf = false), 3_500);
    }
    const changes = nextOf(feed, "changes");
    await put(cable, "x", fault);
    assert.equal((await changes).changes[0]?.name, "articles/x");
    assert.ok(feed.reconnects >= 1, fault);
    await feed.close();
    both.close();
  }
  cable.close();
});

serverTest("a feed resumes after the last applied position in its file", async (server) => {
  const cable = connect({ endpoints: server.endpoint });
  const path = join(server.directory, "feed.position");
  const options = { positionStore: new FilePositionStore(path), start: "snapshot" as const };
  await put(cable, "one");
  const first = cable.feed(options);
  await nextOf(first, "checkpoint");
  await first.save();
  const saved = parsePosition((await readFile(path, "utf8")).trim());
  await put(cable, "two");
  const applied = await nextOf(first, "changes");
  await put(cable, "three");
  const unapplied = await nextOf(first, "changes");
  assert.equal(unapplied.changes[0]?.name, "articles/three");
  // To leave here does not apply the last event. The one before it was applied when this one was requested.
  await first.return();
  const after = parsePosition((await readFile(path, "utf8")).trim());
  assert.deepEqual([after.revision > saved.revision, after], [true, applied.position]);
  const second = cable.feed(options);
  const again = await nextOf(second, "changes");
  assert.deepEqual(again.changes.map(({ name }) => name), ["articles/three"]);
  await second.close();
  cable.close();
});

serverTest("to leave the loop, to close and to abort end the stream of the server", async (server) => {
  const cable = connect({ endpoints: server.endpoint });
  // The connection allows one feed: the next one opens only if the one before it is gone.
  for (const way of ["break", "close", "abort", "throw"] as const) {
    const controller = new AbortController();
    const errors: CableError[] = [];
    const onRetry = (error: CableError) => void errors.push(error);
    const feed = cable.feed({ signal: controller.signal, onRetry });
    const loop = (async () => {
      for await (const event of feed) {
        assert.equal(event.type, "checkpoint");
        if (way === "break") break;
        if (way === "throw") throw new Error("thrown");
        if (way === "abort") controller.abort();
        if (way === "close") setImmediate(() => void feed.close());
      }
    })();
    if (way === "throw") await assert.rejects(loop, /thrown/);
    else if (way === "abort") assert.equal((await failure(loop)).code, Code.Canceled);
    else await loop;
    assert.deepEqual(errors.filter(({ reason }) => reason !== "TOO_MANY_FEEDS"), [], way);
    assert.equal((await feed.next()).done, true);
  }
  cable.close();
}, { settings: { "connections.max_feeds": "1" } });

serverTest("another history is an error, or an event if a reset is allowed", async (server) => {
  const cable = connect({ endpoints: server.endpoint });
  await put(cable, "x");
  const { head } = await cable.status.getStatus({});
  assert.ok(head);
  const after = create(v1.PositionSchema, { ...head, logId: "00000000" });
  const error = await failure(cable.feed({ start: { after } }).next());
  assert.deepEqual([error.code, error.reason], [Code.FailedPrecondition, "LOG_CHANGED"]);
  const feed = cable.feed({ start: { after: parsePosition(formatPosition(after)) }, allowReset: true });
  assert.deepEqual(await nextOf(feed, "reset"), { type: "reset", reason: "LOG_CHANGED" });
  const { entities } = await nextOf(feed, "snapshot");
  assert.deepEqual(entities.map(({ value }) => value.name).sort(), ["articles/x", "tags/a"].filter((name) => {
    return name === "articles/x" || entities.length === 2;
  }));
  await nextOf(feed, "snapshotEnd");
  await feed.close();
  cable.close();
});

serverTest("a commit in parts is delivered as one", async (server) => {
  const cable = connect({ endpoints: server.endpoint, timeoutMs: 60_000 });
  const text = "word ".repeat(40_000);
  const names = Array.from({ length: 30 }, (_, index) => `articles/n${index}`);
  for (const name of names) {
    const body = create(v1.BodySchema, {
      blocks: [{ kind: { case: "paragraph", value: { spans: [{ text }] } } }],
    } as never);
    await cable.publishing.putArticle({ article: { name, headline: name, body } });
  }
  const feed = cable.feed({ view: ArticleView.FULL });
  await nextOf(feed, "checkpoint");
  const changes = names.map((name) => {
    const value = create(v1.ArticlePatchSchema, { article: { name, headline: "new" }, updateMask: { paths: ["headline"] } });
    return { change: { case: "patchArticle" as const, value } };
  });
  const { position } = await cable.publishing.commit({ changes });
  const event = await nextOf(feed, "changes");
  assert.equal(event.changes.length, names.length);
  assert.deepEqual(event.position, position);
  await feed.close();
  const small = cable.feed({ view: ArticleView.FULL, maxCommitBytes: 1_000_000, start: { after: await before(position) } });
  const error = await failure(small.next());
  assert.equal(error.code, Code.ResourceExhausted);
  assert.match(error.message, /maxCommitBytes/);
  cable.close();

  async function before(position: Position | undefined): Promise<Position> {
    assert.ok(position);
    return create(v1.PositionSchema, { logId: position.logId, revision: position.revision - BigInt(names.length) });
  }
});

const position = (revision: bigint, logId = "aaaaaaaa") => create(v1.PositionSchema, { logId, revision });
const left = (revision: bigint) => ({ revision, change: { case: "left" as const, value: `articles/n${revision}` } });
const record = (id: string) => ({
  record: { case: "article" as const, value: create(v1.ArticleSchema, { name: `articles/${id}` }) },
});
type Message = Parameters<typeof create<typeof v1.WatchResponseSchema>>[1];
type Step = Message | ConnectErrorLike | "silence";
type ConnectErrorLike = ReturnType<typeof refusal>;

/** Follows a fake server. Each stream has its script. Returns the texts of events until the scripts end. */
async function follow(scripts: Step[][], options: Parameters<Cable["feed"]>[0] = {}, token?: TokenSource) {
  const requests: v1.WatchRequest[] = [];
  await using server = await FakeServer.start((router) => {
    router.service(v1.FeedService, {
      async *watch(request, context) {
        requests.push(request);
        for (const step of scripts[requests.length - 1] ?? [refusal(Code.PermissionDenied, "ROLE_REQUIRED")]) {
          if (step === "silence") await new Promise((resolve) => context.signal.addEventListener("abort", resolve));
          else if (step instanceof Error) throw step;
          else yield create(v1.WatchResponseSchema, step as Message);
        }
      },
    });
  });
  const cable = connect({ endpoints: server.endpoint, token });
  const events: string[] = [];
  let error: CableError | undefined;
  try {
    for await (const event of cable.feed(options)) {
      const names = event.type === "changes" ? event.changes.map(({ name }) => name.slice(9)).join() : "";
      const count = event.type === "snapshot" ? `${event.entities.length}` : event.type === "reset" ? event.reason : "";
      events.push([event.type, names + count].filter((part) => part !== "").join(" "));
    }
  } catch (cause) {
    assert.ok(cause instanceof CableError);
    error = cause;
  }
  cable.close();
  return { events, error, requests };
}

const changes = (revisions: bigint[], moreFollows = false): Message => ({
  ...(!moreFollows && { position: position(revisions.at(-1) ?? 0n) }),
  event: { case: "changes", value: { changes: revisions.map(left), moreFollows } },
});
const lost = refusal(Code.Unavailable, "DRAINING");

test("the parts of a commit that broke off are dropped, and the stream resumes before it", async () => {
  const { events, requests } = await follow([
    [changes([1n]), changes([2n], true), lost],
    [changes([2n], true), changes([3n], true), changes([4n])],
  ]);
  assert.deepEqual(events, ["changes n1", "changes n2,n3,n4"]);
  assert.deepEqual(requests.map(({ start }) => start.case === "after" && start.value.revision), [false, 1n, 4n]);
});

test("changes that were delivered before are dropped", async () => {
  const { events } = await follow([[changes([1n, 2n]), lost], [changes([2n, 3n])]]);
  assert.deepEqual(events, ["changes n1,n2", "changes n3"]);
});

test("a snapshot that breaks off starts again, after a reset", async () => {
  const snapshot = (ids: string[]): Message => ({ event: { case: "snapshot", value: { records: ids.map(record) } } });
  const end = (count: bigint): Message => ({ position: position(9n), event: { case: "snapshotEnd", value: { count } } });
  const { events, requests, error } = await follow(
    [[snapshot(["a", "b"]), lost], [snapshot(["a"]), snapshot(["b"]), end(2n), lost], [snapshot(["a"]), end(2n)]],
    { start: "snapshot" },
  );
  assert.deepEqual(events.slice(0, 5), ["snapshot 2", "reset SNAPSHOT_BROKEN", "snapshot 1", "snapshot 1", "snapshotEnd"]);
  assert.deepEqual(requests.map(({ start }) => start.case), ["snapshot", "snapshot", "after", "snapshot"]);
  // The third stream sends a snapshot with a wrong count, which is not delivered as complete.
  assert.deepEqual(events.slice(5), ["snapshot 1", "reset SNAPSHOT_BROKEN"]);
  assert.equal(error?.reason, "ROLE_REQUIRED");
});

test("a position below the history floor ends the feed, or resets it", async () => {
  const compacted = refusal(Code.OutOfRange, "REVISION_COMPACTED");
  const { events, error } = await follow([[changes([1n]), compacted]]);
  assert.deepEqual([events, error?.code, error?.reason], [["changes n1"], Code.OutOfRange, "REVISION_COMPACTED"]);
  const reset: Message = { event: { case: "reset", value: { reason: v1.FeedResetReason.COMPACTED } } };
  const again = await follow([[changes([7n]), lost], [reset, changes([5n], true), reset]], { allowReset: true });
  assert.deepEqual(again.events, ["changes n7", "reset COMPACTED", "reset COMPACTED"]);
  assert.deepEqual(again.requests.map(({ start }) => start.case), [undefined, "after", "snapshot"]);
});

test("a silent stream is given up, and its timer does not end the next one", async () => {
  const checkpoint: Message = { position: position(1n), event: { case: "checkpoint", value: {} } };
  const { events, requests } = await follow([[checkpoint, "silence"], [checkpoint, changes([2n]), "silence"]], {
    checkpointIntervalMs: 1_000,
  });
  assert.deepEqual(events, ["checkpoint", "checkpoint", "changes n2"]);
  assert.equal(requests.length, 3);
});

const idle: Message = { position: position(1n), event: { case: "checkpoint", value: {} } };

test("a feed of an idle log survives each rotation of its token", async () => {
  const refused = [idle, refusal(Code.Unauthenticated, "UNAUTHENTICATED")];
  let reads = 0;
  const { events } = await follow([refused, refused, refused, [changes([2n])]], {}, () => `token${reads++}`);
  assert.deepEqual(events, ["checkpoint", "checkpoint", "checkpoint", "changes n2"]);
});

test("a checkpoint of an idle log restarts the count of faults", async () => {
  const faulty = [idle, refusal(Code.Internal, "INTERNAL")];
  const { events } = await follow([faulty, faulty, faulty, faulty, faulty, faulty, [changes([2n])]]);
  assert.equal(events.at(-1), "changes n2");
});

test("the limit of a commit applies to each commit in a message", async () => {
  const revisions = [1n, 2n, 3n, 4n];
  const commits = revisions.map((revision) => ({ ...left(revision), time: { seconds: revision / 3n } }));
  const message: Message = { position: position(4n), event: { case: "changes", value: { changes: commits } } };
  const sizes = commits.map((change) => toBinary(v1.FeedChangeSchema, create(v1.FeedChangeSchema, change)).length);
  const maxCommitBytes = Math.max((sizes[0] ?? 0) + (sizes[1] ?? 0), (sizes[2] ?? 0) + (sizes[3] ?? 0));
  assert.deepEqual((await follow([[message]], { maxCommitBytes })).events, ["changes n1,n2,n3,n4"]);
  const { events, error } = await follow([[message]], { maxCommitBytes: maxCommitBytes - 1 });
  assert.deepEqual([events, error?.code], [[], Code.ResourceExhausted]);
});

test("five faults of the server in a row end the feed", async () => {
  const fault = refusal(Code.DataLoss, "RECORD_CORRUPT");
  const { error, requests } = await follow([[fault], [changes([1n]), fault], [fault], [fault], [fault], [fault]]);
  assert.deepEqual([error?.reason, requests.length], ["RECORD_CORRUPT", 6]);
});

test("a position that cannot be loaded or saved ends the feed", async () => {
  const broken = { load: async () => undefined, save: () => Promise.reject(new Error("disk full")) };
  const { error } = await follow([[changes([1n]), changes([2n])]], { positionStore: broken });
  assert.match(error?.message ?? "", /position could not be saved: disk full/);
  const unreadable = { ...broken, load: () => Promise.reject(new Error("no permission")) };
  const { error: other, requests } = await follow([], { positionStore: unreadable });
  assert.match(other?.message ?? "", /position could not be loaded: no permission/);
  assert.equal(requests.length, 0);
});

test("a position is saved only when the next event is requested", async () => {
  const store = new MemoryPositionStore();
  const saves: bigint[] = [];
  const positionStore = {
    load: () => store.load(),
    save: async (position: Position) => void saves.push(position.revision),
  };
  await using server = await FakeServer.start((router) => {
    router.service(v1.FeedService, {
      async *watch(_, context) {
        for (const revision of [1n, 2n]) yield create(v1.WatchResponseSchema, changes([revision]));
        await new Promise((resolve) => context.signal.addEventListener("abort", resolve));
      },
    });
  });
  const cable = connect({ endpoints: server.endpoint });
  const feed = cable.feed({ positionStore });
  await feed.next();
  await new Promise((resolve) => setTimeout(resolve, 400));
  assert.deepEqual(saves, []);
  await feed.next();
  await feed.close();
  assert.deepEqual(saves, [1n]);
  cable.close();
});

test("a position has a text, and a file holds it whole or not at all", async (t) => {
  const { mkdtemp, rm } = await import("node:fs/promises");
  const { tmpdir } = await import("node:os");
  const directory = await mkdtemp(join(tmpdir(), "cable-position-"));
  t.after(() => rm(directory, { recursive: true }));
  const path = join(directory, "feed");
  const store = new FilePositionStore(path);
  assert.equal(await store.load(), undefined);
  const saved = create(v1.PositionSchema, { logId: "0123abcd", revision: 8n, chain: Uint8Array.of(0, 255, 16) });
  await store.save(saved);
  assert.equal(await readFile(path, "utf8"), "0123abcd:8:00ff10\n");
  assert.deepEqual(await store.load(), saved);
  for (let end = 0; end < "0123abcd:8:00ff10\n".length; end++) {
    await writeFile(path, "0123abcd:8:00ff10\n".slice(0, end));
    await assert.rejects(store.load(), `cut at ${end}`);
  }
  for (const invalid of ["", "\n", ":\n", "::\n", ":8:00\n", "0123abcd:8:\n"]) {
    await writeFile(path, invalid);
    await assert.rejects(store.load(), /feed: not a position: .*delete it/, invalid);
  }
  for (const invalid of ["0123abcd:x:00", "0123abcd 7 00", "0123abcd:7:0", "0123abcd:7:zz", ":", "123:7:", "0123abcd:-7:"]) {
    assert.throws(() => parsePosition(invalid), /LOG:REVISION:CHAIN/, invalid);
  }
  assert.deepEqual(parsePosition(":3:"), create(v1.PositionSchema, { revision: 3n }));
});

test("a position file can be a link, and is no pipe", { timeout: 20_000 }, async (t) => {
  const { mkdtemp, rm } = await import("node:fs/promises");
  const { tmpdir } = await import("node:os");
  const directory = await mkdtemp(join(tmpdir(), "cable-position-"));
  t.after(() => rm(directory, { recursive: true }));
  const at = (name: string) => join(directory, name);
  await symlink("other", at("link"));
  await symlink("data/position", at("other"));
  await mkdir(at("data"));
  const saved = create(v1.PositionSchema, { logId: "0123abcd", revision: 8n, chain: Uint8Array.of(0, 255, 16) });
  // The target does not exist at first.
  for (const _ of [1, 2]) await new FilePositionStore(at("link")).save(saved);
  assert.deepEqual([await readlink(at("link")), await readlink(at("other"))], ["other", "data/position"]);
  for (const name of ["link", "data/position"]) assert.deepEqual(await new FilePositionStore(at(name)).load(), saved);
  execFileSync("mkfifo", [at("pipe")]);
  await assert.rejects(new FilePositionStore(at("pipe")).load(), /pipe: not a position/);
});

serverTest("the node stores the position of a consumer, and the next feed of the name resumes there", async (server) => {
  const cable = connect({ endpoints: server.endpoint });
  await put(cable, "a");
  const options = { start: "snapshot", consumer: "search", checkpointIntervalMs: 1000 } as const;
  const feed = cable.feed(options);
  await nextOf(feed, "checkpoint");
  const revision = await put(cable, "b");
  assert.deepEqual((await nextOf(feed, "changes")).changes.map(({ name }) => name), ["articles/b"]);
  await feed.save();
  await feed.close();
  assert.equal((await consumers(server))["search"], revision);

  await put(cable, "c");
  const again = cable.feed(options);
  let first: FeedEvent | undefined;
  do first = (await again.next()).value;
  while (first?.type === "checkpoint");
  assert.ok(first?.type === "changes", "no snapshot");
  assert.deepEqual(first.changes.map(({ name }) => name), ["articles/c"]);
  // While the node is away, the acknowledgement of `c` fails, and is repeated.
  await server.kill();
  const next = again.next();
  await server.restart();
  assert.equal((await next).done, false);
  while ((await consumers(server))["search"] !== first.position.revision) await again.next();
  await again.close();
  cable.close();
});

serverTest("an event at which the loop breaks is not acknowledged", async (server) => {
  const cable = connect({ endpoints: server.endpoint });
  const options = { consumer: "purger", checkpointIntervalMs: 1000 };
  await put(cable, "before");
  // The node stores the position at which a consumer begins.
  for await (const event of cable.feed(options)) if (event.type === "checkpoint") break;
  const begin = (await consumers(server))["purger"];
  const revision = await put(cable, "a");
  for (const _ of [1, 2]) {
    for await (const event of cable.feed(options)) {
      if (event.type !== "changes") continue;
      assert.deepEqual(event.changes.map((change) => change.revision), [revision]);
      break;
    }
  }
  assert.equal((await consumers(server))["purger"], begin);
  cable.close();
});

serverTest("a feed ends with the error of a consumer that the node refuses", async (server) => {
  const cable = connect({ endpoints: server.endpoint });
  const error = await failure(cable.feed({ consumer: "not a name" }).next());
  assert.deepEqual([error.reason, error.field], ["FIELD_INVALID", "consumer"]);
  cable.close();
});
