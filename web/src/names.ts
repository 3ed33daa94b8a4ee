// The names of what articles refer to: authors, sections and tags.

import { el, type Child } from "./dom";
import { idOf, routeOf } from "./links";
import { TagKind, type Article, type Author, type Credit, type Includes, type Section, type Tag } from "./schema";

/** A name as readers see it. The resource name is empty if there is no page of it. */
export interface Named {
  name: string;
  text: string;
}

/** The entities that come with articles, by name. */
export class Names {
  readonly authors = new Map<string, Author>();
  readonly sections = new Map<string, Section>();
  readonly tags = new Map<string, Tag>();

  constructor(includes?: Includes) {
    this.add(includes);
  }

  add(includes: Partial<Pick<Includes, "authors" | "sections" | "tags">> | undefined): void {
    for (const author of includes?.authors ?? []) this.authors.set(author.name, author);
    for (const section of includes?.sections ?? []) this.sections.set(section.name, section);
    for (const tag of includes?.tags ?? []) this.tags.set(tag.name, tag);
  }

  section(name: string): string {
    return this.sections.get(name)?.displayName || idOf(name);
  }

  /** Tags for readers: those that are for filters alone are left out. */
  shownTags(article: Article): Named[] {
    return article.tags
      .filter((name) => this.tags.get(name)?.kind !== TagKind.INTERNAL)
      .map((name) => ({ name, text: this.tags.get(name)?.displayName || idOf(name) }));
  }

  credits(credits: Credit[]): Named[] {
    return credits
      .map(({ author, displayName }) => ({
        name: author,
        text: displayName || this.authors.get(author)?.displayName || idOf(author),
      }))
      .filter(({ text }) => text !== "");
  }
}

/** A name with a link to its page. */
export function linkedName({ name, text }: Named): Child {
  return name === "" ? text : el("a", { href: routeOf(name) }, text);
}

/** Names with links to their pages: `A, B and C`. */
export function linkedNames(names: Named[]): Child[] {
  return names.map((each, index) => [index === 0 ? "" : index < names.length - 1 ? ", " : " and ", linkedName(each)]);
}
