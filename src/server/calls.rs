//! What happens around every call: it is found, answered within its deadline, and counted with the code that it ended
//! with. Reads are answered here; all other services are tonic's.

use std::{
    collections::HashMap,
    fmt::Display,
    future::poll_fn,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, select},
    stream,
};
use http::{HeaderMap, Request, Response, header::CONTENT_TYPE};
use http_body::Body;
use tokio::sync::watch;
use tonic::{Code, Status, codegen::Service as _, service::Routes};

use super::{
    message,
    reply::Reply,
    streams::{self, Streams},
};
use crate::{
    content::Read,
    health::Health,
    model::limit::{self, Limit},
    refusal::Refusal,
    rpc::{self, content::ContentRpc, feed::FeedRpc},
    telemetry::{Metrics, RpcMetrics},
    wire::{Framed, POOL},
};

/// How long a call may take to be answered, also if its client says more or nothing.
const LONGEST: Duration = Duration::from_secs(60);

/// The calls that one core answers.
pub(super) struct Calls {
    methods: HashMap<String, Arc<Method>, foldhash::fast::RandomState>,
    /// Whatever is none of these, so that a peer cannot invent labels.
    other: Arc<Method>,
    services: Services,
    routes: Routes,
    /// Feeds that one connection may have open.
    feeds: usize,
    draining: watch::Receiver<bool>,
    health: Arc<Health>,
}

/// The services that are answered here.
pub(super) struct Services {
    pub(super) content: ContentRpc,
    pub(super) feed: FeedRpc,
}

/// A call that is answered here.
#[derive(Debug, Clone, Copy)]
enum Own {
    Read(Read),
    Watch,
}

/// A method of a service.
struct Method {
    own: Option<Own>,
    limit: &'static Limit,
    /// Its client may take its time over the request.
    client_streams: bool,
    /// Its answer goes on as long as its client's deadline allows.
    streams: bool,
    /// It ends only when the node does.
    endless: bool,
    metrics: RpcMetrics,
}

impl Method {
    /// Until when a call must have been answered, or its answer have begun.
    fn bound(&self, start: Instant, deadline: Option<Instant>) -> Option<Instant> {
        let longest = (!self.client_streams).then(|| start + LONGEST);
        deadline.into_iter().chain(longest).min()
    }
}

impl Calls {
    pub(super) fn new(
        services: Services,
        routes: Routes,
        feeds: usize,
        metrics: &Metrics,
        draining: watch::Receiver<bool>,
        health: Arc<Health>,
    ) -> Calls {
        let methods = POOL.services().flat_map(|service| service.methods().collect::<Vec<_>>());
        let methods = methods.map(|method| {
            let service = method.parent_service();
            let own = match service.full_name() {
                "cable.v1.ContentService" => ContentRpc::read(method.name()).map(Own::Read),
                "cable.v1.FeedService" => Some(Own::Watch),
                _ => None,
            };
            let writes =
                ["cable.v1.PublishingService", "cable.v1.TransferService"].contains(&service.full_name());
            let name = format!("{}/{}", service.full_name(), method.name());
            let described = Method {
                own,
                limit: if writes { &limit::WRITE_REQUEST } else { &limit::READ_REQUEST },
                client_streams: method.is_client_streaming(),
                streams: method.is_server_streaming(),
                endless: false,
                metrics: metrics.of(&name),
            };
            (format!("/{name}"), Arc::new(described))
        });
        let other = Method {
            own: None,
            limit: &limit::READ_REQUEST,
            client_streams: true,
            streams: true,
            endless: true,
            metrics: metrics.of("other"),
        };
        Calls {
            methods: methods.collect(),
            other: Arc::new(other),
            services,
            routes,
            feeds,
            draining,
            health,
        }
    }

    /// Answers a call.
    pub(super) async fn call<B>(self: Arc<Self>, request: Request<B>, streams: Streams) -> Response<Reply>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Display + Into<tonic::codegen::StdError>,
    {
        let method = self.methods.get(request.uri().path()).unwrap_or(&self.other);
        let start = Instant::now();
        let mut call = Some(Call { method: method.clone(), code: Code::Cancelled, start });
        let deadline = match deadline(request.headers()) {
            Ok(deadline) => deadline.and_then(|deadline| start.checked_add(deadline)),
            Err(refusal) => return refused(refusal.into(), call),
        };
        let own = method.own.filter(|_| is_native(request.headers()));
        let answered = {
            let answered = pin!(async {
                match own {
                    Some(Own::Read(read)) => self.read(read, request.into_body(), &mut call, deadline).await,
                    Some(Own::Watch) => {
                        Box::pin(self.watch(request.into_body(), &streams, &mut call, deadline)).await
                    }
                    None => Ok(Box::pin(self.route(method, request, &mut call, deadline)).await),
                }
            });
            AssertUnwindSafe(within(method.bound(start, deadline), answered)).catch_unwind().await
        };
        match answered.unwrap_or_else(|_| Err(rpc::internal("the call panicked"))) {
            Ok(response) => response,
            Err(status) => refused(status, call),
        }
    }

