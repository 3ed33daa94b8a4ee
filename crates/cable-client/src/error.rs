//! The errors of calls, classified by the action that a caller can take.

use std::{collections::BTreeMap, error::Error as StdError, fmt, sync::Arc, time::Duration};

use tonic::Code;

use crate::{
    connect::Peer,
    v1::{Damage, ErrorReason, ItemError},
};

mod kind;
mod status;
#[cfg(test)]
pub(crate) mod tests;

pub use kind::ErrorKind;

/// The result of a call.
///
/// The error type can be set, so that an import of this alias does not shadow other results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The error of a call, or of one item of a call.
///
/// Decide by [`reason`](Error::reason) if the server sent one, and by [`kind`](Error::kind) otherwise. The text is for
/// people.
///
/// ```no_run
/// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
/// use cable_client::ErrorReason;
///
/// match cable.article("storm").await {
///     Ok(article) => println!("{}", article.headline),
///     Err(error) if error.reason() == Some(ErrorReason::ArticleMoved) => {
///         println!("moved to {:?}", error.metadata().get("moved_to"));
///     }
///     Err(error) if error.is_not_found() => println!("not found"),
///     Err(error) => return Err(error),
/// }
/// # Ok(())
/// # }
/// ```
///
/// A write that fails with [`may_have_applied`](Error::may_have_applied) is settled by the same write with the same
/// request_id:
///
/// ```no_run
/// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
/// # let article = cable_client::v1::Article::default();
/// let put = cable.put(article).request_id("cms-4711");
/// match put.clone().await {
///     Err(error) if error.may_have_applied() => put.await?, // applied at most once
///     outcome => outcome?,
/// };
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Error(Box<Inner>);

impl Error {
    /// Returns the kind of failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the server's reason. `None` if the server sent no reason, or one that this client does not know.
    #[must_use]
    pub fn reason(&self) -> Option<ErrorReason> {
        self.0.reason
    }

    /// Returns the code and the reason as text, for logs and metrics: `NOT_FOUND ARTICLE_GONE`, or the code alone if there
    /// is no reason. An error of the client has the name of its kind in place of a code.
    #[must_use]
    pub fn code_and_reason(&self) -> String {
        let code = self.0.kind.code_name();
        match self.0.reason {
            Some(reason) => format!("{code} {}", reason.as_str_name().trim_start_matches("ERROR_REASON_")),
            None => code,
        }
    }

