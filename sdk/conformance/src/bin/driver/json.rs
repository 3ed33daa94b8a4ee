//! Canonical JSON of messages, by the descriptors of the schema.

use cable_proto::POOL;
use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use serde_json::Value;

/// The full name of the message of a type.
pub(crate) trait Named: Message + Default {
    const NAME: &'static str;
}

macro_rules! named {
    ($($message:ident)*) => {$(
        impl Named for cable_client::v1::$message {
            const NAME: &'static str = concat!("cable.v1.", stringify!($message));
        }
    )*};
}

named! {
    Position FeedFilter WriteResult
    GetArticleRequest GetArticleResponse ListArticlesRequest ListArticlesResponse StreamArticlesRequest
    PutArticleRequest PutArticleResponse PatchArticleRequest RemoveArticleRequest PutTagRequest
    CommitRequest CommitResponse GetStatusResponse
}

fn descriptor<M: Named>() -> Result<MessageDescriptor, String> {
    POOL.get_message_by_name(M::NAME).ok_or_else(|| format!("{} is not in the schema", M::NAME))
}

/// Returns the message of a JSON value. Unknown fields are an error.
pub(crate) fn decode<M: Named>(value: &Value) -> Result<M, String> {
    let message =
        DynamicMessage::deserialize(descriptor::<M>()?, value).map_err(|error| error.to_string())?;
    message.transcode_to().map_err(|error| error.to_string())
}

/// Returns the JSON value of a message.
pub(crate) fn encode<M: Named>(message: &M) -> Result<Value, String> {
    let mut dynamic = DynamicMessage::new(descriptor::<M>()?);
    dynamic.transcode_from(message).map_err(|error| error.to_string())?;
    serde_json::to_value(dynamic).map_err(|error| error.to_string())
}
