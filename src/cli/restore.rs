//! `cable restore`: creates a store from a backup.

use std::path::{Path, PathBuf};

use cable::admin;
use clap::Args;

use super::{Error, note, output::Output, progress};

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// Backup to restore: a file that `cable backup` wrote.
    #[arg(long, value_name = "BACKUP")]
    from: PathBuf,
    /// Directory of the new store; it must be absent or empty. An existing one keeps its owner and mode.
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
    output.text(&format!("{}: {restored}", to.display()))?;
    note(&reminder(&to, restored.had_credentials()))
}

/// Returns what the operator copies to the directory before the node starts. Without its credentials, a node that only
/// this machine can reach would serve every caller.
fn reminder(to: &Path, had_credentials: bool) -> String {
    let to = to.display();
    match had_credentials {
        true => format!(
            "the backup contains no credentials, and the node had some: before the start, copy credentials.toml from its \
             previous directory to {to}, or create new ones with `cable token new NAME --role ROLE --data {to}`; without \
             them, the node does not start"
        ),
        false => format!(
            "the backup contains no credentials: if the node had some, copy them to {to}, or set `auth.credentials`, before \
             the start"
        ),
    }
}
