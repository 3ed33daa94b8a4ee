//! When a connection must end: it is old, nobody uses it, or the node drains. It is told (GOAWAY) and has some time for
//! the calls under way.

use std::{
    hash::{BuildHasher as _, RandomState},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{connection::Common, streams::Streams};

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
    /// Streams begun when it was last looked at.
    seen: u64,
    idle: Duration,
    /// When it is old.
    end: Instant,
    grace: Duration,
    drain: Duration,
    /// None once it was told to end.
    draining: Option<BoxFuture<'static, ()>>,
    alarm: Pin<Box<Sleep>>,
}

impl Life {
    pub(super) fn new(common: &Common, streams: Streams) -> Life {
        let limits = &common.limits;
        let end = Instant::now() + jittered(limits.age);
        let mut draining = common.draining.clone();
        let draining = async move {
            // The sender lives as long as the node: an error means that it is gone, too.
            let _ = draining.wait_for(|draining| *draining).await;
        };
        Life {
            seen: streams.begun(),
            streams,
            idle: limits.idle,
            end,
            grace: limits.grace,
            drain: common.drain,
            draining: Some(Box::pin(draining)),
            alarm: Box::pin(sleep_until(end.min(Instant::now() + limits.idle))),
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        let Some(draining) = &mut self.draining else {
            ready!(self.alarm.as_mut().poll(cx));
            return Poll::Ready(Turn::Over);
        };
        if draining.as_mut().poll(cx).is_ready() {
            return Poll::Ready(self.goodbye(self.drain));
        }
        loop {
            ready!(self.alarm.as_mut().poll(cx));
            let now = Instant::now();
            let unused = self.streams.is_empty() && self.streams.begun() == self.seen;
            if now >= self.end || unused {
                return Poll::Ready(self.goodbye(self.grace));
            }
            self.seen = self.streams.begun();
            self.alarm.as_mut().reset(self.end.min(now + self.idle));
        }
    }

    fn goodbye(&mut self, time_left: Duration) -> Turn {
        self.draining = None;
        self.alarm.as_mut().reset(Instant::now() + time_left);
        Turn::Goodbye
    }
}

/// Up to a tenth more or less, so that connections made together do not end together (gRFC A9).
fn jittered(age: Duration) -> Duration {
    let random = RandomState::new().hash_one(0) as f64 / u64::MAX as f64;
    age.mul_f64(0.9 + 0.2 * random)
}
