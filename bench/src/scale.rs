//! A complete archive: imported, reopened, and read in every way.

use std::{
    fs::{self, File},
    future::Future,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use cable_client::{Cable, Filter, ListArticles, Retry, View};
use futures_util::StreamExt as _;
use prost::Message as _;
use rustix::fs::{Advice, fadvise};

use crate::{
    Outcome,
    generate::{self, Archive, article_id},
    machine::machine,
    node::{Node, Program},
    report::{Calls, Report, grouped},
    yardstick,
};
use cable_load::random::Random;

/// The number of calls of a kind, and the number for articles, which are the fastest.
const CALLS: usize = 200;
const GET_CALLS: usize = 2_000;
/// The number of articles on a page, and the number before the deep page.
const PAGE_SIZE: u32 = 20;
const MAX_DEPTH: usize = 500;
const BATCH_SIZE: usize = 50;
/// The rank of the tag of middling frequency: one hundred of ten thousand are more frequent.
const MIDDLING_RANK: usize = 100;
/// The number of articles between two samples of the node's memory.
const MEMORY_SAMPLE_INTERVAL: u64 = 1_000;
const SEED: u64 = 7;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Number of articles in the archive.
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    articles: u64,
    /// Directory to create and work in. If unset, a temporary one.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// Runs everything, and writes and prints the results.
///
/// # Errors
/// Fails if a step of the measurement fails or a file cannot be written.
pub(crate) fn run(root: &Path, options: Options) -> Outcome<()> {
    let Options { articles, keep } = options;
    let program = Program::build(root)?;
    let temporary = tempfile::tempdir()?;
    let dir = keep.unwrap_or_else(|| temporary.path().join("scale"));
    fs::create_dir(&dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut bench = Bench { program, dir, report: Report::default() };
    bench.report.notes.push(machine());
    let archive = bench.generate(articles)?;
    runtime.block_on(bench.import(&archive))?;
    bench.yardstick(&archive)?;
    runtime.block_on(bench.read(&archive))?;
    bench.report.notes.push(bench.explanation());
    bench.report.write_as(root, "scale")?;
    eprintln!("\n{}", bench.report.markdown());
    Ok(())
}

struct Bench {
    program: Program,
    dir: PathBuf,
    report: Report,
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn serve(&self) -> Outcome<Node> {
        self.program.serve(&self.path("store"), &self.path("node.log"))
    }

    fn database(&self) -> PathBuf {
        self.path("store").join("cable.db")
    }

    fn generate(&mut self, articles: u64) -> Outcome<Archive> {
        let archive = generate::write(&self.path("entities.bin"), &self.path("articles.bin"), articles)?;
        let size = |share: f64| archive.sizes.get((archive.sizes.len() as f64 * share) as usize).copied();
        let (median, p99) = (size(0.5).unwrap_or(0), size(0.99).unwrap_or(0));
        let largest = archive.sizes.last().copied().unwrap_or(0);
        let shown = format!("{} / {} / {}", kilo(median), kilo(p99), kilo(largest));
        self.report.fact("Articles", articles, grouped(articles));
        self.report.fact("Encoded size, median / p99 / largest", vec![median, p99, largest], shown);
        let ratio = format!("{:.2}", archive.compression);
        self.report.fact("Compressed by (zstd, level 3)", archive.compression, ratio);
        let hottest = archive.tags.first().map_or(0, |tag| tag.1);
        let tags = format!(
            "{}; the hottest on {} articles",
            grouped(archive.tags.len() as u64),
            grouped(hottest.into())
        );
        self.report.fact("Tags in use", archive.tags.len(), tags);
        Ok(archive)
    }

    async fn import(&mut self, archive: &Archive) -> Outcome<()> {
        let node = self.serve()?;
        self.program.import(&self.path("entities.bin"), &node.endpoint)?;
        let (cpu, written) = (node.cpu()?, node.written()?);
        let (took, client_cpu) = self.program.import(&self.path("articles.bin"), &node.endpoint)?;
        let (cpu, written) = (node.cpu()? - cpu, node.written()? - written);
        let status = client(&node)?.status().await?;
        let counts = status.counts.unwrap_or_default();
        if (counts.articles as u64, (counts.authors + counts.sections + counts.tags) as u64)
            != (archive.articles, archive.entities)
        {
            return Err(format!("the counts of the store differ from those of the import: {counts:?}").into());
        }
        self.rate("Import by the command line", archive, took);
        let per_article = |time: Duration| micros(time) / archive.articles.max(1);
        let shown = format!("{} us / {} us", grouped(per_article(cpu)), grouped(per_article(client_cpu)));
        self.report.fact(
            "- CPU per article, server / client",
            vec![per_article(cpu), per_article(client_cpu)],
            shown,
        );
        let peak = node.peak_memory()?;
        self.report.fact("- server's peak memory", peak, mega(peak));
        self.report.fact("- written to the disk, log and checkpoints included", written, mega(written));
        let stop = node.stop()?;
        self.report.fact("- stopped on SIGTERM within", seconds(stop), format!("{:.2} s", seconds(stop)));
        let bytes = fs::metadata(self.database())?.len();
        let shown =
            format!("{} ({:.0} % of the input)", mega(bytes), 100.0 * bytes as f64 / archive.bytes as f64);
        self.report.fact("Store on disk", bytes, shown);
        Ok(())
    }

    fn rate(&mut self, label: &'static str, archive: &Archive, took: Duration) {
        let (articles, bytes) =
            (archive.articles as f64 / seconds(took), archive.bytes as f64 / seconds(took));
        let shown = format!("{} articles/s, {:.1} MB/s", grouped(articles as u64), bytes / 1e6);
        self.report.fact(label, articles as u64, shown);
    }

    fn yardstick(&mut self, archive: &Archive) -> Outcome<()> {
        let copy = self.path("yardstick.db");
        let (took, cpu) = yardstick::write(&self.database(), &copy)?;
        fs::remove_file(&copy)?;
        self.rate("The same rows by SQLite alone, 1,000 articles a transaction", archive, took);
        let per_article = micros(cpu) / archive.articles.max(1);
        self.report.fact("- its CPU per article", per_article, format!("{per_article} us"));
        Ok(())
    }

    async fn read(&mut self, archive: &Archive) -> Outcome<()> {
        let names = sample_articles(archive, GET_CALLS);
        drop_from_page_cache(&self.database())?;
        let node = self.serve()?;
        let cable = client(&node)?;
        cable.article(&names[0]).await?;
        let open = seconds(node.started.elapsed());
        self.report.fact("Opened again: process start to first GetArticle", open, format!("{open:.3} s"));
        let memory = node.memory()?;
        self.report.fact("- server's memory then", memory, mega(memory));
        self.gets(&node, &cable, &names).await?;
        self.lists(&node, &cable, archive).await?;
        self.batches(&node, &cable, archive).await?;
        self.streams(&node, &cable, archive).await?;
        let peak = node.peak_memory()?;
        self.report.fact("Server's peak memory over all reads", peak, mega(peak));
        node.stop()?;
        Ok(())
    }

    async fn gets(&mut self, node: &Node, cable: &Cable, names: &[String]) -> Outcome<()> {
        let names = &names[1..];
        for label in ["GetArticle, not in memory", "GetArticle, again"] {
            let get = async |index: usize| cable.article(&names[index]).await.map(|_| 1);
            self.measure(node, label, names.len(), get).await?;
        }
        Ok(())
    }

    async fn lists(&mut self, node: &Node, cable: &Cable, archive: &Archive) -> Outcome<()> {
        let tag = |index: usize| &archive.tags[index.min(archive.tags.len() - 1)].0;
        let (hot, second, middling, rare) = (tag(0), tag(1), tag(MIDDLING_RANK), tag(usize::MAX));
        let by_tag = |tag: &str| cable.list(Filter::default().tag(tag)).page_size(PAGE_SIZE);
        let (depth, deep) = deep_page(by_tag(hot)).await?;
        let both = cable.list(Filter::default().tag(hot).tag(second)).page_size(PAGE_SIZE);
        let below = Filter::default().section(generate::department()).with_child_sections();
        for (label, list) in [
            ("ListArticles, hottest tag".to_owned(), by_tag(hot)),
            ("ListArticles, middling tag".to_owned(), by_tag(middling)),
            ("ListArticles, rare tag".to_owned(), by_tag(rare)),
            (format!("ListArticles, hottest tag, page {}", depth + 1), deep),
            ("ListArticles, both of the two hottest tags".to_owned(), both),
            ("ListArticles, section with those below".to_owned(), cable.list(below).page_size(PAGE_SIZE)),
        ] {
            let call = async |_| list.clone().await.map(|page| page.articles.len());
            self.measure(node, &label, CALLS, call).await?;
        }
        Ok(())
    }

    async fn batches(&mut self, node: &Node, cable: &Cable, archive: &Archive) -> Outcome<()> {
        let names = sample_articles(archive, CALLS * BATCH_SIZE);
        for (label, view) in [("BASIC", View::Basic), ("FULL", View::Full)] {
            let call = async |index: usize| {
                let from = index * BATCH_SIZE % names.len();
                let batch = names.iter().cycle().skip(from).take(BATCH_SIZE);
                cable.articles(batch).view(view).await.map(|articles| articles.found().count())
            };
            self.measure(node, &format!("BatchGetArticles, {label}"), CALLS, call).await?;
        }
        Ok(())
    }

    async fn streams(&mut self, node: &Node, cable: &Cable, archive: &Archive) -> Outcome<()> {
        let tag = &archive.tags[0].0;
        for (label, growth, view) in [
            ("StreamArticles of the hottest tag, BASIC", "- server's memory grew by at most", View::Basic),
            ("StreamArticles of the hottest tag, FULL", "- its memory grew by at most", View::Full),
        ] {
            let (memory, cpu, start) = (node.memory()?, node.cpu()?, Instant::now());
            let mut articles = cable.stream(Filter::default().tag(tag)).view(view).articles();
            let (mut count, mut bytes, mut peak) = (0, 0, memory);
            while let Some(article) = articles.next().await {
                bytes += article?.encoded_len();
                count += 1;
                if count % MEMORY_SAMPLE_INTERVAL == 0 {
                    peak = peak.max(node.memory()?);
                }
            }
            let (took, cpu) = (seconds(start.elapsed()), node.cpu()? - cpu);
            let rate = count as f64 / took;
            let per_article = micros(cpu) as f64 / count.max(1) as f64;
            let shown = format!(
                "{} articles, {} /s, {:.1} MB/s, {per_article:.1} us CPU each",
                grouped(count),
                grouped(rate as u64),
                bytes as f64 / took / 1e6
            );
            self.report.fact(label, rate as u64, shown);
            self.report.fact(growth, peak - memory, mega(peak - memory));
        }
        Ok(())
    }

    /// Makes calls one after the other. Each returns the number of articles in its response.
    async fn measure<F: Future<Output = cable_client::Result<usize>>>(
        &mut self,
        node: &Node,
        label: &str,
        calls: usize,
        call: impl Fn(usize) -> F,
    ) -> Outcome<()> {
        let mut times = Vec::with_capacity(calls);
        let mut articles = 0;
        let cpu = node.cpu()?;
        for index in 0..calls {
            let start = Instant::now();
            articles = call(index).await?;
            times.push(start.elapsed());
        }
        let cpu = node.cpu()? - cpu;
        self.report.calls(Calls { label: label.to_owned(), times, cpu, articles });
        Ok(())
    }

    fn explanation(&self) -> String {
        "Times are a client's, over loopback, on the same machine as the server. \"Not in memory\": the node was just \
         started and the store's pages had been dropped from the page cache. Articles arrive in the order of their \
         publication, three days more or less."
            .to_owned()
    }
}

/// Returns a client that does not retry and has a long deadline.
pub(crate) fn client(node: &Node) -> cable_client::Result<Cable> {
    Cable::builder(&node.endpoint).retry(Retry::none()).timeout(Duration::from_secs(60)).build()
}

/// Returns different articles from the whole archive.
fn sample_articles(archive: &Archive, count: usize) -> Vec<String> {
    let mut random = Random::new(SEED);
    let mut numbers: Vec<u64> = (0..archive.articles).collect();
    let count = count.min(numbers.len());
    for index in 0..count {
        let other = index + random.below(numbers.len() - index);
        numbers.swap(index, other);
    }
    numbers[..count].iter().copied().map(article_id).collect()
}

/// Follows the pages of a list to the wanted depth, or to the last page. Returns the number of articles before that
/// page, and the page.
async fn deep_page(list: ListArticles) -> cable_client::Result<(usize, ListArticles)> {
    let mut pages = list.clone().pages().take(MAX_DEPTH);
    let (mut depth, mut deep) = (0, list.clone());
    while let Some(page) = pages.next().await {
        let Some(token) = page?.next_page_token.clone() else { break };
        depth += 1;
        deep = list.clone().page_token(token);
    }
    Ok((depth, deep))
}

/// Drops a file's pages from the system's memory, so that reads come from the disk.
pub(crate) fn drop_from_page_cache(path: &Path) -> Outcome<()> {
    let file = File::open(path)?;
    file.sync_all()?;
    fadvise(&file, 0, None, Advice::DontNeed)?;
    Ok(())
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

fn micros(time: Duration) -> u64 {
    time.as_micros() as u64
}

fn kilo(bytes: u32) -> String {
    format!("{:.1} KB", f64::from(bytes) / 1e3)
}

fn mega(bytes: u64) -> String {
    format!("{:.0} MB", bytes as f64 / 1e6)
}
