//! How much memory a node takes while more is read than it may keep.

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

/// What a node may keep, and what it may take besides: what it starts with (34 MiB, of which 13 are the program), the
/// pages that each connection of the store's keeps (8 MiB), and what its allocator holds free.
const CACHE: u64 = 64 << 20;
const BESIDES: u64 = 96 << 20;

/// What is read in each way, in encoded bytes.
const READ: usize = 100 << 20;

/// Calls at a time, and articles of a page.
const AT_A_TIME: usize = 16;
const PAGE: u32 = 100;

/// After this, what was in flight is gone.
const REST: Duration = Duration::from_secs(2);

/// A node's memory, in bytes.
#[derive(Debug)]
struct Memory {
    /// After its start and one call.
    begun: u64,
    /// After each way of reading.
    then: Vec<(&'static str, u64)>,
    /// The most that it ever was.
    peak: u64,
    /// What the node says that it keeps, at the end.
    kept: u64,
}

impl Bench {
    /// What a node takes above what it may keep.
    pub(super) fn memory(&mut self) -> Outcome<()> {
        let (bytes, store) = (CACHE.to_string(), self.stores.store(Which::Large));
        let settings = [("CABLE__CACHE__BYTES", &*bytes)];
        let node = self.program.serve_with(&store, &self.stores.log(), &settings)?;
        let memory = measure(&self.runtime, &node, self.stores.articles)?;
        node.stop()?;
        self.report.fact("Memory at cache.bytes = 64 MiB: started", memory.begun, mebi(memory.begun));
        for (what, bytes) in memory.then {
            self.report.fact(what, bytes, mebi(bytes));
        }
        self.report.fact("- kept in it, as the node says", memory.kept, mebi(memory.kept));
        let above = memory.peak.saturating_sub(CACHE);
        let verdict = judged((above >> 20) as f64, (BESIDES >> 20) as f64);
        self.report.fact("- its peak above cache.bytes", above, mebi(above) + &verdict);
        Ok(())
    }
}

/// Reads articles one by one, pages of lists and a stream, far more of each than the node may keep.
///
/// # Errors
/// A call failed, or the system does not tell.
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

/// The pages of one tag after the other, beginning with the rarer ones of the frequent.
async fn read_lists(client: &Client) -> cable_client::Result<()> {
    let list = |tag: usize| client.one(tag).list(Filter::default().tag(tag_id(tag))).page_size(PAGE).pages();
    let pages = stream::iter((0..1_000).rev()).map(list).flatten_unordered(AT_A_TIME);
    enough(pages.map_ok(|page| page.articles.iter().map(|article| article.encoded_len()).sum())).await
}

async fn read_stream(client: &Client) -> cable_client::Result<()> {
    let articles = client.one(0).stream(Filter::default().tag(THIRD_TAG)).view(View::Full).articles();
    enough(articles.map_ok(|article| article.encoded_len())).await
}

/// Takes answers until they come to what is to be read; less if there is less.
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
