//! The responses to reads over HTTP: a document or an error, with the headers that state what caches may do with it.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{
        ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH, LOCATION,
        RETRY_AFTER, VARY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
    },
    request::Parts,
};
use http_body::{Body, Frame};
use tonic::{Code, Status};

use super::{Outputs, error_of_head, live::Events};
use crate::{
    content::Document,
    server::{
        call::Call,
        calls::{
            Calls,
            documents::{DocumentReply, Found, PIECE_BYTES, Target},
        },
        delivery::{Delivery, Pace},
        flight::Charge,
        streams::Streams,
    },
    web::{
        caching::{Freshness, names_etag, names_etag_strongly},
        errors::HttpError,
        request::{AT_LEAST_HEADER, ROOT, Resource},
        syndication::{self, Address},
    },
    wire::Framed,
};

/// The names of headers that the crate `http` does not define.
const SURROGATE_KEY: &str = "surrogate-key";
const REVISION: &str = "cable-revision";
pub(super) const REQUEST_ID: &str = "x-request-id";

/// Responds to a request for a path under `/v1`, or for a feed or a sitemap.
pub(super) async fn respond(
    calls: &Calls,
    outputs: &Outputs,
    streams: Streams,
    parts: &Parts,
) -> Response<Delivery<WebBody>> {
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return read_only(streams);
    }
    let is_head = parts.method == Method::HEAD;
    let freshness = outputs.caching.now();
    let target = match target(outputs, parts.uri.path()) {
        Ok(target) => target,
        Err(message) => {
            let error = error_of_head(StatusCode::NOT_FOUND, Code::NotFound, "request target", message);
            let (mut headers, body) = error_head(&error, parts);
            headers.insert(CACHE_CONTROL, cache_control(&freshness, None, false));
            return whole(error.status, headers, body, is_head, streams);
        }
    };
    let is_current = |document: &Document| {
        let mut given = parts.headers.get_all(IF_NONE_MATCH).iter();
        given.any(|value| names_etag(value.as_bytes(), document.etag.as_bytes()))
            && freshness.may_confirm(document.next_change)
    };
    let is_met = |document: &Document| meets_if_match(&parts.headers, document.etag.as_bytes());
    let has_body = |document: &Document| !is_head && is_met(document) && !is_current(document);
    let reply = calls.document(parts, target, &streams, has_body).await;
    let DocumentReply { mut call, is_private, keys, outcome } = reply;
    match outcome {
        Ok(found) if !is_met(&found.document) => {
            call.end(&mut Ok(()));
            malformed(&condition_failed(found.document.etag.as_bytes()), is_head, streams)
        }
        Ok(mut found) => {
            found.add_keys(&keys);
            // This was decided when the body was read. The clock has moved on: another decision could differ.
            let is_current = if is_head { is_current(&found.document) } else { found.pace.is_none() };
            document(&freshness, call, found, (is_private, is_current), streams)
        }
        Err(status) => refused(&freshness, call, status, (is_private, &keys), parts, streams),
    }
}

/// Returns the response to a method other than GET and HEAD.
pub(super) fn read_only(streams: Streams) -> Response<Delivery<WebBody>> {
    let problem = "not allowed: content is read-only over HTTP; use GET or HEAD";
    let status = StatusCode::METHOD_NOT_ALLOWED;
    let error = error_of_head(status, Code::Unimplemented, "method", problem);
    let mut response = malformed(&error, false, streams);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

/// Whether a response meets the `if-match` of its request, if there is one (RFC 9110, 13.1.1).
pub(super) fn meets_if_match(headers: &HeaderMap, etag: &[u8]) -> bool {
    let mut given = headers.get_all(IF_MATCH).iter().peekable();
    given.peek().is_none() || given.any(|value| names_etag_strongly(value.as_bytes(), etag))
}

/// Returns the error of a request whose `if-match` does not name the etag of the response.
pub(super) fn condition_failed(etag: &[u8]) -> HttpError {
    let problem = format!("not current: the etag is {}", String::from_utf8_lossy(etag));
    let status = StatusCode::PRECONDITION_FAILED;
    error_of_head(status, Code::FailedPrecondition, "If-Match", &problem)
}

/// Returns what is at a path, or the message of the error.
fn target<'a>(outputs: &'a Outputs, path: &'a str) -> Result<Target<'a>, &'static str> {
    if syndication::is_within(path) {
        let site = outputs.site.as_ref().ok_or(syndication::NO_SITE)?;
        let address = Address::at(path).ok_or(syndication::ADDRESSES)?;
        return Ok(Target::Output(address, site));
    }
    Resource::at(path).map(Target::Resource).ok_or(
        "no such resource: use articles, authors, sections, tags or collections, each with or without an id, or paths",
    )
}

