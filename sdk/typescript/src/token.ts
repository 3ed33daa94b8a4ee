import { Code } from "@connectrpc/connect";
import { CableError, describe } from "./errors.js";
import { now, within } from "./time.js";

/** A token, or a function that returns the current one, for example from a secret store. */
export type TokenSource = string | (() => string | Promise<string>);

/** The age at which a function is called again. A rotation leaves both tokens valid for longer. */
const MAX_AGE_MS = 10_000;
/** The longest time for which a function may run. */
const MAX_READ_MS = 5_000;
const MAX_LENGTH = 4096;

/** The token that calls send. A token never appears in an error. */
export class Credentials {
  readonly #source: () => string | Promise<string>;
  #token: string | undefined;
  #readAt = 0;
  #reading: Promise<string> | undefined;

  constructor(source: TokenSource) {
    this.#source = typeof source === "string" ? () => source : source;
    if (typeof source === "string") check(source);
  }

  /** Returns the token. If its function fails, the last token. */
  async current(): Promise<string> {
    const last = this.#token;
    if (last !== undefined && now() - this.#readAt < MAX_AGE_MS) return last;
    return this.#read().catch((error: unknown) => last ?? Promise.reject(error));
  }

  /** Calls the function again because a server has refused a token. Returns whether there is another one now. */
  async replace(refused: string): Promise<boolean> {
    if (this.#token === refused) await this.#read().catch(() => undefined);
    return this.#token !== refused;
  }

  /** Of several calls at a time, one reads. After a failure, the last token counts as read. */
  #read(): Promise<string> {
    return (this.#reading ??= this.#readSource().finally(() => ([this.#reading, this.#readAt] = [undefined, now()])));
  }

  async #readSource(): Promise<string> {
    const late = () => Promise.reject(new Error(`no result within ${MAX_READ_MS} ms`));
    try {
      return (this.#token = check(await within((async () => this.#source())(), [], MAX_READ_MS, late)));
    } catch (cause) {
      throw new CableError(`cannot get a token: ${describe(cause)}`, Code.Unavailable, { cause, connection: "refused" });
    }
  }
}

function check(text: string): string {
  const token = text.trim();
  if (/^[\x21-\x7e]+$/.test(token) && token.length <= MAX_LENGTH) return token;
  throw new CableError(`token: want 1 to ${MAX_LENGTH} visible ASCII characters`, Code.InvalidArgument);
}
