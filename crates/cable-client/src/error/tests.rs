//! Errors from statuses as a server and as the transport create them.

use std::{collections::HashMap, error::Error as StdError, sync::Arc, time::Duration};

use tonic::{Code, ConnectError, Status, TimeoutExpired};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use super::{Error, ErrorKind, status::DOMAIN};
use crate::{
    config::Target,
    connect::Peer,
    v1::{ErrorReason, ItemError},
};

/// Returns a status as a server sends it.
pub(crate) fn refused_status(code: Code, reason: &str, wait: Option<Duration>) -> Status {
    let mut details = ErrorDetails::new();
    let metadata = HashMap::from([("etag".to_owned(), "0123abcd-7".to_owned())]);
    details.set_error_info(reason, DOMAIN, metadata).set_retry_info(wait);
    details.set_bad_request(vec![FieldViolation::new("article.path", "must start with /")]);
    Status::with_error_details(code, "no", details)
}

/// Returns a status as tonic creates it when a connection fails.
pub(crate) fn transport_status(code: Code, source: impl StdError + Send + Sync + 'static) -> Status {
    let mut status = Status::new(code, "transport error");
    status.set_source(Arc::new(source));
    status
}

fn connect_error() -> ConnectError {
    ConnectError("connection refused".into())
}

#[test]
fn codes_are_named_as_in_grpc() {
    assert_eq!(ErrorKind::NotFound.code_name(), "NOT_FOUND");
    assert_eq!(ErrorKind::Unavailable.code_name(), "UNAVAILABLE");
    let error = Error::from(refused_status(Code::Aborted, "ETAG_MISMATCH", None));
    assert_eq!(error.code_and_reason(), "ABORTED ETAG_MISMATCH");
}

#[test]
fn all_details_of_a_status_are_available() {
    let wait = Some(Duration::from_millis(250));
    let error = Error::from(refused_status(Code::Aborted, "ETAG_MISMATCH", wait));
    assert_eq!(error.kind(), ErrorKind::Aborted);
    assert_eq!(error.reason(), Some(ErrorReason::EtagMismatch));
    assert_eq!(error.metadata()["etag"], "0123abcd-7");
    assert_eq!(error.violations()[0].field, "article.path");
    assert_eq!(error.retry_after(), wait);
    assert_eq!(error.to_string(), "no; article.path: must start with / (ETAG_MISMATCH)");
    assert!(!error.is_transient() && !error.is_node_failure() && !error.has_unknown_outcome());
    assert!(error.is_retryable(), "the server has requested a delay");
    assert!(!Error::from(refused_status(Code::Aborted, "ETAG_MISMATCH", None)).is_retryable());
}

#[test]
fn a_reason_of_another_domain_is_ignored() {
    let details = ErrorDetails::with_error_info("OVERLOADED", "proxy.example", HashMap::new());
    let error = Error::from(Status::with_error_details(Code::Unavailable, "busy", details));
    assert_eq!((error.reason(), error.metadata().len()), (None, 0));
}

#[test]
fn an_unknown_reason_keeps_the_kind() {
    let error = Error::from(refused_status(Code::FailedPrecondition, "INVENTED_LATER", None));
    assert_eq!((error.kind(), error.reason()), (ErrorKind::FailedPrecondition, None));
}

#[test]
fn a_refused_connection_has_a_known_outcome() {
    let error = Error::from(transport_status(Code::Unavailable, connect_error()));
    assert!(error.is_retryable() && error.is_node_failure());
    assert!(!error.has_unknown_outcome() && !error.is_definite_refusal());
    assert!(error.source().is_some());
}

fn peer(url: &str) -> Peer {
    Peer::new(Arc::new(Target::parse(url).unwrap()), ([10, 0, 0, 7], 7190).into())
}

#[test]
fn a_failed_connection_is_described_with_its_address_and_cause() {
    let node = peer("http://node:7190");
    let refused = || transport_status(Code::Unavailable, connect_error());
    let error = Error::from_call(refused(), Some(&node));
    assert_eq!(error.message(), "cannot reach http://node:7190 (10.0.0.7:7190): connection refused");
    let error = Error::from_call(refused(), Some(&peer("http://10.0.0.7:7190")));
    assert_eq!(error.message(), "cannot reach http://10.0.0.7:7190: connection refused");
    let nested = std::io::Error::other(std::io::Error::other("reset by peer"));
    let error = Error::from_call(transport_status(Code::Unknown, nested), Some(&node));
    assert_eq!(error.message(), "connection to http://node:7190 (10.0.0.7:7190) lost: reset by peer");
    assert_eq!(Error::from_call(Status::new(Code::Unavailable, "busy"), Some(&node)).message(), "busy");
    let error = Error::from_call(transport_status(Code::Cancelled, TimeoutExpired(())), Some(&node));
    assert_eq!(error.message(), "no response from http://node:7190 (10.0.0.7:7190) before the deadline");
}

#[test]
fn a_lost_connection_has_an_unknown_outcome() {
    for code in [Code::Unavailable, Code::Cancelled, Code::Unknown, Code::Internal] {
        let error = Error::from(transport_status(code, std::io::Error::other("reset")));
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{code:?}");
        assert!(error.is_retryable() && error.is_node_failure() && error.has_unknown_outcome(), "{code:?}");
    }
}

#[test]
fn the_same_codes_from_the_server_are_not_retried() {
    for code in [Code::Cancelled, Code::Unknown, Code::Internal] {
        let error = Error::from(Status::new(code, "from the server"));
        assert!(!error.is_retryable() && error.has_unknown_outcome(), "{code:?}");
    }
}

#[test]
fn a_timeout_is_not_a_lost_connection() {
    let error = Error::from(transport_status(Code::Cancelled, TimeoutExpired(())));
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert!(!error.is_transient() && !error.is_node_failure() && error.has_unknown_outcome());
    assert!(error.is_retryable() && error.is_timeout());
}

#[test]
fn a_connection_that_has_ended_has_received_no_call() {
    let text = "Service was not ready: transport error";
    let error = Error::from(Status::unknown(text));
    assert!(error.kind() == ErrorKind::Unavailable && error.is_unreached() && !error.has_unknown_outcome());
    // A server may send the same text.
    let mut received = Status::unknown(text);
    received.metadata_mut().insert("content-type", "application/grpc".parse().unwrap());
    assert!(Error::from(received).has_unknown_outcome());
}

#[test]
fn an_item_error_has_the_kind_and_reason_of_a_call_error() {
    let mut item = ItemError { code: 5, message: "removed".into(), ..Default::default() };
    item.set_reason(ErrorReason::ArticleGone);
    let error = Error::from_item(&item);
    assert!(error.is_not_found());
    assert_eq!(error.reason(), Some(ErrorReason::ArticleGone));
    assert!(error.violations().is_empty());
}