fn document(
    freshness: &Freshness<'_>,
    mut call: Call,
    found: Found,
    (is_private, is_current): (bool, bool),
    streams: Streams,
) -> Response<Delivery<WebBody>> {
    let Found { document, revision, pace, more_keys, .. } = found;
    let mut headers = HeaderMap::with_capacity(10);
    headers.insert(ETAG, document.etag.clone());
    headers.insert(CACHE_CONTROL, cache_control(freshness, document.next_change, is_private));
    headers.insert(SURROGATE_KEY, more_keys.unwrap_or_else(|| document.surrogate_keys.clone()));
    headers.insert(REVISION, HeaderValue::from(revision));
    headers.insert(VARY, HeaderValue::from_static("authorization"));
    if let Some(id) = call.known_request_id().and_then(|id| HeaderValue::from_str(id.as_str()).ok()) {
        headers.insert(REQUEST_ID, id);
    }
    if !is_current {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(document.content_type));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(document.body.len()));
    }
    let status = if is_current { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
    let rest = if pace.is_some() { document.body.clone() } else { Bytes::new() };
    if rest.is_empty() {
        call.end(&mut Ok(()));
    }
    let pace = pace.unwrap_or_else(|| Pace::message(Charge::new(streams, 0)));
    build(status, headers, Delivery::new(WebBody::Document(DocumentBody { rest, call }), pace))
}

/// Responds with an error. Caches may store only errors that last. An error for a caller with a credential may be stored
/// only by that caller's own cache.
pub(super) fn refused(
    freshness: &Freshness<'_>,
    mut call: Call,
    status: Status,
    (is_private, keys): (bool, &[String]),
    parts: &Parts,
    streams: Streams,
) -> Response<Delivery<WebBody>> {
    let is_id_given = call.known_request_id().is_some();
    let mut status = Err(status);
    call.end(&mut status);
    let Err(status) = status else { unreachable!("an error that ends remains one") };
    let error = HttpError::new(status.code() as i32, status.message(), status.details());
    let (mut headers, body) = error_head(&error, parts);
    let is_lasting = matches!(
        error.status,
        StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::PERMANENT_REDIRECT | StatusCode::BAD_REQUEST
    );
    // Cache keys do not include this header, so the invalid value of one caller must not become the response to others.
    let is_lasting = is_lasting
        && (error.status != StatusCode::BAD_REQUEST || !parts.headers.contains_key(AT_LEAST_HEADER));
    let caching = match is_lasting {
        true => cache_control(freshness, None, is_private),
        false => HeaderValue::from_static("no-store"),
    };
    headers.insert(CACHE_CONTROL, caching);
    // An invalid request depends on no content, so it has no surrogate keys.
    if is_lasting
        && error.status != StatusCode::BAD_REQUEST
        && let Ok(keys) = HeaderValue::try_from(keys.join(" "))
    {
        headers.insert(SURROGATE_KEY, keys);
    }
    // A cached response serves many calls, so it has no id that was made for one of them.
    if is_id_given || !is_lasting {
        let id = call.known_request_id().and_then(|id| HeaderValue::from_str(id.as_str()).ok());
        headers.extend(id.map(|id| (http::HeaderName::from_static(REQUEST_ID), id)));
    }
    drop(call);
    whole(error.status, headers, body, parts.method == Method::HEAD, streams)
}

