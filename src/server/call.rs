//! A call in flight: what is known of it when it ends, for metrics and logs.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Buf as _;
use prost::Message as _;
use tokio::sync::OwnedSemaphorePermit;
use tonic::{Code, Status};
use tonic_types::{StatusExt as _, pb};

use super::{
    access_log::{Line, millis},
    head::Head,
    methods::Method,
    request_id::{RequestId, Trace},
    streams::Endless,
};
use crate::{
    audit::{Event, Origin, display_peer},
    auth::Identity,
    telemetry::{Attribute, Span, SpanContext, SpanKind},
    wire::Framed,
};

const REQUEST_INFO: &str = "type.googleapis.com/google.rpc.RequestInfo";

/// A call in flight. It is counted when dropped: with its final code, or as cancelled if the client ended it first.
pub(super) struct Call {
    pub(super) method: Arc<Method>,
    pub(super) start: Instant,
    pub(super) caller: Identity,
    pub(super) peer: IpAddr,
    code: Code,
    /// The bytes of its messages that were passed to the connection.
    bytes: u64,
    /// The time until the first message, if the response is a stream.
    first_message: Option<Duration>,
    marks: Option<Box<Marks>>,
    resources: Option<Box<CallResources>>,
}

/// The marks of a call, which few calls have.
#[derive(Debug, Default)]
struct Marks {
    request_id: Option<RequestId>,
    trace: Option<Trace>,
    /// The span of the call, if it is traced.
    span: Option<SpanContext>,
}

/// Resources that a call holds as long as it is open.
#[derive(Default)]
pub(super) struct CallResources {
    pub(super) endless: Option<Endless>,
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

impl Call {
    pub(super) fn new(method: Arc<Method>, head: &Head<'_>) -> Call {
        let trace = head.traceparent.and_then(Trace::parse);
        let span = method.observer.spans.start(trace.as_ref().map(|trace| (trace.id, trace.is_sampled)));
        let marks = (head.request_id.is_some() || trace.is_some() || span.is_some()).then(|| Marks {
            request_id: head.request_id.map(RequestId::given),
            trace,
            span,
        });
        method.metrics.start();
        Call {
            method,
            start: Instant::now(),
            caller: Identity::Nobody,
            peer: head.client,
            code: Code::Cancelled,
            bytes: 0,
            first_message: None,
            marks: marks.map(Box::new),
            resources: None,
        }
    }

    /// Attaches a resource to the call.
    pub(super) fn resources(&mut self) -> &mut CallResources {
        self.resources.get_or_insert_default()
    }

    /// Returns the id that the client gave, or that was made since.
    pub(super) fn known_request_id(&self) -> Option<&RequestId> {
        self.marks.as_ref()?.request_id.as_ref()
    }

    /// Returns the id of the call. A call needs one only if something is written or fails.
    pub(super) fn request_id(&mut self) -> &RequestId {
        self.marks.get_or_insert_default().request_id.get_or_insert_with(RequestId::make)
    }

    /// Returns who makes the call, from where.
    pub(super) fn origin(&mut self) -> Origin {
        let request_id = self.request_id().as_str().to_owned();
        let credential = self.caller.credential().map(|credential| &credential.entry.id[..]);
        let origin =
            Origin::new(self.caller.name(), credential, self.peer, self.method.full_name(), &request_id);
        Origin { span: self.marks.as_ref().and_then(|marks| marks.span), ..origin }
    }

    /// Returns the id of the trace that the call belongs to: its caller's, or one of its own.
    fn trace_id(&self) -> Option<[u8; 16]> {
        let marks = self.marks.as_ref()?;
        marks.trace.as_ref().map(|trace| trace.id).or(marks.span.map(|span| span.trace))
    }

    /// Returns the span of the call. It has no content, and of the caller nothing but the name and the address.
    fn span(&self, duration: Duration) -> Option<Span> {
        let marks = self.marks.as_ref()?;
        let context = marks.span?;
        let mut attributes = vec![
            ("rpc.system.name", Attribute::Static("grpc")),
            ("rpc.method", Attribute::Text(self.method.full_name().to_owned())),
            ("rpc.response.status_code", Attribute::Static(cable_proto::code_name(self.code as i32))),
            ("client.address", Attribute::Text(display_peer(self.peer))),
            ("cable.principal", Attribute::Text(self.caller.name().to_owned())),
            ("cable.response_bytes", Attribute::Integer(self.bytes as i64)),
        ];
        let request_id = marks.request_id.as_ref().map(|id| Attribute::Text(id.as_str().to_owned()));
        attributes.extend(request_id.map(|id| ("cable.request_id", id)));
        let first_message = self.first_message.map(|time| Attribute::Float(millis(time)));
        attributes.extend(first_message.map(|time| ("cable.first_message_ms", time)));
        Some(Span {
            context,
            parent: marks.trace.as_ref().map(|trace| trace.parent),
            name: self.method.full_name().to_owned(),
            kind: SpanKind::Server,
            end: SystemTime::now(),
            duration,
            failed: is_failure(self.code),
            attributes,
        })
    }

