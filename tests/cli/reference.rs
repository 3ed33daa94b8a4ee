//! The reference documents, and the manual pages.

use std::{collections::BTreeMap, fs, path::Path};

use crate::support::{cable, code, run, stderr};

fn read(directory: &Path) -> BTreeMap<String, String> {
    let files = fs::read_dir(directory).unwrap().map(Result::unwrap);
    files
        .map(|file| (file.file_name().into_string().unwrap(), fs::read_to_string(file.path()).unwrap()))
        .collect()
}

#[test]
fn the_reference_documents_are_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    // Neither the terminal nor the variables of a machine are part of a reference.
    let output = cable(dir.path())
        .args(["reference", "."])
        .env("COLUMNS", "40")
        .env("CABLE_ENDPOINTS", "http://127.0.0.1:9")
        .output()
        .unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let committed = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference"));
    let current = read(dir.path());
    assert_eq!(
        current.keys().collect::<Vec<_>>(),
        ["cli.md", "errors.md", "metrics.md", "openapi.json", "settings.md"]
    );
    for (name, text) in &current {
        let lines = text.lines().zip(committed[name].lines());
        let differs = lines.into_iter().find(|(current, committed)| current != committed);
        assert_eq!(differs, None, "{name} is out of date: run `cargo run -p xtask -- gen`");
        assert_eq!(text, &committed[name], "{name}");
    }
    assert_eq!(current.len(), committed.len());
    // The help that people see has its own lines.
    for (name, content) in [
        ("cli.md", "## cable article put"),
        ("errors.md", "## STORE_FULL\n\nRESOURCE_EXHAUSTED. "),
        ("metrics.md", "## `cable_rpc_total`"),
        ("openapi.json", "\"/v1/articles/{id}\": {"),
        ("settings.md", "- Variable: `CABLE__SERVER__LAME_DUCK`"),
    ] {
        assert!(current[name].contains(content), "{name}");
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), "man pages");
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let pages = read(&dir.path().join("pages"));
    for name in ["cable.1", "cable-serve.1", "cable-article.1", "cable-article-get.1", "cable-check.1"] {
        assert!(pages[name].contains(".TH "), "{name}");
    }
    assert!(!pages.contains_key("cable-reference.1"), "the command is hidden");
}
