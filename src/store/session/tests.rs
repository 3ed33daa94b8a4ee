//! Stores that were stopped, killed, copied and restored, and the history that each one continues.

use std::{collections::BTreeMap, sync::Arc};

use super::{file::SIZE, *};
use crate::store::{
    self, ReadOnlyStore, Store, Writer,
    directory::LOCK,
    fixture::{apply, article, faults, open},
};

/// The log id of the stores that the fixture creates.
const ORIGINAL: LogId = LogId(7);

type Files = BTreeMap<String, Vec<u8>>;

fn write(writer: &mut Writer, n: i64) {
    apply(writer, &[article(&format!("a{n}"), "Storm", &["t"], n)]);
}

fn options(dir: &Path) -> store::Options {
    store::Options { dir: dir.to_owned(), readers: 1, reserve_bytes: 0, health: Arc::default() }
}

/// Closes a store. The last of its connections, that of a reader thread, removes the write-ahead log.
fn close(dir: &Path, (store, writer): (Arc<Store>, Writer)) -> Head {
    let head = store.head().as_ref().clone();
    drop((store, writer));
    while dir.join("cable.db-wal").exists() {
        std::thread::yield_now();
    }
    head
}

/// Opens a store, writes to it and closes it.
fn run(dir: &Path, n: i64) -> Head {
    let (store, mut writer) = open(dir);
    write(&mut writer, n);
    close(dir, (store, writer))
}

fn opened(dir: &Path) -> Head {
    close(dir, Store::open(options(dir), LogId::random()).unwrap())
}

fn open_error(dir: &Path) -> OpenError {
    Store::open(options(dir), ORIGINAL).expect_err("opening the store fails")
}

/// Returns the files of a directory as a copy takes them.
fn files(dir: &Path) -> Files {
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    let names = fs::read_dir(dir).unwrap().map(|entry| name(entry.unwrap()));
    let names = names.filter(|name| name != LOCK && !name.ends_with("-shm"));
    names.map(|name| (name.clone(), fs::read(dir.join(name)).unwrap())).collect()
}

/// Writes files over existing ones, as `cp` does.
fn put(dir: &Path, files: &Files) {
    fs::create_dir_all(dir).unwrap();
    files.iter().for_each(|(name, bytes)| fs::write(dir.join(name), bytes).unwrap());
}

/// Leaves a store as SIGKILL does, with its last commits in the write-ahead log.
fn killed(dir: &Path, commits: std::ops::Range<i64>) -> Files {
    let (store, mut writer) = open(dir);
    commits.for_each(|n| write(&mut writer, n));
    let files = files(dir);
    close(dir, (store, writer));
    put(dir, &files);
    files
}

fn backup(dir: &Path, to: &Path) {
    ReadOnlyStore::open(dir).unwrap().copy_to(to).unwrap();
}

fn session_file(dir: &Path) -> PathBuf {
    let files = session_files(dir).unwrap();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

#[test]
fn a_restart_a_kill_and_a_move_continue_the_history() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, moved) = (temp.path().join("store"), temp.path().join("moved"));
    run(&dir, 1);
    assert_eq!((opened(&dir).log_id, opened(&dir).revision), (ORIGINAL, 1));
    let files = killed(&dir, 2..4);
    assert!(files.contains_key("cable.db-wal"), "{:?}", files.keys());
    let head = opened(&dir);
    assert_eq!((head.log_id, head.revision), (ORIGINAL, 3));
    fs::rename(&dir, &moved).unwrap();
    assert_eq!(opened(&moved), head);
    // A power cut can remove the newest head from the session file.
    let path = session_file(&moved);
    let record = Record::read(&path).unwrap();
    fs::write(&path, Record { revision: 1, chain: chain_of(&moved, 1), ..record }.encode()).unwrap();
    assert_eq!(opened(&moved), head);
}

fn chain_of(dir: &Path, revision: Revision) -> Hash {
    ReadOnlyStore::open(dir)
        .unwrap()
        .read(|snapshot| Ok(chain_at(snapshot.connection, revision)?))
        .unwrap()
        .unwrap()
}

