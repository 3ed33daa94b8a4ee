//! The methods that a node serves, and how calls of each are served.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use prost_reflect::{DescriptorPool, MethodDescriptor};

use super::{access_log::Observer, shedding::Cost};
use crate::{
    auth::{self, Role},
    content::Read,
    model::limit::{self, Limit},
    rpc::content::ContentRpc,
    telemetry::RpcMetrics,
    wire::POOL,
};

/// The methods of one core, by their paths.
pub(super) struct Methods {
    by_path: HashMap<String, Arc<Method>, foldhash::fast::RandomState>,
    /// The method for all unknown paths, so that a peer cannot create metric labels.
    other: Arc<Method>,
}

impl Methods {
    pub(super) fn new(observer: &Arc<Observer>) -> Methods {
        let metrics = &observer.metrics;
        let own = list_methods(&POOL).into_iter().map(|method| {
            let metrics = metrics.for_method(&name(&method), method.is_server_streaming());
            Method::cable(&method, metrics, observer.clone())
        });
        let others = tonic_methods().into_iter().map(|method| {
            let metrics = metrics.for_method("other", method.is_server_streaming());
            Method::tonic(&method, metrics, observer.clone())
        });
        let by_path = own.chain(others).map(|method| (method.path.clone(), Arc::new(method)));
        Methods {
            by_path: by_path.collect(),
            other: Arc::new(Method::unknown(metrics.for_method("other", false), observer.clone())),
        }
    }

    /// Returns the method with a path.
    pub(super) fn find(&self, path: &str) -> &Arc<Method> {
        self.by_path.get(path).unwrap_or(&self.other)
    }
}

/// A method that is served here without tonic.
#[derive(Debug, Clone, Copy)]
pub(super) enum NativeMethod {
    Read(Read),
    Watch,
}

/// A method of a service.
pub(super) struct Method {
    pub(super) native: Option<NativeMethod>,
    /// `/package.Service/Method`; of an unknown method, a path that tonic does not know either.
    pub(super) path: String,
    /// The role that a caller needs. `None`: anyone may call it.
    pub(super) required_role: Option<Role>,
    /// Whether it writes, shows pending versions or operates the node.
    pub(super) publishes: bool,
    pub(super) limit: &'static Limit,
    /// Whether the method writes.
    pub(super) writes: bool,
    /// Whether the audit log attributes what it does to its caller.
    pub(super) audited: bool,
    /// Whether the client streams its requests. It may then take its time.
    pub(super) client_streams: bool,
    /// Whether the response is a stream, which may last until the client's deadline.
    pub(super) streams: bool,
    /// Whether the response ends only with the node, the client or its deadline.
    pub(super) endless: bool,
    pub(super) reservation: Reservation,
    /// Its cost to a node that is overloaded.
    pub(super) cost: Cost,
    /// The node-wide limit on concurrent calls of the method, if it has one.
    pub(super) quota: Option<Quota>,
    pub(super) metrics: RpcMetrics,
    pub(super) observer: Arc<Observer>,
}

/// Bytes that are reserved in the account of the connection: before the response is made, and before each further piece
/// of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reservation {
    pub(super) first: usize,
    pub(super) next: usize,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Quota {
    Imports,
    Reflections,
}

impl Reservation {
    /// An entity with its includes, a page, a piece of a stream, and the response of a write. A larger response waits
    /// for more room, so these sizes need to fit only most responses.
    const ENTITY: Reservation = Reservation { first: 256 << 10, next: 0 };
    const PAGE: Reservation = Reservation { first: 2 << 20, next: 0 };
    const PIECES: Reservation = Reservation { first: 512 << 10, next: 512 << 10 };
    const WRITE: Reservation = Reservation { first: 4 << 10, next: 0 };

    fn of(method: &MethodDescriptor) -> Reservation {
        match method.name() {
            "StreamArticles" | "Export" | "Backup" => Reservation::PIECES,
            "GetPending" => Reservation::ENTITY,
            "BatchGetArticles" => Reservation::PAGE,
            name if name.starts_with("List") => Reservation::PAGE,
            name if name.starts_with("Get") || name.starts_with("Resolve") => Reservation::ENTITY,
            _ => Reservation::WRITE,
        }
    }
}

impl Method {
    /// Returns a method of one of our services.
    fn cable(method: &MethodDescriptor, metrics: RpcMetrics, observer: Arc<Observer>) -> Method {
        let service = method.parent_service();
        let native = match service.full_name() {
            "cable.v1.ContentService" => ContentRpc::read(method.name()).map(NativeMethod::Read),
            "cable.v1.FeedService" => (method.name() == "Watch").then_some(NativeMethod::Watch),
            _ => None,
        };
        let is_large =
            ["cable.v1.PublishingService", "cable.v1.TransferService"].contains(&service.full_name());
        Method {
            native,
            path: path(method),
            required_role: auth::required_role(&name(method)),
            publishes: auth::publishes(&name(method)),
            writes: auth::writes(&name(method)),
            audited: auth::audited(&name(method)),
            limit: if is_large { &limit::WRITE_REQUEST } else { &limit::READ_REQUEST },
            client_streams: method.is_client_streaming(),
            streams: method.is_server_streaming(),
            endless: matches!(native, Some(NativeMethod::Watch)),
            reservation: Reservation::of(method),
            cost: cost(native, method),
            quota: method.is_client_streaming().then_some(Quota::Imports),
            metrics,
            observer,
        }
    }

