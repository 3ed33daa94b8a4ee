//! Errors to Status.
use prost::DecodeError;
use tonic::{Code, Status};

/// A fault of ours.
pub(crate) fn internal(what: &str) -> Status {
    Status::new(Code::Internal, what)
}

/// An undecodable request.
pub(crate) fn malformed(error: &DecodeError) -> Status {
    Status::new(Code::InvalidArgument, error.to_string())
}
