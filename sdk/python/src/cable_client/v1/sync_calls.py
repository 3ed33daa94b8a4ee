"""The calls of the synchronous client. Written by generate.py: do not edit."""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from cable_client import v1
from cable_client._blocking import Blocking, iterate, run
from cable_client._method import Method, Q, R

if TYPE_CHECKING:
    from google.protobuf.field_mask_pb2 import FieldMask

    from cable_client import sync
    from cable_client._transport import TokenSource
    from cable_client.client import Pem
    from cable_client.errors import CableError
    from cable_client.mirror import Entity
    from cable_client.positions import PositionStore


class SyncCalls(Blocking):
    """The calls of cable.v1, each of which blocks. `timeout` is in seconds."""

    def get_article(
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
        result: v1.GetArticleResponse = run(self._wrapped.get_article(name=name, view=view, body_format=body_format, includes=includes, if_none_match=if_none_match, freshness=freshness, timeout=timeout))
        return result

    def batch_get_articles(
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
        result: v1.BatchGetArticlesResponse = run(self._wrapped.batch_get_articles(names=names, view=view, body_format=body_format, includes=includes, if_none_match=if_none_match, freshness=freshness, timeout=timeout))
        return result

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
    ) -> Iterator[v1.Article]:
        """Lists the articles that match a filter, in pages. An article that does not change while a client reads the pages is
        returned exactly once, whatever is published meanwhile. Reason: PAGE_TOKEN_INVALID.
        """
        result: Iterator[v1.Article] = iterate(self._wrapped.list_articles(filter=filter, order=order, page_size=page_size, view=view, body_format=body_format, includes=includes, freshness=freshness, timeout=timeout))
        return result

    def resolve_path(
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
        result: v1.ResolvePathResponse = run(self._wrapped.resolve_path(path=path, view=view, body_format=body_format, includes=includes, if_none_match=if_none_match, freshness=freshness, timeout=timeout))
        return result

    def get_author(
        self,
        name: str,
        *,
        if_none_match: str = "",
        freshness: v1.Freshness | None = None,
        timeout: float | None = None,
    ) -> v1.GetAuthorResponse:
        """Returns an author by name. Reasons: NAME_NOT_FOUND, NAME_GONE, RECORD_CORRUPT."""
        result: v1.GetAuthorResponse = run(self._wrapped.get_author(name=name, if_none_match=if_none_match, freshness=freshness, timeout=timeout))
        return result

    def list_authors(
        self,
        page_size: int = 0,
        *,
        freshness: v1.Freshness | None = None,
        timeout: float | None = None,
    ) -> Iterator[v1.Author]:
        """Lists all authors in pages, sorted by id. Reason: PAGE_TOKEN_INVALID."""
        result: Iterator[v1.Author] = iterate(self._wrapped.list_authors(page_size=page_size, freshness=freshness, timeout=timeout))
        return result

    def get_section(
        self,
        name: str,
        *,
        if_none_match: str = "",
        freshness: v1.Freshness | None = None,
        timeout: float | None = None,
    ) -> v1.GetSectionResponse:
        """Returns a section by name. Reasons: NAME_NOT_FOUND, NAME_GONE, RECORD_CORRUPT."""
        result: v1.GetSectionResponse = run(self._wrapped.get_section(name=name, if_none_match=if_none_match, freshness=freshness, timeout=timeout))
        return result

    def list_sections(
        self,
        page_size: int = 0,
        *,
        freshness: v1.Freshness | None = None,
        timeout: float | None = None,
    ) -> Iterator[v1.Section]:
        """Lists all sections in pages, sorted by id. Reason: PAGE_TOKEN_INVALID."""
        result: Iterator[v1.Section] = iterate(self._wrapped.list_sections(page_size=page_size, freshness=freshness, timeout=timeout))
        return result

    def get_tag(
        self,
        name: str,
        *,
        if_none_match: str = "",
        freshness: v1.Freshness | None = None,
        timeout: float | None = None,
    ) -> v1.GetTagResponse:
        """Returns a tag by name. Reasons: NAME_NOT_FOUND, NAME_GONE, RECORD_CORRUPT."""
        result: v1.GetTagResponse = run(self._wrapped.get_tag(name=name, if_none_match=if_none_match, freshness=freshness, timeout=timeout))
        return result

    def list_tags(
        self,
        page_size: int = 0,
        *,
        freshness: v1.Freshness | None = None,
        timeout: float | None = None,
    ) -> Iterator[v1.Tag]:
        """Lists all tags in pages, sorted by id. Reason: PAGE_TOKEN_INVALID."""
        result: Iterator[v1.Tag] = iterate(self._wrapped.list_tags(page_size=page_size, freshness=freshness, timeout=timeout))
        return result

    def get_collection(
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
        result: v1.GetCollectionResponse = run(self._wrapped.get_collection(name=name, view=view, body_format=body_format, includes=includes, if_none_match=if_none_match, freshness=freshness, timeout=timeout))
        return result

    def list_collections(
        self,
        page_size: int = 0,
        *,
        freshness: v1.Freshness | None = None,
        timeout: float | None = None,
    ) -> Iterator[v1.Collection]:
        """Lists all collections in pages, sorted by id, without the content of their articles. Reason: PAGE_TOKEN_INVALID."""
        result: Iterator[v1.Collection] = iterate(self._wrapped.list_collections(page_size=page_size, freshness=freshness, timeout=timeout))
        return result

    def put_article(
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
        result: v1.PutArticleResponse = run(self._wrapped.put_article(article=article, precondition=precondition, request_id=request_id, update_kind=update_kind, allow_killed=allow_killed, body_source=body_source, timeout=timeout))
        return result

    def patch_article(
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
        result: v1.PatchArticleResponse = run(self._wrapped.patch_article(article=article, update_mask=update_mask, precondition=precondition, request_id=request_id, update_kind=update_kind, timeout=timeout))
        return result

    def remove_article(
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
        result: v1.RemoveArticleResponse = run(self._wrapped.remove_article(name=name, reason=reason, moved_to=moved_to, precondition=precondition, request_id=request_id, timeout=timeout))
        return result

    def put_author(
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
        result: v1.PutAuthorResponse = run(self._wrapped.put_author(author=author, precondition=precondition, request_id=request_id, timeout=timeout))
        return result

    def remove_author(
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
        result: v1.RemoveAuthorResponse = run(self._wrapped.remove_author(name=name, reason=reason, moved_to=moved_to, precondition=precondition, request_id=request_id, timeout=timeout))
        return result

    def put_section(
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
        result: v1.PutSectionResponse = run(self._wrapped.put_section(section=section, precondition=precondition, request_id=request_id, timeout=timeout))
        return result

    def remove_section(
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
        result: v1.RemoveSectionResponse = run(self._wrapped.remove_section(name=name, reason=reason, moved_to=moved_to, precondition=precondition, request_id=request_id, timeout=timeout))
        return result

    def put_tag(
        self,
        tag: v1.Tag,
        *,
        precondition: v1.Precondition | None = None,
        request_id: str = "",
        timeout: float | None = None,
    ) -> v1.PutTagResponse:
        """Puts a tag: creates it or replaces the whole tag. Reason: NAME_KILLED; to publish a killed name again, use Commit."""
        result: v1.PutTagResponse = run(self._wrapped.put_tag(tag=tag, precondition=precondition, request_id=request_id, timeout=timeout))
        return result

    def remove_tag(
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
        result: v1.RemoveTagResponse = run(self._wrapped.remove_tag(name=name, reason=reason, moved_to=moved_to, precondition=precondition, request_id=request_id, timeout=timeout))
        return result

    def put_collection(
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
        result: v1.PutCollectionResponse = run(self._wrapped.put_collection(collection=collection, precondition=precondition, request_id=request_id, timeout=timeout))
        return result

    def remove_collection(
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
        result: v1.RemoveCollectionResponse = run(self._wrapped.remove_collection(name=name, reason=reason, moved_to=moved_to, precondition=precondition, request_id=request_id, timeout=timeout))
        return result

    def commit(
        self,
        changes: Iterable[v1.Change] = (),
        *,
        request_id: str = "",
        timeout: float | None = None,
    ) -> v1.CommitResponse:
        """Applies several changes atomically, under consecutive revisions. An article may take a path that another article of
        the commit gives up. Reasons: those of the calls for the single changes.
        """
        result: v1.CommitResponse = run(self._wrapped.commit(changes=changes, request_id=request_id, timeout=timeout))
        return result

    def get_pending(
        self,
        name: str,
        *,
        view: v1.ArticleView.ValueType = v1.ARTICLE_VIEW_UNSPECIFIED,
        body_format: v1.BodyFormat.ValueType = v1.BODY_FORMAT_UNSPECIFIED,
        timeout: float | None = None,
    ) -> v1.GetPendingResponse:
        """Returns the pending version of an article. Reasons: ARTICLE_NOT_FOUND if the article has none, RECORD_CORRUPT."""
        result: v1.GetPendingResponse = run(self._wrapped.get_pending(name=name, view=view, body_format=body_format, timeout=timeout))
        return result

    def list_pending(
        self,
        page_size: int = 0,
        *,
        view: v1.ArticleView.ValueType = v1.ARTICLE_VIEW_UNSPECIFIED,
        body_format: v1.BodyFormat.ValueType = v1.BODY_FORMAT_UNSPECIFIED,
        timeout: float | None = None,
    ) -> Iterator[v1.PendingArticle]:
        """Lists all pending versions in pages: the next due version first, those without a due time last. Reason:
        PAGE_TOKEN_INVALID.
        """
        result: Iterator[v1.PendingArticle] = iterate(self._wrapped.list_pending(page_size=page_size, view=view, body_format=body_format, timeout=timeout))
        return result

    def remove_pending(
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
        result: v1.RemovePendingResponse = run(self._wrapped.remove_pending(name=name, precondition=precondition, request_id=request_id, timeout=timeout))
        return result

    def acknowledge_position(
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
        result: v1.AcknowledgePositionResponse = run(self._wrapped.acknowledge_position(consumer=consumer, position=position, allow_rewind=allow_rewind, timeout=timeout))
        return result

    def list_consumers(
        self,
        all_owners: bool,
        *,
        timeout: float | None = None,
    ) -> v1.ListConsumersResponse:
        """Lists consumers in the order of their owners and names: those of the caller or, for administrators, of all callers.

        Reasons, besides STORE_DAMAGED, STORE_FAILED, OVERLOADED and INTERNAL:

        - ROLE_REQUIRED (PERMISSION_DENIED): `all_owners` requires the role admin.
        """
        result: v1.ListConsumersResponse = run(self._wrapped.list_consumers(all_owners=all_owners, timeout=timeout))
        return result

    def delete_consumer(
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
        result: v1.DeleteConsumerResponse = run(self._wrapped.delete_consumer(consumer=consumer, owner=owner, timeout=timeout))
        return result

    def get_status(
        self,
        *,
        timeout: float | None = None,
    ) -> v1.GetStatusResponse:
        """Returns the node's head, digests, counts and limits. Fails with LIMIT_EXCEEDED if the request is larger than 128
        KiB. A caller whose credential has a filter receives only the version, head, history floor, limits and start time.
        """
        result: v1.GetStatusResponse = run(self._wrapped.get_status(timeout=timeout))
        return result

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
    ) -> sync.Feed:
        """Follows the changes to what a filter matches: from now, `after` a position, or with a `snapshot`.

        A position in the `store` takes precedence over the start. `allow_reset` lets the server restart the feed with a
        snapshot if it cannot resume it; otherwise it ends with LOG_CHANGED or REVISION_COMPACTED. After a silence of three
        times the `checkpoint_interval`, in seconds, the feed reconnects. `on_retry` receives each error.

        With a `consumer` and no `store`, the node stores the position under this name, and starts the next feed of the name
        after it, unless that one starts `after` another.
        """
        from cable_client import sync

        return sync.Feed(self._wrapped.feed(filter=filter, view=view, body_format=body_format, after=after, snapshot=snapshot, allow_reset=allow_reset, include_backfill=include_backfill, consumer=consumer, checkpoint_interval=checkpoint_interval, max_commit_bytes=max_commit_bytes, store=store, on_retry=on_retry))

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
    ) -> sync.Mirror:
        """Returns a copy of what a filter matches, which `with` opens and keeps up to date; see `feed`.

        As a `consumer`, it acknowledges what it has applied, which shows its lag. It starts with a snapshot nevertheless.
        """
        from cable_client import sync

        return sync.Mirror(self._wrapped.mirror(filter=filter, view=view, body_format=body_format, consumer=consumer, checkpoint_interval=checkpoint_interval, max_commit_bytes=max_commit_bytes, on_retry=on_retry and (lambda error: to_thread(on_retry, error))))

    def __init__(self, endpoints: str | Iterable[str]='http://127.0.0.1:7190', *, token: TokenSource | None=None, ca: Pem | None=None, client_certificate: tuple[Pem, Pem] | None=None, server_name: str | None=None, timeout: float=10.0, attempts: int=3, allow_plaintext_token: bool=False) -> None:
        """Creates a client, which connects with its first call.

        `endpoints` are URLs, in a list or separated by commas. `token` is a token, or the file (a `Path`) or the
        function, also an asynchronous one, that returns it: both are read again every 10 s and when a server refuses
        the token. `ca` and `client_certificate` (the chain and its key) are PEM in bytes, or files. `timeout` is the
        time of a call in seconds, with all its `attempts`.
        """
        from cable_client import client

        super().__init__(client.Cable(endpoints, token=token, ca=ca, client_certificate=client_certificate, server_name=server_name, timeout=timeout, attempts=attempts, allow_plaintext_token=allow_plaintext_token))

    def call(self, method: Method[Q, R], request: Q, *, timeout: float | None=None) -> R:
        """Makes a call of `v1.methods` with one response. A write without a request id gets one."""
        result: R = run(self._wrapped.call(method, request, timeout=timeout))
        return result

    def pages(self, method: Method[Q, R], request: Q, *, timeout: float | None=None) -> Iterator[R]:
        """Makes a call that lists, page by page."""
        result: Iterator[R] = iterate(self._wrapped.pages(method, request, timeout=timeout))
        return result

    def stream_articles(self, request: v1.StreamArticlesRequest | None=None, *, timeout: float | None=None) -> Iterator[v1.Article]:
        """Iterates over the articles that match, which one call streams. It raises unless all of them arrive."""
        result: Iterator[v1.Article] = iterate(self._wrapped.stream_articles(request, timeout=timeout))
        return result


class SyncFeed(Blocking):
    """The members of a `Feed`. Its methods block."""

    @property
    def position(self) -> v1.Position | None:
        """The position of the last event, or that which the feed starts after. `None` within a snapshot."""
        result: v1.Position | None = self._wrapped.position
        return result

    @property
    def is_caught_up(self) -> bool:
        """Whether the current stream has delivered everything that the node had at its last checkpoint."""
        result: bool = self._wrapped.is_caught_up
        return result

    def save(self) -> None:
        """Marks the last event as applied too, and writes its position now. For example, before `break`."""
        run(self._wrapped.save())


class SyncMirror(Blocking):
    """The members of a `Mirror`. Its methods block."""

    @property
    def position(self) -> v1.Position | None:
        """The position of the content. `None` before the first snapshot is complete."""
        result: v1.Position | None = self._wrapped.position
        return result

    @property
    def damaged(self) -> set[str]:
        """Names whose newest version the server cannot read: the mirror lacks them or has older versions."""
        result: set[str] = self._wrapped.damaged
        return result

    def __getitem__(self, name: str) -> Entity:
        """As of a mapping."""
        result: Entity = self._wrapped.__getitem__(name)
        return result

    def __iter__(self) -> Iterator[str]:
        """As of a mapping."""
        result: Iterator[str] = self._wrapped.__iter__()
        return result

    def __len__(self) -> int:
        """As of a mapping."""
        result: int = self._wrapped.__len__()
        return result

    def content(self) -> tuple[v1.Position | None, dict[str, Entity]]:
        """Returns the position and a copy of the mapping at that position."""
        result: tuple[v1.Position | None, dict[str, Entity]] = self._wrapped.content()
        return result

    def by_tag(self, tag: str) -> list[v1.Article]:
        """Returns the articles with a tag, `tags/{id}` or its id: the last change first."""
        result: list[v1.Article] = self._wrapped.by_tag(tag)
        return result

    @property
    def lag(self) -> float | None:
        """The seconds since the content was known to be current. `None` before it first was.

        It stays below the checkpoint interval while the connection is sound.
        """
        result: float | None = self._wrapped.lag
        return result

    def ready(self) -> None:
        """Waits until the first snapshot is complete and the changes made meanwhile have been applied."""
        run(self._wrapped.ready())

    def changes(self) -> Iterator[v1.Position]:
        """Returns an iterator over the positions of new content, from now on. Several changes can count as one."""
        result: Iterator[v1.Position] = iterate(self._wrapped.changes())
        return result
