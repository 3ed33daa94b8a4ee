//! Requests that are not native gRPC calls: the web outputs, gRPC-Web for browsers, through tonic's layer, and requests
//! that are refused before they become calls.

use std::{
    convert::Infallible,
    error::Error,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ALLOW,
        CACHE_CONTROL, CONTENT_TYPE, ORIGIN, VARY,
    },
};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use tokio::sync::watch;
use tonic::{Code, Status, body::Body, codegen::Service};
use tonic_web::GrpcWebLayer;
use tower::Layer as _;

use super::{
    calls::Calls,
    delivery::{Delivery, Pace},
    entrance::{self, ORIGIN_REJECTED, OriginPolicy, Page, Rejection},
    flight::Charge,
    streams::Streams,
    transport,
};
use crate::{
    clock::Clock,
    config::Config,
    refusal::Refusal,
    web::{
        self,
        caching::Caching,
        errors::HttpError,
        request,
        syndication::{self, Site},
    },
};

mod documents;
mod files;
mod live;

pub(super) use documents::WebBody;

/// The prefixes of the content types of gRPC-Web and gRPC.
const WEB: &[u8] = b"application/grpc-web";
const GRPC: &[u8] = b"application/grpc";

/// The headers of responses that a page of another origin may read.
const EXPOSED: &str = "grpc-status, grpc-message, grpc-status-details-bin, x-request-id, etag, cable-revision, \
                       surrogate-key, location, retry-after";

/// How long a browser may cache the response to a preflight request, in seconds.
const PREFLIGHT_SECS: &str = "7200";

/// Whether a request is a native gRPC call, which no web page can send. One that names no host is none.
pub(super) fn is_native<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    request.method() == Method::POST
        && is_grpc(headers)
        && !headers.contains_key(ORIGIN)
        && entrance::names_host(request)
}

fn is_grpc(headers: &HeaderMap) -> bool {
    strip_content_type(headers, GRPC).is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Whether the content type is one that tonic's layer supports.
fn is_web(headers: &HeaderMap) -> bool {
    let rest = strip_content_type(headers, WEB);
    rest.is_some_and(|rest| [&b""[..], b"+proto", b"-text", b"-text+proto"].contains(&rest))
}

fn strip_content_type<'a>(headers: &'a HeaderMap, start: &[u8]) -> Option<&'a [u8]> {
    headers.get(CONTENT_TYPE)?.as_bytes().strip_prefix(start)
}

/// The web outputs of a node.
#[derive(Debug)]
pub(super) struct Outputs {
    is_enabled: bool,
    caching: Caching,
    /// The site of feeds and sitemaps. `None`: there are none.
    site: Option<Arc<Site>>,
}

impl Outputs {
    pub(super) fn new(clock: Clock, config: &Config, next_due: watch::Receiver<Option<i64>>) -> Outputs {
        Outputs {
            is_enabled: config.web.enabled,
            caching: Caching::new(clock, &config.web, next_due),
            site: Site::new(&config.site).map(Arc::new),
        }
    }
}

/// Responds to any request that is not a native gRPC call.
pub(super) async fn respond(
    calls: Arc<Calls>,
    (origin_policy, outputs): (Arc<OriginPolicy>, Arc<Outputs>),
    streams: Streams,
    request: Request<Incoming>,
) -> Response<Delivery<WebBody>> {
    let page = origin_policy.check(&request);
    let page = page.and_then(|page| match page {
        Page::Reading if !may_read(&calls, &request) => Err(ORIGIN_REJECTED),
        page => Ok(page),
    });
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let cross_origin = !matches!(page, Ok(Page::Own));
    let allowed_origin = match page {
        // A cache reuses the response for the pages of other origins, and no `vary` keeps it from that.
        Ok(Page::Own) if is_read && origin_policy.any_reads() => Some(HeaderValue::from_static("*")),
        Ok(Page::Own) => None,
        Ok(Page::Reading) => Some(HeaderValue::from_static("*")),
        Ok(Page::Allowed(origin)) => HeaderValue::from_str(origin).ok(),
        Err(rejection) => return reject(&rejection, request.method() == Method::HEAD, streams),
    };
    let mut response = dispatch(calls, &outputs, streams, request, cross_origin).await;
    let headers = response.headers_mut();
    if origin_policy.varies() {
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
    if let Some(origin) = allowed_origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }
    response
}

/// Responds to a request that is refused. Caches may not store the error: their key contains no origin, for one, and the
/// refusal of one page must not reach the others.
fn reject(rejection: &Rejection, is_head: bool, streams: Streams) -> Response<Delivery<WebBody>> {
    let Rejection { status, code, field, problem } = *rejection;
    documents::malformed(&error_of_head(status, code, field, problem), is_head, streams)
}

/// Returns the error of a request that is no call: the part of its head at fault, and the problem.
fn error_of_head(status: StatusCode, code: Code, field: &str, problem: &str) -> HttpError {
    let refused = Status::from(Refusal::field(field, problem));
    HttpError { status, ..HttpError::new(code as i32, refused.message(), refused.details()) }
}

