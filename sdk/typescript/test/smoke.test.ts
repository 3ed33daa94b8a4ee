import assert from "node:assert/strict";
import { connect } from "../src/node.js";
import { serverTest } from "./support.js";

serverTest("smoke", async (server) => {
  const cable = connect({ endpoints: server.endpoint });
  const put = await cable.publishing.putArticle({ article: { name: "articles/storm", headline: "Storm", tags: ["tags/a"] } });
  assert.equal(put.result?.changed, true);
  for await (const a of cable.streamArticles()) console.log(a.name);
  for await (const a of cable.articles({filter:{allTags:["tags/a"]}})) console.log(a.name);
  const mirror = cable.mirror();
  await mirror.ready();
  console.log([...mirror.entities.keys()], mirror.byTag("tags/a").length, mirror.lagMs);
  for await (const e of cable.feed({start:"snapshot"})) { console.log(e.type); if (e.type==="checkpoint") break; }
  await mirror.close();
  cable.close();
});
