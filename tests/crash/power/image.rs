//! The check of an image of the disk after a power cut.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use cable::{auth::CredentialFile, clock::Clock, config::Config};
use rusqlite::{Connection, OpenFlags, config::DbConfig};
use tokio::net::TcpListener;

use super::{disk::Image, recording::Recording};

const DATABASE: &str = "cable.db";

/// The state of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    log_id: i64,
    revision: i64,
    chain: Vec<u8>,
    /// The revisions of the newest entry of each name.
    entries: BTreeSet<i64>,
}

/// The directory in which the images are made: that of the recording, because a store knows the inode of its database.
pub(crate) struct Directory<'a> {
    recording: &'a Recording,
    dir: PathBuf,
    /// The database while an image has none.
    spare: PathBuf,
    /// The log id of the store and the chain of all revisions.
    log_id: i64,
    chain: BTreeMap<i64, Vec<u8>>,
}

impl<'a> Directory<'a> {
    pub(crate) fn new(recording: &'a Recording) -> Directory<'a> {
        let dir = recording.dir();
        let database = Connection::open(dir.join(DATABASE)).unwrap();
        let log_id = database.query_row("SELECT log_id FROM head", [], |row| row.get(0)).unwrap();
        let mut chain = database.prepare("SELECT revision, chain FROM chain").unwrap();
        let chain = chain.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let chain: BTreeMap<_, _> = chain.map(Result::unwrap).collect();
        assert!(recording.history.keys().eq(chain.keys()), "a revision is unknown");
        let spare = recording.root().join("spare");
        Directory { recording, dir, spare, log_id, chain }
    }

    /// Replaces the files of the directory by those of an image.
    pub(crate) fn write(&self, image: &Image) {
        let database = self.dir.join(DATABASE);
        if !self.spare.exists() {
            fs::rename(&database, &self.spare).unwrap();
        }
        for entry in fs::read_dir(&self.dir).unwrap().map(Result::unwrap) {
            fs::remove_file(entry.path()).unwrap();
        }
        if image.contains_key(DATABASE) {
            fs::rename(&self.spare, database).unwrap();
        }
        for (name, content) in image {
            let mut options = fs::File::options();
            let mut file = options.write(true).create(true).truncate(true).open(self.dir.join(name)).unwrap();
            file.write_all(content).unwrap();
        }
    }

    /// Checks an image of a power cut at a time, without a change of its files.
    pub(crate) fn check(&self, image: &Image, time: u64) -> Result<Option<State>, String> {
        match (self.check_credentials(time), self.check_store(image, time)) {
            (Ok(()), result) => result,
            (Err(fault), Ok(_)) => Err(fault),
            (Err(first), Err(second)) => Err(format!("{first}; {second}")),
        }
    }

    fn check_store(&self, image: &Image, time: u64) -> Result<Option<State>, String> {
        let acknowledged = self.recording.acknowledgements.iter().filter(|(at, _)| *at <= time);
        let acknowledged = acknowledged.map(|(_, head)| *head).max().unwrap_or(0);
        let verified = cable::admin::verify(&self.dir);
        if acknowledged == 0 && verified.is_err() {
            // The store was being created.
            return Ok(None);
        }
        verified.map_err(|error| error.to_string())?;
        let state = self.state()?;
        if state.revision < acknowledged {
            return Err(format!("revision {acknowledged} is lost: the store ends at {}", state.revision));
        }
        self.check_state(&state)?;
        let audited = audited(image);
        if audited < state.revision {
            return Err(format!("revision {} has no audit line: they end at {audited}", state.revision));
        }
        Ok(Some(state))
    }

    fn check_credentials(&self, time: u64) -> Result<(), String> {
        let found = CredentialFile::new(self.dir.join("credentials.toml")).read();
        let found = found.map_err(|error| format!("credentials: {error}"))?;
        let created = |(at, _): &&(u64, String)| *at <= time;
        let expected = self.recording.credentials.iter().filter(created).count();
        let names = self.recording.credentials.iter().map(|(_, name)| name);
        let is_prefix = found.iter().map(|entry| &entry.name).eq(names.take(found.len()));
        if found.len() < expected || !is_prefix {
            return Err(format!("{} credentials, expected {expected}", found.len()));
        }
        Ok(())
    }

    /// Checks that a state is the one that the store had at its revision.
    fn check_state(&self, state: &State) -> Result<(), String> {
        let State { log_id, revision, chain, entries } = state;
        if *log_id != self.log_id {
            return Err(format!("the log id {} became {log_id}", self.log_id));
        }
        if *revision > 0 && self.chain.get(revision) != Some(chain) {
            return Err(format!("the store has another history at revision {revision}"));
        }
        let is_within = |(first, last): &&(i64, i64)| first <= revision && revision < last;
        if let Some(commit) = self.recording.commits.iter().find(is_within) {
            return Err(format!("revision {revision} is within the commit {commit:?}"));
        }
        let history = self.recording.history.range(..=revision);
        let newest: BTreeMap<_, _> = history.map(|(revision, name)| (name, *revision)).collect();
        if !newest.values().copied().collect::<BTreeSet<i64>>().eq(entries) {
            return Err(format!("at revision {revision} the store has other entries: {entries:?}"));
        }
        Ok(())
    }

    fn state(&self) -> Result<State, String> {
        self.read_state().map_err(|error| format!("read: {error}"))
    }

    fn read_state(&self) -> rusqlite::Result<State> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
        let database = Connection::open_with_flags(self.dir.join(DATABASE), flags)?;
        database.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        let mut entries = database.prepare("SELECT revision FROM doc")?;
        let entries = entries.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        database.query_row("SELECT log_id, revision, chain FROM head", [], |row| {
            Ok(State { log_id: row.get(0)?, revision: row.get(1)?, chain: row.get(2)?, entries })
        })
    }