/// A way to copy the store in the first directory, which was stopped at revision 2, to the second one.
type Copying = (&'static str, fn(&Path, &Path));

const COPIES: &[Copying] = &[
    ("a backup", |from, to| backup(from, &to.join(DATABASE))),
    ("the database alone", |from, to| fs::write(to.join(DATABASE), &files(from)[DATABASE]).unwrap()),
    ("the directory", |from, to| put(to, &files(from))),
    ("the directory of a killed store", |from, to| put(to, &killed(from, 0..0))),
    ("the directory of a running store", |from, to| {
        let (_store, _writer) = open(from);
        put(to, &files(from));
    }),
    ("the directory, file by file", |from, to| {
        let beside = from.with_extension("beside");
        put(&beside, &files(from));
        files(&beside).keys().for_each(|name| fs::rename(beside.join(name), to.join(name)).unwrap());
    }),
    ("the directory without the session file", |from, to| {
        fs::remove_file(session_file(from)).unwrap();
        put(to, &files(from));
    }),
];

#[test]
fn every_copy_is_another_history() {
    for (name, copy) in COPIES {
        let temp = tempfile::tempdir().unwrap();
        let (from, to) = (temp.path().join("from"), temp.path().join("to"));
        run(&from, 1);
        let original = run(&from, 2);
        fs::create_dir(&to).unwrap();
        copy(&from, &to);
        let head = opened(&to);
        assert_ne!(head.log_id, ORIGINAL, "{name}");
        assert_eq!(Head { log_id: ORIGINAL, ..head.clone() }, original, "{name}");
        assert_eq!(opened(&to), head, "{name}: the copy keeps its log id");
        assert_eq!(faults(&to), Vec::<String>::new(), "{name}");
    }
}

/// A way to restore an older state. The files are those at revision 2, when the store was stopped. It was then
/// continued to revision 4, and stopped.
type Restoring = (&'static str, fn(&Path, &Files));

const RESTORES: &[Restoring] = &[
    ("the database, written over", |dir, old| fs::write(dir.join(DATABASE), &old[DATABASE]).unwrap()),
    ("the database, moved into the directory", |dir, old| {
        fs::write(dir.join("x"), &old[DATABASE]).unwrap();
        fs::rename(dir.join("x"), dir.join(DATABASE)).unwrap();
    }),
    ("all files, written over", |dir, old| put(dir, old)),
    ("the directory, replaced", |dir, old| {
        fs::remove_dir_all(dir).unwrap();
        put(dir, old);
    }),
    ("a backup, written over", |dir, old| {
        let beside = dir.with_extension("beside");
        put(&beside, old);
        backup(&beside, &dir.join("x"));
        fs::write(dir.join(DATABASE), fs::read(dir.join("x")).unwrap()).unwrap();
    }),
    ("a copy that was continued elsewhere", |dir, old| {
        let beside = dir.with_extension("beside");
        put(&beside, old);
        for n in 10..20 {
            run(&beside, n);
        }
        put(dir, &files(&beside));
    }),
];

#[test]
fn a_restored_older_state_is_another_history() {
    for (name, restore) in RESTORES {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("store");
        run(&dir, 1);
        run(&dir, 2);
        let old = files(&dir);
        run(&dir, 3);
        run(&dir, 4);
        restore(&dir, &old);
        let head = opened(&dir);
        assert_ne!(head.log_id, ORIGINAL, "{name}");
        assert_ne!(head.revision, 4, "{name}");
        assert_eq!(opened(&dir), head, "{name}");
        assert_eq!(session_files(&dir).unwrap().len(), 1, "{name}");
    }
}

#[test]
fn a_damaged_session_file_makes_a_copy() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("store");
    let mut log_id = run(&dir, 1).log_id;
    for damage in [
        (|file: &Path| fs::write(file, b"").unwrap()) as fn(&Path),
        |file| fs::write(file, &fs::read(file).unwrap()[..SIZE - 1]).unwrap(),
        |file| {
            let mut bytes = fs::read(file).unwrap();
            bytes[20] ^= 1;
            fs::write(file, bytes).unwrap();
        },
        |file| fs::rename(file, file.with_file_name("cable.session-0000000000000001")).unwrap(),
    ] {
        damage(&session_file(&dir));
        assert_ne!(std::mem::replace(&mut log_id, opened(&dir).log_id), log_id);
    }
}

#[test]
fn a_crash_at_the_start_of_a_session_continues_the_history() {
    for steps in 1..=3 {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("store");
        let head = run(&dir, 1);
        let old = session_file(&dir);
        let previous = Record::read(&old).unwrap();
        let session = Session::create(&dir, Record { id: 99, previous: previous.id, ..previous }).unwrap();
        if steps > 1 {
            let mut connection = Connection::open(dir.join(DATABASE)).unwrap();
            name_session(&mut connection, ORIGINAL, (99, previous.id)).unwrap();
        }
        if steps > 2 {
            fs::remove_file(old).unwrap();
        }
        drop(session);
        assert_eq!(opened(&dir), head, "after {steps} steps");
        session_file(&dir);
    }
}

/// Each start either names its session in the database or does not get that far. The last one, whose order of removals
/// is that of every start, is cut off after some of them.
#[test]
fn starts_that_are_cut_off_in_a_row_continue_the_history() {
    for (naming, removals) in
        (0..1_u64 << 3).flat_map(|naming| (0..=4).map(move |removals| (naming, removals)))
    {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("store");
        let head = run(&dir, 1);
        let first = Record::read(&session_file(&dir)).unwrap();
        let mut named = first.id;
        let mut start = |id: u64, is_named: bool| {
            Session::create(&dir, Record { id, previous: named, ..first }).unwrap();
            if is_named {
                let mut connection = Connection::open(dir.join(DATABASE)).unwrap();
                name_session(&mut connection, ORIGINAL, (id, named)).unwrap();
                named = id;
            }
            named
        };
        let named = (0..3).map(|n| start(100 + n, naming >> n & 1 == 1)).last().unwrap();
        let mut old = session_files(&dir).unwrap();
        let records: Vec<_> = old.iter().map(|file| Record::read(file)).collect();
        start(103, true);
        lineage::sort_for_removal(&mut old, &lineage::family(&records, named).unwrap());
        old[..removals].iter().for_each(|file| fs::remove_file(file).unwrap());
        assert_eq!(opened(&dir), head, "named {naming:03b}, {removals} removed");
        session_file(&dir);
    }
}

#[test]
fn a_backup_of_a_lost_original_can_continue_its_history() {
    let temp = tempfile::tempdir().unwrap();
    let (from, to) = (temp.path().join("from"), temp.path().join("to"));
    let original = run(&from, 1);
    fs::create_dir(&to).unwrap();
    backup(&from, &to.join(DATABASE));
    let restored = Store::open_as(options(&to), LogId(9), Identity::Original).unwrap();
    assert_eq!(close(&to, restored), original);
    assert_eq!(opened(&to), original);
}

#[test]
fn a_database_without_acknowledged_commits_is_refused() {
    let ways: [fn(&Path, &Files); 4] = [
        |dir, _| fs::remove_file(dir.join("cable.db-wal")).unwrap(),
        |dir, _| fs::write(dir.join("cable.db-wal"), b"").unwrap(),
        |dir, files| fs::write(dir.join("cable.db-wal"), &files["cable.db-wal"][..20_000]).unwrap(),
        |dir, _| {
            fs::remove_file(dir.join("cable.db-wal")).unwrap();
            fs::remove_file(dir.join(DATABASE)).unwrap();
        },
    ];
    for (index, lose) in ways.into_iter().enumerate() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("store");
        run(&dir, 1);
        let complete = killed(&dir, 2..6);
        lose(&dir, &complete);
        let filled = || files(&dir).into_iter().filter(|(_, bytes)| !bytes.is_empty()).collect::<Files>();
        let before = filled();
        let error = open_error(&dir);
        drop(ReadOnlyStore::open(&dir));
        assert!(filled() == before, "{index}: nothing was changed");
        // A truncated log is rejected before it is opened.
        let is_cut = matches!(error, OpenError::DamagedLog { .. });
        assert!(is_cut || matches!(error, OpenError::Behind { acknowledged: 5, .. }), "{index}: {error}");
        if is_cut {
            fs::remove_file(dir.join("cable.db-wal")).unwrap();
        }
        assert!(error.to_string().contains("cable restore"), "{error}");
        fs::remove_file(session_file(&dir)).unwrap();
        assert_ne!(opened(&dir).log_id, ORIGINAL, "{index}: the remedy");
    }
}

