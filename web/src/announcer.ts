// Announcements of a page that changes, to a screen reader.

import { announce } from "./dom";

/** The pause between two announcements, and the time in which changes are gathered for the first. */
const PAUSE_MILLIS = 2500;
const GATHER_MILLIS = 200;
/** The changes that are announced one by one. More of them are a number and the last. */
const MAX_SINGLE = 3;
const MAX_NOTES = 3;

/** An announcer of changes and notes: one announcement at a time, however many come. */
export class Announcer {
  #count = 0;
  #newest: { name: string; text: string }[] = [];
  #notes: string[] = [];
  #timer = 0;

  /** Announces a change of an entity. */
  change(name: string, text: string): void {
    this.#count += 1;
    this.#newest = [...this.#newest, { name, text }].slice(-MAX_SINGLE);
    this.#schedule();
  }

  /** Announces a text about the page itself. Changes never displace it. */
  note(text: string): void {
    this.#notes = [...this.#notes, text].slice(-MAX_NOTES);
    this.#schedule();
  }

  /** Erases the texts about an entity, also from the announcement that was made last. */
  erase(name: string): void {
    this.#newest = this.#newest.filter((each) => each.name !== name);
    announce("");
  }

  /** Drops what has not been announced. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#count = 0;
    this.#newest = [];
    this.#notes = [];
  }

  #schedule(): void {
    this.#timer ||= setTimeout(() => this.#flush(), GATHER_MILLIS);
  }

  #flush(): void {
    const texts = [...this.#changes(), ...this.#notes];
    this.stop();
    if (texts.length === 0) return;
    announce(texts.join(". "));
    this.#timer = setTimeout(() => this.#flush(), PAUSE_MILLIS);
  }

  #changes(): string[] {
    const texts = this.#newest.map((each) => each.text);
    return this.#count === texts.length ? texts : [`${this.#count} changes`, ...texts.slice(-1).map((text) => `The last: ${text}`)];
  }
}
