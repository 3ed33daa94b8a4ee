// A view: what a page shows, and the parts that several pages share.

import { ConnectError } from "@connectrpc/connect";
import type { Feeds } from "./alternates";
import { ArticleType, type Article, type Includes } from "./schema";
import { append, el, fill, type Child } from "./dom";
import { figure } from "./body";
import { route, routeOf } from "./links";
import { linkedName, linkedNames, type Named, Names } from "./names";
import { READ_MILLIS } from "./api";
import { save, visited } from "./visit";
import { day, machine, tongue } from "./words";

/** The limit on the articles of a list that "More" extends. */
export const MAX_LISTED = 200;
const PAGE = 24;

export interface View {
  title: string;
  content: HTMLElement;
  /** The list whose feeds the head names. */
  feeds?: Feeds | undefined;
  /** The id of the element that the address leads to. */
  part?: string;
  /** The text for a screen reader, if it is more than the title. */
  announcement?: string;
  /** Called once the view is in the page. */
  start?: () => void;
}

/** The options of a read: it ends with the view, and after a limit. */
export function read(signal: AbortSignal): { signal: AbortSignal; timeoutMs: number } {
  return { signal, timeoutMs: READ_MILLIS };
}

/** The byline, with links to the pages of its authors. */
export function byline(article: Article, names: Names): Child[] {
  const credits = names.credits(article.byline?.credits ?? []);
  const text = article.byline?.text ?? "";
  if (text === "") return credits.length > 0 ? ["By ", linkedNames(credits)] : [];
  const parts: Child[] = [];
  let end = 0;
  for (const credit of creditsIn(text, credits)) {
    parts.push(text.slice(end, credit.from), linkedName(credit));
    end = credit.from + credit.text.length;
  }
  return [...parts, text.slice(end)];
}

/**
 * Returns where a byline has its credits, in order. Longer names come first and only whole words count, so "Ann" is not
 * found in "Anna" or "Ann Bell". A name that the byline has more or less often than its credits is ambiguous, and has no
 * link.
 */
function creditsIn(byline: string, credits: Named[]): (Named & { from: number })[] {
  const found: (Named & { from: number })[] = [];
  const isFree = (from: number, to: number) => found.every((each) => to <= each.from || from >= each.from + each.text.length);
  const texts = [...new Set(credits.map(({ text }) => text))].sort((a, b) => b.length - a.length);
  for (const text of texts) {
    const word = new RegExp(`(?<![\\p{L}\\p{N}])${text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&")}(?![\\p{L}\\p{M}\\p{N}])`, "gu");
    const places = [...byline.matchAll(word)].map(({ index }) => index).filter((from) => isFree(from, from + text.length));
    const named = credits.filter((credit) => credit.text === text);
    if (places.length === named.length) named.forEach((credit, index) => found.push({ ...credit, from: places[index]! }));
  }
  return found.sort((a, b) => a.from - b.from);
}

export function published(article: Article): Child {
  const time = article.publishTime ?? article.firstPublishTime;
  return time && el("time", { datetime: machine(time) }, day(time));
}

const TYPES: Partial<Record<ArticleType, string>> = {
  [ArticleType.LIVEBLOG]: "Live blog",
  [ArticleType.GALLERY]: "In pictures",
  [ArticleType.VIDEO]: "Video",
  [ArticleType.AUDIO]: "Audio",
  [ArticleType.INTERACTIVE]: "Interactive",
};

/** The line above a headline. */
export function kicker(article: Article, names: Names): Child {
  const section = article.section === "" ? "" : names.section(article.section);
  return [TYPES[article.type], article.kicker || section].filter(Boolean).join(" · ");
}

export interface TeaserOptions {
  level?: 2 | 3;
  lead?: boolean;
  brief?: boolean;
}

/** An article in a list. */
export function teaser(article: Article, names: Names, options: TeaserOptions = {}): HTMLElement {
  const heading = el(`h${options.level ?? 2}` as "h2", null, el("a", { href: routeOf(article.name) }, article.headline));
  const text = article.dek || article.summary;
  const above = kicker(article, names);
  const signed = options.brief ? [] : byline(article, names);
  return el("article", { class: options.lead ? "teaser lead" : "teaser", ...tongue(article) },
    el("div", { class: "teaser-text" },
      above !== "" && el("p", { class: "kicker" }, above),
      heading,
      text !== "" && !options.brief && el("p", { class: "dek" }, text),
      el("p", { class: "signed" }, signed, signed.some((part) => part !== "") && " · ", published(article))),
    options.lead && article.leadMedia && figure(article.leadMedia, { name: article.name, path: article.path, names }, { isEager: true }));
}

/** A page of a list. */
export interface Listed {
  articles: Article[];
  includes?: Includes | undefined;
  nextPageToken: string;
}

/** A list that the reader extends, page by page, up to a limit. On a return to it, it is as long as it was. */
export async function list(load: (pageToken: string, pageSize: number) => Promise<Listed>): Promise<HTMLElement> {
  const visit = visited();
  const names = new Names();
  const items = el("div", { class: "list" });
  const below = el("div", { class: "more" });
  const box = el("div", null, items, below);
  let shown = 0;
  let pageToken = "";

  /** Adds articles until the list has `length` of them. A page can have fewer than requested. */
  async function extend(length: number): Promise<void> {
    do {
      const page = await load(pageToken, length - shown);
      names.add(page.includes);
      append(items, page.articles.map((article) => teaser(article, names)));
      shown += page.articles.length;
      pageToken = page.nextPageToken;
    } while (pageToken !== "" && shown < length);
    visit.shown = shown;
    if (pageToken === "") {
      fill(below, shown === 0 && el("p", { class: "quiet" }, "Nothing is published here yet."));
    } else if (shown >= MAX_LISTED) {
      fill(below, el("p", { class: "quiet" },
        `The page shows the newest ${shown}. The command line beside it lists more with --limit ${MAX_LISTED * 5}.`));
    } else {
      const button = el("button", { type: "button", click: () => void more(button) }, "Older articles");
      fill(below, button);
    }
  }

  async function more(button: HTMLButtonElement): Promise<void> {
    button.disabled = true;
    const before = shown;
    try {
      await extend(Math.min(MAX_LISTED, shown + PAGE));
      items.children[before]?.querySelector("a")?.focus();
      save();
    } catch (error) {
      button.disabled = false;
      button.textContent = `Try again: ${ConnectError.from(error).rawMessage}`;
    }
  }

  await extend(Math.min(MAX_LISTED, Math.max(PAGE, visit.shown)));
  return box;
}

/** The link to the live page of a list. */
export function liveLink(kind: string, id: string): HTMLElement {
  return el("p", { class: "go-live" }, el("a", { class: "button", href: route("live", kind, id) }, "Watch it live"));
}

/** A view with its panel of commands. */
export function withPanel(content: Child, panel: HTMLElement): HTMLElement {
  return el("div", { class: "view" }, el("div", { class: "view-main" }, content), panel);
}

export function title(text: string): HTMLElement {
  return el("h1", { tabindex: -1, dir: "auto" }, text);
}
