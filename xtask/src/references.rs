//! The documents in `docs/reference`, which the program writes from the declarations in its code.

use std::{collections::BTreeMap, env, error::Error, fs, path::Path, process::Command};

use crate::{Outcome, bindings::Scratch};

const REFERENCE: &str = "docs/reference";

/// Writes the documents.
pub(crate) fn write(root: &Path, written: String) -> Outcome {
    generate(root, &root.join(REFERENCE))?;
    Ok(format!("{written}, and {REFERENCE}"))
}

/// Compares the documents with the output of [`write()`].
pub(crate) fn check(root: &Path) -> Outcome {
    let scratch = Scratch::new()?;
    generate(root, &scratch.0)?;
    let (current, committed) = (read(&scratch.0)?, read(&root.join(REFERENCE))?);
    match current.keys().chain(committed.keys()).find(|name| current.get(*name) != committed.get(*name)) {
        None => Ok("the generated files are up to date".to_owned()),
        Some(name) => {
            Err(format!("{REFERENCE}/{name} is out of date: run `cargo run -p xtask -- gen` and commit it")
                .into())
        }
    }
}

/// Runs the program that `CABLE_PROGRAM` names, which is then not built again. Otherwise, builds it.
fn generate(root: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    let mut program = match env::var_os("CABLE_PROGRAM") {
        Some(program) => Command::new(program),
        None => {
            let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            cargo.args(["run", "--quiet", "-p", "cable", "--bin", "cable", "--"]);
            cargo
        }
    };
    let status = program.current_dir(root).arg("reference").arg(to).status()?;
    if status.success() { Ok(()) } else { Err("`cable reference` failed".into()) }
}

/// Returns the files of a directory by name.
fn read(directory: &Path) -> std::io::Result<BTreeMap<String, String>> {
    fs::read_dir(directory)?
        .map(|entry| {
            let entry = entry?;
            Ok((entry.file_name().to_string_lossy().into_owned(), fs::read_to_string(entry.path())?))
        })
        .collect()
}
