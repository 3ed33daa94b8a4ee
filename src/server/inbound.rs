//! The request body of a call that tonic serves: limits on its memory and its time.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::time::{Sleep, sleep};
use tonic::Status;

use super::{head::RequestBody, message, streams::Streams};
use crate::{model::limit::Limit, refusal::Refusal, wire::framed::PREFIX};

/// Bytes of memory of a call that waits for its request, besides the bytes received: its stream, its task and the table
/// of its headers.
const PENDING_CALL_BYTES: usize = 8 << 10;

/// Bytes of messages that one connection may be reading at once: two of the largest.
const MAX_CLAIMED_BYTES: usize = 8 << 20;

/// Bytes that a call that is not read may have received: its window.
const UNREAD_CALL_BYTES: usize = 64 << 10;

/// Bytes of requests that a connection holds until this is dropped.
#[derive(Debug)]
pub(super) struct HeldBytes {
    streams: Streams,
    bytes: usize,
}

impl HeldBytes {
    /// Counts a call that has to wait for its request.
    ///
    /// # Errors
    /// The connection, or the node, holds too much already.
    pub(super) fn new(streams: Streams) -> Result<HeldBytes, Refusal> {
        let mut held = HeldBytes { streams, bytes: 0 };
        held.add(PENDING_CALL_BYTES)?;
        Ok(held)
    }

    /// Counts received bytes.
    ///
    /// # Errors
    /// The connection, or the node, holds too much already.
    pub(super) fn add(&mut self, more: usize) -> Result<(), Refusal> {
        if !self.streams.requests().try_hold(more, 0) {
            return Err(Refusal::Overloaded("too many incomplete requests"));
        }
        self.bytes += more;
        Ok(())
    }

