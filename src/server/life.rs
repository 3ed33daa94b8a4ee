//! Decides when a connection must end: it is old, it is idle, or the node drains. The peer receives GOAWAY, and calls
//! in flight have some time to finish.

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

/// How long a connection of a draining node stays open once no call is in flight. The peer has time to read the GOAWAY,
/// and a call that it sent before that can arrive.
const REST: Duration = Duration::from_millis(250);

/// The next action on a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Send GOAWAY, so that the peer starts no more streams. This occurs once.
    Goodbye,
    /// Close the connection.
    Over,
}

/// The lifetime of a connection. One timer serves all its deadlines.
pub(super) struct Life {
    streams: Streams,
    /// The value of [`Streams::turns`] at the last check.
    seen: u64,
    idle: Duration,
    /// When the connection reaches its maximum age.
    end: Instant,
    grace: Duration,
    drain: Duration,
    /// None once the node drains.
    draining: Option<BoxFuture<'static, ()>>,
    /// Changes when the node drains.
    signal: watch::Receiver<bool>,
    /// The waker that the alarm and the signal wake.
    registered: Option<Waker>,
    /// When the connection is closed. None until it starts to end.
    last: Option<Instant>,
    /// The time from which no call has been in flight while the node drains.
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
        let end = Instant::now() + jittered(limits.max_age);
        Life {
            seen: streams.turns(),
            streams,
            idle: limits.idle_timeout,
            end,
            grace: limits.goaway_grace,
            drain,
            signal: draining.clone(),
            registered: None,
            draining: Some(Box::pin(drained(draining))),
            last: None,
            at_rest: None,
            alarm: Box::pin(sleep_until(end.min(Instant::now() + limits.idle_timeout))),
        }
    }

    /// Returns the next action when it is due. `written` is whether the socket has taken everything.
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

    /// Tracks whether calls are in flight, because a draining connection waits for nothing else.
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

    /// The connection has ended by itself and needs no GOAWAY. Unwritten bytes may take their time, up to the grace
    /// period.
    pub(super) fn ended(&mut self) {
        self.ends_within(self.grace);
    }

    /// As [`Life::ended`], but unwritten bytes have only a moment.
    pub(super) fn ended_badly(&mut self) {
        self.ends_within(REST);
    }

    /// Sets the time at which the connection is closed. Returns whether GOAWAY is still to be sent. The earliest time
    /// counts: a draining node does not wait for a grace period that started before.
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
    // The sender lives as long as the node: an error means that the node is gone, too.
    let _ = draining.wait_for(|draining| *draining).await;
}

/// Returns the age plus or minus up to a tenth, so that connections made together do not end together (gRFC A9).
fn jittered(age: Duration) -> Duration {
    let random = RandomState::new().hash_one(0) as f64 / u64::MAX as f64;
    age.mul_f64(0.9 + 0.2 * random)
}
