//! Stores and directories that a node does not open.

use std::{fs, path::Path, time::Duration};

use rusqlite::Connection;

use crate::process::{Process, refused};

/// Checks that a start ends with an error that contains `reason`.
fn assert_refused(dir: &Path, reason: &str) -> Duration {
    let (output, took) = refused(dir);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(reason), "{stderr}");
    took
}

#[tokio::test]
async fn a_second_process_on_the_same_directory_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let first = Process::start(dir.path());
    let cable = first.client();
    cable.status().await.unwrap();
    let took = assert_refused(dir.path(), "another process has this store open");
    assert!(took < Duration::from_secs(1), "{took:?}");
    cable.status().await.unwrap();
    first.kill();
    let next = Process::start(dir.path());
    next.client().status().await.unwrap();
}

#[tokio::test]
async fn a_store_of_another_version_is_refused_and_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path());
    process.client().status().await.unwrap();
    process.kill();
    let file = dir.path().join("cable.db");
    for version in [1, 99] {
        let database = Connection::open(&file).unwrap();
        database.pragma_update(None, "user_version", version).unwrap();
        database.close().unwrap();
        let before = fs::read(&file).unwrap();
        assert_refused(
            dir.path(),
            &format!("unsupported store version {version}: this release reads version 6"),
        );
        assert!(fs::read(&file).unwrap() == before);
    }
}

#[test]
fn a_database_of_another_program_is_refused_and_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cable.db");
    let database = Connection::open(&file).unwrap();
    database.execute_batch("CREATE TABLE recipe(title TEXT); INSERT INTO recipe VALUES('Soup')").unwrap();
    database.close().unwrap();
    let before = fs::read(&file).unwrap();
    assert_refused(dir.path(), "not a Cable store");
    assert!(fs::read(&file).unwrap() == before);
}

#[test]
fn a_file_that_is_no_database_is_refused_and_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cable.db");
    fs::write(&file, "Soup, stew and bread. ".repeat(100)).unwrap();
    let before = fs::read(&file).unwrap();
    assert_refused(dir.path(), "cable.db");
    assert!(fs::read(&file).unwrap() == before);
}
