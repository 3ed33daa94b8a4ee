//! Cable and its yardsticks, side by side: the same responses and the same load, in turns within one run.

use std::{
    fs,
    path::{Path, PathBuf},
    rc::Rc,
};

use cable_client::{Cable, Filter, Retry, View, v1};
use clap::builder::RangedU64ValueParser;
use futures_util::StreamExt as _;
use prost::Message;
use serde_json::json;

use crate::{
    Outcome, generate,
    machine::machine,
    node::{Node, Program},
    process::Process,
};

mod goals;
mod grpc_go;
mod load;
mod output;
mod plot;
mod results;
mod rivals;
pub(crate) mod tls;
mod tools;

use load::{Load, Loader, Sample, Target};
use results::{Case, Results, Series};
use rivals::{FILE, Rivals, Server};

/// The number of articles in the store of `serving`. One third of them have the most frequent tag.
const ARTICLES: u64 = 30_000;
/// The number of articles in one StreamArticles.
const STREAMED: u64 = 10_000;
/// The wanted size in bytes of the article for GetArticle.
const ARTICLE_BYTES: usize = 6_400;
/// The number of articles on a page and in a batch.
const PAGE: usize = 20;
/// The duration in seconds of a run at a given rate.
const RATE_SECONDS: u64 = 6;

/// The cases, in the order in which they are measured.
const CASES: [&str; 9] = ["get", "get-50", "get-1", "rate", "ghz", "list", "batch", "web", "stream"];

const CABLE: &str = "Cable";
const LIMIT: &str = "hyper alone, framed, coalesced (the limit)";
const ORDINARY: &str = "ordinary tonic + moka + prost";
const GO: &str = "grpc-go, map";
const GO_ENCODED: &str = "grpc-go, map of encoded responses";
const NGINX: &str = "nginx, file";
const NGHTTPD: &str = "nghttpd (C), file";
const SAME_SIZE: &str = "Cable, GetArticle of the same size";
const WEB: &str = "Cable, GET of its JSON";
const NOT_MODIFIED: &str = "Cable, GET that is not modified";
const NGINX_NOT_MODIFIED: &str = "nginx, file that is not modified";
/// The header of a GET whose response is 304, whatever the version.
const ANY_VERSION: &str = "if-none-match: *";

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Number of rounds, each with all servers.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    rounds: usize,
    /// Number of calls to a server in a round of `get`; other cases make a fraction of it.
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    calls: u64,
    /// Case to measure alone; writes no results. `rate` also measures `get`.
    #[arg(long, value_name = "CASE", value_parser = CASES)]
    only: Option<String>,
}

impl Options {
    fn includes(&self, case: &str) -> bool {
        match self.only.as_deref() {
            None => true,
            // The rate depends on the speed of the slowest server.
            Some("rate") if case == "get" => true,
            Some(only) => only == case,
        }
    }
}

/// Runs everything and writes the results.
///
/// # Errors
/// Fails if a program is missing, if a server does not start, or if a call does not return the expected response.
pub(crate) fn run(root: &Path, options: Options) -> Outcome<()> {
    let program = Program::build(root)?;
    let scratch = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let content = runtime.block_on(Content::prepare(&program, scratch.path(), ARTICLES))?;
    fs::write(scratch.path().join("cable.binpb"), cable_proto::DESCRIPTORS)?;
    let bench = Bench {
        rivals: Rivals::new(root, &program, scratch.path(), &content),
        loader: Loader::new(&program, scratch.path())?,
        scratch: scratch.path().to_owned(),
        content,
        results: Results::new(machine(), options.rounds),
        options: &options,
    };
    let results = bench.measure()?;
    eprintln!("\n{}", output::markdown(&results));
    if options.only.is_none() {
        output::write(root, &results)?;
    }
    Ok(())
}

/// The served content, and the requests for it.
struct Content {
    node: Rc<Process>,
    address: std::net::SocketAddr,
    /// The file of articles in the form for an import.
    records: PathBuf,
    /// The file of articles in the served form, each after its length.
    articles: PathBuf,
    article: String,
    /// The names and encoded sizes.
    sizes: Vec<(String, usize)>,
    tag: String,
    /// The newest articles of the tag.
    newest: Vec<String>,
}

