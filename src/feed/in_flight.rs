//! One piece of a feed on its way out. The next one is given only when the connection has taken it: whatever its
//! windows allow, a follower never has a queue.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;

use crate::wire::Framed;

/// Whether a piece is on its way.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    /// Twice the number of pieces that have left; and one, if one is on its way.
    state: AtomicU64,
    reader: AtomicWaker,
}

impl InFlight {
    /// The number of the piece on its way.
    pub(super) fn number(&self) -> Option<u64> {
        let state = self.state.load(Ordering::Acquire);
        (state % 2 == 1).then_some(state / 2)
    }

    /// The slices as one piece, which counts as on its way until the last one of them has been dropped.
    pub(super) fn send(self: &Arc<Self>, mut slices: Vec<Bytes>) -> Framed {
        self.state.fetch_add(1, Ordering::AcqRel);
        if let Some(last) = slices.pop() {
            slices.push(Bytes::from_owner(Piece { bytes: last, in_flight: self.clone() }));
        }
        Framed::chain(slices)
    }

    /// Waits until nothing is on its way.
    pub(super) async fn left(&self) {
        std::future::poll_fn(|cx| {
            if self.number().is_none() {
                return Poll::Ready(());
            }
            self.reader.register(cx.waker());
            // It may have left before the waker was there.
            if self.number().is_none() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

struct Piece {
    bytes: Bytes,
    in_flight: Arc<InFlight>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.in_flight.state.fetch_add(1, Ordering::AcqRel);
        self.in_flight.reader.wake();
    }
}
