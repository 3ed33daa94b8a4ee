import { Code } from "@connectrpc/connect";
import { CableError } from "./errors.js";
import type { Entity, Feed, FeedEvent, FeedOptions } from "./feed.js";
import type { Article, Position } from "./gen/v1.js";
import { now, within } from "./time.js";

/** The options of a mirror: those of a feed that a mirror does not set itself. */
export type MirrorOptions = Omit<FeedOptions, "start" | "allowReset" | "includeBackfill" | "positionStore">;

/** The changes of a mirror since the last ones: one or several commits. */
export interface MirrorUpdate {
  /** The names whose entities have changed, come or gone. */
  names: ReadonlySet<string>;
  position: Position | undefined;
}

const tagsOf = (entity?: Entity): string[] => (entity?.case === "article" ? entity.value.tags : []);

/** The content of a mirror. */
class Content {
  readonly entities = new Map<string, Entity>();
  readonly tags = new Map<string, Map<string, Article>>();

  put(entity: Entity): void {
    const { name } = entity.value;
    this.delete(name);
    this.entities.set(name, entity);
    for (const tag of tagsOf(entity)) {
      const articles = this.tags.get(tag) ?? new Map<string, Article>();
      if (entity.case === "article") this.tags.set(tag, articles.set(name, entity.value));
    }
  }

  delete(name: string): void {
    for (const tag of tagsOf(this.entities.get(name))) {
      this.tags.get(tag)?.delete(name);
      if (this.tags.get(tag)?.size === 0) this.tags.delete(tag);
    }
    this.entities.delete(name);
  }
}

/**
 * A local copy of what a filter matches. Reads do not wait, and each commit is visible as a whole.
 *
 * A mirror is empty until its first snapshot is complete. While no node can be reached, it serves the last known
 * content. If the feed restarts, the content is replaced as a whole once the new snapshot is complete.
 */
export class Mirror {
  #content = new Content();
  #incoming = new Content();
  #position: Position | undefined;
  #damaged = new Set<string>();
  #isReady = false;
  #isClosed = false;
  #caughtUpAt = Number.NEGATIVE_INFINITY;
  #error: CableError | undefined;
  /** For each iterator of changes, the names that it has not returned yet. */
  readonly #watchers = new Set<Set<string>>();
  #wake: () => void = () => {};
  #woken = new Promise<void>((resolve) => (this.#wake = resolve));

  /** @internal */
  constructor(private readonly feed: Feed) {
    void this.#run();
  }

  /** Resolves once the first snapshot is complete and the changes since are applied. Rejects if the feed ends. */
  async ready(signal?: AbortSignal): Promise<void> {
    while (!this.#isReady) await this.#changed(signal);
  }

  /** The entity with this resource name, such as `articles/storm`. */
  get(name: string): Entity | undefined { return this.#content.entities.get(name); }

  /** The article with this name. */
  article(name: string): Article | undefined {
    const entity = this.get(name);
    return entity?.case === "article" ? entity.value : undefined;
  }

  /** The articles that have this tag, such as `tags/weather`. */
  byTag(tag: string): Article[] { return Array.from(this.#content.tags.get(tag)?.values() ?? []); }

  /** All entities by name. The map changes with the mirror; a reset replaces it. */
  get entities(): ReadonlyMap<string, Entity> { return this.#content.entities; }

  get size(): number { return this.#content.entities.size; }

  /** The position up to which all changes are applied. */
  get position(): Position | undefined { return this.#position; }

  /** Names that the server cannot read, so that the mirror lacks them or has older versions; at most 100 at first. */
  get damaged(): ReadonlySet<string> { return this.#damaged; }

  get isCaughtUp(): boolean { return this.feed.isCaughtUp; }

  /** The time since the mirror was last known to be current. While connected, it stays below the checkpoint interval. */
  get lagMs(): number { return now() - this.#caughtUpAt; }

  /** Iterates over the changes from now on. Changes that come while the loop is busy are joined. */
  changes(signal?: AbortSignal): AsyncGenerator<MirrorUpdate, undefined> {
    const names = new Set<string>();
    this.#watchers.add(names);
    return this.#updates(names, signal);
  }

  /** Stops the mirror. Its content stays readable. */
  async close(): Promise<void> {
    await this.feed.close();
  }

  async *#updates(names: Set<string>, signal: AbortSignal | undefined): AsyncGenerator<MirrorUpdate, undefined> {
    try {
      for (;;) {
        if (names.size > 0) {
          const update = { names: new Set(names), position: this.#position };
          names.clear();
          yield update;
        } else if (this.#isClosed && this.#error === undefined) return undefined;
        else await this.#changed(signal);
      }
    } finally {
      this.#watchers.delete(names);
    }
  }

  async #changed(signal: AbortSignal | undefined): Promise<void> {
    if (this.#error) throw this.#error;
    if (this.#isClosed) throw new CableError("the mirror is closed", Code.Canceled);
    await within(this.#woken, signal, Number.POSITIVE_INFINITY, () => undefined);
  }

  async #run(): Promise<void> {
    try {
      for await (const event of this.feed) {
        this.#apply(event);
        if (this.feed.isCaughtUp) this.#caughtUpAt = now();
        this.#notify();
      }
    } catch (cause) {
      this.#error = CableError.from(cause);
    }
    this.#isClosed = true;
    this.#notify();
  }

  #notify(): void {
    this.#wake();
    this.#woken = new Promise((resolve) => (this.#wake = resolve));
  }

  /** Applies an event. No reader runs in between, so each commit is visible as a whole. */
  #apply(event: FeedEvent): void {
    switch (event.type) {
      case "reset":
        this.#incoming = new Content();
        return;
      case "snapshot":
        for (const entity of event.entities) this.#incoming.put(entity);
        return;
      case "snapshotEnd": {
        const [old, current] = [this.#content.entities, this.#incoming.entities];
        const names = new Set([...old.keys(), ...current.keys()]);
        this.#touch([...names].filter((name) => old.get(name)?.value.etag !== current.get(name)?.value.etag));
        [this.#content, this.#incoming] = [this.#incoming, new Content()];
        this.#damaged = new Set(event.damage?.names);
        break;
      }
      case "changes":
        for (const { type, name, entity } of event.changes) {
          if (type === "unreadable") this.#damaged.add(name);
          else this.#damaged.delete(name);
          if (entity) this.#content.put(entity);
          else if (type !== "unreadable") this.#content.delete(name);
        }
        this.#touch(event.changes.map(({ name }) => name));
        break;
      case "checkpoint":
        this.#isReady ||= !event.behind;
    }
    this.#position = event.position;
  }

  #touch(names: readonly string[]): void {
    for (const watcher of this.#watchers) for (const name of names) watcher.add(name);
  }
}
