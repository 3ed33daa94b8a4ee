import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../", import.meta.url));
const PROGRAM = `
import { connect, Cable, CableError, Feed, FilePositionStore, Mirror, TestServer, type FeedEvent } from "@cable/client/node";
import { connect as connectWeb } from "@cable/client/web";
import { ArticleView, pages } from "@cable/client";
import { TransferService } from "@cable/client/v1";

const cable: Cable = connect({ endpoints: "http://127.0.0.1:7190", token: "t" });
const web: Cable = connectWeb({ endpoints: "http://127.0.0.1:7190" });
for await (const article of cable.articles({ view: ArticleView.FULL })) console.log(article.headline);
for await (const page of pages((pageToken) => web.content.listTags({ pageToken }))) console.log(page.tags.length);
const feed: Feed = cable.feed({ start: "snapshot", positionStore: new FilePositionStore("position") });
const show = (event: FeedEvent) => console.log(event.type);
for await (const event of feed) show(event);
const mirror: Mirror = cable.mirror();
await mirror.ready(AbortSignal.timeout(1));
cable.client(TransferService);
new CableError("text", 1).field?.length;
await using server = await TestServer.start();
// @ts-expect-error No program has what a constructor needs.
new Cable();
// @ts-expect-error
new Feed();
// @ts-expect-error
new Mirror();
`;

test("a program compiles with the typings of the package, which are checked, too", { timeout: 120_000 }, async () => {
  // Within the package, so that its name resolves.
  const directory = await mkdtemp(join(root, "dist/typings-"));
  try {
    await writeFile(join(directory, "program.mts"), PROGRAM);
    const compilerOptions = {
      target: "ES2022", module: "NodeNext", moduleResolution: "NodeNext", types: ["node"], noEmit: true, strict: true,
      lib: ["ES2022", "DOM", "DOM.Iterable", "DOM.AsyncIterable", "ESNext.Disposable"],
      exactOptionalPropertyTypes: true, skipLibCheck: false,
    };
    await writeFile(join(directory, "tsconfig.json"), JSON.stringify({ compilerOptions, include: ["program.mts"] }));
    const compiler = createRequire(import.meta.url).resolve("typescript/bin/tsc");
    const { status, stdout } = spawnSync(process.execPath, [compiler, "--project", directory], { encoding: "utf8", timeout: 100_000 });
    assert.equal(stdout, "");
    assert.equal(status, 0);
  } finally {
    await rm(directory, { recursive: true });
  }
});
