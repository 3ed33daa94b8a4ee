//! A client that speaks correct HTTP/2, and lets the test decide when a request ends and when a response is read.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::{
    RecvStream, SendStream,
    client::{Builder, SendRequest},
};
use http::{HeaderMap, Request};
use tokio::{net::TcpStream, task::JoinHandle};
use tonic::Status;

use super::soon;

pub(crate) struct Http2Client(SendRequest<Bytes>);

/// A call without a response so far.
pub(crate) struct OpenCall {
    response: h2::client::ResponseFuture,
    pub(crate) request: SendStream<Bytes>,
}

/// A call whose response has started.
pub(crate) struct StartedResponse {
    pub(super) headers: HeaderMap,
    pub(super) body: RecvStream,
}

impl Http2Client {
    /// Connects. The window is the part of a response that the node can send before it is read.
    pub(crate) async fn connect(address: SocketAddr, window: u32) -> Http2Client {
        // The connection ends with the node.
        Http2Client::handshake(soon(TcpStream::connect(address)).await.unwrap(), window).await.0
    }

    /// Starts HTTP/2 on a stream. Also returns the task that serves it.
    pub(crate) async fn handshake(io: TcpStream, window: u32) -> (Http2Client, JoinHandle<()>) {
        let mut builder = Builder::new();
        builder.initial_window_size(window);
        let (send, connection) = soon(builder.handshake(io)).await.unwrap();
        (Http2Client(send), tokio::spawn(async { drop(connection.await) }))
    }

    /// Starts a call and leaves its request open.
    pub(crate) async fn start_call(&self, path: &str, headers: &[(&str, &str)]) -> OpenCall {
        let mut send = soon(self.0.clone().ready()).await.unwrap();
        let mut request = Request::post(format!("http://localhost{path}")).header("te", "trailers");
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/grpc");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (response, request) = send.send_request(request.body(()).unwrap(), false).unwrap();
        OpenCall { response, request }
    }

    /// Makes a call with one message, given with its prefix. Returns the response and its status.
    pub(super) async fn call(&self, path: &str, headers: &[(&str, &str)], message: Bytes) -> (Bytes, Status) {
        let mut call = self.start_call(path, headers).await;
        call.request.send_data(message, true).unwrap();
        call.response().await.finish().await
    }
}

impl OpenCall {
    pub(crate) async fn response(self) -> StartedResponse {
        let (head, body) = soon(self.response).await.unwrap().into_parts();
        assert_eq!(head.status, 200);
        StartedResponse { headers: head.headers, body }
    }
}

impl StartedResponse {
    /// Reads the next piece of the response.
    pub(super) async fn next_chunk(&mut self) -> Option<Bytes> {
        let chunk = soon(self.body.data()).await?.unwrap();
        self.body.flow_control().release_capacity(chunk.len()).unwrap();
        Some(chunk)
    }

    /// Reads the rest of the response. Returns it with its status.
    pub(crate) async fn finish(mut self) -> (Bytes, Status) {
        let mut all = Vec::new();
        while let Some(chunk) = self.next_chunk().await {
            all.extend_from_slice(&chunk);
        }
        let trailers = soon(self.body.trailers()).await.unwrap();
        let status = Status::from_header_map(&trailers.unwrap_or(self.headers));
        (all.into(), status.unwrap_or_else(|| Status::unknown("the response has no status")))
    }
}

/// Returns a message with its prefix.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], &length[..], message].concat().into()
}
