//! Inspects the bytes that a peer sends. It limits how much one turn of the connection reads, and how many frames a
//! peer sends that cost it nothing.
//!
//! Only the heads of frames are read (RFC 9113, 4.1). Frames that carry part of a call have limits of their own. All
//! other frames are counted against an allowance that grows with time and with the data sent to the peer.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::streams::Streams;

/// Bytes that one turn of a connection reads. Then the other connections of the core have their turn.
const MAX_TURN_BYTES: usize = 64 << 10;

/// Control frames that a peer may send per second in any case.
const CONTROL_FRAMES_PER_SECOND: f64 = 1_000.0;

/// The maximum allowance.
const MAX_ALLOWANCE: f64 = 4_000.0;

/// Control frames allowed for each piece of a response and each call: updates of two windows, a PING that measures the
/// bandwidth, and one to spare.
const CONTROL_FRAMES_PER_PIECE: f64 = 4.0;

/// The minimum size in bytes of the frames in which a piece of a response is sent. A peer may respond to each of them.
pub(super) const MIN_FRAME_BYTES: usize = 16 << 10;

const HEAD_BYTES: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;
const PADDED: u8 = 8;

/// The minimum size in bytes of a DATA frame with content. A smaller one carries next to nothing, unless it is the last
/// one.
const MIN_DATA_BYTES: usize = 8;

/// A socket whose input is inspected.
pub(super) struct Frames<T> {
    io: T,
    /// Bytes read since the last turn ended.
    turn_bytes: usize,
    scan: Scan,
    allowance: Allowance,
}

impl<T> Frames<T> {
    /// Inspects a socket. `preface` is the number of bytes before the first frame.
    pub(super) fn new(io: T, preface: usize, streams: Streams) -> Frames<T> {
        let scan = Scan { skip: preface, head: [0; HEAD_BYTES], length: 0 };
        Frames { io, turn_bytes: 0, scan, allowance: Allowance::new(streams) }
    }
}

/// The position of the input in the sequence of frames.
struct Scan {
    /// Bytes to skip before the next head.
    skip: usize,
    head: [u8; HEAD_BYTES],
    /// Bytes of the head that have been read.
    length: usize,
}

impl Scan {
    /// Calls `visit` with the head of each frame, once the head is complete.
    fn read(&mut self, mut bytes: &[u8], mut visit: impl FnMut(&[u8; HEAD_BYTES], usize)) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return;
            }
            // Most heads come in one piece.
            if let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>().filter(|_| self.length == 0) {
                bytes = rest;
                self.skip = frame_length(head);
                visit(head, self.skip);
                continue;
            }
            let part = (HEAD_BYTES - self.length).min(bytes.len());
            self.head[self.length..self.length + part].copy_from_slice(&bytes[..part]);
            self.length += part;
            bytes = &bytes[part..];
            if self.length == HEAD_BYTES {
                self.length = 0;
                self.skip = frame_length(&self.head);
                visit(&self.head, self.skip);
            }
        }
    }
}

/// Returns the length of a frame, without its head.
fn frame_length([a, b, c, ..]: &[u8; HEAD_BYTES]) -> usize {
    usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c)
}

/// How the allowance treats a frame.
#[derive(Debug, PartialEq, Eq)]
enum FrameKind {
    /// The frame starts a call, or ends its request.
    Call,
    /// The frame carries part of a request.
    Content,
    /// The frame costs the peer nothing.
    Control,
}

fn classify(head: &[u8; HEAD_BYTES], length: usize) -> FrameKind {
    let (kind, flags) = (head[3], head[4]);
    let ends = flags & END_STREAM != 0;
    match kind {
        HEADERS => FrameKind::Call,
        DATA if ends || length >= MIN_DATA_BYTES && flags & PADDED == 0 => FrameKind::Content,
        _ => FrameKind::Control,
    }
}

/// The number of control frames that a peer may still send.
struct Allowance {
    streams: Streams,
    remaining: f64,
    /// Calls since the allowance last grew.
    calls: u32,
    /// When the allowance last grew, and the number of pieces sent by then.
    refilled: Instant,
    pieces: u64,
}

impl Allowance {
    fn new(streams: Streams) -> Allowance {
        Allowance {
            streams,
            remaining: CONTROL_FRAMES_PER_SECOND,
            calls: 0,
            refilled: Instant::now(),
            pieces: 0,
        }
    }

