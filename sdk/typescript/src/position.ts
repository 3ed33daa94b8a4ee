import { create, equals } from "@bufbuild/protobuf";
import { Code, createClient, type Transport } from "@connectrpc/connect";
import { CableError, describe } from "./errors.js";
import { FeedService, PositionSchema, type Position } from "./gen/v1.js";

/** Returns bytes in hex. */
export const hex = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

/** Returns the text of a position: `LOG:REVISION:CHAIN`, with the chain in hex. */
export const formatPosition = ({ logId, revision, chain }: Position): string => `${logId}:${revision}:${hex(chain)}`;

/** Parses the text of a position. */
export function parsePosition(text: string): Position {
  const match = /^((?:[0-9a-f]{8})?):(\d{1,18}):((?:[0-9a-f]{2})*)$/.exec(text);
  if (!match) throw new CableError("invalid position: want LOG:REVISION:CHAIN", Code.InvalidArgument);
  const [, logId = "", revision = "", chain = ""] = match;
  const bytes = Uint8Array.from(chain.match(/../g) ?? [], (byte) => Number.parseInt(byte, 16));
  return create(PositionSchema, { logId, revision: BigInt(revision), chain: bytes });
}

export const isSamePosition = (one: Position | undefined, other: Position): boolean =>
  one !== undefined && equals(PositionSchema, one, other);

/**
 * A store for the position of one feed. A follower that writes to a database should instead write `event.position` in
 * the same transaction as the changes, and start `{ after: position }`.
 */
export interface PositionStore {
  /** Returns the position that was saved last. Rejects if it cannot be read. */
  load(): Promise<Position | undefined>;
  /** Saves a position. When the promise resolves, the position survives a crash. */
  save(position: Position): Promise<void>;
}

/** A store whose position does not survive the process. */
export class MemoryPositionStore implements PositionStore {
  #position: Position | undefined;

  async load(): Promise<Position | undefined> { return this.#position; }

  async save(position: Position): Promise<void> { this.#position = position; }
}

/** Writes the positions that a follower has applied: one at a time, and only the newest. */
export class PositionSaver {
  #newest: Position | undefined;
  #pending: Position | undefined;
  #writing: Promise<void> | undefined;
  #error: CableError | undefined;

  constructor(private readonly store: PositionStore) {}

  async load(): Promise<Position | undefined> {
    try {
      return (this.#newest = await this.store.load());
    } catch (cause) {
      throw storeError("loaded", cause);
    }
  }

  /** Marks everything up to a position as applied, and starts to write it. Throws if an earlier write has failed. */
  markApplied(position: Position): void {
    if (this.#error) throw this.#error;
    if (isSamePosition(this.#newest, position)) return;
    this.#newest = this.#pending = position;
    this.#writing ??= this.#write();
  }

  /** Waits until the position is written. */
  async flush(): Promise<void> { await this.#writing; if (this.#error) throw this.#error; }

  async #write(): Promise<void> {
    try {
      for (let position = this.#pending; position; position = this.#pending) {
        this.#pending = undefined;
        await this.store.save(position);
      }
    } catch (cause) {
      const error = cause instanceof CableError ? cause : storeError("saved", cause);
      // No feed can resume after such a position: the feed itself learns that.
      const isOfNoFeed = error.reason === "LOG_CHANGED" || error.reason === "REVISION_COMPACTED";
      if (LATE_CODES.includes(error.code)) this.#newest = undefined; // The next event repeats it.
      else if (!isOfNoFeed) this.#error = error;
    }
    this.#writing = undefined;
  }
}

/** The codes of acknowledgements that succeed later. A feed outlives a node that cannot be reached. */
const LATE_CODES = [Code.Canceled, Code.DeadlineExceeded, Code.ResourceExhausted, Code.Unavailable];


/** Returns the store of a consumer. Its position is on the node, which starts the feed after it. */
export function consumerStore(transport: Transport, consumer: string | undefined): PositionStore | undefined {
  if (consumer === undefined) return undefined;
  const { acknowledgePosition } = createClient(FeedService, transport);
  const save = async (position: Position) => void (await acknowledgePosition({ consumer, position }, { timeoutMs: 5_000 }));
  return { load: async () => undefined, save };
}

const storeError = (action: string, cause: unknown): CableError =>
  new CableError(`the position could not be ${action}: ${describe(cause)}`, Code.Internal, { cause });
