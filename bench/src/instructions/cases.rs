//! What is called, how often, and in what order.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use cable_client::{Filter, v1};
use prost::Message as _;

use crate::{
    Outcome,
    generate::{self, article_id},
    node::Program,
    wire::{Wire, messages},
};

/// So many that a tag has enough for a stream.
const ARTICLES: u64 = 4_000;
const STREAMED: usize = 1_000;
/// The size of the answers to GetArticle that are called, nearly.
const SIZE: usize = 6_400;
const HOT: usize = 10;
const PAGE: usize = 20;
const MISSES: usize = 200;
/// Rounds before those that are counted: tables have grown and caches have settled.
const WARM: usize = 20;

/// A published archive.
pub(crate) struct Newsroom {
    pub(crate) store: PathBuf,
    /// Names of its articles, those first whose answers are nearest to the size wanted.
    names: Vec<String>,
    /// A tag of enough articles.
    tag: String,
}

impl Newsroom {
    /// Makes and imports it.
    ///
    /// # Errors
    /// It cannot be imported.
    pub(crate) fn publish(program: &Program, dir: &Path) -> Outcome<Newsroom> {
        let path = |name: &str| dir.join(name);
        let archive = generate::write(&path("entities.bin"), &path("articles.bin"), ARTICLES)?;
        let (tag, tagged) = archive.tags.into_iter().next().ok_or("no article has a tag")?;
        if (tagged as usize) < STREAMED {
            return Err("no tag has enough articles".into());
        }
        let store = path("store");
        let node = program.serve(&store, &path("node.log"))?;
        program.import(&path("entities.bin"), &node.endpoint)?;
        program.import(&path("articles.bin"), &node.endpoint)?;
        let address = node.endpoint.trim_start_matches("http://").parse()?;
        let mut wire = Wire::connect(address, "GetArticle")?;
        let mut sized = Vec::new();
        for number in 0..ARTICLES {
            let name = format!("articles/{}", article_id(number));
            let bytes = wire.call(&[get(&name)])?[0].len();
            sized.push((bytes.abs_diff(SIZE), name));
        }
        node.stop()?;
        sized.sort();
        Ok(Newsroom { store, names: sized.into_iter().map(|(_, name)| name).collect(), tag })
    }

    /// Every path that is measured, in this order.
    pub(crate) fn cases(&self) -> Vec<Case> {
        let gets = |names: &[String]| names.iter().map(|name| get(name)).collect::<Vec<_>>();
        let hot = gets(&self.names[..HOT]);
        let filter = Some(Filter::default().tag(&self.tag));
        let mut batch = v1::BatchGetArticlesRequest::default();
        batch.names = self.names[..PAGE].to_vec();
        let mut list = v1::ListArticlesRequest::default();
        (list.filter, list.page_size) = (filter.clone(), PAGE as i32);
        let mut stream = v1::StreamArticlesRequest::default();
        (stream.filter, stream.max_articles) = (filter, STREAMED as i64);
        let article = |path, at_once, rounds, requests| {
            let (warm, method) = (hot.clone(), "GetArticle");
            Case { path, method, warm, requests, rounds, at_once, units: 1 }
        };
        let again = |path, method, rounds, units, request: Vec<u8>| {
            let requests = vec![request];
            Case { path, method, warm: requests.clone(), requests, rounds, at_once: 1, units }
        };
        vec![
            article("GetArticle, one at a time", 1, 100, hot.clone()),
            article("GetArticle, ten at a time", 10, 100, hot.clone()),
            article("GetArticle, not in memory", 1, 1, gets(&self.names[PAGE..][..MISSES])),
            again("BatchGetArticles of 20", "BatchGetArticles", 200, 1, batch.encode_to_vec()),
            again("ListArticles, a page of 20", "ListArticles", 200, 1, list.encode_to_vec()),
            again("StreamArticles of 1,000", "StreamArticles", 20, STREAMED as u64, stream.encode_to_vec()),
        ]
    }
}

fn get(name: &str) -> Vec<u8> {
    let mut request = v1::GetArticleRequest::default();
    name.clone_into(&mut request.name);
    request.encode_to_vec()
}

/// Calls of one kind on one connection.
pub(crate) struct Case {
    pub(crate) path: &'static str,
    method: &'static str,
    /// Requests that are made before anything is counted.
    warm: Vec<Vec<u8>>,
    /// Those that are counted, and how many times all of them are made.
    requests: Vec<Vec<u8>>,
    rounds: usize,
    /// Requests in one write.
    at_once: usize,
    /// What an answer counts for.
    units: u64,
}

/// What a server has to send for one call.
pub(crate) struct Answer {
    pub(crate) messages: usize,
    /// Of each, on average.
    pub(crate) bytes: usize,
}

impl Case {
    /// A connection that has seen such calls, and what was answered.
    ///
    /// # Errors
    /// The calls fail.
    pub(crate) fn warm(&self, address: SocketAddr) -> Outcome<(Wire, Answer)> {
        let mut wire = Wire::connect(address, self.method)?;
        let (mut count, mut bytes) = (0, 0);
        for _ in 0..WARM {
            (count, bytes) = (0, 0);
            for group in self.warm.chunks(self.at_once) {
                for body in wire.call(group)? {
                    let messages = messages(&body)?;
                    count += messages.len();
                    bytes += messages.into_iter().map(<[u8]>::len).sum::<usize>();
                }
            }
        }
        let answer = Answer { messages: count / self.warm.len(), bytes: bytes / count.max(1) };
        Ok((wire, answer))
    }

    /// The calls that are counted.
    ///
    /// # Errors
    /// They fail.
    pub(crate) fn load(&self, wire: &mut Wire) -> Outcome<()> {
        for _ in 0..self.rounds {
            for group in self.requests.chunks(self.at_once) {
                wire.call(group)?;
            }
        }
        Ok(())
    }

    /// What all of them count for.
    pub(crate) fn units(&self) -> u64 {
        (self.rounds * self.requests.len()) as u64 * self.units
    }
}