    /// Returns a method of the health or reflection service.
    fn tonic(method: &MethodDescriptor, metrics: RpcMetrics, observer: Arc<Observer>) -> Method {
        Method {
            path: path(method),
            required_role: auth::required_role(&name(method)),
            client_streams: method.is_client_streaming(),
            streams: method.is_server_streaming(),
            endless: method.is_server_streaming(),
            quota: method.is_client_streaming().then_some(Quota::Reflections),
            cost: if method.is_client_streaming() { Cost::Stream } else { Cost::Essential },
            ..Method::unknown(metrics, observer)
        }
    }

    fn unknown(metrics: RpcMetrics, observer: Arc<Observer>) -> Method {
        Method {
            native: None,
            path: "/".to_owned(),
            required_role: Some(Role::Reader),
            publishes: false,
            limit: &limit::CHECK_REQUEST,
            writes: false,
            audited: false,
            client_streams: false,
            streams: false,
            endless: false,
            reservation: Reservation::WRITE,
            cost: Cost::Essential,
            quota: None,
            metrics,
            observer,
        }
    }

    /// Returns the name of the method with that of its service. All unknown methods have the name `other`.
    pub(super) fn full_name(&self) -> &str {
        Some(self.path.trim_start_matches('/')).filter(|name| !name.is_empty()).unwrap_or("other")
    }

    /// Returns the name of the method, without that of its service.
    pub(super) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Returns the time by which the response must be ready, or a streamed response must have started.
    pub(super) fn response_deadline(
        &self,
        start: Instant,
        request_timeout: Duration,
        deadline: Option<Instant>,
    ) -> Option<Instant> {
        let timeout = (!self.client_streams).then(|| start + request_timeout);
        deadline.into_iter().chain(timeout).min()
    }
}

/// Returns the cost of one of our methods to a node that is overloaded.
fn cost(native: Option<NativeMethod>, method: &MethodDescriptor) -> Cost {
    let is_admin = auth::required_role(&name(method)) == Some(Role::Admin);
    match native {
        Some(NativeMethod::Watch) => Cost::Long,
        Some(NativeMethod::Read(Read::StreamArticles)) => Cost::Stream,
        Some(NativeMethod::Read(_)) => Cost::Read,
        None if method.is_client_streaming() => Cost::Long,
        None if method.is_server_streaming() && !is_admin => Cost::Stream,
        None => Cost::Essential,
    }
}

/// Returns the name of a method with that of its service.
fn name(method: &MethodDescriptor) -> String {
    format!("{}/{}", method.parent_service().full_name(), method.name())
}

/// Returns the path of a method.
fn path(method: &MethodDescriptor) -> String {
    format!("/{}", name(method))
}

fn list_methods(pool: &DescriptorPool) -> Vec<MethodDescriptor> {
    pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()).collect()
}

/// Returns the methods of the services of tonic's crates that a node has in addition to its own.
fn tonic_methods() -> Vec<MethodDescriptor> {
    let files = [
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let pools = files.into_iter().filter_map(|files| DescriptorPool::decode(files).ok());
    pools.flat_map(|pool| list_methods(&pool)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn method(client_streams: bool) -> Method {
        let observer = Observer::for_test();
        let metrics = observer.metrics.for_method("a", false);
        Method { client_streams, ..Method::unknown(metrics, observer) }
    }

    #[test]
    fn every_method_that_is_served_is_described() {
        let tonic_methods = tonic_methods();
        let paths: Vec<_> = tonic_methods.iter().map(path).collect();
        for name in [
            "grpc.health.v1.Health/Check",
            "grpc.health.v1.Health/Watch",
            "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ] {
            assert!(paths.contains(&format!("/{name}")), "{name}: {paths:?}");
        }
        let observer = Observer::for_test();
        let metrics = || observer.metrics.for_method("a", false);
        let of = |method: &MethodDescriptor| Method::tonic(method, metrics(), observer.clone());
        for method in &tonic_methods {
            let (name, described) = (path(method), of(method));
            assert_eq!(described.limit.maximum, 4 << 10, "{name}");
            assert_eq!(described.client_streams, name.ends_with("Info"), "{name}");
        }
    }

    #[test]
    fn writes_and_health_checks_are_essential() {
        let observer = Observer::for_test();
        let methods = Methods::new(&observer);
        for method in methods.by_path.values() {
            let name = method.name();
            let expected = match name {
                "Watch" if method.native.is_some() => Cost::Long,
                "Import" => Cost::Long,
                "StreamArticles" | "Export" | "ServerReflectionInfo" => Cost::Stream,
                // An operator may need a backup most when the node is in trouble.
                "Backup" => Cost::Essential,
                _ if method.native.is_some() => Cost::Read,
                _ => Cost::Essential,
            };
            assert_eq!(method.cost, expected, "{}", method.path);
            assert!(!method.writes || name == "Import" || method.cost == Cost::Essential, "{name}");
            assert!(method.required_role.is_some() || method.cost == Cost::Essential, "{name}");
        }
    }

    #[test]
    fn only_a_client_stream_may_exceed_the_request_timeout() {
        let start = Instant::now();
        let [soon, late] = [1, 100].map(|secs| start + Duration::from_secs(secs));
        let request_timeout = Duration::from_secs(60);
        let bounds = |client_streams| {
            [None, Some(soon), Some(late)]
                .map(|end| method(client_streams).response_deadline(start, request_timeout, end))
        };
        assert_eq!(bounds(false), [Some(start + request_timeout), Some(soon), Some(start + request_timeout)]);
        assert_eq!(bounds(true), [None, Some(soon), Some(late)]);
    }
}