    /// Counts a message that is passed to the connection.
    pub(super) fn count_message(&mut self, message: &Framed) {
        self.bytes += message.remaining() as u64;
        if self.method.streams && self.first_message.is_none() {
            self.first_message = Some(self.start.elapsed());
        }
    }

    /// Ends the call. An error gets the id of the call, and is recorded if it denies the call to its caller.
    pub(super) fn end(&mut self, status: &mut Result<(), Status>) {
        let Err(status) = status else {
            self.code = Code::Ok;
            return;
        };
        self.code = status.code();
        let method = self.method.clone();
        if method.writes {
            method.observer.metrics.count_refused_write(&reason(status));
        }
        if matches!(self.code, Code::Unauthenticated | Code::PermissionDenied) {
            let code = cable_proto::code_name(self.code as i32);
            method.observer.metrics.count_denial(code);
            method.observer.audit.deny(|| {
                let reason = status.message().to_owned();
                Event::Denial { origin: self.origin(), code, reason }
            });
        }
        add_request_id(status, self.request_id().as_str());
    }
}

/// Whether a code is a failure of the server, as the semantic conventions of OpenTelemetry for gRPC define it.
fn is_failure(code: Code) -> bool {
    use Code::{DataLoss, DeadlineExceeded, Internal, Unavailable, Unimplemented, Unknown};
    matches!(code, Unknown | DeadlineExceeded | Unimplemented | Internal | Unavailable | DataLoss)
}

/// Returns the reason of an error, or its code if it has none.
fn reason(status: &Status) -> String {
    let info = status.get_details_error_info();
    info.map_or_else(|| cable_proto::code_name(status.code() as i32).to_owned(), |info| info.reason)
}

/// Adds the id of the call to the details of an error. The encoded details are a message, to which a field is appended.
fn add_request_id(status: &mut Status, request_id: &str) {
    let info = pb::RequestInfo { request_id: request_id.to_owned(), serving_data: String::new() };
    let info = prost_types::Any { type_url: REQUEST_INFO.to_owned(), value: info.encode_to_vec() };
    let mut details = match status.details() {
        [] => {
            let (code, message) = (status.code() as i32, status.message().to_owned());
            pb::Status { code, message, details: Vec::new() }.encode_to_vec()
        }
        details => details.to_vec(),
    };
    details.extend(pb::Status { details: vec![info], ..Default::default() }.encode_to_vec());
    let (code, metadata) = (status.code(), status.metadata().clone());
    *status = Status::with_details_and_metadata(code, status.message(), details.into(), metadata);
}

impl Drop for Call {
    fn drop(&mut self) {
        let duration = self.start.elapsed();
        self.method.metrics.record(self.code as i32, duration, self.first_message, self.bytes);
        // The response of a stream takes as long as its client does, so its first message counts.
        let slow = if self.method.streams { self.first_message } else { Some(duration) };
        // Health checks are open to anyone, and so are calls that are refused because no credential is given: a
        // caller who delays them must not fill the log.
        let is_open = self.method.required_role.is_none() || matches!(self.caller, Identity::Nobody);
        let slow = slow.filter(|_| !self.method.endless && !is_open);
        let access = &self.method.observer.access;
        if access.selects(self.code, slow) {
            let line = Line {
                method: self.method.full_name(),
                code: cable_proto::code_name(self.code as i32),
                duration,
                first_message: self.first_message,
                bytes: self.bytes,
                peer: self.peer,
                principal: self.caller.name(),
                request_id: self.known_request_id().map(RequestId::as_str),
                trace_id: self.trace_id(),
            };
            access.log(&line);
        }
        if let Some(span) = self.span(duration) {
            self.method.observer.spans.record(span);
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn an_error_keeps_its_details_and_gets_the_id_of_its_call() {
        let details = ErrorDetails::with_error_info(
            "ARTICLE_NOT_FOUND",
            "cable.v1",
            [("a".to_owned(), "b".to_owned())],
        );
        for mut status in
            [Status::with_error_details(Code::NotFound, "gone", details), Status::not_found("gone")]
        {
            let before = status.get_error_details();
            add_request_id(&mut status, "r-1");
            let after = status.get_error_details();
            assert_eq!((status.code(), status.message()), (Code::NotFound, "gone"));
            let info = |details: &ErrorDetails| format!("{:?}", details.error_info());
            assert_eq!(info(&after), info(&before));
            assert_eq!(after.request_info().map(|info| &info.request_id[..]), Some("r-1"));
            let whole = pb::Status::decode(status.details()).unwrap();
            assert_eq!((whole.code, &whole.message[..]), (5, "gone"));
        }
    }
}
