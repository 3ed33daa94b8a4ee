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
        ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, hello, put_frame,
    },
};

/// The time limit of each step.
const PATIENCE: Duration = Duration::from_secs(60);

/// Fields of WatchResponse, and of its Position.
const POSITION: u32 = 1;
const REVISION: u32 = 2;
const CHANGES: u32 = 2;

/// The records of all followers of a crowd.
pub(super) struct Notes {
    epoch: Instant,
    /// The revision of the first publish.
    base: AtomicI64,
    /// The start of each publish in nanoseconds since the epoch.
    begun: Box<[AtomicU64]>,
    /// The number of followers that have received each publish.
    arrived: Box<[AtomicU64]>,
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

impl Notes {
    fn new(publishes: usize) -> Notes {
        let zeros = || (0..publishes).map(|_| AtomicU64::new(0)).collect();
        Notes {
            epoch: Instant::now(),
            base: AtomicI64::new(i64::MAX),
            begun: zeros(),
            arrived: zeros(),
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
    pub(super) fn begin(&self, publish: usize) {
        self.begun[publish].store(self.now(), Ordering::Relaxed);
    }

    fn arrive(&self, revision: i64, delays: &mut Vec<u32>) {
        let publish = usize::try_from(revision - self.base.load(Ordering::Relaxed)).ok();
        let Some(publish) = publish.filter(|publish| *publish < self.arrived.len()) else { return };
        let now = self.now();
        self.last[publish].fetch_max(now, Ordering::Relaxed);
        delays.push(((now - self.begun[publish].load(Ordering::Relaxed)) / 1_000) as u32);
        self.arrived[publish].fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until `followers` followers have received a publish. Returns the time until the last of them.
    ///
    /// # Errors
    /// Fails if they have not received it in time.
    pub(super) fn await_all(&self, publish: usize, followers: u64) -> Outcome<Duration> {
        let told = || self.arrived[publish].load(Ordering::Relaxed);
        self.wait(|| told() >= followers).map_err(|error| {
            let broken = self.broken.load(Ordering::Relaxed);
            format!("{error}: {} of {followers} have publish {publish}; {broken} feeds broke", told())
        })?;
        let [last, begun] = [&self.last, &self.begun].map(|times| times[publish].load(Ordering::Relaxed));
        Ok(Duration::from_nanos(last - begun))
    }

    fn wait(&self, holds: impl Fn() -> bool) -> Outcome<()> {
        let start = Instant::now();
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        while !holds() {
            if start.elapsed() > PATIENCE {
                return Err("the followers are not told in time".into());
            }
            let waited = self.changed.wait_timeout(guard, Duration::from_millis(1));
            (guard, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }
}

/// Followers of one feed.
pub(super) struct Crowd {
    pub(super) notes: Arc<Notes>,
    pub(super) followers: u64,
    connections: Vec<TcpStream>,
    readers: Vec<JoinHandle<Result<Vec<u32>, String>>>,
}

/// The results of a crowd.
pub(super) struct Heard {
    /// The time from the start of a publish until a follower received it, in microseconds.
    pub(super) delays: Vec<u32>,
    pub(super) repeated: u64,
    pub(super) broken: u64,
}

impl Crowd {
    /// Opens feeds on connections, an equal number on each, and waits until all have caught up.
    ///
    /// # Errors
    /// Fails if a feed is rejected.
    pub(super) fn open(
        address: SocketAddr,
        request: &[u8],
        connections: usize,
        each: usize,
        publishes: usize,
    ) -> Outcome<Crowd> {
        let notes = Arc::new(Notes::new(publishes));
        let (mut streams, mut readers) = (Vec::new(), Vec::new());
        for _ in 0..connections {
            let stream = connect(address, request, each)?;
            let (reading, notes) = (stream.try_clone()?, notes.clone());
            let reader = thread::Builder::new().stack_size(256 << 10);
            readers.push(
                reader
                    .spawn(move || Reader::new(reading, &notes).run().map_err(|error| error.to_string()))?,
            );
            streams.push(stream);
        }
        let followers = (connections * each) as u64;
        notes.wait(|| notes.ready.load(Ordering::Relaxed) >= followers)?;
        Ok(Crowd { notes, followers, connections: streams, readers })
    }

    /// Sets the revision of the first publish.
    pub(super) fn expect(&self, base: i64) {
        self.notes.base.store(base, Ordering::Relaxed);
    }

    /// Closes all feeds.
    ///
    /// # Errors
    /// Fails if a reader failed.
    pub(super) fn close(self) -> Outcome<Heard> {
        let (repeated, broken) = (&self.notes.repeated, &self.notes.broken);
        let (repeated, broken) = (repeated.load(Ordering::Relaxed), broken.load(Ordering::Relaxed));
        for connection in &self.connections {
            // A connection that is closed already was counted as broken.
            let _closed = connection.shutdown(Shutdown::Both);
        }
        let mut delays = Vec::new();
        for reader in self.readers {
            delays.append(&mut reader.join().map_err(|_| "a reader panicked")??);
        }
        Ok(Heard { delays, repeated, broken })
    }
}

/// Opens feeds on one connection. Nothing is read yet.
///
/// # Errors
/// Fails if no server listens there.
pub(super) fn connect(address: SocketAddr, request: &[u8], feeds: usize) -> Outcome<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut out = hello();
    let block = headers(address);
    let body = [&[0], &u32::try_from(request.len())?.to_be_bytes()[..], request].concat();
    for feed in 0..feeds {
        let id = u32::try_from(2 * feed + 1)?;
        put_frame(&mut out, HEADERS, END_HEADERS, id, &block);
        put_frame(&mut out, DATA, END_STREAM, id, &body);
    }
    stream.write_all(&out)?;
    Ok(stream)
}

/// Returns the headers of a Watch, without entries in the dynamic table (RFC 7541, 6.2.2).
fn headers(address: SocketAddr) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    let mut put = |name: &[u8], value: &str| {
        block.extend(name);
        block.push(value.len() as u8);
        block.extend(value.as_bytes());
    };
    put(&[0x04], "/cable.v1.FeedService/Watch");
    put(&[0x01], &address.to_string());
    put(&[0x0f, 0x10], "application/grpc");
    put(b"\x00\x02te", "trailers");
    block
}

/// The reader of one connection.
struct Reader<'a> {
    stream: TcpStream,
    notes: &'a Notes,
    buffer: Vec<u8>,
    /// The received bytes of incomplete messages, by stream.
    parts: HashMap<u32, Vec<u8>>,
    /// The newest revision, by stream.
    seen: HashMap<u32, i64>,
    delays: Vec<u32>,
}

impl Reader<'_> {
    fn new(stream: TcpStream, notes: &Notes) -> Reader<'_> {
        let (parts, seen) = (HashMap::new(), HashMap::new());
        Reader { stream, notes, buffer: Vec::new(), parts, seen, delays: Vec::new() }
    }

