//! Random histories with followers. At every message each promise of `FeedService.Watch` holds, wherever followers are
//! disconnected and resume. A follower that has caught up holds the same as a fresh snapshot.

use std::{collections::BTreeSet, path::Path, time::Duration};

use cable::clock::{Clock, Hands};
use cable_client::{
    Cable, Committed, RemovalReason, UpdateKind, View,
    v1::{EntityKind, FeedFilter, record::Record as Entity, watch_request::Start},
};
use futures_util::future::join_all;

use crate::{
    dice::Dice,
    follow,
    histories::{rebuild, verify},
    support::Node,
};

mod follower;
mod world;
mod writes;

use follower::{Follower, Interest};
use world::{World, Write};
use writes::{SECOND, Writes};

/// The start of each history: in 2030, microseconds since 1970 UTC.
const START: i64 = 1_900_000_000 * SECOND;

/// The age at which an entry's departures are dropped, in microseconds.
const HISTORY: i64 = 130 * SECOND;

/// A time after which the node has looked for old history, regardless of the phase in which the clock was last moved.
const COMPACTION: i64 = 121 * SECOND;

/// Seeds that once found a fault.
const FOUND: [u64; 2] = [8, 212_205_060];

const STEPS: usize = 300;

/// A node, its expected content, and its followers.
struct Game {
    node: Node,
    cable: Cable,
    clock: Clock,
    hands: Hands,
    world: World,
    writes: Writes,
    dice: Dice,
    followers: Vec<Follower>,
}

async fn start(dir: &Path, clock: &Clock) -> Node {
    let change = |config: &mut cable::config::Config| {
        config.feed.history_retention = Duration::from_micros(HISTORY as u64);
        config.feed.history_min_entries = 0;
    };
    Node::run(0, dir, clock.clone(), change).await
}

fn interest(dice: &mut Dice) -> Interest {
    let mut filter = FeedFilter::default();
    let some = |dice: &mut Dice, what| loop {
        let names = Writes::names(dice, what, 3);
        if !names.is_empty() {
            break names;
        }
    };
    match dice.between(0, 9) {
        0..=2 => filter.any_tags = some(dice, "tags"),
        3 => filter.sections = some(dice, "sections"),
        4 => filter.authors = some(dice, "authors"),
        5 => (filter.any_tags, filter.sections) = (some(dice, "tags"), some(dice, "sections")),
        6 => (filter.any_tags, filter.authors) = (some(dice, "tags"), some(dice, "authors")),
        7 => filter.kinds = vec![EntityKind::Article.into()],
        8 => {
            filter.kinds =
                vec![EntityKind::Author.into(), EntityKind::Tag.into(), EntityKind::Collection.into()]
        }
        _ => {}
    }
    let view = [View::Reference, View::Basic, View::Full, View::Full][dice.between(0, 3) as usize];
    Interest { filter, view, backfill: dice.one_in(2) }
}

fn followers(dice: &mut Dice) -> Vec<Follower> {
    // Some followers have the same interest.
    let interests: Vec<Interest> = (0..8).map(|_| interest(dice)).collect();
    let one = |number| Follower::new(number, interests[number % 8].clone(), dice.one_in(2));
    (0..12).map(one).collect()
}

impl Game {
    async fn begin(dir: &Path, mut dice: Dice) -> Game {
        let (clock, hands) = Clock::manual(START);
        let node = start(dir, &clock).await;
        Game {
            cable: node.client(),
            node,
            clock,
            hands,
            world: World::new(START),
            writes: Writes::new(dice.fork()),
            followers: followers(&mut dice),
            dice,
        }
    }

    async fn step(&mut self) {
        match self.dice.between(0, 39) {
            0..=13 => {
                let write = self.writes.any(&self.world);
                self.commit(vec![write]).await;
            }
            14..=18 => {
                let writes = self.writes.several(&self.world, 8);
                self.commit(writes).await;
            }
            19..=20 => self.together().await,
            21 => self.kill_in_a_burst().await,
            22 => self.take_back().await,
            23..=25 => {
                let time = self.world.now + self.dice.between(1, 4) as i64 * SECOND;
                self.pass(time).await;
            }
            26 => self.compact().await,
            27 if self.dice.one_in(5) => self.wide().await,
            28 if self.dice.one_in(4) => self.flood().await,
            29 if self.dice.one_in(2) => self.retag().await,
            _ => self.disturb().await,
        }
        if self.dice.one_in(3) {
            self.take_ready();
        }
    }

