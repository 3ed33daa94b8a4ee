//! `cable audit`: verifies the audit log of a server.

use std::path::PathBuf;

use cable::audit;
use clap::Subcommand;

use super::{Error, output::Output};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Verify that no line of an audit log was edited, removed or added, and that its lines describe every revision. Lines
    /// about gaps are printed. Compare the printed hash with an earlier one: a log that was cut short still verifies.
    Verify {
        /// Files of the log, the oldest first, such as `audit.log.0* audit.log`.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

/// Runs the command.
pub(crate) fn run(command: Command, output: &mut Output) -> Result<(), Error> {
    let Command::Verify { files } = command;
    let audit::Chain { lines, first, last, notes } = audit::verify(&files)?;
    let start = if first.bytes().all(|digit| digit == b'0') {
        "the start of the log".to_owned()
    } else {
        format!("after {first}")
    };
    output.text(&format!("{lines} lines verified, from {start} to {last}"))?;
    notes.iter().try_for_each(|note| output.text(note))
}
