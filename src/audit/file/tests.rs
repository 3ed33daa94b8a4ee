//! Audit logs that are restarted, rotated, lost, torn and damaged.

use super::{
    super::{Action, Change, Origin, chain::verify},
    names::with_suffix,
    *,
};

const LIMITS: Limits = Limits { file_bytes: 1 << 20, files: 3 };

fn line(head: Revision) -> Line {
    let change = Change { name: "tags/a".into(), action: Action::Put, revision: head };
    let event = Event::Write { origin: Origin::scheduler(), outcome: "committed", changes: vec![change] };
    Line::new(Some(head), &event, head)
}

fn open(path: &Path) -> AuditFile {
    AuditFile::open(path, LIMITS).unwrap()
}

fn write(file: &mut AuditFile, heads: std::ops::Range<i64>) {
    heads.for_each(|head| file.append(head, &[line(head)]).unwrap());
}

#[test]
fn the_chain_continues_after_a_restart_and_a_line_cut_short() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let mut file = AuditFile::open(&path, LIMITS).unwrap();
    assert_eq!(file.head(), 0);
    write(&mut file, 1..4);
    drop(file);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
    let whole = fs::read(&path).unwrap();
    for cut in ["", "{", "{\"prev\":\"0000", "\u{0}\u{0}"] {
        fs::write(&path, [&whole[..], cut.as_bytes()].concat()).unwrap();
        let mut file = AuditFile::open(&path, LIMITS).unwrap();
        assert_eq!(file.head(), 3, "{cut:?}");
        write(&mut file, 4..6);
        assert_eq!(verify(std::slice::from_ref(&path)).unwrap().lines, 5, "{cut:?}");
    }
}

/// Four lines that one append wrote after three others, with units of 512 bytes that are not on the disk.
#[test]
fn lines_of_one_append_that_a_power_cut_tore_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let mut file = AuditFile::open(&path, LIMITS).unwrap();
    write(&mut file, 1..4);
    let whole = fs::read(&path).unwrap();
    let long = |head| {
        let change =
            Change { name: format!("tags/{}", "a".repeat(700)), action: Action::Put, revision: head };
        let origin = Origin::scheduler();
        Line::new(Some(head), &Event::Write { origin, outcome: "committed", changes: vec![change] }, 9)
    };
    file.append(9, &(4..8).map(long).collect::<Vec<_>>()).unwrap();
    drop(file);
    let appended = fs::read(&path).unwrap();
    let units = appended.len().div_ceil(512) - whole.len() / 512;
    for lost in 1..1_u32 << units {
        let mut torn = appended.clone();
        for (at, byte) in torn.iter_mut().enumerate().skip(whole.len()) {
            let unit = at / 512 - whole.len() / 512;
            *byte *= u8::from(lost >> unit & 1 == 0);
        }
        fs::write(&path, torn).unwrap();
        let mut file = AuditFile::open(&path, LIMITS).unwrap_or_else(|error| panic!("{lost:b}: {error}"));
        let head = file.head();
        assert!((3..8).contains(&head), "{lost:b}: {head}");
        write(&mut file, head + 1..head + 3);
        assert_eq!(verify(std::slice::from_ref(&path)).unwrap().lines, head as u64 + 2, "{lost:b}");
    }
    // A blank line in front of lines of other times is damage of another kind: they remain.
    let file = AuditFile::open(&path, LIMITS).unwrap();
    drop(file);
    let mut damaged = fs::read(&path).unwrap();
    damaged[..100].fill(0);
    fs::write(&path, &damaged).unwrap();
    drop(AuditFile::open(&path, LIMITS).unwrap());
    assert_eq!(fs::read(&path).unwrap(), damaged);
    let binary = [&[0; 600][..], b"\x7fELF\x01\x02\n"].concat();
    fs::write(&path, &binary).unwrap();
    assert!(AuditFile::open(&path, LIMITS).is_err());
    assert_eq!(fs::read(&path).unwrap(), binary);
}

