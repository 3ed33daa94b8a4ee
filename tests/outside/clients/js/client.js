// The calls of tests/outside/languages.py by grpc-js: `client.js calls`, `cancel` or `drain SECONDS`.
//
// The node, the CA, the client certificate, the token and the schema come from the environment. Results are lines of
// JSON; codes are the numbers of gRPC.

"use strict";

const fs = require("node:fs");
const readline = require("node:readline");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const { CABLE_ADDRESS, CABLE_CA, CABLE_CLIENT_CERT, CABLE_CLIENT_KEY, CABLE_PROTO, CABLE_TOKEN } = process.env;
const DEADLINE_MS = 200;
const DEADLINES = 10;
const WORKERS = 10;
const GET = { name: "articles/tides" };
const PUT = { article: { name: "articles/by-javascript", headline: "By JavaScript" } };
// A read that waits for a revision that does not come.
const FUTURE = { at_least_revision: 1_000_000_000, max_wait: { seconds: 10 } };

const files = ["content", "feed", "publishing"].map((name) => `cable/v1/${name}.proto`);
const { v1 } = grpc.loadPackageDefinition(loader.loadSync(files, { includeDirs: [CABLE_PROTO], keepCase: true })).cable;

function connect(service, { ca = true, certificate = false } = {}) {
  const own = certificate ? [fs.readFileSync(CABLE_CLIENT_KEY), fs.readFileSync(CABLE_CLIENT_CERT)] : [];
  const credentials = grpc.credentials.createSsl(ca ? fs.readFileSync(CABLE_CA) : null, ...own);
  const backoff = { "grpc.initial_reconnect_backoff_ms": 100, "grpc.max_reconnect_backoff_ms": 500 };
  return new v1[service](CABLE_ADDRESS, credentials, backoff);
}

function metadata({ token = true, waitForReady = false } = {}) {
  const made = new grpc.Metadata({ waitForReady });
  if (token) made.set("authorization", `Bearer ${CABLE_TOKEN}`);
  return made;
}

// Resolves to the code of a unary call.
function unary(client, method, request, sent, timeout) {
  return new Promise((resolve) => {
    client[method](request, sent, { deadline: Date.now() + timeout }, (error) => resolve(error ? error.code : 0));
  });
}

// Resolves to the code of a streaming call once it has ended.
function ended(call) {
  return new Promise((resolve) => {
    call.on("data", () => {});
    call.on("error", (error) => resolve(error.code));
    call.on("end", () => resolve(0));
  });
}

function waitingCalls(content, feeds) {
  const options = (timeout) => ({ deadline: Date.now() + timeout });
  return {
    unary: (timeout) => unary(content, "GetArticle", { ...GET, freshness: FUTURE }, metadata(), timeout),
    stream: (timeout) => ended(content.StreamArticles({ freshness: FUTURE }, metadata(), options(timeout))),
    feed: (timeout) => ended(feeds.Watch({}, metadata(), options(timeout))),
  };
}

async function calls() {
  const content = connect("ContentService");
  const publishing = connect("PublishingService");
  const codes = {
    get_with_token: await unary(content, "GetArticle", GET, metadata(), 5000),
    put_with_token: await unary(publishing, "PutArticle", PUT, metadata(), 5000),
    get_without_token: await unary(content, "GetArticle", GET, metadata({ token: false }), 5000),
    put_with_certificate: await unary(
      connect("PublishingService", { certificate: true }), "PutArticle", PUT, metadata({ token: false }), 5000),
    get_from_untrusted: await unary(
      connect("ContentService", { ca: false }), "GetArticle", GET, metadata(), 5000),
  };
  const late = {};
  for (const [name, call] of Object.entries(waitingCalls(content, connect("FeedService")))) {
    late[name] = [];
    for (let round = 0; round < DEADLINES; round += 1) {
      const start = performance.now();
      const code = await call(DEADLINE_MS);
      if (code !== grpc.status.DEADLINE_EXCEEDED) throw new Error(`${name}: code ${code}`);
      late[name].push(performance.now() - start - DEADLINE_MS);
    }
  }
  print({ codes, late_ms: late });
}

async function cancel() {
  const content = connect("ContentService");
  const feeds = connect("FeedService");
  const input = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  let unaryEnded;
  const unaryCode = new Promise((resolve) => { unaryEnded = resolve; });
  const open = [
    content.GetArticle({ ...GET, freshness: FUTURE }, metadata(), (error) => unaryEnded(error ? error.code : 0)),
    content.StreamArticles({ freshness: FUTURE }, metadata()),
    feeds.Watch({}, metadata()),
  ];
  const codes = [unaryCode, ...open.slice(1).map(ended)];
  print({ open: open.length });
  await input.next();
  for (const call of open) call.cancel();
  print({ codes: await Promise.all(codes) });
  // Stay connected: the end of the connection would end the calls too.
  await input.next();
}

async function drain(seconds) {
  const content = connect("ContentService");
  const codes = {};
  const work = async (end) => {
    while (Date.now() < end) {
      const code = await unary(content, "GetArticle", GET, metadata({ waitForReady: true }), 30_000);
      codes[code] = (codes[code] ?? 0) + 1;
      await new Promise((resolve) => { setTimeout(resolve, 10); });
    }
  };
  await unary(content, "GetArticle", GET, metadata(), 5000);
  print({ ready: true });
  const end = Date.now() + seconds * 1000;
  await Promise.all(Array.from({ length: WORKERS }, () => work(end)));
  print({ codes });
}

function print(result) {
  fs.writeSync(1, `${JSON.stringify(result)}\n`);
}

const [, , scenario, ...rest] = process.argv;
({ calls, cancel, drain })[scenario](...rest.map(Number)).then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
