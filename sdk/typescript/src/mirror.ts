import { Code } from "@connectrpc/connect";
import { CableError, stoppedBy } from "./errors.js";
import type { Entity, Feed, FeedEvent, FeedOptions } from "./feed.js";
import type { Article, Position } from "./gen/v1.js";
import { now, within } from "./time.js";

/**
 * The options of a mirror: those of a feed that a mirror does not set itself. As a `consumer`, a mirror acknowledges
 * what it has applied, which shows its lag. It starts with a snapshot nevertheless.
 */
export type MirrorOptions = Omit<FeedOptions, "start" | "allowReset" | "includeBackfill" | "positionStore">;

/** The changes of a mirror since the last ones: one or several commits. */
export interface MirrorUpdate {
  /** The names whose entities have changed, come or gone. */
  names: ReadonlySet<string>;
  position: Position | undefined;
}

/**
 * A local copy of what a filter matches. Reads do not wait, and each commit is visible as a whole.
 *
 * A mirror is empty until its first snapshot is complete. While no node can be reached, it serves the last known
 * content. If the feed restarts, the content is replaced as a whole once the new snapshot is complete.
 */
export class Mirror {
  #entities = new Map<string, Entity>();
  #incoming = new Map<string, Entity>();
  /** The articles by tag. Unset after a change, until it is needed. */
  #byTag: Map<string, Article[]> | undefined;
  #position: Position | undefined;
  #damaged = new Set<string>();
  #isReady = false;
  #isClosed = false;
  #caughtUpAt = Number.NEGATIVE_INFINITY;
  #error: CableError | undefined;
  /** For each iterator of changes, the names that it has not returned yet: until it ends or nobody can call it. */
  readonly #watchers = new Set<WeakRef<Set<string>>>();
  #wake: () => void = () => {};
  #woken = new Promise<void>((resolve) => (this.#wake = resolve));

  /** Use `mirror` of a client instead. */
  constructor(private readonly feed: Feed) { void this.#run(); }

  /** Resolves once the first snapshot is complete and the changes since are applied. Rejects if the feed ends. */
  async ready(signal?: AbortSignal): Promise<void> { while (!this.#isReady) await this.#changed(signal); }

  /** The entity with this resource name, such as `articles/storm`. */
  get(name: string): Entity | undefined { return this.#entities.get(name); }

  /** The article with this name. */
  article(name: string): Article | undefined {
    const entity = this.get(name);
    return entity?.case === "article" ? entity.value : undefined;
  }

  /** The articles that have this tag, such as `tags/weather`. */
  byTag(tag: string): readonly Article[] { return (this.#byTag ??= this.#index()).get(tag) ?? []; }

  #index(): Map<string, Article[]> {
    const byTag = new Map<string, Article[]>();
    for (const { value } of this.#entities.values()) {
      if ("tags" in value) for (const tag of value.tags) if (!byTag.get(tag)?.push(value)) byTag.set(tag, [value]);
    }
    return byTag;
  }

  /** All entities by name. The map changes with the mirror; a reset replaces it. */
  get entities(): ReadonlyMap<string, Entity> { return this.#entities; }

  /** The position up to which all changes are applied. */
  get position(): Position | undefined { return this.#position; }

  /** Names that the server cannot read, so that the mirror lacks them or has older versions; at most 100 at first. */
  get damaged(): ReadonlySet<string> { return this.#damaged; }

  /** The time since the mirror was last known to be current: below the checkpoint interval while it is connected. */
  get lagMs(): number { return now() - this.#caughtUpAt; }

  /** Iterates over the changes from now on. Changes that come while the loop is busy are joined. */
  changes(signal?: AbortSignal): AsyncGenerator<MirrorUpdate, undefined> {
    const names = new Set<string>();
    this.#watchers.add(new WeakRef(names));
    return this.#updates(names, signal);
  }

  /** Stops the mirror. Its content stays readable. */
  async close(): Promise<void> { await this.feed.close(); }

  async *#updates(names: Set<string>, signal: AbortSignal | undefined): AsyncGenerator<MirrorUpdate, undefined> {
    for (;;) {
      while (names.size === 0) {
        if (this.#isClosed && !this.#error) return undefined;
        await this.#changed(signal);
      }
      const update = { names: new Set(names), position: this.#position };
      names.clear();
      yield update;
    }
  }

  async #changed(signal: AbortSignal | undefined): Promise<void> {
    if (this.#error) throw this.#error;
    if (this.#isClosed) throw new CableError("the mirror is closed", Code.Canceled);
    // The promise itself never rejects.
    await within(this.#woken, [signal], Infinity, () => undefined).catch(() => Promise.reject(stoppedBy(signal)));
  }

  async #run(): Promise<void> {
    try {
      for await (const event of this.feed) {
        // No reader runs meanwhile, so each commit is visible as a whole.
        const names = this.#apply(event);
        for (const watcher of this.#watchers) {
          names.forEach((name) => watcher.deref()?.add(name));
          if (!watcher.deref()) this.#watchers.delete(watcher);
        }
        if (this.feed.isCaughtUp) this.#caughtUpAt = now();
        this.#notify();
      }
    } catch (cause) {
      this.#error = CableError.from(cause);
    }
    this.#isClosed = true;
    this.#notify();
  }

  #notify(): void { this.#wake(); this.#woken = new Promise((resolve) => (this.#wake = resolve)); }

  /** Applies an event. Returns the names that have changed. */
  #apply(event: FeedEvent): string[] {
    if ("position" in event) this.#position = event.position;
    if (event.type !== "checkpoint") this.#byTag = undefined;
    switch (event.type) {
      case "reset":
        this.#incoming = new Map();
        return [];
      case "snapshot":
        for (const entity of event.entities) this.#incoming.set(entity.value.name, entity);
        return [];
      case "snapshotEnd": {
        const [old, current] = [this.#entities, this.#incoming];
        [this.#entities, this.#incoming] = [current, new Map()];
        this.#damaged = new Set(event.damage?.names);
        const names = new Set([...old.keys(), ...current.keys()]);
        return [...names].filter((name) => old.get(name)?.value.etag !== current.get(name)?.value.etag);
      }
      case "changes":
        for (const { type, name, entity } of event.changes) {
          this.#damaged.delete(name);
          if (type === "unreadable") this.#damaged.add(name);
          else if (entity) this.#entities.set(name, entity);
          else this.#entities.delete(name);
        }
        return event.changes.map(({ name }) => name);
      case "checkpoint":
        this.#isReady ||= !event.behind;
        return [];
    }
  }
}
