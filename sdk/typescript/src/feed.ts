import { create, toBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { once, type Calls } from "./calls.js";
import { CableError, isPermanent, malformed, stoppedBy } from "./errors.js";
import * as v1 from "./gen/v1.js";
import { consumerStore, isSamePosition, PositionSaver, type PositionStore } from "./position.js";
import { backoff, sleep } from "./time.js";

/** The options of a feed. */
export interface FeedOptions {
  /** The filter. All conditions that are set must match. If unset, everything matches. */
  filter?: MessageInitShape<typeof v1.FeedFilterSchema> | undefined;
  /** The view of articles. If unset, BASIC. */
  view?: v1.ArticleView | undefined;
  /** The format of bodies in the view FULL. If unset, BLOCKS. */
  bodyFormat?: v1.BodyFormat | undefined;
  /** The start: changes from now on, a snapshot and then changes, or the changes after a position. If unset, now. */
  start?: "now" | "snapshot" | { after: Position } | undefined;
  /**
   * Whether the feed may restart with a snapshot if the server cannot resume it: the event `reset` comes first. If unset,
   * the feed then ends with the reason REVISION_COMPACTED or LOG_CHANGED.
   */
  allowReset?: boolean | undefined;
  /** Whether to deliver writes that load old content. A snapshot always contains what they put. */
  includeBackfill?: boolean | undefined;
  /** The longest silence of the server, from 1 s to 5 min. If unset, 10 s. After three times that, the feed reconnects. */
  checkpointIntervalMs?: number | undefined;
  /** The largest commit in encoded bytes. If unset, the largest one that a server can send. */
  maxCommitBytes?: number | undefined;
  /**
   * The name of the consumer as which the feed follows: the node stores its position, shows its lag, and starts its next
   * feed there, unless `start` has a position. What is applied is acknowledged as a `positionStore` would save it.
   */
  consumer?: string | undefined;
  /** The store of the position, instead of the node. A position in it takes precedence over `start`. */
  positionStore?: PositionStore | undefined;
  /** A function that is called with the error before each retry. */
  onRetry?: ((error: CableError) => void) | undefined;
  /** Ends the feed with an error when it aborts. */
  signal?: AbortSignal | undefined;
}

/** An entity, as `{ case: "article", value: Article }`, and so on. */
export type Entity = Extract<v1.Record["record"], { case: "article" | "author" | "section" | "tag" | "collection" }>;

/** The newest state of a name. A follower deletes what has left or was removed, even if it never held it. */
export interface FeedChange {
  /** `unreadable`: the record is damaged. A copy is out of date until the name changes again. */
  type: "upsert" | "left" | "removed" | "unreadable";
  /** The resource name, such as `articles/storm`. */
  name: string;
  revision: bigint;
  /** The content of the name, with `upsert`. */
  entity: Entity | undefined;
  /** The whole change: its time, its kind, its tombstone, and what the article left by it. */
  message: v1.FeedChange;
}

export type ResetReason = "COMPACTED" | "LOG_CHANGED" | "SNAPSHOT_BROKEN";

/** An event of a feed. One with a position can be resumed from, once it is applied. */
export type FeedEvent =
  /** The changes of one or several whole commits. Apply them as one step. */
  | { type: "changes"; changes: FeedChange[]; position: Position }
  /** A part of a snapshot, in no order. */
  | { type: "snapshot"; entities: Entity[] }
  /** The end of a snapshot. It is complete if `damage` is unset. */
  | { type: "snapshotEnd"; count: number; damage: v1.Damage | undefined; position: Position }
  /** Everything up to the position was delivered. If `behind`, the server is still reading earlier changes. */
  | { type: "checkpoint"; behind: boolean; position: Position }
  /** Discard what the feed delivered. A snapshot follows. */
  | { type: "reset"; reason: ResetReason };

type Position = v1.Position;
type WatchStream = { messages: AsyncGenerator<v1.WatchResponse, undefined>; token: string | undefined };

const LONGEST_WAIT_MS = 5_000;
const MISSED_CHECKPOINTS = 3;
/** 500 changes of at most 2.5 MiB each. */
const MAX_COMMIT_BYTES = 500 * 2.5 * 2 ** 20;
/** The number of server faults in a row that ends a feed. */
const MAX_SERVER_FAULTS = 5;
const NO_TROUBLE = { failures: 0, serverFaults: 0, isTokenReplaced: false };

/**
 * The changes that match a filter, without gaps and without repeats, across connections and nodes.
 *
 * An event counts as applied when the next one is requested. Only then is its position saved. The feed
 * ends with an error that needs intervention, and retries after all others without limit. To leave the loop closes it.
 */
export class Feed implements AsyncIterableIterator<FeedEvent, undefined> {
  readonly #request: v1.WatchRequest;
  readonly #intervalMs: number;
  readonly #saver: PositionSaver | undefined;
  readonly #closing = new AbortController();
  readonly #events = this.#run();
  #position: Position | undefined;
  #isCaughtUp = false;
  #streams = 0;
  #snapshotRecords = 0;
  /** The parts of a commit of which the last one has not arrived, and their size. */
  #parts: v1.FeedChange[] = [];
  #partBytes = 0;
  /** What has gone wrong since the last progress: a new position, or a checkpoint of a feed that has caught up. */
  #trouble = { ...NO_TROUBLE };
  #pauseMs = 0;

  /** Use `feed` of a client instead. */
  constructor(private readonly calls: Calls, private readonly options: FeedOptions) {
    const { start, filter, view, bodyFormat, allowReset, includeBackfill, consumer } = options;
    this.#intervalMs = options.checkpointIntervalMs ?? 10_000;
    if (!(this.#intervalMs >= 1_000 && this.#intervalMs <= 300_000)) {
      throw new CableError("checkpointIntervalMs: want 1000 to 300000", Code.InvalidArgument);
    }
    const request = { filter, view, bodyFormat, allowReset, includeBackfill, consumer };
    this.#request = create(v1.WatchRequestSchema, { ...request, checkpointInterval: durationFromMs(this.#intervalMs) });
    if (start === "snapshot") this.#request.start = { case: "snapshot", value: true };
    if (typeof start === "object") this.#request.start = { case: "after", value: start.after };
    const store = options.positionStore ?? consumerStore(calls, consumer);
    this.#saver = store && new PositionSaver(store);
  }

  /** The position of the last event that has one or, before it, the one that the feed starts after. */
  get position(): Position | undefined { return this.#position; }

  /** Whether the current stream has delivered everything that the node had at its last checkpoint. */
  get isCaughtUp(): boolean { return this.#isCaughtUp; }

  /** The number of times that the feed has connected again. */
  get reconnects(): number { return Math.max(0, this.#streams - 1); }

  next(): Promise<IteratorResult<FeedEvent, undefined>> { return this.#events.next(); }

  /** Closes the feed, and saves the position of the events that were applied. */
  return(): Promise<IteratorResult<FeedEvent, undefined>> { this.#closing.abort(); return this.#events.return(undefined); }

  /** Closes the feed, also while it waits. The loop over it ends. */
  async close(): Promise<void> { await this.return(); }

  /** Counts all events that were delivered as applied, and saves the position now. For a loop that ends by itself. */
  async save(): Promise<void> {
    if (this.#position) this.#saver?.markApplied(this.#position);
    await this.#saver?.flush();
  }

  [Symbol.asyncIterator](): this { return this; }

  async *#run(): AsyncGenerator<FeedEvent, undefined> {
    const { signal } = this.options;
    const { closed } = this.calls;
    const stop = () => this.#closing.abort(stoppedBy(signal, closed));
    let stream: WatchStream | undefined;
    if (signal?.aborted || closed.aborted) stop();
    for (const source of [signal, closed]) source?.addEventListener("abort", stop);
    try {
      const saved = await this.#saver?.load();
      if (saved) this.#request.start = { case: "after", value: saved };
      if (this.#request.start.case === "after") this.#position = this.#request.start.value;
      while (!this.#closing.signal.aborted) {
        let event: FeedEvent | undefined;
        try {
          stream ??= await this.#connect();
          const message = await stream.messages.next();
          if (message.done === true) throw new CableError("the server ended the feed", Code.Unavailable);
          this.#trouble.isTokenReplaced = false; // A node has accepted the token, even if nothing has changed since.
          event = this.#accept(message.value);
        } catch (cause) {
          if (this.#closing.signal.aborted) break;
          void stream?.messages.return(undefined);
          event = await this.#recover(CableError.from(cause), stream?.token);
          stream = undefined;
        }
        if (event === undefined) continue;
        yield event;
        // The next event was requested, so this one is applied.
        if (this.#position) this.#saver?.markApplied(this.#position);
      }
      // The first cause counts: a feed that is closed ends without an error.
      if (this.#closing.signal.reason instanceof CableError) throw this.#closing.signal.reason;
    } finally {
      this.#isCaughtUp = false;
      for (const source of [signal, closed]) source?.removeEventListener("abort", stop);
      void stream?.messages.return(undefined);
      await this.#saver?.flush();
    }
  }

  /** Opens a stream that starts where the last one stopped, after the wait that the last failure requires. */
  async #connect(): Promise<WatchStream> {
    const { signal } = this.#closing;
    await sleep(this.#pauseMs, signal);
    const silenceMs = this.#intervalMs * MISSED_CHECKPOINTS;
    const options = { timeoutMs: Math.min(silenceMs, this.calls.timeoutMs), silenceMs, signal, attempts: 1 };
    const stream = await this.calls.open(v1.FeedService.method.watch, () => once(this.#request), options);
    this.#streams++;
    return stream;
  }

  /** Returns the event for a message, or undefined if it contains nothing new. */
  #accept({ position, event }: v1.WatchResponse): FeedEvent | undefined {
    if (this.#parts.length > 0 && event.case !== "changes" && event.case !== "reset") {
      throw malformed("a message between two parts of a commit");
    }
    switch (event.case) {
      case "reset":
        return this.#reset(event.value.reason === v1.FeedResetReason.COMPACTED ? "COMPACTED" : "LOG_CHANGED");
      case "snapshot":
        this.#snapshotRecords += event.value.records.length;
        return { type: "snapshot", entities: event.value.records.flatMap((record) => entityOf(record) ?? []) };
      case "snapshotEnd": {
        const { count, damage } = event.value;
        if (BigInt(this.#snapshotRecords) !== count) throw malformed(`${this.#snapshotRecords} records, not ${count}`);
        this.#snapshotRecords = 0;
        return { type: "snapshotEnd", count: Number(count), damage, position: this.#advance(position) };
      }
      case "checkpoint":
        return { type: event.case, behind: event.value.behind, position: this.#advance(position, !event.value.behind) };
      case "changes": {
        const parts = this.#join(event.value);
        if (parts === undefined) return undefined;
        const last = this.#position;
        const isSameLog = last?.logId === "" || last?.logId === position?.logId;
        // What was delivered before is dropped.
        const news = parts.filter(({ revision }) => !last || !isSameLog || revision > last.revision);
        const changes = news.flatMap((change) => changeOf(change) ?? []);
        const next = this.#advance(position);
        return changes.length === 0 ? undefined : { type: "changes", changes, position: next };
      }
      default: // An event of a later release.
        return undefined;
    }
  }

  /** Returns all changes of a commit if this is its last part. */
  #join(part: v1.FeedChanges): v1.FeedChange[] | undefined {
    const { maxCommitBytes: limit = MAX_COMMIT_BYTES } = this.options;
    // Without a limit of the caller, a commit in one message is not measured.
    if (part.moreFollows || this.#parts.length > 0 || limit < MAX_COMMIT_BYTES) this.#partBytes += largestCommit(part.changes);
    if (this.#partBytes > limit) {
      const message = `commit larger than ${limit} bytes: raise maxCommitBytes, or use a smaller view or filter`;
      throw new CableError(message, Code.ResourceExhausted);
    }
    this.#parts.push(...part.changes);
    return part.moreFollows ? undefined : this.#takeParts();
  }

  #takeParts(): v1.FeedChange[] { this.#partBytes = 0; return this.#parts.splice(0); }

  /** Records the position from which the next stream resumes. */
  #advance(position: Position | undefined, isCaughtUp = false): Position {
    if (!position) throw malformed("a message without position");
    if (isCaughtUp || !isSamePosition(this.#position, position)) this.#trouble = { ...NO_TROUBLE };
    this.#position = position;
    this.#isCaughtUp ||= isCaughtUp;
    this.#request.start = { case: "after", value: position };
    return position;
  }

  #reset(reason: ResetReason): FeedEvent {
    this.#request.start = { case: "snapshot", value: true };
    this.#takeParts();
    [this.#snapshotRecords, this.#position, this.#isCaughtUp] = [0, undefined, false];
    return { type: "reset", reason };
  }

  /** Prepares a retry, or throws the error if a retry cannot help. A snapshot that broke restarts: a reset. */
  async #recover(error: CableError, token: string | undefined): Promise<FeedEvent | undefined> {
    const trouble = this.#trouble;
    const hasOtherToken = !trouble.isTokenReplaced && (await this.calls.replaceToken(token, error));
    trouble.isTokenReplaced ||= hasOtherToken;
    trouble.failures++;
    if ([Code.DataLoss, Code.Internal, Code.Unknown].includes(error.code)) trouble.serverFaults++;
    this.#isCaughtUp = false;
    this.#takeParts();
    if ((isPermanent(error) && !hasOtherToken) || trouble.serverFaults >= MAX_SERVER_FAULTS) throw error;
    this.#pauseMs = backoff(trouble.failures, LONGEST_WAIT_MS, error);
    this.options.onRetry?.(error);
    return this.#snapshotRecords > 0 ? this.#reset("SNAPSHOT_BROKEN") : undefined;
  }
}

/** Returns the size of the largest commit among the changes of a message. The changes of a commit have one time. */
function largestCommit(changes: v1.FeedChange[]): number {
  const sizes: { [time: string]: number } = {};
  for (const change of changes) {
    const time = `${change.time?.seconds}.${change.time?.nanos}`;
    sizes[time] = (sizes[time] ?? 0) + toBinary(v1.FeedChangeSchema, change).length;
  }
  return Math.max(0, ...Object.values(sizes));
}

/** Returns the entity of a record, or undefined if it is of a kind that this client does not know. */
function entityOf({ record }: v1.Record): Entity | undefined {
  const isKnown = record.case !== undefined && record.case !== "tombstone" && record.case !== "pendingArticle";
  return isKnown ? record : undefined;
}

/** Returns a change, or undefined if it is of a kind that this client does not know. */
function changeOf(message: v1.FeedChange): FeedChange | undefined {
  const { change, revision } = message;
  if (change.case === undefined) throw malformed("a change without content");
  const entity = change.case === "upsert" ? entityOf(change.value) : undefined;
  const name = change.case === "upsert" ? entity?.value.name : change.case === "removed" ? change.value.name : change.value;
  return name === undefined ? undefined : { type: change.case, name, revision, entity, message };
}
