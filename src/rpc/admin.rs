//! AdminService.

use std::sync::Arc;

use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::publishing::position;
use crate::{
    backup::{Backup, Backups, Part},
    health::Health,
    log::Position,
    model::limit,
    refusal::Refusal,
    wire::{
        service::admin_service_server::{AdminService, AdminServiceServer},
        v1::{self, backup_response},
    },
};

/// The operations on a node.
pub(crate) struct AdminRpc {
    pub(crate) backups: Arc<Backups>,
    pub(crate) health: Arc<Health>,
    /// Whether the node is shutting down. A backup then ends at once.
    pub(crate) draining: watch::Receiver<bool>,
}

/// Creates the service.
pub(crate) fn server(rpc: AdminRpc) -> AdminServiceServer<AdminRpc> {
    AdminServiceServer::new(rpc).max_decoding_message_size(limit::READ_REQUEST.maximum as usize)
}

#[tonic::async_trait]
impl AdminService for AdminRpc {
    type BackupStream = BoxStream<'static, Result<v1::BackupResponse, Status>>;

    async fn backup(
        &self,
        request: Request<v1::BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        let backup = self.backups.start(super::origin(&request))?;
        let (draining, health) = (self.draining.clone(), self.health.clone());
        let messages = stream::try_unfold((backup, draining), move |(mut backup, mut draining)| {
            let health = health.clone();
            async move {
                let part = next_part(&mut backup, &mut draining, &health).await?;
                Ok(part.map(|part| (message(part), (backup, draining))))
            }
        });
        Ok(Response::new(messages.boxed()))
    }
}

/// Returns the next part of a backup, unless the node shuts down.
async fn next_part(
    backup: &mut Backup,
    draining: &mut watch::Receiver<bool>,
    health: &Health,
) -> Result<Option<Part>, Refusal> {
    tokio::select! {
        biased;
        // The sender lives as long as the node: an error means that the node is gone, too.
        _ = draining.wait_for(|draining| *draining) => Err(Refusal::of_shutdown(health)),
        part = backup.next() => part,
    }
}

fn message(part: Part) -> v1::BackupResponse {
    let part = match part {
        Part::Manifest { head, bytes } => backup_response::Part::Manifest(v1::BackupManifest {
            position: Some(position(&Position::of(&head))),
            bytes: i64::try_from(bytes).unwrap_or(i64::MAX),
            log_digest: head.log_digest.to_bytes().to_vec().into(),
            content_digest: head.content_digest.to_bytes().to_vec().into(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }),
        Part::Chunk(chunk) => backup_response::Part::Chunk(chunk),
        Part::End { sha256 } => backup_response::Part::End(v1::BackupEnd { sha256: sha256.to_vec().into() }),
    };
    v1::BackupResponse { part: Some(part) }
}
