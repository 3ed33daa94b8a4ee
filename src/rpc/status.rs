//! StatusService.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{feed::consumer_message, publishing::position};
use crate::{
    auth::Role,
    clock::Clock,
    content::Content,
    feed::Consumers,
    log::Position,
    model::{Kind, limit},
    store::Store,
    wire::{
        fields,
        service::status_service_server::{StatusService, StatusServiceServer},
        v1,
    },
};

/// The status of a node.
pub(crate) struct StatusRpc {
    pub(crate) store: Arc<Store>,
    pub(crate) content: Arc<Content>,
    pub(crate) consumers: Arc<Consumers>,
    pub(crate) clock: Clock,
    /// The start time of the node, in microseconds since 1970 UTC.
    pub(crate) started: i64,
}

/// How long a change must have been due before it counts as overdue, in microseconds. The scheduler retries each second.
const OVERDUE_MICROS: i64 = 60_000_000;

/// The maximum number of overdue changes that are counted.
const MAX_OVERDUE: usize = 1_000;

impl StatusRpc {
    /// Counts the overdue changes. Returns `None` if the store cannot be read now: the rest of a status is needed then.
    async fn count_overdue(&self) -> Option<i64> {
        let time = self.clock.now() - OVERDUE_MICROS;
        let overdue = self.store.read(move |snapshot| snapshot.due_by(time, None, MAX_OVERDUE)).await.ok()?;
        i64::try_from(overdue.len()).ok()
    }

    /// Returns the consumers in numbers. Returns `None` if they cannot be read now.
    async fn summarize_consumers(&self) -> Option<v1::ConsumerSummary> {
        let consumers = self.consumers.list(None).await.ok()?;
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let (lost, resumable): (Vec<_>, Vec<_>) =
            consumers.into_iter().partition(|consumer| consumer.reset_reason.is_some());
        Some(v1::ConsumerSummary {
            count: count(lost.len() + resumable.len()),
            lost: count(lost.len()),
            furthest_behind: resumable
                .into_iter()
                .filter(|consumer| consumer.lag_revisions > 0)
                .max_by_key(|consumer| consumer.lag_revisions)
                .map(consumer_message),
        })
    }
}

/// Creates the service.
pub(crate) fn server(rpc: StatusRpc) -> StatusServiceServer<StatusRpc> {
    StatusServiceServer::new(rpc).max_decoding_message_size(limit::READ_REQUEST.maximum as usize)
}

#[tonic::async_trait]
impl StatusService for StatusRpc {
    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let caller = super::caller(&request);
        let for_editor = caller.includes(Role::Editor) && super::shows_pending(&request);
        let mut status = self.status(for_editor).await;
        if caller.includes(Role::Admin) {
            status.consumers = self.summarize_consumers().await;
        }
        Ok(Response::new(match caller.scope() {
            None => status,
            Some(_) => without_content(status),
        }))
    }
}

/// Returns the status for a caller that is limited to some articles: without the fields that depend on the others.
fn without_content(status: v1::GetStatusResponse) -> v1::GetStatusResponse {
    let v1::GetStatusResponse { version, head, oldest_revision, limits, start_time, .. } = status;
    v1::GetStatusResponse { version, head, oldest_revision, limits, start_time, ..Default::default() }
}

impl StatusRpc {
    /// Returns the status. Only editors learn about pending versions.
    async fn status(&self, for_editor: bool) -> v1::GetStatusResponse {
        let (head, scrub) = (self.store.head(), self.store.last_scrub());
        let mut damage = scrub.damage;
        damage.database = self.store.is_damaged();
        let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let limit =
            |limit: &limit::Limit| v1::Limit { name: limit.name.to_owned(), maximum: signed(limit.maximum) };
        v1::GetStatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            head: Some(position(&Position::of(&head))),
            oldest_revision: head.floor,
            counts: Some(v1::Counts {
                articles: head.live(Kind::Article),
                authors: head.live(Kind::Author),
                sections: head.live(Kind::Section),
                tags: head.live(Kind::Tag),
                collections: head.live(Kind::Collection),
            }),
            log_digest: head.log_digest.to_bytes().to_vec().into(),
            content_digest: head.content_digest.to_bytes().to_vec().into(),
            limits: limit::ALL.iter().map(limit).collect(),
            store_bytes: signed(self.store.bytes_on_disk()),
            cache_bytes: signed(self.content.cache_counts().bytes),
            start_time: Some(fields::timestamp(self.started)),
            damage: damage.to_message(),
            check_time: scrub.time.map(fields::timestamp),
            conditions: self.store.health().conditions().iter().map(|(it, _)| it.name().to_owned()).collect(),
            free_bytes: self.store.free_bytes().map(signed),
            reserve_bytes: signed(self.store.reserve_bytes()),
            overdue_changes: if for_editor { self.count_overdue().await } else { None },
            consumers: None,
        }
    }
}
