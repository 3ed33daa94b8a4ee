//! The health service of gRPC (`grpc.health.v1`), from the conditions of the node.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_server::{Health as HealthApi, HealthServer},
};

use crate::health::{Conditions, Health, SERVICES};

/// The services of tonic's crates, which serve while the node does.
const OTHER_SERVICES: [&str; 3] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];

/// The health of a node and its services.
pub(crate) struct HealthRpc {
    health: Arc<Health>,
}

/// Creates the service.
pub(crate) fn server(health: Arc<Health>) -> HealthServer<HealthRpc> {
    HealthServer::new(HealthRpc { health })
}

/// Returns the health of a service. The empty name is the whole node.
fn status(conditions: &Conditions, service: &str) -> ServingStatus {
    let is_known = service.is_empty() || SERVICES.iter().chain(&OTHER_SERVICES).any(|name| *name == service);
    match (is_known, conditions.is_serving(service)) {
        (false, _) => ServingStatus::ServiceUnknown,
        (true, true) => ServingStatus::Serving,
        (true, false) => ServingStatus::NotServing,
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status as i32 }
}

#[tonic::async_trait]
impl HealthApi for HealthRpc {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match status(&self.health.conditions(), &request.into_inner().service) {
            ServingStatus::ServiceUnknown => Err(Status::not_found("unknown service")),
            known => Ok(Response::new(response(known))),
        }
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    /// An unknown service is no error: its watcher receives SERVICE_UNKNOWN, and waits for a node that has it.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let watching = (self.health.subscribe(), request.into_inner().service, None);
        let changes = stream::unfold(watching, |(mut conditions, service, last)| async move {
            let next = next_status(&mut conditions, &service, last).await?;
            Some((Ok(response(next)), (conditions, service, Some(next))))
        });
        Ok(Response::new(changes.boxed()))
    }
}

/// Returns the health of a service once it differs from the last one that was sent.
async fn next_status(
    conditions: &mut watch::Receiver<Conditions>,
    service: &str,
    last: Option<ServingStatus>,
) -> Option<ServingStatus> {
    let changed = conditions.wait_for(|conditions| last != Some(status(conditions, service))).await;
    changed.ok().map(|conditions| status(&conditions, service))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{health::Condition, wire::POOL};

    fn request(service: &str) -> Request<HealthCheckRequest> {
        Request::new(HealthCheckRequest { service: service.to_owned() })
    }

    #[tokio::test]
    async fn every_service_of_a_node_is_known_by_name() {
        let rpc = HealthRpc { health: Arc::default() };
        let own = POOL.services().map(|service| service.full_name().to_owned());
        let names: Vec<String> =
            own.chain(OTHER_SERVICES.map(str::to_owned)).chain([String::new()]).collect();
        assert!(names.len() >= 9, "{names:?}");
        for name in names {
            let checked = rpc.check(request(&name)).await.unwrap().into_inner();
            assert_eq!(checked.status(), ServingStatus::Serving, "{name}");
        }
        let unknown = rpc.check(request("cable.v1.Nothing")).await.unwrap_err();
        assert_eq!(unknown.code(), tonic::Code::NotFound);
    }

    #[tokio::test]
    async fn a_watch_sends_each_change_once_and_knows_no_unknown_service() {
        let rpc = HealthRpc { health: Arc::default() };
        let watch = async |service| rpc.watch(request(service)).await.unwrap().into_inner();
        let [mut publishing, mut content, mut unknown] = [
            watch("cable.v1.PublishingService").await,
            watch("cable.v1.ContentService").await,
            watch("cable.v1.Nothing").await,
        ];
        let next = async |stream: &mut <HealthRpc as HealthApi>::WatchStream| {
            stream.next().await.unwrap().unwrap().status()
        };
        assert_eq!(next(&mut publishing).await, ServingStatus::Serving);
        assert_eq!(next(&mut content).await, ServingStatus::Serving);
        assert_eq!(next(&mut unknown).await, ServingStatus::ServiceUnknown);
        rpc.health.report(Condition::DiskFull, "a test");
        assert_eq!(next(&mut publishing).await, ServingStatus::NotServing);
        rpc.health.report(Condition::SyncFailed, "a test");
        for stream in [&mut publishing, &mut content, &mut unknown] {
            assert!(futures_util::poll!(stream.next()).is_pending());
        }
        rpc.health.report(Condition::Draining, "a test");
        assert_eq!(next(&mut content).await, ServingStatus::NotServing);
        assert!(futures_util::poll!(unknown.next()).is_pending());
    }
}