#[test]
fn full_files_are_followed_by_others_and_the_removal_of_one_is_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let limits = Limits { file_bytes: 1_000, files: 3 };
    let mut file = AuditFile::open(&path, limits).unwrap();
    write(&mut file, 1..100);
    let earlier = earlier_files(&path).unwrap();
    assert_eq!(earlier.len(), 3);
    let mut paths: Vec<_> = earlier.into_iter().map(|(_, path)| path).collect();
    paths.push(path.clone());
    let chain = verify(&paths).unwrap();
    assert_ne!(chain.first, "0".repeat(64));
    let text = fs::read_to_string(&paths[2]).unwrap();
    assert!(text.contains("\"event\":\"file_removed\",\"file\":\"audit.log."), "{text}");
    for path in &paths {
        assert!(fs::metadata(path).unwrap().len() < 1_500);
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, MODE);
    }
    // The last file was moved away by a person: the chain continues.
    drop(file);
    fs::rename(&path, with_suffix(&path, "999999")).unwrap();
    let mut file = AuditFile::open(&path, Limits { files: 4, ..limits }).unwrap();
    assert_eq!(file.head(), 99);
    write(&mut file, 100..102);
    paths[3] = with_suffix(&path, "999999");
    paths.push(path);
    assert_eq!(verify(&paths).unwrap().lines, chain.lines + 2);
}

#[test]
fn only_one_process_writes_a_log_and_only_a_log_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let _file = AuditFile::open(&path, LIMITS).unwrap();
    assert!(AuditFile::open(&path, LIMITS).unwrap_err().to_string().contains("another process"));
    for (name, content) in [("other", "a b c\n"), ("half", "abc"), ("json", "{\"a\":1}\n")] {
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        assert!(AuditFile::open(&path, LIMITS).is_err(), "{name}");
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
    assert!(AuditFile::open(Path::new("/dev/full"), LIMITS).is_err());
}

#[test]
fn after_a_failed_write_nothing_follows_a_line_cut_short() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let mut file = AuditFile::open(&path, LIMITS).unwrap();
    write(&mut file, 1..3);
    let real = file.live.replace(File::options().write(true).open("/dev/full").unwrap());
    assert_eq!(file.write(b"x").unwrap_err().kind(), io::ErrorKind::StorageFull);
    // A device cannot be cut to the whole lines, so nothing more is written.
    file.live = real;
    assert!(file.broken().is_some());
    assert!(file.append(3, &[line(3)]).is_err());
    assert_eq!(verify(&[path]).unwrap().lines, 2);
}

#[test]
fn a_lost_file_is_followed_by_one_that_states_it() {
    type Lose = fn(&Path);
    let cases: [(&str, Lose, &str); 6] = [
        ("removed", |path| fs::remove_file(path).unwrap(), "removed or renamed"),
        ("renamed", |path| fs::rename(path, path.with_extension("old")).unwrap(), "removed or renamed"),
        (
            "rotated by another program",
            |path| {
                fs::rename(path, path.with_extension("old")).unwrap();
                fs::write(path, "").unwrap();
            },
            "replaced",
        ),
        (
            "replaced",
            |path| {
                fs::remove_file(path).unwrap();
                fs::write(path, "x\n").unwrap();
            },
            "replaced",
        ),
        ("emptied", |path| fs::write(path, "").unwrap(), "changed"),
        (
            "cut short",
            |path| {
                let file = OpenOptions::new().write(true).open(path).unwrap();
                file.set_len(file.metadata().unwrap().len() - 10).unwrap();
            },
            "changed",
        ),
    ];
    for (name, lose, reason) in cases {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let mut file = open(&path);
        write(&mut file, 1..4);
        assert!(!file.is_due());
        let before = fs::read(&path).unwrap();
        lose(&path);
        assert!(file.is_due(), "{name}");
        write(&mut file, 4..6);
        assert!(!file.is_due(), "{name}");
        let text = fs::read_to_string(&path).unwrap();
        let first = text.lines().next().unwrap();
        assert!(first.contains("\"event\":\"file_lost\"") && first.contains(reason), "{name}: {text}");
        // The new file continues the chain, so the missing lines show and the whole ones verify.
        let chain = verify(std::slice::from_ref(&path)).unwrap();
        assert!(chain.notes[0].contains(reason), "{name}: {:?}", chain.notes);
        let damaged = dir.path().join("audit.log.000001");
        if damaged.exists() {
            assert!(verify(&[damaged, path.clone()]).is_err(), "{name}");
        }
        let whole = dir.path().join("whole");
        fs::write(&whole, before).unwrap();
        assert_eq!(verify(&[whole, path.clone()]).unwrap().lines, 6, "{name}");
        drop(file);
        assert_eq!(open(&path).head(), 5, "{name}");
    }
}

