// The subject of a live page: the list that it shows, and the feed that it follows.

import { content } from "../api";
import type { Filter } from "../follower";
import type { Section } from "../schema";
import { read } from "../view";
import { MAX_NAMES } from "./lists";

/** The sections that a feed can follow. */
export const MAX_SECTIONS = 64;

export type Kind = "tag" | "section" | "author";

export interface Subject {
  text: string;
  watch: Filter;
  list: { allTags: string[] } | { section: string; includeChildSections: boolean } | { authors: string[] };
  /** The names of the filter, in the commands: an option, a parameter and a field have each. */
  names: string[];
  /** The sections that are known, by which articles are labelled. */
  sections: Section[];
  /** The sections that are too many to follow. */
  excess: number;
}

export async function subject(kind: Kind, id: string, signal: AbortSignal): Promise<Subject> {
  const name = `${kind}s/${id}`;
  const single = { names: [name], sections: [], excess: 0 };
  switch (kind) {
    case "tag": {
      const { tag } = await content.getTag({ name }, read(signal));
      return { ...single, text: tag?.displayName || id, watch: { anyTags: [name] }, list: { allTags: [name] } };
    }
    case "section": {
      const [{ section }, { sections }] = await Promise.all([
        content.getSection({ name }, read(signal)),
        content.listSections({ pageSize: MAX_NAMES }, read(signal)),
      ]);
      const within = tree(name, sections);
      const names = within.slice(0, MAX_SECTIONS);
      return {
        text: section?.displayName || id,
        watch: { sections: names },
        list: { section: name, includeChildSections: true },
        names,
        sections,
        excess: within.length - names.length,
      };
    }
    case "author": {
      const { author } = await content.getAuthor({ name }, read(signal));
      return { ...single, text: author?.displayName || id, watch: { authors: [name] }, list: { authors: [name] } };
    }
  }
}

/** Returns a section and those within it. A feed does not include child sections by itself. */
function tree(root: string, sections: Section[]): string[] {
  const names = new Set([root]);
  for (const name of names) {
    for (const section of sections) if (section.parent === name) names.add(section.name);
  }
  return [...names];
}
