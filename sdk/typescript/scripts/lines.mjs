// Counts the lines of the library that were written by hand, without blank lines, comments and the test server. Fails
// above the limit.
import { readdirSync, readFileSync } from "node:fs";

const LIMIT = 900;
const root = new URL("../src/", import.meta.url);
let total = 0;
for (const name of readdirSync(root).filter((name) => name.endsWith(".ts") && name !== "testing.ts")) {
  const lines = readFileSync(new URL(name, root), "utf8").split("\n");
  const code = lines.filter((line) => !/^\s*($|\/\/|\/\*|\*)/.test(line)).length;
  total += code;
  console.log(`${String(code).padStart(5)} ${name}`);
}
console.log(`${String(total).padStart(5)} of at most ${LIMIT}`);
if (total > LIMIT) process.exit(1);
