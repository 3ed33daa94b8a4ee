//! The node's CPU time per call, on the small store and on the large one.

use std::iter;

use serde_json::json;

use super::{
    Bench, ROUNDS,
    load::{Call, Client, median},
    stores::{Cold, HOT, HOT_TAG, THIRD_TAG, Which, hot},
    verdict_of,
};
use crate::{Outcome, node::Node};

/// Calls per round. A round takes a few seconds.
const ARTICLE_CALLS: usize = 100_000;
const PAGE_CALLS: usize = 40_000;
/// The maximum number of cache misses per round. Each requests a different article, because a repeated call would be a
/// cache hit.
const MISSES: u64 = 10_000;

/// Target: the maximum ratio of the cost of a call on the large store to its cost on the small one.
const MAX_COST_RATIO: f64 = 1.2;

impl Bench {
    /// Measures the cost of calls to a node with the small store and to a node with the large one.
    pub(super) fn costs(&mut self) -> Outcome<()> {
        let (small, large) = (self.serve(Which::Small)?, self.serve(Which::Large)?);
        let articles = || (0..).map(|index| Call::Article(hot(index)));
        let page = |tag| move || iter::repeat(Call::Page(tag));
        self.compare("GetArticle, cached", [&small, &large], ARTICLE_CALLS, articles)?;
        self.compare("ListArticles, first page of the hot tag", [&small, &large], PAGE_CALLS, page(HOT_TAG))?;
        let third = "ListArticles, first page of a tag on a third of all articles";
        self.compare(third, [&small, &large], PAGE_CALLS, page(THIRD_TAG))?;
        small.stop()?;
        self.measure_misses(&large)?;
        large.stop().map(drop)
    }

    /// Makes the same calls to both nodes in alternating order. Reports the median cost on each and the median ratio.
    fn compare<C: Iterator<Item = Call>>(
        &mut self,
        label: &'static str,
        nodes: [&Node; 2],
        calls: usize,
        calls_of: impl Fn() -> C,
    ) -> Outcome<()> {
        let clients = [Client::new(nodes[0])?, Client::new(nodes[1])?];
        // Warms up the caches and the connections.
        for client in &clients {
            self.runtime.block_on(client.run(calls_of().take(calls / 10)))?;
        }
        let (mut costs, mut ratios) = ([Vec::new(), Vec::new()], Vec::new());
        for round in 0..ROUNDS {
            let mut cost = [0.0; 2];
            for index in [round % 2, 1 - round % 2] {
                cost[index] = self.cost(nodes[index], &clients[index], calls_of().take(calls), calls)?;
                costs[index].push(cost[index]);
            }
            ratios.push(cost[1] / cost[0]);
        }
        let ([small, large], ratio) = (costs.map(median), median(ratios));
        let shown = format!("{small:.2} / {large:.2} us; {ratio:.2}{}", verdict_of(ratio, MAX_COST_RATIO));
        self.report.fact(label, json!({ "small_us": small, "large_us": large, "ratio": ratio }), shown);
        Ok(())
    }

    /// Makes the calls and returns the node's mean CPU time per call in microseconds.
    fn cost(
        &self,
        node: &Node,
        client: &Client,
        calls: impl Iterator<Item = Call>,
        count: usize,
    ) -> Outcome<f64> {
        let before = node.cpu()?;
        self.runtime.block_on(client.run(calls))?;
        Ok((node.cpu()? - before).as_secs_f64() * 1e6 / count as f64)
    }

    /// Measures the cost of GetArticle for articles that the node has not cached.
    fn measure_misses(&mut self, node: &Node) -> Outcome<()> {
        let client = Client::new(node)?;
        let mut cold = Cold::new(self.stores.articles);
        let misses = MISSES.min((self.stores.articles - HOT) / (2 * ROUNDS as u64)) as usize;
        let mut calls = iter::from_fn(|| Some(Call::Article(cold.next())));
        for (label, on_disk) in [
            ("GetArticle, not cached, the store in the system's memory", false),
            ("GetArticle, not cached, the store on the disk", true),
        ] {
            let mut costs = Vec::new();
            for _ in 0..ROUNDS {
                if on_disk {
                    self.stores.drop_from_page_cache(Which::Large)?
                } else {
                    self.stores.load_into_page_cache(Which::Large)?
                }
                costs.push(self.cost(node, &client, calls.by_ref().take(misses), misses)?);
            }
            let cost = median(costs);
            self.report.fact(label, cost, format!("{cost:.1} us"));
        }
        Ok(())
    }
}
