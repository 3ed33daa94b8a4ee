// The messages of the schema that the page uses.

export { ArticleType, NoticeKind, Access as AccessEnum } from "./gen/cable/v1/article_pb";
export type { Article } from "./gen/cable/v1/article_pb";
export type { Author } from "./gen/cable/v1/author_pb";
export type { Credit } from "./gen/cable/v1/byline_pb";
export type { Block, Body, Table } from "./gen/cable/v1/body_pb";
export type { Media, Rendition } from "./gen/cable/v1/media_pb";
export { MediaKind } from "./gen/cable/v1/media_pb";
export { ArticleOrder, ArticleView, ContentService, Include } from "./gen/cable/v1/content_pb";
export type { Includes } from "./gen/cable/v1/content_pb";
export { EntityKind, FeedService } from "./gen/cable/v1/feed_pb";
export type { FeedChange, WatchResponse } from "./gen/cable/v1/feed_pb";
export type { Position } from "./gen/cable/v1/meta_pb";
export { RemovalReason } from "./gen/cable/v1/record_pb";
export type { Section } from "./gen/cable/v1/section_pb";
export { Mark } from "./gen/cable/v1/span_pb";
export type { Span } from "./gen/cable/v1/span_pb";
export { TagKind } from "./gen/cable/v1/tag_pb";
export type { Tag } from "./gen/cable/v1/tag_pb";
