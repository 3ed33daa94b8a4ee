// The articles of a live page, a row for each.

import { content } from "../api";
import { el, fill, type Child } from "../dom";
import { idOf, routeOf } from "../links";
import type { Names } from "../names";
import type { Article } from "../schema";
import { kicker, read } from "../view";
import { tongue } from "../words";

export type Mark = "new" | "changed" | "left" | "removed" | "unreadable";

export const MARK_WORDS: Record<Mark, string> = {
  new: "New",
  changed: "Changed",
  left: "Left",
  removed: "Removed",
  unreadable: "Unreadable",
};

/** The row of an article. It stays the same element whatever happens to the article. */
interface Row {
  item: HTMLElement;
  kicker: HTMLElement;
  heading: HTMLElement;
  link: HTMLElement;
  headline: string;
  mark: Mark | null;
  /** The article, unless it is gone. */
  article: Article | null;
}

/** A list of articles, the newest first. An article has one row, also when it is gone, until that leaves the list. */
export class Rows {
  readonly list = el("ol", { class: "live-articles" });
  readonly #rows = new Map<string, Row>();
  /** The sections that were read because they were unknown. */
  readonly #requested = new Set<string>();

  constructor(
    private readonly limit: number,
    private readonly signal: AbortSignal,
    private names: Names,
  ) {}

  /** Replaces all rows. */
  reset(articles: Article[], names: Names): void {
    this.names = names;
    this.#requested.clear();
    this.#rows.clear();
    this.list.replaceChildren();
    for (const article of articles) this.list.append(this.#show(article, null));
  }

  /** Returns the name of the first article. */
  first(): string | undefined {
    return this.#rows.keys().next().value;
  }

  /** Returns the headline of an article, if the list has it. */
  headline(name: string): string | undefined {
    return this.#rows.get(name)?.headline;
  }

  /** Whether the list has an article that is not gone. */
  has(name: string): boolean {
    const row = this.#rows.get(name);
    return row !== undefined && row.mark !== "left" && row.mark !== "removed";
  }

  /** Shows an article at the top. */
  put(article: Article, mark: Mark): void {
    moveToTop(this.list, this.#show(article, mark));
    trim(this.list, this.limit, (item) => this.#rows.delete(item.dataset["name"] ?? ""));
  }

  /** Marks the row of an article that is gone. */
  strike(name: string, mark: Mark, detail: string): void {
    const row = this.#rows.get(name);
    if (!row) return;
    Object.assign(row, { article: null, mark });
    row.item.className = `live-article ${mark}`;
    fill(row.kicker, el("span", { class: "badge" }, MARK_WORDS[mark]), detail);
    refill(row.heading, row.item, el("del", null, row.headline));
  }
  /** Erases the content of an article. Its id stands for it. */
  erase(name: string): void {
    const row = this.#rows.get(name);
    if (!row) return;
    row.headline = idOf(name);
    row.link.textContent = "";
  }

  /** Shows an article in its row, which is made if it has none. */
  #show(article: Article, mark: Mark | null): HTMLElement {
    const row = this.#rows.get(article.name) ?? this.#addRow(article.name);
    Object.assign(row, { article, mark, headline: article.headline });
    const { lang, dir } = tongue(article);
    row.item.className = mark ? `live-article ${mark} arrived` : "live-article";
    row.item.toggleAttribute("lang", lang !== null);
    if (lang !== null) row.item.lang = lang;
    row.item.dir = dir;
    row.link.textContent = article.headline;
    if (!row.link.isConnected) fill(row.heading, row.link);
    this.#label(row);
    void this.#readSection(article.section);
    return row.item;
  }

  #addRow(name: string): Row {
    const above = el("p", { class: "kicker" });
    const heading = el("h3");
    const row: Row = {
      item: el("li", { tabindex: -1, "data-name": name }, above, heading),
      kicker: above,
      heading,
      link: el("a", { href: routeOf(name) }),
      headline: "",
      mark: null,
      article: null,
    };
    this.#rows.set(name, row);
    return row;
  }

  #label(row: Row): void {
    if (row.article) fill(row.kicker, row.mark && el("span", { class: "badge" }, MARK_WORDS[row.mark]), kicker(row.article, this.names));
  }

  /** Reads a section that the page has not read, and labels its articles with its name. */
  async #readSection(name: string): Promise<void> {
    if (name === "" || this.names.sections.has(name) || this.#requested.has(name)) return;
    this.#requested.add(name);
    try {
      const { section } = await content.getSection({ name }, read(this.signal));
      if (section) this.names.add({ sections: [section] });
      for (const row of this.#rows.values()) if (row.article?.section === name) this.#label(row);
    } catch {
      // Its id stands for its name.
    }
  }
}

/** Replaces the children of a part of an item. If one of them has the focus, the item receives it. */
export function refill(part: Element, item: HTMLElement, ...children: Child[]): void {
  const hadFocus = part.contains(document.activeElement);
  fill(part, ...children);
  if (hadFocus) item.focus({ preventScroll: true });
}

/** Moves an item to the top of its list, or inserts it there. An element that moves loses the focus. */
function moveToTop(list: Element, item: Element): void {
  if (!item.contains(document.activeElement)) {
    list.prepend(item);
    return;
  }
  for (let above = item.previousElementSibling; above; above = item.previousElementSibling) {
    above.classList.remove("arrived");
    item.after(above);
  }
}

/** Removes the last items above a limit, but none that has the focus. */
export function trim(list: Element, limit: number, dropped: (item: HTMLElement) => void = () => {}): void {
  while (list.childElementCount > limit) {
    const last = list.lastElementChild as HTMLElement;
    const item = last.contains(document.activeElement) ? last.previousElementSibling as HTMLElement : last;
    dropped(item);
    item.remove();
  }
}