    fn run(mut self) -> Outcome<Vec<u32>> {
        let mut chunk = vec![0; 64 << 10];
        loop {
            let read = self.stream.read(&mut chunk).unwrap_or(0);
            if read == 0 {
                self.notes.broken.fetch_add(1, Ordering::Relaxed);
                return Ok(self.delays);
            }
            self.buffer.extend_from_slice(&chunk[..read]);
            self.frames()?;
            self.notes.changed.notify_all();
        }
    }

    fn frames(&mut self) -> Outcome<()> {
        let buffer = std::mem::take(&mut self.buffer);
        let mut rest = &buffer[..];
        while let [a, b, c, kind, flags, s0, s1, s2, s3, behind @ ..] = rest {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            let Some((payload, after)) = behind.split_at_checked(length) else { break };
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
                self.notes.broken.fetch_add(1, Ordering::Relaxed);
            }
            HEADERS if flags & END_STREAM != 0 => {
                self.notes.broken.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
        Ok(())
    }

    fn data(&mut self, stream: u32, payload: &[u8]) -> Outcome<()> {
        let mut part = self.parts.remove(&stream).unwrap_or_default();
        part.extend_from_slice(payload);
        let mut rest = &part[..];
        while let [_, a, b, c, d, behind @ ..] = rest {
            let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            let Some((message, after)) = behind.split_at_checked(length) else { break };
            self.message(stream, message)?;
            rest = after;
        }
        if !rest.is_empty() {
            self.parts.insert(stream, rest.to_vec());
        }
        Ok(())
    }

    fn message(&mut self, stream: u32, message: &[u8]) -> Outcome<()> {
        let (revision, changes) = read(message)?;
        let seen = self.seen.insert(stream, revision);
        match (changes, seen) {
            (true, Some(seen)) if seen >= revision => {
                self.notes.repeated.fetch_add(1, Ordering::Relaxed);
            }
            (true, _) => self.notes.arrive(revision, &mut self.delays),
            (false, None) => {
                self.notes.ready.fetch_add(1, Ordering::Relaxed);
            }
            (false, Some(_)) => {}
        }
        Ok(())
    }

    fn acknowledge(&mut self, kind: u8, payload: &[u8]) -> Outcome<()> {
        let mut out = Vec::new();
        put_frame(&mut out, kind, ACK, 0, payload);
        Ok(self.stream.write_all(&out)?)
    }
}

/// Returns the revision of a message's position, and whether the message contains changes.
fn read(message: &[u8]) -> Outcome<(i64, bool)> {
    let (mut rest, mut revision, mut changes) = (message, 0, false);
    while !rest.is_empty() {
        let (field, wire_type) = decode_key(&mut rest)?;
        if wire_type != WireType::LengthDelimited {
            return Err("a message of a feed is malformed".into());
        }
        let length = decode_varint(&mut rest)? as usize;
        let (value, after) = rest.split_at_checked(length).ok_or("a message of a feed is cut off")?;
        rest = after;
        match field {
            POSITION => revision = position(value)?,
            CHANGES => changes = true,
            _ => {}
        }
    }
    Ok((revision, changes))
}

fn position(mut message: &[u8]) -> Outcome<i64> {
    while !message.is_empty() {
        let (field, wire_type) = decode_key(&mut message)?;
        let value = decode_varint(&mut message)?;
        if field == REVISION {
            return Ok(value as i64);
        }
        if wire_type == WireType::LengthDelimited {
            message = message.get(value as usize..).ok_or("a position is cut off")?;
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
    fn what_a_message_tells_is_read_as_the_schema_has_it() {
        let mut position = v1::Position::default();
        position.log_id = "0000beef".into();
        position.revision = 300;
        let mut message = v1::WatchResponse::default();
        message.position = Some(position);
        message.event = Some(v1::watch_response::Event::Checkpoint(v1::FeedCheckpoint::default()));
        assert_eq!(read(&message.encode_to_vec()).unwrap(), (300, false));
        message.event = Some(v1::watch_response::Event::Changes(v1::FeedChanges::default()));
        assert_eq!(read(&message.encode_to_vec()).unwrap(), (300, true));
        assert!(read(&message.encode_to_vec()[..9]).is_err());
    }
}
