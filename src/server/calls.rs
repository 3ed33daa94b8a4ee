//! Handles every call: finds its method, responds within its deadline, and counts it with its final code. Reads and
//! feeds are served here, all other services by tonic.

use std::{
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
    future::{BoxFuture, pending, select_all},
    stream,
};
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
    methods::{Method, Methods, NativeMethod, Quota},
    peer::{ClientCertificate, Listener},
    reply::Reply,
    shedding::{CoreOverload, Cost},
    streams::{FeedPermit, Streams},
};
use crate::{
    auth::{Access, Identity},
    config::Config,
    content::{Form, Read, RequestKey, Viewer},
    feed,
    health::Health,
    model::limit,
    refusal::Refusal,
    rpc::{self, content::ContentRpc, feed::FeedRpc},
    supervise, web,
    wire::Framed,
};

pub(super) mod documents;
mod live;

/// The calls of one core.
pub(super) struct Calls {
    methods: Methods,
    services: Services,
    bridge: Bridge,
    /// The maximum number of open feeds on one connection.
    feeds: usize,
    /// The maximum time until the response, even if the client's deadline is later or missing.
    request_timeout: Duration,
    memory: Arc<Memory>,
    state: NodeState,
    pub(super) overload: CoreOverload,
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
        (state, overload): (NodeState, CoreOverload),
    ) -> Calls {
        Calls {
            methods: Methods::new(&observer),
            services,
            bridge,
            feeds: config.connections.max_feeds,
            request_timeout: config.connections.request_timeout,
            memory,
            state,
            overload,
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
        self.serve(opened, body, streams)
    }

    /// Decides from the head alone whether a call is served. The body of a refused call is never read.
    fn open(&self, head: &Head<'_>, streams: &Streams) -> Opened {
        let method = self.methods.find(head.path);
        let mut call = Call::new(method.clone(), head);
        let admitted = self.admit(&mut call, head, streams).map_err(Status::from);
        Opened { call, admitted }
    }

    fn admit(&self, call: &mut Call, head: &Head<'_>, streams: &Streams) -> Result<Admitted, Refusal> {
        if let Some(required) = call.method.required_role {
            let access = &self.state.access;
            call.caller =
                self.identify(head, streams).map_err(|refusal| access.count_failure(head.client, refusal))?;
            access.count_call(&call.caller, head.client)?;
            call.caller.require(required, call.method.name())?;
            let elsewhere = self.publishes_elsewhere && streams.peer().listener == Listener::Main;
            if elsewhere && call.method.publishes {
                return Err(Refusal::NotServedHere(call.method.name().to_owned()));
            }
        }
        self.overload.admit(call.method.cost)?;
        let timeout = head.timeout.map(parse_timeout).transpose()?;
        let deadline = timeout.and_then(|timeout| call.start.checked_add(timeout));
        Ok(Admitted { deadline, head_bytes: head.bytes })
    }

    /// Returns the caller of a call, which most calls know from the call before.
    fn identify(&self, head: &Head<'_>, streams: &Streams) -> Result<Identity, Refusal> {
        let certificate = streams.peer().certificate.as_ref();
        streams.caller(head.authorization, || {
            let names = certificate.into_iter().flat_map(ClientCertificate::names);
            self.state.access.identify(head.authorization, names)
        })
    }

    async fn serve(self: Arc<Self>, opened: Opened, body: impl RequestBody, streams: Streams) -> CallReply {
        let Opened { call, admitted } = opened;
        let Admitted { deadline, head_bytes } = match admitted {
            Ok(admitted) => admitted,
            Err(status) => return reject(status, Some(call), streams),
        };
        let (method, start) = (call.method.clone(), call.start);
        let mut call = Some(call);
        let result = {
            let reply = pin!(async {
                supervise::failpoint(&method.path, &self.state.health);
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
            let charge = self.reserve(method, method.reservation.first, streams).await?;
            let stream = self.services.content.stream(message, viewer(call)).await?;
            let until = stream_end(call, deadline, None);
            let pace = Pace::pieces(charge, method.reservation.next);
            return Ok((reply(call, |call| Reply::stream(stream, call, until)), pace));
        }
        let scope = call.as_ref().and_then(|call| call.caller.scope()).map(|scope| scope.id());
        let key = RequestKey { read, form: Form::Message, scope, message };
        let room = match self.services.content.get_cached(&key).await {
            Some(cached) => {
                let message = cached?;
                if let Some(charge) = streams.try_charge(message.remaining()) {
                    return Ok((reply(call, |call| Reply::message(message, call)), Pace::message(charge)));
                }
                message.remaining()
            }
            None => {
                self.overload.admit_load()?;
                method.reservation.first
            }
        };
        // Boxed, because it is many times larger than the cached path above.
        let load = self.load_response(key, (viewer(call), room), method, streams);
        let (message, charge) = Box::pin(load).await?;
        Ok((reply(call, |call| Reply::message(message, call)), Pace::message(charge)))
    }

    /// Returns a response with the charge for its bytes. `room` is reserved before the response is made. A response that
    /// is larger than the available room is dropped and requested again when there is room. It is probably cached by
    /// then.
    async fn load_response(
        &self,
        key: RequestKey,
        (viewer, room): (Viewer, usize),
        method: &Method,
        streams: &Streams,
    ) -> Result<(Framed, Charge), Status> {
        let mut charge = self.reserve(method, room, streams).await?;
        loop {
            // Boxed, so that a call that waits for room holds no memory for it.
            let response = Box::pin(self.services.content.respond(key.clone(), &viewer)).await?;
            let bytes = response.remaining();
            if charge.try_resize(bytes) {
                return Ok((response, charge));
            }
            drop(response);
            charge.try_resize(0);
            charge = streams.reserve(charge, bytes).await?;
        }
    }

    /// Reserves room for a response before it is made. The time until its first bytes are written counts as a delay of the
    /// connection if it is a read.
    ///
    /// # Errors
    /// The node is overloaded, or peers do not read the responses that they were sent.
    async fn reserve(&self, method: &Method, bytes: usize, streams: &Streams) -> Result<Charge, Refusal> {
        self.overload.admit_delayed(method.cost, streams.loads().delay())?;
        let is_measured = matches!(method.cost, Cost::Read | Cost::Stream);
        let charge =
            if is_measured { Charge::timed(streams.clone()) } else { Charge::new(streams.clone(), 0) };
        streams.reserve(charge, bytes).await
    }

    async fn watch(
        &self,
        body: impl RequestBody,
        streams: &Streams,
        call: &mut Option<Call>,
        deadline: Option<Instant>,
    ) -> Result<CallReply, Status> {
        let permit = self.open_feed(streams)?;
        let message = message::read(body, &limit::READ_REQUEST, streams).await?;
        self.follow((message, feed::Form::Grpc), permit, streams, call, deadline).await
    }

    /// Counts a feed of a connection.
    fn open_feed(&self, streams: &Streams) -> Result<FeedPermit, Refusal> {
        let permit = streams.try_open_feed(self.feeds);
        permit.ok_or(Refusal::TooManyFeeds { scope: "connection", maximum: self.feeds })
    }

    /// Serves an encoded WatchRequest with messages of a form.
    async fn follow(
        &self,
        (message, form): (Bytes, feed::Form),
        permit: FeedPermit,
        streams: &Streams,
        call: &mut Option<Call>,
        deadline: Option<Instant>,
    ) -> Result<CallReply, Status> {
        let follower = self.services.feed.watch(message, form, &caller(call)).await;
        let follower = follower.map_err(|refusal| match form {
            feed::Form::Grpc => refusal,
            feed::Form::Event => web::live::name_fault(refusal),
        })?;
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
                self.reserve(method, method.reservation.first, streams).await?
            }
        };
        // The memory of the request counts until the response is ready.
        let _memory = (!method.client_streams).then(|| body.memory());
        let at_publishing = streams.peer().listener == Listener::Publishing;
        let shows_pending = rpc::ShowsPending(at_publishing || !self.publishes_elsewhere);
        let audited = call.as_mut().filter(|_| method.audited);
        let origin = audited.map(Call::origin).unwrap_or_default();
        let routed = self.bridge.call(&method.path, body, caller(call), shows_pending, origin).await;
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
    let caller = caller(call);
    let rights_ended = caller.can_end().then(|| -> BoxFuture<'static, Status> {
        Box::pin(async move {
            caller.wait_for_end().await;
            Refusal::Unauthenticated("the credential has expired or was revoked").into()
        })
    });
    let mut ends: Vec<_> =
        [deadline.map(deadline_status), rights_ended, drained].into_iter().flatten().collect();
    match ends.len() {
        0 | 1 => ends.pop(),
        _ => Some(Box::pin(select_all(ends).map(|(status, ..)| status))),
    }
}

fn reply(call: &mut Option<Call>, reply: impl FnOnce(Call) -> Reply) -> Reply {
    reply(call.take().expect("each call has exactly one reply"))
}

fn caller(call: &Option<Call>) -> Identity {
    call.as_ref().map_or(Identity::Nobody, |call| call.caller.clone())
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

    fn call() -> Call {
        let methods = Methods::new(&Observer::for_test());
        Call::new(methods.find("/").clone(), &Head::new("/", [127, 0, 0, 1].into()))
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
