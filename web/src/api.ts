// The calls, over gRPC-Web, and their failures in plain words.

import { BinaryReader } from "@bufbuild/protobuf/wire";
import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { ContentService, FeedService } from "./schema";

const TOKEN = "cable.token";

/** Limit on a read, in milliseconds. Feeds have none. */
export const READ_MILLIS = 10_000;

/** What a header can hold. Everything else is a slip of the hand, and no call needs to be made to see that. */
const TOKEN_FORM = /^[\x21-\x7e]{1,1000}$/;

/** The token where the browser allows no storage, until the page closes. */
let unstored = "";

/** The token of this tab. The browser forgets it when the tab closes. */
export const token = {
  get(): string {
    try {
      return sessionStorage.getItem(TOKEN) ?? "";
    } catch {
      return unstored;
    }
  },
  set(value: string): void {
    unstored = value;
    try {
      if (value === "") sessionStorage.removeItem(TOKEN);
      else sessionStorage.setItem(TOKEN, value);
    } catch {
      // The page works without storage.
    }
  },
};

const authorize: Interceptor = (next) => (request) => {
  const value = token.get();
  if (value !== "" && !TOKEN_FORM.test(value)) throw new ConnectError("not a token", Code.Unauthenticated);
  if (value !== "") request.header.set("authorization", `Bearer ${value}`);
  return next(request);
};

const transport = createGrpcWebTransport({ baseUrl: location.origin, interceptors: [authorize] });

export const content = createClient(ContentService, transport);
export const feeds = createClient(FeedService, transport);

/** A failure, for a reader. */
export interface Failure {
  title: string;
  text: string;
  /** The name under which the content continues. */
  movedTo: string;
  /** Whether another token can help. */
  needsToken: boolean;
  /** Whether a repetition can help. */
  canRetry: boolean;
  /** The status code and the reason, for a developer. */
  detail: string;
}

/** The reason and the metadata of an error: google.rpc.ErrorInfo. */
export function errorInfo(error: ConnectError): { reason: string; metadata: Map<string, string> } {
  const metadata = new Map<string, string>();
  let reason = "";
  for (const detail of error.details) {
    if (!("type" in detail) || detail.type !== "google.rpc.ErrorInfo") continue;
    const reader = new BinaryReader(detail.value as Uint8Array);
    while (reader.pos < reader.len) {
      const [field, type] = reader.tag();
      if (field === 1) reason = reader.string();
      else if (field === 3) {
        const [key, value] = entry(reader.bytes());
        metadata.set(key, value);
      } else reader.skip(type);
    }
  }
  return { reason, metadata };
}

function entry(bytes: Uint8Array): [string, string] {
  const reader = new BinaryReader(bytes);
  let key = "";
  let value = "";
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    if (field === 1) key = reader.string();
    else if (field === 2) value = reader.string();
    else reader.skip(type);
  }
  return [key, value];
}

/** Explains an error of a call. */
export function explain(thrown: unknown): Failure {
  const error = ConnectError.from(thrown);
  const { reason, metadata } = errorInfo(error);
  const code = Code[error.code]?.replace(/(?<!^)([A-Z])/g, "_$1").toUpperCase() ?? "UNKNOWN";
  const failure: Failure = {
    title: "That did not work",
    text: error.rawMessage,
    movedTo: "",
    needsToken: false,
    canRetry: true,
    detail: reason === "" ? code : `${code}, ${reason}`,
  };
  const set = (change: Partial<Failure>) => Object.assign(failure, change);
  if (reason === "" && /^HTTP (403|421)$/.test(error.rawMessage)) {
    const text = `It refuses calls of pages at ${location.host}. Its operator can allow them: add ${location.origin} ` +
      "to the setting `web.origins`. Or open the node by its IP address, or as localhost on its own machine.";
    return set({ title: "The node does not know this address", text, detail: error.rawMessage });
  }
  const movedTo = metadata.get("moved_to") ?? "";
  if (movedTo !== "") {
    return set({ title: "This has moved", text: "It continues under another name.", movedTo, canRetry: false });
  }
  if (reason.endsWith("_GONE")) {
    const text = "It was here, and its publisher has removed it. The front page has what is new.";
    return set({ title: "This is no longer here", text, canRetry: false });
  }
  switch (error.code) {
    case Code.NotFound: {
      const text = "Nothing is published under this name. Check the address, or start from the front page.";
      return set({ title: "Nothing here", text, canRetry: false });
    }
    case Code.Unauthenticated:
      return set(token.get() === ""
        ? {
            title: "This node needs a token",
            text: "Its operator can create one: `cable token new NAME --role reader`. Enter yours here.",
            needsToken: true,
          }
        : {
            title: "This token is not accepted",
            text: "The node does not accept the token of this tab: it may be revoked, expired or mistyped. Enter another one.",
            needsToken: true,
          });
    case Code.PermissionDenied:
      return set({
        title: "This token is not enough",
        text: `The node refused the call: ${error.rawMessage}. Enter a token that may read this.`,
        needsToken: true,
      });
    case Code.InvalidArgument:
      return set({ title: "The node does not accept this address", text: error.rawMessage, canRetry: false });
    case Code.ResourceExhausted:
      return set({ title: "Too much at once", text: `${error.rawMessage}. Wait a moment and try again.` });
    case Code.DeadlineExceeded:
      return set({ title: "The node did not respond in time", text: "It may be busy, or the network slow. Try again." });
    default:
      if (isUnreachable(error)) {
        const text = navigator.onLine
          ? `Nothing responds at ${location.host}. The node may be restarting: try again in a few seconds.`
          : "This device is offline. Reconnect and try again.";
        return set({ title: "The node cannot be reached", text });
      }
      return failure;
  }
}

/** Whether no response came at all. */
function isUnreachable(error: ConnectError): boolean {
  return error.code === Code.Unavailable || error.cause instanceof TypeError || /fetch/i.test(error.rawMessage);
}
