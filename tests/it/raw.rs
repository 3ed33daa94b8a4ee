//! Calls that no well-behaved client makes: arbitrary bytes as a request, or the canonical JSON of one.

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use bytes::{Buf as _, BufMut as _, Bytes};
use prost::Message as _;
use prost::encoding::WireType;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, SerializeOptions};
use serde_json::Value;
use tonic::{
    Code, Request, Status, Streaming,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::{Ascii, MetadataMap, MetadataValue},
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;

use crate::support::Node;

/// The window of a narrow connection in bytes: the smallest that HTTP/2 has for a connection.
const WINDOW: u32 = 65_535;

static SCHEMA: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(cable_proto::DESCRIPTORS).unwrap());

/// A connection that sends bytes unchanged.
#[derive(Clone)]
pub(crate) struct Raw {
    grpc: Grpc<Channel>,
    /// The value of `authorization`, if calls send one.
    authorization: Option<MetadataValue<Ascii>>,
}

/// The parts of an error that clients act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) reason: String,
    /// The field that BadRequest names; empty if it names none.
    pub(crate) field: String,
    pub(crate) metadata: BTreeMap<String, String>,
    /// Whether RetryInfo specifies when to retry.
    pub(crate) retry: bool,
}

impl Raw {
    pub(crate) async fn to(node: &Node) -> Raw {
        Raw::at(&node.endpoint()).await
    }

    /// Connects to the endpoint of a program.
    pub(crate) async fn at(endpoint: &str) -> Raw {
        Raw::over(Endpoint::from_shared(endpoint.to_owned()).unwrap()).await
    }

    async fn over(endpoint: Endpoint) -> Raw {
        let grpc = Grpc::new(endpoint.connect().await.unwrap()).max_decoding_message_size(usize::MAX);
        Raw { grpc, authorization: None }
    }

    /// Returns a caller on the same connection that sends a token.
    pub(crate) fn with_token(&self, token: &str) -> Raw {
        self.with_authorization(&format!("Bearer {token}"))
    }

    /// Returns a caller on the same connection that sends a value of `authorization`.
    pub(crate) fn with_authorization(&self, value: &str) -> Raw {
        Raw { authorization: Some(value.parse().unwrap()), ..self.clone() }
    }

