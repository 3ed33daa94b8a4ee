// A follower of a feed: it applies every change once, and resumes after the last applied position.

import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { errorInfo, explain, feeds, type Failure } from "./api";
import { PositionSchema } from "./gen/cable/v1/meta_pb";
import { ArticleView, type FeedChange, type Position, type WatchResponse } from "./schema";

/** The silence after which the node sends a checkpoint, and the one after which the connection is dead. */
const CHECKPOINT_SECONDS = 5n;
const SILENCE_MILLIS = 20_000;
/** The waits between attempts. */
const FIRST_WAIT_MILLIS = 500;
const LONGEST_WAIT_MILLIS = 10_000;
/** The reasons for which a position cannot be resumed from. */
const HISTORY_LOST = new Set(["LOG_CHANGED", "REVISION_COMPACTED"]);

export type Filter = { anyTags: string[] } | { sections: string[] } | { authors: string[] };

export type State =
  | { kind: "connecting" }
  | { kind: "live" }
  /** Cut by the reader. */
  | { kind: "cut" }
  /** The connection failed. The follower tries again at a time. */
  | { kind: "waiting"; failure: Failure; untilMillis: number }
  /** It cannot continue. */
  | { kind: "ended"; failure: Failure };

/** A position to start after. Without a chain, the log id alone identifies the history; the first message has the chain. */
export interface Start {
  logId: string;
  revision: bigint;
}

export interface Listener {
  stateChanged(state: State): void;
  /** Applies the changes of one or more commits. `late` is whether they were made before the connection. */
  apply(changes: FeedChange[], late: boolean): void;
  positionChanged(position: Position): void;
  /** The position cannot be resumed from. Reads the list again, and returns the position after it. */
  readAgain(signal: AbortSignal): Promise<Start>;
}

export class Follower {
  #position: Position;
  #abort: AbortController | null = null;
  #timer = 0;
  #wait = FIRST_WAIT_MILLIS;

  constructor(
    private readonly filter: Filter,
    position: Start,
    private readonly listener: Listener,
  ) {
    this.#position = create(PositionSchema, position);
  }

  /** Connects, unless it is connected. */
  resume(): void {
    if (this.#abort) return;
    clearTimeout(this.#timer);
    const abort = new AbortController();
    this.#abort = abort;
    this.listener.stateChanged({ kind: "connecting" });
    void this.#run(abort).then((thrown) => this.#ended(thrown, abort));
  }

  /** Aborts the stream: the browser resets it. */
  cut(): void {
    this.close();
    this.listener.stateChanged({ kind: "cut" });
  }

  /** Ends without a report. */
  close(): void {
    clearTimeout(this.#timer);
    const abort = this.#abort;
    this.#abort = null;
    abort?.abort();
  }

  /** Reads the stream to its end. Returns what ended it. */
  async #run(abort: AbortController): Promise<unknown> {
    let parts: FeedChange[] = [];
    let late = true;
    let silence = 0;
    const watch = () => {
      clearTimeout(silence);
      silence = setTimeout(() => abort.abort(new ConnectError("no message for too long", Code.Unavailable)), SILENCE_MILLIS);
    };
    try {
      watch();
      const messages = feeds.watch({
        filter: this.filter,
        view: ArticleView.BASIC,
        start: { case: "after", value: this.#position },
        checkpointInterval: { seconds: CHECKPOINT_SECONDS },
      }, { signal: abort.signal });
      for await (const message of messages) {
        // Nothing of a stream that has been cut may be applied: the next one delivers it.
        if (this.#abort !== abort) return null;
        watch();
        const event: WatchResponse["event"] = message.event;
        if (event.case === "changes") {
          // The node limits the changes of a commit, so its parts are all held: any of them may be a removal.
          parts.push(...event.value.changes);
          if (!event.value.moreFollows) {
            this.listener.apply(parts, late);
            parts = [];
          }
        } else if (event.case === "checkpoint" && !event.value.behind && late) {
          late = false;
          this.#wait = FIRST_WAIT_MILLIS;
          this.listener.stateChanged({ kind: "live" });
        }
        if (message.position) {
          this.#position = message.position;
          this.listener.positionChanged(message.position);
        }
      }
      return new ConnectError("the stream has ended", Code.Unavailable);
    } catch (thrown) {
      return abort.signal.reason instanceof ConnectError ? abort.signal.reason : thrown;
    } finally {
      clearTimeout(silence);
    }
  }

  async #ended(thrown: unknown, abort: AbortController): Promise<void> {
    let error = ConnectError.from(thrown);
    let start: Start | null = null;
    if (this.#abort === abort && HISTORY_LOST.has(errorInfo(error).reason)) {
      try {
        start = await this.listener.readAgain(abort.signal);
      } catch (thrown) {
        error = ConnectError.from(thrown);
      }
    }
    // A stream that the reader has cut, or that another one replaces, reports nothing.
    if (this.#abort !== abort) return;
    this.#abort = null;
    if (start) {
      this.#position = create(PositionSchema, start);
      this.resume();
    } else {
      this.#failed(explain(error));
    }
  }

  #failed(failure: Failure): void {
    if (!failure.canRetry || failure.needsToken) {
      this.listener.stateChanged({ kind: "ended", failure });
      return;
    }
    const wait = this.#wait;
    this.#wait = Math.min(LONGEST_WAIT_MILLIS, wait * 2);
    this.#timer = setTimeout(() => this.resume(), wait);
    this.listener.stateChanged({ kind: "waiting", failure, untilMillis: Date.now() + wait });
  }
}
