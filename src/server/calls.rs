//! Handles every call: finds its method, responds within its deadline, and counts it with its final code. Reads and
//! feeds are served here, all other services by tonic.

use std::{
    collections::HashMap,
    future::poll_fn,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use bytes::{Buf as _, Bytes};
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, select},
    stream,
};
use http::{HeaderMap, Request, Response};
use http_body::Body;
use prost_reflect::{DescriptorPool, MethodDescriptor};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tonic::{
    Code, Status,
    codegen::{Service as _, StdError},
    service::Routes,
};

use super::{
    delivery::Pace,
    flight::Charge,
    inbound::{ClientStream, Inbound},
    memory::Memory,
    message,
    reply::Reply,
    streams::{Endless, Streams},
};
use crate::{
    config::Connections,
    content::{Asked, Read},
    health::Health,
    model::limit::{self, Limit},
    refusal::Refusal,
    rpc::{self, content::ContentRpc, feed::FeedRpc},
    telemetry::{Metrics, RpcMetrics},
    wire::{Framed, POOL},
};

/// The calls of one core.
pub(super) struct Calls {
    methods: HashMap<String, Arc<Method>, foldhash::fast::RandomState>,
    /// The method for all unknown paths, so that a peer cannot create metric labels.
    other: Arc<Method>,
    services: Services,
    routes: Routes,
    /// The maximum number of open feeds on one connection.
    feeds: usize,
    /// The maximum time until the response, even if the client's deadline is later or missing.
    longest: Duration,
    memory: Arc<Memory>,
    draining: watch::Receiver<bool>,
    health: Arc<Health>,
}

/// The services that are served here without tonic.
pub(super) struct Services {
    pub(super) content: ContentRpc,
    pub(super) feed: FeedRpc,
}

/// A method that is served here without tonic.
#[derive(Debug, Clone, Copy)]
enum Own {
    Read(Read),
    Watch,
}

/// A method of a service.
struct Method {
    own: Option<Own>,
    limit: &'static Limit,
    /// Whether the client streams its requests. It may then take its time.
    client_streams: bool,
    /// Whether the response is a stream, which may last until the client's deadline.
    streams: bool,
    /// Whether the response ends only with the node, the client or its deadline.
    endless: bool,
    room: Room,
    /// The node-wide limit on concurrent calls of the method, if it has one.
    at_once: Option<Slots>,
    metrics: RpcMetrics,
}

/// Bytes that are reserved in the account of the connection: before the response is made, and before each further piece
/// of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Room {
    first: usize,
    next: usize,
}

#[derive(Debug, Clone, Copy)]
enum Slots {
    Imports,
    Reflections,
}

impl Room {
    /// An entity with its includes, a page, a piece of a stream, and the response of a write. A larger response waits
    /// for more room, so these sizes need to fit only most responses.
    const ENTITY: Room = Room { first: 256 << 10, next: 0 };
    const PAGE: Room = Room { first: 2 << 20, next: 0 };
    const PIECES: Room = Room { first: 512 << 10, next: 512 << 10 };
    const WRITTEN: Room = Room { first: 4 << 10, next: 0 };

    fn of(method: &MethodDescriptor) -> Room {
        match method.name() {
            "StreamArticles" | "Export" => Room::PIECES,
            "GetPending" => Room::ENTITY,
            "BatchGetArticles" => Room::PAGE,
            name if name.starts_with("List") => Room::PAGE,
            name if name.starts_with("Get") || name.starts_with("Resolve") => Room::ENTITY,
            _ => Room::WRITTEN,
        }
    }
}

impl Method {
    /// Returns a method of one of our services.
    fn ours(method: &MethodDescriptor, metrics: RpcMetrics) -> Method {
        let service = method.parent_service();
        let own = match service.full_name() {
            "cable.v1.ContentService" => ContentRpc::read(method.name()).map(Own::Read),
            "cable.v1.FeedService" => Some(Own::Watch),
            _ => None,
        };
        let writes =
            ["cable.v1.PublishingService", "cable.v1.TransferService"].contains(&service.full_name());
        Method {
            own,
            limit: if writes { &limit::WRITE_REQUEST } else { &limit::READ_REQUEST },
            client_streams: method.is_client_streaming(),
            streams: method.is_server_streaming(),
            endless: false,
            room: Room::of(method),
            at_once: method.is_client_streaming().then_some(Slots::Imports),
            metrics,
        }
    }

