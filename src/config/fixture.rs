//! Layers for tests.

use std::path::PathBuf;

use super::{Effective, Flag, Layers};

/// Returns an environment.
pub(super) fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Returns a flag of the command line.
pub(super) fn flag(name: &'static str, key: &'static str, value: &str) -> Flag {
    Flag { name, key, value: value.to_owned() }
}

/// Returns a settings file, in a directory that is removed with it.
pub(super) fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cable.toml");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

/// Returns the error that a settings file causes. It names the file `FILE`.
pub(super) fn load_error(text: &str) -> String {
    let (_dir, path) = file(text);
    let error = Effective::load(Layers { file: Some(path.clone()), ..Default::default() }).unwrap_err();
    error.to_string().replace(&path.display().to_string(), "FILE")
}
