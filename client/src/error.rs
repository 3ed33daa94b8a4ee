//! What can go wrong with a call, as far as a caller can act on it.

use std::{collections::BTreeMap, error::Error as StdError, fmt, time::Duration};

use tonic::{Code, ConnectError, Status, TimeoutExpired};
use tonic_types::StatusExt as _;

use crate::v1::{Damage, ErrorReason, ItemError};

/// The domain of the reasons that [`ErrorReason`] lists.
const DOMAIN: &str = "cable.v1";

/// Result of a call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call, or one item of it, came to nothing.
///
/// Decide by [`reason`](Error::reason) where the server gave one, else by [`kind`](Error::kind); the text is for
/// people.
pub struct Error(Box<Inner>);

#[derive(Default)]
struct Inner {
    kind: Kind,
    reason: Option<ErrorReason>,
    message: String,
    violations: Vec<Violation>,
    metadata: BTreeMap<String, String>,
    retry_after: Option<Duration>,
    connection: Connection,
    may_have_applied: bool,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What an error says about the connection it came by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Connection {
    /// It held: this is the server's answer, or there was no call.
    #[default]
    Held,
    /// It could not be made, so the server has not seen the call.
    Refused,
    /// It was lost on the way.
    Lost,
}

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The request is wrong; see [`Error::violations`].
    InvalidArgument,
    /// There is nothing under the name, or no longer.
    NotFound,
    /// The name was to be absent, or the path free.
    AlreadyExists,
    /// The precondition's etag is not the current one.
    Aborted,
    /// The server is not in a state to do it.
    FailedPrecondition,
    /// What was asked for lies outside of what there is.
    OutOfRange,
    /// The server has too little of something.
    ResourceExhausted,
    /// The server does not know the call, or cannot hold the content.
    Unimplemented,
    /// No node could be reached, or the one that was could not serve.
    Unavailable,
    /// Time ran out.
    DeadlineExceeded,
    /// The call was broken off.
    Cancelled,
    /// The caller is not known.
    Unauthenticated,
    /// The caller may not do it.
    PermissionDenied,
    /// What is stored is damaged.
    DataLoss,
    /// A fault of the server's own.
    Internal,
    /// The server did not say.
    #[default]
    Unknown,
    /// A stream ended early: what it delivered is not all.
    Truncated,
    /// The client cannot be set up like this.
    Config,
    /// Bytes are not the message that they should be.
    Malformed,
    /// A message, or a commit of a feed, is larger than this client accepts; the text names the limit and the way out.
    TooLarge,
    /// The position of a feed could not be loaded or saved.
    PositionStore,
}

/// What is wrong with one field of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// The field's path: `article.tags[3]`.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

impl Error {
    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The server's reason, if it gave one that this client knows.
    #[must_use]
    pub fn reason(&self) -> Option<ErrorReason> {
        self.0.reason
    }

