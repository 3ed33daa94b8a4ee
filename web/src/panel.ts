// The panel beside each view: the commands that show the same elsewhere.

import { announce, el } from "./dom";
import { token } from "./api";

export interface Command {
  label: string;
  line: string;
}

const DEFAULT_HOSTS = new Set(["127.0.0.1:7190", "localhost:7190"]);

/** Quotes a word for a shell. */
export function quote(word: string): string {
  return /^[A-Za-z0-9_.\/:=@%+,-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** A line of the command line program for this node: its words, and the ids that it is for. */
export function cable(words: string[], ...ids: string[]): Command {
  const isDefault = location.protocol === "http:" && DEFAULT_HOSTS.has(location.host);
  const endpoint = isDefault ? [] : ["--endpoint", location.origin];
  const line = ids.some(isDashed) ? [...words, ...endpoint, "--", ...ids] : [...words, ...ids, ...endpoint];
  return { label: "Command line", line: ["cable", ...line].map(quote).join(" ") };
}

/** An option with its value. A value with a dash would be taken for the next option. */
export function option(name: string, value: string): string[] {
  return isDashed(value) ? [`${name}=${value}`] : [name, value];
}

function isDashed(word: string): boolean {
  return word.startsWith("-") && word !== "-";
}

/** A line of curl for a path of this node. To curl, brackets stand for several addresses. */
export function curl(path: string, ...options: string[]): Command {
  const url = location.origin + path.replace(/[[\]{}]/g, encodeURIComponent);
  const words = ["curl", ...options, ...header("-H"), quote(url)];
  return { label: "curl", line: words.join(" ") };
}

/** A line of grpcurl for a call of this node. */
export function grpcurl(method: string, request: object): Command {
  const plain = location.protocol === "http:" ? ["-plaintext"] : [];
  const host = location.port === "" ? `${location.host}:${location.protocol === "http:" ? 80 : 443}` : location.host;
  const words = ["grpcurl", ...plain, ...header("-H"), "-d", quote(JSON.stringify(request)), quote(host), `cable.v1.${method}`];
  return { label: "grpcurl", line: words.join(" ") };
}

/** The token itself is never shown: the lines name a variable of the shell. */
function header(option: string): string[] {
  return token.get() === "" ? [] : [option, '"authorization: Bearer $CABLE_TOKEN"'];
}

export function panel(commands: Command[], note = ""): HTMLElement {
  return el("aside", { class: "panel", "aria-labelledby": "panel-title" },
    el("h2", { id: "panel-title" }, "From your terminal"),
    note !== "" && el("p", { class: "quiet" }, note),
    commands.map(row));
}

function row({ label, line }: Command): HTMLElement {
  const code = el("pre", { tabindex: 0, role: "region", "aria-label": `Command: ${label}` }, el("code", null, line));
  const button = el("button", { type: "button", class: "copy", "aria-label": `Copy: ${label}`, click: () => void copy() }, "Copy");
  async function copy(): Promise<void> {
    const isCopied = await copied(line, code);
    button.textContent = isCopied ? "Copied" : "Press Ctrl-C";
    announce(isCopied ? `${label}: copied` : `${label}: selected, press Control C to copy`);
    setTimeout(() => (button.textContent = "Copy"), 2000);
  }
  return el("div", { class: "command" }, el("div", { class: "command-head" }, el("h3", null, label), button), code);
}

/** Copies a text. If that is not allowed, the text stays selected for the reader to copy. */
async function copied(text: string, shown: HTMLElement): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // A page without TLS has no clipboard of its own, but can copy a selection.
    getSelection()?.selectAllChildren(shown);
    return document.execCommand("copy");
  }
}
