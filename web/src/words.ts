// Dates, numbers and names in plain words.

import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { AccessEnum, NoticeKind, RemovalReason, TagKind } from "./schema";

const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "long", year: "numeric" });
const TODAY = new Intl.DateTimeFormat("en-GB", { weekday: "long", day: "numeric", month: "long", year: "numeric" });
const MINUTE = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const SECOND = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

/** Returns the milliseconds since 1970 of a time. */
export function millis(time: Timestamp): number {
  return Number(time.seconds) * 1000 + time.nanos / 1e6;
}

function date(time: Timestamp): Date {
  return new Date(millis(time));
}

export function today(): string {
  return TODAY.format(new Date());
}

/** `18 November 2026`. */
export function day(time: Timestamp): string {
  return DAY.format(date(time));
}

/** `18 November 2026, 14:05`. */
export function dayAndMinute(time: Timestamp): string {
  return `${DAY.format(date(time))}, ${MINUTE.format(date(time))}`;
}

/** `14:05:09`. */
export function clock(time: Timestamp): string {
  return SECOND.format(date(time));
}

/** The value of the attribute `datetime`. */
export function machine(time: Timestamp): string {
  const value = date(time);
  return Number.isNaN(value.getTime()) ? "" : value.toISOString();
}

/** `85 ms`, `4.2 s`, `3 min`, `5 h`. */
export function span(millis: number): string {
  if (millis < 1000) return `${Math.max(0, Math.round(millis))} ms`;
  if (millis < 60_000) return `${(millis / 1000).toFixed(1)} s`;
  if (millis < 3_600_000) return `${Math.round(millis / 60_000)} min`;
  return `${Math.round(millis / 3_600_000)} h`;
}

/** `1 change`, `2 changes`. */
export function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

export const NOTICES: Partial<Record<NoticeKind, string>> = {
  [NoticeKind.CORRECTION]: "Correction",
  [NoticeKind.CLARIFICATION]: "Clarification",
  [NoticeKind.UPDATE]: "Update",
  [NoticeKind.EDITORS_NOTE]: "Editor’s note",
  [NoticeKind.RETRACTION]: "Retraction",
};

export const REMOVALS: Partial<Record<RemovalReason, string>> = {
  [RemovalReason.MOVED]: "moved",
  [RemovalReason.WITHDRAWN]: "withdrawn",
  [RemovalReason.EXPIRED]: "expired",
  [RemovalReason.DELETED]: "deleted",
  [RemovalReason.KILLED]: "killed",
};

export const TAG_KINDS: Partial<Record<TagKind, string>> = {
  [TagKind.PERSON]: "People",
  [TagKind.ORGANISATION]: "Organisations",
  [TagKind.PLACE]: "Places",
  [TagKind.EVENT]: "Events",
  [TagKind.SERIES]: "Series",
  [TagKind.TONE]: "Tone",
};

export const ACCESS: Partial<Record<AccessEnum, string>> = {
  [AccessEnum.METERED]: "Metered",
  [AccessEnum.SUBSCRIBER]: "For subscribers",
};

/** Languages, and scripts named in a language tag, that run from right to left. */
const LEFTWARD = /^(ar|arc|ckb|dv|fa|he|iw|ks|nqo|pnb|ps|sd|syr|ug|ur|yi)(-|$)|-(adlm|arab|hebr|nkoo|rohg|syrc|thaa)(-|$)/i;
/** A text whose first letter is of such a script. */
const LEFTWARD_TEXT = /^\P{L}*[\p{sc=Adlm}\p{sc=Arab}\p{sc=Hebr}\p{sc=Nkoo}\p{sc=Rohg}\p{sc=Syrc}\p{sc=Thaa}]/u;
/** A script named in a language tag. */
const SCRIPT = /-[a-z]{4}(-|$)/i;

/** Returns the attributes of the element of an article: its language, and the direction in which it runs. */
export function tongue(article: { language: string; headline: string }): { lang: string | null; dir: "ltr" | "rtl" } {
  const { language, headline } = article;
  const isLatin = SCRIPT.test(language) && !LEFTWARD.test(language.replace(/^[a-z]+/i, ""));
  const isLeftward = language === "" ? LEFTWARD_TEXT.test(headline) : LEFTWARD.test(language) && !isLatin;
  return { lang: language || null, dir: isLeftward ? "rtl" : "ltr" };
}
