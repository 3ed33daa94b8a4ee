//! `cable restore`: creates a store from a backup.

use std::path::PathBuf;

use cable::admin;
use clap::Args;

use super::{Error, output::Output, progress};

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// Backup to restore: a file that `cable backup` wrote.
    #[arg(long, value_name = "BACKUP")]
    from: PathBuf,
    /// Directory of the new store; it must be absent or empty.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Keep the log id of the original, so that followers resume without a snapshot. Use it only if the original will
    /// never be opened again and acknowledged no write after the backup.
    #[arg(long)]
    keep_log_id: bool,
}

/// Runs the command. The store gets its name once it is complete and verified.
pub(crate) fn run(Restore { from, to, keep_log_id }: Restore, output: &mut Output) -> Result<(), Error> {
    let restored = progress::of_phases(|on_phase| admin::restore(&from, &to, keep_log_id, on_phase))?;
    output.text(&format!("{}: {restored}", to.display()))
}
