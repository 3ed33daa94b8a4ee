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

use bytes::Buf as _;
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, pending, select_all},
    stream,
};
use prost_reflect::{DescriptorPool, MethodDescriptor};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tonic::Status;

use super::{
    access_log::Observer,
    bridge::Bridge,
    call::{Call, CallResources},
    delivery::Pace,
    flight::Charge,
    head::{Head, RequestBody},
    inbound::{ClientStream, Inbound},
    memory::Memory,
    message,
    peer::{ClientCertificate, Listener},
    reply::Reply,
    streams::Streams,
};
use crate::{
    auth::{self, Access, Identity, Role},
    config::Config,
    content::{Read, RequestKey, Viewer},
    health::Health,
    model::limit::{self, Limit},
    refusal::Refusal,
    rpc::{self, content::ContentRpc, feed::FeedRpc},
    telemetry::RpcMetrics,
    wire::{Framed, POOL},
};

/// The calls of one core.
pub(super) struct Calls {
    methods: HashMap<String, Arc<Method>, foldhash::fast::RandomState>,
    /// The method for all unknown paths, so that a peer cannot create metric labels.
    other: Arc<Method>,
    services: Services,
    bridge: Bridge,
    /// The maximum number of open feeds on one connection.
    feeds: usize,
    /// The maximum time until the response, even if the client's deadline is later or missing.
    request_timeout: Duration,
    memory: Arc<Memory>,
    state: NodeState,
    /// Whether calls that write or show pending versions have a listener of their own.
    publishes_elsewhere: bool,
}

/// The state of the node that decides about calls.
pub(super) struct NodeState {
    pub(super) access: Arc<Access>,
    pub(super) draining: watch::Receiver<bool>,
    pub(super) health: Arc<Health>,
}

/// The services that are served here without tonic.
pub(super) struct Services {
    pub(super) content: ContentRpc,
    pub(super) feed: FeedRpc,
}

/// A method that is served here without tonic.
#[derive(Debug, Clone, Copy)]
enum NativeMethod {
    Read(Read),
    Watch,
}

/// A method of a service.
pub(super) struct Method {
    native: Option<NativeMethod>,
    /// `/package.Service/Method`; of an unknown method, a path that tonic does not know either.
    path: String,
    /// The role that a caller needs. `None`: anyone may call it.
    required_role: Option<Role>,
    /// Whether it writes or shows pending versions.
    publishes: bool,
    limit: &'static Limit,
    /// Whether the method writes. Its changes are attributed to the caller.
    pub(super) writes: bool,
    /// Whether the client streams its requests. It may then take its time.
    client_streams: bool,
    /// Whether the response is a stream, which may last until the client's deadline.
    pub(super) streams: bool,
    /// Whether the response ends only with the node, the client or its deadline.
    pub(super) endless: bool,
    reservation: Reservation,
    /// The node-wide limit on concurrent calls of the method, if it has one.
    quota: Option<Quota>,
    pub(super) metrics: RpcMetrics,
    pub(super) observer: Arc<Observer>,
}

/// Bytes that are reserved in the account of the connection: before the response is made, and before each further piece
/// of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reservation {
    first: usize,
    next: usize,
}

#[derive(Debug, Clone, Copy)]
enum Quota {
    Imports,
    Reflections,
}

impl Reservation {
    /// An entity with its includes, a page, a piece of a stream, and the response of a write. A larger response waits
    /// for more room, so these sizes need to fit only most responses.
    const ENTITY: Reservation = Reservation { first: 256 << 10, next: 0 };
    const PAGE: Reservation = Reservation { first: 2 << 20, next: 0 };
    const PIECES: Reservation = Reservation { first: 512 << 10, next: 512 << 10 };
    const WRITE: Reservation = Reservation { first: 4 << 10, next: 0 };

    fn of(method: &MethodDescriptor) -> Reservation {
        match method.name() {
            "StreamArticles" | "Export" => Reservation::PIECES,
            "GetPending" => Reservation::ENTITY,
            "BatchGetArticles" => Reservation::PAGE,
            name if name.starts_with("List") => Reservation::PAGE,
            name if name.starts_with("Get") || name.starts_with("Resolve") => Reservation::ENTITY,
            _ => Reservation::WRITE,
        }
    }
}