    async fn commit(&mut self, writes: Vec<Write>) {
        let commit = self.cable.commit().changes(writes.iter().map(Write::change)).await;
        let committed = commit.unwrap_or_else(|error| panic!("{writes:?}: {error}"));
        self.world.record(&writes, &committed.results, &committed.position);
    }

    /// Makes concurrent writes, and lets a follower resume while they happen.
    async fn together(&mut self) {
        let writes = self.writes.several(&self.world, 12);
        let commits = writes.iter().map(|write| self.cable.commit().change(write.change()).into_future());
        let asleep = self.followers.iter_mut().find(|follower| !follower.is_open());
        let resume = async {
            if let Some(follower) = asleep {
                follower.resume(&self.node, &self.world).await;
            }
        };
        let (committed, ()) = tokio::join!(join_all(commits), resume);
        let mut committed: Vec<(Committed, Write)> = committed
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
        let writes = self.writes.several(&self.world, 20);
        self.commit(writes).await;
        let live: Vec<&str> = self.world.all_live().map(|(_, entry, _)| entry.name.as_str()).collect();
        let names = live.into_iter().chain(self.world.all_waiting());
        let articles: Vec<&str> = names.filter(|name| name.starts_with("articles/")).collect();
        let Some(last) = (articles.len() as u64).checked_sub(1) else { return };
        let victim = articles[self.dice.between(0, last) as usize].to_owned();
        self.kill(victim).await;
    }

    /// Writes more than memory holds, or kills an article while large changes are being delivered. Some followers
    /// disconnect before it and resume at once.
    async fn flood(&mut self) {
        self.beacon().await;
        for follower in self.followers.iter_mut().filter(|follower| follower.is_open()) {
            follower.take_until(&self.node, &self.world, self.world.head).await;
            if self.dice.one_in(2) {
                follower.kill();
            }
        }
        let kills = self.dice.one_in(2);
        for _ in 0..if kills { 1 } else { 3 } {
            let writes = self.writes.several(&self.world, 4);
            self.commit(writes).await;
            let articles = (1..=5).map(|id| self.writes.large(&format!("l{id}")));
            let puts = articles.map(|article| Write::Put(article.into(), UpdateKind::Major)).collect();
            self.commit(puts).await;
        }
        if kills {
            let victim = self.dice.between(1, 5);
            self.kill(format!("articles/l{victim}")).await;
        }
        for follower in self.followers.iter_mut().filter(|follower| !follower.is_open()) {
            follower.resume(&self.node, &self.world).await;
        }
    }

