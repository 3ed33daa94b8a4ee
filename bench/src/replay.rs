//! A replay of real editing. A repository of posts becomes commits to a node, one follower mirrors each tag, and the
//! mirrored articles are compared with the files at intervals.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use cable_client::{Cable, Change, Position, Timestamp, v1::WriteResult};
use prost::Message as _;
use tokio::runtime::Builder;

use crate::{
    Outcome,
    machine::machine,
    node::Program,
    report::{Report, grouped},
    scale,
};

mod check;
mod follower;
mod git;
mod mirror;
mod post;
mod site;
mod watch;

use check::Expected;
use follower::Followers;
use git::{Repository, Step};
use site::{Faults, Publisher, Reader};

/// The maximum size of one commit.
const MAX_CHANGES: usize = 500;
const MAX_BYTES: usize = 3 << 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Git directory or clone, with posts in _posts or content/posts.
    #[arg(long, value_name = "DIR")]
    repo: PathBuf,
    /// Number of log entries between two checks.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(i64).range(1..))]
    every: i64,
    /// Number of commits to replay; writes no results. If unset, all.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Seed of the random choices.
    #[arg(long, value_name = "N", default_value_t = 7)]
    seed: u64,
}

/// Replays a repository and writes the results.
///
/// # Errors
/// Fails if feeds, listings and files differ, or if a step fails.
pub(crate) fn run(root: &Path, options: Options) -> Outcome<()> {
    let Options { repo, every, limit, seed } = options;
    let repository = Repository(repo);
    let program = Program::build(root)?;
    let dir = tempfile::tempdir()?;
    let mut report = Report::default();
    report.notes.push(machine());
    let node = program.serve(&dir.path().join("store"), &dir.path().join("node.log"))?;
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let mut replay = runtime.block_on(async {
        let followers = Followers::new(&node.endpoint, seed);
        Replay::new(repository, scale::client(&node)?, followers, every)
    })?;
    runtime.block_on(replay.run(limit))?;
    replay.report(&mut report, node.started.elapsed());
    node.stop()?;
    report.notes.push(explanation(every, seed));
    if limit.is_none() {
        report.write_as(root, "replay")?;
    }
    eprintln!("\n{}", report.markdown());
    Ok(())
}

struct Replay {
    repository: Repository,
    publisher: Publisher,
    /// A reader of complete trees, independent of the publisher.
    tree_reader: Reader,
    cable: Cable,
    followers: Followers,
    head: Position,
    every: i64,
    /// The entry at which the next check is due.
    next_check: i64,
    tally: Tally,
}

/// The totals of a replay.
#[derive(Debug, Default)]
struct Tally {
    steps: u64,
    commits: u64,
    puts: u64,
    unchanged: u64,
    removals: u64,
    checks: u64,
    checking: Duration,
    /// The number of readable articles at the last check.
    articles: usize,
}

impl Replay {
    fn new(repository: Repository, cable: Cable, followers: Followers, every: i64) -> Outcome<Replay> {
        let now = Timestamp::from(SystemTime::now());
        let reader = || Ok::<_, Box<dyn std::error::Error>>(Reader::new(repository.blobs()?, now));
        let (publisher, tree_reader) = (Publisher::new(reader()?), reader()?);
        let (head, tally) = (Position::default(), Tally::default());
        Ok(Replay {
            repository,
            publisher,
            tree_reader,
            cable,
            followers,
            head,
            every,
            next_check: every,
            tally,
        })
    }

    async fn run(&mut self, limit: Option<usize>) -> Outcome<()> {
        let mut last = None;
        for step in self.repository.history()?.take(limit.unwrap_or(usize::MAX)) {
            let step = step?;
            self.step(&step).await?;
            if self.head.revision >= self.next_check {
                self.check(&step.commit).await?;
                self.next_check = (self.head.revision / self.every + 1) * self.every;
            }
            last = Some(step.commit);
        }
        let last = last.ok_or("no posts in the repository")?;
        self.check(&last).await
    }

    async fn step(&mut self, step: &Step) -> Outcome<()> {
        let edits = self.publisher.edit(step)?;
        for tag in edits.new_tags {
            self.followers.open(format!("tags/{tag}"), self.head.clone())?;
        }
        for (part, changes) in split_changes(edits.changes).into_iter().enumerate() {
            let commit = self.cable.commit().changes(changes).request_id(format!("{}-{part}", step.commit));
            let committed = commit.await.map_err(|error| format!("{}: {error}", step.commit))?;
            committed.results.iter().for_each(|result| self.tally.count(result));
            self.tally.commits += 1;
            self.head = committed.position;
        }
        self.tally.steps += 1;
        self.followers.advance();
        Ok(())
    }

    /// Compares everything with the files of a commit.
    async fn check(&mut self, commit: &str) -> Outcome<()> {
        let start = Instant::now();
        let site = self.tree_reader.site(&self.repository.tree(commit)?)?;
        self.followers.recall_all(self.head.revision).await?;
        let checked = Expected::of(&site).check(&self.followers, &self.cable).await;
        checked.map_err(|error| format!("at {commit}, revision {}: {error}", self.head.revision))?;
        self.tally.articles = site.posts().count();
        self.count_articles().await?;
        self.followers.release();
        self.tally.checks += 1;
        self.tally.checking += start.elapsed();
        let (_, feeds) = self.followers.size();
        eprintln!("revision {}: {} articles, {feeds} feeds agree", self.head.revision, self.tally.articles);
        Ok(())
    }

