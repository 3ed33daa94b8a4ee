//! The kinds of failure, one for each status code and for each failure in the client.

use tonic::Code;

/// Kinds of failure: the status code of the server, or a failure in the client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request is invalid; see [`Error::violations`](crate::Error::violations).
    InvalidArgument,
    /// The name does not exist: it was never put, was removed, or moved.
    NotFound,
    /// The precondition requires the name to be absent, but it exists; or another live article has the path.
    AlreadyExists,
    /// The etag of the precondition is not the current one.
    Aborted,
    /// The state of the server does not allow the call: for example, the position belongs to another history, or the
    /// name was killed.
    FailedPrecondition,
    /// A value is outside the available range: for example, the position of a feed is older than the history floor.
    OutOfRange,
    /// The server lacks a resource: for example, disk space, or a free slot for a feed.
    ResourceExhausted,
    /// The server does not implement the call, or cannot store the content.
    Unimplemented,
    /// No node could be reached, the connection was lost, or the node could not serve the call.
    Unavailable,
    /// The timeout expired.
    DeadlineExceeded,
    /// The call was cancelled.
    Cancelled,
    /// The caller is not authenticated.
    Unauthenticated,
    /// The caller lacks the permission for the call.
    PermissionDenied,
    /// Stored data is damaged.
    DataLoss,
    /// An internal error of the server.
    Internal,
    /// An error without a more specific code (UNKNOWN).
    #[default]
    Unknown,
    /// A stream ended early: the items that it delivered are incomplete.
    Truncated,
    /// A setting of the client or a position in text form is invalid.
    Config,
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
