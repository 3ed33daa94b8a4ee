//! FeedService.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use prost::Message as _;

use super::request;
use crate::{
    auth::Identity,
    digest::Hash,
    feed::{Feeds, Filter, Follower, Form, GroupKey, Start, Watch},
    refusal::{Refusal, decode_error},
    wire::v1::{self, ArticleView, watch_request},
};

/// The maximum time without a message on a feed that does not set one, and the bounds of the value that a request sets.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);
const MIN_INTERVAL: Duration = Duration::from_secs(1);
const MAX_INTERVAL: Duration = Duration::from_secs(300);

/// The feeds of a node.
#[derive(Clone)]
pub(crate) struct FeedRpc {
    pub(crate) feeds: Arc<Feeds>,
}

impl FeedRpc {
    /// Handles Watch. The stream has messages of a form.
    pub(crate) async fn watch(
        &self,
        message: Bytes,
        form: Form,
        caller: &Identity,
    ) -> Result<Follower, Refusal> {
        let request = v1::WatchRequest::decode(message).map_err(|error| decode_error(&error))?;
        let mut watch = parse_watch(request, form)?;
        if let Some(scope) = caller.scope() {
            let terms = scope.followed_terms().ok_or_else(|| {
                caller.limited("feeds follow only a filter of one tag, any tags, one section or any authors")
            })?;
            watch.group_key.filter.narrow(terms);
        }
        self.feeds.clone().watch(watch).await
    }
}

fn parse_watch(request: v1::WatchRequest, form: Form) -> Result<Watch, Refusal> {
    let selection = request::selection(request.view, request.body_format, &[], ArticleView::Basic)?;
    let group_key = GroupKey {
        filter: Filter::parse(&request.filter.unwrap_or_default())?,
        shape: selection.shape,
        backfill: request.include_backfill,
        form,
    };
    let interval = parse_interval(request.checkpoint_interval)?;
    Ok(Watch { group_key, start: parse_start(request.start)?, may_reset: request.allow_reset, interval })
}

fn parse_start(start: Option<watch_request::Start>) -> Result<Start, Refusal> {
    let position = match start {
        None => return Ok(Start::Now),
        Some(watch_request::Start::Snapshot(true)) => return Ok(Start::Snapshot),
        Some(watch_request::Start::Snapshot(false)) => {
            return Err(Refusal::field("snapshot", "must be true if set"));
        }
        Some(watch_request::Start::After(position)) => position,
    };
    if position.revision < 0 {
        return Err(Refusal::field("after.revision", "must not be negative"));
    }
    let chain = match &position.chain[..] {
        [] => None,
        chain => {
            let chain = Hash::try_from(chain);
            Some(chain.map_err(|_| Refusal::field("after.chain", "must be 32 bytes"))?)
        }
    };
    let log_id = request::log_id(&position.log_id, "after.log_id")?;
    Ok(Start::After { log_id, revision: position.revision, chain })
}

fn parse_interval(interval: Option<prost_types::Duration>) -> Result<Duration, Refusal> {
    let Some(interval) = interval else { return Ok(DEFAULT_INTERVAL) };
    let interval =
        Duration::try_from(interval).ok().filter(|interval| (MIN_INTERVAL..=MAX_INTERVAL).contains(interval));
    interval.ok_or_else(|| Refusal::field("checkpoint_interval", "must be 1 s to 5 min"))
}
