//! `cable rebuild`: creates a store from the entries of another.

use std::path::PathBuf;

use cable::admin;
use clap::Args;

use super::{Error, output::Output, progress};

#[derive(Debug, Args)]
pub(crate) struct Rebuild {
    /// Directory of the store to read. A node may keep serving it.
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// Directory of the new store; it must not exist yet. The new store has the same revisions and a new log id, and
    /// does not remember request ids.
    #[arg(long, value_name = "NEWDIR")]
    to: PathBuf,
    /// Omit damaged entries, whose content is lost. If unset, no store is created from a damaged one.
    #[arg(long)]
    skip_damaged: bool,
    /// Keep the log id, so that followers resume without a snapshot. Use it only if the old store will never be opened
    /// again.
    #[arg(long, conflicts_with = "skip_damaged")]
    keep_log_id: bool,
}

/// Runs the command. The new store gets its name once it is complete.
pub(crate) fn run(args: Rebuild, output: &mut Output) -> Result<(), Error> {
    let Rebuild { from, to, skip_damaged, keep_log_id } = args;
    let options = admin::Rebuild { skip_damaged, keep_log_id };
    let rebuilt = progress::of_phases(|on_phase| {
        on_phase("rebuilding");
        admin::rebuild(&from, &to, options)
    })?;
    output.text(&format!("{}: {rebuilt}", to.display()))
}
