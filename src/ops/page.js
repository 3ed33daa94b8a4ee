"use strict";

// Loads the page again every few seconds, and changes only the nodes that differ: scroll position, focus and selection
// stay. A page that no longer receives figures says so.

const PAUSE_MILLIS = 5_000;
const LIMIT_MILLIS = 10_000;

const main = document.querySelector("main");
const stale = document.getElementById("stale");
const mode = document.getElementById("mode");
const button = document.getElementById("pause");
let paused = false;
let loading = false;
let timer;
let last = new Date();

function update(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
    old.replaceWith(document.importNode(fresh, true));
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  const before = [...old.childNodes];
  const after = [...fresh.childNodes];
  after.forEach((child, i) => (before[i] ? update(before[i], child) : old.append(document.importNode(child, true))));
  before.slice(after.length).forEach((child) => child.remove());
}

function clock(time) {
  return `${time.toISOString().slice(11, 19)} UTC`;
}

async function load() {
  if (loading) return;
  loading = true;
  clearTimeout(timer);
  try {
    const response = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(LIMIT_MILLIS) });
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const fresh = page.querySelector("main");
    if (!response.ok || !fresh) throw new Error(`status ${response.status}`);
    update(main, fresh);
    document.title = page.title;
    stale.textContent = "";
    last = new Date();
  } catch {
    document.title = "No response · Cable";
    stale.textContent = `No response from the node since ${clock(last)}. The figures are from then.`;
  }
  loading = false;
  if (!paused) timer = setTimeout(load, PAUSE_MILLIS);
}

button.addEventListener("click", () => {
  paused = !paused;
  button.textContent = paused ? "Continue" : "Pause";
  mode.textContent = paused ? `Paused at ${clock(new Date())}` : "Refreshes every 5 seconds";
  clearTimeout(timer);
  if (!paused) load();
});

// A browser slows down the timers of a tab that is not visible.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && !paused) load();
});

mode.textContent = "Refreshes every 5 seconds";
button.hidden = false;
timer = setTimeout(load, PAUSE_MILLIS);
