//! When a connection must end: it is old, nobody uses it, or the node drains. It is told (GOAWAY) and has some time for
//! the calls under way.

use std::{
    hash::{BuildHasher as _, RandomState},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    sync::watch,
    time::{Instant, Sleep, sleep_until},
};

use super::streams::Streams;
use crate::config::Connections;

/// What has to happen to a connection now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is told to begin no more streams. Once.
    Goodbye,
    /// It is cut off.
    Over,
}

/// A connection's time. There is one timer, for whatever comes next.
pub(super) struct Life {
    streams: Streams,
    /// What the streams' number was when it was last looked at.
    seen: u64,
    idle: Duration,
    /// When it is old.
    end: Instant,
    grace: Duration,
    drain: Duration,
    /// None once the node drains.
    draining: Option<BoxFuture<'static, ()>>,
    /// It was told to end, and the alarm cuts it off.
    told: bool,
    alarm: Pin<Box<Sleep>>,
}

impl Life {
    pub(super) fn new(
        limits: &Connections,
        drain: Duration,
        draining: watch::Receiver<bool>,
        streams: Streams,
    ) -> Life {
        let end = Instant::now() + jittered(limits.age);
        Life {
            seen: streams.turns(),
            streams,
            idle: limits.idle,
            end,
            grace: limits.grace,
            drain,
            draining: Some(Box::pin(drained(draining))),
            told: false,
            alarm: Box::pin(sleep_until(end.min(Instant::now() + limits.idle))),
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        if let Some(draining) = &mut self.draining
            && draining.as_mut().poll(cx).is_ready()
        {
            self.draining = None;
            if self.ends_within(self.drain) {
                return Poll::Ready(Turn::Goodbye);
            }
        }
        loop {
            ready!(self.alarm.as_mut().poll(cx));
            if self.told {
                return Poll::Ready(Turn::Over);
            }
            let now = Instant::now();
            let unused = self.streams.is_empty() && self.streams.turns() == self.seen;
            if now >= self.end || unused {
                self.ends_within(self.grace);
                return Poll::Ready(Turn::Goodbye);
            }
            self.seen = self.streams.turns();
            self.alarm.as_mut().reset(self.end.min(now + self.idle));
        }
    }

    /// It has ended by itself and needs not be told; what is still to be written may take its time, but not for ever.
    pub(super) fn ended(&mut self) {
        self.ends_within(self.grace);
    }

    /// Whether it has yet to be told. What ends it first counts: a node that drains does not wait for an older grace.
    fn ends_within(&mut self, left: Duration) -> bool {
        let last = Instant::now() + left;
        if !self.told || last < self.alarm.deadline() {
            self.alarm.as_mut().reset(last);
        }
        !std::mem::replace(&mut self.told, true)
    }
}

/// Waits until the node drains.
pub(super) async fn drained(mut draining: watch::Receiver<bool>) {
    // The sender lives as long as the node: an error means that it is gone, too.
    let _ = draining.wait_for(|draining| *draining).await;
}

/// Up to a tenth more or less, so that connections made together do not end together (gRFC A9).
fn jittered(age: Duration) -> Duration {
    let random = RandomState::new().hash_one(0) as f64 / u64::MAX as f64;
    age.mul_f64(0.9 + 0.2 * random)
}
