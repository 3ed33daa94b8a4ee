//! `cable rebuild`: creates a store from the entries of another.

use std::{fs, path::PathBuf};

use clap::Args;

use super::{Error, output::Output, progress, replace::parent_directory};
use crate::{
    model::LogId,
    store::{
        Identity,
        rebuild::{RebuildError, RebuildReport, rebuild},
    },
};

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

impl From<RebuildError> for Error {
    fn from(error: RebuildError) -> Error {
        match error {
            RebuildError::Open(error) => Error::Open(error),
            RebuildError::Store(error) => Error::Store(error),
        }
    }
}

/// Runs the command. The new store gets its name once it is complete.
pub(crate) fn run(args: Rebuild, output: &mut Output) -> Result<(), Error> {
    let Rebuild { from, to, skip_damaged, keep_log_id } = args;
    if to.exists() {
        return Err(Error::Usage(format!("{}: already exists", to.display())));
    }
    let failed = |source| Error::io(format!("write {}", to.display()), source);
    let parent = parent_directory(&to);
    let temporary = tempfile::Builder::new().prefix(".cable-rebuild-").tempdir_in(parent).map_err(failed)?;
    let store = temporary.path().join("store");
    let bar = progress::bar();
    bar.set_message("rebuilding");
    let identity = if keep_log_id { Identity::Original } else { Identity::New(LogId::random()) };
    let rebuilt = rebuild(&from, &store, identity)?;
    bar.finish_and_clear();
    if !rebuilt.faults.is_empty() && !skip_damaged {
        return Err(Error::Incomplete(format!(
            "{}: the store is damaged:\n  {}",
            from.display(),
            faults(&rebuilt)
        )));
    }
    fs::rename(&store, &to).map_err(failed)?;
    fs::File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)?;
    output.text(&format!("{}: {}", to.display(), summary(&rebuilt)))
}

fn faults(rebuilt: &RebuildReport) -> String {
    rebuilt.faults.join("\n  ")
}

fn summary(rebuilt: &RebuildReport) -> String {
    let RebuildReport { head, entries, .. } = rebuilt;
    let contents = format!("{entries} entries, revision {} of log {}", head.revision, head.log_id);
    if rebuilt.faults.is_empty() {
        return format!("{contents}; chain, digests and counts match the old store");
    }
    format!("{contents}; differs from the old store, which is damaged:\n  {}", faults(rebuilt))
}
