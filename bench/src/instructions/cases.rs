//! The measured calls, their number and their order.

use std::net::SocketAddr;

use cable_client::{Filter, v1};
use prost::Message as _;

use crate::{
    Outcome,
    newsroom::{Newsroom, STREAMED, get},
    wire::{Wire, messages},
};

const HOT_ARTICLES: usize = 10;
const PAGE: usize = 20;
const MISSES: usize = 200;
/// The number of rounds before the counted ones: tables grow and caches settle.
const WARM_UP_ROUNDS: usize = 20;

/// Returns every measured path, in this order.
pub(crate) fn all(newsroom: &Newsroom) -> Vec<Case> {
    let gets = |names: &[String]| names.iter().map(|name| get(name)).collect::<Vec<_>>();
    let hot = gets(&newsroom.names[..HOT_ARTICLES]);
    let filter = Some(Filter::default().tag(&newsroom.tag));
    let mut batch = v1::BatchGetArticlesRequest::default();
    batch.names = newsroom.names[..PAGE].to_vec();
    let mut list = v1::ListArticlesRequest::default();
    (list.filter, list.page_size) = (filter.clone(), PAGE as i32);
    let mut stream = v1::StreamArticlesRequest::default();
    (stream.filter, stream.max_articles) = (filter, STREAMED as i64);
    let article = |path, batch, rounds, requests| {
        let (warm, method) = (hot.clone(), "GetArticle");
        Case { path, method, warm, requests, rounds, batch, units: 1 }
    };
    let repeated = |path, method, rounds, units, request: Vec<u8>| {
        let requests = vec![request];
        Case { path, method, warm: requests.clone(), requests, rounds, batch: 1, units }
    };
    vec![
        article("GetArticle, one at a time", 1, 100, hot.clone()),
        article("GetArticle, ten at a time", 10, 100, hot.clone()),
        article("GetArticle, not in memory", 1, 1, gets(&newsroom.names[PAGE..][..MISSES])),
        repeated("BatchGetArticles of 20", "BatchGetArticles", 200, 1, batch.encode_to_vec()),
        repeated("ListArticles, a page of 20", "ListArticles", 200, 1, list.encode_to_vec()),
        repeated("StreamArticles of 1,000", "StreamArticles", 20, STREAMED as u64, stream.encode_to_vec()),
    ]
}

/// Calls of one kind on one connection.
pub(crate) struct Case {
    pub(crate) path: &'static str,
    method: &'static str,
    /// The requests that are made before the counted ones.
    warm: Vec<Vec<u8>>,
    /// The counted requests, and how many times all of them are made.
    requests: Vec<Vec<u8>>,
    rounds: usize,
    /// The number of requests in one write.
    batch: usize,
    /// The number of units per response.
    units: u64,
}

/// The response that a server has to send for one call.
pub(crate) struct Response {
    pub(crate) messages: usize,
    /// The average size of a message in bytes.
    pub(crate) bytes: usize,
}

impl Case {
    /// Warms up a connection with such calls. Returns it with the response.
    ///
    /// # Errors
    /// Fails if a call fails.
    pub(crate) fn warm(&self, address: SocketAddr) -> Outcome<(Wire, Response)> {
        let mut wire = Wire::connect(address, self.method)?;
        let (mut count, mut bytes) = (0, 0);
        for _ in 0..WARM_UP_ROUNDS {
            (count, bytes) = (0, 0);
            for group in self.warm.chunks(self.batch) {
                for body in wire.call(group)? {
                    let messages = messages(&body)?;
                    count += messages.len();
                    bytes += messages.into_iter().map(<[u8]>::len).sum::<usize>();
                }
            }
        }
        let response = Response { messages: count / self.warm.len(), bytes: bytes / count.max(1) };
        Ok((wire, response))
    }

    /// Makes the counted calls.
    ///
    /// # Errors
    /// Fails if a call fails.
    pub(crate) fn load(&self, wire: &mut Wire) -> Outcome<()> {
        for _ in 0..self.rounds {
            for group in self.requests.chunks(self.batch) {
                wire.call(group)?;
            }
        }
        Ok(())
    }

    /// Returns the number of units of all counted calls.
    pub(crate) fn units(&self) -> u64 {
        (self.rounds * self.requests.len()) as u64 * self.units
    }
}
