// The live page: the newest articles of a tag, a section or an author, and each change as it is committed.

import { content } from "../api";
import { announce, el, fill, type Child } from "../dom";
import { Follower, type Filter, type Listener, type State } from "../follower";
import { idOf, routeOf } from "../links";
import { Names } from "../names";
import { cable, curl, grpcurl, option, panel } from "../panel";
import { ArticleView, Include, type Article, type FeedChange, type Position } from "../schema";
import { kicker, read, title, type View, withPanel } from "../view";
import { clock, count, machine, millis, REMOVALS, span, tongue } from "../words";

/** The changes and the articles that the page shows. Older ones leave it. */
const MAX_CHANGES = 200;
const MAX_ARTICLES = 40;
/** The measurements that the median is taken of. */
const MAX_SAMPLES = 200;
/** The pause between two announcements to a screen reader. */
const ANNOUNCE_MILLIS = 2500;

type Kind = "tag" | "section" | "author";

interface Subject {
  name: string;
  text: string;
  watch: Filter;
  list: { allTags: string[] } | { section: string } | { authors: string[] };
  option: string;
  request: object;
}

async function subject(kind: Kind, id: string, signal: AbortSignal): Promise<Subject> {
  const name = `${kind}s/${id}`;
  switch (kind) {
    case "tag": {
      const { tag } = await content.getTag({ name }, read(signal));
      return { name, text: tag?.displayName || id, watch: { anyTags: [name] }, list: { allTags: [name] }, option: "--any-tag", request: { any_tags: [name] } };
    }
    case "section": {
      const { section } = await content.getSection({ name }, read(signal));
      return { name, text: section?.displayName || id, watch: { sections: [name] }, list: { section: name }, option: "--section", request: { sections: [name] } };
    }
    case "author": {
      const { author } = await content.getAuthor({ name }, read(signal));
      return { name, text: author?.displayName || id, watch: { authors: [name] }, list: { authors: [name] }, option: "--author", request: { authors: [name] } };
    }
  }
}

export async function live(kind: Kind, id: string, signal: AbortSignal): Promise<View> {
  const shown = await subject(kind, id, signal);
  const page = new LivePage(shown, signal);
  await page.load();
  const query = `${kind}=${encodeURIComponent(id)}`;
  const commands = [
    { ...cable(["feed", "watch", ...option(shown.option, id)]), label: "Follow: command line" },
    { ...curl(`/v1/feed?${query}`, "-N"), label: "Follow: curl" },
    { ...grpcurl("FeedService/Watch", { filter: shown.request }), label: "Follow: grpcurl" },
    ...page.example(),
  ];
  return {
    title: `Live: ${shown.text}`,
    content: withPanel(page.content, panel(commands, "Make a change in a terminal, and watch it arrive here.")),
    start: () => page.start(),
  };
}

type Mark = "new" | "changed" | "left" | "removed" | "unreadable";

const MARK_WORDS: Record<Mark, string> = {
  new: "New",
  changed: "Changed",
  left: "Left",
  removed: "Removed",
  unreadable: "Unreadable",
};

class LivePage implements Listener {
  readonly content: HTMLElement;
  readonly #articles = el("ol", { class: "live-articles" });
  readonly #wire = el("ol", { class: "wire" });
  readonly #status = el("p", { class: "live-state" });
  readonly #place = el("span", { class: "quiet position" });
  readonly #count = el("dd", null, "0");
  readonly #last = el("dd", null, "–");
  readonly #median = el("dd", null, "–");
  readonly #button = el("button", { type: "button", class: "cut", click: () => this.#press() }, "Cut connection");
  readonly #empty = el("p", { class: "quiet" }, "No change yet. The page is waiting for one.");
  readonly #rows = new Map<string, { item: HTMLElement; headline: string }>();
  readonly #samples: number[] = [];
  #names = new Names();
  #follower: Follower | null = null;
  #state: State["kind"] = "connecting";
  #wasCut = false;
  #caughtUp = 0;
  #changes = 0;
  #said = { waiting: [] as string[], timer: 0 };

