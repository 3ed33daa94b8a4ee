"""The calls of the client, one for each method with one response. Written by generate.py: do not edit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, Any

from cable_client import v1
from cable_client._method import Method, Q, R
from cable_client.v1 import methods

if TYPE_CHECKING:
    from google.protobuf.field_mask_pb2 import FieldMask

    from cable_client.errors import CableError
    from cable_client.feed import Feed
    from cable_client.mirror import Mirror
    from cable_client.positions import PositionStore


class Calls(ABC):
    """The calls of cable.v1. `timeout` is in seconds."""

    @abstractmethod
    async def call(self, method: Method[Q, R], request: Q, *, timeout: float | None = None) -> R:
        """Makes a call with one response."""

    @abstractmethod
    def items(
        self, method: Method[Q, R], request: Q, field: str, timeout: float | None = None
    ) -> AsyncIterator[Any]:
        """Iterates over the items of a listing."""

    @abstractmethod
    def follow(
        self,
        request: v1.WatchRequest,
        after: v1.Position | None,
        snapshot: bool,
        interval: float,
        store: PositionStore | None,
        max_commit_bytes: int | None,
        on_retry: Callable[[CableError], None] | None,
    ) -> Feed:
        """Returns a feed."""

    async def get_article(
        self,
        name: str,
        *,
        view: v1.ArticleView.ValueType = v1.ARTICLE_VIEW_UNSPECIFIED,
        body_format: v1.BodyFormat.ValueType = v1.BODY_FORMAT_UNSPECIFIED,
        includes: Iterable[v1.Include.ValueType] = (),
        if_none_match: str = "",
        freshness: v1.Freshness | None = None,
        timeout: float | None = None,
    ) -> v1.GetArticleResponse:
        """Returns an article by name. Reasons: ARTICLE_NOT_FOUND, ARTICLE_GONE, ARTICLE_MOVED, RECORD_CORRUPT."""
        request = v1.GetArticleRequest(name=name, view=view, body_format=body_format, includes=includes, if_none_match=if_none_match, freshness=freshness)
        return await self.call(methods.GET_ARTICLE, request, timeout=timeout)

    async def batch_get_articles(
        self,
        names: Iterable[str] = (),
        *,
        view: v1.ArticleView.ValueType = v1.ARTICLE_VIEW_UNSPECIFIED,
        body_format: v1.BodyFormat.ValueType = v1.BODY_FORMAT_UNSPECIFIED,
        includes: Iterable[v1.Include.ValueType] = (),
        if_none_match: str = "",
        freshness: v1.Freshness | None = None,
        timeout: float | None = None,
    ) -> v1.BatchGetArticlesResponse:
        """Returns several articles by name. Each item is an article or an error with a reason of GetArticle, in the order of
        the request.
        """
        request = v1.BatchGetArticlesRequest(names=names, view=view, body_format=body_format, includes=includes, if_none_match=if_none_match, freshness=freshness)
        return await self.call(methods.BATCH_GET_ARTICLES, request, timeout=timeout)

    def list_articles(
        self,
        filter: v1.ArticleFilter | None = None,
        *,
        order: v1.ArticleOrder.ValueType = v1.ARTICLE_ORDER_UNSPECIFIED,
        page_size: int = 0,
        view: v1.ArticleView.ValueType = v1.ARTICLE_VIEW_UNSPECIFIED,
        body_format: v1.BodyFormat.ValueType = v1.BODY_FORMAT_UNSPECIFIED,
        includes: Iterable[v1.Include.ValueType] = (),
        freshness: v1.Freshness | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[v1.Article]:
        """Lists the articles that match a filter, in pages. An article that does not change while a client reads the pages is
        returned exactly once, whatever is published meanwhile. Reason: PAGE_TOKEN_INVALID.
        """
        request = v1.ListArticlesRequest(filter=filter, order=order, page_size=page_size, view=view, body_format=body_format, includes=includes, freshness=freshness)
        return self.items(methods.LIST_ARTICLES, request, "articles", timeout)

    async def resolve_path(
        self,
        path: str,
        *,
        view: v1.ArticleView.ValueType = v1.ARTICLE_VIEW_UNSPECIFIED,
        body_format: v1.BodyFormat.ValueType = v1.BODY_FORMAT_UNSPECIFIED,
        includes: Iterable[v1.Include.ValueType] = (),
        if_none_match: str = "",
        freshness: v1.Freshness | None = None,
        timeout: float | None = None,
    ) -> v1.ResolvePathResponse:
        """Returns the article that a path of the site leads to. The first match counts, whatever the order of the writes:

        1. The live article that has the path.
        2. A live article that lists it in `alias_paths`, the first one by id.
        3. The live article that had it last.
        4. The removed article that had it last: the call fails with ARTICLE_GONE or ARTICLE_MOVED.

        Other reasons: ARTICLE_NOT_FOUND, RECORD_CORRUPT.
        """
        request = v1.ResolvePathRequest(path=path, view=view, body_format=body_format, includes=includes, if_none_match=if_none_match, freshness=freshness)
        return await self.call(methods.RESOLVE_PATH, request, timeout=timeout)

    async def get_author(
        self,
        name: str,
        *,
        if_none_match: str = "",
        freshness: v1.Freshness | None = None,
        timeout: float | None = None,
    ) -> v1.GetAuthorResponse:
        """Returns an author by name. Reasons: NAME_NOT_FOUND, NAME_GONE, RECORD_CORRUPT."""
        request = v1.GetAuthorRequest(name=name, if_none_match=if_none_match, freshness=freshness)
        return await self.call(methods.GET_AUTHOR, request, timeout=timeout)

    def list_authors(
        self,
        page_size: int = 0,
        *,
        freshness: v1.Freshness | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[v1.Author]:
        """Lists all authors in pages, sorted by id. Reason: PAGE_TOKEN_INVALID."""
        request = v1.ListAuthorsRequest(page_size=page_size, freshness=freshness)
        return self.items(methods.LIST_AUTHORS, request, "authors", timeout)

    async def get_section(
        self,
        name: str,
        *,
        if_none_match: str = "",
        freshness: v1.Freshness | None = None,
        timeout: float | None = None,
    ) -> v1.GetSectionResponse:
        """Returns a section by name. Reasons: NAME_NOT_FOUND, NAME_GONE, RECORD_CORRUPT."""
        request = v1.GetSectionRequest(name=name, if_none_match=if_none_match, freshness=freshness)
        return await self.call(methods.GET_SECTION, request, timeout=timeout)

    def list_sections(
        self,
        page_size: int = 0,
        *,
        freshness: v1.Freshness | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[v1.Section]:
        """Lists all sections in pages, sorted by id. Reason: PAGE_TOKEN_INVALID."""
        request = v1.ListSectionsRequest(page_size=page_size, freshness=freshness)
        return self.items(methods.LIST_SECTIONS, request, "sections", timeout)

    async def get_tag(
        self,
        name: str,
        *,
        if_none_match: str = "",
        freshness: v1.Freshness | None = None,
        timeout: float | None = None,
    ) -> v1.GetTagResponse:
        """Returns a tag by name. Reasons: NAME_NOT_FOUND, NAME_GONE, RECORD_CORRUPT."""
        request = v1.GetTagRequest(name=name, if_none_match=if_none_match, freshness=freshness)
        return await self.call(methods.GET_TAG, request, timeout=timeout)

    def list_tags(
        self,
        page_size: int = 0,
        *,
        freshness: v1.Freshness | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[v1.Tag]:
        """Lists all tags in pages, sorted by id. Reason: PAGE_TOKEN_INVALID."""
        request = v1.ListTagsRequest(page_size=page_size, freshness=freshness)
        return self.items(methods.LIST_TAGS, request, "tags", timeout)

    async def get_collection(
        self,
        name: str,
        *,
        view: v1.ArticleView.ValueType = v1.ARTICLE_VIEW_UNSPECIFIED,
        body_format: v1.BodyFormat.ValueType = v1.BODY_FORMAT_UNSPECIFIED,
        includes: Iterable[v1.Include.ValueType] = (),
        if_none_match: str = "",
        freshness: v1.Freshness | None = None,
        timeout: float | None = None,
    ) -> v1.GetCollectionResponse:
        """Returns a collection by name, with its articles in its order. Reasons: NAME_NOT_FOUND, NAME_GONE, RECORD_CORRUPT."""
        request = v1.GetCollectionRequest(name=name, view=view, body_format=body_format, includes=includes, if_none_match=if_none_match, freshness=freshness)
        return await self.call(methods.GET_COLLECTION, request, timeout=timeout)

    def list_collections(
        self,
        page_size: int = 0,
        *,
        freshness: v1.Freshness | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[v1.Collection]:
        """Lists all collections in pages, sorted by id, without the content of their articles. Reason: PAGE_TOKEN_INVALID."""
        request = v1.ListCollectionsRequest(page_size=page_size, freshness=freshness)
        return self.items(methods.LIST_COLLECTIONS, request, "collections", timeout)

    async def put_article(
        self,
        article: v1.Article,
        *,
        precondition: v1.Precondition | None = None,
        request_id: str = "",
        update_kind: v1.UpdateKind.ValueType = v1.UPDATE_KIND_UNSPECIFIED,
        allow_killed: bool = False,
        body_source: v1.BodySource | None = None,
        timeout: float | None = None,
    ) -> v1.PutArticleResponse:
        """Puts an article: creates it or replaces the whole article. A put that changes nothing creates no revision. Reasons:
        PATH_TAKEN, NAME_KILLED.
        """
        request = v1.PutArticleRequest(article=article, precondition=precondition, request_id=request_id, update_kind=update_kind, allow_killed=allow_killed, body_source=body_source)
        return await self.call(methods.PUT_ARTICLE, request, timeout=timeout)

    async def patch_article(
        self,
        article: v1.Article,
        *,
        update_mask: FieldMask | None = None,
        precondition: v1.Precondition | None = None,
        request_id: str = "",
        update_kind: v1.UpdateKind.ValueType = v1.UPDATE_KIND_UNSPECIFIED,
        timeout: float | None = None,
    ) -> v1.PatchArticleResponse:
        """Replaces top-level fields of the live version of an article. If the result is not due yet, it becomes the pending
        version, and the live version stays. Reasons: ARTICLE_NOT_FOUND, ARTICLE_GONE, ARTICLE_MOVED, PATH_TAKEN,
        RECORD_CORRUPT.
        """
        request = v1.PatchArticleRequest(article=article, update_mask=update_mask, precondition=precondition, request_id=request_id, update_kind=update_kind)
        return await self.call(methods.PATCH_ARTICLE, request, timeout=timeout)

    async def remove_article(
        self,
        name: str,
        *,
        reason: v1.RemovalReason.ValueType = v1.REMOVAL_REASON_UNSPECIFIED,
        moved_to: str = "",
        precondition: v1.Precondition | None = None,
        request_id: str = "",
        timeout: float | None = None,
    ) -> v1.RemoveArticleResponse:
        """Removes a live article and leaves a tombstone with the reason. The name may be put again.

        With KILLED, the call also removes an article that is only pending or already removed. Before it returns, it erases
        the content of the article and of its pending version from the store, its write-ahead log, memory and feeds. Only
        the tombstone remains, and a put of the name must set `allow_killed`. If the content could not be erased yet, the
        call fails with OUTCOME_UNKNOWN; a retry erases it.

        Reasons: ARTICLE_NOT_FOUND, ARTICLE_GONE, ARTICLE_MOVED.
        """
        request = v1.RemoveArticleRequest(name=name, reason=reason, moved_to=moved_to, precondition=precondition, request_id=request_id)
        return await self.call(methods.REMOVE_ARTICLE, request, timeout=timeout)

    async def put_author(
        self,
        author: v1.Author,
        *,
        precondition: v1.Precondition | None = None,
        request_id: str = "",
        timeout: float | None = None,
    ) -> v1.PutAuthorResponse:
        """Puts an author: creates it or replaces the whole author. Reason: NAME_KILLED; to publish a killed name again, use
        Commit.
        """
        request = v1.PutAuthorRequest(author=author, precondition=precondition, request_id=request_id)
        return await self.call(methods.PUT_AUTHOR, request, timeout=timeout)

    async def remove_author(
        self,
        name: str,
        *,
        reason: v1.RemovalReason.ValueType = v1.REMOVAL_REASON_UNSPECIFIED,
        moved_to: str = "",
        precondition: v1.Precondition | None = None,
        request_id: str = "",
        timeout: float | None = None,
    ) -> v1.RemoveAuthorResponse:
        """Removes an author; see RemoveArticle. Articles may still refer to it. Reasons: NAME_NOT_FOUND, NAME_GONE."""
        request = v1.RemoveAuthorRequest(name=name, reason=reason, moved_to=moved_to, precondition=precondition, request_id=request_id)
        return await self.call(methods.REMOVE_AUTHOR, request, timeout=timeout)

    async def put_section(
        self,
        section: v1.Section,
        *,
        precondition: v1.Precondition | None = None,
        request_id: str = "",
        timeout: float | None = None,
    ) -> v1.PutSectionResponse:
        """Puts a section: creates it or replaces the whole section. Reason: NAME_KILLED; to publish a killed name again, use
        Commit.
        """
        request = v1.PutSectionRequest(section=section, precondition=precondition, request_id=request_id)
        return await self.call(methods.PUT_SECTION, request, timeout=timeout)

    async def remove_section(
        self,
        name: str,
        *,
        reason: v1.RemovalReason.ValueType = v1.REMOVAL_REASON_UNSPECIFIED,
        moved_to: str = "",
        precondition: v1.Precondition | None = None,
        request_id: str = "",
        timeout: float | None = None,
    ) -> v1.RemoveSectionResponse:
        """Removes a section; see RemoveArticle. Articles may still refer to it. Reasons: NAME_NOT_FOUND, NAME_GONE."""
        request = v1.RemoveSectionRequest(name=name, reason=reason, moved_to=moved_to, precondition=precondition, request_id=request_id)
        return await self.call(methods.REMOVE_SECTION, request, timeout=timeout)

    async def put_tag(
        self,
        tag: v1.Tag,
        *,
        precondition: v1.Precondition | None = None,
        request_id: str = "",
        timeout: float | None = None,
    ) -> v1.PutTagResponse:
        """Puts a tag: creates it or replaces the whole tag. Reason: NAME_KILLED; to publish a killed name again, use Commit."""
        request = v1.PutTagRequest(tag=tag, precondition=precondition, request_id=request_id)
        return await self.call(methods.PUT_TAG, request, timeout=timeout)

    async def remove_tag(
        self,
        name: str,
        *,
        reason: v1.RemovalReason.ValueType = v1.REMOVAL_REASON_UNSPECIFIED,
        moved_to: str = "",
        precondition: v1.Precondition | None = None,
        request_id: str = "",
        timeout: float | None = None,
    ) -> v1.RemoveTagResponse:
        """Removes a tag; see RemoveArticle. Articles may still refer to it. Reasons: NAME_NOT_FOUND, NAME_GONE."""
        request = v1.RemoveTagRequest(name=name, reason=reason, moved_to=moved_to, precondition=precondition, request_id=request_id)
        return await self.call(methods.REMOVE_TAG, request, timeout=timeout)

    async def put_collection(
        self,
        collection: v1.Collection,
        *,
        precondition: v1.Precondition | None = None,
        request_id: str = "",
        timeout: float | None = None,
    ) -> v1.PutCollectionResponse:
        """Puts a collection: creates it or replaces the whole collection. Reason: NAME_KILLED; to publish a killed name
        again, use Commit.
        """
        request = v1.PutCollectionRequest(collection=collection, precondition=precondition, request_id=request_id)
        return await self.call(methods.PUT_COLLECTION, request, timeout=timeout)

    async def remove_collection(
        self,
        name: str,
        *,
        reason: v1.RemovalReason.ValueType = v1.REMOVAL_REASON_UNSPECIFIED,
        moved_to: str = "",
        precondition: v1.Precondition | None = None,
        request_id: str = "",
        timeout: float | None = None,
    ) -> v1.RemoveCollectionResponse:
        """Removes a collection; see RemoveArticle. Its articles stay. Reasons: NAME_NOT_FOUND, NAME_GONE."""
        request = v1.RemoveCollectionRequest(name=name, reason=reason, moved_to=moved_to, precondition=precondition, request_id=request_id)
        return await self.call(methods.REMOVE_COLLECTION, request, timeout=timeout)

    async def commit(
        self,
        changes: Iterable[v1.Change] = (),
        *,
        request_id: str = "",
        timeout: float | None = None,
    ) -> v1.CommitResponse:
        """Applies several changes atomically, under consecutive revisions. An article may take a path that another article of
        the commit gives up. Reasons: those of the calls for the single changes.
        """
        request = v1.CommitRequest(changes=changes, request_id=request_id)
        return await self.call(methods.COMMIT, request, timeout=timeout)

    async def get_pending(
        self,
        name: str,
        *,
        view: v1.ArticleView.ValueType = v1.ARTICLE_VIEW_UNSPECIFIED,
        body_format: v1.BodyFormat.ValueType = v1.BODY_FORMAT_UNSPECIFIED,
        timeout: float | None = None,
    ) -> v1.GetPendingResponse:
        """Returns the pending version of an article. Reasons: ARTICLE_NOT_FOUND if the article has none, RECORD_CORRUPT."""
        request = v1.GetPendingRequest(name=name, view=view, body_format=body_format)
        return await self.call(methods.GET_PENDING, request, timeout=timeout)

    def list_pending(
        self,
        page_size: int = 0,
        *,
        view: v1.ArticleView.ValueType = v1.ARTICLE_VIEW_UNSPECIFIED,
        body_format: v1.BodyFormat.ValueType = v1.BODY_FORMAT_UNSPECIFIED,
        timeout: float | None = None,
    ) -> AsyncIterator[v1.PendingArticle]:
        """Lists all pending versions in pages: the next due version first, those without a due time last. Reason:
        PAGE_TOKEN_INVALID.
        """
        request = v1.ListPendingRequest(page_size=page_size, view=view, body_format=body_format)
        return self.items(methods.LIST_PENDING, request, "pending", timeout)

    async def remove_pending(
        self,
        name: str,
        *,
        precondition: v1.Precondition | None = None,
        request_id: str = "",
        timeout: float | None = None,
    ) -> v1.RemovePendingResponse:
        """Cancels the pending version of an article. The live version stays. Reason: ARTICLE_NOT_FOUND if the article has no
        pending version.
        """
        request = v1.RemovePendingRequest(name=name, precondition=precondition, request_id=request_id)
        return await self.call(methods.REMOVE_PENDING, request, timeout=timeout)

    async def acknowledge_position(
        self,
        consumer: str,
        *,
        position: v1.Position | None = None,
        allow_rewind: bool = False,
        timeout: float | None = None,
    ) -> v1.AcknowledgePositionResponse:
        """Stores the position up to which a consumer has applied its feed. It is on disk when the call returns, and makes no
        revision. A consumer that does not exist is created.

        The node stores positions in batches, at most about 20 times a second. A consumer belongs to the caller: consumers of
        other callers can have the same name. All callers without a credential are one caller here, and so are all
        credentials of one name.

        Reasons, besides FIELD_INVALID, OVERLOADED, STORE_DAMAGED, STORE_FAILED, NODE_FAILED and INTERNAL:

        - LOG_CHANGED (FAILED_PRECONDITION): the position belongs to another history.
        - REVISION_COMPACTED (OUT_OF_RANGE): the position is older than the history floor: no feed could resume after it.
        - NOT_CAUGHT_UP (UNAVAILABLE): the node did not reach the position within 1 s. Retry, on the node that sent it.
        - TOO_MANY_CONSUMERS (RESOURCE_EXHAUSTED): the consumer is a new one, and the consumer limit of the node or of the
        caller is reached.
        - STORE_FULL (RESOURCE_EXHAUSTED): the disk is full.
        - OUTCOME_UNKNOWN (UNAVAILABLE): the position may have been stored. Retry.
        """
        request = v1.AcknowledgePositionRequest(consumer=consumer, position=position, allow_rewind=allow_rewind)
        return await self.call(methods.ACKNOWLEDGE_POSITION, request, timeout=timeout)

    async def list_consumers(
        self,
        all_owners: bool,
        *,
        timeout: float | None = None,
    ) -> v1.ListConsumersResponse:
        """Lists consumers in the order of their owners and names: those of the caller or, for administrators, of all callers.

        Reasons, besides STORE_DAMAGED, STORE_FAILED, OVERLOADED and INTERNAL:

        - ROLE_REQUIRED (PERMISSION_DENIED): `all_owners` requires the role admin.
        """
        request = v1.ListConsumersRequest(all_owners=all_owners)
        return await self.call(methods.LIST_CONSUMERS, request, timeout=timeout)

    async def delete_consumer(
        self,
        consumer: str,
        *,
        owner: str = "",
        timeout: float | None = None,
    ) -> v1.DeleteConsumerResponse:
        """Deletes a consumer with its position. Open feeds continue.

        Reasons, besides FIELD_INVALID, OVERLOADED, STORE_DAMAGED, STORE_FAILED, NODE_FAILED and INTERNAL:

        - CONSUMER_NOT_FOUND (NOT_FOUND): there is no such consumer.
        - ROLE_REQUIRED (PERMISSION_DENIED): `owner` requires the role admin.
        - STORE_FULL (RESOURCE_EXHAUSTED): the disk is full.
        - OUTCOME_UNKNOWN (UNAVAILABLE): the consumer may have been deleted. Retry.
        """
        request = v1.DeleteConsumerRequest(consumer=consumer, owner=owner)
        return await self.call(methods.DELETE_CONSUMER, request, timeout=timeout)

    async def get_status(
        self,
        *,
        timeout: float | None = None,
    ) -> v1.GetStatusResponse:
        """Returns the node's head, digests, counts and limits. Fails with LIMIT_EXCEEDED if the request is larger than 128
        KiB. A caller whose credential has a filter receives only the version, head, history floor, limits and start time.
        """
        request = v1.GetStatusRequest()
        return await self.call(methods.GET_STATUS, request, timeout=timeout)

    def feed(
        self,
        filter: v1.FeedFilter | None = None,
        *,
        view: v1.ArticleView.ValueType = v1.ARTICLE_VIEW_UNSPECIFIED,
        body_format: v1.BodyFormat.ValueType = v1.BODY_FORMAT_UNSPECIFIED,
        after: v1.Position | None = None,
        snapshot: bool = False,
        allow_reset: bool = False,
        include_backfill: bool = False,
        consumer: str = "",
        checkpoint_interval: float = 10.0,
        max_commit_bytes: int | None = None,
        store: PositionStore | None = None,
        on_retry: Callable[[CableError], None] | None = None,
    ) -> Feed:
        """Follows the changes to what a filter matches: from now, `after` a position, or with a `snapshot`.

        A position in the `store` takes precedence over the start. `allow_reset` lets the server restart the feed with a
        snapshot if it cannot resume it; otherwise it ends with LOG_CHANGED or REVISION_COMPACTED. After a silence of three
        times the `checkpoint_interval`, in seconds, the feed reconnects. `on_retry` receives each error.

        With a `consumer` and no `store`, the node stores the position under this name, and starts the next feed of the name
        after it, unless that one starts `after` another.
        """
        return self.follow(v1.WatchRequest(filter=filter, view=view, body_format=body_format, allow_reset=allow_reset, include_backfill=include_backfill, consumer=consumer), after, snapshot, checkpoint_interval, store, max_commit_bytes, on_retry)

    def mirror(
        self,
        filter: v1.FeedFilter | None = None,
        *,
        view: v1.ArticleView.ValueType = v1.ARTICLE_VIEW_UNSPECIFIED,
        body_format: v1.BodyFormat.ValueType = v1.BODY_FORMAT_UNSPECIFIED,
        consumer: str = "",
        checkpoint_interval: float = 10.0,
        max_commit_bytes: int | None = None,
        on_retry: Callable[[CableError], None] | None = None,
    ) -> Mirror:
        """Returns a copy of what a filter matches, which `with` opens and keeps up to date; see `feed`.

        As a `consumer`, it acknowledges what it has applied, which shows its lag. It starts with a snapshot nevertheless.
        """
        from cable_client.mirror import Mirror

        return Mirror(self.feed(filter=filter, view=view, body_format=body_format, consumer=consumer, checkpoint_interval=checkpoint_interval, max_commit_bytes=max_commit_bytes, on_retry=on_retry, snapshot=True, allow_reset=True, include_backfill=True))
