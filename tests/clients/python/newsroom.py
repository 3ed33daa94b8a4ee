"""Reads and writes a Cable server from Python, with nothing but grpcio and code generated from proto/.

    python newsroom.py HOST:PORT

The server must have the newsroom of `cable serve --demo`. Each response is checked and printed.
"""

import sys
import uuid

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from cable.v1 import (
    article_pb2,
    body_pb2,
    content_pb2,
    content_pb2_grpc,
    publishing_pb2,
    publishing_pb2_grpc,
    span_pb2,
)

SECONDS = 20
TAG = "tags/russia"


def main(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        content = content_pb2_grpc.ContentServiceStub(channel)
        publishing = publishing_pb2_grpc.PublishingServiceStub(channel)
        get(content)
        assert list_pages(content) == stream(content), "a list and a stream of one filter differ"
        error_details(content)
        put(content, publishing)


def get(content) -> None:
    request = content_pb2.GetArticleRequest(
        name="articles/station-lamp-23",
        body_format=body_pb2.BODY_FORMAT_PLAIN_TEXT,
        includes=[content_pb2.INCLUDE_AUTHORS, content_pb2.INCLUDE_SECTIONS],
    )
    response = content.GetArticle(request, timeout=SECONDS)
    article, author, section = response.article, response.includes.authors[0], response.includes.sections[0]
    assert article.name == request.name and not response.includes.missing
    assert author.bio and section.tagline and len(article.rendered_body.text.split()) > 100
    print(f"{section.display_name}: {article.headline}")
    print(f"  by {author.display_name}, {article.word_count} words, at revision {response.meta.served_revision}")

    request.if_none_match = response.meta.etag
    again = content.GetArticle(request, timeout=SECONDS)
    assert again.not_modified and not again.HasField("article")
    print("  read again with its etag: not modified")


def list_pages(content) -> list[str]:
    request = content_pb2.ListArticlesRequest(
        filter=content_pb2.ArticleFilter(all_tags=[TAG]),
        view=content_pb2.ARTICLE_VIEW_BASIC,
        page_size=4,
    )
    names, pages = [], 0
    while pages == 0 or request.page_token:
        response = content.ListArticles(request, timeout=SECONDS)
        assert len(response.articles) <= request.page_size
        names += [article.name for article in response.articles]
        pages += 1
        request.page_token = response.next_page_token
    assert len(set(names)) == len(names) > request.page_size, "a page repeats an article"
    print(f"{TAG}: {len(names)} articles on {pages} pages")
    return names


def stream(content) -> list[str]:
    request = content_pb2.StreamArticlesRequest(
        filter=content_pb2.ArticleFilter(all_tags=[TAG]),
        view=content_pb2.ARTICLE_VIEW_FULL,
    )
    names, times, end = [], [], None
    for message in content.StreamArticles(request, timeout=SECONDS):
        assert end is None, "message after the closing message"
        for article in message.articles:
            assert TAG in article.tags and article.body.blocks
            names.append(article.name)
            times.append(article.publish_time.ToNanoseconds())
        if message.HasField("end"):
            end = message.end
    assert end is not None and end.count == len(names) and end.revision > 0
    assert times == sorted(times, reverse=True), "not newest first"
    print(f"{TAG}: {end.count} articles streamed, as of revision {end.revision}")
    return names


def details(error: grpc.RpcError) -> list:
    """The details of an error, unpacked."""
    status = rpc_status.from_call(error)
    assert status is not None and status.code == error.code().value[0]
    found = []
    for packed in status.details:
        for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.ResourceInfo):
            if packed.Is(kind.DESCRIPTOR):
                detail = kind()
                packed.Unpack(detail)
                found.append(detail)
    return found


def expect_error(call, request) -> tuple[grpc.StatusCode, str, list]:
    """Makes a call that must fail. Returns its code, the reason, and all details."""
    try:
        call(request, timeout=SECONDS)
    except grpc.RpcError as error:
        all_details = details(error)
        infos = [detail for detail in all_details if isinstance(detail, error_details_pb2.ErrorInfo)]
        assert len(infos) == 1 and infos[0].domain == "cable.v1", infos
        print(f"  {error.code().name} {infos[0].reason}: {error.details()}")
        return error.code(), infos[0].reason, all_details
    raise AssertionError(f"the call did not fail: {request}")


def error_details(content) -> None:
    print("errors:")
    missing = content_pb2.GetArticleRequest(name="articles/no-such-article")
    code, reason, _ = expect_error(content.GetArticle, missing)
    assert (code, reason) == (grpc.StatusCode.NOT_FOUND, "ARTICLE_NOT_FOUND")

    wrong = content_pb2.ListArticlesRequest(page_size=-1)
    code, reason, found = expect_error(content.ListArticles, wrong)
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    fields = [v.field for d in found if isinstance(d, error_details_pb2.BadRequest) for v in d.field_violations]
    assert fields == ["page_size"], fields


def put(content, publishing) -> None:
    paragraph = body_pb2.Paragraph(spans=[span_pb2.Span(text="The quay is open again.")])
    article = article_pb2.Article(
        name=f"articles/quay-{uuid.uuid4()}",
        headline="Quay reopens",
        tags=["tags/port-averil"],
        body=body_pb2.Body(blocks=[body_pb2.Block(paragraph=paragraph)]),
    )
    request = publishing_pb2.PutArticleRequest(
        article=article,
        precondition=publishing_pb2.Precondition(must_be_absent=True),
        request_id=str(uuid.uuid4()),
    )
    first = publishing.PutArticle(request, timeout=SECONDS)
    assert first.result.changed and first.result.revision == first.position.revision
    print(f"published at revision {first.result.revision}")
    assert publishing.PutArticle(request, timeout=SECONDS) == first, "a repeated request has a different response"

    request.request_id = str(uuid.uuid4())
    code, reason, _ = expect_error(publishing.PutArticle, request)
    assert (code, reason) == (grpc.StatusCode.ALREADY_EXISTS, "NAME_EXISTS")

    request.article.headline = "Quay reopens after a year"
    request.precondition.etag = first.result.etag
    request.request_id = str(uuid.uuid4())
    second = publishing.PutArticle(request, timeout=SECONDS)
    assert second.result.changed and second.result.revision > first.result.revision

    # A writer with an outdated etag does not overwrite a later version.
    request.article.headline = "Quay closed"
    request.request_id = str(uuid.uuid4())
    code, reason, _ = expect_error(publishing.PutArticle, request)
    assert (code, reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")

    own = content_pb2.GetArticleRequest(name=article.name)
    own.freshness.at_least_revision = second.position.revision
    own.freshness.log_id = second.position.log_id
    read = content.GetArticle(own, timeout=SECONDS)
    assert read.article.headline == "Quay reopens after a year" and read.article.etag == second.result.etag
    print(f"read back: {read.article.headline}")


if __name__ == "__main__":
    main(sys.argv[1])
