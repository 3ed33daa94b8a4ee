// Receives changes by the client or by bare stubs, for sdk/conformance/throughput:
//
//     node throughput.js stub|sdk ADDRESS POSITION COUNT
import { fromBinary } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import * as v1 from "../src/gen/v1.js";
import { ArticleView, connect } from "../src/node.js";

const [, , mode, address = "", position = "", count = ""] = process.argv;
const after = fromBinary(v1.PositionSchema, Buffer.from(position, "base64"));
const filter = { kinds: [v1.EntityKind.ARTICLE] };
const view = ArticleView.FULL;
const baseUrl = `http://${address}`;

async function* stub() {
  const transport = createGrpcTransport({ baseUrl, readMaxBytes: 64 << 20 });
  const request = { filter, view, includeBackfill: true, start: { case: "after", value: after } } as const;
  for await (const { event } of createClient(v1.FeedService, transport).watch(request)) {
    yield event.case === "changes" ? event.value.changes.length : 0;
  }
}

async function* sdk() {
  const cable = connect({ endpoints: baseUrl });
  for await (const event of cable.feed({ filter, view, includeBackfill: true, start: { after } })) {
    yield event.type === "changes" ? event.changes.length : 0;
  }
}

let received = 0;
for await (const changes of mode === "stub" ? stub() : sdk()) {
  if ((received += changes) >= Number(count)) process.exit(0);
}
