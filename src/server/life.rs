//! When a connection must end: it is old, nobody uses it, or the node drains. It is told (GOAWAY) and has some time for
//! the calls under way.

use std::{
    hash::{BuildHasher as _, RandomState},
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    sync::watch,
    time::{Instant, Sleep, sleep_until},
};

use super::streams::Streams;
use crate::config::Connections;

/// How long a connection of a draining node stays once no call is under way: time for the peer to read that, and for a
/// call that crosses the farewell.
const REST: Duration = Duration::from_millis(250);

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
    /// Changes when the node drains.
    signal: watch::Receiver<bool>,
    /// The waker that the alarm and the signal wake.
    registered: Option<Waker>,
    /// It was told to end, and is cut off then.
    last: Option<Instant>,
    /// Since when no call is under way while the node drains.
    at_rest: Option<Instant>,
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
            signal: draining.clone(),
            registered: None,
            draining: Some(Box::pin(drained(draining))),
            last: None,
            at_rest: None,
            alarm: Box::pin(sleep_until(end.min(Instant::now() + limits.idle))),
        }
    }

    /// `written`: whether the socket has taken everything.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, written: bool) -> Poll<Turn> {
        if self.is_quiet(cx.waker()) {
            return Poll::Pending;
        }
        self.registered = Some(cx.waker().clone());
        if let Some(draining) = &mut self.draining
            && draining.as_mut().poll(cx).is_ready()
        {
            self.draining = None;
            if self.ends_within(self.drain) {
                return Poll::Ready(Turn::Goodbye);
            }
        }
        if self.draining.is_none() {
            self.look_for_rest(cx, written);
        }
        loop {
            ready!(self.alarm.as_mut().poll(cx));
            let now = Instant::now();
            if let Some(last) = self.last {
                let rested = self.at_rest.is_some_and(|since| now >= since + REST);
                if rested || now >= last {
                    return Poll::Ready(Turn::Over);
                }
                self.alarm.as_mut().reset(last);
                continue;
            }
            let unused = self.streams.is_empty() && self.streams.turns() == self.seen;
            if now >= self.end || unused {
                self.ends_within(self.grace);
                return Poll::Ready(Turn::Goodbye);
            }
            self.seen = self.streams.turns();
            self.alarm.as_mut().reset(self.end.min(now + self.idle));
        }
    }

    /// Returns whether neither the alarm nor the signal has fired since both were polled with this waker. Polling them on
    /// each turn of a connection would cost 400 instructions.
    fn is_quiet(&self, waker: &Waker) -> bool {
        self.draining.is_some()
            && self.registered.as_ref().is_some_and(|registered| registered.will_wake(waker))
            && !self.signal.has_changed().unwrap_or(true)
            && !self.alarm.is_elapsed()
    }

    /// Nothing is waited for but calls under way.
    fn look_for_rest(&mut self, cx: &mut Context<'_>, written: bool) {
        self.streams.wake_at_rest(cx.waker());
        if !written || !self.streams.is_at_rest() {
            self.at_rest = None;
        } else if self.at_rest.is_none() {
            let now = Instant::now();
            self.at_rest = Some(now);
            let last = self.last.map_or(now + REST, |last| last.min(now + REST));
            self.alarm.as_mut().reset(last);
        }
    }

    /// It has ended by itself and needs not be told; what is still to be written may take its time, but not for ever.
    pub(super) fn ended(&mut self) {
        self.ends_within(self.grace);
    }

    /// The same, at once but for a moment.
    pub(super) fn ended_badly(&mut self) {
        self.ends_within(REST);
    }

    /// Whether it has yet to be told. What ends it first counts: a node that drains does not wait for an older grace.
    fn ends_within(&mut self, left: Duration) -> bool {
        let last = Instant::now() + left;
        let told = self.last.is_some();
        if self.last.is_none_or(|before| last < before) {
            self.registered = None;
            self.last = Some(last);
            self.alarm.as_mut().reset(last);
        }
        !told
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