    /// Writes an article that leaves more lists than its entry may name. Some followers disconnect before it and resume
    /// later.
    async fn retag(&mut self) {
        let id = format!("r{}", self.dice.between(1, 2));
        let usual = self.writes.for_all(&id);
        self.commit(vec![Write::Put(Entity::Article(usual).into(), UpdateKind::Major)]).await;
        for follower in self.followers.iter_mut().filter(|follower| follower.is_open()) {
            follower.take_until(&self.node, &self.world, self.world.head).await;
            if self.dice.one_in(2) {
                follower.kill();
            }
        }
        for _ in 0..self.dice.between(2, 12) {
            let article = self.writes.restless(&id);
            self.commit(vec![Write::Put(Entity::Article(article).into(), UpdateKind::Major)]).await;
            if self.dice.one_in(3) {
                self.disturb().await;
            }
        }
        match self.dice.between(0, 3) {
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

    async fn take_back(&mut self) {
        let Some(name) = self.world.all_waiting().next().map(str::to_owned) else { return };
        let written = self.cable.remove_pending(&name).await.unwrap();
        self.world.take_back(&name, &written.position);
    }

    /// Writes more names than one read returns.
    async fn wide(&mut self) {
        for half in 0..2 {
            let ids = half * 350..(half + 1) * 350;
            let articles = ids.map(|id| Entity::Article(self.writes.article(&format!("w{id}"))));
            let writes = articles.map(|article| Write::Put(article.into(), UpdateKind::Minor)).collect();
            self.commit(writes).await;
        }
    }

    /// Lets time pass. Due versions take effect one after the other.
    async fn pass(&mut self, until: i64) {
        while let Some((time, name)) = self.world.next_due().filter(|(time, _)| *time <= until) {
            self.world.happen(time, &name);
            self.hands.set(self.world.now);
            while self.head().await < self.world.head {
                tokio::task::yield_now().await;
            }
        }
        self.world.now = until;
        self.hands.set(until);
        self.see_floor().await;
    }

    /// Checks the floor. The node looks for old history once a minute, also when the clock moves in small steps.
    async fn see_floor(&mut self) {
        let floor = self.cable.status().await.unwrap().floor_revision;
        assert!(floor <= self.world.floor_by_age(HISTORY), "{floor} is too young to be forgotten");
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
            self.pass(self.world.now + COMPACTION).await;
            let floor = self.world.floor_by_age(HISTORY);
            if floor == self.world.floor {
                return;
            }
            for _ in 0..200 {
                if self.cable.status().await.unwrap().floor_revision == floor {
                    self.world.floor = floor;
                    return;
                }
                tokio::task::yield_now().await;
            }
        }
    }

    /// Disconnects, resumes or stalls a follower.
    async fn disturb(&mut self) {
        let number = self.dice.between(0, self.followers.len() as u64 - 1) as usize;
        let (follower, node, world) = (&mut self.followers[number], &self.node, &self.world);
        match self.dice.between(0, 9) {
            _ if !follower.is_open() => {
                let start = match self.dice.between(0, 7) {
                    0 => Some(Start::Snapshot(true)),
                    1 => None,
                    2 => follow::after(self.dice.between(world.floor as u64, world.head as u64) as i64),
                    _ => return follower.resume(node, world).await,
                };
                follower.begin(node, world, start).await;
            }
            0..=5 => follower.kill(),
            6..=8 => follower.stalled = true,
            _ => follower.stalled = false,
        }
    }

    fn take_ready(&mut self) {
        for follower in self.followers.iter_mut().filter(|follower| !follower.stalled) {
            follower.take_ready(&self.world);
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
        if !self.dice.one_in(3) {
            self.beacon().await;
        }
        let awake: BTreeSet<usize> = self
            .followers
            .iter()
            .filter(|follower| all || follower.is_open() || self.dice.one_in(3))
            .map(|follower| follower.number)
            .collect();
        for follower in self.followers.iter_mut().filter(|follower| awake.contains(&follower.number)) {
            follower.take_until(&self.node, &self.world, self.world.head).await;
            follower.check_held(&self.world);
            let mut fresh = Follower::new(100 + follower.number, follower.interest.clone(), false);
            fresh.begin(&self.node, &self.world, Some(Start::Snapshot(true))).await;
            fresh.take_until(&self.node, &self.world, self.world.head).await;
            fresh.check_held(&self.world);
        }
    }

    /// Ends all streams and starts another node, on this directory or on a rebuilt copy of it.
    async fn restart(self, dir: &Path, copy: Option<&Path>) -> Game {
        let Game { node, clock, mut followers, .. } = self;
        followers.iter_mut().for_each(Follower::kill);
        node.stop().await;
        verify(dir);
        if let Some(copy) = copy {
            rebuild(dir, copy);
        }
        let node = start(copy.unwrap_or(dir), &clock).await;
        Game { cable: node.client(), node, clock, followers, ..self }
    }
}

async fn play(seed: u64) {
    println!("feed histories: CABLE_SEED={seed}");
    let dir = tempfile::tempdir().unwrap();
    let mut game = Game::begin(dir.path(), Dice::new(seed)).await;
    for step in 1..=STEPS {
        game.step().await;
        if step % 60 == 0 {
            game.settle(false).await;
        }
        if step == STEPS / 2 {
            game = game.restart(dir.path(), None).await;
        }
    }
    let anew = dir.path().join("anew");
    game = game.restart(dir.path(), Some(&anew)).await;
    game.settle(true).await;
    game.node.stop().await;
    verify(&anew);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_follower_of_a_random_history_is_told_what_is_promised() {
    if let Ok(seed) = std::env::var("CABLE_SEED") {
        return play(seed.parse().unwrap()).await;
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    for seed in FOUND.into_iter().chain([u64::from(now.subsec_nanos())]) {
        play(seed).await;
    }
}
