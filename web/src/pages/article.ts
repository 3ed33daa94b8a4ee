// The page of an article.

import { content } from "../api";
import { anchor, body, figure, type Place } from "../body";
import { distinguish, el, type Child } from "../dom";
import { idOf, routeOf } from "../links";
import { Names } from "../names";
import { cable, curl, grpcurl, panel, type Command } from "../panel";
import { ArticleView, Include, type Article, type Includes } from "../schema";
import { byline, kicker, read, title, type View, withPanel } from "../view";
import { ACCESS, count, dayAndMinute, machine, millis, NOTICES, tongue } from "../words";

const INCLUDES = [Include.AUTHORS, Include.SECTIONS, Include.TAGS];
/** The related articles that are shown. */
const MAX_RELATED = 6;
/** The authors of live posts that are read. */
const MAX_POST_AUTHORS = 32;
/** The words that a reader reads in a minute. */
const WORDS_PER_MINUTE = 230;

export async function article(id: string, part: string, signal: AbortSignal): Promise<View> {
  const name = `articles/${id}`;
  const found = await content.getArticle({ name, view: ArticleView.FULL, includes: INCLUDES }, read(signal));
  if (!found.article) throw new Error("the response has no article");
  return view(found.article, found.includes, part, [
    cable(["article", "get"], id),
    curl(`/v1/articles/${encodeURIComponent(id)}`),
    grpcurl("ContentService/GetArticle", { name }),
  ], signal);
}

/** The page of the article that a path leads to. */
export async function articleOfPath(path: string, part: string, signal: AbortSignal): Promise<View> {
  const found = await content.resolvePath({ path, view: ArticleView.FULL, includes: INCLUDES }, read(signal));
  if (!found.article) throw new Error("the response has no article");
  return view(found.article, found.includes, part, [
    cable(["article", "get", "--path", path]),
    curl(`/v1/paths${path}`),
    grpcurl("ContentService/ResolvePath", { path }),
  ], signal);
}

async function view(
  article: Article,
  includes: Includes | undefined,
  part: string,
  commands: Command[],
  signal: AbortSignal,
): Promise<View> {
  const names = new Names(includes);
  const place: Place = { name: article.name, path: article.path, names };
  const [related] = await Promise.all([relatedTo(article, signal), addPostAuthors(names, article, signal)]);
  const page = el("article", { class: "article", ...tongue(article) },
    el("header", { class: "article-head" },
      el("p", { class: "kicker" }, article.section === ""
        ? kicker(article, names)
        : el("a", { href: routeOf(article.section) }, kicker(article, names))),
      title(article.headline),
      article.dek !== "" && el("p", { class: "dek" }, article.dek),
      facts(article, names)),
    article.notices.map((notice) => el("aside", { class: "correction", "aria-label": NOTICES[notice.kind] ?? "Notice" },
      el("p", null, el("strong", null, NOTICES[notice.kind] ?? "Notice"), " ", notice.text,
        " ", notice.time && el("time", { datetime: machine(notice.time) }, dayAndMinute(notice.time))))),
    article.leadMedia && figure(article.leadMedia, place, { isEager: true }),
    el("div", { class: "prose" },
      article.dateline !== "" && el("p", { class: "dateline" }, article.dateline),
      article.body && body(article.body, place)),
    foot(article, names, related));
  distinguish(page);
  return {
    title: article.headline,
    content: withPanel(page, panel(commands)),
    ...(part !== "" && { part: anchor(part) }),
  };
}

function facts(article: Article, names: Names): HTMLElement {
  const first = article.publishTime ?? article.firstPublishTime;
  // The first put of an old article, as by an import, is no update.
  const isPutOnce = article.createTime && article.updateTime && millis(article.createTime) === millis(article.updateTime);
  const changed = article.modifiedTime ?? (isPutOnce ? undefined : article.updateTime);
  // A change within a minute of the publication is none to a reader.
  const isChanged = first && changed && millis(changed) - millis(first) > 60_000;
  const minutes = Math.max(1, Math.round(article.wordCount / WORDS_PER_MINUTE));
  const signed = byline(article, names);
  return el("div", { class: "facts" },
    signed.some((each) => each !== "") && el("p", { class: "byline" }, signed),
    el("p", null,
      first && el("time", { datetime: machine(first) }, dayAndMinute(first)),
      isChanged && el("span", null, " · updated ", el("time", { datetime: machine(changed) }, dayAndMinute(changed))),
      article.wordCount > 0 && ` · ${count(article.wordCount, "word")}, ${count(minutes, "minute")}`,
      ACCESS[article.access] && [" · ", el("span", { class: "badge" }, ACCESS[article.access])]));
}

function foot(article: Article, names: Names, related: Article[]): HTMLElement {
  const tags = names.shownTags(article);
  const source = article.source?.name ?? "";
  const rights = [article.rights?.copyrightNotice, article.rights?.usageTerms].filter(Boolean).join(" ");
  const credited = new Set(article.byline?.credits.map((credit) => credit.author));
  const authors = [...names.authors.values()].filter((author) => author.bio !== "" && credited.has(author.name));
  const bios: Child[] = authors.map((author) =>
    el("p", { class: "bio" }, el("a", { href: routeOf(author.name) }, author.displayName || idOf(author.name)), " ", author.bio));
  return el("footer", { class: "article-foot" },
    bios,
    tags.length > 0 && el("ul", { class: "chips", "aria-label": "Tags" },
      tags.map(({ name, text }) => el("li", null, el("a", { href: routeOf(name) }, text)))),
    related.length > 0 && el("section", { class: "related", "aria-labelledby": "related-title" },
      el("h2", { id: "related-title" }, "Read on"),
      el("ul", null, related.map((each) => el("li", tongue(each), el("a", { href: routeOf(each.name) }, each.headline))))),
    (source !== "" || rights !== "") && el("p", { class: "quiet" }, [source, rights].filter(Boolean).join(" · ")));
}

/** Adds the authors of live posts. The authors that come with an article are those of its byline. */
async function addPostAuthors(names: Names, article: Article, signal: AbortSignal): Promise<void> {
  const credits = (article.body?.blocks ?? []).flatMap(({ kind }) => (kind.case === "livePost" ? kind.value.credits : []));
  const unknown = credits.filter((credit) => credit.displayName === "").map((credit) => credit.author);
  const missing = [...new Set(unknown)].filter((name) => name !== "" && !names.authors.has(name)).slice(0, MAX_POST_AUTHORS);
  await Promise.all(missing.map(async (name) => {
    try {
      const { author } = await content.getAuthor({ name }, read(signal));
      if (author) names.add({ authors: [author] });
    } catch (error) {
      if (signal.aborted) throw error;
    }
  }));
}

/** The related articles that can be read. Without them the article is still worth reading. */
async function relatedTo(article: Article, signal: AbortSignal): Promise<Article[]> {
  const names = [...new Set(article.related.map((each) => each.article))].slice(0, MAX_RELATED);
  if (names.length === 0) return [];
  try {
    const batch = await content.batchGetArticles({ names, view: ArticleView.BASIC }, read(signal));
    return batch.items.flatMap((item) => (item.result.case === "article" ? [item.result.value] : []));
  } catch (error) {
    if (signal.aborted) throw error;
    return [];
  }
}
