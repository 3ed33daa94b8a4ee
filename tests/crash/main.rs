//! The program is killed in the middle of writes, again and again. Afterwards every acknowledged write is present, and
//! no write is present in part.
//!
//! `CABLE_KILLS` sets the number of kills for each of three seeds (17 by default), `CABLE_SEED` repeats the choices of one
//! seed of an earlier run.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]
#![allow(clippy::print_stdout, reason = "the seed, to repeat a run that failed")]

mod consumers;
mod dice;
mod operation;
mod power;
mod process;
mod refusal;
mod writer;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::{Duration, Instant},
};

use cable_client::Cable;
use dice::Rng;
use futures_util::{TryStreamExt as _, future::join_all};
use operation::{State, Stored};
use process::Process;
use writer::{Shared, Writer};

const WRITERS: u64 = 8;

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn kills() -> u64 {
    from_env("CABLE_KILLS").unwrap_or(17)
}

/// The time in which a node must be ready after a kill. A debug build on a busy machine takes longer.
const READY: Duration = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 2 });

/// The number of seeds of a run.
const SEEDS: usize = 3;

fn seed(test: &str) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = from_env("CABLE_SEED").unwrap_or(u64::from(now.subsec_nanos()));
    println!("{test}: CABLE_SEED={seed}");
    seed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_kills_lose_no_write_and_leave_none_in_part() {
    let seeds = if from_env("CABLE_SEED").is_some() { 1 } else { SEEDS };
    for _ in 0..seeds {
        let mut rng = Rng::new(seed("one directory"));
        let dir = tempfile::tempdir().unwrap();
        let mut campaign = Campaign::new(&mut rng);
        for kill in 0..kills() {
            let wait = Duration::from_millis(rng.between(20, 400));
            campaign.kill_after(dir.path(), wait, kill, &mut rng).await;
        }
        campaign.print_summary();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_during_the_first_start_loses_no_write() {
    let mut rng = Rng::new(seed("new directories"));
    for _ in 0..kills().div_ceil(3) {
        let dir = tempfile::tempdir().unwrap();
        Process::start(dir.path()).kill_after(Duration::from_millis(rng.between(0, 60)));
        let mut campaign = Campaign::new(&mut rng);
        let wait = Duration::from_millis(rng.between(1, 60));
        campaign.kill_after(dir.path(), wait, 0, &mut rng).await;
    }
}

/// All writers of one directory, with their knowledge of its content.
struct Campaign {
    writers: Vec<Writer>,
    shared: Shared,
    rounds: Vec<usize>,
    /// The longest time from a start to the first response.
    longest_start: Duration,
}

impl Campaign {
    fn new(rng: &mut Rng) -> Campaign {
        let shared = Shared::default();
        let writers = (0..WRITERS).map(|n| Writer::new(n, rng.fork(), shared.clone())).collect();
        Campaign { writers, shared, rounds: Vec::new(), longest_start: Duration::ZERO }
    }

    /// Lets the writers write until the process is killed, restarts it, and checks the stored content.
    async fn kill_after(&mut self, dir: &Path, wait: Duration, round: u64, rng: &mut Rng) {
        let (process, cable) = self.start(dir).await;
        let before = self.acknowledged();
        let running: Vec<_> = std::mem::take(&mut self.writers)
            .into_iter()
            .map(|writer| tokio::spawn(writer.write_until_failure(cable.clone())))
            .collect();
        tokio::time::sleep(wait).await;
        process.kill();
        self.writers = join_all(running).await.into_iter().map(Result::unwrap).collect();
        self.rounds.push(self.acknowledged() - before);

        if round.is_multiple_of(2) {
            process::verify(dir);
        }
        if rng.one_in(8) {
            Process::start(dir).kill_after(Duration::from_millis(rng.between(0, 60)));
        }
        let (process, cable) = self.start(dir).await;
        self.check(&cable).await;
        if round % 2 == 1 {
            process::verify(dir);
        }
        process.kill();
    }

    /// Starts the program and waits until it responds.
    async fn start(&mut self, dir: &Path) -> (Process, Cable) {
        let start = Instant::now();
        let process = Process::start(dir);
        let cable = process.client();
        cable.status().await.unwrap();
        self.longest_start = self.longest_start.max(start.elapsed());
        assert!(self.longest_start <= READY, "ready only after {:?}", self.longest_start);
        (process, cable)
    }

    fn acknowledged(&self) -> usize {
        self.writers.iter().map(|writer| writer.acknowledged).sum()
    }

    async fn check(&mut self, cable: &Cable) {
        let before = cable.status().await.unwrap().head.unwrap().revision;
        let highest = self.writers.iter().map(|writer| writer.highest).max().unwrap();
        assert!(before >= highest, "acknowledged revision {highest} is above the head {before}");
        let stored = export(cable).await;
        assert!(stored.values().all(|stored| stored.revision <= before));

        let mut known = BTreeSet::new();
        for writer in &self.writers {
            writer.check(&stored);
            known.extend(writer.names());
        }
        known.extend(self.shared.check(&stored));
        let unknown: Vec<_> = stored.keys().filter(|name| !known.contains(*name)).collect();
        assert!(unknown.is_empty(), "no writer wrote {unknown:?}");

        let mut written = 0;
        for writer in &mut self.writers {
            written += writer.repeat(cable, &stored, before).await;
        }
        let after = cable.status().await.unwrap().head.unwrap().revision;
        assert_eq!(after, before + written, "each unapplied write is applied once");
        let stored = export(cable).await;
        self.writers.iter().for_each(|writer| writer.check(&stored));
        self.shared.check(&stored);
    }

    fn print_summary(&self) {
        let (sum, rounds) = (self.rounds.iter().sum::<usize>(), self.rounds.len());
        let (min, max) = (self.rounds.iter().min().unwrap(), self.rounds.iter().max().unwrap());
        let count = |of: fn(&Writer) -> usize| self.writers.iter().map(of).sum::<usize>();
        println!(
            "{rounds} kills, {sum} acknowledgements ({min} to {max} in a round); of the writes without one, {} \
             were applied and {} were not; {} of them were commits of several changes; ready after at most {:.2} s",
            count(|writer| writer.applied),
            count(|writer| writer.not_applied),
            count(|writer| writer.unacknowledged_commits),
            self.longest_start.as_secs_f64(),
        );
    }
}

/// Returns the whole content of the store.
async fn export(cable: &Cable) -> BTreeMap<String, Stored> {
    let mut records = cable.export().records();
    let mut stored = BTreeMap::new();
    while let Some(record) = records.try_next().await.unwrap() {
        let (name, found) = State::stored(record.decode().unwrap().record.unwrap());
        stored.insert(name, found);
    }
    stored
}
