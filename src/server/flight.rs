//! Pieces of a response in flight, between the call that made them and the socket. Each counts against its connection
//! until the last of its bytes is written.

use std::{
    io::IoSlice,
    sync::{
        Arc,
        atomic::{
            AtomicU64, AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed},
        },
    },
    task::{Context, Poll},
};

use bytes::Buf;
use futures_util::task::AtomicWaker;

use super::{loads::Load, streams::Streams};
use crate::wire::Framed;

/// Bytes that a connection holds or has reserved, until this is dropped.
#[derive(Debug)]
pub(super) struct Charge {
    streams: Streams,
    bytes: usize,
    /// The response that they are for, if its delay is measured.
    load: Option<Load>,
}

impl Charge {
    /// Creates a charge for bytes that are already counted.
    pub(super) fn new(streams: Streams, bytes: usize) -> Charge {
        Charge { streams, bytes, load: None }
    }

    /// Creates a charge of no bytes for a response whose delay is measured until its first bytes are written.
    pub(super) fn timed(streams: Streams) -> Charge {
        let load = Some(streams.loads().start());
        Charge { streams, bytes: 0, load }
    }

    pub(super) fn streams(&self) -> &Streams {
        &self.streams
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Changes the number of reserved bytes, if there is room.
    pub(super) fn try_resize(&mut self, bytes: usize) -> bool {
        self.try_resize_beside(bytes, 0)
    }

    /// Changes the number of reserved bytes, if there is room. `own` is the room that is held back for this charge.
    pub(super) fn try_resize_beside(&mut self, bytes: usize, own: usize) -> bool {
        match bytes.checked_sub(self.bytes) {
            Some(more) if !self.streams.try_hold(more, own) => return false,
            Some(_) => {}
            None => self.streams.release(self.bytes - bytes),
        }
        self.bytes = bytes;
        true
    }

    /// Ends the measurement of the delay: the first bytes are written.
    #[cold]
    fn end_load(&mut self) {
        if let Some(load) = self.load.take() {
            self.streams.loads().end(load);
        }
    }

    /// Takes over the measurement of the delay of another charge for the same response.
    pub(super) fn adopt(&mut self, other: &mut Charge) {
        self.load = self.load.take().or(other.load.take());
    }

    /// Splits off a charge of exactly `bytes`; no reservation remains. Bytes beyond the reservation are counted without
    /// a check, because they are already in memory.
    pub(super) fn split(&mut self, bytes: usize) -> Charge {
        let before = std::mem::replace(&mut self.bytes, 0);
        let responses = self.streams.responses();
        if bytes > before {
            responses.hold(bytes - before);
        } else if bytes < before {
            self.streams.release(before - bytes);
        }
        Charge { streams: self.streams.clone(), bytes, load: self.load.take() }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.streams.release(self.bytes);
        }
        if let Some(load) = self.load {
            self.streams.loads().cancel(load);
        }
    }
}

/// A piece of a response in flight to the socket.
pub(super) struct ChargedPiece {
    framed: Framed,
    charge: Charge,
    guard: Option<PieceGuard>,
}

impl ChargedPiece {
    /// Counts a piece as in flight. `flight` is that of the stream, if its progress is watched.
    pub(super) fn new(framed: Framed, charge: Charge, flight: Option<&Arc<Flight>>) -> ChargedPiece {
        let piece = ChargedPiece { framed, charge, guard: flight.map(PieceGuard::new) };
        piece.charge.streams.add_piece(piece.is_of_stream());
        piece
    }

    fn is_of_stream(&self) -> bool {
        self.guard.as_ref().is_some_and(|PieceGuard(flight)| flight.is_stream)
    }
}

impl Drop for ChargedPiece {
    fn drop(&mut self) {
        self.charge.streams.remove_piece(self.is_of_stream(), !self.framed.has_remaining());
    }
}

/// Presents the piece to HTTP/2 as a whole, so that it becomes one frame.
impl Buf for ChargedPiece {
    fn remaining(&self) -> usize {
        self.framed.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.framed.chunk()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.framed.chunks_vectored(slices)
    }

    fn advance(&mut self, count: usize) {
        self.framed.advance(count);
        if self.charge.load.is_some() {
            self.charge.end_load();
        }
        if let Some(PieceGuard(flight)) = &self.guard {
            flight.progress.fetch_add(1, Relaxed);
            self.charge.streams.record_progress();
        }
    }
}

/// The pieces of one stream of HTTP that are in flight.
#[derive(Debug, Default)]
pub(super) struct Flight {
    /// Whether the response has many messages or pieces, whose pace the peer determines.
    is_stream: bool,
    pieces: AtomicUsize,
    /// How often bytes were taken.
    progress: AtomicU64,
    waker: AtomicWaker,
}

impl Flight {
    pub(super) fn of_stream() -> Flight {
        Flight { is_stream: true, ..Flight::default() }
    }

    /// Returns a number that changes whenever bytes are taken. None while no piece is in flight.
    pub(super) fn progress(&self) -> Option<u64> {
        (self.pieces.load(Acquire) > 0).then(|| self.progress.load(Relaxed))
    }

    /// Ready when no piece is in flight.
    pub(super) fn poll_empty(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.pieces.load(Acquire) == 0 {
            return Poll::Ready(());
        }
        self.waker.register(cx.waker());
        // The last piece may have landed before the waker was registered.
        if self.pieces.load(Acquire) == 0 { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Counts a piece as in flight until this is dropped.
#[derive(Debug)]
pub(super) struct PieceGuard(Arc<Flight>);

impl PieceGuard {
    pub(super) fn new(flight: &Arc<Flight>) -> PieceGuard {
        flight.pieces.fetch_add(1, Relaxed);
        PieceGuard(flight.clone())
    }
}

impl Drop for PieceGuard {
    fn drop(&mut self) {
        self.0.progress.fetch_add(1, Relaxed);
        if self.0.pieces.fetch_sub(1, AcqRel) == 1 {
            self.0.waker.wake();
        }
    }
}