    /// The text that came with it.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The fields that are wrong.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.0.violations
    }

    /// What the reason comes with; [`ErrorReason`] lists the keys.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.0.metadata
    }

    /// How long the server asks to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether there is nothing under the name: never was, removed, or moved.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.0.kind == Kind::NotFound
    }

    /// Whether the same call may succeed later. The client has then tried as often as its [`Retry`](crate::Retry)
    /// allows.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.0.kind == Kind::Unavailable
    }

    /// Whether the write may have been done all the same. Repeating it with the same request_id does it at most
    /// once. False for reads.
    #[must_use]
    pub fn may_have_applied(&self) -> bool {
        self.0.may_have_applied
    }

    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Error {
        Error(Box::new(Inner { kind, message: message.into(), ..Inner::default() }))
    }

    pub(crate) fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        self.0.source = Some(source.into());
        self
    }

    pub(crate) fn truncated(what: &str) -> Error {
        Error::new(Kind::Truncated, what)
    }

    /// What was received is not all: the server cannot read the rest.
    pub(crate) fn incomplete(damage: &Damage) -> Error {
        let reason = if damage.database { ErrorReason::StoreDamaged } else { ErrorReason::RecordCorrupt };
        let what = if damage.database {
            "incomplete: the server's database is damaged".to_owned()
        } else {
            format!("incomplete: {} records cannot be read by the server", damage.count)
        };
        let names = damage.names.join(" ");
        let metadata = if names.is_empty() { None } else { Some(("damaged".to_owned(), names)) };
        let metadata = metadata.into_iter().collect();
        let (kind, reason) = (Kind::DataLoss, Some(reason));
        Error(Box::new(Inner { kind, reason, message: what, metadata, ..Inner::default() }))
    }

    pub(crate) fn malformed(source: prost::DecodeError) -> Error {
        Error::new(Kind::Malformed, "the bytes are not a message of cable.v1").with_source(source)
    }

    pub(crate) fn deadline() -> Error {
        Error(Box::new(Inner {
            kind: Kind::DeadlineExceeded,
            message: "no answer came in time".into(),
            ..Inner::default()
        }))
    }

    /// The node cannot be relied on for now: another one should be asked.
    pub(crate) fn blames_node(&self) -> bool {
        self.0.connection != Connection::Held || self.0.reason == Some(ErrorReason::Draining)
    }

    /// For one attempt of a write: whether the server may have done it.
    pub(crate) fn leaves_doubt(&self) -> bool {
        match (self.0.connection, self.0.reason, self.0.kind) {
            (Connection::Refused, ..) => false,
            (Connection::Lost, ..) | (_, Some(ErrorReason::OutcomeUnknown), _) => true,
            (_, None, Kind::Unavailable) => true,
            (.., Kind::DeadlineExceeded | Kind::Cancelled | Kind::Unknown | Kind::Internal) => true,
            _ => false,
        }
    }

    /// Whether it says for certain that neither this attempt nor an earlier one with the same request_id was done:
    /// the server looks the request_id up before it refuses anything.
    pub(crate) fn settles_doubt(&self) -> bool {
        !self.leaves_doubt() && self.0.connection == Connection::Held && self.0.kind != Kind::Unavailable
    }

    /// For a second one who is told of it. It has no source.
    pub(crate) fn duplicate(&self) -> Error {
        let Inner { kind, reason, retry_after, connection, may_have_applied, .. } = *self.0;
        Error(Box::new(Inner {
            kind,
            reason,
            retry_after,
            connection,
            may_have_applied,
            message: self.0.message.clone(),
            violations: self.0.violations.clone(),
            metadata: self.0.metadata.clone(),
            source: None,
        }))
    }

    pub(crate) fn set_may_have_applied(&mut self, may: bool) {
        self.0.may_have_applied = may;
    }

    /// Of an item that was refused within a call that was not.
    pub(crate) fn of_item(item: &ItemError) -> Error {
        let violation = Violation { field: item.field.clone(), description: item.message.clone() };
        Error(Box::new(Inner {
            kind: Kind::of(Code::from_i32(item.code)),
            reason: ErrorReason::try_from(item.reason).ok().filter(|r| *r != ErrorReason::Unspecified),
            message: item.message.clone(),
            violations: if item.field.is_empty() { Vec::new() } else { vec![violation] },
            metadata: item.metadata.clone(),
            ..Inner::default()
        }))
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Error {
        match connection_of(&status) {
            Some(Ended::TimedOut) => Error::deadline().with_source(status),
            Some(Ended::At(connection)) => {
                let message = match connection {
                    Connection::Refused => "no connection to the server",
                    _ => "the connection to the server was lost",
                };
                let mut error = Error::new(Kind::Unavailable, message).with_source(status);
                error.0.connection = connection;
                error
            }
            None => answered(&status),
        }
    }
}

/// How a call ended that the server did not answer.
enum Ended {
    TimedOut,
    At(Connection),
}

