//! FeedService.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use prost::Message as _;
use tonic::{Request, Response, Status};

use super::{publishing, request};
use crate::{
    auth::{Identity, Role},
    digest::Hash,
    feed::{ConsumerStatus, Consumers, Feeds, Filter, Follower, Form, GroupKey, Start, Watch},
    log::Position,
    model::{Id, limit},
    parse,
    refusal::{Refusal, decode_error},
    store::consumer::ConsumerKey,
    wire::{
        fields,
        service::feed_service_server::{FeedService, FeedServiceServer},
        v1::{self, ArticleView, watch_request},
    },
};

/// The maximum time without a message on a feed that does not set one, and the bounds of the value that a request sets.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);
const MIN_INTERVAL: Duration = Duration::from_secs(1);
const MAX_INTERVAL: Duration = Duration::from_secs(300);

/// The feeds of a node, and their consumers.
#[derive(Clone)]
pub(crate) struct FeedRpc {
    pub(crate) feeds: Arc<Feeds>,
    pub(crate) consumers: Arc<Consumers>,
}

/// Creates the service of everything but Watch.
pub(crate) fn server(rpc: FeedRpc) -> FeedServiceServer<FeedRpc> {
    FeedServiceServer::new(rpc).max_decoding_message_size(limit::READ_REQUEST.maximum as usize)
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
        let consumer = match &request.consumer[..] {
            "" => None,
            id => Some(consumer_key(caller, id)?),
        };
        let mut watch = parse_watch(request, form)?;
        if let Some(scope) = caller.scope() {
            let terms = scope.followed_terms().ok_or_else(|| {
                caller.limited("feeds follow only a filter of one tag, any tags, one section or any authors")
            })?;
            watch.group_key.filter.narrow(terms);
        }
        if let Some(consumer) = consumer {
            watch.start = self.consumer_start(consumer, watch.start).await?;
        }
        self.feeds.clone().watch(watch).await
    }

    /// Returns where the feed of a consumer starts. A consumer that would start now is stored first, so that its next
    /// feed does not start later than this one.
    async fn consumer_start(&self, consumer: ConsumerKey, requested: Start) -> Result<Start, Refusal> {
        if let Start::After { .. } = requested {
            return Ok(requested);
        }
        let position = match (self.consumers.position(&consumer).await?, &requested) {
            (None, Start::Now) => Some(self.consumers.register(consumer).await?),
            (position, _) => position,
        };
        Ok(position.map_or(requested, |Position { log_id, revision, chain }| Start::After {
            log_id: Some(log_id),
            revision,
            chain: Some(chain),
        }))
    }

    async fn acknowledge(
        &self,
        caller: &Identity,
        request: v1::AcknowledgePositionRequest,
    ) -> Result<v1::AcknowledgePositionResponse, Refusal> {
        let consumer = consumer_key(caller, &request.consumer)?;
        let position = parse_acknowledged(request.position.unwrap_or_default())?;
        self.feeds.check_position(&position).await?;
        let position = self.consumers.acknowledge(consumer, position, request.allow_rewind).await?;
        Ok(v1::AcknowledgePositionResponse { position: Some(publishing::position(&position)) })
    }

    async fn list(
        &self,
        caller: &Identity,
        request: v1::ListConsumersRequest,
    ) -> Result<v1::ListConsumersResponse, Refusal> {
        if request.all_owners {
            caller.require(Role::Admin, "all_owners")?;
        }
        let owner = Some(owner(caller)).filter(|_| !request.all_owners);
        let found = self.consumers.list(owner).await?;
        let mut consumers: Vec<_> = found.into_iter().map(consumer_message).collect();
        if caller.scope().is_some() {
            // The times of commits depend on articles that the caller does not see.
            consumers.iter_mut().for_each(|consumer| consumer.lag = None);
        }
        Ok(v1::ListConsumersResponse { consumers })
    }

    async fn delete(
        &self,
        caller: &Identity,
        request: v1::DeleteConsumerRequest,
    ) -> Result<v1::DeleteConsumerResponse, Refusal> {
        let mut consumer = consumer_key(caller, &request.consumer)?;
        if let Some(owner) = request.owner.filter(|owner| *owner != consumer.owner) {
            caller.require(Role::Admin, "the consumer of another owner")?;
            consumer.owner = owner;
        }
        self.consumers.delete(consumer).await?;
        Ok(v1::DeleteConsumerResponse {})
    }
}

#[tonic::async_trait]
impl FeedService for FeedRpc {
    async fn acknowledge_position(
        &self,
        request: Request<v1::AcknowledgePositionRequest>,
    ) -> Result<Response<v1::AcknowledgePositionResponse>, Status> {
        let caller = super::caller(&request);
        Ok(Response::new(self.acknowledge(&caller, request.into_inner()).await?))
    }

    async fn list_consumers(
        &self,
        request: Request<v1::ListConsumersRequest>,
    ) -> Result<Response<v1::ListConsumersResponse>, Status> {
        let caller = super::caller(&request);
        Ok(Response::new(self.list(&caller, request.into_inner()).await?))
    }

    async fn delete_consumer(
        &self,
        request: Request<v1::DeleteConsumerRequest>,
    ) -> Result<Response<v1::DeleteConsumerResponse>, Status> {
        let caller = super::caller(&request);
        Ok(Response::new(self.delete(&caller, request.into_inner()).await?))
    }
}

/// Returns the owner of the consumers of a caller.
fn owner(caller: &Identity) -> &str {
    caller.credential().map_or("", |credential| &credential.entry.name)
}

fn consumer_key(caller: &Identity, id: &str) -> Result<ConsumerKey, Refusal> {
    if Id::parse(id).is_none() {
        let problem = "must be a name of 1 to 128 of the characters A-Z, a-z, 0-9, ., _, ~ and -";
        return Err(Refusal::field("consumer", problem));
    }
    Ok(ConsumerKey { owner: owner(caller).to_owned(), id: id.to_owned() })
}

/// Parses a position that is acknowledged. Only a feed knows a chain, and a position with a chain is one to resume from.
fn parse_acknowledged(position: v1::Position) -> Result<Position, Refusal> {
    if position.revision < 0 {
        return Err(Refusal::field("position.revision", "must not be negative"));
    }
    let log_id = request::log_id(&position.log_id, "position.log_id")?;
    let log_id =
        log_id.ok_or_else(|| Refusal::field("position.log_id", "required: send the whole position"))?;
    let chain = Hash::try_from(&position.chain[..]);
    let chain = chain.map_err(|_| Refusal::field("position.chain", "must be the 32 bytes of a message"))?;
    Ok(Position { log_id, revision: position.revision, chain })
}

/// Returns the message of a consumer.
pub(super) fn consumer_message(consumer: ConsumerStatus) -> v1::Consumer {
    v1::Consumer {
        position: Some(publishing::position(&consumer.position)),
        consumer: consumer.key.id,
        owner: consumer.key.owner,
        create_time: Some(fields::timestamp(consumer.created)),
        acknowledge_time: Some(fields::timestamp(consumer.acknowledged)),
        lag_revisions: consumer.lag_revisions,
        lag: consumer.lag.and_then(|lag| lag.try_into().ok()),
        reset_reason: consumer.reset_reason.unwrap_or_default().into(),
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
        parse::duration(&interval).filter(|interval| (MIN_INTERVAL..=MAX_INTERVAL).contains(interval));
    interval.ok_or_else(|| Refusal::field("checkpoint_interval", "must be 1 s to 5 min"))
}