    async fn read<B>(
        &self,
        read: Read,
        request: B,
        call: &mut Option<Call>,
        deadline: Option<Instant>,
    ) -> Result<Response<Reply>, Status>
    where
        B: Body<Data = Bytes>,
        B::Error: Display,
    {
        let message = message::read(request, &limit::READ_REQUEST).await?;
        if read == Read::StreamArticles {
            let stream = self.services.content.stream(message).await?;
            let until = deadline.map(expire);
            return Ok(taken(call, |call| Reply::stream(stream, call, until)));
        }
        let answer = self.services.content.unary(read, message).await?;
        Ok(taken(call, |call| Reply::message(answer, call)))
    }

    async fn watch<B>(
        &self,
        request: B,
        streams: &Streams,
        call: &mut Option<Call>,
        deadline: Option<Instant>,
    ) -> Result<Response<Reply>, Status>
    where
        B: Body<Data = Bytes>,
        B::Error: Display,
    {
        let place = streams.feed(self.feeds);
        let place = place.ok_or(Refusal::TooManyFeeds { of: "connection", most: self.feeds })?;
        let message = message::read(request, &limit::READ_REQUEST).await?;
        let follower = self.services.feed.watch(message).await?;
        streams::guard(follower.in_flight());
        let pieces = stream::try_unfold((follower, place), |(mut follower, place)| async move {
            let piece = follower.next().await?;
            Ok(Some((Framed::from(piece), (follower, place))))
        });
        let drained = self.drained();
        let until = match deadline.map(expire) {
            Some(expired) => Box::pin(select(expired, drained).map(|first| first.factor_first().0)),
            None => drained,
        };
        Ok(taken(call, |call| Reply::stream(Box::pin(pieces), call, Some(until))))
    }

    async fn route<B>(
        &self,
        method: &Method,
        request: Request<B>,
        call: &mut Option<Call>,
        deadline: Option<Instant>,
    ) -> Response<Reply>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<tonic::codegen::StdError>,
    {
        let Ok(response) = self.routes.clone().call(request).await;
        let until = match deadline.filter(|_| method.streams) {
            Some(deadline) => Some(expire(deadline)),
            None => method.endless.then(|| self.drained()),
        };
        let refused = Status::from_header_map(response.headers());
        match refused.and_then(|status| rpc::oversized(&status, method.limit)) {
            Some(refusal) => taken(call, |call| Reply::status(&refusal.into(), call)),
            None => taken(call, |call| Reply::routed(response, call, until)),
        }
    }
}

impl Calls {
    /// What ends a stream when the node does.
    fn drained(&self) -> BoxFuture<'static, Status> {
        let (mut draining, health) = (self.draining.clone(), self.health.clone());
        Box::pin(async move {
            // The sender lives as long as the node: an error means that it is gone, too.
            let _ = draining.wait_for(|draining| *draining).await;
            // A last message that is ready goes first: a watcher of health learns why.
            tokio::task::yield_now().await;
            Refusal::of_shutdown(&health).into()
        })
    }
}

fn taken(call: &mut Option<Call>, reply: impl FnOnce(Call) -> Response<Reply>) -> Response<Reply> {
    reply(call.take().expect("a call is answered once"))
}

fn refused(status: Status, call: Option<Call>) -> Response<Reply> {
    taken(&mut { call }, |call| Reply::status(&status, call))
}

