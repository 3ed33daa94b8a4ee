//! Random histories with followers. At every message each promise of `FeedService.Watch` holds, wherever followers are
//! disconnected and resume. A follower that has caught up holds the same as a fresh snapshot.

use std::{collections::BTreeSet, path::Path, time::Duration};

use cable::clock::{Clock, ManualClock};
use cable_client::{
    Cable, CommitOutcome, RemovalReason, UpdateKind, View,
    v1::{EntityKind, FeedFilter, record::Record as Entity, watch_request::Start},
};
use futures_util::future::join_all;

use crate::{
    dice::Rng,
    follow,
    histories::{rebuild, verify},
    support::Node,
};

mod follower;
mod world;
mod writes;

use follower::{FeedOptions, Follower};
use world::{World, Write};
use writes::{SECOND, Writes};

/// The start of each history: in 2030, microseconds since 1970 UTC.
const START: i64 = 1_900_000_000 * SECOND;

/// The age at which an entry's departures are dropped, in microseconds.
const HISTORY: i64 = 130 * SECOND;

/// A time after which the node has looked for old history, regardless of the phase in which the clock was last moved.
const COMPACTION: i64 = 121 * SECOND;

/// Seeds that once found a fault.
const KNOWN_SEEDS: [u64; 2] = [8, 212_205_060];

const STEPS: usize = 300;

/// A node, its expected content, and its followers.
struct Simulation {
    node: Node,
    cable: Cable,
    clock: Clock,
    hands: ManualClock,
    world: World,
    writes: Writes,
    rng: Rng,
    followers: Vec<Follower>,
}

async fn start(dir: &Path, clock: &Clock) -> Node {
    let change = |config: &mut cable::config::Config| {
        config.feed.history_retention = Duration::from_micros(HISTORY as u64);
        config.feed.history_min_entries = 0;
    };
    Node::run(0, dir, clock.clone(), change).await
}

fn random_options(rng: &mut Rng) -> FeedOptions {
    let mut filter = FeedFilter::default();
    let random_names = |rng: &mut Rng, kind| loop {
        let names = Writes::names(rng, kind, 3);
        if !names.is_empty() {
            break names;
        }
    };
    match rng.between(0, 9) {
        0..=2 => filter.any_tags = random_names(rng, "tags"),
        3 => filter.sections = random_names(rng, "sections"),
        4 => filter.authors = random_names(rng, "authors"),
        5 => (filter.any_tags, filter.sections) = (random_names(rng, "tags"), random_names(rng, "sections")),
        6 => (filter.any_tags, filter.authors) = (random_names(rng, "tags"), random_names(rng, "authors")),
        7 => filter.kinds = vec![EntityKind::Article.into()],
        8 => {
            filter.kinds =
                vec![EntityKind::Author.into(), EntityKind::Tag.into(), EntityKind::Collection.into()]
        }
        _ => {}
    }
    let view = [View::Reference, View::Basic, View::Full, View::Full][rng.between(0, 3) as usize];
    FeedOptions { filter, view, backfill: rng.one_in(2) }
}

fn followers(rng: &mut Rng) -> Vec<Follower> {
    // Some followers have the same interest.
    let options: Vec<FeedOptions> = (0..8).map(|_| random_options(rng)).collect();
    let one = |number| Follower::new(number, options[number % 8].clone(), rng.one_in(2));
    (0..12).map(one).collect()
}

impl Simulation {
    async fn start(dir: &Path, mut rng: Rng) -> Simulation {
        let (clock, hands) = Clock::manual(START);
        let node = start(dir, &clock).await;
        Simulation {
            cable: node.client(),
            node,
            clock,
            hands,
            world: World::new(START),
            writes: Writes::new(rng.fork()),
            followers: followers(&mut rng),
            rng,
        }
    }

    async fn step(&mut self) {
        match self.rng.between(0, 39) {
            0..=13 => {
                let write = self.writes.random_write(&self.world);
                self.commit(vec![write]).await;
            }
            14..=18 => {
                let writes = self.writes.distinct_writes(&self.world, 8);
                self.commit(writes).await;
            }
            19..=20 => self.write_concurrently().await,
            21 => self.kill_in_a_burst().await,
            22 => self.remove_pending().await,
            23..=25 => {
                let time = self.world.now + self.rng.between(1, 4) as i64 * SECOND;
                self.advance_to(time).await;
            }
            26 => self.compact().await,
            27 if self.rng.one_in(5) => self.write_many_names().await,
            28 if self.rng.one_in(4) => self.flood().await,
            29 if self.rng.one_in(2) => self.retag().await,
            _ => self.inject_fault().await,
        }
        if self.rng.one_in(3) {
            self.apply_ready();
        }
    }

    async fn commit(&mut self, writes: Vec<Write>) {
        let commit = self.cable.commit().changes(writes.iter().map(Write::change)).await;
        let committed = commit.unwrap_or_else(|error| panic!("{writes:?}: {error}"));
        self.world.record(&writes, &committed.results, &committed.position);
    }