impl Method {
    /// Returns a method of one of our services.
    fn cable(method: &MethodDescriptor, metrics: RpcMetrics, observer: Arc<Observer>) -> Method {
        let service = method.parent_service();
        let native = match service.full_name() {
            "cable.v1.ContentService" => ContentRpc::read(method.name()).map(NativeMethod::Read),
            "cable.v1.FeedService" => Some(NativeMethod::Watch),
            _ => None,
        };
        let is_large =
            ["cable.v1.PublishingService", "cable.v1.TransferService"].contains(&service.full_name());
        Method {
            native,
            path: path(method),
            required_role: auth::required_role(&name(method)),
            publishes: auth::publishes(&name(method)),
            writes: auth::writes(&name(method)),
            limit: if is_large { &limit::WRITE_REQUEST } else { &limit::READ_REQUEST },
            client_streams: method.is_client_streaming(),
            streams: method.is_server_streaming(),
            endless: matches!(native, Some(NativeMethod::Watch)),
            reservation: Reservation::of(method),
            quota: method.is_client_streaming().then_some(Quota::Imports),
            metrics,
            observer,
        }
    }

    /// Returns a method of the health or reflection service.
    fn tonic(method: &MethodDescriptor, metrics: RpcMetrics, observer: Arc<Observer>) -> Method {
        Method {
            path: path(method),
            required_role: auth::required_role(&name(method)),
            client_streams: method.is_client_streaming(),
            streams: method.is_server_streaming(),
            endless: method.is_server_streaming(),
            quota: method.is_client_streaming().then_some(Quota::Reflections),
            ..Method::unknown(metrics, observer)
        }
    }

    fn unknown(metrics: RpcMetrics, observer: Arc<Observer>) -> Method {
        Method {
            native: None,
            path: "/".to_owned(),
            required_role: Some(Role::Reader),
            publishes: false,
            limit: &limit::CHECK_REQUEST,
            writes: false,
            client_streams: false,
            streams: false,
            endless: false,
            reservation: Reservation::WRITE,
            quota: None,
            metrics,
            observer,
        }
    }

    /// Returns the name of the method with that of its service. All unknown methods have the name `other`.
    pub(super) fn full_name(&self) -> &str {
        Some(self.path.trim_start_matches('/')).filter(|name| !name.is_empty()).unwrap_or("other")
    }

    /// Returns the name of the method, without that of its service.
    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Returns the time by which the response must be ready, or a streamed response must have started.
    fn response_deadline(
        &self,
        start: Instant,
        request_timeout: Duration,
        deadline: Option<Instant>,
    ) -> Option<Instant> {
        let timeout = (!self.client_streams).then(|| start + request_timeout);
        deadline.into_iter().chain(timeout).min()
    }
}

/// Returns the name of a method with that of its service.
fn name(method: &MethodDescriptor) -> String {
    format!("{}/{}", method.parent_service().full_name(), method.name())
}

/// Returns the path of a method.
fn path(method: &MethodDescriptor) -> String {
    format!("/{}", name(method))
}

fn list_methods(pool: &DescriptorPool) -> Vec<MethodDescriptor> {
    pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()).collect()
}

