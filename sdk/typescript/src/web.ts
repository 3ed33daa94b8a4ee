import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { Cable } from "./cable.js";
import type { ClientOptions } from "./calls.js";

export * from "./index.js";

/** The settings of a client in a browser. */
export interface WebOptions extends Omit<ClientOptions, "endpoints"> {
  /** One or several nodes. If unset, the origin of the page. */
  endpoints?: string | readonly string[];
  /** The function that makes the requests. If unset, `fetch`. */
  fetch?: typeof globalThis.fetch;
}

/** Returns a client over gRPC-Web, for browsers. The node must allow the origin of the page (`web.origins`). */
export function connect(options: WebOptions = {}): Cable {
  const fetch = options.fetch ?? ((...request: Parameters<typeof globalThis.fetch>) => globalThis.fetch(...request));
  return new Cable({ ...options, endpoints: options.endpoints ?? globalThis.location.origin }, (baseUrl) => ({
    transport: createGrpcWebTransport({ baseUrl, fetch }),
  }));
}
