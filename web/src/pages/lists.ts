// The front, and the pages of sections, authors, tags and collections.

import { Code, ConnectError } from "@connectrpc/connect";
import { content } from "../api";
import { el, type Child } from "../dom";
import { figure } from "../body";
import { idOf, route, routeOf, target } from "../links";
import { Names } from "../names";
import { cable, curl, grpcurl, option, panel, type Command } from "../panel";
import { ArticleView, Include, type Section, type Tag, TagKind } from "../schema";
import { list, liveLink, read, teaser, title, type Listed, type View, withPanel } from "../view";
import { count, TAG_KINDS } from "../words";

const INCLUDES = [Include.AUTHORS, Include.SECTIONS];
/** The articles on the front, those of each of its sections, and the sections. */
const FRONT = 12;
const FRONT_SECTION = 4;
const FRONT_SECTIONS = 6;
/** The sections and tags that the page lists. */
export const MAX_NAMES = 1000;

/** The top-level sections in their order, read once. */
let sections: Section[] | null = null;

export async function topSections(signal: AbortSignal): Promise<Section[]> {
  if (!sections) {
    const all = (await content.listSections({ pageSize: MAX_NAMES }, read(signal))).sections;
    sections = all.filter((section) => section.parent === "").sort((a, b) => a.rank - b.rank || (a.name < b.name ? -1 : 1));
  }
  return sections;
}

/** Forgets what an earlier token could read. */
export function forget(): void {
  sections = null;
  paper = null;
}

/** The collection that is the front page, or null if the newsroom has none. */
async function frontCollection(signal: AbortSignal) {
  try {
    return await content.getCollection({ name: "collections/front", view: ArticleView.BASIC, includes: INCLUDES }, read(signal));
  } catch (error) {
    if (ConnectError.from(error).code === Code.NotFound) return null;
    throw error;
  }
}

/** The name of the newspaper: the title of its front, up to a colon. Null until it has been read. */
let paper: string | null = null;

export async function paperName(signal: AbortSignal): Promise<string> {
  if (paper === null) {
    try {
      const found = await content.getCollection({ name: "collections/front", view: ArticleView.REFERENCE }, read(signal));
      paper = nameOf(found.collection?.title ?? "");
    } catch {
      return "";
    }
  }
  return paper;
}

function nameOf(title: string): string {
  return title.includes(":") ? title.slice(0, title.indexOf(":")).trim() : title;
}

export async function front(signal: AbortSignal): Promise<View> {
  const [collection, top] = await Promise.all([frontCollection(signal), topSections(signal)]);
  const newest = content.listArticles({ pageSize: FRONT, view: ArticleView.BASIC, includes: INCLUDES }, read(signal));
  const perSection = top.slice(0, FRONT_SECTIONS).map(async (section) => ({
    section,
    page: await content.listArticles({
      filter: { section: section.name, includeChildSections: true },
      pageSize: FRONT_SECTION,
      view: ArticleView.BASIC,
      includes: INCLUDES,
    }, read(signal)),
  }));
  const [latest, inSections] = await Promise.all([newest, Promise.all(perSection)]);

  paper = nameOf(collection?.collection?.title ?? "");
  const chosen = collection && collection.articles.length > 0 ? collection.articles : latest.articles;
  const names = new Names(collection?.includes);
  names.add(latest.includes);
  const [lead, ...others] = chosen.slice(0, FRONT);
  const commands = collection
    ? [
        cable(["collection", "get"], "front"),
        curl("/v1/collections/front"),
        grpcurl("ContentService/GetCollection", { name: "collections/front" }),
      ]
    : [cable(["article", "ls"]), curl("/v1/articles"), grpcurl("ContentService/ListArticles", { page_size: FRONT })];

  const name = paper || "The newest articles";
  return {
    title: name,
    content: el("div", { class: "front" },
      el("h1", { tabindex: -1, class: "unseen" }, `${name}: front page`),
      !lead && el("p", { class: "notice" },
        "Nothing is published yet. Publish an article with `cable article put`, or start the sample newsroom with `cable serve --demo`."),
      lead && teaser(lead, names, { lead: true }),
      el("div", { class: "front-grid" }, others.map((article) => teaser(article, names))),
      el("div", { class: "front-sections" },
        inSections.filter(({ page }) => page.articles.length > 0).map(({ section, page }) =>
          el("section", { class: "front-section", "aria-labelledby": `front-${idOf(section.name)}` },
            el("h2", { id: `front-${idOf(section.name)}` },
              el("a", { href: routeOf(section.name) }, section.displayName || idOf(section.name))),
            page.articles.map((article) => teaser(article, new Names(page.includes), { level: 3, brief: true }))))),
      panel(commands)),
  };
}

