//! The program is killed in the middle of writes, again and again. Afterwards every acknowledged write is present, and
//! no write is present in part.
//!
//! `CABLE_KILLS` sets the number of kills (50 by default), `CABLE_SEED` repeats the choices of an earlier run.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]
#![allow(clippy::print_stdout, reason = "the seed, to repeat a run that failed")]

mod dice;
mod operation;
mod process;
mod refusal;
mod writer;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
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
    from_env("CABLE_KILLS").unwrap_or(50)
}

fn seed(test: &str) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = from_env("CABLE_SEED").unwrap_or(u64::from(now.subsec_nanos()));
    println!("{test}: CABLE_SEED={seed}");
    seed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_kills_lose_no_write_and_leave_none_in_part() {
    let mut rng = Rng::new(seed("one directory"));
    let dir = tempfile::tempdir().unwrap();
    let mut campaign = Campaign::new(&mut rng);
    for kill in 0..kills() {
        let wait = Duration::from_millis(rng.between(20, 400));
        campaign.kill_after(dir.path(), wait, kill, &mut rng).await;
    }
    campaign.print_summary();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_during_the_first_start_loses_no_write() {
    let mut rng = Rng::new(seed("new directories"));
    for _ in 0..kills().div_ceil(10) {
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
}

impl Campaign {
    fn new(rng: &mut Rng) -> Campaign {
        let shared = Shared::default();
        let writers = (0..WRITERS).map(|n| Writer::new(n, rng.fork(), shared.clone())).collect();
        Campaign { writers, shared, rounds: Vec::new() }
    }

    /// Lets the writers write until the process is killed, restarts it, and checks the stored content.
    async fn kill_after(&mut self, dir: &Path, wait: Duration, round: u64, rng: &mut Rng) {
        let process = Process::start(dir);
        let cable = process.client();
        let before = self.acknowledged();
        cable.status().await.unwrap();
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
        let process = Process::start(dir);
        self.check(&process.client()).await;
        if round % 2 == 1 {
            process::verify(dir);
        }
        process.kill();
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
             were applied and {} were not; {} of them were commits of several changes",
            count(|writer| writer.applied),
            count(|writer| writer.not_applied),
            count(|writer| writer.unacknowledged_commits),
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
