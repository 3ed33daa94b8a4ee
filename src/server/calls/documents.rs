//! Serves a read over HTTP. It is a call of its method: with the same rights, limits, deadline and metrics. A feed or a
//! sitemap is a call of ListArticles.

use std::{collections::BTreeSet, panic::AssertUnwindSafe, pin::pin, sync::Arc};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderValue, request::Parts};
use tonic::Status;

use super::{Admitted, Calls, Opened, with_deadline};
use crate::{
    content::{Document, Form, Read, RequestKey},
    model::Revision,
    refusal::Refusal,
    rpc,
    server::{call::Call, delivery::Pace, flight::Charge, streams::Streams, transport},
    supervise,
    web::{
        request::{AT_LEAST_HEADER, DocumentRequest, Parameter, Resource, name_parameter},
        syndication::{Address, OutputRequest, Site},
    },
};

/// A document up to this size in bytes is passed to the connection as a whole. A larger one is passed in pieces of this
/// size, which share its bytes.
pub(in crate::server) const PIECE_BYTES: usize = 256 << 10;

/// The object of a request.
#[derive(Clone, Copy)]
pub(in crate::server) enum Target<'a> {
    Resource(Resource<'a>),
    Output(Address<'a>, &'a Arc<Site>),
}

/// A request that has been parsed.
enum Parsed {
    Document(DocumentRequest),
    Output(OutputRequest),
}

impl Target<'_> {
    fn read(self) -> Read {
        match self {
            Target::Resource(resource) => resource.read(),
            Target::Output(..) => Read::ListArticles,
        }
    }

    fn form(self) -> Form {
        match self {
            Target::Resource(_) => Form::Json,
            Target::Output(..) => Form::Output,
        }
    }

    fn parse(self, query: Option<&str>, at_least: Option<&[u8]>) -> Result<Parsed, Refusal> {
        Ok(match self {
            Target::Resource(resource) => Parsed::Document(resource.request(query, at_least)?),
            Target::Output(address, site) => Parsed::Output(address.request(site, query, at_least)?),
        })
    }

    fn name_parameter(self, refusal: Refusal) -> Refusal {
        match self {
            Target::Resource(resource) => name_parameter(resource.parameters(), refusal),
            Target::Output(..) => name_parameter(&[Parameter::AtLeastRevision], refusal),
        }
    }
}

impl Parsed {
    fn keys(&self) -> Arc<[String]> {
        match self {
            Parsed::Document(request) => request.keys.clone(),
            Parsed::Output(request) => request.output.keys.clone(),
        }
    }

    /// Takes the request to make if no article has the path as written.
    fn take_decoded(&mut self) -> Option<Parsed> {
        match self {
            Parsed::Document(request) => request.decoded.take().map(|decoded| Parsed::Document(*decoded)),
            Parsed::Output(_) => None,
        }
    }

    /// Returns the key under which the response is cached, if any fresh one is new enough.
    fn cached_key(&self) -> Option<Bytes> {
        match self {
            Parsed::Document(request) => request.fresh.is_none().then(|| request.message.clone()),
            Parsed::Output(request) => request.freshness.is_none().then(|| request.key.clone()),
        }
    }
}

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
    /// Whether it was found by the path of the request without its percent-encoding.
    is_decoded: bool,
    /// The surrogate keys, if they are more than those of the document.
    pub(in crate::server) more_keys: Option<HeaderValue>,
}