    /// Opens an image as a node does, and checks that the store is the same afterwards, with a whole audit log.
    pub(crate) fn open(&self, before: Option<State>) -> Result<Option<State>, String> {
        let mut config = Config::default();
        config.store.dir.clone_from(&self.dir);
        config.store.reserve_bytes = 0;
        config.server.ops_listen = None;
        config.audit.file = Some(self.dir.join("audit.log"));
        let opened = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
                let stopped = std::future::ready(());
                cable::server::run(config, Clock::system(), listener, stopped).await
            })
        });
        opened.map_err(|error| format!("refused: {error:?}"))?;
        self.wait_until_closed();
        let after = self.state()?;
        // A store that was never served may get another log id.
        if let Some(before) = before.filter(|before| before.revision > 0 && *before != after) {
            return Err(format!("the node changed the store from {before:?} to {after:?}"));
        }
        let mut files: Vec<_> = fs::read_dir(&self.dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| is_audit(path))
            .collect();
        files.sort();
        // The file without a number is the newest.
        files.rotate_left(1);
        cable::audit::verify(&files).map_err(|error| error.to_string())?;
        Ok(Some(after))
    }

    /// The threads of a node that has stopped close their files a little later. SQLite shares what it knows of a database
    /// among all that a process has open.
    fn wait_until_closed(&self) {
        let is_open = |entry: std::io::Result<fs::DirEntry>| {
            let file = fs::read_link(entry.unwrap().path());
            file.is_ok_and(|file| file.starts_with(&self.dir))
        };
        let start = Instant::now();
        while fs::read_dir("/proc/self/fd").unwrap().any(is_open) {
            assert!(start.elapsed() < Duration::from_secs(10), "a node that has stopped has files open");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn is_audit(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_string_lossy();
    name.strip_prefix("audit.log").is_some_and(|rest| rest.chars().all(|c| c == '.' || c.is_ascii_digit()))
}

/// Returns the newest revision that a whole line of the audit log describes.
fn audited(image: &Image) -> i64 {
    let files = image.iter().filter(|(name, _)| name.starts_with("audit.log"));
    let lines = files.flat_map(|(_, content)| content.split_inclusive(|byte| *byte == b'\n'));
    let head = |line: &[u8]| {
        let line = std::str::from_utf8(line).ok()?.strip_suffix("}\n")?;
        let (_, rest) = line.split_once("\"head\":")?;
        rest.split_once(',')?.0.parse().ok()
    };
    lines.filter_map(head).max().unwrap_or(0)
}
