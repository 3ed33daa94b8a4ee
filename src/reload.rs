//! Reload: a running node reads the files again that it can replace while it runs, such as certificates and tokens.

use tokio::sync::watch;

/// A handle to request a reload, usually on SIGHUP. Clones belong to the same node.
///
/// A part of the node that reads files takes [`Requests`] from [`subscribe`](Reload::subscribe) at its start, and reads
/// its files again at each request. The paths of the files are settings, which do not change while a node runs; only
/// their content does. A part whose new files are invalid continues with the old ones and logs the error.
#[derive(Debug, Clone, Default)]
pub struct Reload(watch::Sender<Settings>);

/// The settings of the program, at a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Settings {
    #[default]
    Valid,
    /// They could not be read again, so the previous ones remain in effect.
    Invalid,
}

impl Reload {
    /// Notifies every subscriber. Requests that arrive while a subscriber is still reading its files are merged.
    pub fn request(&self) {
        self.0.send_replace(Settings::Valid);
    }

    /// Notifies every subscriber, as [`request`](Reload::request) does, after a reload of the settings that has failed.
    pub fn request_without_settings(&self) {
        self.0.send_replace(Settings::Invalid);
    }

    /// Returns the requests from now on.
    #[must_use]
    pub fn subscribe(&self) -> Requests {
        Requests(self.0.subscribe())
    }
}

/// The requests for a reload that one part of a node receives.
#[derive(Debug)]
pub struct Requests(watch::Receiver<Settings>);

impl Requests {
    /// Returns the state of the settings at the last request.
    pub(crate) fn settings(&self) -> Settings {
        *self.0.borrow()
    }

    /// Waits for the next request. Cancelling the wait loses no request.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // The last handle is gone, so no request can follow.
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_request_states_whether_the_settings_are_valid() {
        let reload = Reload::default();
        let mut requests = reload.subscribe();
        for settings in [Settings::Invalid, Settings::Valid] {
            match settings {
                Settings::Valid => reload.request(),
                Settings::Invalid => reload.request_without_settings(),
            }
            requests.next().await;
            assert_eq!(requests.settings(), settings);
        }
    }

    #[tokio::test]
    async fn each_subscriber_receives_each_request_and_merges_those_that_it_missed() {
        let reload = Reload::default();
        reload.request();
        let mut parts = [reload.subscribe(), reload.clone().subscribe()];
        for part in &mut parts {
            assert!(part.next().now_or_never().is_none(), "a request from before the subscription");
        }
        for requests in 1..=3 {
            (0..requests).for_each(|_| reload.request());
            for part in &mut parts {
                part.next().now_or_never().unwrap();
                assert!(part.next().now_or_never().is_none());
            }
        }
        drop(reload);
        for part in &mut parts {
            assert!(part.next().now_or_never().is_none(), "a dropped handle is no request");
        }
    }
}
