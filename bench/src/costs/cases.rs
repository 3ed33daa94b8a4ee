//! The worst known requests for each method and field: valid ones, and those that are only just rejected.

use bytes::Bytes;
use cable_client::v1;
use futures_util::future::BoxFuture;
use prost::Message as _;

use super::raw::Raw;
use crate::Outcome;

mod encoding;
mod reads;
mod stores;
mod writes;

use reads::{lists, reads};
use writes::{bodies, commits, encodings, entities, fields, html};

/// One request.
pub(super) struct Case {
    /// The service and method.
    pub(super) method: &'static str,
    /// The reason why it is costly.
    pub(super) label: &'static str,
    /// A function that fills the store beforehand.
    pub(super) prepare: fn(Raw) -> BoxFuture<'static, Outcome<()>>,
    /// A function that builds the request. Each number gives a different one.
    pub(super) request: Box<dyn Fn(usize) -> Bytes>,
    /// The number of messages to read: of a stream, the first.
    pub(super) messages: usize,
}

/// Returns all cases.
pub(super) fn all() -> Vec<Case> {
    [html(), bodies(), fields(), encodings(), commits(), entities(), reads(), lists()]
        .into_iter()
        .flatten()
        .collect()
}

const MIB: usize = 1 << 20;

fn case(method: &'static str, label: &'static str, request: impl Fn(usize) -> Vec<u8> + 'static) -> Case {
    Case {
        method,
        label,
        prepare: stores::prepare_nothing,
        request: Box::new(move |i| request(i).into()),
        messages: 1,
    }
}

pub(super) fn small(name: &str) -> v1::Article {
    let mut article = v1::Article::default();
    article.name = format!("articles/{name}");
    article.headline = "H".into();
    article
}

/// Returns a request for an article.
pub(super) fn get(name: &str) -> Bytes {
    let mut request = v1::GetArticleRequest::default();
    request.name = format!("articles/{name}");
    request.encode_to_vec().into()
}
