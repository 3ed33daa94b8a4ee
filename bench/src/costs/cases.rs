//! The worst known requests for each method and field: valid ones, and those that are only just rejected.

use bytes::Bytes;
use cable_client::v1;
use futures_util::future::BoxFuture;
use prost::Message as _;

use super::raw::Raw;
use crate::Outcome;

mod encoding;
mod partners;
mod reads;
mod schema;
mod sources;
mod stores;
mod web;
mod writes;

pub(super) use stores::probe;

use partners::partners;
use reads::{lists, reads};
use sources::sources;
use writes::{bodies, commits, encodings, entities, fields, html};

/// One row of the table: a request, or requests of one kind of which the costliest counts.
pub(super) struct Case {
    /// The service and method, or GET and the path.
    pub(super) method: String,
    /// The reason why it is costly.
    pub(super) label: String,
    /// A function that fills the store beforehand.
    pub(super) prepare: fn(Raw) -> BoxFuture<'static, Outcome<()>>,
    pub(super) variants: Vec<Variant>,
    /// The number of messages to read: of a stream, the first.
    pub(super) messages: usize,
    /// The filter of the caller's token, as options of `cable token new`. None if the caller has no token.
    pub(super) token: Option<Vec<String>>,
    /// Whether at least one request has to be accepted, so that a row cannot measure refusals alone by mistake.
    pub(super) needs_success: bool,
}

/// A request of a case.
pub(super) struct Variant {
    /// The difference from the others. Empty if it is the only one.
    pub(super) label: String,
    /// A function that builds the request. Each number gives a different one.
    pub(super) request: Box<dyn Fn(usize) -> Bytes>,
}

impl Variant {
    fn new(label: impl Into<String>, request: impl Fn(usize) -> Vec<u8> + 'static) -> Variant {
        Variant { label: label.into(), request: Box::new(move |i| request(i).into()) }
    }
}

/// Returns all cases.
pub(super) fn all() -> Vec<Case> {
    let written =
        [html(), bodies(), sources(), fields(), encodings(), commits(), entities(), reads(), lists()];
    let others = [web::resources(), partners(), schema::cases(), web::parameters()];
    written.into_iter().chain(others).flatten().collect()
}

const MIB: usize = 1 << 20;

fn case(
    method: impl Into<String>,
    label: impl Into<String>,
    request: impl Fn(usize) -> Vec<u8> + 'static,
) -> Case {
    group(method, label, vec![Variant::new("", request)])
}

/// Returns a case of several requests.
fn group(method: impl Into<String>, label: impl Into<String>, variants: Vec<Variant>) -> Case {
    let (method, label, prepare) = (method.into(), label.into(), stores::prepare_nothing);
    Case { method, label, prepare, variants, messages: 1, token: None, needs_success: false }
}

/// Returns a request for an article.
pub(super) fn get(name: &str) -> Bytes {
    let mut request = v1::GetArticleRequest::default();
    request.name = format!("articles/{name}");
    request.encode_to_vec().into()
}
