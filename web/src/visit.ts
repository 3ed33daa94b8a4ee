// The visits of the reader: what was seen of each view, by entry of the tab's history.

/** A visit of a view. */
export interface Visit {
  readonly entry: number;
  /** The distance that the view is scrolled, in pixels. */
  top: number;
  /** The number of articles that its list shows. */
  shown: number;
}

const MAX_VISITS = 100;
/** The pause in scrolling after which the visit is saved. Browsers limit how often a history changes. */
const SAVE_MILLIS = 400;

const visits = new Map<number, Visit>();
let current: Visit | null = null;
let hash = "";
/** Whether the view of the visit is in the page. Until then, the page is scrolled as the last view is. */
let isShown = false;
let timer = 0;

/** Returns the visit that is under way. */
export function visited(): Visit {
  return current ?? begin();
}

/** Ends the visit of the view that the reader leaves, and returns that of the next one. `isNew` is false on a return. */
export function turn(): { visit: Visit; isNew: boolean } {
  measure();
  const stored = fromState(history.state);
  current = (stored && (visits.get(stored.entry) ?? stored)) || begin();
  hash = location.hash;
  isShown = false;
  visits.set(current.entry, current);
  if (visits.size > MAX_VISITS) visits.delete(visits.keys().next().value ?? 0);
  save();
  return { visit: current, isNew: stored === null };
}

/** Notes that the view of the visit is in the page. */
export function arrive(): void {
  isShown = true;
}

/** Stores the visit in the history of the tab, so that it outlives the page. */
export function save(): void {
  measure();
  // A navigation that has not been reported yet has an entry of its own.
  if (current && location.hash === hash) history.replaceState({ ...current }, "");
}

function begin(): Visit {
  return { entry: performance.timeOrigin + performance.now(), top: 0, shown: 0 };
}

function measure(): void {
  if (current && isShown) current.top = scrollY;
}

function fromState(state: unknown): Visit | null {
  if (typeof state !== "object" || state === null) return null;
  const { entry, top, shown } = state as Record<string, unknown>;
  return typeof entry === "number" && typeof top === "number" && typeof shown === "number" ? { entry, top, shown } : null;
}

addEventListener("pagehide", save);
addEventListener("scroll", () => {
  clearTimeout(timer);
  timer = setTimeout(save, SAVE_MILLIS);
}, { passive: true });