    /// Returns a method of the health or reflection service.
    fn of_checks(method: &MethodDescriptor, metrics: RpcMetrics) -> Method {
        Method {
            client_streams: method.is_client_streaming(),
            streams: method.is_server_streaming(),
            endless: method.is_server_streaming(),
            at_once: method.is_client_streaming().then_some(Slots::Reflections),
            ..Method::unknown(metrics)
        }
    }

    fn unknown(metrics: RpcMetrics) -> Method {
        Method {
            own: None,
            limit: &limit::CHECK_REQUEST,
            client_streams: false,
            streams: false,
            endless: false,
            room: Room::WRITTEN,
            at_once: None,
            metrics,
        }
    }

    /// Returns the time by which the response must be ready, or a streamed response must have started.
    fn bound(&self, start: Instant, longest: Duration, deadline: Option<Instant>) -> Option<Instant> {
        let longest = (!self.client_streams).then(|| start + longest);
        deadline.into_iter().chain(longest).min()
    }
}

/// Returns the methods of a pool with their paths.
fn methods_of(pool: &DescriptorPool) -> Vec<(String, MethodDescriptor)> {
    let methods = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>());
    methods
        .map(|method| (format!("{}/{}", method.parent_service().full_name(), method.name()), method))
        .collect()
}

/// Returns the methods of the services of tonic's crates that a node has in addition to its own.
fn checks() -> Vec<(String, MethodDescriptor)> {
    let files = [
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let pools = files.into_iter().filter_map(|files| DescriptorPool::decode(files).ok());
    pools.flat_map(|pool| methods_of(&pool)).collect()
}

/// A response, and the pace at which it is passed to the connection.
type Answered = (Response<Reply>, Pace);

impl Calls {
    pub(super) fn new(
        services: Services,
        routes: Routes,
        limits: &Connections,
        memory: Arc<Memory>,
        metrics: &Metrics,
        draining: watch::Receiver<bool>,
        health: Arc<Health>,
    ) -> Calls {
        let ours = methods_of(&POOL).into_iter().map(|(name, method)| {
            let metrics = metrics.of(&name);
            (format!("/{name}"), Arc::new(Method::ours(&method, metrics)))
        });
        let checks = checks().into_iter().map(|(name, method)| {
            (format!("/{name}"), Arc::new(Method::of_checks(&method, metrics.of("other"))))
        });
        Calls {
            methods: ours.chain(checks).collect(),
            other: Arc::new(Method::unknown(metrics.of("other"))),
            services,
            routes,
            feeds: limits.max_feeds,
            longest: limits.request_timeout,
            memory,
            draining,
            health,
        }
    }

    /// Serves a call.
    pub(super) async fn call<B>(self: Arc<Self>, request: Request<B>, streams: Streams) -> Answered
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<StdError>,
    {
        let method = self.methods.get(request.uri().path()).unwrap_or(&self.other);
        let start = Instant::now();
        let mut call = Some(Call { method: method.clone(), code: Code::Cancelled, start, holds: None });
        let deadline = match deadline(request.headers()) {
            Ok(deadline) => deadline.and_then(|deadline| start.checked_add(deadline)),
            Err(refusal) => return refused(refusal.into(), call, streams),
        };
        let answered = {
            let answered = pin!(async {
                match method.own {
                    Some(Own::Read(read)) => {
                        self.read((method, read), request.into_body(), &streams, &mut call, deadline).await
                    }
                    Some(Own::Watch) => {
                        Box::pin(self.watch(request.into_body(), &streams, &mut call, deadline)).await
                    }
                    None => Box::pin(self.route(method, request, &streams, &mut call, deadline)).await,
                }
            });
            AssertUnwindSafe(within(method.bound(start, self.longest, deadline), answered))
                .catch_unwind()
                .await
        };
        match answered.unwrap_or_else(|_| Err(rpc::internal("the call panicked"))) {
            Ok(answered) => answered,
            Err(status) => refused(status, call, streams),
        }
    }

    async fn read<B>(
        &self,
        (method, read): (&Method, Read),
        request: B,
        streams: &Streams,
        call: &mut Option<Call>,
        deadline: Option<Instant>,
    ) -> Result<Answered, Status>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<StdError>,
    {
        let message = message::read(request, &limit::READ_REQUEST, streams).await?;
        if read == Read::StreamArticles {
            let charge = streams.reserve(method.room.first).await?;
            let stream = self.services.content.stream(message).await?;
            let until = deadline.map(expire);
            let pace = Pace::pieces(charge, method.room.next);
            return Ok((taken(call, |call| Reply::stream(stream, call, until)), pace));
        }
        let asked = Asked { read, message };
        if let Some(kept) = self.services.content.kept(&asked).await {
            let answer = kept?;
            if let Some(charge) = streams.try_charge(answer.remaining()) {
                return Ok((taken(call, |call| Reply::message(answer, call)), Pace::message(charge)));
            }
        }
        // Boxed, because it is many times larger than the cached path above.
        let (answer, charge) = Box::pin(self.answer(asked, method.room.first, streams)).await?;
        Ok((taken(call, |call| Reply::message(answer, call)), Pace::message(charge)))
    }

    /// Returns a response with the charge for its bytes. Room is reserved before the response is made. A response that
    /// is larger than the available room is dropped and requested again when there is room. It is probably cached by
    /// then.
    async fn answer(
        &self,
        asked: Asked,
        mut room: usize,
        streams: &Streams,
    ) -> Result<(Framed, Charge), Status> {
        loop {
            let mut charge = streams.reserve(room).await?;
            // Boxed, so that a call that waits for room holds no memory for it.
            let answer = Box::pin(self.services.content.answer(asked.clone())).await?;
            room = answer.remaining();
            if charge.try_resize(room) {
                return Ok((answer, charge));
            }
        }
    }

    async fn watch<B>(
        &self,
        request: B,
        streams: &Streams,
        call: &mut Option<Call>,
        deadline: Option<Instant>,
    ) -> Result<Answered, Status>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<StdError>,
    {
        let place = streams.feed(self.feeds);
        let place = place.ok_or(Refusal::TooManyFeeds { of: "connection", most: self.feeds })?;
        let message = message::read(request, &limit::READ_REQUEST, streams).await?;
        let follower = self.services.feed.watch(message).await?;
        let pieces = stream::try_unfold((follower, place), |(mut follower, place)| async move {
            let piece = follower.next().await?;
            Ok(Some((piece, (follower, place))))
        });
        let drained = self.drained();
        let until = match deadline.map(expire) {
            Some(expired) => Box::pin(select(expired, drained).map(|first| first.factor_first().0)),
            None => drained,
        };
        hold(call, |holds| holds.endless = Some(streams.endless()));
        // A waiting piece needs no room of its own: it shares its bytes with the message that the follower holds
        // anyway.
        let pace = Pace::pieces(Charge::new(streams.clone(), 0), 0);
        Ok((taken(call, |call| Reply::stream(Box::pin(pieces), call, Some(until))), pace))
    }

    async fn route<B>(
        &self,
        method: &Method,
        request: Request<B>,
        streams: &Streams,
        call: &mut Option<Call>,
        deadline: Option<Instant>,
    ) -> Result<Answered, Status>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<StdError>,
    {
        if let Some(slots) = method.at_once {
            let slot = self.slot(slots)?;
            hold(call, |holds| holds.slot = Some(slot));
        }
        let stream = method.client_streams.then(|| ClientStream::new(self.drained(), self.longest));
        let (head, body) = request.into_parts();
        let body = Inbound::new(body, size(&head.headers), method.limit, streams.clone(), stream)?;
        let charge = match streams.try_charge(method.room.first) {
            Some(charge) => charge,
            None => {
                body.is_not_read()?;
                streams.reserve(method.room.first).await?
            }
        };
        // The memory of the request counts until the response is ready.
        let _request = (!method.client_streams).then(|| body.request());
        let Ok(response) = self.routes.clone().call(Request::from_parts(head, body)).await;
        let until = match deadline.filter(|_| method.streams) {
            Some(deadline) => Some(expire(deadline)),
            None => method.endless.then(|| self.drained()),
        };
        if method.endless {
            hold(call, |holds| holds.endless = Some(streams.endless()));
        }
        let refused = Status::from_header_map(response.headers());
        let oversized = refused.and_then(|status| rpc::oversized(&status, method.limit));
        if let Some(refusal) = oversized {
            return Err(refusal.into());
        }
        let pace = Pace::pieces(charge, method.room.next);
        Ok((taken(call, |call| Reply::routed(response, call, until)), pace))
    }

    fn slot(&self, slots: Slots) -> Result<OwnedSemaphorePermit, Refusal> {
        let (all, busy): (&Arc<Semaphore>, _) = match slots {
            Slots::Imports => (&self.memory.imports, "this node serves as many imports as it can"),
            Slots::Reflections => {
                (&self.memory.reflections, "this node has as many reflection streams as it can")
            }
        };
        all.clone().try_acquire_owned().map_err(|_| Refusal::Overloaded(busy))
    }
}

/// Returns the size of headers in bytes.
fn size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

impl Calls {
    /// Returns a future that completes with the status for open streams when the node drains.
    fn drained(&self) -> BoxFuture<'static, Status> {
        let (mut draining, health) = (self.draining.clone(), self.health.clone());
        Box::pin(async move {
            // The sender lives as long as the node: an error means that the node is gone, too.
            let _ = draining.wait_for(|draining| *draining).await;
            // Let a last message that is ready go first: it gives a health watcher the reason.
            tokio::task::yield_now().await;
            Refusal::of_shutdown(&health).into()
        })
    }
}