/// Returns the methods of the services of tonic's crates that a node has in addition to its own.
fn tonic_methods() -> Vec<MethodDescriptor> {
    let files = [
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let pools = files.into_iter().filter_map(|files| DescriptorPool::decode(files).ok());
    pools.flat_map(|pool| list_methods(&pool)).collect()
}

/// A reply, and the pace at which it is passed to the connection.
pub(super) type CallReply = (Reply, Pace);

/// A call of which only the head has been read.
struct Opened {
    call: Call,
    /// Why it is refused, if it is.
    admitted: Result<Admitted, Status>,
}

/// The parts of a head that determine how the call is served.
struct Admitted {
    deadline: Option<Instant>,
    head_bytes: usize,
}

impl Calls {
    pub(super) fn new(
        services: Services,
        bridge: Bridge,
        config: &Config,
        memory: Arc<Memory>,
        observer: Arc<Observer>,
        state: NodeState,
    ) -> Calls {
        let metrics = &observer.metrics;
        let own = list_methods(&POOL).into_iter().map(|method| {
            let metrics = metrics.for_method(&name(&method), method.is_server_streaming());
            Method::cable(&method, metrics, observer.clone())
        });
        let others = tonic_methods().into_iter();
        let unary = || metrics.for_method("other", false);
        let streamed = || metrics.for_method("other", true);
        let others = others.map(|method| {
            let metrics = if method.is_server_streaming() { streamed() } else { unary() };
            Method::tonic(&method, metrics, observer.clone())
        });
        let methods = own.chain(others).map(|method| (method.path.clone(), Arc::new(method)));
        Calls {
            methods: methods.collect(),
            other: Arc::new(Method::unknown(unary(), observer.clone())),
            services,
            bridge,
            feeds: config.connections.max_feeds,
            request_timeout: config.connections.request_timeout,
            memory,
            state,
            publishes_elsewhere: config.publish.listen.is_some(),
        }
    }

    /// Serves a call. Its head is needed only until this returns.
    pub(super) fn call<B: RequestBody>(
        self: Arc<Self>,
        head: &Head<'_>,
        body: B,
        streams: Streams,
    ) -> impl Future<Output = CallReply> + use<B> {
        let opened = self.open(head, &streams);
        async move { self.serve(opened, body, streams).await }
    }

    /// Decides from the head alone whether a call is served. The body of a refused call is never read.
    fn open(&self, head: &Head<'_>, streams: &Streams) -> Opened {
        let method = self.methods.get(head.path).unwrap_or(&self.other);
        let mut call = Call::new(method.clone(), head);
        let admitted = self.admit(&mut call, head, streams).map_err(Status::from);
        Opened { call, admitted }
    }

    fn admit(&self, call: &mut Call, head: &Head<'_>, streams: &Streams) -> Result<Admitted, Refusal> {
        if let Some(required) = call.method.required_role {
            let access = &self.state.access;
            call.caller =
                self.identify(head, streams).map_err(|refusal| access.count_failure(head.client, refusal))?;
            access.count_call(&call.caller, || head.client)?;
            call.caller.require(required, call.method.name())?;
            let elsewhere = self.publishes_elsewhere && streams.peer().listener == Listener::Main;
            if elsewhere && call.method.publishes {
                return Err(Refusal::NotServedHere(call.method.name().to_owned()));
            }
        }
        let timeout = head.timeout.map(parse_timeout).transpose()?;
        let deadline = timeout.and_then(|timeout| call.start.checked_add(timeout));
        Ok(Admitted { deadline, head_bytes: head.bytes })
    }

    /// Returns the caller of a call, which most calls know from the call before.
    fn identify(&self, head: &Head<'_>, streams: &Streams) -> Result<Identity, Refusal> {
        let certificate = streams.peer().certificate.as_ref();
        if head.authorization.is_none() && certificate.is_none() {
            return Ok(self.state.access.anonymous());
        }
        streams.caller(head.authorization, || {
            let names = certificate.into_iter().flat_map(ClientCertificate::names);
            self.state.access.identify(head.authorization, names)
        })
    }

    async fn serve(&self, opened: Opened, body: impl RequestBody, streams: Streams) -> CallReply {
        let Opened { call, admitted } = opened;
        let Admitted { deadline, head_bytes } = match admitted {
            Ok(admitted) => admitted,
            Err(status) => return reject(status, Some(call), streams),
        };
        let (method, start) = (call.method.clone(), call.start);
        let mut call = Some(call);
        let result = {
            let reply = pin!(async {
                match method.native {
                    Some(NativeMethod::Read(read)) => {
                        self.read((&method, read), body, &streams, &mut call, deadline).await
                    }
                    Some(NativeMethod::Watch) => {
                        Box::pin(self.watch(body, &streams, &mut call, deadline)).await
                    }
                    None => {
                        let route = self.route(&method, (head_bytes, body), &streams, &mut call, deadline);
                        Box::pin(route).await
                    }
                }
            });
            let bound = method.response_deadline(start, self.request_timeout, deadline);
            AssertUnwindSafe(with_deadline(bound, reply)).catch_unwind().await
        };
        match result.unwrap_or_else(|_| Err(rpc::internal("the call panicked"))) {
            Ok(reply) => reply,
            Err(status) => reject(status, call, streams),
        }
    }

    async fn read(
        &self,
        (method, read): (&Method, Read),
        body: impl RequestBody,
        streams: &Streams,
        call: &mut Option<Call>,
        deadline: Option<Instant>,
    ) -> Result<CallReply, Status> {
        let message = message::read(body, &limit::READ_REQUEST, streams).await?;
        if read == Read::StreamArticles {
            let charge = streams.reserve(method.reservation.first).await?;
            let stream = self.services.content.stream(message, viewer(call)).await?;
            let until = stream_end(call, deadline, None);
            let pace = Pace::pieces(charge, method.reservation.next);
            return Ok((reply(call, |call| Reply::stream(stream, call, until)), pace));
        }
        let scope = call.as_ref().and_then(|call| call.caller.scope()).map(|scope| scope.id());
        let key = RequestKey { read, scope, message };
        if let Some(cached) = self.services.content.get_cached(&key).await {
            let message = cached?;
            if let Some(charge) = streams.try_charge(message.remaining()) {
                return Ok((reply(call, |call| Reply::message(message, call)), Pace::message(charge)));
            }
        }
        // Boxed, because it is many times larger than the cached path above.
        let load = self.load_response(key, viewer(call), method.reservation.first, streams);
        let (message, charge) = Box::pin(load).await?;
        Ok((reply(call, |call| Reply::message(message, call)), Pace::message(charge)))
    }

    /// Returns a response with the charge for its bytes. Room is reserved before the response is made. A response that
    /// is larger than the available room is dropped and requested again when there is room. It is probably cached by
    /// then.
    async fn load_response(
        &self,
        key: RequestKey,
        viewer: Viewer,
        mut room: usize,
        streams: &Streams,
    ) -> Result<(Framed, Charge), Status> {
        loop {
            let mut charge = streams.reserve(room).await?;
            // Boxed, so that a call that waits for room holds no memory for it.
            let response = Box::pin(self.services.content.respond(key.clone(), &viewer)).await?;
            room = response.remaining();
            if charge.try_resize(room) {
                return Ok((response, charge));
            }
        }
    }

    async fn watch(
        &self,
        body: impl RequestBody,
        streams: &Streams,
        call: &mut Option<Call>,
        deadline: Option<Instant>,
    ) -> Result<CallReply, Status> {
        let permit = streams.try_open_feed(self.feeds);
        let permit = permit.ok_or(Refusal::TooManyFeeds { scope: "connection", maximum: self.feeds })?;
        let message = message::read(body, &limit::READ_REQUEST, streams).await?;
        let follower = self.services.feed.watch(message, &caller(call)).await?;
        let pieces = stream::try_unfold((follower, permit), |(mut follower, permit)| async move {
            let piece = follower.next().await?;
            Ok(Some((piece, (follower, permit))))
        });
        let until = stream_end(call, deadline, Some(self.drain_status()));
        attach(call, |resources| resources.endless = Some(streams.endless()));
        // A waiting piece needs no room of its own: it shares its bytes with the message that the follower holds
        // anyway.
        let pace = Pace::pieces(Charge::new(streams.clone(), 0), 0);
        Ok((reply(call, |call| Reply::stream(Box::pin(pieces), call, until)), pace))
    }

    async fn route<B: RequestBody>(
        &self,
        method: &Method,
        (head_bytes, body): (usize, B),
        streams: &Streams,
        call: &mut Option<Call>,
        deadline: Option<Instant>,
    ) -> Result<CallReply, Status> {
        if let Some(quota) = method.quota {
            let permit = self.acquire_permit(quota)?;
            attach(call, |resources| resources.permit = Some(permit));
        }
        let stream = method.client_streams.then(|| {
            let end = stream_end(call, None, Some(self.drain_status()));
            ClientStream::new(end.unwrap_or_else(|| Box::pin(pending())), self.request_timeout)
        });
        let body = Inbound::new(body, head_bytes, method.limit, streams.clone(), stream)?;
        let charge = match streams.try_charge(method.reservation.first) {
            Some(charge) => charge,
            None => {
                body.count_unread()?;
                streams.reserve(method.reservation.first).await?
            }
        };
        // The memory of the request counts until the response is ready.
        let _memory = (!method.client_streams).then(|| body.memory());
        let call_of_write = call.as_mut().filter(|_| method.writes);
        let origin = call_of_write.map(Call::origin).unwrap_or_default();
        let routed = self.bridge.call(&method.path, body, caller(call), origin).await;
        let routed = routed.map_err(|status| match rpc::message_too_large(&status, method.limit) {
            Some(refusal) => refusal.into(),
            None => status,
        })?;
        let drained = method.endless.then(|| self.drain_status());
        let until = if method.streams { stream_end(call, deadline, drained) } else { None };
        if method.endless {
            attach(call, |resources| resources.endless = Some(streams.endless()));
        }
        let pace = Pace::pieces(charge, method.reservation.next);
        Ok((reply(call, |call| Reply::routed(routed, call, until)), pace))
    }

    fn acquire_permit(&self, quota: Quota) -> Result<OwnedSemaphorePermit, Refusal> {
        let (all, exhausted): (&Arc<Semaphore>, _) = match quota {
            Quota::Imports => (&self.memory.imports, "too many concurrent imports on this node"),
            Quota::Reflections => {
                (&self.memory.reflections, "too many concurrent reflection streams on this node")
            }
        };
        all.clone().try_acquire_owned().map_err(|_| Refusal::Overloaded(exhausted))
    }
}

impl Calls {
    /// Returns a future that completes with the status for open streams when the node drains.
    fn drain_status(&self) -> BoxFuture<'static, Status> {
        let (mut draining, health) = (self.state.draining.clone(), self.state.health.clone());
        Box::pin(async move {
            // The sender lives as long as the node: an error means that the node is gone, too.
            let _ = draining.wait_for(|draining| *draining).await;
            // Let a last message that is ready go first: it gives a health watcher the reason.
            tokio::task::yield_now().await;
            Refusal::of_shutdown(&health).into()
        })
    }
}

