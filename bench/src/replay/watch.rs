//! Calls of Watch, many on one connection.

use cable_client::{
    Position, ProtoDuration,
    v1::{FeedFilter, WatchRequest, WatchResponse, watch_request::Start},
};
use tonic::{
    Request, Status, Streaming,
    client::Grpc,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use crate::Outcome;

/// The checkpoint interval of a feed.
const CHECKPOINT_INTERVAL: ProtoDuration = ProtoDuration { seconds: 1, nanos: 0 };

/// A connection.
#[derive(Debug, Clone)]
pub(super) struct Connection(Grpc<Channel>);

impl Connection {
    /// Returns a connection to a node. It opens on first use.
    ///
    /// # Errors
    /// Fails if the endpoint is invalid.
    pub(super) fn new(endpoint: &str) -> Outcome<Connection> {
        let channel = Endpoint::from_shared(endpoint.to_owned())?.connect_lazy();
        Ok(Connection(Grpc::new(channel).max_decoding_message_size(usize::MAX)))
    }

    /// Follows a tag from a position.
    ///
    /// # Errors
    /// Fails if the node rejects the call or cannot be reached.
    pub(super) async fn watch(&self, tag: &str, after: Position) -> Result<Streaming<WatchResponse>, Status> {
        let mut request = WatchRequest::default();
        let mut filter = FeedFilter::default();
        filter.any_tags.push(tag.to_owned());
        request.filter = Some(filter);
        request.start = Some(Start::After(after));
        request.checkpoint_interval = Some(CHECKPOINT_INTERVAL);
        let mut grpc = self.0.clone();
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = http::uri::PathAndQuery::from_static("/cable.v1.FeedService/Watch");
        let codec = ProstCodec::<WatchRequest, WatchResponse>::default();
        Ok(grpc.server_streaming(Request::new(request), path, codec).await?.into_inner())
    }
}
