// The page: routes, the frame around the views, and failures.

import { showFeeds } from "./alternates";
import { explain, token, type Failure } from "./api";
import { announce, byId, el, fill } from "./dom";
import { idOf, route, routeOf } from "./links";
import { article, articleOfPath } from "./pages/article";
import { author, collection, forget, front, paperName, section, tag, tags, topSections } from "./pages/lists";
import { live } from "./pages/live";
import { title, type View } from "./view";
import { today } from "./words";

const main = byId("main");

/** The view in the page. The next one aborts its calls and feeds. */
let current = new AbortController();
let isFirst = true;

/** The places in the views that the reader has left, by the number of their entry in the history. */
const places = new Map<number, number>();
const MAX_PLACES = 100;
let entry = 0;

type Load = (signal: AbortSignal) => Promise<View> | View;

/** Returns the view of a route. */
function resolve(hash: string): Load {
  const path = hash.replace(/^#\/?/, "");
  if (path === "") return front;
  if (path.startsWith("path/")) return (signal) => articleOfPath(path.slice("path".length), signal);
  const [kind = "", rest = "", more = ""] = path.split("/");
  const [id = "", part = ""] = rest.split("@").map(decoded);
  switch (kind) {
    case "article": return (signal) => article(id, part, signal);
    case "section": return (signal) => section(id, signal);
    case "author": return (signal) => author(id, signal);
    case "tag": return (signal) => tag(id, signal);
    case "collection": return (signal) => collection(id, signal);
    case "tags": return tags;
    case "token": return () => tokenView();
    case "live":
      if (id === "tag" || id === "section" || id === "author") return (signal) => live(id, decoded(more), signal);
  }
  return () => failureView({
    title: "Nothing here",
    text: "The address is not one of the reading room. Check it, or start from the front page.",
    movedTo: "",
    needsToken: false,
    canRetry: false,
    detail: "",
  });
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Keeps the place in the view that the reader leaves, and returns that in the next one: an earlier one, or the top. */
function turn(): number {
  if (entry !== 0) places.set(entry, scrollY);
  if (places.size > MAX_PLACES) places.delete(places.keys().next().value ?? 0);
  const known: unknown = history.state;
  entry = typeof known === "number" ? known : performance.timeOrigin + performance.now();
  if (entry !== known) history.replaceState(entry, "");
  return places.get(entry) ?? 0;
}

async function show(): Promise<void> {
  const place = turn();
  current.abort();
  const controller = new AbortController();
  current = controller;
  const { signal } = controller;
  const hash = location.hash;
  main.setAttribute("aria-busy", "true");
  const framed = frame(signal);
  let view: View;
  try {
    view = await resolve(hash)(signal);
  } catch (thrown) {
    if (signal.aborted) return;
    view = failureView(explain(thrown));
  }
  if (signal.aborted) return;
  fill(main, view.content);
  main.removeAttribute("aria-busy");
  document.body.classList.toggle("inside", main.querySelector(".front") === null);
  document.title = view.title;
  showFeeds(view.feeds);
  // The heading takes the focus, so that a keyboard and a screen reader continue there. Nothing may wait before that: a
  // reader who types already would lose the focus.
  if (!isFirst) {
    scrollTo(0, place);
    main.querySelector("h1")?.focus({ preventScroll: true });
    announce(view.title);
  }
  isFirst = false;
  view.start?.();
  const paper = await framed;
  if (!signal.aborted && paper !== "" && paper !== view.title) document.title = `${view.title} · ${paper}`;
}

/** Draws the masthead and the foot, and returns the name of the newspaper. Without sections, the room still works. */
async function frame(signal: AbortSignal): Promise<string> {
  const [sections, paper] = await Promise.all([topSections(signal).catch(() => []), paperName(signal)]);
  if (signal.aborted) return "";
  const hash = location.hash || "#/";
  const link = (text: string, href: string) =>
    el("li", null, el("a", { href, "aria-current": hash === href && "page" }, text));
  fill(byId("masthead"),
    el("div", { class: "masthead-line" },
      el("span", null, today()),
      el("span", { class: "masthead-node" }, `Served by Cable at ${location.host}`)),
    el("p", { class: "paper" }, el("a", { href: "#/" }, paper || "The reading room")),
    el("nav", { "aria-label": "Sections" },
      el("ul", null,
        link("Front", "#/"),
        sections.slice(0, 10).map((each) => link(each.displayName || idOf(each.name), routeOf(each.name))),
        link("Tags", route("tags")))));
  fill(byId("foot"),
    el("p", null, "This page is part of the node. It reads over gRPC-Web, and loads nothing from elsewhere but the pictures of articles. ",
      el("a", { href: route("token") }, token.get() === "" ? "Use a token" : "Change or forget the token"), "."));
  return paper;
}

function failureView(failure: Failure): View {
  return {
    title: failure.title,
    content: el("div", { class: "failure", "data-failure": failure.detail || "ROUTE" },
      title(failure.title),
      el("p", { class: "dek" }, failure.text),
      failure.movedTo !== "" && el("p", null, el("a", { class: "button", href: routeOf(failure.movedTo) }, "Continue there")),
      failure.needsToken && tokenForm(),
      el("p", { class: "ways" },
        failure.canRetry && !failure.needsToken && el("button", { type: "button", click: () => void show() }, "Try again"),
        el("a", { href: "#/" }, "Front page"),
        el("a", { href: route("tags") }, "All tags")),
      failure.detail !== "" && el("p", { class: "quiet" }, failure.detail)),
  };
}

function tokenView(): View {
  return {
    title: "Token",
    content: el("div", { class: "failure" },
      title("Token"),
      el("p", { class: "dek" }, token.get() === ""
        ? "A node can require a token to read. This tab has none."
        : "This tab sends a token with each call."),
      tokenForm()),
  };
}

function tokenForm(): HTMLElement {
  const input = el("input", { id: "token", type: "password", autocomplete: "off", spellcheck: "false", "aria-describedby": "token-help" });
  const use = (value: string) => {
    token.set(value.trim());
    forget();
    if (location.hash === route("token")) location.hash = "#/";
    else void show();
  };
  return el("form", {
    class: "token",
    submit: (event) => {
      event.preventDefault();
      use(input.value);
    },
  },
    el("label", { for: "token" }, "Token"),
    el("div", { class: "token-line" }, input, el("button", { type: "submit" }, "Use it"),
      token.get() !== "" && el("button", { type: "button", click: () => use("") }, "Forget it")),
    el("p", { id: "token-help", class: "quiet" }, "It stays in this tab and is sent to this node only. The browser forgets it when the tab closes."));
}

// The browser would restore the place before the view is there.
history.scrollRestoration = "manual";
const skip = byId("skip");
skip.addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
addEventListener("hashchange", () => void show());
void show();
