// The links in the head by which a reader of feeds finds those of the page.

/** The list of articles that a view shows, if it has feeds of its own. */
export interface Feeds {
  kind: "tag" | "section" | "author";
  id: string;
  title: string;
}

/** The links to the feeds of all articles. A node without feeds serves the page without them. */
const all = [...document.head.querySelectorAll<HTMLLinkElement>('link[rel="alternate"]')];

/** The links of the view in the page. */
let current: HTMLLinkElement[] = [];

/** Replaces the links of the last view by those of this one, in front of those of all articles. */
export function showFeeds(feeds: Feeds | undefined): void {
  for (const link of current) link.remove();
  current = feeds ? all.map((link) => linkOf(link, feeds)) : [];
  all[0]?.before(...current);
}

function linkOf(link: HTMLLinkElement, feeds: Feeds): HTMLLinkElement {
  const of = document.createElement("link");
  const format = link.title.slice(link.title.lastIndexOf(","));
  const extension = link.href.slice(link.href.lastIndexOf("."));
  of.rel = link.rel;
  of.type = link.type;
  of.title = feeds.title + format;
  of.href = new URL(`${feeds.kind}/${encodeURIComponent(feeds.id)}${extension}`, link.href).href;
  return of;
}