    /// Connects with small windows, so that the server can send little ahead of the reader.
    pub(crate) async fn narrow(node: &Node) -> Raw {
        let endpoint = Endpoint::from_shared(node.endpoint()).unwrap();
        let endpoint = endpoint.initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW);
        Raw::over(endpoint).await
    }

    /// Makes a call with an encoded request. Returns all messages of the response, in JSON.
    pub(crate) async fn send(&self, method: &str, request: Bytes) -> Result<Vec<Value>, Refusal> {
        let output = find(method).output();
        let responses = self.messages(method, request).await.map_err(|status| Refusal::of(&status))?;
        let json = |response: Bytes| json(DynamicMessage::decode(output.clone(), response).unwrap());
        Ok(responses.into_iter().map(json).collect())
    }

    /// Makes a call with a request in JSON. Returns the only message of the response.
    pub(crate) async fn call(&self, method: &str, request: Value) -> Result<Value, Refusal> {
        Ok(self.send(method, request_bytes(method, request)).await?.pop().unwrap_or_default())
    }

    /// Makes a call with headers. Returns the encoded messages of the response, and its trailers.
    pub(crate) async fn call_with(
        &self,
        method: &str,
        request: Value,
        headers: &[(&'static str, &str)],
    ) -> Result<(Vec<Bytes>, MetadataMap), Status> {
        let mut request = Request::new(request_bytes(method, request));
        for (name, value) in headers {
            request.metadata_mut().insert(*name, value.parse().unwrap());
        }
        let mut responses = self.stream_request(method, request).await?;
        let mut messages = Vec::new();
        while let Some(message) = responses.message().await? {
            messages.push(message);
        }
        Ok((messages, responses.trailers().await?.unwrap_or_default()))
    }

    /// Makes a call. Returns whether the connection was lost before its response.
    pub(crate) async fn call_lost(&self, method: &str, request: Value) -> bool {
        let request = Request::new(request_bytes(method, request));
        let Ok(mut responses) = self.stream_request(method, request).await else { return true };
        responses.message().await.is_err()
    }

    /// Makes a call that is accepted. Returns the first message of the response, encoded.
    pub(crate) async fn bytes(&self, method: &str, request: Bytes) -> Bytes {
        self.messages(method, request).await.unwrap().remove(0)
    }

    /// Makes a call with an encoded request. Returns the encoded messages of the response, or all parts of the error.
    pub(crate) async fn send_bytes(&self, method: &str, request: Bytes) -> Result<Vec<Bytes>, String> {
        self.messages(method, request).await.map_err(|status| describe(&status))
    }

    /// Makes a call with a deadline. Returns the number of messages before its end, and its status.
    pub(crate) async fn send_within(
        &self,
        timeout: Duration,
        method: &str,
        request: Bytes,
    ) -> (usize, Status) {
        let mut request = Request::new(request);
        request.set_timeout(timeout);
        let mut count = 0;
        let status = async {
            let mut responses = self.stream_request(method, request).await?;
            while responses.message().await?.is_some() {
                count += 1;
            }
            Ok(())
        };
        let status = status.await.err().unwrap_or_else(|| Status::ok(""));
        (count, status)
    }

    async fn messages(&self, method: &str, request: Bytes) -> Result<Vec<Bytes>, Status> {
        let (mut messages, mut responses) = (Vec::new(), self.stream(method, request).await?);
        while let Some(message) = responses.message().await? {
            messages.push(message);
        }
        Ok(messages)
    }

    /// Makes a call and returns the stream of its encoded responses.
    pub(crate) async fn stream(&self, method: &str, request: Bytes) -> Result<Streaming<Bytes>, Status> {
        self.stream_request(method, Request::new(request)).await
    }

    async fn stream_request(
        &self,
        method: &str,
        mut request: Request<Bytes>,
    ) -> Result<Streaming<Bytes>, Status> {
        let method = find(method);
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let mut grpc = self.grpc.clone();
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        let response = grpc.server_streaming(request, path.parse().unwrap(), Pass).await?;
        Ok(response.into_inner())
    }
}

impl Refusal {
    fn of(status: &Status) -> Refusal {
        let details = status.get_error_details();
        let info = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
        assert_eq!(info.domain, "cable.v1");
        let violations = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
        assert!(violations.len() <= 1 && violations.iter().all(|v| !v.description.is_empty()));
        Refusal {
            code: status.code(),
            reason: info.reason.clone(),
            field: violations.first().map(|violation| violation.field.clone()).unwrap_or_default(),
            metadata: info.metadata.clone().into_iter().collect(),
            retry: details.retry_info().is_some(),
        }
    }
}

/// Returns all parts of an error as text.
pub(crate) fn describe(status: &Status) -> String {
    let details = status.get_error_details();
    let (size, resource) = (status.details().len(), details.resource_info());
    format!("{:?} {} {resource:?} {size}", Refusal::of(status), status.message())
}

/// Returns the encoded request of a method.
pub(crate) fn request_bytes(method: &str, request: Value) -> Bytes {
    encode(&find(method).input().full_name().replace("cable.v1.", ""), request)
}

/// Encodes a message of the schema from its canonical JSON.
pub(crate) fn encode(message: &str, value: Value) -> Bytes {
    let descriptor = SCHEMA.get_message_by_name(&format!("cable.v1.{message}")).unwrap();
    let text = value.to_string();
    let message = DynamicMessage::deserialize(descriptor, value);
    message.unwrap_or_else(|error| panic!("{error}: {text}")).encode_to_vec().into()
}

/// Encodes a length-delimited field.
pub(crate) fn field(number: u32, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::encode_key(number, WireType::LengthDelimited, &mut out);
    prost::encoding::encode_varint(value.len() as u64, &mut out);
    out.extend_from_slice(value);
    out
}

/// Returns a message with only the wanted ones of its top-level fields.
pub(crate) fn retain_fields(message: &[u8], wanted: impl Fn(u32) -> bool) -> Vec<u8> {
    let (mut rest, mut retained) = (message, Vec::new());
    while !rest.is_empty() {
        let start = rest;
        let (at, wire_type) = prost::encoding::decode_key(&mut rest).unwrap();
        prost::encoding::skip_field(wire_type, at, &mut rest, Default::default()).unwrap();
        if wanted(at) {
            retained.extend_from_slice(&start[..start.len() - rest.len()]);
        }
    }
    retained
}

/// Returns the message with its fields in the opposite order. `nested` is a path of field numbers; along it, the fields
/// of the inner messages are reversed too. Map entries are reversed as well, but lists on the path must have at most
/// one element.
pub(crate) fn reverse_fields(message: &[u8], nested: &[u32]) -> Vec<u8> {
    let (mut rest, mut fields) = (message, Vec::new());
    while !rest.is_empty() {
        let start = rest;
        let (at, wire_type) = prost::encoding::decode_key(&mut rest).unwrap();
        prost::encoding::skip_field(wire_type, at, &mut rest, Default::default()).unwrap();
        let encoded = &start[..start.len() - rest.len()];
        fields.push(match nested.split_first() {
            Some((first, inner)) if *first == at => field(at, &reverse_fields(values(encoded, at)[0], inner)),
            _ => encoded.to_vec(),
        });
    }
    fields.into_iter().rev().flatten().collect()
}

/// Returns the values of a message's length-delimited fields with the given number, at the top level.
pub(crate) fn values(message: &[u8], number: u32) -> Vec<&[u8]> {
    let (mut rest, mut found) = (message, Vec::new());
    while !rest.is_empty() {
        let (at, wire_type) = prost::encoding::decode_key(&mut rest).unwrap();
        match wire_type {
            WireType::LengthDelimited => {
                let length = prost::encoding::decode_varint(&mut rest).unwrap() as usize;
                let (value, after) = rest.split_at(length);
                rest = after;
                found.extend((at == number).then_some(value));
            }
            other => prost::encoding::skip_field(other, at, &mut rest, Default::default()).unwrap(),
        }
    }
    found
}

/// Returns a message with an added unknown field, so that it has exactly this length in bytes.
pub(crate) fn padded(message: &[u8], length: usize) -> Bytes {
    let room = length - message.len();
    let value = (0..room).rev().find(|value| field(900, &vec![b'x'; *value]).len() == room).unwrap();
    [message, &field(900, &vec![b'x'; value])].concat().into()
}

/// Returns the names of all methods of the schema.
pub(crate) fn method_names() -> Vec<String> {
    methods().map(|method| method.name().to_owned()).collect()
}

fn methods() -> impl Iterator<Item = MethodDescriptor> {
    SCHEMA.services().flat_map(|service| service.methods().collect::<Vec<_>>())
}

fn find(name: &str) -> MethodDescriptor {
    methods().find(|method| method.name() == name).unwrap_or_else(|| panic!("no method {name}"))
}

/// Decodes a message of the schema into JSON, with the schema's own field names.
pub(crate) fn decode(message: &str, bytes: Bytes) -> Value {
    let descriptor = SCHEMA.get_message_by_name(&format!("cable.v1.{message}")).unwrap();
    json(DynamicMessage::decode(descriptor, bytes).unwrap())
}

fn json(message: DynamicMessage) -> Value {
    let options = SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false);
    message.serialize_with_options(serde_json::value::Serializer, &options).unwrap()
}

/// A codec that passes bytes through.
#[derive(Clone, Copy)]
struct Pass;

impl Codec for Pass {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Pass;
    type Decoder = Pass;

    fn encoder(&mut self) -> Pass {
        Pass
    }

    fn decoder(&mut self) -> Pass {
        Pass
    }
}

impl Encoder for Pass {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.put(item);
        Ok(())
    }
}

impl Decoder for Pass {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buf.copy_to_bytes(buf.remaining())))
    }
}