/// A status has a source exactly if it was made on this side.
///
/// Not every such status is UNAVAILABLE: a lost connection is CANCELLED, UNKNOWN or INTERNAL by the moment at which it
/// was lost. What is not a matter of the connection, such as an answer that is too large, has no source.
fn connection_of(status: &Status) -> Option<Ended> {
    let mut source = status.source();
    source?;
    while let Some(error) = source {
        if error.is::<TimeoutExpired>() {
            return Some(Ended::TimedOut);
        }
        if error.is::<ConnectError>() {
            return Some(Ended::At(Connection::Refused));
        }
        source = error.source();
    }
    let lost = matches!(status.code(), Code::Unavailable | Code::Cancelled | Code::Unknown | Code::Internal);
    lost.then_some(Ended::At(Connection::Lost))
}

fn answered(status: &Status) -> Error {
    if is_oversized(status) {
        let message = format!(
            "{}; no message of a Cable server is above 3.5 MiB: update the server, or look for a proxy that joins messages",
            status.message()
        );
        return Error::new(Kind::TooLarge, message);
    }
    let details = status.get_error_details();
    let info = details.error_info().filter(|info| info.domain == DOMAIN);
    let violations = details.bad_request().map(|bad| &bad.field_violations[..]).unwrap_or_default();
    Error(Box::new(Inner {
        kind: Kind::of(status.code()),
        reason: info.and_then(|info| reason_of(&info.reason)),
        message: status.message().to_owned(),
        violations: violations
            .iter()
            .map(|v| Violation { field: v.field.clone(), description: v.description.clone() })
            .collect(),
        metadata: info.map(|info| info.metadata.clone().into_iter().collect()).unwrap_or_default(),
        retry_after: details.retry_info().and_then(|info| info.retry_delay),
        ..Inner::default()
    }))
}

/// Whether tonic refused a message of the server because of its length. It uses the code of REVISION_COMPACTED for that,
/// without details.
fn is_oversized(status: &Status) -> bool {
    matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted)
        && status.details().is_empty()
        && status.message().contains("message length too large")
}

fn reason_of(name: &str) -> Option<ErrorReason> {
    ErrorReason::from_str_name(&format!("ERROR_REASON_{name}"))
}

