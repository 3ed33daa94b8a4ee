//! StatusService.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::publishing::position;
use crate::{
    content::Content,
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
    /// The start time of the node, in microseconds since 1970 UTC.
    pub(crate) started: i64,
}

/// Creates the service.
pub(crate) fn server(rpc: StatusRpc) -> StatusServiceServer<StatusRpc> {
    StatusServiceServer::new(rpc).max_decoding_message_size(limit::READ_REQUEST.maximum as usize)
}

#[tonic::async_trait]
impl StatusService for StatusRpc {
    async fn get_status(
        &self,
        _: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let (head, scrub) = (self.store.head(), self.store.last_scrub());
        let mut damage = scrub.damage;
        damage.database = self.store.is_damaged();
        let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let limit =
            |limit: &limit::Limit| v1::Limit { name: limit.name.to_owned(), maximum: signed(limit.maximum) };
        Ok(Response::new(v1::GetStatusResponse {
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
        }))
    }
}