fn taken(call: &mut Option<Call>, reply: impl FnOnce(Call) -> Response<Reply>) -> Response<Reply> {
    reply(call.take().expect("a call is answered once"))
}

fn hold(call: &mut Option<Call>, set: impl FnOnce(&mut Holds)) {
    if let Some(call) = call {
        set(call.holds.get_or_insert_default());
    }
}

fn refused(status: Status, call: Option<Call>, streams: Streams) -> Answered {
    let pace = Pace::message(Charge::new(streams, 0));
    (taken(&mut { call }, |call| Reply::status(&status, call)), pace)
}

static GRPC_TIMEOUT: http::HeaderName = http::HeaderName::from_static("grpc-timeout");

/// Returns the time that the client allows for the call (gRPC over HTTP/2: `grpc-timeout`, 1 to 8 digits and a unit).
fn deadline(headers: &HeaderMap) -> Result<Option<Duration>, Refusal> {
    let Some(given) = headers.get(&GRPC_TIMEOUT) else { return Ok(None) };
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

/// Returns the result of a future, or DEADLINE_EXCEEDED. Most calls are ready immediately and never need a timer. The
/// future is pinned by the caller: if it were moved in here, its memory would be needed twice for as long as a stream
/// is open.
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

/// Returns a future that completes with the status for a stream at its deadline.
fn expire(deadline: Instant) -> BoxFuture<'static, Status> {
    Box::pin(tokio::time::sleep_until(deadline.into()).map(|()| deadline_exceeded()))
}