/// Returns a future that completes with the status for a stream at its deadline, at the end of its caller's credential
/// and when the node drains.
fn stream_end(
    call: &Option<Call>,
    deadline: Option<Instant>,
    drained: Option<BoxFuture<'static, Status>>,
) -> Option<BoxFuture<'static, Status>> {
    let credential = call.as_ref().and_then(|call| call.caller.credential().cloned());
    let credential_ended = credential.map(|credential| -> BoxFuture<'static, Status> {
        Box::pin(async move {
            credential.wait_for_end().await;
            Refusal::Unauthenticated("the credential has expired or was revoked").into()
        })
    });
    let mut ends: Vec<_> =
        [deadline.map(deadline_status), credential_ended, drained].into_iter().flatten().collect();
    match ends.len() {
        0 | 1 => ends.pop(),
        _ => Some(Box::pin(select_all(ends).map(|(status, ..)| status))),
    }
}

fn reply(call: &mut Option<Call>, reply: impl FnOnce(Call) -> Reply) -> Reply {
    reply(call.take().expect("each call has exactly one reply"))
}

fn caller(call: &Option<Call>) -> Identity {
    call.as_ref().map_or(Identity::NOBODY, |call| call.caller.clone())
}

/// Returns the articles that the caller is limited to.
fn viewer(call: &Option<Call>) -> Viewer {
    call.as_ref().and_then(|call| call.caller.scope()).cloned()
}

