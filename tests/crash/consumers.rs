//! Nodes and followers are killed at random. A consumer misses no change, and no acknowledged position is lost.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use cable_client::{Cable, Position, v1};
use serde_json::Value;

use crate::{
    dice::Rng,
    kills,
    process::{Process, verify},
    seed,
};

/// The name that the follower has, and the one of the caller that acknowledges its own writes.
const FOLLOWER: &str = "follower";
const DIRECT: &str = "direct";

/// The number of tags that are written.
const TAGS: u64 = 7;

/// A time limit longer than any step takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The newest revision of each name that a follower has printed, and the lines that it repeated.
#[derive(Default)]
struct Applied {
    revisions: BTreeMap<String, i64>,
    changes: usize,
    repeated: usize,
}

impl Applied {
    /// Applies a line. The last line of a process that was killed can be incomplete: it was not acknowledged.
    fn apply(&mut self, line: &str) {
        let Ok(line) = serde_json::from_str::<Value>(line) else { return };
        let Some(change) = line.get("change") else { return };
        let name = change["upsert"]["tag"]["name"].as_str().unwrap().to_owned();
        let revision: i64 = change["revision"].as_str().unwrap().parse().unwrap();
        let last = self.revisions.entry(name).or_default();
        self.changes += 1;
        self.repeated += usize::from(*last >= revision);
        *last = revision.max(*last);
    }
}

/// `cable feed watch --consumer`, which prints what it applies.
struct Follower {
    child: Child,
    reader: thread::JoinHandle<()>,
}

impl Follower {
    fn start(address: SocketAddr, applied: &Arc<Mutex<Applied>>) -> Follower {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cable"));
        command.env_clear().args(["feed", "watch", "-o", "jsonl", "--consumer", FOLLOWER]);
        command.arg("--endpoint").arg(format!("http://{address}"));
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let (lines, applied) = (BufReader::new(child.stdout.take().unwrap()).lines(), applied.clone());
        let reader = thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                applied.lock().unwrap().apply(&line);
            }
        });
        Follower { child, reader }
    }

    /// Sends SIGKILL, and waits until everything that was printed is applied.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.reader.join().unwrap();
    }
}

/// The positions that a caller has acknowledged, or has tried to.
#[derive(Default)]
struct Acknowledged {
    confirmed: AtomicI64,
    sent: AtomicI64,
}

/// Writes tags until a call fails, and acknowledges the position of each write as another consumer.
async fn write(cable: Cable, mut rng: Rng, stop: Arc<AtomicBool>, acknowledged: Arc<Acknowledged>) {
    while !stop.load(SeqCst) {
        let mut tag = v1::Tag::default();
        tag.name = format!("tags/t{}", rng.between(0, TAGS - 1));
        tag.display_name = format!("{:x}", rng.next());
        let Ok(written) = cable.put(tag).await else { return };
        let position: Position = written.position;
        acknowledged.sent.fetch_max(position.revision, SeqCst);
        let Ok(reached) = cable.acknowledge(DIRECT, &position).await else { return };
        assert!(reached.revision >= position.revision, "{reached:?} {position:?}");
        acknowledged.confirmed.fetch_max(position.revision, SeqCst);
    }
}

/// Returns an address that is free now.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn start(address: SocketAddr, dir: &Path) -> (Process, Cable) {
    let process = Process::start_on(&address.to_string(), dir, &[]);
    let cable = process.client();
    (process, cable)
}

/// Checks that no acknowledged position is lost.
async fn check_acknowledged(cable: &Cable, acknowledged: &Acknowledged) {
    let consumers = cable.consumers().await.unwrap();
    let direct = consumers.iter().find(|consumer| consumer.consumer == DIRECT);
    let revision = direct.map_or(0, |direct| direct.position.as_ref().unwrap().revision);
    let range = acknowledged.confirmed.load(SeqCst)..=acknowledged.sent.load(SeqCst);
    assert!(range.contains(&revision), "{revision} is not in {range:?}");
    assert!(consumers.iter().all(|consumer| consumer.reset_reason() == v1::FeedResetReason::Unspecified));
}

/// Returns the newest revision of each tag.
async fn stored(cable: &Cable) -> BTreeMap<String, i64> {
    use futures_util::TryStreamExt as _;
    let tags: Vec<v1::Tag> = cable.tags().items().try_collect().await.unwrap();
    tags.into_iter().map(|tag| (tag.name, tag.revision)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_misses_nothing_when_nodes_and_followers_are_killed() {
    let mut rng = Rng::new(seed("consumers"));
    let dir = tempfile::tempdir().unwrap();
    let (address, acknowledged) = (free_address(), Arc::<Acknowledged>::default());
    let applied = Arc::<Mutex<Applied>>::default();
    let (process, mut cable) = start(address, dir.path());
    let mut process = Some(process);
    let mut follower = Follower::start(address, &applied);
    // Everything after this is to be followed.
    let deadline = Instant::now() + PATIENCE;
    while cable.consumers().await.unwrap().is_empty() {
        assert!(Instant::now() < deadline, "the follower was not stored");
    }
    for kill in 0..kills() {
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..3)
            .map(|_| tokio::spawn(write(cable.clone(), rng.fork(), stop.clone(), acknowledged.clone())))
            .collect();
        tokio::time::sleep(Duration::from_millis(rng.between(20, 600))).await;
        if rng.one_in(2) {
            follower.kill();
            follower = Follower::start(address, &applied);
            tokio::time::sleep(Duration::from_millis(rng.between(0, 300))).await;
        }
        let killed = if rng.one_in(2) { process.take() } else { None };
        let kills_node = killed.is_some();
        if let Some(process) = killed {
            process.kill();
        }
        stop.store(true, SeqCst);
        for writer in writers {
            writer.await.unwrap();
        }
        if kills_node {
            if kill % 4 == 0 {
                verify(dir.path());
            }
            let started = start(address, dir.path());
            (process, cable) = (Some(started.0), started.1);
        }
        check_acknowledged(&cable, &acknowledged).await;
    }

    // The follower that runs now catches up, and so holds the newest revision of each tag.
    let expected = stored(&cable).await;
    let deadline = Instant::now() + PATIENCE;
    while applied.lock().unwrap().revisions != expected {
        let held = applied.lock().unwrap().revisions.clone();
        assert!(Instant::now() < deadline, "held {held:?}\nstored {expected:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let head = cable.status().await.unwrap().head.unwrap();
    let of_follower = async || {
        let consumers = cable.consumers().await.unwrap();
        consumers.into_iter().find(|consumer| consumer.consumer == FOLLOWER).unwrap()
    };
    while of_follower().await.lag_revisions > 0 {
        assert!(Instant::now() < deadline, "{:?} {head:?}", of_follower().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    follower.kill();
    let applied = applied.lock().unwrap();
    assert!(applied.changes > 0);
    println!(
        "{} revisions, {} changes printed, {} of them repeated; {} acknowledged directly",
        head.revision,
        applied.changes,
        applied.repeated,
        acknowledged.confirmed.load(SeqCst)
    );
    drop(process);
    verify(dir.path());
}
