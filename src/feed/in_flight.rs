//! The one frame of a feed that is in flight. The next frame is sent only when the connection has taken this one. A
//! follower therefore never has a queue, however large the windows of its connection are.

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

/// The state of the frame in flight.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    /// Twice the number of frames that have been released, plus one while a frame is in flight.
    state: AtomicU64,
    waker: AtomicWaker,
}

impl InFlight {
    /// Returns the number of the frame in flight.
    pub(super) fn number(&self) -> Option<u64> {
        let state = self.state.load(Ordering::Acquire);
        (state % 2 == 1).then_some(state / 2)
    }

    /// Returns the slices as one frame, which is in flight until the last of them has been dropped.
    pub(super) fn send(self: &Arc<Self>, mut slices: Vec<Bytes>) -> Framed {
        self.state.fetch_add(1, Ordering::AcqRel);
        if let Some(last) = slices.pop() {
            slices.push(Bytes::from_owner(Frame { bytes: last, in_flight: self.clone() }));
        }
        Framed::chain(slices)
    }

    /// Waits until no frame is in flight.
    pub(super) async fn released(&self) {
        std::future::poll_fn(|cx| {
            if self.number().is_none() {
                return Poll::Ready(());
            }
            self.waker.register(cx.waker());
            // The frame may have been released before the waker was registered.
            if self.number().is_none() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

struct Frame {
    bytes: Bytes,
    in_flight: Arc<InFlight>,
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        self.in_flight.state.fetch_add(1, Ordering::AcqRel);
        self.in_flight.waker.wake();
    }
}
