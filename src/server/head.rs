//! The head and the body of a call, without the types of an HTTP library: a transport provides both.

use std::{
    net::IpAddr,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use tonic::Status;

/// The fields of a request's head that matter to a call.
#[derive(Clone, Copy)]
pub(super) struct Head<'a> {
    /// The path, which is the method: `/package.Service/Method`.
    pub(super) path: &'a str,
    /// `grpc-timeout`.
    pub(super) timeout: Option<&'a [u8]>,
    /// `authorization`.
    pub(super) authorization: Option<&'a [u8]>,
    /// The address of the client: the peer's, or the one that a trusted proxy names.
    pub(super) client: IpAddr,
    /// `x-request-id`.
    pub(super) request_id: Option<&'a [u8]>,
    /// `traceparent`.
    pub(super) traceparent: Option<&'a [u8]>,
    /// The size of all header fields in bytes.
    pub(super) bytes: usize,
}

impl<'a> Head<'a> {
    /// Returns the head of a call without any field.
    pub(super) fn new(path: &'a str, client: IpAddr) -> Head<'a> {
        Head {
            path,
            timeout: None,
            authorization: None,
            client,
            request_id: None,
            traceparent: None,
            bytes: 0,
        }
    }
}

/// The body of a request.
pub(super) trait RequestBody: Send + 'static {
    /// Returns the next bytes of the body, `None` after the last ones.
    ///
    /// # Errors
    /// The client has gone, or the bytes cannot be decoded.
    fn poll_data(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>>;

    /// Whether the body is known to have no more bytes.
    fn is_end(&self) -> bool;
}
