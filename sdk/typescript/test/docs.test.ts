import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { connect, FilePositionStore } from "../src/node.js";
import { put, serverTest } from "./support.js";

const root = fileURLToPath(new URL("../../", import.meta.url));

serverTest("the follower of docs/typescript.md follows over a kill, and resumes where it was stopped", async (server) => {
  const text = await readFile(join(root, "../../docs/typescript.md"), "utf8");
  const program = /```js\n(.*?)```/s.exec(text)?.[1] ?? assert.fail("no program");
  assert.ok(program.includes("http://127.0.0.1:7190"));
  // Within the package, so that its name resolves.
  const directory = await mkdtemp(join(root, "dist/docs-"));
  await writeFile(join(directory, "follower.mjs"), program.replace("http://127.0.0.1:7190", server.endpoint));
  const cable = connect({ endpoints: server.endpoint });
  const children: ChildProcess[] = [];
  const follow = () => {
    const child = spawn(process.execPath, ["follower.mjs"], { cwd: directory, stdio: ["ignore", "pipe", "inherit"] });
    children.push(child);
    const lines: string[] = [];
    let wake = () => {};
    createInterface({ input: child.stdout }).on("line", (line) => {
      lines.push(line);
      wake();
    });
    const reach = async (line: string) => {
      while (!lines.includes(line)) await new Promise<void>((resolve) => (wake = resolve));
    };
    const stop = async () => {
      const ended = once(child, "exit");
      child.kill("SIGINT");
      assert.deepEqual(await ended, [0, null]);
      return lines;
    };
    return { reach, stop };
  };
  try {
    const first = await put(cable, "first", "First", ["tags/russia"]);
    const follower = follow();
    await follower.reach(`articles/first at ${first}`);
    await follower.reach("snapshot of 1");
    await server.kill();
    await server.restart();
    const second = await put(cable, "second", "Second", ["tags/russia"]);
    await follower.reach(`upsert articles/second at ${second}`);
    assert.deepEqual(await follower.stop(), [
      `articles/first at ${first}`,
      "snapshot of 1",
      `upsert articles/second at ${second}`,
    ]);
    const saved = await new FilePositionStore(join(directory, "russia.position")).load();
    assert.ok(saved && saved.revision >= second);
    const third = await put(cable, "third", "Third", ["tags/russia"]);
    const again = follow();
    await again.reach(`upsert articles/third at ${third}`);
    assert.deepEqual(await again.stop(), [`upsert articles/third at ${third}`]);
  } finally {
    for (const child of children) child.kill("SIGKILL");
    cable.close();
    await rm(directory, { recursive: true });
  }
});
