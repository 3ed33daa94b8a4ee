import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";

/** The options of a server for tests. */
export interface TestServerOptions {
  /** The program. If unset, the environment variable `CABLE_PROGRAM` names it, else it is `cable` in `PATH`. */
  program?: string;
  /** Settings by key, such as `{ "server.drain_timeout": "1s" }`; `cable config print` lists them all. */
  settings?: { readonly [key: string]: string };
}

const START_MS = 60_000;
const STOP_MS = 10_000;
/** The lines of the log that the error of a failed start has. */
const QUOTED_LINES = 20;

/** A server for tests: the program `cable` on a free port, with an empty store in a temporary directory. */
export class TestServer implements AsyncDisposable {
  #process: ChildProcess | undefined;
  #address = "127.0.0.1:0";

  private constructor(
    private readonly options: TestServerOptions,
    /** The directory of the store. */
    readonly directory: string,
  ) {}

  /** Starts a server, and waits until it serves. */
  static async start(options: TestServerOptions = {}): Promise<TestServer> {
    const server = new TestServer(options, await mkdtemp(join(tmpdir(), "cable-")));
    // With this file, the server looks for no other.
    await writeFile(join(server.directory, "cable.toml"), "");
    await server.restart().catch(async (error: unknown) => {
      await server.stop();
      throw error;
    });
    return server;
  }

  /** The endpoint, such as `http://127.0.0.1:40123`. It stays the same over restarts. */
  get endpoint(): string {
    return `http://${this.#address}`;
  }

  /** Sends a signal to the server. On Linux, SIGSTOP has taken effect when this returns. */
  signal(signal: NodeJS.Signals): void {
    this.#process?.kill(signal);
    const state = `/proc/${this.#process?.pid}/stat`;
    while (signal === "SIGSTOP" && existsSync(state) && !readFileSync(state, "utf8").includes(") T ")) continue;
  }

  /** Ends the server with a signal, SIGKILL if unset, and waits for its end. The store stays. */
  async kill(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    const process = this.#process;
    if (!process || process.exitCode !== null || process.signalCode !== null) return;
    const ended = once(process, "exit");
    process.kill(signal);
    const timer = setTimeout(() => process.kill("SIGKILL"), STOP_MS);
    await ended.finally(() => clearTimeout(timer));
  }

  /** Starts the server again at the same address, with the same store. */
  async restart(): Promise<void> {
    await this.kill();
    const named = this.options.program ?? (process.env["CABLE_PROGRAM"] || "cable");
    // A path must not depend on the directory of the server.
    const program = named.includes("/") ? resolve(named) : named;
    const fail = (problem: string) =>
      new Error(`cannot start ${program}: ${problem}; set CABLE_PROGRAM to the program, or install it in PATH`);
    const env = Object.entries(process.env).filter(([name]) => !name.startsWith("CABLE__"));
    const settings = { "log.level": "info", "log.format": "json", ...this.options.settings };
    for (const [key, value] of Object.entries(settings)) {
      env.push([`CABLE__${key.replaceAll(".", "__").toUpperCase()}`, value]);
    }
    const data = join(this.directory, "store");
    const args = ["serve", "--listen", this.#address, "--ops-listen", "off", "--data", data];
    const child = spawn(program, args, {
      cwd: this.directory,
      env: Object.fromEntries(env),
      stdio: ["ignore", "ignore", "pipe"],
    });
    this.#process = child;
    const log: string[] = [];
    this.#address = await new Promise<string>((resolve, reject) => {
      const timer = setTimeout(() => reject(fail(`not serving within ${START_MS} ms`)), START_MS);
      child.once("error", (error) => reject(fail(error.message)));
      child.once("close", () => reject(fail(`it ended: ${log.join("\n")}`)));
      child.once("close", () => clearTimeout(timer));
      createInterface({ input: child.stderr }).on("line", (line) => {
        const address = /"message":"serving","address":"([^"]+)"/.exec(line)?.[1];
        if (address === undefined) return void (log.push(line) > QUOTED_LINES && log.shift());
        clearTimeout(timer);
        resolve(address);
      });
    });
  }

  /** Stops the server, and removes its store. */
  async stop(): Promise<void> {
    await this.kill("SIGTERM");
    await rm(this.directory, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