impl Content {
    /// Fills a node, and writes the content that it serves to files.
    async fn prepare(program: &Program, scratch: &Path, articles: u64) -> Outcome<Content> {
        let path = |name: &str| scratch.join(name);
        let archive = generate::write(&path("entities"), &path("records"), articles)?;
        let node = program.serve(&path("store"), &path("node.log"))?;
        for file in ["entities", "records"] {
            program.import(&path(file), &node.endpoint)?;
        }
        // The memory of an import does not count as memory of serving.
        node.stop()?;
        let node = program.serve(&path("store"), &path("node.log"))?;
        let cable = Cable::builder(&node.endpoint).retry(Retry::none()).build()?;
        let (mut encoded, mut sizes) = (Vec::new(), Vec::new());
        let mut all = cable.stream(Filter::default()).view(View::Full).articles();
        while let Some(article) = all.next().await {
            let article = article?;
            article.encode_length_delimited(&mut encoded)?;
            sizes.push((article.name.clone(), article.encoded_len()));
        }
        let (records, articles) = (path("records"), path("articles"));
        fs::write(&articles, encoded)?;
        let tag = archive.tags.first().ok_or("no article has a tag")?.0.clone();
        let page = cable.list(Filter::default().tag(&tag)).page_size(PAGE as u32).await?;
        let newest = page.articles.iter().map(|article| article.name.clone()).collect();
        let article = nearest_in_size(&sizes, ARTICLE_BYTES)?;
        let (address, node) = address_and_process(node)?;
        Ok(Content { node, address, records, articles, article, sizes, tag: format!("tags/{tag}"), newest })
    }

    fn get(&self, name: &str) -> v1::GetArticleRequest {
        let mut request = v1::GetArticleRequest::default();
        name.clone_into(&mut request.name);
        request
    }

    fn filter(&self) -> Option<v1::ArticleFilter> {
        let mut filter = v1::ArticleFilter::default();
        filter.all_tags = vec![self.tag.clone()];
        Some(filter)
    }

    fn list(&self) -> v1::ListArticlesRequest {
        let mut request = v1::ListArticlesRequest::default();
        request.filter = self.filter();
        request.page_size = PAGE as i32;
        request
    }

    fn batch(&self) -> v1::BatchGetArticlesRequest {
        let mut request = v1::BatchGetArticlesRequest::default();
        request.names.clone_from(&self.newest);
        request
    }

    fn stream(&self) -> v1::StreamArticlesRequest {
        let mut request = v1::StreamArticlesRequest::default();
        request.filter = self.filter();
        request.max_articles = STREAMED as i64;
        request
    }
}

fn address_and_process(node: Node) -> Outcome<(std::net::SocketAddr, Rc<Process>)> {
    let (endpoint, process) = node.into_parts();
    let address = endpoint.strip_prefix("http://").ok_or("endpoint is not an http URL")?.parse()?;
    Ok((address, Rc::new(process)))
}

/// Returns the article whose size is nearest to `bytes` bytes.
fn nearest_in_size(sizes: &[(String, usize)], bytes: usize) -> Outcome<String> {
    let found = sizes.iter().min_by_key(|(_, size)| size.abs_diff(bytes));
    Ok(found.ok_or("no articles")?.0.clone())
}

/// A server with its requests.
#[derive(Clone)]
struct Contestant {
    name: &'static str,
    process: Rc<Process>,
    target: Target,
    /// The size of its response in bytes.
    response_bytes: u64,
}

struct Bench<'a> {
    content: Content,
    rivals: Rivals,
    loader: Loader,
    scratch: PathBuf,
    options: &'a Options,
    results: Results,
}

