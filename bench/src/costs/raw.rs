//! Calls of any method with encoded messages.

use bytes::{Buf as _, BufMut as _, Bytes};
use cable_client::v1;
use futures_util::{StreamExt as _, stream};
use http::uri::PathAndQuery;
use prost::Message as _;
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::{Channel, Endpoint},
};

use crate::Outcome;

/// A client that neither encodes nor decodes.
#[derive(Clone)]
pub(super) struct Raw(Channel);

impl Raw {
    pub(super) fn connect(endpoint: &str) -> Outcome<Raw> {
        let endpoint = Endpoint::from_shared(endpoint.to_owned())?
            .tcp_nodelay(true)
            .initial_stream_window_size(8 << 20)
            .initial_connection_window_size(16 << 20);
        Ok(Raw(endpoint.connect_lazy()))
    }

    /// Sends one message and reads up to `messages` responses. Returns the sum of their lengths.
    pub(super) async fn call(&self, method: &str, request: Bytes, messages: usize) -> Result<usize, Status> {
        let max_bytes = 512 << 20;
        let mut grpc = Grpc::new(self.0.clone())
            .max_decoding_message_size(max_bytes)
            .max_encoding_message_size(max_bytes);
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = PathAndQuery::try_from(format!("/cable.v1.{method}"));
        let path = path.map_err(|error| Status::internal(error.to_string()))?;
        let request = Request::new(stream::once(async { request }));
        let mut responses = grpc.streaming(request, path, PassThrough).await?.into_inner();
        let mut bytes = 0;
        for _ in 0..messages {
            let Some(message) = responses.next().await else { break };
            bytes += message?.len();
        }
        Ok(bytes)
    }

    pub(super) async fn put_article(&self, article: &v1::Article) -> Outcome<()> {
        let mut request = v1::PutArticleRequest::default();
        request.article = Some(article.clone());
        self.call("PublishingService/PutArticle", request.encode_to_vec().into(), 1).await?;
        Ok(())
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
pub(super) fn reason(status: &Status) -> String {
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
