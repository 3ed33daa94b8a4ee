//! The messages on the wire: the generated ones, and [`Encoded`], a message that remains in the bytes in which it was
//! received.
//!
//! This module knows the encoding and not the meaning of the messages.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::{
    DecodeError, Message,
    encoding::{DecodeContext, WireType, decode_varint, encode_key, encode_varint},
};

pub(crate) mod elements;
pub(crate) mod fields;
pub(crate) mod framed;
pub(crate) mod json;
pub(crate) mod number;

pub(crate) use framed::Framed;

#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated from the commented schema"
)]
mod generated {
    pub mod log {
        include!(concat!(env!("OUT_DIR"), "/log/cable.log.v1.rs"));
    }
    pub mod service {
        include!(concat!(env!("OUT_DIR"), "/service/cable.v1.rs"));
    }
}

pub(crate) use cable_proto::{DESCRIPTORS, POOL, v1};
pub(crate) use generated::{log, service};

/// The number of the field that `build.rs` adds to the requests of writes.
pub(crate) const RECEIVED: u32 = (1 << 29) - 1;

/// A message stored as its bytes. Decoding only checks that they are well-formed fields; encoding copies them.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Encoded(pub(crate) Bytes);

impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Encoded({} bytes)", self.0.len())
    }
}

impl Message for Encoded {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.0);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        _ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        // A message is merged field by field. Reclaiming the bytes as mutable makes that one growing buffer.
        let mut bytes =
            std::mem::take(&mut self.0).try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        encode_key(tag, wire_type, &mut bytes);
        let copied = copy_value(wire_type, buf, &mut bytes);
        self.0 = bytes.freeze();
        copied
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0 = Bytes::new();
    }
}

fn copy_value(wire_type: WireType, buf: &mut impl Buf, out: &mut BytesMut) -> Result<(), DecodeError> {
    let length = match wire_type {
        WireType::Varint => {
            encode_varint(decode_varint(buf)?, out);
            return Ok(());
        }
        WireType::SixtyFourBit => 8,
        WireType::ThirtyTwoBit => 4,
        WireType::LengthDelimited => {
            let length = decode_varint(buf)?;
            encode_varint(length, out);
            length
        }
        // proto3 has no groups, so no message that the server can receive has one.
        WireType::StartGroup | WireType::EndGroup => return Err(malformed("groups are not supported")),
    };
    if length > buf.remaining() as u64 {
        return Err(malformed("buffer underflow"));
    }
    out.put(buf.take(length as usize));
    Ok(())
}

fn malformed(reason: &'static str) -> DecodeError {
    #[allow(deprecated, reason = "prost offers hand-written messages no other way to describe an error")]
    DecodeError::new(reason)
}
