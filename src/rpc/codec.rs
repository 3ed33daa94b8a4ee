//! The codec of the services: that of prost, except that a request that cannot be decoded is the caller's error, and
//! the error names the field.

use std::marker::PhantomData;

use bytes::{Buf as _, Bytes};
use prost::Message;
use tonic::{
    Status,
    codec::{BufferSettings, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use crate::{
    model::limit,
    refusal::{Refusal, at_most, decode_error},
    wire::{RECEIVED, elements::Shape, fields},
};

/// A codec that encodes `T` and decodes `U`.
#[derive(Debug)]
pub(crate) struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Codec(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = Half<T>;
    type Decoder = Half<U>;

    fn encoder(&mut self) -> Half<T> {
        Half(PhantomData)
    }

    fn decoder(&mut self) -> Half<U> {
        Half(PhantomData)
    }
}

/// One direction of a [`Codec`].
#[derive(Debug)]
pub(crate) struct Half<T>(PhantomData<T>);

impl<T: Message> Encoder for Half<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(buf).map_err(|_| Refusal::Internal("response does not fit its buffer").into())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

impl<U: Message + Default> Decoder for Half<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let message = buf.copy_to_bytes(buf.remaining());
        if let Some(shape) = shape::<U>() {
            let elements = shape.elements(&message, limit::ELEMENTS.maximum as usize);
            at_most(&limit::ELEMENTS, elements.map_err(|error| decode_error(&error))?, "request")?;
        }
        Ok(Some(receive(message).map_err(|error| decode_error(&error))?))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

/// Returns the schema's shape of a request. The types of the services have the names of the schema's messages.
fn shape<U>() -> Option<Shape> {
    Shape::named(std::any::type_name::<U>().rsplit("::").next()?)
}

/// Decodes a request. If its type has a field for the request's own bytes, that field is set, whatever the request
/// itself contains there.
fn receive<U: Message + Default>(bytes: Bytes) -> Result<U, prost::DecodeError> {
    let mut request = U::decode(bytes.clone())?;
    let mut key = Vec::with_capacity(16);
    fields::put_key(&mut key, RECEIVED, bytes.len());
    request.merge((&key[..]).chain(bytes))?;
    Ok(request)
}
