import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { Cable } from "./cable.js";
import type { ClientOptions } from "./calls.js";

export * from "./index.js";

/** The settings of a client in a browser. */
export interface WebOptions extends ClientOptions {
  /** The function that makes the requests. If unset, `fetch`. */
  fetch?: typeof globalThis.fetch;
}

/** Returns a client over gRPC-Web, for browsers. The node must allow the origin of the page (`web.origins`). */
export function connect({ fetch = (...request) => globalThis.fetch(...request), ...options }: WebOptions): Cable {
  return new Cable(options, (baseUrl) => ({ transport: createGrpcWebTransport({ baseUrl, fetch }) }));
}
