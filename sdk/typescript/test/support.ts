import { test } from "node:test";
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import { TestServer, type TestServerOptions } from "../src/node.js";

/** Returns the reason to skip the tests that need the program. In CI it must be there. */
function missingProgram(): string | false {
  const named = process.env["CABLE_PROGRAM"];
  const directories = (process.env["PATH"] ?? "").split(delimiter);
  const paths = named ? [named] : directories.map((directory) => join(directory, "cable"));
  const isThere = paths.some((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
  if (isThere) return false;
  const problem = `no program at ${named ?? "cable in PATH"}: set CABLE_PROGRAM to the program cable`;
  if (process.env["CI"]) throw new Error(problem);
  return problem;
}

const skip = missingProgram();

/** A test against a server of its own, which is stopped at the end. */
export function serverTest(
  name: string,
  body: (server: TestServer) => Promise<void>,
  options: TestServerOptions = {},
): void {
  test(name, { skip, timeout: 120_000 }, async () => {
    await using server = await TestServer.start(options);
    await body(server);
  });
}
