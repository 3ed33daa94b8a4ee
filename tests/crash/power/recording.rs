//! The recording of a program that writes, is killed, stopped and started again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use cable_client::{Cable, RemovalReason, v1};
use futures_util::future::join_all;
use v1::record::Record;

use super::disk::{Disk, Entry};
use crate::{
    dice::Rng,
    operation::{Acknowledged, Call, Effect, Operation, State},
    process::{Process, program},
};

/// The number of writers, which write at the same time.
const WRITERS: u64 = 3;

/// The number of commits that fill the write-ahead log and a file of the audit log, and their size.
const LARGE_COMMITS: u64 = 20;
const LARGE_COMMIT_SIZE: u64 = 300;

/// The acts and acknowledgements of the program. Times are lengths of the trace.
pub(crate) struct Recording {
    root: tempfile::TempDir,
    pub(crate) trace: Vec<u8>,
    /// For each acknowledged write, the time and the head that it proves.
    pub(crate) acknowledgements: Vec<(u64, i64)>,
    /// The name that each revision wrote.
    pub(crate) history: BTreeMap<i64, String>,
    /// The first and the last revision of each commit of several changes.
    pub(crate) commits: Vec<(i64, i64)>,
    /// The names of credentials, each with the time from which it exists.
    pub(crate) credentials: Vec<(u64, String)>,
    /// The operations without a response.
    pending: Vec<Operation>,
    /// The articles that can be removed.
    live: BTreeSet<String>,
    written: u64,
}

