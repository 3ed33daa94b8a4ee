//! Serves a read over HTTP. It is a call of its method: with the same rights, limits, deadline and metrics.

use std::{panic::AssertUnwindSafe, pin::pin, sync::Arc};

use futures_util::FutureExt as _;
use http::request::Parts;
use tonic::Status;

use super::{Admitted, Calls, Opened, with_deadline};
use crate::{
    content::{Document, Form, RequestKey},
    model::Revision,
    refusal::Refusal,
    rpc,
    server::{call::Call, delivery::Pace, flight::Charge, streams::Streams, transport},
    supervise,
    web::request::{DocumentRequest, Resource, name_parameter},
};

/// A document up to this size in bytes is passed to the connection as a whole. A larger one is passed in pieces of this
/// size, which share its bytes.
pub(in crate::server) const PIECE_BYTES: usize = 256 << 10;

/// The reply to a read over HTTP.
pub(in crate::server) struct DocumentReply {
    pub(in crate::server) call: Call,
    /// Whether the caller has sent credentials, so that the response is for it alone.
    pub(in crate::server) is_private: bool,
    /// The surrogate keys of what is requested.
    pub(in crate::server) keys: Arc<[String]>,
    pub(in crate::server) outcome: Result<Found, Status>,
}

/// A document that is served.
pub(in crate::server) struct Found {
    pub(in crate::server) document: Arc<Document>,
    pub(in crate::server) revision: Revision,
    /// The pace of its body. None if the response has no body.
    pub(in crate::server) pace: Option<Pace>,
}

impl Calls {
    /// Whether a path is that of a method.
    pub(in crate::server) fn is_method(&self, path: &str) -> bool {
        self.methods.find(path).path == path && path != "/"
    }

    /// Whether a path is that of a method that writes, shows pending versions or operates the node.
    pub(in crate::server) fn publishes(&self, path: &str) -> bool {
        self.methods.find(path).publishes
    }

    /// Serves a read over HTTP. `has_body` decides whether the response to it has a body.
    pub(in crate::server) async fn document(
        &self,
        parts: &Parts,
        resource: Resource<'_>,
        streams: &Streams,
        has_body: impl Fn(&Document) -> bool,
    ) -> DocumentReply {
        let mut head = transport::head(parts, streams.peer());
        (head.path, head.timeout) = (resource.read().path(), None);
        let is_private = head.authorization.is_some();
        let Opened { call, admitted } = self.open(&head, streams);
        let mut reply = DocumentReply {
            is_private: is_private || call.caller.credential().is_some(),
            call,
            keys: Arc::new([]),
            outcome: Err(Status::internal("")),
        };
        let request = admitted.and_then(|Admitted { deadline, .. }| {
            let at_least = parts.headers.get("cable-at-least").map(http::HeaderValue::as_bytes);
            let request = resource.request(parts.uri.query(), at_least)?;
            Ok((request, deadline))
        });
        let (request, deadline) = match request {
            Ok(parsed) => parsed,
            Err(status) => {
                reply.outcome = Err(status);
                return reply;
            }
        };
        reply.keys = request.keys.clone();
        let method = reply.call.method.clone();
        let bound = method.response_deadline(reply.call.start, self.request_timeout, deadline);
        let outcome = {
            let found = pin!(async {
                supervise::failpoint(&method.path, &self.state.health);
                self.find_document(&reply.call, resource, request, streams, has_body).await
            });
            AssertUnwindSafe(with_deadline(bound, found)).catch_unwind().await
        };
        reply.outcome = outcome.unwrap_or_else(|_| Err(rpc::internal("the call panicked")));
        reply
    }

    async fn find_document(
        &self,
        call: &Call,
        resource: Resource<'_>,
        request: DocumentRequest,
        streams: &Streams,
        has_body: impl Fn(&Document) -> bool,
    ) -> Result<Found, Status> {
        let scope = call.caller.scope().map(|scope| scope.id());
        let key = |message| RequestKey { read: resource.read(), form: Form::Json, scope, message };
        let refuse = |refusal: Refusal| Status::from(name_parameter(resource.parameters(), refusal));
        let content = &self.services.content;
        let cached = match request.fresh {
            None => content.get_cached_document(&key(request.message.clone())).await,
            Some(_) => None,
        };
        let (document, revision) = match cached {
            Some(found) => found.map_err(refuse)?,
            None => {
                self.overload.admit_load()?;
                // Room is reserved before the response is made.
                let _room = streams.reserve(call.method.reservation.first).await?;
                let key = key(request.fresh.unwrap_or(request.message));
                // Boxed, because it is many times larger than the cached path above.
                let viewer = call.caller.scope().cloned();
                Box::pin(content.document(key, &viewer, &request.keys)).await.map_err(refuse)?
            }
        };
        let pace = match has_body(&document) {
            false => None,
            true if document.body.len() <= PIECE_BYTES => {
                Some(Pace::message(streams.reserve(document.body.len()).await?))
            }
            true => Some(Pace::pieces(Charge::new(streams.clone(), 0), 0)),
        };
        Ok(Found { document, revision, pace })
    }
}
