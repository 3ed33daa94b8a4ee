//! Articles that are retagged thousands of times. Entries and tables remain bounded, and followers that resume at old
//! positions end up with the matching articles.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use cable_client::{
    Cable, Change, RemovalReason, View,
    v1::{self, EntityKind, FeedFilter},
};
use futures_util::TryStreamExt as _;

use crate::{
    dice::Rng,
    follow::{self, Changed, FeedEvent, WatchStream},
    histories::{rebuild, verify},
    support::Node,
};

const ARTICLES: u64 = 2;

/// The number of retags of each article; `CABLE_RETAGS` sets another one. The first sixty fill its departures.
const ROUNDS: usize = 200;

/// The number of tags: more than the departures of an article may name.
const TAGS: u64 = 2_000;

/// The maximum number of tags of an article.
const TAGS_PER_ARTICLE: u64 = 24;

/// The maximum number of departures of an article, including its floor.
const DEPARTURES: i64 = 1_025;

/// The tags and the section of each article, by revision; none for a removal.
#[derive(Debug, Default)]
struct Expected {
    versions: BTreeMap<String, BTreeMap<i64, Option<BTreeSet<String>>>>,
    head: i64,
}

impl Expected {
    /// Returns the articles that match a filter at a revision.
    fn matching(&self, filter: &FeedFilter, at: i64) -> BTreeSet<String> {
        let matches = |lists: &BTreeSet<String>| {
            let any = |names: &[String]| names.is_empty() || names.iter().any(|name| lists.contains(name));
            any(&filter.any_tags) && any(&filter.sections)
        };
        let holds = |versions: &BTreeMap<i64, Option<BTreeSet<String>>>| {
            let version = versions.range(..=at).next_back();
            version.is_some_and(|(_, lists)| lists.as_ref().is_some_and(matches))
        };
        self.versions.iter().filter(|(_, versions)| holds(versions)).map(|(name, _)| name.clone()).collect()
    }
}

fn tag(rng: &mut Rng) -> String {
    tag_of(rng.between(1, TAGS))
}

fn tag_of(number: u64) -> String {
    format!("tags/{number:0>120}")
}

fn section(rng: &mut Rng) -> String {
    format!("sections/s{}", rng.between(1, 3))
}

fn filter(rng: &mut Rng) -> FeedFilter {
    let mut filter = FeedFilter::default();
    match rng.between(0, 9) {
        0 => filter.kinds = vec![EntityKind::Article.into()],
        1 => filter.sections = vec![section(rng)],
        kind => {
            let tags: BTreeSet<String> = (0..rng.between(1, 64)).map(|_| tag(rng)).collect();
            filter.any_tags = tags.into_iter().collect();
            filter.sections = if kind < 5 { vec![section(rng)] } else { Vec::new() };
        }
    }
    filter
}

struct Newsroom {
    cable: Cable,
    rng: Rng,
    expected: Expected,
    rounds: usize,
}

impl Newsroom {
    /// Retags each article, all in one commit.
    async fn retag(&mut self) {
        self.rounds += 1;
        let mut commit = self.cable.commit();
        for n in 1..=ARTICLES {
            let mut article = v1::Article::default();
            article.name = format!("articles/a{n}");
            article.headline = format!("Storm {}", self.rounds);
            let tags: BTreeSet<String> = (0..TAGS_PER_ARTICLE).map(|_| tag(&mut self.rng)).collect();
            article.tags = tags.iter().cloned().collect();
            article.section = section(&mut self.rng);
            let lists = tags.into_iter().chain([article.section.clone()]).collect();
            self.expected.head += 1;
            let versions = self.expected.versions.entry(article.name.clone()).or_default();
            versions.insert(self.expected.head, Some(lists));
            commit = commit.change(Change::put(article).allow_killed());
        }
        assert_eq!(commit.await.unwrap().position.revision, self.expected.head);
    }

    async fn remove(&mut self, name: &str, reason: RemovalReason) {
        self.cable.commit().change(Change::remove(name.to_owned(), reason)).await.unwrap();
        self.expected.head += 1;
        self.expected.versions.get_mut(name).unwrap().insert(self.expected.head, None);
    }