type Filter = NonNullable<Parameters<typeof content.listArticles>[0]["filter"]>;

function articles(filter: Filter, signal: AbortSignal): Promise<HTMLElement> {
  return list((pageToken, pageSize): Promise<Listed> =>
    content.listArticles({ filter, pageToken, pageSize, view: ArticleView.BASIC, includes: INCLUDES }, read(signal)));
}

export async function section(id: string, signal: AbortSignal): Promise<View> {
  const name = `sections/${id}`;
  const filter = { section: name, includeChildSections: true };
  const [found, all, shown] = await Promise.all([
    content.getSection({ name }, read(signal)),
    content.listSections({ pageSize: MAX_NAMES }, read(signal)),
    articles(filter, signal),
  ]);
  const entity = found.section;
  const children = all.sections.filter((each) => each.parent === name).sort((a, b) => a.rank - b.rank);
  const alone = curl(`/v1/articles?section=${encodeURIComponent(id)}`);
  const text = entity?.displayName || id;
  const commands = [
    cable(["article", "ls", ...option("--section", id), "--children"]),
    // The JSON interface has no parameter for the sections within.
    children.length > 0 ? { ...alone, label: "curl, without the sections within" } : alone,
    grpcurl("ContentService/ListArticles", { filter: { section: name, include_child_sections: true } }),
  ];
  return {
    title: text,
    feeds: { kind: "section", id, title: text },
    content: withPanel([
      el("header", { class: "page-head" },
        el("p", { class: "label" }, "Section"),
        title(text),
        entity && entity.tagline !== "" && el("p", { class: "dek" }, entity.tagline),
        children.length > 0 && el("ul", { class: "chips", "aria-label": "Sections within" },
          children.map((child) => el("li", null, el("a", { href: routeOf(child.name) }, child.displayName || idOf(child.name))))),
        liveLink("section", id)),
      shown,
    ], panel(commands)),
  };
}

export async function author(id: string, signal: AbortSignal): Promise<View> {
  const name = `authors/${id}`;
  const [found, shown] = await Promise.all([
    content.getAuthor({ name }, read(signal)),
    articles({ authors: [name] }, signal),
  ]);
  const entity = found.author;
  const text = entity?.displayName || id;
  const role = [entity?.jobTitle, entity?.affiliation].filter(Boolean).join(", ");
  const profiles = (entity?.socialProfiles ?? []).map((profile): Child => {
    const to = profile.url === "" ? null : target(profile.url, "/");
    const label = [profile.platform, profile.handle].filter(Boolean).join(" ");
    return el("li", null, to ? el("a", { href: to.href, rel: "noopener noreferrer external" }, label) : label);
  });
  const commands = [
    cable(["article", "ls", ...option("--author", id)]),
    curl(`/v1/articles?author=${encodeURIComponent(id)}`),
    grpcurl("ContentService/ListArticles", { filter: { authors: [name] } }),
  ];
  return {
    title: text,
    feeds: { kind: "author", id, title: text },
    content: withPanel([
      el("header", { class: "page-head author-head" },
        el("div", null,
          el("p", { class: "label" }, role || "Author"),
          title(text),
          entity && entity.bio !== "" && el("p", { class: "dek" }, entity.bio),
          profiles.length > 0 && el("ul", { class: "chips", "aria-label": "Profiles" }, profiles),
          liveLink("author", id)),
        entity?.image && el("div", { class: "portrait" }, figure(entity.image, { name: "", path: "/", names: new Names() }))),
      shown,
    ], panel(commands)),
  };
}