impl Bench<'_> {
    fn measure(mut self) -> Outcome<Results> {
        let calls = self.options.calls;
        let load = |connections, streams, calls| Load {
            connections,
            streams,
            calls,
            rate: None,
            separate_cores: false,
        };
        let gets = self.get_contestants()?;
        self.measure_case("get", "GetArticle, 16 connections of 10 streams", load(16, 10, calls), &gets)?;
        let single = self.without_sendfile(&gets)?;
        self.measure_case(
            "get-50",
            "GetArticle, 50 connections of 1 stream",
            load(50, 1, calls / 2),
            &single,
        )?;
        self.measure_case(
            "get-1",
            "GetArticle, 1 connection of 100 streams",
            load(1, 100, calls / 2),
            &gets,
        )?;
        self.measure_at_rate(&gets)?;
        self.measure_with_ghz(&gets)?;
        drop(gets);
        let lists = self.multi_article_contestants("ListArticles", &self.content.list())?;
        let title = "ListArticles, newest 20 of a tag (BASIC), 16 connections of 10 streams";
        self.measure_case("list", title, load(16, 10, calls / 4), &lists)?;
        drop(lists);
        let batches = self.multi_article_contestants("BatchGetArticles", &self.content.batch())?;
        let title = "BatchGetArticles of 20 (BASIC), 16 connections of 10 streams";
        self.measure_case("batch", title, load(16, 10, calls / 4), &batches)?;
        drop(batches);
        let web = self.web_contestants()?;
        let title = "An article over HTTP, 16 connections of 10 streams";
        self.measure_case("web", title, load(16, 10, calls / 2), &web)?;
        drop(web);
        let streams = self.stream_contestants()?;
        let title = "StreamArticles of 10,000 (BASIC), one at a time, client on the other core";
        // This case is the last one: the servers remain on their cores.
        let load = Load { separate_cores: true, ..load(1, 1, (calls / 500).max(4)) };
        self.measure_case("stream", title, load, &streams)?;
        Ok(self.results)
    }

    fn cable(&self, name: &'static str, call: &str, request: &impl Message) -> Outcome<Contestant> {
        let target = target(&self.scratch, self.content.address, call, request, None)?;
        self.contestant(name, self.content.node.clone(), target)
    }

    fn contestant_like(&self, name: &'static str, server: Server, model: &Target) -> Outcome<Contestant> {
        let target = Target { address: server.address, ..model.clone() };
        self.contestant(name, Rc::new(server.process), target)
    }

    fn contestant(&self, name: &'static str, process: Rc<Process>, target: Target) -> Outcome<Contestant> {
        let response_bytes = self.loader.probe(&target)?;
        Ok(Contestant { name, process, target, response_bytes })
    }

    /// Returns all servers with the same article.
    fn get_contestants(&self) -> Outcome<Vec<Contestant>> {
        let cable = self.cable(CABLE, "GetArticle", &self.content.get(&self.content.article))?;
        let (size, target) = (cable.response_bytes, cable.target.clone());
        let file = Target { path: FILE.to_owned(), request: None, ..target.clone() };
        Ok(vec![
            cable,
            self.contestant_like(LIMIT, self.rivals.limit(size)?, &target)?,
            self.contestant_like(ORDINARY, self.rivals.ordinary()?, &target)?,
            self.contestant_like(GO, self.rivals.grpc_go("proto")?, &target)?,
            self.contestant_like(GO_ENCODED, self.rivals.grpc_go("encoded")?, &target)?,
            self.contestant_like(NGINX, self.rivals.nginx(size, true)?, &file)?,
            self.contestant_like(NGHTTPD, self.rivals.nghttpd(size)?, &file)?,
        ])
    }

    /// Returns the same, but with nginx without sendfile, which fails under this load.
    fn without_sendfile(&self, gets: &[Contestant]) -> Outcome<Vec<Contestant>> {
        let other = |contestant: &Contestant| match contestant.name {
            NGINX => {
                let server = self.rivals.nginx(contestant.response_bytes, false)?;
                self.contestant_like(NGINX, server, &contestant.target)
            }
            _ => Ok(contestant.clone()),
        };
        gets.iter().map(other).collect()
    }

    /// Returns a response with several articles, and one with one article of the same size.
    fn multi_article_contestants(&self, call: &str, request: &impl Message) -> Outcome<Vec<Contestant>> {
        let cable = self.cable(CABLE, call, request)?;
        let (size, target) = (cable.response_bytes, cable.target.clone());
        let same_size = self.content.get(&nearest_in_size(&self.content.sizes, usize::try_from(size)?)?);
        Ok(vec![
            cable,
            self.cable(SAME_SIZE, "GetArticle", &same_size)?,
            self.contestant_like(LIMIT, self.rivals.limit(size)?, &target)?,
            self.contestant_like(ORDINARY, self.rivals.ordinary()?, &target)?,
        ])
    }

    /// Returns the article by GetArticle and by GET, and a file as large as its JSON.
    fn web_contestants(&self) -> Outcome<Vec<Contestant>> {
        let cable = self.cable(CABLE, "GetArticle", &self.content.get(&self.content.article))?;
        let path = format!("/v1/{}", self.content.article);
        let json = Target { path, request: None, ..cable.target.clone() };
        let get = self.contestant(WEB, self.content.node.clone(), json.clone())?;
        let conditional = Target { header: Some(ANY_VERSION), ..json.clone() };
        let file = Target { path: FILE.to_owned(), ..json };
        let nginx = self.contestant_like(NGINX, self.rivals.nginx(get.response_bytes, true)?, &file)?;
        let same_file = Target { header: Some(ANY_VERSION), ..nginx.target.clone() };
        let same_nginx = self.contestant(NGINX_NOT_MODIFIED, nginx.process.clone(), same_file)?;
        let not_modified = self.contestant(NOT_MODIFIED, self.content.node.clone(), conditional)?;
        Ok(vec![cable, get, not_modified, nginx, same_nginx])
    }

    fn stream_contestants(&self) -> Outcome<Vec<Contestant>> {
        let cable = self.cable(CABLE, "StreamArticles", &self.content.stream())?;
        let (size, target) = (cable.response_bytes, cable.target.clone());
        Ok(vec![
            cable,
            self.contestant_like(LIMIT, self.rivals.limit(size)?, &target)?,
            self.contestant_like(ORDINARY, self.rivals.ordinary()?, &target)?,
        ])
    }

    /// Runs all servers at half of the slowest server's peak.
    fn measure_at_rate(&mut self, gets: &[Contestant]) -> Outcome<()> {
        let slowest = match self.results.case("get") {
            Some(case) => case.slowest().unwrap_or_default(),
            None => return Ok(()),
        };
        let rate = (slowest / 2.0) as u64;
        let title =
            format!("GetArticle at {rate} calls/s, half of the slowest server's peak, 16 connections");
        let load = Load {
            connections: 16,
            streams: 10,
            calls: rate * RATE_SECONDS,
            rate: Some(rate),
            separate_cores: false,
        };
        self.measure_case("rate", &title, load, gets)
    }

    fn measure_with_ghz(&mut self, gets: &[Contestant]) -> Outcome<()> {
        let request = json!({ "name": self.content.article });
        let load = Load {
            connections: 8,
            streams: 8,
            calls: self.options.calls / 10,
            rate: None,
            separate_cores: false,
        };
        let with_grpc: Vec<_> =
            gets.iter().filter(|contestant| contestant.target.request.is_some()).collect();
        let title = "GetArticle by ghz, 8 connections, 64 workers: the server's processor time only";
        self.run_rounds("ghz", title, &with_grpc, |loader, contestant| {
            loader.ghz(&contestant.process, contestant.target.address, &request, load)
        })
    }

    fn measure_case(
        &mut self,
        id: &'static str,
        title: &str,
        load: Load,
        contestants: &[Contestant],
    ) -> Outcome<()> {
        if load.separate_cores {
            contestants.iter().try_for_each(|contestant| pin(&contestant.process, "0"))?;
        }
        let all: Vec<_> = contestants.iter().collect();
        self.run_rounds(id, title, &all, |loader, contestant| {
            loader.run(&contestant.process, &contestant.target, load, contestant.response_bytes)
        })
    }

    /// Measures a case if the options include it.
    fn run_rounds(
        &mut self,
        id: &'static str,
        title: &str,
        contestants: &[&Contestant],
        run: impl Fn(&Loader, &Contestant) -> Outcome<Sample>,
    ) -> Outcome<()> {
        if !self.options.includes(id) {
            return Ok(());
        }
        let (results, rounds) = (&mut self.results, self.options.rounds);
        measure_rounds(results, (id, title), rounds, contestants, |contestant| run(&self.loader, contestant))
    }
}

