// Bodies: every kind of block as elements.

import type { Block, Body, Media, Rendition, Span, Table } from "./schema";
import { Mark, MediaKind } from "./schema";
import { append, el, type Child } from "./dom";
import { decoded, pictureUrl, routeOf, routeOfBlock, target } from "./links";
import { linkedNames, type Names } from "./names";
import { dayAndMinute, machine } from "./words";

/** Nesting of blocks that is shown. The server allows 16. */
const MAX_DEPTH = 20;

const MARKS: Partial<Record<Mark, "strong" | "em" | "code" | "s" | "sub" | "sup">> = {
  [Mark.STRONG]: "strong",
  [Mark.EMPHASIS]: "em",
  [Mark.CODE]: "code",
  [Mark.STRIKE]: "s",
  [Mark.SUB]: "sub",
  [Mark.SUP]: "sup",
};

/** The article of a body: its name, the base of its relative links, and the names of its authors. */
export interface Place {
  name: string;
  path: string;
  names: Names;
}

export function body(body: Body, place: Place): Child {
  return blocks(body.blocks, place, 0);
}

function blocks(list: Block[], place: Place, depth: number): Child[] {
  if (depth > MAX_DEPTH) return [];
  return list.map((each) => {
    const element = block(each, place, depth);
    if (element && each.id !== "") element.id = anchor(each.id);
    return element;
  });
}

/** The id of the element of a block. The prefix keeps it apart from the ids of the page. */
export function anchor(id: string): string {
  return `block-${id}`;
}

function block(block: Block, place: Place, depth: number): HTMLElement | null {
  const kind = block.kind;
  switch (kind.case) {
    case "paragraph":
      return el("p", null, spans(kind.value.spans, place));
    case "heading": {
      const level = Math.min(6, Math.max(2, kind.value.level || 2));
      return el(`h${level}` as "h2", null, spans(kind.value.spans, place));
    }
    case "list": {
      const items = kind.value.items.map((item) => el("li", null, blocks(item.blocks, place, depth + 1)));
      if (!kind.value.ordered) return el("ul", null, items);
      return el("ol", { start: kind.value.start || null }, items);
    }
    case "quote":
      return el("figure", { class: "quote" },
        el("blockquote", null, blocks(kind.value.blocks, place, depth + 1)),
        kind.value.attribution.length > 0 && el("figcaption", null, spans(kind.value.attribution, place)));
    case "pullQuote":
      return el("figure", { class: "pull" },
        el("blockquote", null, el("p", null, spans(kind.value.spans, place))),
        kind.value.attribution.length > 0 && el("figcaption", null, spans(kind.value.attribution, place)));
    case "image":
      return kind.value.media ? figure(kind.value.media, place, { href: kind.value.href }) : null;
    case "gallery":
      return el("figure", { class: "gallery" },
        el("div", { class: "gallery-pictures" },
          kind.value.images.map((image) => image.media && figure(image.media, place, { href: image.href }))),
        kind.value.caption.length > 0 && el("figcaption", null, spans(kind.value.caption, place)));
    case "embed": {
      const { provider, url, title, fallbackText, caption } = kind.value;
      const to = target(url, place.path);
      const name = title || url;
      return el("figure", { class: "embed" },
        el("div", { class: "embed-card" },
          provider !== "" && el("p", { class: "label" }, provider),
          el("p", null, to ? link(to, name) : name),
          fallbackText !== "" && el("p", { class: "quiet" }, fallbackText)),
        caption.length > 0 && el("figcaption", null, spans(caption, place)));
    }
    case "code":
      return el("pre", { tabindex: 0, "aria-label": kind.value.language || "Preformatted text", role: "region" },
        el("code", null, kind.value.text));
    case "table": {
      const rows = kind.value.rows.map((row) => el("tr", null, row.cells.map((cell) =>
        el(cell.header ? "th" : "td", {
          colspan: cell.columnSpan > 1 && Math.min(cell.columnSpan, 1000),
          rowspan: cell.rowSpan > 1 && Math.min(cell.rowSpan, 1000),
        }, cell.blocks.length > 0 ? blocks(cell.blocks, place, depth + 1) : spans(cell.spans, place)))));
      const caption = kind.value.caption.length > 0 && el("caption", null, spans(kind.value.caption, place));
      return el("div", { class: "table", role: "region", tabindex: 0, "aria-label": labelOf(kind.value) },
        el("table", null, caption, el("tbody", null, rows)));
    }
    case "divider":
      return el("hr");
    case "rawHtml":
      return rawHtml(kind.value.html, kind.value.reason);
    case "livePost": {
      const post = kind.value;
      const names = place.names.credits(post.credits);
      return el("section", { class: "post", "data-key": post.keyEvent && "true" },
        el("p", { class: "post-line" },
          post.publishTime && el("time", { datetime: machine(post.publishTime) }, dayAndMinute(post.publishTime)),
          post.pinned && el("span", { class: "badge" }, "Pinned"),
          post.keyEvent && el("span", { class: "badge" }, "Key event")),
        post.title !== "" && el("h2", null, post.title),
        blocks(post.blocks, place, depth + 1),
        (names.length > 0 || post.updateTime) && el("p", { class: "quiet" },
          linkedNames(names),
          names.length > 0 && post.updateTime && " · ",
          post.updateTime && ["updated ", el("time", { datetime: machine(post.updateTime) }, dayAndMinute(post.updateTime))]));
    }
    case "video":
      return kind.value.media ? figure(kind.value.media, place, { kind: MediaKind.VIDEO }) : null;
    case "audio":
      return kind.value.media ? figure(kind.value.media, place, { kind: MediaKind.AUDIO }) : null;
    default:
      return null;
  }
}

