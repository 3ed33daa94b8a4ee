import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { RemovalReason } from "../src/gen/v1.js";
import { connect, type Cable, type Mirror } from "../src/node.js";
import { consumers, failure, Proxy, put, serverTest } from "./support.js";

/** The names and etags that a fresh snapshot has. */
async function snapshot(cable: Cable): Promise<[string, string][]> {
  const fresh = cable.mirror();
  await fresh.ready();
  const content = contentOf(fresh);
  await fresh.close();
  return content;
}

function contentOf(mirror: Mirror): [string, string][] {
  return [...mirror.entities].map(([name, { value }]): [string, string] => [name, value.etag]).sort();
}

async function until(mirror: Mirror, revision: bigint): Promise<void> {
  const changes = mirror.changes(AbortSignal.timeout(60_000));
  while ((mirror.position?.revision ?? 0n) < revision) assert.ok(!(await changes.next()).done);
}

serverTest("a mirror equals a snapshot, also after kill -9 and a cut connection", async (server) => {
  await using proxy = await Proxy.start(server.endpoint);
  const cable = connect({ endpoints: server.endpoint });
  const other = connect({ endpoints: proxy.endpoint });
  for (let index = 0; index < 20; index++) await put(cable, `n${index}`);
  const mirror = other.mirror({ checkpointIntervalMs: 1_000 });
  await mirror.ready();
  assert.deepEqual(contentOf(mirror), await snapshot(cable));
  for (const fault of ["kill", "cut", "SIGTERM"]) {
    if (fault === "cut") proxy.cut();
    else {
      await server.kill(fault === "kill" ? "SIGKILL" : "SIGTERM");
      await server.restart();
    }
    await put(cable, "n1", fault);
    await put(cable, fault);
    const removed = await cable.publishing.removeArticle({ name: `articles/${fault}`, reason: RemovalReason.DELETED });
    assert.ok(removed.result);
    await until(mirror, await put(cable, "last", fault));
    assert.equal(mirror.article("articles/last")?.headline, fault);
    assert.deepEqual(contentOf(mirror), await snapshot(cable));
  }
  await mirror.close();
  assert.equal(mirror.article("articles/last")?.headline, "SIGTERM", "a closed mirror can be read");
  cable.close();
  other.close();
});

serverTest("a mirror finds articles by tag, and reports its changes and its lag", async (server) => {
  const cable = connect({ endpoints: server.endpoint });
  await put(cable, "one", "One", ["tags/a", "tags/b"]);
  await put(cable, "two", "Two", ["tags/b"]);
  const mirror = cable.mirror({ filter: { anyTags: ["tags/a", "tags/b"] } });
  assert.equal(mirror.lagMs, Number.POSITIVE_INFINITY);
  await mirror.ready();
  assert.ok(mirror.lagMs < 60_000);
  const names = (tag: string) => mirror.byTag(tag).map(({ name }) => name).sort();
  assert.deepEqual([names("tags/a"), names("tags/b"), names("tags/c")], [
    ["articles/one"],
    ["articles/one", "articles/two"],
    [],
  ]);
  assert.equal(mirror.entities.size, 2);
  const changes = mirror.changes();
  await put(cable, "one", "One", ["tags/b"]);
  await put(cable, "two", "Two", ["tags/c"]);
  const seen = new Set<string>();
  while (seen.size < 2) {
    const { value } = await changes.next();
    for (const name of value?.names ?? []) seen.add(name);
  }
  assert.deepEqual([...seen].sort(), ["articles/one", "articles/two"]);
  assert.deepEqual([names("tags/a"), names("tags/b"), mirror.entities.size], [[], ["articles/one"], 1]);
  const end = changes.next();
  await mirror.close();
  assert.equal((await end).done, true);
  cable.close();
});

serverTest("a mirror that is refused rejects", async (server) => {
  const cable = connect({ endpoints: server.endpoint });
  const mirror = cable.mirror({ filter: { anyTags: ["not a tag"] } });
  const error = await failure(mirror.ready());
  assert.deepEqual([error.reason, error.field], ["FIELD_INVALID", "filter.any_tags[0]"]);
  assert.equal(await failure(mirror.changes().next()), error);
  cable.close();
});

serverTest("a mirror acknowledges as a consumer, and starts with a snapshot nevertheless", async (server) => {
  const cable = connect({ endpoints: server.endpoint });
  for (const id of ["a", "b"]) {
    const mirror = cable.mirror({ consumer: "copy", checkpointIntervalMs: 1000 });
    await mirror.ready();
    const revision = await put(cable, id);
    while (((await consumers(server))["copy"] ?? 0n) < revision) await sleep(20);
    assert.deepEqual([...mirror.entities.keys()].sort(), ["articles/a", "articles/b"].slice(0, id === "a" ? 1 : 2));
    await mirror.close();
  }
  cable.close();
});