/// Makes one uncounted round, then the counted rounds. Each starts with another server.
fn measure_rounds(
    results: &mut Results,
    (id, title): (&'static str, &str),
    rounds: usize,
    contestants: &[&Contestant],
    run: impl Fn(&Contestant) -> Outcome<Sample>,
) -> Outcome<()> {
    eprintln!("{title}");
    let mut series: Vec<Series> = contestants.iter().map(|c| Series::new(c.name)).collect();
    for round in 0..=rounds {
        for turn in 0..contestants.len() {
            let turn = (turn + round) % contestants.len();
            let sample = run(contestants[turn])?;
            if round > 0 {
                series[turn].samples.push(sample);
            }
        }
    }
    for (series, contestant) in series.iter_mut().zip(contestants) {
        series.peak_memory = contestant.process.peak_memory()?;
    }
    results.add(Case { id, title: title.to_owned(), series });
    Ok(())
}

/// Writes a framed request to a file. Returns the target with the path of its call, over TLS if it has a configuration
/// of OpenSSL.
fn target(
    scratch: &Path,
    address: std::net::SocketAddr,
    call: &str,
    request: &impl Message,
    openssl: Option<PathBuf>,
) -> Outcome<Target> {
    let message = request.encode_to_vec();
    let length = u32::try_from(message.len())?.to_be_bytes();
    let framed = [&[0][..], &length, &message].concat();
    let file = scratch.join(format!("{call}-{}.request", message.len()));
    fs::write(&file, framed)?;
    Ok(Target {
        address,
        path: format!("/cable.v1.ContentService/{call}"),
        request: Some(file),
        header: None,
        openssl,
    })
}

/// Binds all threads of a process to some cores.
fn pin(process: &Process, cores: &str) -> Outcome<()> {
    let mut command = std::process::Command::new("taskset");
    tools::run(command.args(["--all-tasks", "--pid", "--cpu-list", cores, &process.id().to_string()]))
        .map(drop)
}