    /// Makes concurrent writes, and lets a follower resume while they happen.
    async fn write_concurrently(&mut self) {
        let writes = self.writes.distinct_writes(&self.world, 12);
        let commits = writes.iter().map(|write| self.cable.commit().change(write.change()).into_future());
        let closed = self.followers.iter_mut().find(|follower| !follower.is_open());
        let resume = async {
            if let Some(follower) = closed {
                follower.resume(&self.node, &self.world).await;
            }
        };
        let (committed, ()) = tokio::join!(join_all(commits), resume);
        let mut committed: Vec<(CommitOutcome, Write)> = committed
            .into_iter()
            .zip(writes)
            .map(|(committed, write)| (committed.unwrap(), write))
            .filter(|(committed, _)| committed.results[0].changed)
            .collect();
        committed.sort_by_key(|(committed, _)| committed.position.revision);
        for (committed, write) in committed {
            self.world.record(&[write], &committed.results, &committed.position);
        }
    }

    /// Makes a kill among many changes.
    async fn kill_in_a_burst(&mut self) {
        let writes = self.writes.distinct_writes(&self.world, 20);
        self.commit(writes).await;
        let live: Vec<&str> = self.world.all_live().map(|(_, entry, _)| entry.name.as_str()).collect();
        let names = live.into_iter().chain(self.world.all_pending());
        let articles: Vec<&str> = names.filter(|name| name.starts_with("articles/")).collect();
        let Some(last) = (articles.len() as u64).checked_sub(1) else { return };
        let victim = articles[self.rng.between(0, last) as usize].to_owned();
        self.kill(victim).await;
    }

    /// Writes more than memory holds, or kills an article while large changes are being delivered. Some followers
    /// disconnect before it and resume at once.
    async fn flood(&mut self) {
        self.beacon().await;
        for follower in self.followers.iter_mut().filter(|follower| follower.is_open()) {
            follower.apply_until(&self.node, &self.world, self.world.head).await;
            if self.rng.one_in(2) {
                follower.disconnect();
            }
        }
        let kills = self.rng.one_in(2);
        for _ in 0..if kills { 1 } else { 3 } {
            let writes = self.writes.distinct_writes(&self.world, 4);
            self.commit(writes).await;
            let articles = (1..=5).map(|id| self.writes.large(&format!("l{id}")));
            let puts = articles.map(|article| Write::Put(article.into(), UpdateKind::Major)).collect();
            self.commit(puts).await;
        }
        if kills {
            let victim = self.rng.between(1, 5);
            self.kill(format!("articles/l{victim}")).await;
        }
        for follower in self.followers.iter_mut().filter(|follower| !follower.is_open()) {
            follower.resume(&self.node, &self.world).await;
        }
    }

    /// Writes an article that leaves more lists than its entry may name. Some followers disconnect before it and resume
    /// later.
    async fn retag(&mut self) {
        let id = format!("r{}", self.rng.between(1, 2));
        let usual = self.writes.for_all(&id);
        self.commit(vec![Write::Put(Entity::Article(usual).into(), UpdateKind::Major)]).await;
        for follower in self.followers.iter_mut().filter(|follower| follower.is_open()) {
            follower.apply_until(&self.node, &self.world, self.world.head).await;
            if self.rng.one_in(2) {
                follower.disconnect();
            }
        }
        for _ in 0..self.rng.between(2, 12) {
            let article = self.writes.retagged_article(&id);
            self.commit(vec![Write::Put(Entity::Article(article).into(), UpdateKind::Major)]).await;
            if self.rng.one_in(3) {
                self.inject_fault().await;
            }
        }
        match self.rng.between(0, 3) {
            0 => {
                let removal = Write::Remove(format!("articles/{id}"), RemovalReason::Deleted, String::new());
                self.commit(vec![removal]).await;
            }
            1 => {
                let usual = self.writes.article(&id);
                self.commit(vec![Write::Put(Entity::Article(usual).into(), UpdateKind::Major)]).await;
            }
            _ => {}
        }
    }

    async fn kill(&mut self, name: String) {
        self.commit(vec![Write::Remove(name, RemovalReason::Killed, String::new())]).await;
    }

    async fn remove_pending(&mut self) {
        let Some(name) = self.world.all_pending().next().map(str::to_owned) else { return };
        let written = self.cable.remove_pending(&name).await.unwrap();
        self.world.remove_pending(&name, &written.position);
    }

    /// Writes more names than one read returns.
    async fn write_many_names(&mut self) {
        for half in 0..2 {
            let ids = half * 350..(half + 1) * 350;
            let articles = ids.map(|id| Entity::Article(self.writes.article(&format!("w{id}"))));
            let writes = articles.map(|article| Write::Put(article.into(), UpdateKind::Minor)).collect();
            self.commit(writes).await;
        }
    }

    /// Lets time pass. Due versions take effect one after the other.
    async fn advance_to(&mut self, until: i64) {
        while let Some((time, name)) = self.world.next_due().filter(|(time, _)| *time <= until) {
            self.world.apply_due(time, &name);
            self.hands.set(self.world.now);
            while self.head().await < self.world.head {
                tokio::task::yield_now().await;
            }
        }
        self.world.now = until;
        self.hands.set(until);
        self.check_floor().await;
    }