    /// Returns a filter for one tag that an article has at a revision. With fewer tags in the filter, fewer departures
    /// report the same change.
    fn filter_for(&mut self, at: i64) -> FeedFilter {
        let mut filter = FeedFilter::default();
        let name = format!("articles/a{}", self.rng.between(1, ARTICLES));
        let version = self.expected.versions[&name].range(..=at).next_back();
        let lists = version.and_then(|(_, lists)| lists.clone()).unwrap_or_default();
        let tag = lists.into_iter().find(|list| list.starts_with("tags/"));
        filter.any_tags = vec![tag.unwrap_or_else(|| tag_of(1))];
        filter
    }

    /// Follows from a position with the articles that matched there. The follower may resume several times, and must
    /// end up with the articles that match now.
    async fn follow(&mut self, node: &Node) {
        // Positions are at the end of a whole commit.
        let since = self.rng.between(0, self.expected.head as u64 / ARTICLES) as i64 * ARTICLES as i64;
        let filter = match self.rng.one_in(2) {
            true => self.filter_for(since),
            false => filter(&mut self.rng),
        };
        let (mut at, mut held) = (since, self.expected.matching(&filter, since));
        while at < self.expected.head {
            let mut request = v1::WatchRequest::default();
            request.filter = Some(filter.clone());
            request.view = View::Reference.into();
            request.include_backfill = true;
            request.start = follow::after(at);
            let mut feed = WatchStream::open(node, request).await.unwrap();
            let messages = if self.rng.one_in(3) { 1 } else { usize::MAX };
            for _ in 0..messages {
                let (event, position) = feed.next().await;
                apply(event, &mut held);
                at = position.unwrap_or(at);
                if at >= self.expected.head {
                    break;
                }
            }
        }
        assert_eq!(held, self.expected.matching(&filter, at), "from {since}: {filter:?}");
    }
}

fn apply(event: FeedEvent, held: &mut BTreeSet<String>) {
    let changes = match event {
        FeedEvent::Changes(changes) => changes,
        FeedEvent::Checkpoint => return,
        other => panic!("{other:?}"),
    };
    for change in changes {
        match change {
            Changed::Upsert(name, _) => held.insert(name),
            Changed::Left(name) | Changed::Removed(name, _) => held.remove(&name),
        };
    }
}

/// Returns the size of the largest entry in bytes, and the numbers of departures and terms.
fn sizes(dir: &Path) -> [i64; 3] {
    let connection = rusqlite::Connection::open(dir.join("cable.db")).unwrap();
    let number = |sql| connection.query_row(sql, [], |row| row.get(0)).unwrap();
    [
        number("SELECT max(length(entry)) FROM doc"),
        number("SELECT count(*) FROM departure"),
        number("SELECT count(*) FROM term"),
    ]
}

fn check_sizes(dir: &Path) {
    let [entry, departures, terms] = sizes(dir);
    assert!(entry < 160 << 10, "{entry}");
    assert!(departures <= ARTICLES as i64 * DEPARTURES, "{departures}");
    assert!(terms <= ARTICLES as i64 * (DEPARTURES + TAGS_PER_ARTICLE as i64 + 4), "{terms}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_article_can_be_retagged_thousands_of_times() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed =
        std::env::var("CABLE_SEED").map_or(u64::from(now.subsec_nanos()), |seed| seed.parse().unwrap());
    println!("retags: CABLE_SEED={seed}");
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let mut room =
        Newsroom { cable: node.client(), rng: Rng::new(seed), expected: Expected::default(), rounds: 0 };
    let rounds = std::env::var("CABLE_RETAGS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    for round in 1..=rounds {
        room.retag().await;
        if round % 25 == 0 {
            room.follow(&node).await;
        }
    }
    check_sizes(dir.path());
    for _ in 0..20 {
        room.follow(&node).await;
    }
    assert_eq!(room.cable.article("articles/a1").await.unwrap().revision, room.expected.head - 1);
    let exported: Vec<_> = room.cable.export().records().try_collect().await.unwrap();
    assert_eq!(exported.len() as u64, ARTICLES);
    room.remove("articles/a1", RemovalReason::Withdrawn).await;
    room.remove("articles/a2", RemovalReason::Killed).await;
    for _ in 0..20 {
        room.follow(&node).await;
    }
    check_sizes(dir.path());
    node.stop().await;
    verify(dir.path());

    // The same is true in a store that is rebuilt from the newest entries.
    let copy = dir.path().join("copy");
    rebuild(dir.path(), &copy);
    verify(&copy);
    let node = Node::start(&copy).await;
    room.cable = node.client();
    for _ in 0..20 {
        room.follow(&node).await;
    }
    room.retag().await;
    node.stop().await;
}
