//! Thousands of followers, reduced to bytes so that they leave the machine to the server. One thread per connection
//! reads the messages, records their time, and parses nothing but the revision.

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use prost::encoding::{WireType, decode_key, decode_varint};

use crate::{
    Outcome,
    wire::{
        ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, client_preface,
        put_frame,
    },
};

/// The time limit of each step.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);

/// Fields of WatchResponse, and of its Position.
const POSITION: u32 = 1;
const REVISION: u32 = 2;
const CHANGES: u32 = 2;

/// A feed and how it is requested.
#[derive(Debug, Clone, Copy)]
pub(super) enum Feed<'a> {
    /// A Watch with this request.
    Watch(&'a [u8]),
    /// A GET of this target, to which the response is server-sent events.
    Events(&'a str),
}

/// The records of all followers.
pub(super) struct Recorder {
    epoch: Instant,
    /// The revision of the first publish.
    base: AtomicI64,
    /// The start of each publish in nanoseconds since the epoch.
    started: Box<[AtomicU64]>,
    /// The number of followers that have received each publish.
    received: Box<[AtomicU64]>,
    /// The time at which the last of them received it, in nanoseconds since the epoch.
    last: Box<[AtomicU64]>,
    /// The number of messages that were repeated or out of order.
    repeated: AtomicU64,
    /// The number of feeds that have caught up.
    ready: AtomicU64,
    /// The number of streams and connections that broke.
    broken: AtomicU64,
    changed: Condvar,
    lock: Mutex<()>,
}

impl Recorder {
    fn new(publishes: usize) -> Recorder {
        let zeros = || (0..publishes).map(|_| AtomicU64::new(0)).collect();
        Recorder {
            epoch: Instant::now(),
            base: AtomicI64::new(i64::MAX),
            started: zeros(),
            received: zeros(),
            last: zeros(),
            repeated: AtomicU64::new(0),
            ready: AtomicU64::new(0),
            broken: AtomicU64::new(0),
            changed: Condvar::new(),
            lock: Mutex::new(()),
        }
    }

    fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// Records the start of the publish with this number.
    pub(super) fn record_start(&self, publish: usize) {
        self.started[publish].store(self.now(), Ordering::Relaxed);
    }

    fn record(&self, revision: i64, delays: &mut Vec<u32>) {
        let publish = usize::try_from(revision - self.base.load(Ordering::Relaxed)).ok();
        let Some(publish) = publish.filter(|publish| *publish < self.received.len()) else { return };
        let now = self.now();
        self.last[publish].fetch_max(now, Ordering::Relaxed);
        delays.push(((now - self.started[publish].load(Ordering::Relaxed)) / 1_000) as u32);
        self.received[publish].fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until `followers` followers have received a publish. Returns the time until the last of them.
    ///
    /// # Errors
    /// Fails if they have not received it in time.
    pub(super) fn wait_for_all(&self, publish: usize, followers: u64) -> Outcome<Duration> {
        let count = || self.received[publish].load(Ordering::Relaxed);
        self.wait(|| count() >= followers).map_err(|error| {
            let broken = self.broken.load(Ordering::Relaxed);
            format!("{error}: {} of {followers} received publish {publish}; {broken} feeds broke", count())
        })?;
        let [last, started] = [&self.last, &self.started].map(|times| times[publish].load(Ordering::Relaxed));
        Ok(Duration::from_nanos(last - started))
    }

    fn wait(&self, condition: impl Fn() -> bool) -> Outcome<()> {
        let start = Instant::now();
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        while !condition() {
            if start.elapsed() > STEP_TIMEOUT {
                return Err("timed out waiting for followers".into());
            }
            let waited = self.changed.wait_timeout(guard, Duration::from_millis(1));
            (guard, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }
}

/// Followers of one feed.
pub(super) struct Followers {
    pub(super) recorder: Arc<Recorder>,
    pub(super) count: u64,
    connections: Vec<TcpStream>,
    readers: Vec<JoinHandle<Result<Vec<u32>, String>>>,
}

/// The deliveries to all followers.
pub(super) struct Deliveries {
    /// The time from the start of a publish until a follower received it, in microseconds.
    pub(super) delays: Vec<u32>,
    pub(super) repeated: u64,
    pub(super) broken: u64,
}

impl Followers {
    /// Opens feeds on connections, an equal number on each, and waits until all have caught up.
    ///
    /// # Errors
    /// Fails if a feed is rejected.
    pub(super) fn open(
        address: SocketAddr,
        feed: Feed<'_>,
        connections: usize,
        feeds_per_connection: usize,
        publishes: usize,
    ) -> Outcome<Followers> {
        let recorder = Arc::new(Recorder::new(publishes));
        let (mut streams, mut readers) = (Vec::new(), Vec::new());
        let sends_events = matches!(feed, Feed::Events(_));
        for _ in 0..connections {
            let stream = connect(address, feed, feeds_per_connection)?;
            let (reading, recorder) = (stream.try_clone()?, recorder.clone());
            let reader = thread::Builder::new().stack_size(256 << 10);
            readers.push(reader.spawn(move || {
                Reader::new(reading, &recorder, sends_events).run().map_err(|error| error.to_string())
            })?);
            streams.push(stream);
        }
        let count = (connections * feeds_per_connection) as u64;
        recorder.wait(|| recorder.ready.load(Ordering::Relaxed) >= count)?;
        Ok(Followers { recorder, count, connections: streams, readers })
    }

    /// Sets the revision of the first publish.
    pub(super) fn expect(&self, base: i64) {
        self.recorder.base.store(base, Ordering::Relaxed);
    }

    /// Closes all feeds.
    ///
    /// # Errors
    /// Fails if a reader failed.
    pub(super) fn close(self) -> Outcome<Deliveries> {
        let (repeated, broken) = (&self.recorder.repeated, &self.recorder.broken);
        let (repeated, broken) = (repeated.load(Ordering::Relaxed), broken.load(Ordering::Relaxed));
        for connection in &self.connections {
            // A connection that is closed already was counted as broken.
            let _closed = connection.shutdown(Shutdown::Both);
        }
        let mut delays = Vec::new();
        for reader in self.readers {
            delays.append(&mut reader.join().map_err(|_| "a reader panicked")??);
        }
        Ok(Deliveries { delays, repeated, broken })
    }
}

/// Opens feeds on one connection. Nothing is read yet.
///
/// # Errors
/// Fails if no server listens there.
pub(super) fn connect(address: SocketAddr, feed: Feed<'_>, feeds: usize) -> Outcome<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut out = client_preface();
    let block = headers(address, feed);
    for number in 0..feeds {
        let id = u32::try_from(2 * number + 1)?;
        match feed {
            Feed::Watch(request) => {
                let body = [&[0], &u32::try_from(request.len())?.to_be_bytes()[..], request].concat();
                put_frame(&mut out, HEADERS, END_HEADERS, id, &block);
                put_frame(&mut out, DATA, END_STREAM, id, &body);
            }
            Feed::Events(_) => put_frame(&mut out, HEADERS, END_HEADERS | END_STREAM, id, &block),
        }
    }
    stream.write_all(&out)?;
    Ok(stream)
}

/// Returns the headers of a request, without entries in the dynamic table (RFC 7541, 6.2.2).
fn headers(address: SocketAddr, feed: Feed<'_>) -> Vec<u8> {
    let (method, path) = match feed {
        Feed::Watch(_) => (0x83, "/cable.v1.FeedService/Watch"),
        Feed::Events(target) => (0x82, target),
    };
    let mut block = vec![method, 0x86];
    let mut put = |name: &[u8], value: &str| {
        block.extend(name);
        block.push(value.len() as u8);
        block.extend(value.as_bytes());
    };
    put(&[0x04], path);
    put(&[0x01], &address.to_string());
    if matches!(feed, Feed::Watch(_)) {
        put(&[0x0f, 0x10], "application/grpc");
        put(b"\x00\x02te", "trailers");
    }
    block
}

/// The reader of one connection.
struct Reader<'a> {
    stream: TcpStream,
    recorder: &'a Recorder,
    /// Whether the messages are server-sent events.
    reads_events: bool,
    buffer: Vec<u8>,
    /// The received bytes of incomplete messages, by stream.
    parts: HashMap<u32, Vec<u8>>,
    /// The newest revision, by stream.
    seen: HashMap<u32, i64>,
    delays: Vec<u32>,
}

impl Reader<'_> {
    fn new(stream: TcpStream, recorder: &Recorder, reads_events: bool) -> Reader<'_> {
        let (parts, seen) = (HashMap::new(), HashMap::new());
        Reader { stream, recorder, reads_events, buffer: Vec::new(), parts, seen, delays: Vec::new() }
    }

    fn run(mut self) -> Outcome<Vec<u32>> {
        let mut chunk = vec![0; 64 << 10];
        loop {
            let read = self.stream.read(&mut chunk).unwrap_or(0);
            if read == 0 {
                self.recorder.broken.fetch_add(1, Ordering::Relaxed);
                return Ok(self.delays);
            }
            self.buffer.extend_from_slice(&chunk[..read]);
            self.frames()?;
            self.recorder.changed.notify_all();
        }
    }

    fn frames(&mut self) -> Outcome<()> {
        let buffer = std::mem::take(&mut self.buffer);
        let mut rest = &buffer[..];
        while let [a, b, c, kind, flags, s0, s1, s2, s3, after @ ..] = rest {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            let Some((payload, after)) = after.split_at_checked(length) else { break };
            self.frame(*kind, *flags, u32::from_be_bytes([*s0, *s1, *s2, *s3]), payload)?;
            rest = after;
        }
        self.buffer = rest.to_vec();
        Ok(())
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Outcome<()> {
        match kind {
            DATA => self.data(stream, payload)?,
            SETTINGS if flags & ACK == 0 => self.acknowledge(SETTINGS, &[])?,
            PING if flags & ACK == 0 => self.acknowledge(PING, payload)?,
            RST_STREAM | GOAWAY => {
                self.recorder.broken.fetch_add(1, Ordering::Relaxed);
            }
            HEADERS if flags & END_STREAM != 0 => {
                self.recorder.broken.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
        Ok(())
    }

    fn data(&mut self, stream: u32, payload: &[u8]) -> Outcome<()> {
        let mut part = self.parts.remove(&stream).unwrap_or_default();
        part.extend_from_slice(payload);
        let mut rest = &part[..];
        while let Some((message, after)) = self.split_message(rest) {
            let parsed =
                if self.reads_events { parse_event(message)? } else { Some(parse_message(message)?) };
            if let Some(parsed) = parsed {
                self.message(stream, parsed);
            }
            rest = after;
        }
        if !rest.is_empty() {
            self.parts.insert(stream, rest.to_vec());
        }
        Ok(())
    }

    /// Splits a complete message from the front.
    fn split_message<'m>(&self, bytes: &'m [u8]) -> Option<(&'m [u8], &'m [u8])> {
        if self.reads_events {
            // Nearly every frame ends with an event, so the search is short.
            let end = bytes.windows(2).position(|window| window == b"\n\n")?;
            return Some((&bytes[..end], &bytes[end + 2..]));
        }
        let [_, a, b, c, d, after @ ..] = bytes else { return None };
        after.split_at_checked(u32::from_be_bytes([*a, *b, *c, *d]) as usize)
    }

    fn message(&mut self, stream: u32, (revision, changes): (i64, bool)) {
        let seen = self.seen.insert(stream, revision);
        match (changes, seen) {
            (true, Some(seen)) if seen >= revision => {
                self.recorder.repeated.fetch_add(1, Ordering::Relaxed);
            }
            (true, _) => self.recorder.record(revision, &mut self.delays),
            (false, None) => {
                self.recorder.ready.fetch_add(1, Ordering::Relaxed);
            }
            (false, Some(_)) => {}
        }
    }

    fn acknowledge(&mut self, kind: u8, payload: &[u8]) -> Outcome<()> {
        let mut out = Vec::new();
        put_frame(&mut out, kind, ACK, 0, payload);
        Ok(self.stream.write_all(&out)?)
    }
}

/// Returns the revision of an event's id, and whether its type is `changes`. None if it has no type.
fn parse_event(event: &[u8]) -> Outcome<Option<(i64, bool)>> {
    let start = std::str::from_utf8(&event[..event.len().min(160)]).unwrap_or_default();
    let field = |name: &str| start.lines().find_map(|line| line.strip_prefix(name));
    let Some(kind) = field("event: ") else { return Ok(None) };
    let revision = field("id: ").and_then(|id| id.split(':').nth(1)).ok_or("event without a position")?;
    Ok(Some((revision.parse()?, kind == "changes")))
}

/// Returns the revision of a message's position, and whether the message contains changes.
fn parse_message(message: &[u8]) -> Outcome<(i64, bool)> {
    let (mut rest, mut revision, mut changes) = (message, 0, false);
    while !rest.is_empty() {
        let (field, wire_type) = decode_key(&mut rest)?;
        if wire_type != WireType::LengthDelimited {
            return Err("malformed feed message".into());
        }
        let length = decode_varint(&mut rest)? as usize;
        let (value, after) = rest.split_at_checked(length).ok_or("truncated feed message")?;
        rest = after;
        match field {
            POSITION => revision = parse_position(value)?,
            CHANGES => changes = true,
            _ => {}
        }
    }
    Ok((revision, changes))
}

fn parse_position(mut message: &[u8]) -> Outcome<i64> {
    while !message.is_empty() {
        let (field, wire_type) = decode_key(&mut message)?;
        let value = decode_varint(&mut message)?;
        if field == REVISION {
            return Ok(value as i64);
        }
        if wire_type == WireType::LengthDelimited {
            message = message.get(value as usize..).ok_or("truncated position")?;
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use cable_client::v1;
    use prost::Message as _;

    use super::*;

    #[test]
    fn positions_and_changes_are_parsed_as_in_the_schema() {
        let mut position = v1::Position::default();
        position.log_id = "0000beef".into();
        position.revision = 300;
        let mut message = v1::WatchResponse::default();
        message.position = Some(position);
        message.event = Some(v1::watch_response::Event::Checkpoint(v1::FeedCheckpoint::default()));
        assert_eq!(parse_message(&message.encode_to_vec()).unwrap(), (300, false));
        message.event = Some(v1::watch_response::Event::Changes(v1::FeedChanges::default()));
        assert_eq!(parse_message(&message.encode_to_vec()).unwrap(), (300, true));
        assert!(parse_message(&message.encode_to_vec()[..9]).is_err());
    }
}