export async function tag(id: string, signal: AbortSignal): Promise<View> {
  const name = `tags/${id}`;
  const [found, shown] = await Promise.all([
    content.getTag({ name }, read(signal)),
    articles({ allTags: [name] }, signal),
  ]);
  const entity = found.tag;
  const text = entity?.displayName || id;
  const commands = [
    cable(["article", "ls", ...option("--tag", id)]),
    curl(`/v1/articles?tag=${encodeURIComponent(id)}`),
    grpcurl("ContentService/ListArticles", { filter: { all_tags: [name] } }),
  ];
  return {
    title: text,
    // A tag for filters alone has no feed.
    feeds: entity?.kind === TagKind.INTERNAL ? undefined : { kind: "tag", id, title: text },
    content: withPanel([
      el("header", { class: "page-head" },
        el("p", { class: "label" }, "Tag"),
        title(text),
        entity && entity.description !== "" && el("p", { class: "dek" }, entity.description),
        liveLink("tag", id)),
      shown,
    ], panel(commands)),
  };
}

export async function tags(signal: AbortSignal): Promise<View> {
  const page = await content.listTags({ pageSize: MAX_NAMES }, read(signal));
  const groups = new Map<string, Tag[]>();
  for (const each of page.tags) {
    if (each.kind === TagKind.INTERNAL) continue;
    const group = TAG_KINDS[each.kind] ?? "Subjects";
    groups.set(group, [...(groups.get(group) ?? []), each]);
  }
  const shown = [...groups.entries()].sort(([a], [b]) => (a < b ? -1 : 1));
  const total = shown.reduce((sum, [, group]) => sum + group.length, 0);
  const commands = [cable(["tag", "ls"]), curl("/v1/tags"), grpcurl("ContentService/ListTags", {})];
  return {
    title: "Tags",
    content: withPanel([
      el("header", { class: "page-head" },
        el("p", { class: "label" }, "Index"),
        title("Tags"),
        el("p", { class: "dek" }, `${count(total, "tag")}${page.nextPageToken === "" ? "" : ", the first by id"}. Each has a page, and a live page.`)),
      shown.map(([group, members]) => el("section", { class: "index" },
        el("h2", null, group),
        el("ul", null, members.map((each) => el("li", null,
          el("a", { href: routeOf(each.name) }, each.displayName || idOf(each.name)),
          " ",
          el("a", { class: "quiet", href: route("live", "tag", idOf(each.name)), "aria-label": `${each.displayName || idOf(each.name)}, live` }, "live")))))),
    ], panel(commands)),
  };
}

export async function collection(id: string, signal: AbortSignal): Promise<View> {
  const name = `collections/${id}`;
  const found = await content.getCollection({ name, view: ArticleView.BASIC, includes: INCLUDES }, read(signal));
  const names = new Names(found.includes);
  const text = found.collection?.title || id;
  const commands: Command[] = [
    cable(["collection", "get"], id),
    curl(`/v1/collections/${encodeURIComponent(id)}`),
    grpcurl("ContentService/GetCollection", { name }),
  ];
  return {
    title: text,
    content: withPanel([
      el("header", { class: "page-head" },
        el("p", { class: "label" }, "Collection"),
        title(text),
        found.collection && found.collection.description !== "" && el("p", { class: "dek" }, found.collection.description)),
      el("div", { class: "list" }, found.articles.map((article) => teaser(article, names))),
    ], panel(commands)),
  };
}