/// Whether a request asks for nothing that a page of any origin may not have.
fn may_read(calls: &Calls, request: &Request<Incoming>) -> bool {
    match *request.method() {
        Method::GET | Method::HEAD | Method::OPTIONS => true,
        _ => !calls.publishes(request.uri().path()),
    }
}

/// Serves a request that has passed the checks. `cross_origin` is whether it comes from a page of another origin that is
/// allowed.
async fn dispatch(
    calls: Arc<Calls>,
    outputs: &Outputs,
    streams: Streams,
    request: Request<Incoming>,
    cross_origin: bool,
) -> Response<Delivery<WebBody>> {
    let (headers, path) = (request.headers(), request.uri().path());
    if cross_origin
        && request.method() == Method::OPTIONS
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
    {
        return deliver(preflight(), streams);
    }
    if outputs.is_enabled {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        if !reads && files::is_file(path) {
            return documents::read_only(streams);
        }
        let is_resource =
            path.strip_prefix(request::ROOT).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let is_resource = is_resource || syndication::is_within(path);
        if reads && files::is_file(path) || reads && !is_resource && !calls.is_method(path) {
            return match files::refuse(&request) {
                Some(error) => documents::malformed(&error, request.method() == Method::HEAD, streams),
                None => deliver(files::respond(&request, outputs.site.is_some()), streams),
            };
        }
        if is_resource {
            let (parts, _) = request.into_parts();
            if parts.uri.path() == web::live::PATH {
                return live::respond(&calls, outputs, streams, &parts).await;
            }
            return documents::respond(&calls, outputs, streams, &parts).await;
        }
    }
    if request.method() != Method::POST {
        let mut response = plain_text(
            StatusCode::METHOD_NOT_ALLOWED,
            "method not allowed: use POST for gRPC and gRPC-Web\n",
        );
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        return deliver(response, streams);
    }
    if is_web(headers) {
        return web(calls, streams, request).await;
    }
    if is_grpc(headers) && request.version() == http::Version::HTTP_2 {
        let (reply, pace) = transport::call(calls, request, streams).await;
        let response = transport::response(reply);
        return response.map(|reply| Delivery::new(WebBody::Tonic(transport::into_routed(reply)), pace));
    }
    let text = "the content type must be application/grpc over HTTP/2, or one of application/grpc-web, \
                application/grpc-web+proto, application/grpc-web-text and application/grpc-web-text+proto\n";
    deliver(plain_text(StatusCode::UNSUPPORTED_MEDIA_TYPE, text), streams)
}

fn plain_text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(text.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Returns the response to a preflight request: what a page of an allowed origin may send.
fn preflight() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let allowed = "content-type, x-grpc-web, x-user-agent, grpc-timeout, authorization, x-request-id, traceparent, \
         if-none-match, cable-at-least, cache-control, last-event-id";
    for (name, value) in [
        (ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, POST"),
        (ACCESS_CONTROL_ALLOW_HEADERS, allowed),
        (ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECS),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn deliver(response: Response<Body>, streams: Streams) -> Response<Delivery<WebBody>> {
    response.map(|body| {
        let pace = Pace::body(&body, streams);
        Delivery::new(WebBody::Tonic(body), pace)
    })
}

/// Serves a gRPC-Web call. The bytes that count are those that the layer encodes.
async fn web(calls: Arc<Calls>, streams: Streams, request: Request<Incoming>) -> Response<Delivery<WebBody>> {
    let request = request.map(|body| body.map_err(ClientGone));
    let pace = Arc::default();
    let service = Web { calls, streams: streams.clone(), pace: Arc::clone(&pace) };
    let Ok(response) = GrpcWebLayer::new().layer(service).call(request).await;
    let pace = pace.lock().unwrap_or_else(PoisonError::into_inner).take();
    let pace = pace.unwrap_or_else(|| Pace::message(Charge::new(streams, 0)));
    response.map(|body| Delivery::new(WebBody::Tonic(body), pace.tracked()))
}

/// The calls, as a service for tonic's layer.
#[derive(Clone)]
struct Web {
    calls: Arc<Calls>,
    streams: Streams,
    /// The pace of the call's response.
    pace: Arc<Mutex<Option<Pace>>>,
}

impl Service<Request<Body>> for Web {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Web { calls, streams, pace } = self.clone();
        let request = request.map(|body| body.map_err(map_body_error));
        Box::pin(async move {
            let (reply, call_pace) = transport::call(calls, request, streams).await;
            *pace.lock().unwrap_or_else(PoisonError::into_inner) = Some(call_pace);
            Ok(transport::response(reply).map(transport::into_routed))
        })
    }
}

/// The error when the connection fails while the body of a request is read.
#[derive(Debug)]
struct ClientGone(hyper::Error);

const CLIENT_GONE: &str = "client disconnected";

impl fmt::Display for ClientGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{CLIENT_GONE}: {}", self.0)
    }
}

impl Error for ClientGone {}

/// Replaces the layer's errors by ours. It passes on an error of the connection as text, and has texts of its own for a
/// body that it cannot decode.
fn map_body_error(status: Status) -> Status {
    if status.message().contains(CLIENT_GONE) {
        return Status::cancelled(status.message());
    }
    Refusal::field("request", "the body is not valid base64").into()
}
