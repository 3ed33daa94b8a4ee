//! The memory of a node while more content is read than its cache may hold.

use std::{thread::sleep, time::Duration};

use cable_client::{Filter, View};
use futures_util::{StreamExt as _, TryStreamExt as _, future, stream};
use prost::Message as _;
use tokio::runtime::Runtime;

use super::{
    Bench,
    load::Client,
    stores::{Cold, THIRD_TAG, Which},
    verdict_of,
};
use crate::{Outcome, generate::tag_id, node::Node};

/// The size of the cache, and the maximum memory besides: the memory at start (34 MiB, of which 13 are the program),
/// the page caches of the store's connections (8 MiB each), and the free memory of the allocator.
const CACHE_BYTES: u64 = 64 << 20;
const MAX_OVERHEAD_BYTES: u64 = 96 << 20;

/// The amount to read in each way, in encoded bytes.
const READ_BYTES: usize = 100 << 20;

/// The number of concurrent calls, and of articles on a page.
const CONCURRENCY: usize = 16;
const PAGE: u32 = 100;

/// The time after which no call is in flight.
const IDLE_TIME: Duration = Duration::from_secs(2);

/// A node's memory, in bytes.
#[derive(Debug)]
struct Memory {
    /// The memory after its start and one call.
    at_start: u64,
    /// The memory after each way of reading.
    after_reads: Vec<(&'static str, u64)>,
    /// The peak memory.
    peak: u64,
    /// The cache size that the node reports at the end.
    cached: u64,
}

impl Bench {
    /// Measures the memory of a node above its cache limit.
    pub(super) fn memory(&mut self) -> Outcome<()> {
        let (bytes, store) = (CACHE_BYTES.to_string(), self.stores.store(Which::Large));
        let settings = [("CABLE__CACHE__MAX_BYTES", &*bytes)];
        let node = self.program.serve_with(&store, &self.stores.log(), &settings)?;
        let memory = measure(&self.runtime, &node, self.stores.articles)?;
        node.stop()?;
        self.report.fact(
            "Memory at cache.max_bytes = 64 MiB: started",
            memory.at_start,
            mib(memory.at_start),
        );
        for (label, bytes) in memory.after_reads {
            self.report.fact(label, bytes, mib(bytes));
        }
        self.report.fact("- of which cached, as the node reports", memory.cached, mib(memory.cached));
        let above = memory.peak.saturating_sub(CACHE_BYTES);
        let verdict = verdict_of((above >> 20) as f64, (MAX_OVERHEAD_BYTES >> 20) as f64);
        self.report.fact("- its peak above cache.max_bytes", above, mib(above) + &verdict);
        Ok(())
    }
}

/// Reads articles one by one, pages of lists and a stream, each far more than the cache may hold.
///
/// # Errors
/// Fails if a call fails or the system does not report the memory.
fn measure(runtime: &Runtime, node: &Node, articles: u64) -> Outcome<Memory> {
    let client = Client::new(node)?;
    let mut cold = Cold::new(articles);
    runtime.block_on(async { client.connection(0).article(cold.next()).await })?;
    let mut memory = Memory { at_start: node.memory()?, after_reads: Vec::new(), peak: 0, cached: 0 };
    let mut record_memory = |label| {
        sleep(IDLE_TIME);
        memory.after_reads.push((label, node.memory()?));
        Outcome::Ok(())
    };
    runtime.block_on(read_articles(&client, cold))?;
    record_memory("- after 100 MiB of articles")?;
    runtime.block_on(read_lists(&client))?;
    record_memory("- after 100 MiB of lists")?;
    runtime.block_on(read_stream(&client))?;
    record_memory("- after 100 MiB of a stream")?;
    memory.peak = node.peak_memory()?;
    memory.cached = runtime.block_on(client.connection(0).status())?.cache_bytes as u64;
    Ok(memory)
}

async fn read_articles(client: &Client, mut cold: Cold) -> cable_client::Result<()> {
    let calls = (0..).map(|index| client.connection(index).article(cold.next()));
    let sizes = stream::iter(calls).map(|call| async { call.await.map(|article| article.encoded_len()) });
    read_enough(sizes.buffer_unordered(CONCURRENCY)).await
}

/// Reads the pages of one tag after the other, starting with the least frequent of the frequent tags.
async fn read_lists(client: &Client) -> cable_client::Result<()> {
    let list =
        |tag: usize| client.connection(tag).list(Filter::default().tag(tag_id(tag))).page_size(PAGE).pages();
    let pages = stream::iter((0..1_000).rev()).map(list).flatten_unordered(CONCURRENCY);
    read_enough(pages.map_ok(|page| page.articles.iter().map(|article| article.encoded_len()).sum())).await
}

async fn read_stream(client: &Client) -> cable_client::Result<()> {
    let articles = client.connection(0).stream(Filter::default().tag(THIRD_TAG)).view(View::Full).articles();
    read_enough(articles.map_ok(|article| article.encoded_len())).await
}

/// Reads responses up to the wanted amount, or less if there is less.
async fn read_enough(
    sizes: impl stream::Stream<Item = cable_client::Result<usize>>,
) -> cable_client::Result<()> {
    let mut read = 0;
    let sizes = sizes.try_take_while(|size| {
        read += size;
        future::ok(read < READ_BYTES)
    });
    sizes.try_for_each(|_| future::ok(())).await
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}