    fn shrink_to(&mut self, bytes: usize) {
        self.streams.requests().release(self.bytes - bytes);
        self.bytes = bytes;
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

/// The permission to read a message of this size, until this is dropped. A call that waits for it holds only its
/// window, and a call that has it can always finish.
#[derive(Debug)]
struct Claim {
    streams: Streams,
    bytes: usize,
}

impl Claim {
    fn try_new(streams: &Streams, bytes: usize) -> Option<Claim> {
        let claimed = streams.claimed().load(Relaxed);
        if claimed > 0 && claimed + bytes > MAX_CLAIMED_BYTES {
            return None;
        }
        streams.claimed().fetch_add(bytes, Relaxed);
        Some(Claim { streams: streams.clone(), bytes })
    }

    async fn wait(streams: Streams, bytes: usize) -> Claim {
        streams.wait_for_room(|| Claim::try_new(&streams, bytes)).await
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.streams.claimed().fetch_sub(self.bytes, Relaxed);
        self.streams.notify_room();
    }
}

/// The memory of a request. Its call shares it, because a message that has been read stays in memory until the call has
/// its response.
#[derive(Debug)]
pub(super) struct RequestMemory {
    held: HeldBytes,
    claim: Option<Claim>,
}

pub(super) type SharedMemory = Arc<Mutex<RequestMemory>>;

/// The body of a request, within its limits.
pub(super) struct Inbound<B> {
    body: Pin<Box<B>>,
    limit: &'static Limit,
    streams: Streams,
    memory: SharedMemory,
    /// Bytes that the request holds without any message.
    base_bytes: usize,
    prefix: Vec<u8>,
    /// Bytes that the current message still needs.
    remaining: usize,
    /// The number of complete messages.
    messages: u64,
    /// Data that waits for a claim.
    pending: Option<(Bytes, BoxFuture<'static, Claim>)>,
    /// The state of a client stream. None if the client sends one message.
    stream: Option<ClientStream>,
}

/// The limits of a client stream.
pub(super) struct ClientStream {
    /// Completes when the node drains.
    draining: BoxFuture<'static, Status>,
    /// The maximum time until the next message is complete.
    message_timeout: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl ClientStream {
    pub(super) fn new(draining: BoxFuture<'static, Status>, message_timeout: Duration) -> ClientStream {
        ClientStream { draining, message_timeout, timer: None }
    }
}

impl<B> Inbound<B> {
    /// Creates the body. `headers` is the size of the call's headers in bytes.
    ///
    /// # Errors
    /// The connection, or the node, holds too much already.
    pub(super) fn new(
        body: B,
        headers: usize,
        limit: &'static Limit,
        streams: Streams,
        stream: Option<ClientStream>,
    ) -> Result<Inbound<B>, Refusal> {
        let mut held = HeldBytes::new(streams.clone())?;
        held.add(headers)?;
        let base_bytes = held.bytes;
        Ok(Inbound {
            body: Box::pin(body),
            limit,
            streams,
            memory: Arc::new(Mutex::new(RequestMemory { held, claim: None })),
            base_bytes,
            prefix: Vec::new(),
            remaining: 0,
            messages: 0,
            pending: None,
            stream,
        })
    }

    /// Returns the memory of the request, to be held until the response is ready.
    pub(super) fn memory(&self) -> SharedMemory {
        self.memory.clone()
    }

    /// Counts the bytes that may arrive while the body has to wait.
    ///
    /// # Errors
    /// The connection, or the node, holds too much already.
    pub(super) fn count_unread(&self) -> Result<(), Refusal> {
        lock(&self.memory).held.add(UNREAD_CALL_BYTES)
    }

    /// Scans the messages in a piece of data. If a message starts in it and continues after it, returns the size of
    /// that message.
    fn scan(&mut self, mut data: &[u8]) -> Result<Option<usize>, Status> {
        let mut incomplete = None;
        while !data.is_empty() {
            if self.remaining == 0 {
                let missing = (PREFIX - self.prefix.len()).min(data.len());
                self.prefix.extend_from_slice(&data[..missing]);
                data = &data[missing..];
                let [flag, a, b, c, d] = self.prefix[..] else { break };
                if flag != 0 {
                    return Err(message::compressed());
                }
                self.prefix.clear();
                self.remaining = u32::from_be_bytes([a, b, c, d]) as usize;
                if self.remaining as u64 > self.limit.maximum {
                    let (limit, value) = (self.limit, self.remaining as u64);
                    return Err(Refusal::Limit { field: "request".into(), limit, value }.into());
                }
                incomplete = Some(self.remaining);
            }
            let taken = self.remaining.min(data.len());
            self.remaining -= taken;
            data = &data[taken..];
            if self.remaining == 0 {
                incomplete = None;
                self.finish_message();
            }
        }
        Ok(incomplete)
    }

    /// Records that a message is complete.
    fn finish_message(&mut self) {
        self.messages += 1;
        if let Some(stream) = &mut self.stream {
            stream.timer = None;
        }
    }

    /// Counts a piece of data, and claims the message that continues after it. Returns None if the data waits for the
    /// claim.
    fn accept(&mut self, data: Bytes) -> Result<Option<Bytes>, Status> {
        if self.stream.is_some() && self.remaining == 0 && self.prefix.is_empty() {
            // The previous messages have been consumed.
            let mut memory = lock(&self.memory);
            memory.held.shrink_to(self.base_bytes);
            memory.claim = None;
        }
        let incomplete = self.scan(&data)?;
        let mut memory = lock(&self.memory);
        memory.held.add(data.len())?;
        let Some(size) = incomplete else { return Ok(Some(data)) };
        match Claim::try_new(&self.streams, size) {
            Some(claim) => memory.claim = Some(claim),
            None => {
                memory.held.add(UNREAD_CALL_BYTES)?;
                let claim = Box::pin(Claim::wait(self.streams.clone(), size));
                self.pending = Some((data, claim));
                return Ok(None);
            }
        }
        Ok(Some(data))
    }

    /// Whether a message has started and is not complete.
    fn is_within_message(&self) -> bool {
        self.remaining > 0 || !self.prefix.is_empty()
    }

    /// Ready with the status that ends a client stream: the node drains between two messages, or the next message takes
    /// too long.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        let Some(stream) = &mut self.stream else { return Poll::Pending };
        if self.remaining == 0
            && self.prefix.is_empty()
            && let Poll::Ready(status) = stream.draining.as_mut().poll(cx)
        {
            return Poll::Ready(status);
        }
        let message_timeout = stream.message_timeout;
        let timer = stream.timer.get_or_insert_with(|| Box::pin(sleep(message_timeout)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Status::deadline_exceeded("no complete request message within the request timeout"))
    }
}

fn lock(memory: &SharedMemory) -> std::sync::MutexGuard<'_, RequestMemory> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<B: RequestBody> Inbound<B> {
    /// Returns the next bytes, within the limits.
    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        loop {
            if let Some((data, claim)) = &mut self.pending {
                let claim = ready!(claim.as_mut().poll(cx));
                let data = std::mem::take(data);
                lock(&self.memory).claim = Some(claim);
                self.pending = None;
                return Poll::Ready(Some(Ok(data)));
            }
            let data = match self.body.as_mut().poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => data,
                Poll::Ready(None) if self.is_within_message() => {
                    (self.remaining, self.prefix) = (0, Vec::new());
                    let problem = format!("incomplete: the stream ends within message {}", self.messages + 1);
                    return Poll::Ready(Some(Err(Refusal::field("request", problem).into())));
                }
                Poll::Ready(end_or_error) => return Poll::Ready(end_or_error),
                Poll::Pending => {
                    let status = ready!(self.poll_end(cx));
                    self.stream = None;
                    return Poll::Ready(Some(Err(status)));
                }
            };
            match self.accept(data) {
                Ok(Some(data)) => return Poll::Ready(Some(Ok(data))),
                Ok(None) => {}
                Err(status) => return Poll::Ready(Some(Err(status))),
            }
        }
    }

    /// Whether there are no more bytes.
    pub(super) fn is_end(&self) -> bool {
        self.pending.is_none() && !self.is_within_message() && self.body.is_end()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};
    use http_body::Frame;
    use http_body_util::{BodyExt as _, StreamBody};
    use tokio::time::Instant;

    use super::*;
    use crate::{config::Connections, model::limit::WRITE_REQUEST, server::transport::HttpBody};

    type Pieces = Vec<Vec<u8>>;

    fn streams() -> Streams {
        Streams::for_test(&Connections::default())
    }

    fn body(pieces: Pieces, streams: &Streams, client_streams: bool) -> Inbound<impl RequestBody + use<>> {
        let frame = |piece| Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from(piece)));
        let pieces = pieces.into_iter().map(frame);
        let body = StreamBody::new(stream::iter(pieces).chain(stream::pending()));
        let stream = client_streams
            .then(|| ClientStream::new(Box::pin(std::future::pending()), Duration::from_millis(100)));
        Inbound::new(HttpBody(body), 0, &WRITE_REQUEST, streams.clone(), stream).unwrap()
    }

    fn message(size: usize) -> Vec<u8> {
        [&[0], &(size as u32).to_be_bytes()[..], &vec![7; size]].concat()
    }

    #[tokio::test]
    async fn messages_are_counted_however_they_are_split() {
        let all = [message(10), message(0), message(300), message(4)].concat();
        for cut in [1, 3, 5, 6, 100, all.len()] {
            let streams = streams();
            let pieces: Pieces = all.chunks(cut).map(<[u8]>::to_vec).collect();
            let count = pieces.len();
            let mut inbound = body(pieces, &streams, false);
            let mut read = Vec::new();
            for _ in 0..count {
                read.extend(inbound.frame().await.unwrap().unwrap().into_data().unwrap());
            }
            assert_eq!((read.len(), inbound.remaining, inbound.prefix.len()), (all.len(), 0, 0), "{cut}");
            assert_eq!(streams.requests().held(), PENDING_CALL_BYTES + all.len(), "{cut}");
            drop(inbound);
            assert_eq!((streams.requests().held(), streams.claimed().load(Relaxed)), (0, 0), "{cut}");
        }
    }

    #[tokio::test]
    async fn a_stream_that_ends_within_a_message_is_refused() {
        let all = [message(3), message(0), message(4)].concat();
        let boundaries = [0, 8, 13, all.len()];
        for end in 0..=all.len() {
            let pieces =
                [Ok::<_, std::convert::Infallible>(Frame::data(Bytes::copy_from_slice(&all[..end])))];
            let source = HttpBody(StreamBody::new(stream::iter(pieces)));
            let mut inbound = Inbound::new(source, 0, &WRITE_REQUEST, streams(), None).unwrap();
            assert_eq!(inbound.frame().await.unwrap().unwrap().into_data().unwrap(), all[..end]);
            let Some(at_end) = inbound.frame().await else {
                assert!(boundaries.contains(&end), "{end}");
                continue;
            };
            let status = at_end.unwrap_err().downcast::<Status>().unwrap();
            assert_eq!(status.code(), tonic::Code::InvalidArgument, "{end}");
            let number = boundaries.iter().filter(|boundary| **boundary < end).count();
            assert!(status.message().ends_with(&format!("within message {number}")), "{end}: {status:?}");
            assert!(!boundaries.contains(&end) && inbound.frame().await.is_none(), "{end}");
        }
    }

    #[tokio::test]
    async fn a_third_large_message_waits_for_a_response() {
        let streams = streams();
        let incomplete = message(4 << 20)[..100].to_vec();
        let mut bodies: Vec<_> = (0..3).map(|_| body(vec![incomplete.clone()], &streams, false)).collect();
        let mut third = bodies.pop().unwrap();
        for body in &mut bodies {
            body.frame().await.unwrap().unwrap();
        }
        assert!(futures_util::poll!(third.frame()).is_pending());
        bodies.pop();
        assert!(third.frame().await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn an_announced_length_above_the_limit_is_refused() {
        let mut inbound = body(vec![b"\0\xff\xff\xff\xff".to_vec()], &streams(), false);
        let error = inbound.frame().await.unwrap().unwrap_err();
        let status = error.downcast::<Status>().unwrap();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
    }

    #[tokio::test]
    async fn a_client_stream_has_a_timeout_for_each_message() {
        for pieces in [vec![], vec![message(3)], vec![message(3), message(9)[..6].to_vec()]] {
            let passed = pieces.len();
            let mut inbound = body(pieces, &streams(), true);
            for _ in 0..passed {
                assert!(inbound.frame().await.unwrap().is_ok());
            }
            let start = Instant::now();
            let error = inbound.frame().await.unwrap().unwrap_err();
            assert_eq!(error.downcast::<Status>().unwrap().code(), tonic::Code::DeadlineExceeded);
            assert!(start.elapsed() >= Duration::from_millis(100), "only the wait for the message counts");
        }
    }

    #[tokio::test]
    async fn a_stream_ends_between_two_messages_when_the_node_drains() {
        for (last, ends) in [(message(3), true), (message(3)[..6].to_vec(), false)] {
            let mut inbound = body(vec![message(3), last], &streams(), true);
            inbound.stream.as_mut().unwrap().draining =
                Box::pin(std::future::ready(Status::from(Refusal::Draining)));
            for _ in 0..2 {
                assert!(inbound.frame().await.unwrap().is_ok());
            }
            let next = futures_util::poll!(inbound.frame());
            assert_eq!(matches!(next, Poll::Ready(Some(Err(_)))), ends);
        }
    }
}