/// Whether the request is gRPC itself: gRPC-Web comes through a layer of tonic's, which makes it so.
fn is_native(headers: &HeaderMap) -> bool {
    let rest = headers.get(CONTENT_TYPE).and_then(|kind| kind.as_bytes().strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// The time that the client gives the call (gRPC over HTTP/2: `grpc-timeout`, 1 to 8 digits and a unit).
fn deadline(headers: &HeaderMap) -> Result<Option<Duration>, Refusal> {
    let Some(given) = headers.get("grpc-timeout") else { return Ok(None) };
    let parsed = given.to_str().ok().and_then(|text| {
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let digits = (1..=8).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
        let number = number.parse::<u64>().ok().filter(|_| digits)?;
        Some(match unit {
            "H" => Duration::from_secs(number * 3_600),
            "M" => Duration::from_secs(number * 60),
            "S" => Duration::from_secs(number),
            "m" => Duration::from_millis(number),
            "u" => Duration::from_micros(number),
            "n" => Duration::from_nanos(number),
            _ => return None,
        })
    });
    match parsed {
        Some(deadline) => Ok(Some(deadline)),
        None => Err(Refusal::field("grpc-timeout", "it must be 1 to 8 digits and one of H M S m u n")),
    }
}

/// A future's result, or DEADLINE_EXCEEDED. Most calls are answered at once and never see a timer. The future stays
/// where it is: moved, it would have its place twice, for as long as a stream is open.
async fn within<T>(
    bound: Option<Instant>,
    mut answered: Pin<&mut impl Future<Output = Result<T, Status>>>,
) -> Result<T, Status> {
    if let Poll::Ready(done) = poll_fn(|cx| Poll::Ready(answered.as_mut().poll(cx))).await {
        return done;
    }
    let Some(bound) = bound else { return answered.await };
    tokio::time::timeout_at(bound.into(), answered).await.unwrap_or_else(|_| Err(deadline_exceeded()))
}

fn deadline_exceeded() -> Status {
    Status::deadline_exceeded("the call's deadline has passed")
}

/// What ends a stream at its deadline.
fn expire(deadline: Instant) -> BoxFuture<'static, Status> {
    Box::pin(tokio::time::sleep_until(deadline.into()).map(|()| deadline_exceeded()))
}

/// A call under way. It is counted when dropped: with the code that it ended with, or as cancelled if the client was
/// faster.
pub(super) struct Call {
    method: Arc<Method>,
    code: Code,
    start: Instant,
}

impl Call {
    pub(super) fn ends(&mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.method.metrics.ended(self.code as i32, self.start.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    fn method(client_streams: bool) -> Method {
        let (limit, metrics) = (&limit::READ_REQUEST, Metrics::new().of("a"));
        Method { own: None, limit, client_streams, streams: true, endless: false, metrics }
    }

    fn call() -> Call {
        Call { method: Arc::new(method(false)), code: Code::Cancelled, start: Instant::now() }
    }

    #[test]
    fn only_a_client_that_streams_may_take_longer_than_the_longest() {
        let start = Instant::now();
        let [soon, late] = [1, 100].map(|secs| start + Duration::from_secs(secs));
        let longest = start + LONGEST;
        let bounds = |client_streams| {
            [None, Some(soon), Some(late)].map(|end| method(client_streams).bound(start, end))
        };
        assert_eq!(bounds(false), [Some(longest), Some(soon), Some(longest)]);
        assert_eq!(bounds(true), [None, Some(soon), Some(late)]);
    }

    #[test]
    fn a_deadline_is_read_as_the_protocol_writes_it() {
        let read = |text: &str| {
            deadline(&HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-timeout"),
                text.parse().unwrap(),
            )]))
        };
        for (text, duration) in [
            ("1H", Duration::from_secs(3_600)),
            ("2M", Duration::from_secs(120)),
            ("99999999S", Duration::from_secs(99_999_999)),
            ("0m", Duration::ZERO),
            ("5u", Duration::from_micros(5)),
            ("6n", Duration::from_nanos(6)),
        ] {
            assert_eq!(read(text).ok(), Some(Some(duration)), "{text}");
        }
        for text in ["", "S", "1", "1s", "123456789S", "-1S", "+1S", "1 S", "1.5S", "é"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_stream_that_panics_ends_with_internal() {
        let panics = || stream::poll_fn(|_| panic!("a fault"));
        let own = Reply::stream(panics().boxed(), call(), None);
        let panics_too = stream::poll_fn(|_| -> Poll<Option<Result<_, Status>>> { panic!("a fault") });
        let routed = tonic::body::Body::new(StreamBody::new(panics_too));
        let routed = Reply::routed(Response::new(routed), call(), None);
        let one = Framed::from(Bytes::from_static(b"one"));
        let later = stream::iter([Ok(one)]).chain(panics());
        let later = Reply::stream(later.boxed(), call(), None);
        for response in [own, routed, later] {
            let trailers = response.into_body().collect().await.unwrap().trailers().cloned().unwrap();
            assert_eq!(trailers["grpc-status"], (Code::Internal as i32).to_string());
        }
    }
}
