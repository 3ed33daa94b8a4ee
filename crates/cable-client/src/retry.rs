//! The decision whether to retry, and the waits before retries.

use std::time::Duration;

use tokio::time::Instant;

use crate::Error;

/// A policy for retries of failed calls.
///
/// Only transient failures are retried: no connection, a lost connection, or the status UNAVAILABLE. Each write has a
/// request_id, so its retries are safe too. All attempts together take no longer than the timeout of the call.
///
/// A node that cannot be reached has not received the call. The same attempt continues with the next address until
/// one accepts the connection, or none does; this is not limited by the policy.
///
/// Imports and exports make three times as many attempts, unless only one is allowed, and count them from the last
/// progress. Feeds use the same waits, but their attempts are not limited, unless
/// [`max_outage`](crate::FeedBuilder::max_outage) limits their time.
///
/// ```
/// use std::time::Duration;
/// use cable_client::Retry;
///
/// let retry = Retry::default().attempts(5).backoff(Duration::from_millis(100), Duration::from_secs(5));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    attempts: u32,
    first: Duration,
    longest: Duration,
}

impl Default for Retry {
    /// Returns the default: three attempts, with waits of about 50 ms that double up to 2 s.
    fn default() -> Self {
        Retry { attempts: 3, first: Duration::from_millis(50), longest: Duration::from_secs(2) }
    }
}

impl Retry {
    /// Returns a policy without retries: each call is attempted once.
    #[must_use]
    pub fn none() -> Self {
        Retry::default().attempts(1)
    }

    /// Sets the largest number of attempts, including the first one. 0 is treated as 1. If unset, 3.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// Sets the wait after the first failure, which doubles with each further failure, and the longest wait. Each wait
    /// is drawn at random between half of that and all of it, so that many clients do not retry simultaneously. If the
    /// server requests a longer wait, that one applies. If unset, 50 ms and 2 s.
    #[must_use]
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        (self.first, self.longest) = (first, longest);
        self
    }

    /// Returns the policy of a transfer, which loses more if it fails: three times as many attempts, unless only one is
    /// allowed.
    pub(crate) fn for_transfer(&self) -> Retry {
        let attempts = if self.attempts == 1 { 1 } else { self.attempts.saturating_mul(3) };
        Retry { attempts, ..self.clone() }
    }

    /// Returns the wait after the `failures`th failure in a row. `None`: do not retry. A wait that the server requests
    /// applies even if it is longer than the longest wait.
    pub(crate) fn wait(&self, failures: u32, error: &Error) -> Option<Duration> {
        (failures < self.attempts && error.is_transient()).then(|| self.pause(failures, error))
    }

    /// Returns the wait after the `failures`th failure in a row, from 1, for a caller that retries without limit.
    pub(crate) fn pause(&self, failures: u32, error: &Error) -> Duration {
        let doubled = self.first.saturating_mul(1u32.checked_shl(failures - 1).unwrap_or(u32::MAX));
        let wait = jittered(doubled.min(self.longest));
        wait.max(error.retry_after().unwrap_or_default())
    }
}

/// The longest time that a timer waits, some 30 years. Longer durations are treated as this one: the clock cannot
/// represent their end, nor a call its deadline.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// Returns the time at which a duration from now ends, or one in the far future.
pub(crate) fn after(duration: Duration) -> Instant {
    Instant::now() + duration.min(FAR)
}

/// Returns a random duration between half of `wait` and all of it.
pub(crate) fn jittered(wait: Duration) -> Duration {
    wait.min(FAR).mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use tonic::{Code, Status};

    use super::*;
    use crate::error::tests::{refused_status, transport_status};

    fn lost_connection() -> Error {
        transport_status(Code::Unknown, std::io::Error::other("reset")).into()
    }

    #[test]
    fn retries_stop_after_the_last_attempt() {
        let retry = Retry::default();
        assert!(retry.wait(1, &lost_connection()).is_some() && retry.wait(2, &lost_connection()).is_some());
        assert_eq!(retry.wait(3, &lost_connection()), None);
        assert_eq!(Retry::none().wait(1, &lost_connection()), None);
        assert_eq!(Retry::default().attempts(0).wait(1, &lost_connection()), None);
    }

    #[test]
    fn only_transient_errors_are_retried() {
        let retry = Retry::default();
        for reason in ["NOT_CAUGHT_UP", "OVERLOADED", "DRAINING", "OUTCOME_UNKNOWN"] {
            assert!(
                retry.wait(1, &refused_status(Code::Unavailable, reason, None).into()).is_some(),
                "{reason}"
            );
        }
        let permanent =
            [Code::InvalidArgument, Code::NotFound, Code::Aborted, Code::ResourceExhausted, Code::Internal];
        for code in permanent {
            assert_eq!(retry.wait(1, &Status::new(code, "no").into()), None, "{code:?}");
        }
        assert_eq!(retry.wait(1, &Error::deadline(None)), None);
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let retry =
            Retry::default().attempts(100).backoff(Duration::from_millis(100), Duration::from_millis(350));
        for (failures, upper) in [(1, 100), (2, 200), (3, 350), (40, 350), (99, 350)] {
            let upper = Duration::from_millis(upper);
            let wait = retry.wait(failures, &lost_connection()).unwrap();
            assert!(wait <= upper && wait >= upper / 2, "{failures}: {wait:?}");
        }
    }

    #[test]
    fn a_wait_requested_by_the_server_applies() {
        let error = refused_status(Code::Unavailable, "OVERLOADED", Some(Duration::from_secs(7))).into();
        assert_eq!(Retry::default().wait(1, &error), Some(Duration::from_secs(7)));
    }
}
