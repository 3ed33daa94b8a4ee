// The page: routes, the frame around the views, and failures.

import { showFeeds } from "./alternates";
import { explain, token, type Failure } from "./api";
import { announce, byId, el, fill } from "./dom";
import { again, decoded, idOf, route, routeOf } from "./links";
import { article, articleOfPath } from "./pages/article";
import { author, collection, front, paperName, section, tag, tags, topSections } from "./pages/lists";
import { live } from "./pages/live";
import { TOKEN_REASON, tokenForm } from "./token";
import { title, type View } from "./view";
import { arrive, turn } from "./visit";
import { today } from "./words";

const main = byId("main");

/** The view in the page. The next one aborts its calls and feeds. */
let current = new AbortController();
let isFirst = true;

/** The id of the element that the address of the view leads to. */
let part = "";

/** The time after which the page says that it is loading. */
const SLOW_MILLIS = 500;

type Load = (signal: AbortSignal) => Promise<View> | View;

/** Returns the view of a route. */
function resolve(hash: string): Load {
  const path = hash.replace(/^#\/?/, "");
  if (path === "") return front;
  const ofPath = /^path(\/[^?#]*)(?:\?[^#]*)?(?:#(.*))?$/.exec(path);
  if (ofPath) return (signal) => articleOfPath(ofPath[1] ?? "", decoded(ofPath[2] ?? ""), signal);
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

async function show(): Promise<void> {
  const { visit, isNew } = turn();
  current.abort();
  const controller = new AbortController();
  current = controller;
  const { signal } = controller;
  const hash = location.hash;
  main.setAttribute("aria-busy", "true");
  main.classList.remove("slow");
  const slow = setTimeout(showLoading, SLOW_MILLIS);
  signal.addEventListener("abort", () => clearTimeout(slow));
  const framed = frame(signal);
  let view: View;
  try {
    view = await resolve(hash)(signal);
  } catch (thrown) {
    if (signal.aborted) return;
    view = failureView(explain(thrown));
  }
  if (signal.aborted) return;
  clearTimeout(slow);
  fill(main, view.content);
  main.removeAttribute("aria-busy");
  main.classList.remove("slow");
  document.body.classList.toggle("inside", main.querySelector(".front") === null);
  document.title = view.title;
  showFeeds(view.feeds);
  part = view.part ?? "";
  // The block of the address or else the heading takes the focus, so that a keyboard and a screen reader continue there.
  // Nothing may wait before that: a reader who types already would lose the focus. A return leads to the reader's place.
  if (!isNew || !reach(part)) {
    scrollTo(0, visit.top);
    if (!isFirst) main.querySelector("h1")?.focus({ preventScroll: true });
  }
  arrive();
  if (!isFirst) announce(view.announcement ?? view.title);
  isFirst = false;
  view.start?.();
  const paper = await framed;
  if (!signal.aborted && paper !== "" && paper !== view.title) document.title = `${view.title} · ${paper}`;
}

/** The last view stays in the page until the next one is there. It must not be taken for it. */
function showLoading(): void {
  main.classList.add("slow");
  document.title = "Loading…";
  announce("Loading");
}

/** Leads to an element of the view, if it has it. */
function reach(id: string): boolean {
  const element = id === "" ? null : document.getElementById(id);
  if (!element) return false;
  if (!element.hasAttribute("tabindex")) element.tabIndex = -1;
  element.focus({ preventScroll: true });
  element.scrollIntoView();
  return true;
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
    announcement: `${failure.title}. ${failure.text}`,
    content: el("div", { class: "failure", "data-failure": failure.detail || "ROUTE" },
      title(failure.title),
      el("p", { class: "dek", id: TOKEN_REASON }, failure.text),
      failure.movedTo !== "" && el("p", null, el("a", { class: "button", href: routeOf(failure.movedTo) }, "Continue there")),
      failure.needsToken && tokenForm(token.get() !== ""),
      el("p", { class: "ways" },
        failure.canRetry && !failure.needsToken && el("button", { type: "button", click: again }, "Try again"),
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
      tokenForm(false)),
  };
}

// The browser would restore the place before the view is there.
history.scrollRestoration = "manual";
const skip = byId("skip");
skip.addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
// A link to the address of the view changes nothing, so the browser reports nothing.
main.addEventListener("click", (event) => {
  const link = event.target instanceof Element ? event.target.closest("a") : null;
  const opensElsewhere = event.ctrlKey || event.metaKey || event.shiftKey;
  if (link?.getAttribute("href") === location.hash && !opensElsewhere && reach(part)) event.preventDefault();
});
addEventListener("hashchange", () => void show());
void show();
