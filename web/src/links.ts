// Routes of the page, and the links that content may have.

/** The routes of resource names. */
const KINDS: Record<string, string> = {
  articles: "article",
  authors: "author",
  sections: "section",
  tags: "tag",
  collections: "collection",
};

/** Returns the id of a resource name: `russia` of `tags/russia`. */
export function idOf(name: string): string {
  return name.slice(name.indexOf("/") + 1);
}

/** Returns the address of a page within the room. */
export function route(...segments: string[]): string {
  return `#/${segments.map(encodeURIComponent).join("/")}`;
}

/** Returns the address of the page of a resource: `#/tag/russia` of `tags/russia`. */
export function routeOf(name: string): string {
  return route(KINDS[name.slice(0, name.indexOf("/"))] ?? "article", idOf(name));
}

/** Returns the address of a block of an article. */
export function routeOfBlock(name: string, block: string): string {
  return `${routeOf(name)}@${encodeURIComponent(block)}`;
}

/** Returns the address of the page of a path of the site. A fragment follows the path, as it does on the site. */
export function routeOfPath(path: string, fragment = ""): string {
  return `#/path${path}${fragment}`;
}

/** Shows the view of the address again. */
export function again(): void {
  dispatchEvent(new Event("hashchange"));
}

/** Removes percent-encoding. A text that is not encoded stays as it is. */
export function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The schemes of links. The server refuses others; the page does not rely on that. */
const SCHEMES = new Set(["http:", "https:", "mailto:", "tel:"]);

export interface Target {
  href: string;
  external: boolean;
}

/**
 * Returns the target of a link of an article, or null if it is none. `base` is the path of the article. A link within
 * the site leads to the page of its path in this room, and to the block that its fragment names. Articles have no
 * queries, so that of the link is dropped.
 */
export function target(href: string, base: string): Target | null {
  if (/[\u0000-\u0020\\]/.test(href) || href === "") return null;
  if (/^[a-z][a-z0-9+.-]*:/i.test(href)) {
    const url = parse(href);
    return url && SCHEMES.has(url.protocol) ? { href: url.href, external: true } : null;
  }
  if (href.startsWith("//")) {
    const url = parse(`https:${href}`);
    return url && { href: url.href, external: true };
  }
  const url = parse(href, `https://site.invalid${base.startsWith("/") ? base : "/"}`);
  return url && { href: routeOfPath(url.pathname, url.hash), external: false };
}

/** Returns the URL of a picture that the page may load: https only, as its policy says. Otherwise null. */
export function pictureUrl(href: string): string | null {
  const url = parse(href.startsWith("//") ? `https:${href}` : href);
  return url?.protocol === "https:" ? url.href : null;
}

function parse(href: string, base?: string): URL | null {
  try {
    return new URL(href, base);
  } catch {
    return null;
  }
}