    /// Checks the floor. The node looks for old history once a minute, also when the clock moves in small steps.
    async fn check_floor(&mut self) {
        let floor = self.cable.status().await.unwrap().oldest_revision;
        assert!(floor <= self.world.floor_by_age(HISTORY), "{floor} is too young to be dropped");
        self.world.floor = self.world.floor.max(floor);
    }

    async fn head(&self) -> i64 {
        let head = self.cable.status().await.unwrap().head.unwrap().revision;
        assert!(head <= self.world.head, "{head} and not {}", self.world.head);
        head
    }

    /// Waits until the node has dropped the history that is too old.
    async fn compact(&mut self) {
        loop {
            self.advance_to(self.world.now + COMPACTION).await;
            let floor = self.world.floor_by_age(HISTORY);
            if floor == self.world.floor {
                return;
            }
            for _ in 0..200 {
                if self.cable.status().await.unwrap().oldest_revision == floor {
                    self.world.floor = floor;
                    return;
                }
                tokio::task::yield_now().await;
            }
        }
    }

    /// Disconnects, resumes or stalls a follower.
    async fn inject_fault(&mut self) {
        let number = self.rng.between(0, self.followers.len() as u64 - 1) as usize;
        let (follower, node, world) = (&mut self.followers[number], &self.node, &self.world);
        match self.rng.between(0, 9) {
            _ if !follower.is_open() => {
                let start = match self.rng.between(0, 7) {
                    0 => Some(Start::Snapshot(true)),
                    1 => None,
                    2 => follow::after(self.rng.between(world.floor as u64, world.head as u64) as i64),
                    _ => return follower.resume(node, world).await,
                };
                follower.start(node, world, start).await;
            }
            0..=5 => follower.disconnect(),
            6..=8 => follower.stalled = true,
            _ => follower.stalled = false,
        }
    }

    fn apply_ready(&mut self) {
        for follower in self.followers.iter_mut().filter(|follower| !follower.stalled) {
            follower.apply_ready(&self.world);
        }
    }

    /// Writes an article and an author that every filter matches.
    async fn beacon(&mut self) {
        let article = self.writes.for_all("beacon");
        let mut author = cable_client::v1::Author::default();
        author.name = "authors/beacon".into();
        author.display_name = article.headline.clone();
        let put = |entity: Entity| Write::Put(entity.into(), UpdateKind::Major);
        self.commit(vec![put(Entity::Author(author)), put(Entity::Article(article))]).await;
    }

    /// Brings all awake followers up to date, by a change that they all match or by the checkpoints of an idle time.
    async fn settle(&mut self, all: bool) {
        if !self.rng.one_in(3) {
            self.beacon().await;
        }
        let followed: BTreeSet<usize> = self
            .followers
            .iter()
            .filter(|follower| all || follower.is_open() || self.rng.one_in(3))
            .map(|follower| follower.number)
            .collect();
        for follower in self.followers.iter_mut().filter(|follower| followed.contains(&follower.number)) {
            follower.apply_until(&self.node, &self.world, self.world.head).await;
            follower.check_held(&self.world);
            let mut fresh = Follower::new(100 + follower.number, follower.options.clone(), false);
            fresh.start(&self.node, &self.world, Some(Start::Snapshot(true))).await;
            fresh.apply_until(&self.node, &self.world, self.world.head).await;
            fresh.check_held(&self.world);
        }
    }

    /// Ends all streams and starts another node, on this directory or on a rebuilt copy of it.
    async fn restart(self, dir: &Path, copy: Option<&Path>) -> Simulation {
        let Simulation { node, clock, mut followers, .. } = self;
        followers.iter_mut().for_each(Follower::disconnect);
        node.stop().await;
        verify(dir);
        if let Some(copy) = copy {
            rebuild(dir, copy);
        }
        let node = start(copy.unwrap_or(dir), &clock).await;
        Simulation { cable: node.client(), node, clock, followers, ..self }
    }
}

async fn simulate(seed: u64) {
    println!("feed histories: CABLE_SEED={seed}");
    let dir = tempfile::tempdir().unwrap();
    let mut simulation = Simulation::start(dir.path(), Rng::new(seed)).await;
    for step in 1..=STEPS {
        simulation.step().await;
        if step % 60 == 0 {
            simulation.settle(false).await;
        }
        if step == STEPS / 2 {
            simulation = simulation.restart(dir.path(), None).await;
        }
    }
    let rebuilt = dir.path().join("rebuilt");
    simulation = simulation.restart(dir.path(), Some(&rebuilt)).await;
    simulation.settle(true).await;
    simulation.node.stop().await;
    verify(&rebuilt);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_of_random_histories_receive_correct_feeds() {
    if let Ok(seed) = std::env::var("CABLE_SEED") {
        return simulate(seed.parse().unwrap()).await;
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    for seed in KNOWN_SEEDS.into_iter().chain([u64::from(now.subsec_nanos())]) {
        simulate(seed).await;
    }
}
