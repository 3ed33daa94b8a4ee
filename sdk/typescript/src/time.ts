import type { CableError } from "./errors.js";

const FIRST_WAIT_MS = 50;
/** The longest wait that a server can request. */
const LONGEST_REQUESTED_MS = 300_000;
/** The longest time of a timer. A longer one would fire at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;

type Signals = readonly (AbortSignal | undefined)[];

/** Returns the time of a monotonic clock in milliseconds. */
export const now = (): number => performance.now();

/** Returns a random wait between half of a doubled wait and all of it, but no less than the server requested. */
export function backoff(failures: number, longestMs: number, { retryAfterMs = 0 }: CableError): number {
  const doubled = Math.min(FIRST_WAIT_MS * 2 ** (failures - 1), longestMs);
  return Math.max(doubled * (0.5 + Math.random() / 2), Math.min(retryAfterMs, LONGEST_REQUESTED_MS));
}

/** Waits. Rejects with the reason of a signal that aborts. */
export const sleep = (ms: number, ...signals: Signals): Promise<void> =>
  within(new Promise<void>(() => {}), signals, ms, () => undefined);

/**
 * Waits for a promise, for a signal or for the time. Rejects with the reason of a signal that aborts. When the time has
 * passed, the result is that of `late`. The promise itself is not cancelled.
 */
export function within<T>(promise: Promise<T>, signals: Signals, ms: number, late: () => T | Promise<T>): Promise<T> {
  let clear = () => {};
  const outcome = new Promise<T>((resolve, reject) => {
    const abort = () => reject(signals.find((signal) => signal?.aborted)?.reason);
    const expire = () => new Promise<T>((done) => done(late())).then(resolve, reject);
    const timer = setTimeout(expire, Math.min(ms, MAX_TIMER_MS));
    clear = () => {
      clearTimeout(timer);
      for (const signal of signals) signal?.removeEventListener("abort", abort);
    };
    if (signals.some((signal) => signal?.aborted)) abort();
    for (const signal of signals) signal?.addEventListener("abort", abort);
    promise.then(resolve, reject);
  });
  return outcome.finally(() => clear());
}
