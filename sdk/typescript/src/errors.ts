import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import type { Damage, ErrorReason } from "./gen/v1.js";

/** The reason of an error: a name of `ErrorReason`, or one of a later server. */
export type Reason = keyof typeof ErrorReason | (string & {});

const RETRYABLE = [Code.Unavailable, Code.DeadlineExceeded];
type Details = Partial<Omit<CableError, "code" | "name" | "message" | "mayHaveApplied" | "field" | "retryable">>;

/** The error of a call, a feed or a mirror. Decide by `reason` if the server sent one, and by `code` otherwise. */
export class CableError extends Error {
  override readonly name = "CableError";
  readonly reason?: Reason | undefined;
  /** The invalid fields of the request, such as `article.tags[3]`, each with its problem. */
  readonly violations: readonly { field: string; description: string }[] = [];
  /** The metadata of the reason, such as `etag` of `ETAG_MISMATCH`. */
  readonly metadata: { readonly [key: string]: string } = {};
  /** The delay before a retry that the server requested. */
  readonly retryAfterMs?: number | undefined;
  /** Whether the write may have been applied. The same write with the same request id settles it. */
  mayHaveApplied = false;
  /** @internal How the connection failed. Unset if the server sent the error, or if there was no call. */
  readonly connection?: "refused" | "lost";

  constructor(message: string, readonly code: Code, details: Details = {}) {
    super(message, { cause: details.cause });
    Object.assign(this, details);
  }

  /** The first invalid field. */
  get field(): string | undefined { return this.violations[0]?.field; }

  /**
   * Whether the same call may succeed later: no node could serve it, it timed out, or the server requested a delay. The
   * client has already made the attempts that it may make, which is so only for calls that no node could serve.
   */
  get retryable(): boolean { return RETRYABLE.includes(this.code) || this.retryAfterMs !== undefined; }

  /** Converts the error of a transport. */
  static from(cause: unknown, endpoint = "the server"): CableError {
    if (cause instanceof CableError) return cause;
    const error = ConnectError.from(cause);
    const text = describe(error);
    if (/^HTTP \d+$/.test(text)) {
      const problem = "not gRPC: headers that are too large, a proxy, another service or a refused origin";
      const code = text === "HTTP 431" ? Code.InvalidArgument : error.code; // The node does not read such a call.
      return new CableError(`${endpoint} responded with ${text}, ${problem}`, code, { cause });
    }
    // Without metadata, it was not sent by the server.
    if ([...error.metadata].length === 0) {
      if (text.startsWith("serialize ")) return new CableError(text, Code.InvalidArgument, { cause });
      if (text.startsWith("parse ")) return new CableError(`${endpoint}: ${text}`, Code.Internal, { cause });
      const [, value = "", maximum] = /^message size (\d+) is larger than configured writeMaxBytes (\d+)$/.exec(text) ?? [];
      if (maximum !== undefined) { // Not sent. The server would respond with the same error.
        const details = { reason: "LIMIT_EXCEEDED", metadata: { limit: "write_request_bytes", value, maximum } };
        const message = `request: ${value} exceeds the maximum of ${maximum} (write_request_bytes)`;
        return new CableError(message, Code.InvalidArgument, details);
      }
      if (text.includes("readMaxBytes")) return new CableError(text, Code.ResourceExhausted, { cause });
      const message = `connection to ${endpoint} lost: ${text}`;
      return new CableError(message, Code.Unavailable, { cause, connection: "lost" });
    }
    const info = error.findDetails(ErrorInfoSchema).find(({ domain }) => domain === "cable.v1");
    const delay = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
    return new CableError(text, error.code, {
      cause,
      reason: info?.reason,
      metadata: info?.metadata ?? {},
      violations: error.findDetails(BadRequestSchema).flatMap((bad) => bad.fieldViolations),
      retryAfterMs: delay && Number(delay.seconds) * 1000 + delay.nanos / 1e6,
    });
  }

  /** @internal The error for a response that lacks records because the server cannot read them. */
  static incomplete({ database, count, names }: Damage): CableError {
    const message = database ? "incomplete: damaged database" : `incomplete: ${count} unreadable records`;
    const reason = database ? "STORE_DAMAGED" : "RECORD_CORRUPT";
    return new CableError(message, Code.DataLoss, { reason, metadata: { damaged: names.join(" ") } });
  }
}

/** Returns whether one attempt of a write may have been applied. */
export function isOutcomeUnknown(error: CableError): boolean {
  // Not destructured in the signature: the typings of the package lack what is internal.
  if (error.connection !== undefined) return error.connection === "lost";
  if (error.code === Code.Unavailable) return error.reason === undefined || error.reason === "OUTCOME_UNKNOWN";
  return [Code.DeadlineExceeded, Code.Canceled, Code.Unknown, Code.Internal].includes(error.code);
}

/** Returns whether a retry cannot help, on this node or another. */
export function isPermanent({ code, reason }: CableError): boolean {
  // The server always has a reason for RESOURCE_EXHAUSTED. Without one, the client refused the size of a message.
  if (code === Code.ResourceExhausted) return reason === undefined;
  const isRefusal = [Code.InvalidArgument, Code.OutOfRange, Code.FailedPrecondition, Code.Unimplemented].includes(code);
  return isRefusal || code === Code.Unauthenticated || code === Code.PermissionDenied;
}

/** Returns the error for a response that no healthy server sends. */
export const malformed = (problem: string): CableError =>
  new CableError(`malformed response: ${problem}`, Code.Internal);

/** Returns the error of what its caller has cancelled, or of a client that is closed. */
export function stoppedBy(signal: AbortSignal | undefined, closed?: AbortSignal): CableError | undefined {
  if (signal?.aborted) return new CableError("cancelled by the caller", Code.Canceled, { cause: signal.reason });
  return closed?.aborted ? new CableError("the client is closed", Code.Canceled) : undefined;
}

/** Returns the text of any error. That of a refused connection can be empty. */
export function describe(cause: unknown): string {
  if (!(cause instanceof Error)) return String(cause);
  const text = cause instanceof ConnectError ? cause.rawMessage : cause.message;
  if (text !== "") return text;
  return cause.cause instanceof Error ? describe(cause.cause) : "code" in cause ? String(cause.code) : cause.name;
}