impl Found {
    /// Adds the surrogate keys of the request, if the document was found by a path that is not the one as written. The
    /// response changes with both.
    pub(in crate::server) fn add_keys(&mut self, keys: &[String]) {
        if !self.is_decoded {
            return;
        }
        let own = self.document.surrogate_keys.to_str().unwrap_or_default();
        let all: BTreeSet<&str> = own.split(' ').chain(keys.iter().map(String::as_str)).collect();
        self.more_keys = HeaderValue::try_from(all.into_iter().collect::<Vec<_>>().join(" ")).ok();
    }
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
        target: Target<'_>,
        streams: &Streams,
        has_body: impl Fn(&Document) -> bool,
    ) -> DocumentReply {
        let mut head = transport::head(parts, streams.peer());
        (head.path, head.timeout) = (target.read().path(), None);
        let is_private = head.authorization.is_some();
        let Opened { call, admitted } = self.open(&head, streams);
        let mut reply = DocumentReply {
            is_private: is_private || call.caller.credential().is_some(),
            call,
            keys: Arc::new([]),
            outcome: Err(Status::internal("")),
        };
        let request = admitted.and_then(|Admitted { deadline, .. }| {
            let mut at_least = parts.headers.get_all(AT_LEAST_HEADER).iter().map(HeaderValue::as_bytes);
            let (first, second) = (at_least.next(), at_least.next());
            if second.is_some() {
                return Err(Refusal::field(AT_LEAST_HEADER, "repeated: send it once").into());
            }
            let request = target.parse(parts.uri.query(), first)?;
            Ok((request, deadline))
        });
        let (request, deadline) = match request {
            Ok(parsed) => parsed,
            Err(status) => {
                reply.outcome = Err(status);
                return reply;
            }
        };
        reply.keys = request.keys();
        let method = reply.call.method.clone();
        let bound = method.response_deadline(reply.call.start, self.request_timeout, deadline);
        let outcome = {
            let found = pin!(async {
                supervise::failpoint(&method.path, &self.state.health);
                self.find_document(&reply.call, target, request, streams, has_body).await
            });
            AssertUnwindSafe(with_deadline(bound, found)).catch_unwind().await
        };
        reply.outcome = outcome.unwrap_or_else(|_| Err(rpc::internal("the call panicked")));
        reply
    }

    async fn find_document(
        &self,
        call: &Call,
        target: Target<'_>,
        mut request: Parsed,
        streams: &Streams,
        has_body: impl Fn(&Document) -> bool,
    ) -> Result<Found, Status> {
        let decoded = request.take_decoded();
        let mut charge = Charge::new(streams.clone(), 0);
        let mut found = self.load_document(call, target, request, &mut charge).await?;
        let mut is_decoded = false;
        if let (Err(Refusal::PathNotFound), Some(decoded)) = (&found, decoded) {
            found = self.load_document(call, target, decoded, &mut charge).await?;
            is_decoded = true;
        }
        let refuse = |refusal: Refusal| Status::from(target.name_parameter(refusal));
        let (document, revision) = found.map_err(refuse)?;
        let pace = match has_body(&document) {
            false => None,
            true if document.body.len() <= PIECE_BYTES => {
                if !charge.try_resize(document.body.len()) {
                    charge.try_resize(0);
                    charge = streams.reserve(charge, document.body.len()).await?;
                }
                Some(Pace::message(charge))
            }
            true => {
                charge.try_resize(0);
                Some(Pace::pieces(charge, 0))
            }
        };
        Ok(Found { document, revision, pace, is_decoded, more_keys: None })
    }

    /// Returns a document from memory or, within the memory that is reserved for it, from the store.
    async fn load_document(
        &self,
        call: &Call,
        target: Target<'_>,
        request: Parsed,
        charge: &mut Charge,
    ) -> Result<Result<(Arc<Document>, Revision), Refusal>, Status> {
        let scope = call.caller.scope().map(|scope| scope.id());
        let key = |message| RequestKey { read: target.read(), form: target.form(), scope, message };
        let content = &self.services.content;
        if let Some(message) = request.cached_key()
            && let Some(found) = content.get_cached_document(&key(message)).await
        {
            return Ok(found);
        }
        self.overload.admit_load()?;
        // Room is reserved before the response is made.
        *charge = self.reserve(&call.method, call.method.reservation.first, charge.streams()).await?;
        let viewer = call.caller.scope().cloned();
        // Boxed, because both are many times larger than the cached path above.
        Ok(match request {
            Parsed::Document(DocumentRequest { message, fresh, keys, .. }) => {
                let key = key(fresh.unwrap_or(message));
                Box::pin(content.document(key, &viewer, &keys)).await
            }
            Parsed::Output(OutputRequest { key: path, freshness, output }) => {
                Box::pin(content.output(key(path), &viewer, freshness, &output)).await
            }
        })
    }
}