/// Another program that has taken the name and writes the log is not disturbed.
#[test]
fn a_file_that_another_process_has_open_is_not_moved() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let mut first = open(&path);
    write(&mut first, 1..3);
    fs::remove_file(&path).unwrap();
    let mut second = open(&path);
    write(&mut second, 1..2);
    assert!(first.append(3, &[line(3)]).unwrap_err().to_string().contains("another process"));
    write(&mut second, 2..3);
    drop(second);
    write(&mut first, 3..4);
}

#[test]
fn lines_that_could_not_be_written_precede_all_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let mut file = open(&path);
    write(&mut file, 1..4);
    let correction = Event::NotCommitted { after: 1, to: 3, reason: "no space".into() };
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let deferred = [Line::new(Some(1), &correction, 0)];
    file.append_or_defer(0, deferred).unwrap_err();
    assert!(file.append(2, &[line(2)]).is_err() && file.is_due());
    fs::remove_dir(&path).unwrap();
    write(&mut file, 2..3);
    let text = fs::read_to_string(&path).unwrap();
    let events: Vec<_> = text.lines().map(|line| line.split("\"event\":\"").nth(1).unwrap()).collect();
    assert!(events[0].starts_with("file_lost"), "{text}");
    assert!(events[1].starts_with("not_committed") && events[2].starts_with("write"), "{text}");
    assert_eq!((events.len(), file.head()), (3, 2));
}

#[test]
fn a_lower_bound_removes_all_files_above_it_at_the_next_append() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let limits = |files| Limits { file_bytes: 1_000, files };
    write(&mut AuditFile::open(&path, limits(10)).unwrap(), 1..100);
    assert_eq!(earlier_files(&path).unwrap().len(), 10);
    // A file that is not readable is removed, too.
    fs::write(&earlier_files(&path).unwrap()[1].1, "foreign\n").unwrap();
    let mut file = AuditFile::open(&path, limits(2)).unwrap();
    write(&mut file, 100..101);
    let earlier = earlier_files(&path).unwrap();
    assert_eq!(earlier.len(), 2);
    let mut paths: Vec<_> = earlier.into_iter().map(|(_, path)| path).collect();
    paths.push(path);
    let notes = verify(&paths).unwrap().notes;
    assert!(notes.iter().filter(|note| note.contains("removed")).count() >= 8, "{notes:?}");
}

#[test]
fn denials_do_not_displace_other_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let limits = Limits { file_bytes: 10_000, files: 3 };
    let mut file = AuditFile::open(&path, limits).unwrap();
    let denial = || {
        let (origin, reason) = (Origin::scheduler(), "no token".to_owned());
        Line::new(None, &Event::Denial { origin, code: "UNAUTHENTICATED", reason }, 0)
    };
    for _ in 0..1_000 {
        if file.has_room_for_denials() {
            file.append(0, &[denial()]).unwrap();
        }
    }
    assert!(fs::metadata(&path).unwrap().len() < 3_000);
    assert!(earlier_files(&path).unwrap().is_empty());
    write(&mut file, 1..40);
    assert!(file.has_room_for_denials(), "the next file has a share of its own");
}
