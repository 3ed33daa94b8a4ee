//! `cable backup` and `cable verify`: copy and verify a store, also while a node serves it.

use std::path::PathBuf;

use cable::admin;
use clap::Args;

use super::{Error, note, output::Output, progress, serve::Data};

#[derive(Debug, Args)]
pub(crate) struct Backup {
    #[command(flatten)]
    data: Data,
    /// File of the backup. It replaces an older backup or an empty file, once it is complete and verified, but no other
    /// file. `cable restore` creates a store from it.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    data: Data,
}

/// Runs `cable backup`: copies the store, verifies the copy, and only then gives it its name.
pub(crate) fn backup(Backup { data, to }: Backup, output: &mut Output) -> Result<(), Error> {
    let dir = data.dir()?;
    let verified = progress::of_phases(|on_phase| admin::backup(&dir, &to, on_phase))
        .map_err(Error::of_selected_store)?;
    if let Err(error) = admin::mark_backup(&dir) {
        note(&format!("the metric of the last backup remains as it was: {}: {error}", dir.display()))?;
    }
    output.text(&format!("{}: {verified}", to.display()))
}

/// Runs `cable verify`.
pub(crate) fn verify(Verify { data }: Verify, output: &mut Output) -> Result<(), Error> {
    let dir = data.dir()?;
    let verified = progress::of_phases(|on_phase| {
        on_phase("verifying the store");
        admin::verify(&dir)
    })
    .map_err(Error::of_selected_store)?;
    output.text(&format!("{}: {verified}", dir.display()))
}