  constructor(
    private readonly subject: Subject,
    private readonly signal: AbortSignal,
  ) {
    this.content = el("div", { class: "live" },
      el("header", { class: "page-head" },
        el("p", { class: "label" }, "Live"),
        title(subject.text),
        el("p", { class: "dek" }, "Each change appears as it is committed. The time beside it runs from the commit in the store to this screen.")),
      el("div", { class: "live-bar", role: "group", "aria-label": "Connection" },
        el("div", null, this.#status, this.#place),
        this.#button),
      el("dl", { class: "numbers" },
        el("div", null, el("dt", null, "Changes"), this.#count),
        el("div", null, el("dt", null, "Last, commit to screen"), this.#last),
        el("div", null, el("dt", null, "Median"), this.#median)),
      el("div", { class: "live-columns" },
        el("section", { "aria-labelledby": "wire-title" }, el("h2", { id: "wire-title" }, "The wire"), this.#empty, this.#wire),
        el("section", { "aria-labelledby": "articles-title" }, el("h2", { id: "articles-title" }, "The articles"), this.#articles)));
  }

  /** Reads the newest articles. The feed starts after the revision of this read. */
  async load(): Promise<void> {
    const page = await content.listArticles({
      filter: this.subject.list,
      pageSize: MAX_ARTICLES,
      view: ArticleView.BASIC,
      includes: [Include.SECTIONS],
    }, read(this.signal));
    this.#names = new Names(page.includes);
    this.#rows.clear();
    fill(this.#articles);
    for (const article of page.articles) this.#articles.append(this.#row(article, null));
    const position = { logId: page.meta?.logId ?? "", revision: page.meta?.servedRevision ?? 0n };
    this.#follower?.close();
    this.#follower = new Follower(this.subject.watch, position, this);
  }

  start(): void {
    this.signal.addEventListener("abort", () => {
      this.#follower?.close();
      clearTimeout(this.#said.timer);
    });
    addEventListener("online", () => this.#state === "waiting" && this.#follower?.resume(), { signal: this.signal });
    this.#follower?.resume();
  }

  /** The lines that change the first article. */
  example() {
    const first = [...this.#rows.keys()][0];
    if (!first) return [];
    const id = idOf(first);
    const get = cable(["article", "get", "-o", "json"], id).line;
    const put = cable(["article", "put"], "-").line;
    return [{ label: "Change a headline", line: `${get} | sed 's/"headline": "/&Now: /' | ${put}` }];
  }

  #press(): void {
    if (this.#state === "live" || this.#state === "connecting") {
      this.#wasCut = true;
      this.#follower?.cut();
    } else if (this.#state === "ended") {
      location.reload();
    } else {
      this.#follower?.resume();
    }
  }

  stateChanged(state: State): void {
    const before = this.#state;
    this.#state = state.kind;
    this.content.dataset["state"] = state.kind;
    switch (state.kind) {
      case "connecting":
        this.#caughtUp = 0;
        fill(this.#status, "Connecting…");
        this.#button.textContent = "Cut connection";
        break;
      case "live":
        fill(this.#status, "Connected");
        this.#button.textContent = "Cut connection";
        if (this.#wasCut) {
          const text = this.#caughtUp === 0
            ? "Resumed. Nothing had changed meanwhile."
            : `Resumed. ${count(this.#caughtUp, "change")} made meanwhile, nothing lost.`;
          this.#note(text);
          this.#say(text);
        }
        this.#wasCut = false;
        break;
      case "cut":
        fill(this.#status, "Connection cut. Changes continue without this page.");
        this.#button.textContent = "Resume";
        this.#note("Connection cut by you.");
        this.#say("Connection cut");
        break;
      case "waiting":
        if (before === "live") this.#note("Connection lost.");
        this.#wasCut = true;
        fill(this.#status, `${state.failure.title}. Next attempt in ${span(state.untilMillis - Date.now())}.`);
        this.#button.textContent = "Connect now";
        break;
      case "ended":
        fill(this.#status, `${state.failure.title}. ${state.failure.text}`);
        this.#button.textContent = "Reload";
        break;
    }
  }

  positionChanged(position: Position): void {
    const chain = [...position.chain.slice(0, 4)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    this.#place.textContent = `position ${position.logId}:${position.revision}${chain === "" ? "" : `:${chain}…`}`;
  }

  historyLost(): void {
    this.#note("The history of the node has changed. The page was read again.");
    this.load().then(
      () => this.#follower?.resume(),
      () => location.reload(),
    );
  }

  apply(changes: FeedChange[], late: boolean): void {
    for (const change of changes) this.#apply(change, late);
    this.#count.textContent = String(this.#changes);
  }

  #apply(change: FeedChange, late: boolean): void {
    const event = change.change;
    let name: string;
    let mark: Mark;
    let detail = "";
    let article: Article | null = null;
    switch (event.case) {
      case "upsert": {
        if (event.value.record.case !== "article") return;
        article = event.value.record.value;
        name = article.name;
        mark = isFirst(article) && !this.#rows.has(name) ? "new" : "changed";
        break;
      }
      case "left":
        name = event.value;
        mark = "left";
        detail = `no longer in ${this.subject.text}`;
        break;
      case "removed":
        name = event.value.name;
        mark = "removed";
        detail = REMOVALS[event.value.reason] ?? "";
        break;
      case "unreadable":
        name = event.value;
        mark = "unreadable";
        detail = "the stored record is damaged";
        break;
      default:
        return;
    }
    this.#changes += 1;
    if (late) this.#caughtUp += 1;
    const before = this.#rows.get(name)?.headline;
    const headline = article?.headline ?? before ?? idOf(name);

    if (article) this.#articles.prepend(this.#row(article, mark));
    else this.#strike(name, mark, detail);
    trim(this.#articles, MAX_ARTICLES, (item) => this.#rows.delete((item as HTMLElement).dataset["name"] ?? ""));

    const took = el("span", { class: "took" }, late ? "while away" : "…");
    const isReworded = mark === "changed" && before !== undefined && before !== headline;
    const item = el("li", { class: `wire-row ${mark} arrived`, "data-revision": String(change.revision), "data-name": name },
      el("p", { class: "wire-line" },
        el("span", { class: "badge" }, MARK_WORDS[mark]),
        change.time && el("time", { datetime: machine(change.time) }, clock(change.time)),
        took),
      el("p", { class: "wire-text", dir: "auto" },
        isReworded && [el("del", null, before), " "],
        article ? el("a", { href: routeOf(name) }, isReworded ? el("ins", null, headline) : headline) : el("del", null, headline),
        detail !== "" && el("span", { class: "quiet" }, ` ${detail}`)));
    this.#insert(item);
    this.#say(`${MARK_WORDS[mark]}: ${headline}`);
    if (change.time && !late) this.#measure(millis(change.time), item, took);
  }

  /** Measures when the browser has painted the row: a task that follows the frame after the insertion. */
  #measure(commit: number, item: HTMLElement, shown: HTMLElement): void {
    if (document.hidden) {
      shown.textContent = "in the background";
      return;
    }
    requestAnimationFrame(() => {
      const channel = new MessageChannel();
      channel.port1.onmessage = () => {
        channel.port1.close();
        const elapsed = Date.now() - commit;
        item.dataset["millis"] = String(Math.round(elapsed));
        // Two clocks that differ cannot measure.
        if (elapsed < -1) {
          shown.textContent = "clocks differ";
          return;
        }
        shown.textContent = span(elapsed);
        this.#samples.push(elapsed);
        if (this.#samples.length > MAX_SAMPLES) this.#samples.shift();
        this.#last.textContent = span(elapsed);
        const sorted = [...this.#samples].sort((a, b) => a - b);
        this.#median.textContent = span(sorted[sorted.length >> 1] ?? 0);
      };
      channel.port2.postMessage(null);
    });
  }

  /** A row of the wire about the connection. */
  #note(text: string): void {
    this.#insert(el("li", { class: "wire-note" }, text));
  }

  #insert(item: HTMLElement): void {
    this.#empty.remove();
    this.#wire.prepend(item);
    trim(this.#wire, MAX_CHANGES);
  }

  /** Makes the row of an article, in place of an earlier one. */
  #row(article: Article, mark: Mark | null): HTMLElement {
    this.#rows.get(article.name)?.item.remove();
    const above: Child = kicker(article, this.#names);
    const item = el("li", { class: mark ? `live-article ${mark} arrived` : "live-article", ...tongue(article), "data-name": article.name },
      el("p", { class: "kicker" }, mark && el("span", { class: "badge" }, MARK_WORDS[mark]), above),
      el("h3", null, el("a", { href: routeOf(article.name) }, article.headline)));
    this.#rows.set(article.name, { item, headline: article.headline });
    return item;
  }

  /** Marks the row of an article that is gone. */
  #strike(name: string, mark: Mark, detail: string): void {
    const row = this.#rows.get(name);
    if (!row) return;
    row.item.className = `live-article ${mark}`;
    fill(row.item,
      el("p", { class: "kicker" }, el("span", { class: "badge" }, MARK_WORDS[mark]), detail),
      el("h3", null, el("del", null, row.headline)));
    if (mark !== "unreadable") this.#rows.delete(name);
  }

  /** Announces changes, several at once where they come fast. */
  #say(text: string): void {
    const said = this.#said;
    if (said.waiting.length < MAX_CHANGES) said.waiting.push(text);
    if (said.timer !== 0) return;
    const flush = () => {
      said.timer = 0;
      if (said.waiting.length === 0) return;
      announce(said.waiting.length <= 3 ? said.waiting.join(". ") : `${said.waiting.length} changes. The last: ${said.waiting.at(-1)}`);
      said.waiting = [];
      said.timer = setTimeout(flush, ANNOUNCE_MILLIS);
    };
    flush();
  }
}

/** Whether this is the first version of an article. */
function isFirst(article: Article): boolean {
  const { createTime, updateTime } = article;
  return !!createTime && !!updateTime && millis(createTime) === millis(updateTime);
}

function trim(list: Element, limit: number, dropped: (item: Element) => void = () => {}): void {
  while (list.childElementCount > limit) {
    const last = list.lastElementChild!;
    dropped(last);
    last.remove();
  }
}