/** The label of a table among the landmarks: its caption. */
function labelOf(table: Table): string {
  return table.caption.map((span) => span.text).join("").trim() || "Table";
}

/** Shows HTML as its text, and the HTML itself as source. It never becomes elements. */
function rawHtml(html: string, reason: string): HTMLElement {
  // The document of a DOMParser runs no script and loads nothing. Only its text is used.
  const parsed = new DOMParser().parseFromString(html, "text/html");
  for (const breaking of parsed.querySelectorAll("br")) breaking.replaceWith("\n");
  for (const breaking of parsed.querySelectorAll("p, div, li, tr, h1, h2, h3, h4, h5, h6")) breaking.append("\n\n");
  const text = (parsed.body.textContent ?? "").trim().replace(/\n{3,}/g, "\n\n");
  return el("div", { class: "raw" },
    text !== "" && el("p", { class: "raw-text" }, text),
    el("details", null,
      el("summary", null, reason === "" ? "The HTML of this passage" : `The HTML of this passage: ${reason}`),
      el("pre", { tabindex: 0, role: "region", "aria-label": "HTML source" }, el("code", null, html))));
}

/** Shows spans. Adjacent spans with equal links form one link. */
export function spans(list: Span[], place: Place): Child[] {
  const shown: Child[] = [];
  for (let from = 0; from < list.length; ) {
    const first = list[from]!;
    let to = from + 1;
    while (to < list.length && sameLink(list[to]!, first)) to += 1;
    const texts = list.slice(from, to).map(marked);
    shown.push(first.link ? linked(first.link, texts, place) : texts);
    from = to;
  }
  return shown;
}

function sameLink(a: Span, b: Span): boolean {
  return a.link?.href === b.link?.href && a.link?.article === b.link?.article && a.link?.title === b.link?.title;
}

function marked(span: Span): Child {
  const lines = span.text.split("\n").flatMap((line, index) => (index === 0 ? [line] : [el("br"), line]));
  return span.marks.reduceRight<Child>((inner, mark) => {
    const tag = MARKS[mark];
    return tag ? el(tag, null, inner) : inner;
  }, lines);
}

function linked(to: NonNullable<Span["link"]>, texts: Child, place: Place): Child {
  const title = to.title || null;
  if (to.article !== "") return el("a", { href: routeOf(to.article), title }, texts);
  if (to.href.startsWith("#")) {
    // A part of this article: a route of its own, because the fragment is taken by the routes.
    return el("a", { href: routeOfBlock(place.name, decoded(to.href.slice(1))), title }, texts);
  }
  const found = target(to.href, place.path);
  return found ? link(found, texts, title) : texts;
}

function link(to: { href: string; external: boolean }, text: Child, title: string | null = null): HTMLElement {
  return el("a", { href: to.href, rel: to.external ? "noopener noreferrer external" : null, title }, text);
}

