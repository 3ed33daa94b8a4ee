// The live page: the newest articles of a tag, a section or an author, and each change as it is committed.

import { Announcer } from "../announcer";
import { content, token } from "../api";
import { el, fill } from "../dom";
import { Follower, type Listener, type Start, type State } from "../follower";
import { again, idOf, routeOf } from "../links";
import { Names } from "../names";
import { cable, curl, grpcurl, option, panel } from "../panel";
import { ArticleView, Include, RemovalReason, type Article, type FeedChange, type Position } from "../schema";
import { TOKEN_REASON, tokenForm } from "../token";
import { read, title, type View, withPanel } from "../view";
import { clock, count, machine, millis, REMOVALS, span } from "../words";
import { MARK_WORDS, refill, Rows, trim, type Mark } from "./rows";
import { MAX_SECTIONS, subject, type Kind, type Subject } from "./subject";

/** The changes and the articles that the page shows. Older ones leave it. */
const MAX_CHANGES = 200;
const MAX_ARTICLES = 40;
/** The measurements that the median is taken of. */
const MAX_SAMPLES = 200;
const OPTIONS: Record<Kind, string> = { tag: "--any-tag", section: "--section", author: "--author" };

export async function live(kind: Kind, id: string, signal: AbortSignal): Promise<View> {
  const shown = await subject(kind, id, signal);
  const page = new LivePage(shown, signal);
  const start = await page.load();
  const ids = shown.names.map(idOf);
  const query = ids.map((each) => `${kind}=${encodeURIComponent(each)}`).join("&");
  const field = { tag: "any_tags", section: "sections", author: "authors" }[kind];
  const commands = [
    { ...cable(["feed", "watch", ...ids.flatMap((each) => option(OPTIONS[kind], each))]), label: "Follow: command line" },
    { ...curl(`/v1/feed?${query}`, "-N"), label: "Follow: curl" },
    { ...grpcurl("FeedService/Watch", { filter: { [field]: shown.names } }), label: "Follow: grpcurl" },
    ...page.example(),
  ];
  return {
    title: `Live: ${shown.text}`,
    content: withPanel(page.content, panel(commands, "Make a change in a terminal, and watch it arrive here.")),
    start: () => page.start(start),
  };
}

class LivePage implements Listener {
  readonly content: HTMLElement;
  readonly #heading: HTMLElement;
  readonly #wire = el("ol", { class: "wire" });
  readonly #status = el("p", { class: "live-state" });
  readonly #place = el("span", { class: "quiet position" });
  readonly #form = el("div");
  readonly #count = el("dd");
  readonly #last = el("dd");
  readonly #median = el("dd");
  readonly #button = el("button", { type: "button", class: "cut", click: () => this.#press() }, "Cut connection");
  readonly #empty = el("p", { class: "quiet" }, "No change yet. The page is waiting for one.");
  readonly #announcer = new Announcer();
  readonly #rows: Rows;
  #samples: number[] = [];
  #follower: Follower | null = null;
  #state: State["kind"] = "connecting";
  #wasCut = false;
  #caughtUp = 0;
  #changes = 0;