/// Stores with a write-ahead log of another database.
fn replaced(temp: &Path) -> Vec<(&'static str, PathBuf)> {
    let mut stores = Vec::new();
    let mut store = |name: &'static str| -> PathBuf {
        let dir = temp.join(name.replace(' ', "-"));
        stores.push((name, dir.clone()));
        dir
    };
    let dir = store("a backup");
    run(&dir, 1);
    backup(&dir, &temp.join("copy"));
    killed(&dir, 2..6);
    fs::copy(temp.join("copy"), dir.join(DATABASE)).unwrap();

    let dir = store("the database of an earlier session");
    run(&dir, 1);
    fs::copy(dir.join(DATABASE), temp.join("raw")).unwrap();
    killed(&dir, 2..6);
    fs::copy(temp.join("raw"), dir.join(DATABASE)).unwrap();

    let dir = store("the database of another store");
    killed(&dir, 1..6);
    run(&temp.join("other"), 1);
    fs::copy(temp.join("other").join(DATABASE), dir.join(DATABASE)).unwrap();

    let dir = store("a log of another store cut short");
    run(&dir, 1);
    let log = killed(&temp.join("third"), 1..9)["cable.db-wal"].clone();
    fs::write(dir.join("cable.db-wal"), &log[..log.len() * 2 / 3]).unwrap();

    let dir = store("a log of an earlier session");
    let log = killed(&dir, 1..6)["cable.db-wal"].clone();
    run(&dir, 6);
    fs::write(dir.join("cable.db-wal"), log).unwrap();
    stores
}

#[test]
fn a_write_ahead_log_of_another_database_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    for (name, dir) in replaced(temp.path()) {
        let before = files(&dir);
        for _ in 0..2 {
            let error = open_error(&dir);
            assert!(matches!(error, OpenError::ForeignLog(_)), "{name}: {error}");
            assert!(error.to_string().contains("cable.db-wal"), "{name}: {error}");
            let read = ReadOnlyStore::open(&dir).err();
            assert!(matches!(read, Some(OpenError::ForeignLog(_))), "{name}: {read:?}");
        }
        assert!(files(&dir) == before, "{name}: nothing was changed");
        fs::remove_file(dir.join("cable.db-wal")).unwrap();
        let _none_of_a_new_store = fs::remove_file(dir.join("cable.db-shm"));
        if !name.starts_with("a log") {
            assert_ne!(opened(&dir).log_id, ORIGINAL, "{name}: the remedy");
            assert_eq!(faults(&dir), Vec::<String>::new(), "{name}");
        }
    }
}
