// A view: what a page shows, and the parts that several pages share.

import { ConnectError } from "@connectrpc/connect";
import type { Feeds } from "./alternates";
import { ArticleType, type Article, type Author, type Includes, type Section, type Tag, TagKind } from "./schema";
import { append, el, type Child } from "./dom";
import { figure } from "./body";
import { idOf, route, routeOf } from "./links";
import { READ_MILLIS } from "./api";
import { day, machine, sentence, tongue } from "./words";

/** The limit on the articles of a list that "More" extends. */
export const MAX_LISTED = 200;
const PAGE = 24;

export interface View {
  title: string;
  content: HTMLElement;
  /** The list whose feeds the head names. */
  feeds?: Feeds | undefined;
  /** Called once the view is in the page. */
  start?: () => void;
}

/** The options of a read: it ends with the view, and after a limit. */
export function read(signal: AbortSignal): { signal: AbortSignal; timeoutMs: number } {
  return { signal, timeoutMs: READ_MILLIS };
}

/** The entities that come with articles, by name. */
export class Names {
  readonly authors = new Map<string, Author>();
  readonly sections = new Map<string, Section>();
  readonly tags = new Map<string, Tag>();

  constructor(includes?: Includes) {
    this.add(includes);
  }

  add(includes: Includes | undefined): void {
    for (const author of includes?.authors ?? []) this.authors.set(author.name, author);
    for (const section of includes?.sections ?? []) this.sections.set(section.name, section);
    for (const tag of includes?.tags ?? []) this.tags.set(tag.name, tag);
  }

  section(name: string): string {
    return this.sections.get(name)?.displayName || idOf(name);
  }

  /** Tags for readers: those that are for filters alone are left out. */
  shownTags(article: Article): { name: string; text: string }[] {
    return article.tags
      .filter((name) => this.tags.get(name)?.kind !== TagKind.INTERNAL)
      .map((name) => ({ name, text: this.tags.get(name)?.displayName || idOf(name) }));
  }

  credits(article: Article): { name: string; text: string }[] {
    return (article.byline?.credits ?? [])
      .map((credit) => ({
        name: credit.author,
        text: credit.displayName || this.authors.get(credit.author)?.displayName || idOf(credit.author),
      }))
      .filter((credit) => credit.text !== "");
  }
}

/** The byline, with links to the pages of its authors. */
export function byline(article: Article, names: Names): Child[] {
  const credits = names.credits(article);
  const line = article.byline?.text || (credits.length > 0 ? `By ${sentence(credits.map((credit) => credit.text))}` : "");
  const parts: Child[] = [];
  let rest = line;
  for (const { name, text } of credits) {
    const at = rest.indexOf(text);
    if (name === "" || at < 0) continue;
    parts.push(rest.slice(0, at), el("a", { href: routeOf(name) }, text));
    rest = rest.slice(at + text.length);
  }
  return [...parts, rest];
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
    options.lead && article.leadMedia && figure(article.leadMedia, { name: article.name, path: article.path }, "", true));
}

/** A page of a list. */
export interface Listed {
  articles: Article[];
  includes?: Includes | undefined;
  nextPageToken: string;
}

/** A list that the reader extends, page by page, up to a limit. */
export async function list(load: (pageToken: string, pageSize: number) => Promise<Listed>): Promise<HTMLElement> {
  const names = new Names();
  const items = el("div", { class: "list" });
  const below = el("div", { class: "more" });
  const box = el("div", null, items, below);
  let shown = 0;

  async function extend(pageToken: string): Promise<void> {
    const page = await load(pageToken, PAGE);
    names.add(page.includes);
    const first = page.articles.map((article) => items.appendChild(teaser(article, names)))[0];
    shown += page.articles.length;
    below.replaceChildren();
    if (pageToken !== "") first?.querySelector("a")?.focus();
    if (page.nextPageToken === "") {
      if (shown === 0) append(below, el("p", { class: "quiet" }, "Nothing is published here yet."));
    } else if (shown >= MAX_LISTED) {
      append(below, el("p", { class: "quiet" }, `The page shows the newest ${shown}. The commands beside it show all.`));
    } else {
      const button = el("button", { type: "button", click: () => void more(button, page.nextPageToken) }, "Older articles");
      append(below, button);
    }
  }

  async function more(button: HTMLButtonElement, pageToken: string): Promise<void> {
    button.disabled = true;
    try {
      await extend(pageToken);
    } catch (error) {
      button.disabled = false;
      button.textContent = `Try again: ${ConnectError.from(error).rawMessage}`;
    }
  }

  await extend("");
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