fn attach(call: &mut Option<Call>, set: impl FnOnce(&mut CallResources)) {
    if let Some(call) = call {
        set(call.resources());
    }
}

fn reject(status: Status, mut call: Option<Call>, streams: Streams) -> CallReply {
    (reply(&mut call, |call| Reply::status(status, call)), Pace::message(Charge::new(streams, 0)))
}

/// Parses the time that the client allows for the call (gRPC over HTTP/2: `grpc-timeout`, 1 to 8 digits and a unit).
fn parse_timeout(text: &[u8]) -> Result<Duration, Refusal> {
    let parsed = text.split_last().and_then(|(unit, digits)| {
        if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let number = digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
        Some(match unit {
            b'H' => Duration::from_secs(number * 3_600),
            b'M' => Duration::from_secs(number * 60),
            b'S' => Duration::from_secs(number),
            b'm' => Duration::from_millis(number),
            b'u' => Duration::from_micros(number),
            b'n' => Duration::from_nanos(number),
            _ => return None,
        })
    });
    parsed
        .ok_or_else(|| Refusal::field("grpc-timeout", "must be 1 to 8 digits and one of H, M, S, m, u or n"))
}

/// Returns the result of a future, or DEADLINE_EXCEEDED. Most calls are ready immediately and never need a timer. The
/// future is pinned by the caller: if it were moved in here, its memory would be needed twice for as long as a stream
/// is open.
async fn with_deadline<T>(
    bound: Option<Instant>,
    mut response: Pin<&mut impl Future<Output = Result<T, Status>>>,
) -> Result<T, Status> {
    if let Poll::Ready(done) = poll_fn(|cx| Poll::Ready(response.as_mut().poll(cx))).await {
        return done;
    }
    let Some(bound) = bound else { return response.await };
    tokio::time::timeout_at(bound.into(), response).await.unwrap_or_else(|_| Err(deadline_exceeded()))
}

