// Elements are made by these functions alone. Text becomes text nodes, so no content is ever parsed as HTML.

export type Child = Node | string | number | null | undefined | false | Child[];

type Attributes = Record<string, string | number | boolean | null | undefined | ((event: Event) => void)>;

/** Creates an element. An attribute that is null, undefined or false is left out; a function is an event listener. */
export function el<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes?: Attributes | null,
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

/** Appends children, and strings as text nodes. */
export function append(parent: Node, children: Child): void {
  if (Array.isArray(children)) for (const child of children) append(parent, child);
  else if (children instanceof Node) parent.appendChild(children);
  else if (children !== null && children !== undefined && children !== false && children !== "") {
    parent.appendChild(document.createTextNode(String(children)));
  }
}

/** Replaces the children of an element. */
export function fill(parent: Element, ...children: Child[]): void {
  parent.replaceChildren();
  append(parent, children);
}

/** Returns the element of the page with an id. */
export function byId(id: string): HTMLElement {
  const element = document.getElementById(id);
  if (!element) throw new Error(`index.html has no element ${id}`);
  return element;
}

/** Lets a screen reader say a text. */
export function announce(text: string): void {
  byId("announcer").textContent = text;
}

/** Numbers the landmarks within an element that have a label in common, so that a list of landmarks has each once. */
export function distinguish(root: ParentNode): void {
  const labelled = new Map<string, Element[]>();
  for (const each of root.querySelectorAll('[role="region"][aria-label], aside[aria-label]')) {
    const label = each.getAttribute("aria-label") ?? "";
    labelled.set(label, [...(labelled.get(label) ?? []), each]);
  }
  for (const [label, all] of labelled) {
    if (all.length > 1) all.forEach((each, index) => each.setAttribute("aria-label", `${label} ${index + 1}`));
  }
}
