//! The responses to requests for the node's own pages, and for paths where there is nothing.

use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
        REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    },
};
use http_body_util::Full;
use tonic::body::Body;

use super::{
    documents::{condition_failed, meets_if_match},
    plain_text,
};
use crate::web::{caching::names_etag, errors::HttpError, files, openapi, request::no_parameters};

/// The outputs of a node, in one line.
const NOTHING: &str = "not found: there are gRPC, gRPC-Web, a page for people at /, and content as JSON under /v1, such as \
                       /v1/articles; /v1/openapi.json describes it; feeds are under /feeds, sitemaps at /sitemap.xml\n";

/// Responds to a GET or HEAD of a path that is neither a method nor under `/v1`. `has_feeds` is whether the node serves
/// feeds, to which the page has links then.
pub(super) fn respond<B>(request: &Request<B>, has_feeds: bool) -> Response<Body> {
    let path = request.uri().path();
    let Some((file, etag)) = files::at(path, has_feeds) else {
        let mut response = plain_text(StatusCode::NOT_FOUND, NOTHING);
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if request.method() == Method::HEAD {
            *response.body_mut() = Body::empty();
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(NOTHING.len()));
        }
        return response;
    };
    let mut given = request.headers().get_all(IF_NONE_MATCH).iter();
    let is_current = given.any(|value| names_etag(value.as_bytes(), etag.as_bytes()));
    let has_body = !is_current && request.method() != Method::HEAD;
    let body = if has_body { Body::new(Full::new(file.bytes.clone())) } else { Body::empty() };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(ETAG, etag.clone());
    for (name, value) in [
        // A page and what it loads must be of one version of the program.
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, files::POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if is_current {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(file.content_type));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(file.bytes.len()));
    }
    response
}

/// Returns the error of a request that no file meets: it has conditions that are not met, or parameters of a resource
/// that has none. Pages may have any parameters.
pub(super) fn refuse<B>(request: &Request<B>) -> Option<HttpError> {
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    let (_, etag) = files::at(path, false)?;
    if path == openapi::PATH
        && let Err(refusal) = no_parameters(query)
    {
        let status = tonic::Status::from(refusal);
        return Some(HttpError::new(status.code() as i32, status.message(), status.details()));
    }
    let is_met = meets_if_match(request.headers(), etag.as_bytes());
    (!is_met).then(|| condition_failed(etag.as_bytes()))
}

/// Whether there is a file at a path.
pub(super) fn is_file(path: &str) -> bool {
    files::at(path, false).is_some()
}