  constructor(
    private readonly subject: Subject,
    private readonly signal: AbortSignal,
  ) {
    this.#heading = title(subject.text);
    this.#rows = new Rows(MAX_ARTICLES, signal, new Names());
    this.content = el("div", { class: "live" },
      el("header", { class: "page-head" },
        el("p", { class: "label" }, "Live"),
        this.#heading,
        el("p", { class: "dek" }, "Each change appears as it is committed. The time beside it runs from the commit in the store to this screen."),
        subject.excess > 0 && el("p", { class: "notice" },
          `The page follows this section and ${MAX_SECTIONS - 1} of those within it. It does not follow ${count(subject.excess, "other")}.`)),
      el("div", { class: "live-bar", role: "group", "aria-label": "Connection" },
        el("div", null, this.#status, this.#place),
        this.#button),
      this.#form,
      el("dl", { class: "numbers" },
        el("div", null, el("dt", null, "Changes"), this.#count),
        el("div", null, el("dt", null, "Last, commit to screen"), this.#last),
        el("div", null, el("dt", null, "Median"), this.#median)),
      el("div", { class: "live-columns" },
        el("section", { "aria-labelledby": "wire-title" }, el("h2", { id: "wire-title" }, "The wire"), this.#empty, this.#wire),
        el("section", { "aria-labelledby": "articles-title" }, el("h2", { id: "articles-title" }, "The articles"), this.#rows.list)));
  }

  /** Reads the newest articles, in place of all that the page shows. The feed starts after the revision of this read. */
  async load(signal = this.signal): Promise<Start> {
    const page = await content.listArticles({
      filter: this.subject.list,
      pageSize: MAX_ARTICLES,
      view: ArticleView.BASIC,
      includes: [Include.SECTIONS],
    }, read(signal));
    const hadFocus = this.content.contains(document.activeElement);
    const names = new Names(page.includes);
    names.add({ sections: this.subject.sections });
    this.#rows.reset(page.articles, names);
    this.#wire.replaceChildren();
    if (hadFocus && !this.content.contains(document.activeElement)) this.#heading.focus({ preventScroll: true });
    this.#changes = 0;
    this.#samples = [];
    this.#wasCut = false;
    this.#count.textContent = "0";
    this.#last.textContent = "–";
    this.#median.textContent = "–";
    return { logId: page.meta?.logId ?? "", revision: page.meta?.servedRevision ?? 0n };
  }

  start(position: Start): void {
    const follower = new Follower(this.subject.watch, position, this);
    this.#follower = follower;
    this.signal.addEventListener("abort", () => {
      follower.close();
      this.#announcer.stop();
    });
    addEventListener("online", () => this.#state === "waiting" && follower.resume(), { signal: this.signal });
    follower.resume();
  }

  /** The lines that change the first article. */
  example() {
    const first = this.#rows.first();
    if (!first) return [];
    const get = cable(["article", "get", "-o", "json"], idOf(first)).line;
    const put = cable(["article", "put"], "-").line;
    return [{ label: "Change a headline", line: `${get} | sed 's/"headline": "/&Now: /' | ${put}` }];
  }

  #press(): void {
    if (this.#state === "live" || this.#state === "connecting") {
      this.#wasCut = true;
      this.#follower?.cut();
    } else if (this.#state === "ended") {
      again();
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
          this.#note(this.#caughtUp === 0
            ? "Resumed. Nothing had changed meanwhile."
            : `Resumed. ${count(this.#caughtUp, "change")} made meanwhile, nothing lost.`);
        }
        this.#wasCut = false;
        break;
      case "cut":
        fill(this.#status, "Connection cut. Changes continue without this page.");
        this.#button.textContent = "Resume";
        this.#note("Connection cut by you.");
        break;
      case "waiting":
        // Each attempt fails anew, but the connection was lost once.
        if (before === "live") this.#note("Connection lost.");
        else if (!this.#wasCut) this.#announcer.note(state.failure.title);
        this.#wasCut = true;
        fill(this.#status, `${state.failure.title}. Next attempt in ${span(state.untilMillis - Date.now())}.`);
        this.#button.textContent = "Connect now";
        break;
      case "ended":
        this.#note(`Connection ended: ${state.failure.title}.`);
        fill(this.#status, el("span", { id: TOKEN_REASON }, `${state.failure.title}. ${state.failure.text}`));
        if (state.failure.needsToken) fill(this.#form, tokenForm(token.get() !== ""));
        this.#button.textContent = "Reload";
        break;
    }
  }

  positionChanged(position: Position): void {
    const chain = [...position.chain.slice(0, 4)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    this.#place.textContent = `position ${position.logId}:${position.revision}${chain === "" ? "" : `:${chain}…`}`;
  }

  async readAgain(signal: AbortSignal): Promise<Start> {
    const start = await this.load(signal);
    this.#note("The history of the node has changed. The page was read again.");
    return start;
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
        if (event.value.reason === RemovalReason.KILLED) this.#erase(name);
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
    const before = this.#rows.headline(name);
    const headline = article?.headline ?? before ?? idOf(name);

    if (article) this.#rows.put(article, mark);
    else this.#rows.strike(name, mark, detail);

    const took = el("span", { class: "took" }, late ? "while away" : "…");
    const isReworded = mark === "changed" && before !== undefined && before !== headline;
    const item = el("li", { class: `wire-row ${mark} arrived`, tabindex: -1, "data-revision": String(change.revision), "data-name": name },
      el("p", { class: "wire-line" },
        el("span", { class: "badge" }, MARK_WORDS[mark]),
        change.time && el("time", { datetime: machine(change.time) }, clock(change.time)),
        took),
      el("p", { class: "wire-text", dir: "auto" },
        isReworded && [el("del", null, before), " "],
        article ? el("a", { href: routeOf(name) }, isReworded ? el("ins", null, headline) : headline) : el("del", null, headline),
        detail !== "" && el("span", { class: "quiet" }, ` ${detail}`)));
    this.#insert(item);
    this.#announcer.change(name, `${MARK_WORDS[mark]}: ${headline}`);
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

  /** A row of the wire about the connection. It is announced too. */
  #note(text: string): void {
    this.#insert(el("li", { class: "wire-note" }, text));
    this.#announcer.note(text);
  }

  #insert(item: HTMLElement): void {
    this.#empty.remove();
    this.#wire.prepend(item);
    trim(this.#wire, MAX_CHANGES);
  }

  /** Erases the content of a killed article from all that the page shows. Its id stands for it. */
  #erase(name: string): void {
    this.#rows.erase(name);
    for (const item of this.#wire.querySelectorAll<HTMLElement>(".wire-row")) {
      const text = item.querySelector(".wire-text");
      if (text && item.dataset["name"] === name) refill(text, item, el("del", null, idOf(name)));
    }
    this.#announcer.erase(name);
  }
}

/** Whether this is the first version of an article. */
function isFirst(article: Article): boolean {
  const { createTime, updateTime } = article;
  return !!createTime && !!updateTime && millis(createTime) === millis(updateTime);
}