    /// Whether the allowance is used up.
    fn is_exceeded(&mut self) -> bool {
        if self.remaining >= 0.0 {
            return false;
        }
        let (now, pieces) = (Instant::now(), self.streams.sent_pieces());
        let earned = f64::from(self.calls) + (pieces - self.pieces) as f64;
        let grown = self.remaining
            + CONTROL_FRAMES_PER_PIECE * earned
            + CONTROL_FRAMES_PER_SECOND * (now - self.refilled).as_secs_f64();
        (self.remaining, self.calls, self.refilled, self.pieces) = (grown.min(MAX_ALLOWANCE), 0, now, pieces);
        self.remaining < 0.0
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Frames<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.turn_bytes >= MAX_TURN_BYTES {
            this.turn_bytes = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut this.io).poll_read(cx, buf)?;
        if read.is_pending() {
            this.turn_bytes = 0;
            return Poll::Pending;
        }
        let new = &buf.filled()[before..];
        this.turn_bytes += new.len();
        let allowance = &mut this.allowance;
        this.scan.read(new, |head, length| match classify(head, length) {
            FrameKind::Call => allowance.calls = allowance.calls.saturating_add(1),
            FrameKind::Content => {}
            FrameKind::Control => allowance.remaining -= 1.0,
        });
        if allowance.is_exceeded() {
            allowance.streams.mark_flooded();
            return Poll::Ready(Err(io::Error::other("control frame limit exceeded")));
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Frames<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Connections, server::memory::Memory};

    fn streams() -> Streams {
        Streams::new(&Memory::new(&Connections::default()).for_core(), [127, 0, 0, 1].into())
    }

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let size = (length as u32).to_be_bytes();
        [&size[1..], &[kind, flags, 0, 0, 0, 1], &vec![kind; length][..]].concat()
    }

    #[test]
    fn heads_are_found_however_the_input_is_split() {
        let kinds = [(4, 0, 12), (1, 4, 70), (0, 0, 20_000), (6, 0, 8), (0, 1, 0), (8, 0, 4), (250, 0, 0)];
        let mut input = vec![b'p'; 24];
        input.extend(kinds.iter().flat_map(|(kind, flags, length)| frame(*kind, *flags, *length)));
        for cut in [1, 2, 7, 9, 10, 4_096, usize::MAX] {
            let (mut scan, mut found) = (Scan { skip: 24, head: [0; HEAD_BYTES], length: 0 }, Vec::new());
            for piece in input.chunks(cut.min(input.len())) {
                scan.read(piece, |head, length| found.push((head[3], head[4], length)));
            }
            assert_eq!(found, kinds, "cut at {cut}");
        }
    }

    #[test]
    fn a_frame_without_content_is_a_control_frame() {
        let of = |kind: u8, flags: u8, length: usize| {
            let bytes = frame(kind, flags, length);
            super::classify(bytes[..HEAD_BYTES].try_into().unwrap(), length)
        };
        assert_eq!(of(HEADERS, 4, 100), FrameKind::Call);
        assert_eq!([of(DATA, 0, 100), of(DATA, END_STREAM, 0)], [FrameKind::Content, FrameKind::Content]);
        assert_eq!(of(DATA, 0, 0), FrameKind::Control);
        assert_eq!(of(DATA, 0, 1), FrameKind::Control);
        assert_eq!(of(DATA, PADDED, 256), FrameKind::Control);
        for kind in (2..=9).chain([10, 255]) {
            assert_eq!(of(kind, 0, 8), FrameKind::Control, "{kind}");
        }
    }

    #[test]
    fn the_allowance_grows_with_calls_and_sent_pieces() {
        let streams = streams();
        let mut allowance = Allowance::new(streams.clone());
        allowance.remaining -= CONTROL_FRAMES_PER_SECOND;
        assert!(!allowance.is_exceeded());
        allowance.remaining -= 100.0;
        assert!(allowance.is_exceeded(), "the allowance has not grown");
        for _ in 0..1_000 {
            streams.count_sent(1);
            allowance.calls += 1;
            allowance.remaining -= 2.0 * CONTROL_FRAMES_PER_PIECE;
        }
        allowance.remaining += 100.0;
        assert!(!allowance.is_exceeded(), "the allowance grew with each call");
        streams.count_sent(1_000_000);
        allowance.remaining = -1.0;
        assert!(!allowance.is_exceeded());
        assert!(allowance.remaining <= MAX_ALLOWANCE, "the allowance is capped");
    }
}
