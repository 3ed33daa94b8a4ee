//! Reads the single message of a request.

use std::{future::poll_fn, pin::pin, task::Poll};

use bytes::{Bytes, BytesMut};
use tonic::{Status, metadata::MetadataValue};

use super::{head::RequestBody, inbound::HeldBytes, streams::Streams};
use crate::{model::limit::Limit, refusal::Refusal, wire::framed::PREFIX};

/// Reads the message of a request, and checks that no data follows it. The length that a prefix claims reserves no
/// memory. The received bytes of an incomplete message count against its connection.
///
/// # Errors
/// The message is above the limit, compressed, incomplete or not alone; there is no room for it; or the client has
/// gone.
pub(super) async fn read(
    body: impl RequestBody,
    limit: &'static Limit,
    streams: &Streams,
) -> Result<Bytes, Status> {
    let mut body = pin!(body);
    let mut bytes = Bytes::new();
    let mut held = None;
    while !body.is_end() {
        let next = match poll_fn(|cx| Poll::Ready(body.as_mut().poll_data(cx))).await {
            Poll::Ready(next) => next,
            Poll::Pending => {
                count_received(&mut held, streams, bytes.len())?;
                poll_fn(|cx| body.as_mut().poll_data(cx)).await
            }
        };
        let Some(data) = next.transpose()? else { break };
        bytes = if bytes.is_empty() { data } else { join(bytes, &data) };
        check(&bytes, limit)?;
    }
    if !is_complete(&bytes) {
        return Err(Refusal::field("request", "incomplete message").into());
    }
    Ok(bytes.slice(PREFIX..))
}

/// Counts the received bytes, now that the call has to wait for the rest.
#[cold]
fn count_received(
    held: &mut Option<(HeldBytes, usize)>,
    streams: &Streams,
    bytes: usize,
) -> Result<(), Refusal> {
    if held.is_none() {
        *held = Some((HeldBytes::new(streams.clone())?, 0));
    }
    if let Some((held, counted)) = held {
        held.add(bytes - *counted)?;
        *counted = bytes;
    }
    Ok(())
}

fn is_complete(bytes: &[u8]) -> bool {
    bytes.len() >= PREFIX && bytes.len() - PREFIX >= length(bytes)
}

/// Joins two pieces. The result has room to grow: otherwise a message in small frames would be copied for each frame.
fn join(bytes: Bytes, more: &[u8]) -> Bytes {
    let mut joined = BytesMut::from(bytes);
    joined.extend_from_slice(more);
    joined.freeze()
}

/// Checks the bytes received so far.
fn check(bytes: &[u8], limit: &'static Limit) -> Result<(), Status> {
    if bytes.first().is_some_and(|compressed| *compressed != 0) {
        return Err(compressed());
    }
    if bytes.len() < PREFIX {
        return Ok(());
    }
    let length = length(bytes);
    if length as u64 > limit.maximum {
        return Err(Refusal::Limit { field: "request".into(), limit, value: length as u64 }.into());
    }
    if bytes.len() - PREFIX > length {
        return Err(Refusal::field("request", "unexpected data after the message").into());
    }
    Ok(())
}

/// Returns the status for a compressed message, with the accepted encodings, as the protocol requires.
pub(super) fn compressed() -> Status {
    let mut status = Status::unimplemented("compressed messages are not supported: send them uncompressed");
    status.metadata_mut().insert("grpc-accept-encoding", MetadataValue::from_static("identity"));
    status
}

fn length(bytes: &[u8]) -> usize {
    let length = bytes[1..PREFIX].iter();
    length.fold(0, |length, byte| length << 8 | usize::from(*byte))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use tonic::Code;

    use super::*;
    use crate::{
        config::Connections,
        model::limit::READ_REQUEST,
        server::{memory::Memory, transport::HttpBody},
    };

    async fn read_pieces(pieces: &[&'static [u8]]) -> Result<Bytes, Code> {
        let frames = pieces.iter().map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::from_static(piece))));
        let body = StreamBody::new(stream::iter(frames.collect::<Vec<_>>()));
        let streams = Streams::new(&Memory::new(&Connections::default()).for_core(), [127, 0, 0, 1].into());
        read(HttpBody(body), &READ_REQUEST, &streams).await.map_err(|status| status.code())
    }

    #[tokio::test]
    async fn a_message_is_read_however_it_is_split() {
        assert_eq!(read_pieces(&[b"\0\0\0\0\x03abc"]).await, Ok("abc".into()));
        assert_eq!(read_pieces(&[b"\0\0", b"\0\0\x03", b"", b"ab", b"c"]).await, Ok("abc".into()));
        assert_eq!(read_pieces(&[b"\0\0\0\0\0"]).await, Ok(Bytes::new()));
    }

    #[test]
    fn pieces_are_joined_in_place_while_there_is_room() {
        let mut bytes = join(Bytes::from_static(b"ab"), &[b'c'; 1_000]);
        let (mut moved, mut address) = (0, bytes.as_ptr());
        for _ in 0..100_000 {
            bytes = join(bytes, b"d");
            moved += usize::from(bytes.as_ptr() != std::mem::replace(&mut address, bytes.as_ptr()));
        }
        assert_eq!(bytes.len(), 101_002);
        assert!(moved < 20, "moved {moved} times");
    }

    #[tokio::test]
    async fn invalid_messages_are_refused() {
        for (pieces, code) in [
            (&[][..], Code::InvalidArgument),
            (&[&b"\0\0\0\0\x03ab"[..]], Code::InvalidArgument),
            (&[b"\0\0\0\0\x03abcd"], Code::InvalidArgument),
            (&[b"\0\0\0\0\x03abc", b"\0\0\0\0\0"], Code::InvalidArgument),
            (&[b"\x01\0\0\0\x03abc"], Code::Unimplemented),
            (&[b"\0\xff\xff\xff\xff"], Code::InvalidArgument),
        ] {
            assert_eq!(read_pieces(pieces).await, Err(code), "{pieces:?}");
        }
    }
}
