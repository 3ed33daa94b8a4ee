// A running node, its command line, and a proxy that serves web/dist in front of it.

import { spawn } from "node:child_process";
import fs from "node:fs";
import http from "node:http";
import net from "node:net";
import path from "node:path";

const START_MILLIS = 60_000;
const STOP_MILLIS = 35_000;

export const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' https: data:; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

export function freePort() {
  return new Promise((resolve, reject) => {
    const server = net.createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** Waits until a function returns something true, and returns that. */
export async function until(what, millis, probe) {
  const end = Date.now() + millis;
  for (;;) {
    const value = await probe();
    if (value) return value;
    if (Date.now() > end) throw new Error(`${what}: not within ${millis / 1000} s`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Runs a command to its end, while this process goes on: the proxy is part of it. */
export async function finished(command, words, input, options) {
  const child = spawn(command, words, { ...options, timeout: 60_000 });
  const text = async (stream) => {
    let all = "";
    for await (const part of stream.setEncoding("utf8")) all += part;
    return all;
  };
  child.stdin.on("error", () => {});
  child.stdin.end(input);
  const ended = new Promise((resolve, reject) => child.once("error", reject).once("close", resolve));
  const [status, output, errors] = await Promise.all([ended, text(child.stdout), text(child.stderr)]);
  return { status, output, errors };
}

export class Node {
  /** `options` are those of `cable serve` that choose the data. */
  constructor(program, home, options) {
    Object.assign(this, { program, home, options });
    fs.mkdirSync(home, { recursive: true });
    this.log = path.join(home, "log");
  }

  async start() {
    this.port ??= await freePort();
    this.operations ??= await freePort();
    const log = fs.openSync(this.log, "a");
    this.process = spawn(this.program, [
      "serve", ...this.options, "--listen", `127.0.0.1:${this.port}`, "--ops-listen", `127.0.0.1:${this.operations}`,
    ], { cwd: this.home, stdio: ["ignore", log, log], env: { ...process.env, TMPDIR: this.home } });
    fs.closeSync(log);
    await until("the node is ready", START_MILLIS, async () => {
      if (this.process.exitCode !== null) throw new Error(`the node does not start:\n${fs.readFileSync(this.log, "utf8")}`);
      return fetch(`http://127.0.0.1:${this.operations}/readyz`).then((response) => response.ok, () => false);
    });
  }

  async stop() {
    if (!this.process || this.process.exitCode !== null) return;
    const ended = new Promise((resolve) => this.process.once("exit", resolve));
    this.process.kill("SIGTERM");
    const timer = setTimeout(() => this.process.kill("SIGKILL"), STOP_MILLIS);
    await ended;
    clearTimeout(timer);
  }

  get host() {
    return `127.0.0.1:${this.port}`;
  }

  /** Runs the program as a client and returns its output. */
  async cable(words, input = "", environment = {}) {
    const done = await finished(this.program, words, input, {
      cwd: this.home,
      env: {
        ...process.env,
        CABLE_ENDPOINTS: `http://${this.host}`,
        CABLE_CLIENT_CONFIG: path.join(this.home, "contexts.toml"),
        ...environment,
      },
    });
    if (done.status !== 0) throw new Error(`cable ${words.join(" ")}: ${done.output}${done.errors}`);
    return done.output;
  }

  async article(id) {
    return JSON.parse(await this.cable(["article", "get", id, "-o", "json"]));
  }

  async put(...articles) {
    await this.cable(["article", "put", "-"], articles.map((article) => JSON.stringify(article)).join("\n"));
  }

  /** Changes fields of an article. */
  async change(id, fields) {
    await this.put({ ...(await this.article(id)), ...fields });
  }

  /** Returns the value of a metric without labels. */
  async metric(name) {
    const text = await (await fetch(`http://127.0.0.1:${this.operations}/metrics`)).text();
    const line = text.split("\n").find((each) => each.startsWith(`${name} `));
    if (!line) throw new Error(`the node has no metric ${name}`);
    return Number(line.split(" ")[1]);
  }
}

const TYPES = { "index.html": "text/html; charset=utf-8", "room.js": "text/javascript; charset=utf-8", "room.css": "text/css; charset=utf-8" };

/** Serves web/dist, and passes all other requests on to the node. */
export async function proxy(node, dist) {
  const server = http.createServer((request, response) => {
    const file = request.url === "/" ? "index.html" : request.url.slice(1);
    if (request.method === "GET" && TYPES[file]) {
      response.writeHead(200, { "content-type": TYPES[file], "content-security-policy": POLICY, "cache-control": "no-cache" });
      response.end(fs.readFileSync(path.join(dist, file)));
      return;
    }
    const onward = http.request({
      host: "127.0.0.1", port: node.port, method: request.method, path: request.url, headers: request.headers,
    }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      response.flushHeaders();
      answer.pipe(response);
      answer.on("error", () => response.destroy());
    });
    onward.on("error", () => response.destroy());
    response.on("close", () => onward.destroy());
    request.pipe(onward);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}
