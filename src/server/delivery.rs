//! Passes a response to its connection. Room is reserved for each piece before it is passed on, each piece is counted
//! until it is written, and a piece that the peer does not take is detected.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Buf as _;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use http_body::{Body, Frame};

use super::{
    flight::{Charge, ChargedPiece, Flight},
    frames::MIN_FRAME_BYTES,
    streams::{Streams, Watched},
};
use crate::wire::Framed;

/// A response up to this size in bytes is passed on whole with its status. Its progress is not tracked byte by byte,
/// because that needs an allocation. A connection may hold 256 such responses.
const MAX_UNTRACKED_BYTES: usize = 16 << 10;

/// The pace at which a response is passed to its connection.
pub(super) struct Pace {
    /// The bytes that are reserved for the next piece.
    charge: Charge,
    /// The number of bytes to reserve before the next piece is made.
    ahead: usize,
    /// None for a small response.
    flight: Option<Arc<Flight>>,
    watched: bool,
    pending: Option<Box<PendingPiece>>,
}

/// A piece that waits for room. None if the piece is not made yet.
struct PendingPiece {
    piece: Option<Framed>,
    room: BoxFuture<'static, Charge>,
}

impl Pace {
    /// Returns the pace of one message whose bytes are counted, or of no message.
    pub(super) fn message(charge: Charge) -> Pace {
        let flight = (charge.bytes() > MAX_UNTRACKED_BYTES).then(Arc::default);
        Pace { charge, ahead: 0, flight, watched: false, pending: None }
    }

    /// Returns the pace of a stream that reserves `ahead` bytes before each piece. If `ahead` is 0, a piece that finds
    /// no room waits without being counted. That is correct only if the piece is small or shares its bytes with others.
    pub(super) fn pieces(charge: Charge, ahead: usize) -> Pace {
        Pace { charge, ahead, flight: Some(Arc::new(Flight::of_stream())), watched: false, pending: None }
    }

    /// Returns the pace of a body whose bytes are not counted yet.
    pub(super) fn body(body: &impl Body, streams: Streams) -> Pace {
        let pace = Pace::message(Charge::new(streams, 0));
        if body.size_hint().lower() > MAX_UNTRACKED_BYTES as u64 { pace.tracked() } else { pace }
    }

    /// Tracks the progress of the body at any size, because it is encoded again.
    pub(super) fn tracked(mut self) -> Pace {
        self.flight.get_or_insert_default();
        self
    }

    fn streams(&self) -> &Streams {
        self.charge.streams()
    }

    /// Ready when the next piece may be made, or with the piece that has waited.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Option<ChargedPiece>> {
        let needs_room = self.pending.is_none() && self.ahead > 0 && self.charge.bytes() == 0;
        if needs_room && !self.charge.try_resize(self.ahead) {
            self.wait(None, self.ahead);
        }
        let Some(pending) = &mut self.pending else { return Poll::Ready(None) };
        let mut charge = ready!(pending.room.as_mut().poll(cx));
        charge.adopt(&mut self.charge);
        let piece = pending.piece.take();
        self.pending = None;
        match piece {
            Some(piece) => Poll::Ready(Some(self.send(piece, charge))),
            None => {
                self.charge = charge;
                Poll::Ready(None)
            }
        }
    }

    /// Counts a piece. Returns None if it has to wait.
    fn charge_piece(&mut self, piece: Framed) -> Option<ChargedPiece> {
        let bytes = piece.remaining();
        if self.charge.bytes() == 0 && !self.charge.try_resize(bytes) {
            self.wait(Some(piece), bytes);
            return None;
        }
        let charge = self.charge.split(bytes);
        Some(self.send(piece, charge))
    }

    #[cold]
    fn wait(&mut self, piece: Option<Framed>, bytes: usize) {
        let room = Box::pin(self.streams().clone().charge(bytes));
        self.pending = Some(Box::new(PendingPiece { piece, room }));
    }

    fn send(&mut self, piece: Framed, charge: Charge) -> ChargedPiece {
        if !std::mem::replace(&mut self.watched, true) {
            self.streams().watch(self.flight.clone().map_or(Watched::Small, Watched::Stream));
        }
        self.streams().count_sent(1 + (charge.bytes() / MIN_FRAME_BYTES) as u64);
        ChargedPiece::new(piece, charge, self.flight.as_ref())
    }
}

/// The body of a response in flight.
pub(super) struct Delivery<B> {
    body: B,
    pace: Pace,
    last: Option<Last>,
}

/// The end of a response. If its progress is tracked, it is sent when all pieces have been taken: after the end, the stream
/// is no longer watched.
enum Last {
    Trailers(HeaderMap),
    End,
}

impl<B> Delivery<B> {
    pub(super) fn new(body: B, pace: Pace) -> Delivery<B> {
        Delivery { body, pace, last: None }
    }
}

impl<B> Body for Delivery<B>
where
    B: Body<Data: Into<Framed>> + Unpin,
{
    type Data = ChargedPiece;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<ChargedPiece>, B::Error>>> {
        let Delivery { body, pace, last } = &mut *self;
        loop {
            if last.is_some() {
                // No piece follows.
                pace.charge.try_resize(0);
                if let Some(flight) = &pace.flight {
                    ready!(flight.poll_empty(cx));
                }
                return Poll::Ready(match last.replace(Last::End) {
                    Some(Last::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
                    _ => None,
                });
            }
            if let Some(waited) = ready!(pace.poll_room(cx)) {
                return Poll::Ready(Some(Ok(Frame::data(waited))));
            }
            match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        if let Some(charged) = pace.charge_piece(data.into()) {
                            return Poll::Ready(Some(Ok(Frame::data(charged))));
                        }
                    }
                    Err(frame) => *last = frame.into_trailers().ok().map(Last::Trailers),
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => *last = Some(Last::End),
            }
        }
    }

    /// While pieces are in flight, the stream remains open, because it is watched for progress until its end.
    fn is_end_stream(&self) -> bool {
        let has_pieces = self.pace.flight.as_ref().is_some_and(|flight| flight.progress().is_some());
        self.last.is_none() && self.pace.pending.is_none() && !has_pieces && self.body.is_end_stream()
    }
}
