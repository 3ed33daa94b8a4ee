//! The kinds of failure, one for each status code and for each failure in the client.

use tonic::Code;

/// Kinds of failure: the status code of the server, or a failure in the client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request is invalid; see [`Error::violations`](crate::Error::violations).
    ///
    /// INVALID_ARGUMENT. The same request fails again.
    InvalidArgument,
    /// The name does not exist: it was never put, was removed, or moved.
    ///
    /// NOT_FOUND. [`Optional`](crate::Optional) turns it into `None`.
    NotFound,
    /// The precondition requires the name to be absent, but it exists; or another live article has the path.
    ///
    /// ALREADY_EXISTS, with the reason `NameExists` or `PathTaken`.
    AlreadyExists,
    /// The etag of the precondition is not the current one.
    ///
    /// ABORTED, with the reason `EtagMismatch`. Read the name again, and decide whether to write.
    Aborted,
    /// The state of the server does not allow the call: for example, the position belongs to another history, or the
    /// name was killed.
    ///
    /// FAILED_PRECONDITION, with the reason `LogChanged` or `NameKilled`.
    FailedPrecondition,
    /// A value is outside the available range: for example, the position of a feed is older than the history floor.
    ///
    /// OUT_OF_RANGE, with the reason `RevisionCompacted`. A feed that may be reset takes a snapshot instead.
    OutOfRange,
    /// The server lacks a resource: for example, disk space, or a free slot for a feed or a backup.
    ///
    /// RESOURCE_EXHAUSTED, with the reason `StoreFull`, `TooManyFeeds` or `BackupRunning`. Only feeds retry it.
    ResourceExhausted,
    /// The server does not implement the call, or cannot store the content.
    Unimplemented,
    /// No node could be reached, the connection was lost, or the node could not serve the call.
    ///
    /// UNAVAILABLE, or no status at all. The client has made all attempts that its [`Retry`](crate::Retry) allows.
    Unavailable,
    /// The timeout expired.
    ///
    /// DEADLINE_EXCEEDED, or no response in time. A write may have been applied.
    DeadlineExceeded,
    /// The call was cancelled.
    Cancelled,
    /// The caller is not authenticated: the call had no token, or one that is unknown, expired or revoked.
    ///
    /// UNAUTHENTICATED. If the [`Token`](crate::Token) can change, the client has requested it again, and has made a second
    /// attempt if it was another one.
    Unauthenticated,
    /// The caller is authenticated, but lacks the permission for the call.
    ///
    /// PERMISSION_DENIED. A token with another role may make the call.
    PermissionDenied,
    /// Stored data is damaged.
    ///
    /// DATA_LOSS, with the reason `RecordCorrupt` or `StoreDamaged`. Also the end of a listing or an export that lacks
    /// the records that the server cannot read.
    DataLoss,
    /// An internal error of the server.
    Internal,
    /// An error without a more specific code (UNKNOWN).
    #[default]
    Unknown,
    /// A stream ended early: the items that it delivered are incomplete.
    Truncated,
    /// A setting of the client or a position in text form is invalid, or does not allow the call: a token is not sent over
    /// plaintext.
    ///
    /// No call was made.
    Config,
    /// The callback of a [`Token`](crate::Token) failed before it had returned a token.
    ///
    /// No call was made.
    Credentials,
    /// Received or given bytes are not a valid message.
    Malformed,
    /// A message, or a commit of a feed, is larger than this client accepts. The text states the limit and the remedy.
    TooLarge,
    /// The position of a feed could not be loaded or saved.
    PositionStore,
}

impl ErrorKind {
    pub(super) fn from_code(code: Code) -> ErrorKind {
        match code {
            Code::InvalidArgument => ErrorKind::InvalidArgument,
            Code::NotFound => ErrorKind::NotFound,
            Code::AlreadyExists => ErrorKind::AlreadyExists,
            Code::Aborted => ErrorKind::Aborted,
            Code::FailedPrecondition => ErrorKind::FailedPrecondition,
            Code::OutOfRange => ErrorKind::OutOfRange,
            Code::ResourceExhausted => ErrorKind::ResourceExhausted,
            Code::Unimplemented => ErrorKind::Unimplemented,
            Code::Unavailable => ErrorKind::Unavailable,
            Code::DeadlineExceeded => ErrorKind::DeadlineExceeded,
            Code::Cancelled => ErrorKind::Cancelled,
            Code::Unauthenticated => ErrorKind::Unauthenticated,
            Code::PermissionDenied => ErrorKind::PermissionDenied,
            Code::DataLoss => ErrorKind::DataLoss,
            Code::Internal => ErrorKind::Internal,
            Code::Ok | Code::Unknown => ErrorKind::Unknown,
        }
    }

    /// Returns the name of the kind as gRPC spells it: `NOT_FOUND` for `NotFound`.
    pub(super) fn code_name(self) -> String {
        let mut name = String::new();
        for letter in format!("{self:?}").chars() {
            if letter.is_ascii_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.push(letter.to_ascii_uppercase());
        }
        name
    }
}