/// Responds to a request whose head is not valid. Caches may not store the error: the cause may not be part of their
/// key.
pub(super) fn malformed(error: &HttpError, is_head: bool, streams: Streams) -> Response<Delivery<WebBody>> {
    let (mut headers, body) = json_head(error);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    whole(error.status, headers, body, is_head, streams)
}

/// Returns the headers of every error, and its body.
fn json_head(error: &HttpError) -> (HeaderMap, Bytes) {
    let mut headers = HeaderMap::with_capacity(10);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let body = Bytes::from(error.body.clone());
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    (headers, body)
}

/// Returns the headers that follow from an error, and its body.
fn error_head(error: &HttpError, parts: &Parts) -> (HeaderMap, Bytes) {
    let (mut headers, body) = json_head(error);
    headers.insert(VARY, HeaderValue::from_static("authorization"));
    if let Some(target) = &error.moved_to {
        let query = parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let feed = Address::at(parts.uri.path()).and_then(|address| address.moved_to(target));
        let path = feed.unwrap_or_else(|| format!("{ROOT}/{target}"));
        let location = HeaderValue::try_from(format!("{path}{query}"));
        headers.extend(location.ok().map(|location| (LOCATION, location)));
    }
    headers.extend(error.retry_after.map(|seconds| (RETRY_AFTER, HeaderValue::from(seconds))));
    if error.status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    (headers, body)
}

fn cache_control(freshness: &Freshness<'_>, next_change: Option<i64>, is_private: bool) -> HeaderValue {
    let scope = if is_private { "private" } else { "public" };
    let value = format!("{scope}, max-age={}", freshness.max_age(next_change));
    HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static("no-store"))
}

pub(super) fn whole(
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    is_head: bool,
    streams: Streams,
) -> Response<Delivery<WebBody>> {
    let body = if is_head {
        tonic::body::Body::empty()
    } else {
        tonic::body::Body::new(http_body_util::Full::new(body))
    };
    let body = Delivery::new(WebBody::Tonic(body), Pace::message(Charge::new(streams, 0)));
    build(status, headers, body)
}

pub(super) fn build(
    status: StatusCode,
    headers: HeaderMap,
    body: Delivery<WebBody>,
) -> Response<Delivery<WebBody>> {
    let mut response = Response::new(body);
    (*response.status_mut(), *response.headers_mut()) = (status, headers);
    response
}

/// The body of a response on the web path.
pub(in crate::server) enum WebBody {
    /// A body from tonic, or one that is complete: of gRPC, a file, an error or a text.
    Tonic(tonic::body::Body),
    Document(DocumentBody),
    Live(Events),
}

/// The rest of a document, and the call that it belongs to.
pub(in crate::server) struct DocumentBody {
    rest: Bytes,
    call: Call,
}

impl Body for WebBody {
    type Data = Framed;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Framed>, Status>>> {
        match self.get_mut() {
            WebBody::Tonic(body) => Poll::Ready(
                ready!(Pin::new(body).poll_frame(cx)).map(|frame| Ok(frame?.map_data(Framed::from))),
            ),
            WebBody::Live(events) => events.poll_frame(cx),
            WebBody::Document(body) if body.rest.is_empty() => Poll::Ready(None),
            WebBody::Document(body) => {
                let piece = Framed::from(body.rest.split_to(body.rest.len().min(PIECE_BYTES)));
                body.call.count_message(&piece);
                if body.rest.is_empty() {
                    body.call.end(&mut Ok(()));
                }
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            WebBody::Tonic(body) => body.is_end_stream(),
            WebBody::Document(body) => body.rest.is_empty(),
            WebBody::Live(events) => events.is_end(),
        }
    }
}