impl Kind {
    fn of(code: Code) -> Kind {
        match code {
            Code::InvalidArgument => Kind::InvalidArgument,
            Code::NotFound => Kind::NotFound,
            Code::AlreadyExists => Kind::AlreadyExists,
            Code::Aborted => Kind::Aborted,
            Code::FailedPrecondition => Kind::FailedPrecondition,
            Code::OutOfRange => Kind::OutOfRange,
            Code::ResourceExhausted => Kind::ResourceExhausted,
            Code::Unimplemented => Kind::Unimplemented,
            Code::Unavailable => Kind::Unavailable,
            Code::DeadlineExceeded => Kind::DeadlineExceeded,
            Code::Cancelled => Kind::Cancelled,
            Code::Unauthenticated => Kind::Unauthenticated,
            Code::PermissionDenied => Kind::PermissionDenied,
            Code::DataLoss => Kind::DataLoss,
            Code::Internal => Kind::Internal,
            Code::Ok | Code::Unknown => Kind::Unknown,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, reason, message, violations, .. } = &*self.0;
        match message.is_empty() {
            true => write!(f, "{kind:?}")?,
            false => f.write_str(message)?,
        }
        for violation in violations.iter().filter(|v| !message.contains(&v.description)) {
            write!(f, "; {}: {}", violation.field, violation.description)?;
        }
        if let Some(reason) = reason {
            write!(f, " ({})", reason.as_str_name().trim_start_matches("ERROR_REASON_"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Error");
        shown.field("kind", &self.0.kind).field("reason", &self.0.reason).field("message", &self.0.message);
        shown.field("violations", &self.0.violations).field("metadata", &self.0.metadata);
        shown.field("retry_after", &self.0.retry_after).field("may_have_applied", &self.0.may_have_applied);
        shown.field("source", &self.0.source).finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{collections::HashMap, sync::Arc};

    use tonic_types::{ErrorDetails, FieldViolation};

    use super::*;

    /// A status as a server sends it.
    pub(crate) fn refusal(code: Code, reason: &str, wait: Option<Duration>) -> Status {
        let mut details = ErrorDetails::new();
        let metadata = HashMap::from([("etag".to_owned(), "0123abcd-7".to_owned())]);
        details.set_error_info(reason, DOMAIN, metadata).set_retry_info(wait);
        details.set_bad_request(vec![FieldViolation::new("article.path", "must start with /")]);
        Status::with_error_details(code, "no", details)
    }

    /// A status as it is made when a connection fails.
    pub(crate) fn broken(code: Code, source: impl StdError + Send + Sync + 'static) -> Status {
        let mut status = Status::new(code, "transport error");
        status.set_source(Arc::new(source));
        status
    }

    fn connect_error() -> ConnectError {
        ConnectError("connection refused".into())
    }

    #[test]
    fn what_the_server_says_is_all_there() {
        let wait = Some(Duration::from_millis(250));
        let error = Error::from(refusal(Code::Aborted, "ETAG_MISMATCH", wait));
        assert_eq!(error.kind(), Kind::Aborted);
        assert_eq!(error.reason(), Some(ErrorReason::EtagMismatch));
        assert_eq!(error.metadata()["etag"], "0123abcd-7");
        assert_eq!(error.violations()[0].field, "article.path");
        assert_eq!(error.retry_after(), wait);
        assert_eq!(error.to_string(), "no; article.path: must start with / (ETAG_MISMATCH)");
        assert!(!error.is_retryable() && !error.blames_node() && !error.leaves_doubt());
    }

    #[test]
    fn a_reason_of_another_domain_is_none_of_ours() {
        let details = ErrorDetails::with_error_info("OVERLOADED", "proxy.example", HashMap::new());
        let error = Error::from(Status::with_error_details(Code::Unavailable, "busy", details));
        assert_eq!((error.reason(), error.metadata().len()), (None, 0));
    }

    #[test]
    fn a_reason_that_this_client_does_not_know_leaves_the_kind() {
        let error = Error::from(refusal(Code::FailedPrecondition, "INVENTED_LATER", None));
        assert_eq!((error.kind(), error.reason()), (Kind::FailedPrecondition, None));
    }

    #[test]
    fn a_connection_that_was_never_made_leaves_no_doubt() {
        let error = Error::from(broken(Code::Unavailable, connect_error()));
        assert!(error.is_retryable() && error.blames_node());
        assert!(!error.leaves_doubt() && !error.settles_doubt());
        assert!(error.source().is_some());
    }

    #[test]
    fn a_connection_that_was_lost_leaves_doubt_whatever_its_code() {
        for code in [Code::Unavailable, Code::Cancelled, Code::Unknown, Code::Internal] {
            let error = Error::from(broken(code, std::io::Error::other("reset")));
            assert_eq!(error.kind(), Kind::Unavailable, "{code:?}");
            assert!(error.is_retryable() && error.blames_node() && error.leaves_doubt(), "{code:?}");
        }
    }

    #[test]
    fn the_same_codes_from_the_server_are_not_retried() {
        for code in [Code::Cancelled, Code::Unknown, Code::Internal] {
            let error = Error::from(Status::new(code, "said the server"));
            assert!(!error.is_retryable() && error.leaves_doubt(), "{code:?}");
        }
    }

    #[test]
    fn time_that_ran_out_is_no_lost_connection() {
        let error = Error::from(broken(Code::Cancelled, TimeoutExpired(())));
        assert_eq!(error.kind(), Kind::DeadlineExceeded);
        assert!(!error.is_retryable() && !error.blames_node() && error.leaves_doubt());
    }

    #[test]
    fn an_item_says_what_a_call_would() {
        let mut item = ItemError { code: 5, message: "gone".into(), ..Default::default() };
        item.set_reason(ErrorReason::ArticleGone);
        let error = Error::of_item(&item);
        assert!(error.is_not_found());
        assert_eq!(error.reason(), Some(ErrorReason::ArticleGone));
        assert!(error.violations().is_empty());
    }
}
