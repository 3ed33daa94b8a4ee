import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { connect, TestServer, type CableError } from "../src/node.js";
import { failure, nextOf, newToken, put, skip } from "./support.js";

/** Writes `ca.pem`, and `node.pem` with `node.key`, a certificate of this CA for the loopback address. */
async function certify(directory: string): Promise<void> {
  const openssl = (text: string, ...subject: string[]) =>
    execFileSync("openssl", [...text.split(" "), ...subject], { cwd: directory, stdio: "pipe" });
  const key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
  openssl(`req -x509 ${key} -days 1 -keyout ca.key -out ca.pem`, "-subj", "/CN=Test CA");
  openssl(`req ${key} -keyout node.key -out node.csr`, "-subj", "/CN=node");
  await writeFile(join(directory, "ext"), "subjectAltName=DNS:localhost,IP:127.0.0.1");
  openssl("x509 -req -in node.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 -extfile ext -out node.pem");
}

test("TLS with a private CA and a token, and without one of them", { skip, timeout: 120_000 }, async () => {
  const directory = await mkdtemp(join(tmpdir(), "cable-tls-"));
  try {
    await certify(directory);
    const settings = { "tls.certificate": join(directory, "node.pem"), "tls.key": join(directory, "node.key") };
    await using server = await TestServer.start({ settings });
    const endpoints = server.endpoint.replace("http:", "https:");
    const tls = { ca: await readFile(join(directory, "ca.pem")) };
    const token = newToken(server, "desk");
    await server.restart(); // It reads its tokens as it starts.

    const cable = connect({ endpoints, tls, token });
    await put(cable, "storm");
    const feed = cable.feed({ start: "snapshot" });
    assert.equal((await nextOf(feed, "snapshotEnd")).count, 1);
    await feed.close();

    const anonymous = connect({ endpoints, tls });
    const missing = await failure(put(anonymous, "storm"));
    assert.equal(missing.reason, "UNAUTHENTICATED");
    assert.match(missing.message, /token/);

    const untrusting = connect({ endpoints, token });
    const untrusted = await failure(put(untrusting, "storm"));
    assert.match(untrusted.message, /certificate/);
    assert.equal(untrusted.mayHaveApplied, false);
    // A feed repeats the attempt, so that a new certificate of the node helps, and reports the cause.
    const reported = await new Promise<CableError>((resolve) => {
      const retrying = untrusting.feed({
        onRetry: (error) => {
          void retrying.close();
          resolve(error);
        },
      });
      void retrying.next();
    });
    assert.match(reported.message, /certificate/);
    for (const { message } of [missing, untrusted]) assert.ok(!message.includes(token));
    for (const client of [cable, anonymous, untrusting]) client.close();
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
