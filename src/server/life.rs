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
const DRAIN_LINGER: Duration = Duration::from_millis(250);

/// The next action on a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shutdown {
    /// Send GOAWAY, so that the peer starts no more streams. This occurs once.
    GoAway,
    /// Close the connection.
    Close,
}

/// The lifetime of a connection. One timer serves all its deadlines.
pub(super) struct Lifetime {
    streams: Streams,
    /// The value of [`Streams::activity`] at the last check.
    last_activity: u64,
    idle: Duration,
    /// When the connection reaches its maximum age.
    max_age_at: Instant,
    grace: Duration,
    drain: Duration,
    /// None once the node drains.
    draining: Option<BoxFuture<'static, ()>>,
    /// Changes when the node drains.
    signal: watch::Receiver<bool>,
    /// The waker that the alarm and the signal wake.
    registered: Option<Waker>,
    /// When the connection is closed. None until it starts to end.
    close_at: Option<Instant>,
    /// The time from which no call has been in flight while the node drains.
    rest_since: Option<Instant>,
    alarm: Pin<Box<Sleep>>,
}

impl Lifetime {
    pub(super) fn new(
        limits: &Connections,
        drain: Duration,
        draining: watch::Receiver<bool>,
        streams: Streams,
    ) -> Lifetime {
        let end = Instant::now() + jittered(limits.max_age);
        Lifetime {
            last_activity: streams.activity(),
            streams,
            idle: limits.idle_timeout,
            max_age_at: end,
            grace: limits.goaway_grace,
            drain,
            signal: draining.clone(),
            registered: None,
            draining: Some(Box::pin(wait_for_drain(draining))),
            close_at: None,
            rest_since: None,
            alarm: Box::pin(sleep_until(end.min(Instant::now() + limits.idle_timeout))),
        }
    }

    /// Returns the next action when it is due. `written` is whether the socket has taken everything.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, written: bool) -> Poll<Shutdown> {
        if self.is_quiet(cx.waker()) {
            return Poll::Pending;
        }
        self.registered = Some(cx.waker().clone());
        if let Some(draining) = &mut self.draining
            && draining.as_mut().poll(cx).is_ready()
        {
            self.draining = None;
            if self.close_within(self.drain) {
                return Poll::Ready(Shutdown::GoAway);
            }
        }
        if self.draining.is_none() {
            self.track_rest(cx, written);
        }
        loop {
            ready!(self.alarm.as_mut().poll(cx));
            let now = Instant::now();
            if let Some(close_at) = self.close_at {
                let rested = self.rest_since.is_some_and(|since| now >= since + DRAIN_LINGER);
                if rested || now >= close_at {
                    return Poll::Ready(Shutdown::Close);
                }
                self.alarm.as_mut().reset(close_at);
                continue;
            }
            let unused = self.streams.is_empty() && self.streams.activity() == self.last_activity;
            if now >= self.max_age_at || unused {
                self.close_within(self.grace);
                return Poll::Ready(Shutdown::GoAway);
            }
            self.last_activity = self.streams.activity();
            self.alarm.as_mut().reset(self.max_age_at.min(now + self.idle));
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
    fn track_rest(&mut self, cx: &mut Context<'_>, written: bool) {
        self.streams.wake_at_rest(cx.waker());
        if !written || !self.streams.is_at_rest() {
            self.rest_since = None;
        } else if self.rest_since.is_none() {
            let now = Instant::now();
            self.rest_since = Some(now);
            let close_at =
                self.close_at.map_or(now + DRAIN_LINGER, |close_at| close_at.min(now + DRAIN_LINGER));
            self.alarm.as_mut().reset(close_at);
        }
    }

    /// The connection has ended by itself and needs no GOAWAY. Unwritten bytes may take their time, up to the grace
    /// period.
    pub(super) fn close_within_grace(&mut self) {
        self.close_within(self.grace);
    }

    /// As [`Lifetime::close_within_grace`], but unwritten bytes have only [`DRAIN_LINGER`].
    pub(super) fn close_soon(&mut self) {
        self.close_within(DRAIN_LINGER);
    }

    /// Sets the time at which the connection is closed. Returns whether GOAWAY is still to be sent. The earliest time
    /// counts: a draining node does not wait for a grace period that started before.
    fn close_within(&mut self, timeout: Duration) -> bool {
        let close_at = Instant::now() + timeout;
        let goaway_sent = self.close_at.is_some();
        if self.close_at.is_none_or(|before| close_at < before) {
            self.registered = None;
            self.close_at = Some(close_at);
            self.alarm.as_mut().reset(close_at);
        }
        !goaway_sent
    }
}

/// Waits until the node drains.
pub(super) async fn wait_for_drain(mut draining: watch::Receiver<bool>) {
    // The sender lives as long as the node: an error means that the node is gone, too.
    let _ = draining.wait_for(|draining| *draining).await;
}

/// Returns the age plus or minus up to a tenth, so that connections made together do not end together (gRFC A9).
fn jittered(age: Duration) -> Duration {
    let random = RandomState::new().hash_one(0) as f64 / u64::MAX as f64;
    age.mul_f64(0.9 + 0.2 * random)
}