/// A call in flight. It is counted when dropped: with its final code, or as cancelled if the client ended it first.
pub(super) struct Call {
    method: Arc<Method>,
    code: Code,
    start: Instant,
    holds: Option<Box<Holds>>,
}

/// Resources that a call holds as long as it is open.
#[derive(Default)]
struct Holds {
    endless: Option<Endless>,
    slot: Option<OwnedSemaphorePermit>,
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
        Method { client_streams, ..Method::unknown(Metrics::new().of("a")) }
    }

    fn call() -> Call {
        Call { method: Arc::new(method(false)), code: Code::Cancelled, start: Instant::now(), holds: None }
    }

    #[test]
    fn every_method_that_is_served_is_described() {
        let checks = checks();
        let names: Vec<_> = checks.iter().map(|(name, _)| &name[..]).collect();
        for name in [
            "grpc.health.v1.Health/Check",
            "grpc.health.v1.Health/Watch",
            "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ] {
            assert!(names.contains(&name), "{name}: {names:?}");
        }
        let metrics = Metrics::new();
        let of = |method: &MethodDescriptor| Method::of_checks(method, metrics.of("a"));
        for (name, method) in &checks {
            let described = of(method);
            assert_eq!(described.limit.maximum, 4 << 10, "{name}");
            assert_eq!(described.client_streams, name.ends_with("Info"), "{name}");
        }
    }

    #[test]
    fn only_a_client_that_streams_may_take_longer_than_the_longest() {
        let start = Instant::now();
        let [soon, late] = [1, 100].map(|secs| start + Duration::from_secs(secs));
        let longest = Duration::from_secs(60);
        let bounds = |client_streams| {
            [None, Some(soon), Some(late)].map(|end| method(client_streams).bound(start, longest, end))
        };
        assert_eq!(bounds(false), [Some(start + longest), Some(soon), Some(start + longest)]);
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