fn deadline_exceeded() -> Status {
    Status::deadline_exceeded("deadline exceeded")
}

/// Returns a future that completes with the status for a stream at its deadline.
fn deadline_status(deadline: Instant) -> BoxFuture<'static, Status> {
    Box::pin(tokio::time::sleep_until(deadline.into()).map(|()| deadline_exceeded()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::StreamExt as _;
    use http_body_util::{BodyExt as _, StreamBody};

    use tonic::Code;

    use super::{super::bridge::Routed, *};

    fn method(client_streams: bool) -> Method {
        let observer = Observer::for_test();
        let metrics = observer.metrics.for_method("a", false);
        Method { client_streams, ..Method::unknown(metrics, observer) }
    }

    fn call() -> Call {
        Call::new(Arc::new(method(false)), &Head::new("/", [127, 0, 0, 1].into()))
    }

    #[test]
    fn every_method_that_is_served_is_described() {
        let tonic_methods = tonic_methods();
        let paths: Vec<_> = tonic_methods.iter().map(path).collect();
        for name in [
            "grpc.health.v1.Health/Check",
            "grpc.health.v1.Health/Watch",
            "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ] {
            assert!(paths.contains(&format!("/{name}")), "{name}: {paths:?}");
        }
        let observer = Observer::for_test();
        let metrics = || observer.metrics.for_method("a", false);
        let of = |method: &MethodDescriptor| Method::tonic(method, metrics(), observer.clone());
        for method in &tonic_methods {
            let (name, described) = (path(method), of(method));
            assert_eq!(described.limit.maximum, 4 << 10, "{name}");
            assert_eq!(described.client_streams, name.ends_with("Info"), "{name}");
        }
    }

    #[test]
    fn only_a_client_stream_may_exceed_the_request_timeout() {
        let start = Instant::now();
        let [soon, late] = [1, 100].map(|secs| start + Duration::from_secs(secs));
        let request_timeout = Duration::from_secs(60);
        let bounds = |client_streams| {
            [None, Some(soon), Some(late)]
                .map(|end| method(client_streams).response_deadline(start, request_timeout, end))
        };
        assert_eq!(bounds(false), [Some(start + request_timeout), Some(soon), Some(start + request_timeout)]);
        assert_eq!(bounds(true), [None, Some(soon), Some(late)]);
    }

    #[test]
    fn grpc_timeout_is_parsed_as_specified() {
        let read = |text: &str| parse_timeout(text.as_bytes());
        for (text, duration) in [
            ("1H", Duration::from_secs(3_600)),
            ("2M", Duration::from_secs(120)),
            ("99999999S", Duration::from_secs(99_999_999)),
            ("0m", Duration::ZERO),
            ("5u", Duration::from_micros(5)),
            ("6n", Duration::from_nanos(6)),
        ] {
            assert_eq!(read(text).ok(), Some(duration), "{text}");
        }
        for text in ["", "S", "1", "1s", "123456789S", "-1S", "+1S", "1 S", "1.5S", "é"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_stream_that_panics_ends_with_internal() {
        let panics = || stream::poll_fn(|_| panic!("injected"));
        let native = Reply::stream(panics().boxed(), call(), None);
        let panics_too = stream::poll_fn(|_| -> Poll<Option<Result<_, Status>>> { panic!("injected") });
        let routed = Routed::new(tonic::body::Body::new(StreamBody::new(panics_too)));
        let routed = Reply::routed(routed, call(), None);
        let one = Framed::from(Bytes::from_static(b"one"));
        let later = stream::iter([Ok(one)]).chain(panics());
        let later = Reply::stream(later.boxed(), call(), None);
        for reply in [native, routed, later] {
            let trailers = reply.collect().await.unwrap().trailers().cloned().unwrap();
            assert_eq!(trailers["grpc-status"], (Code::Internal as i32).to_string());
        }
    }
}
