//! What happens around every call: it is counted with the code that it ended with, and where tonic refuses a request
//! for its size, it is told as the schema says.

use std::{
    collections::HashSet,
    pin::Pin,
    sync::{Arc, LazyLock},
    task::{Context, Poll, ready},
    time::Instant,
};

use tonic::{
    Code, Status,
    body::Body,
    codegen::{Body as HttpBody, BoxFuture, Bytes, Service, http},
};

use crate::{
    digest::POOL,
    model::limit,
    rpc,
    telemetry::{Metrics, code_name},
};

const GRPC_STATUS: &str = "grpc-status";

/// Paths of the calls that are counted by name; all others are `other`, so that a peer cannot invent labels.
static METHODS: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let methods = POOL.services().flat_map(|service| {
        let methods = service.methods().map(|method| method.name().to_owned()).collect::<Vec<_>>();
        methods.into_iter().map(move |method| format!("/{}/{method}", service.full_name()))
    });
    methods.collect()
});

/// Wraps every service.
#[derive(Clone)]
pub(super) struct Layer {
    metrics: Arc<Metrics>,
}

impl Layer {
    pub(super) fn new(metrics: Arc<Metrics>) -> Layer {
        Layer { metrics }
    }
}

impl<S> tower::Layer<S> for Layer {
    type Service = Calls<S>;

    fn layer(&self, inner: S) -> Calls<S> {
        Calls { inner, metrics: self.metrics.clone() }
    }
}

/// A service whose calls are watched.
#[derive(Clone)]
pub(super) struct Calls<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S, B> Service<http::Request<B>> for Calls<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<http::Response<Body>, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let method = METHODS.get(request.uri().path()).map_or("other", |path| path.trim_start_matches('/'));
        // Counted when dropped: with the code seen, or as cancelled if the client was faster.
        let mut call = Call { metrics: self.metrics.clone(), method, code: None, start: Instant::now() };
        let answered = self.inner.call(request);
        Box::pin(async move {
            let response = in_our_words(method, answered.await?);
            call.see(response.headers());
            Ok(response.map(|body| Body::new(Watched { body, call })))
        })
    }
}

/// The answer, unless it is tonic's refusal of an oversized request: then ours.
fn in_our_words(method: &str, response: http::Response<Body>) -> http::Response<Body> {
    let writes = ["Publishing", "Transfer"].iter().any(|service| method.contains(service));
    let limit = if writes { &limit::WRITE_REQUEST } else { &limit::READ_REQUEST };
    let refused = Status::from_header_map(response.headers());
    match refused.and_then(|status| rpc::oversized(&status, limit)) {
        Some(refusal) => Status::from(refusal).into_http(),
        None => response,
    }
}

struct Call {
    metrics: Arc<Metrics>,
    method: &'static str,
    code: Option<i32>,
    start: Instant,
}

impl Call {
    fn see(&mut self, headers: &http::HeaderMap) {
        let code =
            headers.get(GRPC_STATUS).and_then(|code| code.to_str().ok()).and_then(|code| code.parse().ok());
        self.code = code.or(self.code);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let code = code_name(self.code.unwrap_or(Code::Cancelled as i32));
        self.metrics.called(self.method, code, self.start.elapsed());
    }
}

/// The body of an answer, watched for the status in its trailers.
struct Watched {
    body: Body,
    call: Call,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            self.call.see(trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