    /// Checks the number of articles, which includes those without tags. These are in no feed.
    async fn count_articles(&self) -> Outcome<()> {
        let reported = self.cable.status().await?.counts.unwrap_or_default().articles;
        let articles = self.tally.articles;
        if reported == articles as i64 {
            return Ok(());
        }
        Err(format!("article count mismatch: {reported} in the node, {articles} in the files").into())
    }

    fn report(&self, report: &mut Report, elapsed: Duration) {
        let tally = &self.tally;
        count(report, "Commits of the repository", tally.steps);
        count(report, "- as commits to the node", tally.commits);
        count(report, "Entries of the log", self.head.revision as u64);
        count(report, "- puts of articles", tally.puts);
        count(report, "- of which with other tags", self.publisher.retags);
        count(report, "- removals of articles", tally.removals);
        count(report, "- of which moved to another name", self.publisher.moves);
        count(report, "Puts that changed nothing, and made no entry", tally.unchanged);
        count(report, "Articles at the end", tally.articles as u64);
        count(report, "Tags", self.publisher.tags.len() as u64);
        count(report, "Authors", self.publisher.authors.len() as u64);
        self.report_feeds(report);
        self.report_faults(report, self.publisher.faults);
        count(report, "Checks passed", tally.checks);
        let seconds = |time: Duration| (time.as_secs_f64(), format!("{:.1} s", time.as_secs_f64()));
        let (all, checking) = (seconds(elapsed), seconds(tally.checking));
        report.fact("Time", all.0, all.1);
        report.fact("- of which checking", checking.0, checking.1);
    }

    fn report_feeds(&self, report: &mut Report) {
        let ((connections, feeds), traffic) = (self.followers.size(), self.followers.traffic());
        count(report, "Feeds", feeds as u64);
        count(report, "- on connections", connections as u64);
        count(report, "- messages", traffic.messages);
        count(report, "- changes delivered", traffic.changes);
        count(report, "- resumed after a position", traffic.streams - feeds as u64);
        count(report, "- of which after the stream was lost", traffic.lost);
    }

    fn report_faults(&self, report: &mut Report, faults: Faults) {
        count(report, "Versions of files with malformed front matter", faults.malformed);
        count(report, "- missing in this copy of the repository", faults.missing);
        count(report, "- with a body cut off at 1 MiB", faults.cut);
    }
}

impl Tally {
    fn count(&mut self, result: &WriteResult) {
        let article = result.name.starts_with("articles/");
        match (article, result.changed, result.etag.is_empty()) {
            (_, false, _) => self.unchanged += 1,
            (true, true, true) => self.removals += 1,
            (true, true, false) => self.puts += 1,
            (false, true, _) => {}
        }
    }
}

fn count(report: &mut Report, label: &'static str, number: u64) {
    report.fact(label, number, grouped(number));
}

/// Splits changes into commits of the maximum size, in their order.
fn split_changes(changes: Vec<Change>) -> Vec<Vec<Change>> {
    let (mut portions, mut bytes): (Vec<Vec<Change>>, _) = (Vec::new(), 0);
    for change in changes {
        let more = change.encoded_len();
        match portions.last_mut().filter(|portion| portion.len() < MAX_CHANGES && bytes + more <= MAX_BYTES) {
            Some(portion) => {
                bytes += more;
                portion.push(change);
            }
            None => {
                bytes = more;
                portions.push(vec![change]);
            }
        }
    }
    portions
}

fn explanation(every: i64, seed: u64) -> String {
    format!(
        "At each check, due after every {} entries and at the end, each tag's feed and its listing held the articles of \
         the commit's files, with the same headlines, tags and revisions. No revision was repeated or out \
         of order on a stream, and none at or below a position or checkpoint. Seed {seed}; a third of the followers disconnected \
         and resumed at random, one in twenty connected at checks only.",
        grouped(every as u64)
    )
}

#[cfg(test)]
mod tests {
    use cable_client::v1;

    use super::*;

    fn put(bytes: usize) -> Change {
        let mut article = v1::Article::default();
        article.name = "a".into();
        article.headline = "x".repeat(bytes);
        Change::put(article)
    }

    #[test]
    fn changes_are_split_into_commits_within_the_limits() {
        let sizes = |changes| split_changes(changes).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(Vec::new()), [0; 0]);
        assert_eq!(sizes(vec![put(10); 1_001]), [500, 500, 1]);
        assert_eq!(sizes(vec![put(1 << 20); 4]), [2, 2]);
    }

    #[test]
    fn write_results_are_counted_by_kind() {
        let result = |name: &str, etag: &str, changed| {
            let mut result = WriteResult::default();
            (result.name, result.etag, result.changed) = (name.into(), etag.into(), changed);
            result
        };
        let mut tally = Tally::default();
        for result in [
            result("articles/a", "e", true),
            result("articles/a", "e", false),
            result("articles/a", "", true),
            result("tags/sea", "e", true),
        ] {
            tally.count(&result);
        }
        assert_eq!((tally.puts, tally.unchanged, tally.removals), (1, 1, 1));
    }
}
