//! FeedService.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use prost::Message as _;
use tonic::Status;

use super::request;
use crate::{
    digest::Hash,
    feed::{Feeds, Filter, Follower, GroupKey, Start, Watch},
    refusal::{Refusal, undecodable},
    wire::v1::{self, ArticleView, watch_request},
};

/// The maximum time without a message on a feed that does not set one, and the bounds of the value that a request sets.
const INTERVAL: Duration = Duration::from_secs(10);
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);

/// The feeds of a node.
#[derive(Clone)]
pub(crate) struct FeedRpc {
    pub(crate) feeds: Arc<Feeds>,
}

impl FeedRpc {
    /// Handles Watch.
    pub(crate) async fn watch(&self, message: Bytes) -> Result<Follower, Status> {
        let asked = v1::WatchRequest::decode(message).map_err(|error| undecodable(&error))?;
        Ok(self.feeds.clone().watch(watch(asked)?).await?)
    }
}

fn watch(asked: v1::WatchRequest) -> Result<Watch, Refusal> {
    let selection = request::selection(asked.view, asked.body_format, &[], ArticleView::Basic)?;
    let group_key = GroupKey {
        filter: Filter::parse(&asked.filter.unwrap_or_default())?,
        shape: selection.shape,
        backfill: asked.include_backfill,
    };
    let interval = interval(asked.checkpoint_interval)?;
    Ok(Watch { group_key, start: start(asked.start)?, may_reset: asked.reset, interval })
}

fn start(asked: Option<watch_request::Start>) -> Result<Start, Refusal> {
    let position = match asked {
        None => return Ok(Start::Now),
        Some(watch_request::Start::Snapshot(true)) => return Ok(Start::Snapshot),
        Some(watch_request::Start::Snapshot(false)) => {
            return Err(Refusal::field("snapshot", "only `true` is a start"));
        }
        Some(watch_request::Start::After(position)) => position,
    };
    if position.revision < 0 {
        return Err(Refusal::field("after.revision", "it must not be negative"));
    }
    let chain = match &position.chain[..] {
        [] => None,
        chain => {
            let chain = Hash::try_from(chain);
            Some(chain.map_err(|_| Refusal::field("after.chain", "it must be of 32 bytes"))?)
        }
    };
    let log_id = request::log_id(&position.log_id, "after.log_id")?;
    Ok(Start::After { log_id, revision: position.revision, chain })
}

fn interval(asked: Option<prost_types::Duration>) -> Result<Duration, Refusal> {
    let Some(asked) = asked else { return Ok(INTERVAL) };
    let interval = Duration::try_from(asked).ok().filter(|asked| (SHORTEST..=LONGEST).contains(asked));
    interval.ok_or_else(|| Refusal::field("checkpoint_interval", "it must be from 1 s to 5 min"))
}