export interface FigureOptions {
  /** The kind of media, if the block states it. */
  kind?: MediaKind;
  href?: string;
  isEager?: boolean;
}

/** Shows a picture, or the poster and the files of a video or a sound. */
export function figure(media: Media, place: Place, { kind = media.kind, href = "", isEager = false }: FigureOptions = {}): HTMLElement {
  const isPlayed = kind === MediaKind.VIDEO || kind === MediaKind.AUDIO;
  const shown = isPlayed ? played(media, kind, place) : picture(media, isEager);
  const to = href === "" || isPlayed ? null : target(href, place.path);
  return el("figure", { class: isPlayed ? "media played" : "media" },
    to ? link(to, shown) : shown,
    caption(media, place));
}

function caption(media: Media, place: Place): HTMLElement | null {
  const credit = media.credit || media.creator;
  if (media.caption.length === 0 && credit === "") return null;
  return el("figcaption", null, spans(media.caption, place),
    credit !== "" && el("span", { class: "credit" }, media.caption.length > 0 ? " " : "", credit));
}

/** Shows the poster of a video or a sound, and links to its files. */
function played(media: Media, kind: MediaKind, place: Place): Child {
  const url = pictureUrl(media.poster);
  const links = files(media, kind, place);
  const text = media.altText || (links ? "" : `A ${kind === MediaKind.VIDEO ? "video" : "recording"} that cannot be played.`);
  return [
    url ? framed(el("img", { src: url, alt: media.altText, loading: "lazy", decoding: "async" }), media.altText) : text !== "" && missing(text),
    links,
  ];
}

/** The links to the files, or null if there is none that the page can lead to: it does not know the host of a path. */
function files(media: Media, kind: MediaKind, place: Place): HTMLElement | null {
  const word = kind === MediaKind.VIDEO ? "Watch the video" : "Listen";
  const seconds = Number(media.duration?.seconds ?? 0n);
  const length = seconds > 0 ? ` (${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")})` : "";
  const links = media.renditions.slice(0, 16).flatMap((file) => {
    const to = target(file.href, place.path);
    return to?.external ? [{ to, type: file.type }] : [];
  });
  if (links.length === 0) return null;
  return el("p", { class: "files" }, links.map(({ to, type }, index) =>
    index === 0 ? link(to, `${word}${length}`) : [" · ", link(to, type || "Another file")]));
}

/** Shows a picture with the rendition that fits, or its description if it has none that the page may load. */
function picture(media: Media, isEager: boolean): HTMLElement {
  const usable = media.renditions.filter((file) => pictureUrl(file.href) !== null);
  const plain = usable.filter((file) => !isModern(file));
  const fallback = widest(plain.length > 0 ? plain : usable, 1280);
  if (!fallback) return missing(media.altText);
  const image = el("img", {
    src: pictureUrl(fallback.href),
    srcset: sources(plain.length > 0 ? plain : usable),
    sizes: "(min-width: 60rem) 42rem, 100vw",
    alt: media.altText,
    width: fallback.width || null,
    height: fallback.height || null,
    loading: isEager ? "eager" : "lazy",
    decoding: "async",
  });
  if (media.focalPoint) image.style.objectPosition = `${media.focalPoint.x * 100}% ${media.focalPoint.y * 100}%`;
  return framed(image, media.altText);
}

function isModern(file: Rendition): boolean {
  return file.type === "image/webp" || file.type === "image/avif";
}

function widest(files: Rendition[], limit: number): Rendition | undefined {
  const sorted = [...files].sort((a, b) => a.width - b.width);
  return sorted.filter((file) => file.width <= limit).pop() ?? sorted[0];
}

function sources(files: Rendition[]): string | null {
  const sized = files.filter((file) => file.width > 0 && !/[\s,]/.test(file.href));
  return sized.length > 1 ? sized.map((file) => `${pictureUrl(file.href)} ${file.width}w`).join(", ") : null;
}

/** A picture that cannot be loaded gives way to its description. */
function framed(image: HTMLImageElement, text: string): HTMLElement {
  const frame = el("div", { class: "frame" }, image);
  image.addEventListener("error", () => frame.replaceWith(missing(text)), { once: true });
  return frame;
}

function missing(text: string): HTMLElement {
  const box = el("div", { class: "missing" });
  append(box, el("p", null, text === "" ? "A picture that cannot be shown." : text));
  return box;
}