    /// Returns the text of the error, for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns the invalid fields.
    ///
    /// ```no_run
    /// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
    /// # let article = cable_client::v1::Article::default();
    /// if let Err(error) = cable.put(article).await {
    ///     for violation in error.violations() {
    ///         println!("{}: {}", violation.field, violation.description); // article.headline: required
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.0.violations
    }

    /// Returns the metadata of the reason; [`ErrorReason`] lists the keys.
    ///
    /// For example, `etag` is the current etag after `EtagMismatch`, `owner` the article that has the path after
    /// `PathTaken`, and `moved_to` the new name after `ArticleMoved`.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.0.metadata
    }

    /// Returns the delay before a retry that the server requested. `None` if it requested none.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Returns whether the name does not exist: it was never put, was removed, or moved.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.0.kind == ErrorKind::NotFound
    }

    /// Returns whether the same call may succeed later: no node could serve it, it timed out, or the server requested a
    /// delay before a retry, as for a caller above its rate. The client has already made all attempts that its
    /// [`Retry`](crate::Retry) and its timeout allow; it repeats only calls that no node could serve.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.is_transient() || self.0.kind == ErrorKind::DeadlineExceeded || self.0.retry_after.is_some()
    }

    /// Returns whether the client itself may make another attempt within the timeout of the call.
    pub(crate) fn is_transient(&self) -> bool {
        self.0.kind == ErrorKind::Unavailable
    }

    /// Returns whether the write may have been applied although the call failed. A retry with the same request_id
    /// applies it at most once. False for reads.
    #[must_use]
    pub fn may_have_applied(&self) -> bool {
        self.0.may_have_applied
    }

    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error(Box::new(Inner { kind, message: message.into(), ..Inner::default() }))
    }

    pub(crate) fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        self.0.source = Some(source.into().into());
        self
    }

    pub(crate) fn truncated(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Truncated, message)
    }

    /// Returns the error for a response that lacks records because the server cannot read them.
    pub(crate) fn incomplete(damage: &Damage) -> Error {
        let reason = if damage.database { ErrorReason::StoreDamaged } else { ErrorReason::RecordCorrupt };
        let message = if damage.database {
            "incomplete: server database is damaged".to_owned()
        } else {
            format!("incomplete: {} records are unreadable", damage.count)
        };
        let names = damage.names.join(" ");
        let metadata = if names.is_empty() { None } else { Some(("damaged".to_owned(), names)) };
        let metadata = metadata.into_iter().collect();
        let (kind, reason) = (ErrorKind::DataLoss, Some(reason));
        Error(Box::new(Inner { kind, reason, message, metadata, ..Inner::default() }))
    }

    pub(crate) fn malformed(source: prost::DecodeError) -> Error {
        Error::new(ErrorKind::Malformed, "not a valid cable.v1 message").with_source(source)
    }

    /// Returns the error of a call without a response in time. It names the server if the call had one.
    pub(crate) fn deadline(peer: Option<&Peer>) -> Error {
        let from = peer.map(|peer| format!(" from {peer}")).unwrap_or_default();
        let message = format!("no response{from} before the deadline");
        let mut error = Error::new(ErrorKind::DeadlineExceeded, message);
        error.0.connection = Connection::TimedOut;
        error
    }

    /// Returns the error of a call that lacked something until its deadline, and thus was not sent.
    pub(crate) fn unsent(lacking: &str) -> Error {
        let message = format!("{lacking} before the deadline: the call was not sent");
        let mut error = Error::new(ErrorKind::DeadlineExceeded, message);
        error.0.connection = Connection::Refused;
        error
    }

    /// Returns the error of a call that no server can have received.
    pub(crate) fn refused(message: impl Into<String>) -> Error {
        let mut error = Error::new(ErrorKind::Unavailable, message);
        error.0.connection = Connection::Refused;
        error
    }

    /// Returns the error of a call that would send the token in plaintext.
    pub(crate) fn plaintext_token(server: impl fmt::Display) -> Error {
        let message = format!(
            "the token is not sent to {server} without TLS: use https://, or allow it by `allow_plaintext_token`"
        );
        Error::new(ErrorKind::Config, message)
    }

    /// Returns whether no server can have received the call.
    pub(crate) fn is_unreached(&self) -> bool {
        self.0.connection == Connection::Refused
    }

    /// Returns whether no server responded before the deadline of a call that was sent.
    pub(crate) fn is_timeout(&self) -> bool {
        self.0.connection == Connection::TimedOut
    }

    /// Adds to the message of a stream that was reset that its reader may have been too slow.
    pub(crate) fn with_slow_reader(mut self) -> Error {
        if self.0.connection == Connection::Reset {
            self.0.message += "; a server resets a stream whose reader is too slow";
        }
        self
    }

    /// Returns the error with another field in its only violation and its message, for a caller that numbers its arguments
    /// in another way than the request.
    pub(crate) fn with_field(mut self, field: &str) -> Error {
        for violation in &mut self.0.violations {
            self.0.message = self.0.message.replace(&violation.field, field);
            violation.field = field.to_owned();
        }
        self
    }

    /// Adds to the message that a feed had no node for its longest outage.
    pub(crate) fn with_outage(mut self, limit: Duration) -> Error {
        self.0.message += &format!("; no node has served the feed for {limit:?}");
        self
    }

    /// Adds to the message that other addresses have failed too.
    pub(crate) fn with_failed_addresses(mut self, others: usize) -> Error {
        match others {
            0 => {}
            1 => self.0.message += "; another address failed before",
            _ => self.0.message += &format!("; {others} other addresses failed before"),
        }
        self
    }

    /// Returns whether the node is unusable for now, so that the next attempt should go to another node.
    pub(crate) fn is_node_failure(&self) -> bool {
        matches!(self.0.connection, Connection::Refused | Connection::Lost)
            || self.0.reason == Some(ErrorReason::Draining)
    }

    /// Returns, for one attempt of a write, whether the server may have applied it.
    pub(crate) fn has_unknown_outcome(&self) -> bool {
        match (self.0.connection, self.0.reason, self.0.kind) {
            (Connection::Refused, ..) => false,
            (Connection::Lost, ..) | (_, Some(ErrorReason::OutcomeUnknown), _) => true,
            (_, None, ErrorKind::Unavailable) => true,
            (
                ..,
                ErrorKind::DeadlineExceeded | ErrorKind::Cancelled | ErrorKind::Unknown | ErrorKind::Internal,
            ) => true,
            _ => false,
        }
    }

    /// Returns whether the error shows that neither this attempt nor an earlier one with the same request_id was
    /// applied. The server looks up the request_id before it refuses a write, so its refusal settles earlier attempts
    /// too.
    pub(crate) fn is_definite_refusal(&self) -> bool {
        !self.has_unknown_outcome()
            && self.0.connection == Connection::Intact
            && self.0.kind != ErrorKind::Unavailable
    }

    pub(crate) fn set_may_have_applied(&mut self, may_have_applied: bool) {
        self.0.may_have_applied = may_have_applied;
    }

    /// Returns the error of a refused item in a call that succeeded.
    pub(crate) fn from_item(item: &ItemError) -> Error {
        let violation = Violation { field: item.field.clone(), description: item.message.clone() };
        Error(Box::new(Inner {
            kind: ErrorKind::from_code(Code::from_i32(item.code)),
            reason: ErrorReason::try_from(item.reason).ok().filter(|r| *r != ErrorReason::Unspecified),
            message: item.message.clone(),
            violations: if item.field.is_empty() { Vec::new() } else { vec![violation] },
            metadata: item.metadata.clone(),
            ..Inner::default()
        }))
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
        let mut debug = f.debug_struct("Error");
        debug.field("kind", &self.0.kind).field("reason", &self.0.reason).field("message", &self.0.message);
        debug.field("violations", &self.0.violations).field("metadata", &self.0.metadata);
        debug.field("retry_after", &self.0.retry_after).field("may_have_applied", &self.0.may_have_applied);
        debug.field("source", &self.0.source).finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<prost::DecodeError> for Error {
    /// Converts to the kind `Malformed`.
    fn from(error: prost::DecodeError) -> Error {
        Error::malformed(error)
    }
}

impl From<cable_proto::ParsePositionError> for Error {
    /// Converts to the kind `Config`.
    fn from(error: cable_proto::ParsePositionError) -> Error {
        Error::new(ErrorKind::Config, error.to_string())
    }
}

/// The problem with one field of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// The path of the field, such as `article.tags[3]`.
    pub field: String,
    /// The description of the problem, for people.
    pub description: String,
}

/// The content of an error, boxed so that results stay small.
#[derive(Clone, Default)]
struct Inner {
    kind: ErrorKind,
    reason: Option<ErrorReason>,
    message: String,
    violations: Vec<Violation>,
    metadata: BTreeMap<String, String>,
    retry_after: Option<Duration>,
    connection: Connection,
    may_have_applied: bool,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// The state of the connection when an error occurred.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Connection {
    /// The connection works: the server sent this error, or there was no call.
    #[default]
    Intact,
    /// The call was not sent, because no connection could be established, or because it lacked something.
    Refused,
    /// The call was sent, and no response arrived before the deadline.
    TimedOut,
    /// The server or a proxy reset the stream of the call. The connection works.
    Reset,
    /// The connection was lost during the call.
    Lost,
}
