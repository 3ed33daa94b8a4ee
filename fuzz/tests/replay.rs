//! Runs each target on its corpus, and on parts of it.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

use std::{collections::BTreeSet, fs, path::Path};

use cable_fuzz::TARGETS;

#[test]
fn every_target_holds_on_its_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, target) in TARGETS {
        let files: Vec<_> =
            fs::read_dir(corpus.join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!files.is_empty(), "{name} has no corpus");
        for file in files {
            let bytes = fs::read(&file).unwrap();
            target(&bytes);
            // Inputs that end early, or that start in the middle.
            for part in 1..8 {
                target(&bytes[..bytes.len() * part / 8]);
                target(&bytes[bytes.len() * part / 8..]);
            }
        }
    }
}

#[test]
fn every_folder_and_every_file_has_its_target() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names = |folder: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect()
    };
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!((names("corpus"), names("fuzz_targets")), (targets.clone(), targets));
}
