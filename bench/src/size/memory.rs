//! The memory of a node while more content is read than its cache may hold.

use std::{thread::sleep, time::Duration};

use cable_client::{Filter, View};
use futures_util::{StreamExt as _, TryStreamExt as _, future, stream};
use prost::Message as _;
use tokio::runtime::Runtime;

use super::{
    Bench, judged,
    load::Client,
    stores::{Cold, THIRD_TAG, Which},
};
use crate::{Outcome, generate::tag_id, node::Node};

/// The size of the cache, and the maximum memory besides: the memory at start (34 MiB, of which 13 are the program),
/// the page caches of the store's connections (8 MiB each), and the free memory of the allocator.
const CACHE: u64 = 64 << 20;
const BESIDES: u64 = 96 << 20;

/// The amount to read in each way, in encoded bytes.
const READ: usize = 100 << 20;

/// The number of concurrent calls, and of articles on a page.
const AT_A_TIME: usize = 16;
const PAGE: u32 = 100;

/// The time after which no call is in flight.
const REST: Duration = Duration::from_secs(2);

/// A node's memory, in bytes.
#[derive(Debug)]
struct Memory {
    /// The memory after its start and one call.
    begun: u64,
    /// The memory after each way of reading.
    then: Vec<(&'static str, u64)>,
    /// The peak memory.
    peak: u64,
    /// The cache size that the node reports at the end.
    kept: u64,
}

impl Bench {
    /// Measures the memory of a node above its cache limit.
    pub(super) fn memory(&mut self) -> Outcome<()> {
        let (bytes, store) = (CACHE.to_string(), self.stores.store(Which::Large));
        let settings = [("CABLE__CACHE__MAX_BYTES", &*bytes)];
        let node = self.program.serve_with(&store, &self.stores.log(), &settings)?;
        let memory = measure(&self.runtime, &node, self.stores.articles)?;
        node.stop()?;
        self.report.fact("Memory at cache.max_bytes = 64 MiB: started", memory.begun, mebi(memory.begun));
        for (what, bytes) in memory.then {
            self.report.fact(what, bytes, mebi(bytes));
        }
        self.report.fact("- kept in it, as the node says", memory.kept, mebi(memory.kept));
        let above = memory.peak.saturating_sub(CACHE);
        let verdict = judged((above >> 20) as f64, (BESIDES >> 20) as f64);
        self.report.fact("- its peak above cache.max_bytes", above, mebi(above) + &verdict);
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
    runtime.block_on(async { client.one(0).article(cold.next()).await })?;
    let mut memory = Memory { begun: node.memory()?, then: Vec::new(), peak: 0, kept: 0 };
    let mut rested = |what| {
        sleep(REST);
        memory.then.push((what, node.memory()?));
        Outcome::Ok(())
    };
    runtime.block_on(read_articles(&client, cold))?;
    rested("- after 100 MiB of articles")?;
    runtime.block_on(read_lists(&client))?;
    rested("- after 100 MiB of lists")?;
    runtime.block_on(read_stream(&client))?;
    rested("- after 100 MiB of a stream")?;
    memory.peak = node.peak_memory()?;
    memory.kept = runtime.block_on(client.one(0).status())?.cache_bytes as u64;
    Ok(memory)
}

async fn read_articles(client: &Client, mut cold: Cold) -> cable_client::Result<()> {
    let calls = (0..).map(|place| client.one(place).article(cold.next()));
    let sizes = stream::iter(calls).map(|call| async { call.await.map(|article| article.encoded_len()) });
    enough(sizes.buffer_unordered(AT_A_TIME)).await
}

/// Reads the pages of one tag after the other, starting with the least frequent of the frequent tags.
async fn read_lists(client: &Client) -> cable_client::Result<()> {
    let list = |tag: usize| client.one(tag).list(Filter::default().tag(tag_id(tag))).page_size(PAGE).pages();
    let pages = stream::iter((0..1_000).rev()).map(list).flatten_unordered(AT_A_TIME);
    enough(pages.map_ok(|page| page.articles.iter().map(|article| article.encoded_len()).sum())).await
}

async fn read_stream(client: &Client) -> cable_client::Result<()> {
    let articles = client.one(0).stream(Filter::default().tag(THIRD_TAG)).view(View::Full).articles();
    enough(articles.map_ok(|article| article.encoded_len())).await
}

/// Reads responses up to the wanted amount, or less if there is less.
async fn enough(sizes: impl stream::Stream<Item = cable_client::Result<usize>>) -> cable_client::Result<()> {
    let mut read = 0;
    let sizes = sizes.try_take_while(|size| {
        read += size;
        future::ok(read < READ)
    });
    sizes.try_for_each(|_| future::ok(())).await
}

fn mebi(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}
