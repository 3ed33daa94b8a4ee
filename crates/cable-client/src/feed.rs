//! Feeds: streams of changes that survive lost connections, node failures and restarts of the client.
//!
//! [`FeedBuilder`] holds the options, `session` runs the streams, and [`Feed`] is the handle that the caller polls. The
//! handle and the session share a [`FeedStatus`], which can be read while the stream waits.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures_util::{Stream, StreamExt as _};

use crate::{
    Position, Result,
    list::{Exclusive, ResultStream},
    position::Saver,
    v1,
};

mod builder;
mod events;
mod session;

pub use builder::FeedBuilder;
pub use events::{Delivery, Event, FeedChange, NameState, ResetReason};

/// The filter of a feed or a mirror.
///
/// All set conditions must match; of the values of one condition, any. Only articles have tags, sections and authors:
/// with one of these conditions, only articles match. The empty filter matches everything.
///
/// ```
/// use cable_client::{EntityKind, FeedFilter};
///
/// let storms = FeedFilter::default().any_tag("storm").any_tag("flood").section("world");
/// assert_eq!(storms.any_tags, ["tags/storm", "tags/flood"]);
/// let taxonomy = FeedFilter::default().kind(EntityKind::Section).kind(EntityKind::Tag);
/// assert_eq!(taxonomy.kinds.len(), 2);
/// ```
pub type FeedFilter = v1::FeedFilter;

/// A stream of the changes that match a filter, without gaps and without repeats, across connections.
///
/// Poll the stream to keep it running. A server disconnects a client that reads nothing for 30 s; the feed then resumes
/// automatically.
///
/// The feed ends after an error. Only errors that need intervention end it:
///
/// - a request that the server refuses,
/// - a position from which the server cannot resume,
/// - a position that cannot be saved,
/// - a commit above the limit,
/// - five server faults in a row ([`ErrorKind::DataLoss`](crate::ErrorKind::DataLoss), [`ErrorKind::Internal`](crate::ErrorKind::Internal), [`ErrorKind::Unknown`](crate::ErrorKind::Unknown),
///   [`ErrorKind::Malformed`](crate::ErrorKind::Malformed)).
///
/// The feed retries after all other errors, without limit and with growing random waits. A message that it delivers ends
/// the row of faults only if it has a new position, or shows that the feed has caught up.
///
/// ```no_run
/// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
/// use cable_client::{FeedFilter, FilePosition};
/// use futures_util::TryStreamExt as _;
///
/// let store = FilePosition::new("storm.position");
/// let mut feed = cable.feed(FeedFilter::default().any_tag("storm")).save_to(store).open();
/// while let Some(delivery) = feed.try_next().await? {
///     println!("{:?} after {} reconnects", delivery.event, feed.reconnects());
///     if feed.is_caught_up() {
///         break;
///     }
/// }
/// feed.close().await?; // writes the position of the last delivery
/// # Ok(())
/// # }
/// ```
#[must_use = "streams do nothing unless polled"]
pub struct Feed {
    deliveries: Exclusive<ResultStream<Delivery>>,
    status: Arc<FeedStatus>,
    saver: Option<Arc<Saver>>,
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("status", &*self.status.lock()).finish_non_exhaustive()
    }
}

impl Feed {
    /// Returns the position of the last delivery or, before the first one, the position that the feed starts after.
    /// `None` if there is neither: during a snapshot, and before the feed is first polled.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.status.lock().position.clone()
    }

    /// Returns whether the feed has caught up: the current stream has delivered a checkpoint that is not `behind`, and
    /// no reset since.
    ///
    /// A feed that has caught up has delivered everything that the node had when it sent the checkpoint.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        self.status.is_caught_up()
    }

    /// Returns how many times the feed has reconnected.
    #[must_use]
    pub fn reconnects(&self) -> u64 {
        self.status.lock().streams.saturating_sub(1)
    }

    /// Closes the feed. All its deliveries count as handled, and the position of the last one is written.
    ///
    /// # Errors
    /// [`ErrorKind::PositionStore`](crate::ErrorKind::PositionStore), or the error of a call for the feed of a consumer:
    /// the position could not be saved. A later feed repeats the deliveries since the last saved one. A feed without a
    /// store and without a consumer cannot fail.
    pub async fn close(self) -> Result<()> {
        let Some(saver) = &self.saver else { return Ok(()) };
        if let Some(position) = self.position() {
            saver.mark_handled(position)?;
        }
        saver.flush().await
    }

    pub(crate) fn status(&self) -> Arc<FeedStatus> {
        Arc::clone(&self.status)
    }
}

impl Stream for Feed {
    type Item = Result<Delivery>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.deliveries.get_mut().poll_next_unpin(cx)
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        if let Some(saver) = &self.saver {
            saver.close();
        }
    }
}

/// The state of a feed that its handle can read while the stream waits.
#[derive(Default)]
pub(crate) struct FeedStatus(Mutex<State>);

/// The position of the last delivery, whether the stream has caught up, and the number of streams opened so far.
#[derive(Debug, Default)]
struct State {
    position: Option<Position>,
    caught_up: bool,
    streams: u64,
}

impl FeedStatus {
    pub(crate) fn is_caught_up(&self) -> bool {
        self.lock().caught_up
    }

    /// Records that the feed ended without an error of its own.
    pub(crate) fn end(&self) {
        self.lock().caught_up = false;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
