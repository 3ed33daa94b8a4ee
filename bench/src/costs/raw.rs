//! Calls of any method with encoded messages.

use bytes::{Buf as _, BufMut as _, Bytes};
use futures_util::{StreamExt as _, stream};
use http::{Request as HttpRequest, header::AUTHORIZATION, uri::PathAndQuery};
use http_body_util::BodyExt as _;
use tonic::{
    Request, Status,
    body::Body,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::Service as _,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};

use crate::{Outcome, report::grouped};

/// The outcome of a request.
pub(super) struct Sent {
    pub(super) outcome: String,
    pub(super) is_accepted: bool,
}

/// A client that neither encodes nor decodes.
#[derive(Clone)]
pub(super) struct Raw {
    channel: Channel,
    /// The value of `authorization`, if calls send one.
    authorization: Option<String>,
}

/// The start of the method of a GET.
const GET: &str = "GET ";

impl Raw {
    pub(super) fn connect(endpoint: &str) -> Outcome<Raw> {
        let endpoint = Endpoint::from_shared(endpoint.to_owned())?
            .tcp_nodelay(true)
            .initial_stream_window_size(8 << 20)
            .initial_connection_window_size(16 << 20);
        Ok(Raw { channel: endpoint.connect_lazy(), authorization: None })
    }

    /// Returns a client that sends a token.
    pub(super) fn with_token(&self, token: &str) -> Raw {
        Raw { authorization: Some(format!("Bearer {token}")), ..self.clone() }
    }

    /// Makes a call, or a GET whose target and headers are the lines of the request. Returns a text for the outcome.
    pub(super) async fn send(&self, method: &str, request: Bytes, messages: usize) -> Sent {
        if method.starts_with(GET) {
            return self.get(&String::from_utf8_lossy(&request), messages).await;
        }
        match self.call(method, request, messages).await {
            Ok(bytes) => Sent { outcome: format!("{} bytes", grouped(bytes as u64)), is_accepted: true },
            Err(status) => Sent { outcome: reason(&status), is_accepted: false },
        }
    }

    /// Makes a GET over HTTP/2. Of a stream, reads up to `messages` pieces.
    async fn get(&self, request: &str, messages: usize) -> Sent {
        let failed = |error: String| Sent { outcome: error, is_accepted: false };
        let mut lines = request.lines();
        let mut built = HttpRequest::get(lines.next().unwrap_or_default());
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            built = built.header(name, value);
        }
        if let Some(authorization) = &self.authorization {
            built = built.header(AUTHORIZATION, authorization);
        }
        let request = match built.body(Body::empty()) {
            Ok(request) => request,
            Err(error) => return failed(error.to_string()),
        };
        let mut channel = self.channel.clone();
        if let Err(error) = std::future::poll_fn(|cx| channel.poll_ready(cx)).await {
            return failed(error.to_string());
        }
        let response = match channel.call(request).await {
            Ok(response) => response,
            // A head above the limit of the node ends the stream or the connection.
            Err(_) => return failed("refused by HTTP/2".to_owned()),
        };
        let (status, mut body) = (response.status(), response.into_body());
        let (mut bytes, mut pieces) = (0, 0);
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            pieces += 1;
            if messages > 1 && pieces == messages {
                break;
            }
        }
        let outcome = format!("{}, {} bytes", status.as_u16(), grouped(bytes as u64));
        Sent { outcome, is_accepted: status.is_success() || status.is_redirection() }
    }

    /// Sends one message and reads up to `messages` responses. Returns the sum of their lengths.
    pub(super) async fn call(&self, method: &str, request: Bytes, messages: usize) -> Result<usize, Status> {
        let max_bytes = 512 << 20;
        let mut grpc = Grpc::new(self.channel.clone())
            .max_decoding_message_size(max_bytes)
            .max_encoding_message_size(max_bytes);
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = PathAndQuery::try_from(format!("/cable.v1.{method}"));
        let path = path.map_err(|error| Status::internal(error.to_string()))?;
        let mut request = Request::new(stream::once(async { request }));
        if let Some(authorization) = &self.authorization {
            let value = MetadataValue::try_from(authorization.as_str());
            let value = value.map_err(|error| Status::internal(error.to_string()))?;
            request.metadata_mut().insert("authorization", value);
        }
        let mut responses = grpc.streaming(request, path, PassThrough).await?.into_inner();
        let mut bytes = 0;
        for _ in 0..messages {
            let Some(message) = responses.next().await else { break };
            bytes += message?.len();
        }
        Ok(bytes)
    }

    /// Imports encoded records, a few at a time.
    pub(super) async fn import(&self, records: Vec<Vec<u8>>) -> Outcome<()> {
        let mut chunk = Vec::new();
        let (mut count, mut rest) = (0, records.into_iter().peekable());
        while let Some(record) = rest.next() {
            prost::encoding::bytes::encode(2, &record, &mut chunk);
            count += 1;
            if chunk.len() > 2 << 20 || count == 1_000 || rest.peek().is_none() {
                self.call("TransferService/Import", std::mem::take(&mut chunk).into(), 1).await?;
                count = 0;
            }
        }
        Ok(())
    }
}

/// Returns the code and reason of an error.
fn reason(status: &Status) -> String {
    let text = String::from_utf8_lossy(status.details()).into_owned();
    let known = ["LIMIT_EXCEEDED", "FIELD_INVALID", "PAGE_TOKEN_INVALID", "ARTICLE_NOT_FOUND", "OVERLOADED"];
    let reason = known.into_iter().find(|reason| text.contains(reason)).unwrap_or_default();
    format!("{:?} {reason}", status.code()).trim_end().to_owned()
}

/// A codec that passes bytes through.
#[derive(Debug, Clone, Copy)]
struct PassThrough;

impl Codec for PassThrough {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = PassThrough;
    type Decoder = PassThrough;

    fn encoder(&mut self) -> PassThrough {
        PassThrough
    }

    fn decoder(&mut self) -> PassThrough {
        PassThrough
    }
}

impl Encoder for PassThrough {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.put(item);
        Ok(())
    }
}

impl Decoder for PassThrough {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buf.copy_to_bytes(buf.remaining())))
    }
}