impl Recording {
    pub(crate) async fn new(rng: &mut Rng) -> Recording {
        let memory = Path::new("/dev/shm");
        let root = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let mut recording = Recording {
            root: root.unwrap(),
            trace: Vec::new(),
            acknowledgements: Vec::new(),
            history: BTreeMap::new(),
            commits: Vec::new(),
            credentials: Vec::new(),
            pending: Vec::new(),
            live: BTreeSet::new(),
            written: 0,
        };
        recording.compile();
        fs::create_dir(recording.dir()).unwrap();
        recording.record(rng).await;
        recording.trace = fs::read(recording.trace_path()).unwrap();
        recording
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// Returns the directory of the store, of the audit log and of the credentials.
    pub(crate) fn dir(&self) -> PathBuf {
        self.root().join("store")
    }

    fn trace_path(&self) -> PathBuf {
        self.root().join("trace")
    }

    fn compile(&self) {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash/recorder.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-O1", "-shared", "-fPIC", "-o"]).arg(self.root().join("recorder.so")).arg(source);
        assert!(compiler.status().unwrap().success());
    }

    /// Asserts that all changes of files were recorded: applied to an empty disk, they result in the files.
    pub(crate) fn assert_complete(&self, entries: &[Entry<'_>]) {
        let mut disk = Disk::default();
        entries.iter().for_each(|entry| disk.apply(&entry.call));
        let (recorded, found) = (disk.current(), Disk::of(&self.dir()).current());
        assert_eq!(recorded.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>());
        for (name, content) in &recorded {
            assert!(*content == found[name], "{name} was changed by a call that is not recorded");
        }
    }

    /// Every kind of end: killed in a write, at the start, and after large commits; stopped in order.
    async fn record(&mut self, rng: &mut Rng) {
        self.create_credential();
        self.write_until_killed(rng.between(120, 400), rng).await;
        self.create_credential();
        self.write_and_stop(6, rng).await;
        self.write_until_killed(rng.between(60, 200), rng).await;
        for _ in 0..2 {
            self.start(Some(rng.between(1, 40))).wait(Duration::from_secs(3));
        }
        self.write_and_stop(3, rng).await;

        let process = self.start(None);
        let cable = process.client();
        for _ in 0..LARGE_COMMITS {
            let commit = self.large_commit();
            self.run_all(&cable, vec![commit]).await;
        }
        self.kill_article(&cable, rng).await;
        process.kill();
        self.create_credential();
        self.write_and_stop(2, rng).await;
    }

    fn variables(&self, calls: Option<u64>) -> Vec<(&'static str, String)> {
        let path = |name: &str| self.root().join(name).display().to_string();
        let mut variables = vec![
            ("LD_PRELOAD", path("recorder.so")),
            ("RECORD_DIR", path("store")),
            ("RECORD_TRACE", path("trace")),
            ("CABLE__AUDIT__FILE", path("store/audit.log")),
            ("CABLE__AUDIT__MAX_FILE_BYTES", "1048576".to_owned()),
            ("CABLE__AUTH__ANONYMOUS", "admin".to_owned()),
        ];
        variables.extend(calls.map(|calls| ("RECORD_CALLS", calls.to_string())));
        variables
    }

    /// Starts the program on the files of the directory, stops it, and returns the trace of that.
    pub(crate) async fn record_recovery(&self) -> Vec<u8> {
        let trace = self.root().join("recovery");
        let mut variables = self.variables(None);
        variables.push(("RECORD_TRACE", trace.display().to_string()));
        let process = Process::start_with(&self.dir(), &variables);
        process.client().status().await.unwrap();
        process.stop();
        let recorded = fs::read(&trace).unwrap();
        fs::remove_file(trace).unwrap();
        recorded
    }

    fn start(&self, calls: Option<u64>) -> Process {
        Process::start_with(&self.dir(), &self.variables(calls))
    }

    fn now(&self) -> u64 {
        fs::metadata(self.trace_path()).unwrap().len()
    }

    fn create_credential(&mut self) {
        let name = format!("caller-{}", self.credentials.len());
        let mut command = program(&["token", "new", &name, "--role", "reader"], &self.dir());
        let output = command.envs(self.variables(None)).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.credentials.push((self.now(), name));
    }

    async fn write_until_killed(&mut self, calls: u64, rng: &mut Rng) {
        let process = self.start(Some(calls));
        let cable = process.client();
        self.repeat_pending(&cable).await;
        while self.pending.is_empty() {
            let operations = self.operations(rng);
            self.run_all(&cable, operations).await;
        }
        process.wait(Duration::from_secs(10));
    }

    async fn write_and_stop(&mut self, rounds: u64, rng: &mut Rng) {
        let process = self.start(None);
        let cable = process.client();
        self.repeat_pending(&cable).await;
        for _ in 0..rounds {
            let operations = self.operations(rng);
            self.run_all(&cable, operations).await;
        }
        self.kill_article(&cable, rng).await;
        assert!(self.pending.is_empty(), "{:?}", self.pending);
        process.stop();
    }

    /// A retry returns the revisions of the operation, whether it was applied before or not.
    async fn repeat_pending(&mut self, cable: &Cable) {
        let pending = std::mem::take(&mut self.pending);
        self.run_all(cable, pending).await;
    }

    async fn run_all(&mut self, cable: &Cable, operations: Vec<Operation>) {
        let trace = self.trace_path();
        let run = |operation: Operation| {
            let (cable, trace) = (cable.clone(), trace.clone());
            async move {
                let result = operation.run(&cable).await;
                (operation, result, fs::metadata(trace).unwrap().len())
            }
        };
        for (operation, result, time) in join_all(operations.into_iter().map(run)).await {
            match result {
                Ok(acknowledged) => self.acknowledge(&operation, &acknowledged, time),
                Err(error) => {
                    assert!(error.reason().is_none(), "{operation:?}: {error}");
                    self.pending.push(operation);
                }
            }
        }
    }

    fn acknowledge(&mut self, operation: &Operation, acknowledged: &Acknowledged, time: u64) {
        let revisions: Vec<i64> = acknowledged.revisions.iter().map(|revision| revision.unwrap()).collect();
        for (effect, revision) in operation.effects.iter().zip(&revisions) {
            assert_eq!(self.history.insert(*revision, effect.name.clone()), None);
            if operation.call == Call::Put {
                self.live.insert(effect.name.clone());
            }
        }
        let (first, last) = (revisions[0], revisions[revisions.len() - 1]);
        assert_eq!(last - first, revisions.len() as i64 - 1);
        self.commits.push((first, last));
        self.acknowledgements.push((time, last));
    }

    /// Returns an operation of each writer.
    fn operations(&mut self, rng: &mut Rng) -> Vec<Operation> {
        (0..WRITERS).map(|writer| self.operation(writer, rng)).collect()
    }

    fn operation(&mut self, writer: u64, rng: &mut Rng) -> Operation {
        let article = format!("articles/own-{writer}-{}", rng.between(0, 3));
        let (call, names) = match rng.between(0, 3) {
            0 => (Call::Put, vec![article]),
            1 => (Call::Put, vec![format!("tags/own-{writer}-{}", rng.between(0, 3))]),
            2 if self.live.remove(&article) => (Call::Remove, vec![article]),
            _ => (Call::Commit, (0..4).map(|n| format!("tags/group-{writer}-{n}")).collect()),
        };
        self.with_content(call, names)
    }

    /// Returns a commit with long names, so that it fills the audit log as well.
    fn large_commit(&mut self) -> Operation {
        let names = (0..LARGE_COMMIT_SIZE).map(|n| format!("tags/{n:0>120}"));
        self.with_content(Call::Commit, names.collect())
    }

    fn with_content(&mut self, call: Call, names: Vec<String>) -> Operation {
        self.written += 1;
        let marker = format!("As of write {}", self.written);
        let effect = |name: String| {
            let state = if call == Call::Remove {
                State::Moved(format!("articles/new-{}", self.written))
            } else if name.starts_with("tags/") {
                let mut tag = v1::Tag::default();
                (tag.name, tag.display_name) = (name.clone(), marker.clone());
                State::Live(Record::Tag(tag))
            } else {
                let mut article = v1::Article::default();
                (article.name, article.headline) = (name.clone(), marker.clone());
                article.summary = "The harbour was quiet. ".repeat(1 + self.written as usize % 80);
                State::Live(Record::Article(article))
            };
            Effect { name, state }
        };
        let effects = names.into_iter().map(effect).collect();
        Operation { request_id: format!("request-{}", self.written), call, effects }
    }

    /// Puts and kills an article, which empties the write-ahead log.
    async fn kill_article(&mut self, cable: &Cable, rng: &mut Rng) {
        let name = format!("articles/killed-{}-{}", self.written, rng.between(0, 9));
        let put = self.with_content(Call::Put, vec![name.clone()]);
        self.run_all(cable, vec![put]).await;
        let killed = cable.remove(&name, RemovalReason::Killed).await.unwrap();
        assert_eq!(self.history.insert(killed.revision, name), None);
        self.acknowledgements.push((self.now(), killed.revision));
    }
}
